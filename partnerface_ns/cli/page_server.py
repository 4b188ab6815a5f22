"""The web server behind `partnerface live`: an address that is free, and images for every open page.

What a page says of itself is not trusted: numbers out of range count as not said, so no page costs more memory than
another or ends the program.
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
    import numpy as np

_NUM_PORTS = 100
"""Ports that are tried from the one that was asked for on."""
_EVERYWHERE = ("", "0.0.0.0", "::")
"""Hosts that stand for all addresses of this machine."""


class PageServer:
    """Shows images on all open pages."""

    def __init__(self, host: str, port: int) -> None:
        """
        Args:
            host: as `free_address` checked it.
            port: likewise.
        """
        import viser

        # The connection of a page that says what cannot be read is closed; that is no error of the program.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        with contextlib.redirect_stdout(io.StringIO()):  # viser prints an address that cannot always be opened
            self._server = viser.ViserServer(host, port, verbose=False)
        self.gui = self._server.gui
        self.gui.configure_theme(control_layout="collapsible", dark_mode=True)
        self.addresses = addresses(host, self._server.get_port())

    def wait_for_page(self) -> bool:
        """Wait until a page is open; whether that took any time."""
        waited = False
        while not self.has_page():
            time.sleep(0.05)
            waited = True
        return waited

    def has_page(self) -> bool:
        return bool(self._server.get_clients())

    def show(self, image: np.ndarray) -> None:
        """Send an image (height, width, 3), uint8, to all pages, each in the shape of its window."""
        from partnerface_ns.driving.live import padded, usable_aspect

        for client in self._server.get_clients().values():
            page = padded(image, usable_aspect(client.camera.aspect))
            client.scene.set_background_image(page, format="jpeg", jpeg_quality=85)

    def stop(self) -> None:
        """Close all pages."""
        self._server.stop()


def free_address(host: str, port: int) -> tuple[str, int]:
    """The host, and the first free port from the given one on; another than that is said. Port 0 takes any free one.

    Raises:
        InputError: no such port, no address of this machine, or no free port.
    """
    if not 0 <= port <= 65535:
        raise InputError("--port", "out of range", expected="0 to 65535", found=port)
    for tried in range(port, min(port + _NUM_PORTS, 65536)):
        found = _bound_port(host, tried)
        if found is not None:
            if port not in (0, found):
                print(f"Port {port} is in use; {found} is taken.", flush=True)
            return host, found
    raise InputError("--port", f"{port} and the {_NUM_PORTS - 1} after it are in use", expected="a free port")


def addresses(host: str, port: int) -> str:
    """What to open in a browser, on this machine and, if all addresses are served, on others."""
    if host not in _EVERYWHERE:
        return _url(host, port)
    here = _url("::1" if host == "::" else "127.0.0.1", port)
    own = _own_address()
    return here if own is None else f"{here}, or {_url(own, port)} on another machine"


def _bound_port(host: str, port: int) -> int | None:
    """The port that the system gives for this one; None if it is in use."""
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
        raise InputError("--host", "no such address", expected="127.0.0.1, or 0.0.0.0", found=host) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise InputError("--port", "may not be used", expected="1024 or more", found=port) from error
        expected = "127.0.0.1, or 0.0.0.0"
        raise InputError("--host", "no address of this machine", expected=expected, found=host) from error
    return port


def _own_address() -> str | None:
    """This machine's address in its network, where it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return trial.getsockname()[0]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
