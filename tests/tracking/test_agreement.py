"""Whether a head's face lies on the face in the pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from format_writers.truth import flame_like_head
from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.diagnosis import Verdict, diagnose
from partnerface_ns.capture.load import load_capture
from partnerface_ns.cli.main import main
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.agreement import FAR, after_a_look_at_the_face, face_distance


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement") / "subject"
    make_subject(folder, frames=20, size=192)
    return folder


@pytest.fixture(scope="module")
def capture(folder) -> Capture:
    return load_capture(folder)


def of_another(capture: Capture, seed: int = 0) -> Capture:
    """The capture with the coefficients of another person, as another head model would read its own."""
    other = torch.randn(capture.identity.shape, generator=torch.Generator().manual_seed(seed))
    return replace(capture, identity=1.5 * other)


def test_a_right_head_is_let_alone_and_its_face_is_measured(capture):
    verdict = after_a_look_at_the_face(Verdict(True, None), capture, load_open_head())
    assert verdict.fits is True and verdict.cause is None and 0 < verdict.face < FAR / 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_another_head_is_found_under_hair(capture, seed):
    other, model = of_another(capture, seed), load_open_head()
    verdict = after_a_look_at_the_face(Verdict(True, None), other, model)
    assert verdict.fits is False and "another head" in verdict.cause and verdict.face > FAR


def test_silhouettes_alone_do_not_find_it(capture):
    """Or the look at the face would not be needed."""
    assert any(diagnose(of_another(capture, seed), load_open_head()).fits for seed in (0, 1, 2))


def test_without_masks_a_face_in_its_place_is_enough(capture):
    unknown = Verdict(None, None, "no masks")
    assert after_a_look_at_the_face(unknown, capture, load_open_head()).fits is True
    refused = after_a_look_at_the_face(unknown, of_another(capture), load_open_head())
    assert refused.fits is False and "no masks to tell which" in refused.cause


def test_what_the_masks_refuse_stays_refused(capture):
    refused = Verdict(False, None, "the order of the frames")
    assert after_a_look_at_the_face(refused, capture, load_open_head()) == refused


def test_where_no_face_is_recognised_the_masks_decide(capture, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert face_distance(capture, flame_like_head(1), capture.frames[:3]) is None, "the head model is no face"
    Image.new("RGB", (192, 192), (90, 120, 90)).save(tmp_path / "blank.png")
    frames = [replace(frame, image_path=tmp_path / "blank.png") for frame in capture.frames]
    verdict, blank = Verdict(True, None), replace(capture, frames=tuple(frames))
    assert after_a_look_at_the_face(verdict, blank, load_open_head()) == verdict
    pictureless = replace(capture, frames=tuple(replace(frame, image_path=None) for frame in capture.frames))
    assert after_a_look_at_the_face(verdict, pictureless, load_open_head()) == verdict


def test_inspect_says_how_far_the_face_is(folder, tmp_path, capsys):
    main(["inspect", str(folder), "--output", str(tmp_path / "inspect.png")])
    assert "face        brows, eyes and lips are " in capsys.readouterr().out
