"""The web server of `partnerface live`: it finds a free address and shows images on every open page.

Values that a page reports are not trusted. Values out of range are ignored, so a page can neither stop the program nor
use more memory than others.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import socket
import time
from typing import TYPE_CHECKING

from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import viser
    from jaxtyping import UInt8

_NUM_PORTS = 100
"""Ports that are tried, starting with the requested one."""
_ALL_ADDRESSES = ("", "0.0.0.0", "::")
"""Hosts that mean all addresses of this machine."""


class PageServer:
    """Shows images on all open pages."""

    def __init__(self, host: str, port: int) -> None:
        """
        Args:
            host: an address that `free_address` has checked.
            port: a port that `free_address` has checked.
        """
        import viser

        # A page with unreadable messages is disconnected; that is not an error of the program.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        with contextlib.redirect_stdout(io.StringIO()):  # viser prints an address that does not always work
            self._server = viser.ViserServer(host, port, verbose=False)
        self.gui = self._server.gui
        self.gui.configure_theme(control_layout="collapsible", dark_mode=True)
        self.addresses = addresses(host, self._server.get_port())

    def one_line_panel(self) -> Callable[[str], None]:
        """Reduce the panel of the pages to one line, and return the function that sets it."""
        self.gui.configure_theme(control_layout="floating", control_width="large", dark_mode=True)
        self.gui.add_markdown("", visible=False)  # a page without any control shows viser's connection settings
        return self.gui.set_panel_label

    def on_camera(self, moved: Callable[[int, viser.CameraHandle], None]) -> None:
        """Call a function with a page's number and camera when the page is opened, and when its camera moves."""

        def opened(page: viser.ClientHandle) -> None:
            moved(page.client_id, page.camera)
            page.camera.on_update(lambda camera: moved(page.client_id, camera))

        self._server.on_client_connect(opened)

    def wait_for_page(self) -> bool:
        """Wait until a page is open; returns whether it had to wait."""
        waited = False
        while not self.has_page():
            time.sleep(0.05)
            waited = True
        return waited

    def has_page(self) -> bool:
        return bool(self._server.get_clients())

    def show(self, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """Send an image to all pages, padded to the shape of each window."""
        from partnerface_ns.driving.live import pad, usable_aspect

        for client in self._server.get_clients().values():
            page = pad(image, usable_aspect(client.camera.aspect))
            client.scene.set_background_image(page, format="jpeg", jpeg_quality=85)

    def stop(self) -> None:
        """Close all pages."""
        self._server.stop()


def free_address(host: str, port: int) -> tuple[str, int]:
    """The host and the first free port, starting with the given one. Port 0 takes any free port.

    A message is printed if the given port is in use.

    Raises:
        InputError: the port is invalid, the host is no address of this machine, or no port is free.
    """
    if not 0 <= port <= 65535:
        raise InputError("--port", "out of range", expected="0 to 65535", actual=port)
    for tried in range(port, min(port + _NUM_PORTS, 65536)):
        bound = _try_port(host, tried)
        if bound is not None:
            if port not in (0, bound):
                print(f"Port {port} is in use; using {bound}.", flush=True)
            return host, bound
    last = min(port + _NUM_PORTS, 65536) - 1
    raise InputError("--port", "no port is free", expected="a free port", actual=f"{port} to {last} are in use")


def addresses(host: str, port: int) -> str:
    """The URL to open on this machine and, if all addresses are served, on other machines."""
    if host not in _ALL_ADDRESSES:
        return _url(host, port)
    here = _url("::1" if host == "::" else "127.0.0.1", port)
    own = _own_address()
    return here if own is None else f"{here}, or {_url(own, port)} on another machine"


def _try_port(host: str, port: int) -> int | None:
    """The port that the system assigns; None if the requested one is in use.

    Raises:
        InputError: the host or the port cannot be used.
    """
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself does
                if family == socket.AF_INET6:
                    trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                trial.bind((address[0], port, *address[2:]))
                port = trial.getsockname()[1]
    except (socket.gaierror, UnicodeError) as error:
        raise InputError("--host", "no such address", expected="127.0.0.1 or 0.0.0.0", actual=host) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise InputError("--port", "not permitted", expected="1024 or more", actual=port) from error
        expected = "127.0.0.1 or 0.0.0.0"
        raise InputError("--host", "not an address of this machine", expected=expected, actual=host) from error
    return port


def _own_address() -> str | None:
    """This machine's address in its network, if it has one; no data is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return trial.getsockname()[0]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
