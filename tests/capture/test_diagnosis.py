"""Wrong conventions are detected and named, correct captures fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from format_writers.layouts import LAYOUTS
from format_writers.truth import flame_like_arrays, flame_like_head, make_truth
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES, apply_fix
from partnerface_ns.capture.diagnosis import diagnose
from partnerface_ns.capture.image_crop import move_silhouette
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.overlap import Overlap, measure_overlap, posed_verts, silhouette, small_mask
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.state import HeadState

NUM_FRAMES = 20
MASKED = [layout for layout in LAYOUTS if layout != "metrical-tracker"]
"""Without masks only a head outside of the image is detected."""


@pytest.fixture(scope="module")
def truth():
    return make_truth(NUM_FRAMES)


@pytest.fixture(scope="module")
def captures(truth, tmp_path_factory):
    """Each layout's capture of the same person."""
    folder = tmp_path_factory.mktemp("captures")
    np.savez(folder / "flame.npz", **flame_like_arrays())
    return {
        name: load_capture(write(folder / name, truth), head_model=folder / "flame.npz")
        for name, write in LAYOUTS.items()
    }


@pytest.fixture
def capture(captures):
    return captures["vhap"]


def with_images_of(capture, order):
    """Each pose with the image of another frame."""
    frames = [
        replace(frame, image_path=other.image_path, mask_path=other.mask_path)
        for frame, other in zip(capture.frames, (capture.frames[i] for i in order), strict=True)
    ]
    return replace(capture, frames=tuple(frames))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_correct_capture_fits(captures, truth, layout):
    verdict = diagnose(captures[layout], truth.head)
    if layout == "metrical-tracker":
        assert verdict.fits is None and "no masks" in verdict.cause
    else:
        assert verdict.fits is True and verdict.cause is None and verdict.fix is None
        assert verdict.overlap.union > 0.75 and verdict.overlap.outside < 0.02


WRONG = {
    "camera-axes": ("camera-axes", "OpenCV"),
    "camera-inverse": ("camera-inverse", "world-to-camera"),
    "scale-down": ("scale-up", "4 times too small"),
    "scale-up": ("scale-down", "4 times too large"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("layout", MASKED)
def test_a_wrong_convention_is_named_with_its_fix(captures, truth, layout, wrong):
    mistaken = CONVENTION_FIXES[wrong].apply(captures[layout])
    verdict = diagnose(mistaken, truth.head)
    fix, words = WRONG[wrong]
    assert verdict.fits is False and verdict.fix == fix and words in verdict.cause
    assert diagnose(apply_fix(mistaken, fix), truth.head).fits is True


@pytest.mark.parametrize("wrong", ["camera-axes", "scale-down"])
def test_without_masks_a_head_out_of_the_image_is_explained(captures, truth, wrong):
    verdict = diagnose(CONVENTION_FIXES[wrong].apply(captures["metrical-tracker"]), truth.head)
    assert verdict.fits is False and verdict.fix == WRONG[wrong][0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("layout", MASKED)
def test_shuffled_frames_are_found(captures, truth, layout, seed):
    order = np.random.default_rng(seed).permutation(NUM_FRAMES)
    verdict = diagnose(with_images_of(captures[layout], order), truth.head)
    assert verdict.fits is False and "order of the frames" in verdict.cause


def test_frames_sorted_by_name_are_found(capture, truth):
    order = sorted(range(NUM_FRAMES), key=str)
    assert "order of the frames" in diagnose(with_images_of(capture, order), truth.head).cause


@pytest.mark.parametrize(("shift", "words"), [(4, "4 frames later"), (-4, "4 frames earlier")])
def test_a_shift_of_the_images_is_measured(capture, truth, shift, words):
    order = (np.arange(NUM_FRAMES) - shift) % NUM_FRAMES
    assert words in diagnose(with_images_of(capture, order), truth.head).cause


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("layout", MASKED)
def test_another_head_does_not_fit(captures, layout, seed):
    """Silhouettes cannot distinguish it from long hair; the face can."""
    verdict = diagnose(captures[layout], flame_like_head(seed))
    assert verdict.fits is not True and "another head" in verdict.cause and verdict.fix is None


def test_a_crop_is_found(capture, truth):
    def cropped(**values):
        cameras = [replace(f.camera, **{k: v(f.camera) for k, v in values.items()}) for f in capture.frames]
        frames = [replace(f, camera=c) for f, c in zip(capture.frames, cameras, strict=True)]
        return diagnose(replace(capture, frames=tuple(frames)), truth.head)

    moved = cropped(cx=lambda camera: camera.cx + 16)
    assert "a crop" in moved.cause and "moved by (-16, " in moved.cause
    larger = cropped(fl_x=lambda camera: 1.5 * camera.fl_x, fl_y=lambda camera: 1.5 * camera.fl_y)
    assert "a crop" in larger.cause and "0.667 times" in larger.cause


def repainted(capture, folder, paint):
    """The capture with changed masks."""
    frames = []
    for frame in capture.frames:
        with Image.open(frame.mask_path) as mask:
            Image.fromarray(paint(np.array(mask))).save(folder / frame.mask_path.name)
        frames.append(replace(frame, mask_path=folder / frame.mask_path.name))
    return replace(capture, frames=tuple(frames))


@pytest.mark.parametrize(
    ("paint", "words"),
    [
        (lambda mask: 255 - mask, "inverted masks"),
        (lambda mask: (mask > 0).astype(np.uint8), "show no one"),
        (np.zeros_like, "show no one"),
    ],
    ids=["inverted", "0 and 1", "black"],
)
def test_wrong_masks_are_not_taken_for_wrong_poses(capture, truth, tmp_path, paint, words):
    verdict = diagnose(repainted(capture, tmp_path, paint), truth.head)
    assert verdict.fits is False and verdict.fix is None and words in verdict.cause


def test_images_of_several_sizes_are_judged_by_the_most_common_size(capture, truth):
    """The last is a strip that could not be compared with the others."""
    *most, last = capture.frames
    strip = replace(last, camera=replace(last.camera, height=16))
    assert diagnose(replace(capture, frames=(*most, strip)), truth.head).fits is True


def test_a_head_outside_of_all_images_is_reported(capture, truth):
    away = replace(capture.track, translation=capture.track.translation + torch.tensor([5.0, 0, 0]))
    verdict = diagnose(replace(capture, track=away), truth.head)
    assert verdict.fits is False and "not in the images" in verdict.cause


def test_a_motion_without_images_is_not_judged(capture, truth):
    frames = tuple(replace(frame, image_path=None) for frame in capture.frames)
    assert diagnose(replace(capture, frames=frames), truth.head).fits is None


def test_a_head_that_hardly_moves_is_not_called_shuffled(capture, truth):
    """Images of one timestep have no order to check."""
    states = [capture.track[0]] * NUM_FRAMES
    frames = [replace(capture.frames[0], timestep=t) for t in range(NUM_FRAMES)]
    still = replace(capture, frames=tuple(frames), track=HeadState.stack(states))
    assert diagnose(still, truth.head).fits is True


def test_overlap_counts_down_to_the_chin():
    head, mask = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    head[2:6, 3:7] = True
    mask[1:10, 3:7] = True
    assert measure_overlap(head, mask) == Overlap(union=16 / 20, outside=0.0, above=0.0, hair=1 / 4, beside=0.0)
    mask[:4] = False
    assert measure_overlap(head, mask) == Overlap(union=0.5, outside=0.5, above=2 / 4, hair=0.0, beside=0.0)
    mask[:, 1:9] = True
    assert measure_overlap(head, mask) == Overlap(union=16 / 48, outside=0.0, above=0.0, hair=2 / 4, beside=0.5)
    assert measure_overlap(np.zeros_like(head), mask) == Overlap(0.0, 1.0)
    assert measure_overlap(head, np.zeros_like(mask)).outside == 1


def test_a_head_around_or_behind_the_camera_has_no_silhouette(capture, truth):
    frame = capture.frames[0]
    verts, faces = truth.head.template.numpy(), truth.head.faces.numpy()
    for z in (0.0, -1.0):
        T = np.eye(4)
        T[2, 3] = z
        assert not silhouette(verts, faces, replace(frame.camera, T_world_camera=T)).any()
    assert silhouette(verts, faces, frame.camera).any()


def test_shoulders_follow_the_captures_torso(capture, truth):
    track = capture.track
    root = torch.cat([track.rotation, track.translation], -1)
    lifted = replace(capture, track=replace(track, torso=root + torch.tensor([0, 0, 0, 0, 0.1, 0])))
    frames = capture.frames[:2]
    at_rest = posed_verts(replace(capture, track=replace(track, torso=None)), truth.head, frames)
    rise = np.stack(posed_verts(lifted, truth.head, frames)) - np.stack(at_rest)
    share = truth.head.skinning_weights[:, 0].numpy()
    np.testing.assert_allclose(rise[..., 1], 0.1 * share[None].repeat(2, 0), atol=2e-3)


def test_small_masks_keep_the_aspect_ratio(capture, truth):
    np.testing.assert_array_equal(small_mask(capture.frames[0]), truth.mask[0] > 127)


def test_frames_are_taken_evenly(capture):
    assert pick_evenly(capture.frames, 200) == list(capture.frames)
    assert [frame.timestep for frame in pick_evenly(capture.frames, 3)] == [0, 10, 19]


def test_a_shift_moves_silhouettes_without_wrapping():
    head = np.zeros((4, 5), bool)
    head[0, 0] = head[3, 4] = True
    moved = move_silhouette(head, 1, -1)
    assert np.argwhere(moved).tolist() == []
    assert np.argwhere(move_silhouette(head, 1, 1)).tolist() == [[1, 1]]
