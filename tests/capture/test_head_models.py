"""The head model of a capture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from partnerface_ns.capture.capture import Capture, HeadModelRef
from partnerface_ns.capture.head_models import check_head_model, resolve_head_model, version_warning
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.open_head import OPEN_HEAD_NAME, load_open_head
from partnerface_ns.flame.state import HeadState


def capture_of(head, reference: HeadModelRef, num_expr: int | None = None) -> Capture:
    track = HeadState.neutral(num_expr or head.num_expr, (2,))
    return Capture(Path("person"), "person", reference, torch.zeros(head.num_identity), None, track, (), {})


def test_the_given_head_model_wins_over_the_one_in_the_folder(tiny_head, head_file, tmp_path):
    capture = capture_of(tiny_head, HeadModelRef(path=tmp_path / "missing.npz"))
    assert resolve_head_model(capture, head_file).fingerprint == tiny_head.fingerprint
    with pytest.raises(InputError, match=r"missing\.npz"):
        resolve_head_model(capture)


def test_the_file_in_the_folder_is_used(tiny_head, head_file):
    assert resolve_head_model(capture_of(tiny_head, HeadModelRef(path=head_file))).name == "tiny"


def test_the_open_head_is_used_if_the_capture_names_it():
    head = load_open_head()
    for reference in (HeadModelRef(OPEN_HEAD_NAME, head.fingerprint), HeadModelRef("renamed", head.fingerprint)):
        assert resolve_head_model(capture_of(head, reference)) is head
    assert resolve_head_model(capture_of(head, HeadModelRef()), Path(OPEN_HEAD_NAME)) is head


def test_an_unknown_head_model_is_one_error_that_says_what_to_do(tiny_head):
    for reference in (HeadModelRef(), HeadModelRef("flame2023", "abc")):
        with pytest.raises(InputError, match="--head-model FILE") as error:
            resolve_head_model(capture_of(tiny_head, reference))
        assert (reference.name or "nothing in the folder") in str(error.value)


def test_another_head_model_is_refused_with_both_names(tiny_head, head_file):
    with pytest.raises(InputError) as error:
        resolve_head_model(capture_of(tiny_head, HeadModelRef("stranger", "0123")), head_file)
    assert "stranger (0123)" in str(error.value) and f"tiny ({tiny_head.fingerprint})" in str(error.value)


def test_an_older_open_head_is_refused(tiny_head):
    with pytest.raises(InputError, match="another head model"):
        resolve_head_model(capture_of(load_open_head(), HeadModelRef(OPEN_HEAD_NAME, "0123")))


def test_counts_must_match(tiny_head, head_file):
    reference = HeadModelRef(path=head_file)
    good = capture_of(tiny_head, reference)
    with pytest.raises(InputError, match="expression coefficients"):
        resolve_head_model(capture_of(tiny_head, reference, num_expr=100))
    with pytest.raises(InputError, match="identity coefficients"):
        resolve_head_model(replace(good, identity=torch.zeros(300)))
    with pytest.raises(InputError, match="vertices"):
        resolve_head_model(replace(good, static_offset=torch.zeros(5, 3)))
    resolve_head_model(replace(good, static_offset=torch.zeros(tiny_head.num_verts, 3)))


def test_another_version_of_flame_is_refused_if_recognised(tiny_head):
    flame = replace(tiny_head, name="FLAME 2023 Open")
    capture = capture_of(tiny_head, HeadModelRef("FLAME 2020"))
    with pytest.raises(InputError, match="another version of FLAME") as error:
        check_head_model(capture, flame)
    assert "FLAME 2020" in str(error.value) and "FLAME 2023 Open" in str(error.value)
    check_head_model(capture, replace(tiny_head, name="FLAME 2020"))
    check_head_model(capture, tiny_head)


def test_an_unknown_version_of_flame_gives_a_warning(tiny_head, head_file):
    doubt = lambda reference, name: version_warning(capture_of(tiny_head, reference), replace(tiny_head, name=name))  # noqa: E731
    assert doubt(HeadModelRef("FLAME 2020"), "FLAME 2020") is None
    assert doubt(HeadModelRef(path=head_file), "tiny") is None
    assert doubt(HeadModelRef("x", tiny_head.fingerprint), "tiny") is None
    assert "FLAME 2020" in doubt(HeadModelRef("FLAME 2020"), "my_flame")
    assert "cannot be told" in doubt(HeadModelRef(), "FLAME 2023")


def test_frames_left_out_are_counted_by_reason(tiny_head):
    skipped = {"1.png": "no face was found", "2.png": "no face was found"}
    capture = replace(capture_of(tiny_head, HeadModelRef()), skipped=skipped, notes=("a note",))
    assert capture.remarks == ("a note", "2 frames left out: no face was found")
