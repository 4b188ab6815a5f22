"""Whether a head's face lies on the face in the images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from format_writers.truth import flame_like_head
from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES
from partnerface_ns.capture.diagnosis import diagnose
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.overlap import Overlap
from partnerface_ns.capture.verdict import OTHER_HEAD, Verdict
from partnerface_ns.cli.main import main
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking.report.agreement import FAR, refine_verdict
from partnerface_ns.tracking.report.detected_faces import usable_embedding


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


def test_a_fitting_head_is_confirmed_and_its_face_is_measured(capture):
    verdict = refine_verdict(Verdict(True, None), capture, load_open_head())
    assert verdict.fits is True and verdict.cause is None and 0 < verdict.face < FAR / 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_another_head_is_detected_under_hair(capture, seed):
    other, model = of_another(capture, seed), load_open_head()
    verdict = refine_verdict(Verdict(True, None), other, model)
    assert verdict.fits is False and "another head" in verdict.cause and verdict.face > FAR


def test_silhouettes_alone_do_not_detect_another_head(capture):
    """This is why the faces are checked too."""
    assert any(diagnose(of_another(capture, seed), load_open_head()).fits for seed in (0, 1, 2))


def test_without_masks_a_fitting_face_is_enough(capture):
    unknown = Verdict(None, None, "no masks")
    assert refine_verdict(unknown, capture, load_open_head()).fits is True
    refused = refine_verdict(unknown, of_another(capture), load_open_head())
    assert refused.fits is False and "no masks to tell which" in refused.cause


def test_a_fitting_face_confirms_a_head_that_silhouettes_reject(capture):
    """Hair makes masks larger than heads, which is no fault."""
    blamed = Verdict(False, Overlap(0.5, 0.02), OTHER_HEAD)
    verdict = refine_verdict(blamed, capture, load_open_head())
    assert verdict.fits is True and verdict.cause is None and verdict.face < FAR / 2


def test_a_fitting_face_does_not_hide_a_fault_of_the_masks(capture):
    black = Verdict(False, None, "all are black", about="masks")
    verdict = refine_verdict(black, capture, load_open_head())
    assert verdict.fits is False and verdict.cause == "all are black" and verdict.face < FAR
    for missing in (Verdict(True, Overlap(0.7, 0.3)), Verdict(False, Overlap(0.9, 0.01), "order", about="order")):
        verdict = refine_verdict(missing, capture, load_open_head())
        assert verdict.fits is False and verdict.about == "masks" and "masks of other images" in verdict.cause


@pytest.mark.parametrize("subset", [slice(0, 10), slice(7, 20), slice(None, None, 3)], ids=str)
def test_the_verdict_does_not_depend_on_the_selected_frames(capture, subset):
    some = replace(capture, frames=capture.frames[subset])
    model = load_open_head()
    assert refine_verdict(diagnose(some, model), some, model).fits is True


def with_images_of(capture: Capture, order: Iterable[int]) -> Capture:
    """Each pose with the image of another frame."""
    others = [capture.frames[i] for i in order]
    frames = [
        replace(frame, image_path=other.image_path, mask_path=other.mask_path)
        for frame, other in zip(capture.frames, others, strict=True)
    ]
    return replace(capture, frames=tuple(frames))


@pytest.mark.parametrize(("shift", "words"), [(2, "2 frames later"), (-1, "1 frames earlier")])
def test_a_small_shift_of_the_images_is_measured(capture, shift, words):
    order = (np.arange(len(capture.frames)) - shift).clip(0, len(capture.frames) - 1)
    moved = with_images_of(capture, order)
    assert words in refine_verdict(Verdict(True, None), moved, load_open_head()).cause


def test_shuffled_frames_are_detected(capture):
    shuffled = with_images_of(capture, np.random.default_rng(0).permutation(len(capture.frames)))
    assert "order of the frames" in refine_verdict(Verdict(True, None), shuffled, load_open_head()).cause


def test_mirrored_images_are_named(capture, tmp_path):
    frames = []
    for frame in capture.frames:
        with Image.open(frame.image_path) as image:
            ImageOps.mirror(image).save(tmp_path / frame.image_path.name)
        frames.append(replace(frame, image_path=tmp_path / frame.image_path.name, mask_path=None))
    verdict = refine_verdict(Verdict(True, None), replace(capture, frames=tuple(frames)), load_open_head())
    assert verdict.fits is False and "mirrored images" in verdict.cause


@pytest.mark.parametrize("name", ["camera-axes", "scale-down"])
def test_a_wrong_convention_and_its_fix_are_named_without_masks(capture, name):
    undo = {"camera-axes": "camera-axes", "scale-down": "scale-up"}[name]
    wrong = CONVENTION_FIXES[name].apply(capture)
    assert refine_verdict(Verdict(None, None), wrong, load_open_head()).fix == undo


def test_another_focal_length_is_called_a_crop(capture):
    cameras = [replace(f.camera, fl_x=1.15 * f.camera.fl_x, fl_y=1.15 * f.camera.fl_y) for f in capture.frames]
    frames = tuple(replace(f, camera=c) for f, c in zip(capture.frames, cameras, strict=True))
    verdict = refine_verdict(Verdict(None, None), replace(capture, frames=frames), load_open_head())
    assert verdict.fits is False and "focal length" in verdict.cause
    assert 0.83 < float(re.search(r"([0-9.]+) times as large", verdict.cause)[1]) < 0.91, "1 / 1.15 is 0.87"


def test_single_bad_frames_are_listed_and_good_ones_removed(capture):
    translation = capture.track.translation.clone()
    translation[7] += torch.tensor([0.15, 0.1, 0.0])
    torn = replace(capture, track=replace(capture.track, translation=translation))
    model = load_open_head()
    verdict = diagnose(torn, model)
    assert [frame.timestep for frame in verdict.bad] == [7]
    wrongly = replace(verdict, bad=(capture.frames[3], *verdict.bad))
    refined = refine_verdict(wrongly, torn, model)
    assert refined.fits is True and [frame.timestep for frame in refined.bad] == [7]


def test_without_a_detected_face_the_masks_decide(capture, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert usable_embedding(flame_like_head(1)) is None, "the head model is no face"
    Image.new("RGB", (192, 192), (90, 120, 90)).save(tmp_path / "blank.png")
    frames = [replace(frame, image_path=tmp_path / "blank.png") for frame in capture.frames]
    verdict, blank = Verdict(True, None), replace(capture, frames=tuple(frames))
    assert refine_verdict(verdict, blank, load_open_head()) == verdict
    imageless = replace(capture, frames=tuple(replace(frame, image_path=None) for frame in capture.frames))
    assert refine_verdict(verdict, imageless, load_open_head()) == verdict


def test_inspect_prints_the_distance_of_the_face(folder, tmp_path, capsys):
    main(["inspect", str(folder), "--output", str(tmp_path / "inspect.png")])
    assert "face        brows, eyes and lips are " in capsys.readouterr().out
