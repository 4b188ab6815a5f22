"""The server of `partnerface live`: addresses, and pages that say what cannot be."""

from __future__ import annotations

import math
import socket
import time

import msgspec
import numpy as np
import pytest
from websockets.sync.client import connect

from partnerface_ns.cli.page_server import PageServer, addresses, free_address
from partnerface_ns.common.errors import InputError

HERE = "127.0.0.1"


@pytest.fixture
def taken():
    """A port that somebody listens at."""
    with socket.socket() as listening:
        listening.bind((HERE, 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_in_use_is_reported_and_the_next_one_taken(taken, capsys):
    assert free_address(HERE, taken)[1] > taken
    assert f"Port {taken} is in use" in capsys.readouterr().out
    host, port = free_address(HERE, 0)
    assert host == HERE and port > 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("host", "port", "option"),
    [
        (HERE, 65536, "--port"),
        (HERE, -1, "--port"),
        ("192.0.2.1", 7007, "--host"),
        ("no.such.host.invalid", 7007, "--host"),
        ("not a host", 7007, "--host"),
        ("x" * 300, 7007, "--host"),
        ("1.2.3.4.5", 7007, "--host"),
    ],
)
def test_an_address_that_cannot_be_is_refused(host, port, option):
    with pytest.raises(InputError) as error:
        free_address(host, port)
    assert error.value.source == option


def test_printed_addresses_can_be_opened():
    assert addresses(HERE, 7007) == "http://127.0.0.1:7007"
    assert addresses("::1", 7007) == "http://[::1]:7007"
    for host in ("0.0.0.0", ""):
        assert addresses(host, 7007).startswith("http://127.0.0.1:7007") and "0.0.0.0" not in addresses(host, 7007)


def camera_message(aspect: object) -> bytes:
    message = {"type": "ViewerCameraMessage", "wxyz": [1, 0, 0, 0], "position": [0, 0, 1], "fov": 1.0, "aspect": aspect}
    return msgspec.msgpack.encode(message | {"look_at": [0, 0, 0], "up_direction": [0, 1, 0]})


def images_for(page, server: PageServer) -> int:
    """Images that a page gets within a second of shows."""
    found, end = 0, time.monotonic() + 20
    while not found and time.monotonic() < end:
        server.show(np.zeros((8, 8, 3), np.uint8))
        try:
            found += page.recv(timeout=0.2).count(b"BackgroundImageMessage")
        except TimeoutError:
            continue
    return found


def test_pages_that_report_nonsense_or_close_do_not_disturb_others(capsys):
    host, port = free_address(HERE, 0)
    server = PageServer(host, port)
    try:
        assert "0.0.0.0" not in capsys.readouterr().out and server.addresses == f"http://{host}:{port}"
        with connect(f"ws://{host}:{port}", max_size=None) as good:
            good.send(camera_message(1.5))
            for aspect in (0.0, math.nan, math.inf, -1.0, 1e9, 1e-4, "wide", None):
                with connect(f"ws://{host}:{port}", max_size=None) as bad:
                    bad.send(camera_message(aspect))
                    if isinstance(aspect, float):
                        assert images_for(bad, server), aspect
                assert images_for(good, server), aspect
        time.sleep(0.2)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err and not server.has_page(), "all pages are closed"
    finally:
        server.stop()
