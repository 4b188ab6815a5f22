"""The network files and what runs them."""

from __future__ import annotations

import hashlib
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from partnerface_ns.common.errors import InputError
from partnerface_ns.tracking.video.networks.face_mesh import FACE_MODEL, REGIONS_MODEL
from partnerface_ns.tracking.video.networks.runtime import ASSETS, Network

MODELS = sorted(ASSETS.glob("*.tflite"))


def test_the_notice_names_every_network_its_card_and_its_source():
    notice = (ASSETS / "NOTICE").read_text(encoding="utf8")
    assert "mediapipe 0.10.9" in notice and "Apache" in notice
    for path in MODELS:
        _, separator, rest = notice.partition(f"{path.name}\n")
        entry = rest.partition("\n\n")[0]
        assert separator and "Model card: https://" in entry, path.name
        if "Unchanged" in entry:
            assert hashlib.sha256(path.read_bytes()).hexdigest() in entry, path.name


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_every_network_runs_and_repeats_itself(path):
    network = Network(path)
    shapes = [tuple(t["shape"][1:]) for t in network._interpreter.get_input_details()]
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(0, 1, shape).astype(np.float32) for shape in shapes]
    first = network(*inputs)
    network(*(1 - values for values in inputs))
    for a, b in zip(first, network(*inputs), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_the_order_of_tensors_of_the_face_mesh():
    face, regions = Network(FACE_MODEL), Network(REGIONS_MODEL)
    assert [o.shape for o in face(np.zeros((192, 192, 3)))] == [(48, 48, 32), (1, 1, 1404), (1, 1, 1)]
    out = regions(*np.zeros((3, 16, 16, 32)))
    assert [o.size for o in out] == [160, 142, 142, 10, 10]


def test_without_the_runtime_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"partnerface\[track\]"):
        Network(FACE_MODEL)


def test_only_information_is_left_out_while_a_network_is_loaded(monkeypatch, capfd):
    class Interpreter:
        def __init__(self, *_, **__):
            os.write(2, b"\r 50% doneINFO: delegate\nWARNING: slow\n")

        def allocate_tensors(self):
            raise RuntimeError("damaged")

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", SimpleNamespace(Interpreter=Interpreter))
    with pytest.raises(RuntimeError, match="damaged"):
        Network(FACE_MODEL)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "\r 50% doneWARNING: slow\nafter\n"


def test_a_real_network_is_loaded_in_silence(capfd):
    Network(FACE_MODEL)
    assert capfd.readouterr().err == ""
