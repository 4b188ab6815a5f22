"""The UDP stream of Live Link Face, from a sender of its own."""

from __future__ import annotations

import math
import socket
import struct
from threading import Thread

import numpy as np
import pytest

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.livelink import VALUES, LiveLinkReceiver, PacketError, channel_curves, parse_packet
from partnerface_ns.driving.rig import Rig, arkit_names
from partnerface_ns.flame.open_head import load_open_head

DEVICE = "8C3B1F60-0000-4000-8000-000000000001"


def packet(
    values: dict[str, float] | None = None,
    version: int = 6,
    device: bytes = DEVICE.encode(),
    subject: bytes = "Björns iPhone".encode(),
    frame: tuple[int, float, int, int] = (120, 0.25, 60, 1),
    count: int = 61,
    end: bytes = b"",
) -> bytes:
    """A packet as the app sends it; `values` are those that are not zero."""
    numbers = [(values or {}).get(name, 0.0) for name in VALUES]
    header = struct.pack(">B", version)
    for text in (device, subject):
        header += struct.pack(">i", len(text)) + text
    return header + struct.pack(">ifiiB61f", *frame, count, *numbers) + end


def header(subject: bytes = b"phone") -> bytes:
    return b"\x06" + struct.pack(">i", 36) + DEVICE.encode() + struct.pack(">i", len(subject)) + subject


def test_the_values_are_those_of_the_app():
    assert len(VALUES) == len(set(VALUES)) == 61
    assert {name.lower() for name in VALUES[:52]} == {name.lower() for name in arkit_names()}
    assert len(packet(subject=b"phone")) == 1 + 4 + 36 + 4 + 5 + 16 + 1 + 61 * 4


def test_a_packet_is_read():
    sent = {"JawOpen": 0.5, "MouthSmileLeft": 0.75, "HeadYaw": -0.25, "RightEyeRoll": 0.125}
    received = parse_packet(packet(sent))
    assert received.subject == "Björns iPhone" and received.frame_number == 120 and received.fps == 60
    assert received.channels is not None
    moved = {name: value for name, value in received.channels.items() if value}
    assert moved == {"jawOpen": 0.5, "mouthSmileLeft": 0.75, "yaw": -0.25}, "eye angles repeat the blendshapes"


def test_a_packet_drives_a_head_like_a_recording():
    rig = Rig(load_open_head())
    state = rig.states(channel_curves(parse_packet(packet({"JawOpen": 1.0, "HeadYaw": 0.3}))), "port")
    expected = rig.states({"jawOpen": np.ones(1), "yaw": np.array([0.3])}, "keyframes")
    assert np.allclose(state.jaw, expected.jaw) and np.allclose(state.rotation, expected.rotation)
    assert state.jaw[0, 0] > 0.2 and state.rotation[0, 1] > 0.1


@pytest.mark.parametrize("data", [header(), header() + struct.pack(">ifiiB", 7, 0.0, 60, 1, 0)])
def test_a_packet_without_a_face_is_valid(data):
    assert parse_packet(data).channels is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "version missing"),
        (packet(version=5), "version 5"),
        (packet(count=60), "60 values"),
        (packet(count=71), "71 values"),
        (packet(end=b"\0"), "245 bytes"),
        (packet()[:-1], "243 bytes"),
        (packet()[:-4], "240 bytes"),
        (header() + b"\0" * 3, "breaks off in its frame time"),
        (header()[:43], "before its subject"),
        (header()[:-1], "subject's length"),
        (b"\x06" + struct.pack(">i", -1) + b"x" * 60, "device's length is -1"),
        (b"\x06" + struct.pack(">i", 2**31 - 1) + b"x" * 60, "device's length"),
        (b"\x06\0\0", "before its device"),
        (packet(subject=b"\xff\xfe"), "not text"),
        (packet({"JawOpen": math.nan}), "JawOpen is nan"),
        (packet({"TongueOut": math.inf}), "TongueOut is inf"),
        (packet({"MouthClose": -40.0}), "MouthClose is -40"),
        (packet({"HeadPitch": 90.0}), "HeadPitch is 90"),
        (packet(frame=(1, math.nan, 60, 1)), "frame part nan"),
        (packet(frame=(1, 0.0, 60, 0)), "60/0"),
        (b"GET / HTTP/1.1\r\n\r\n", "version 71"),
    ],
)
def test_a_bad_packet_is_refused_with_a_reason(data, reason):
    with pytest.raises(PacketError, match=reason.replace("(", r"\(")):
        parse_packet(data)


def test_every_cut_and_every_flipped_length_is_refused():
    whole = packet()
    for length in range(len(whole)):
        if length != len(header("Björns iPhone".encode())):  # a packet without a face
            with pytest.raises(PacketError):
                parse_packet(whole[:length])


def test_random_bytes_are_refused():
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = b"\x06" + rng.bytes(int(rng.integers(0, 400)))
        with pytest.raises(PacketError):
            parse_packet(data)


def test_a_stream_is_received_and_bad_packets_are_counted():
    receiver = LiveLinkReceiver(0, host="127.0.0.1")
    received = []

    def receive() -> None:
        for arrived in receiver:
            received.append(arrived)
            if len(received) == 5:
                receiver.close()

    thread = Thread(target=receive)
    thread.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i in range(5):
            sender.sendto(b"noise" * i, ("127.0.0.1", receiver.port))
            sender.sendto(packet({"JawOpen": i / 10}), ("127.0.0.1", receiver.port))
    thread.join(10)
    assert not thread.is_alive()
    assert [arrived.index for arrived in received] == list(range(5))
    assert [arrived.packet.channels["jawOpen"] for arrived in received] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert receiver.num_bad == 5 and "version" in str(receiver.last_problem)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(port):
    with pytest.raises(InputError, match="--livelink: out of range"):
        LiveLinkReceiver(port)


def test_packets_that_wait_are_dropped():
    receiver = LiveLinkReceiver(0, host="127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in (1, 2):
            sender.sendto(packet(frame=(number, 0.0, 60, 1)), ("127.0.0.1", receiver.port))
        receiver.drop_waiting()
        sender.sendto(packet(frame=(3, 0.0, 60, 1)), ("127.0.0.1", receiver.port))
    arrived = next(iter(receiver))
    receiver.close()
    assert (arrived.index, arrived.packet.frame_number) == (0, 3)


def test_a_port_in_use_is_refused():
    receiver = LiveLinkReceiver(0)
    with pytest.raises(InputError, match=f"(?s)--livelink: the port cannot be used.*{receiver.port}: Address already"):
        LiveLinkReceiver(receiver.port)
    receiver.close()
    assert list(receiver) == []
