"""Reach of hair, face and clothes, measured in mattes that are drawn at known distances from the mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import KDTree
from torch.testing import assert_close

from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.avatar.reach import measure_reach
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera, project_points

SIDE, FOCAL, NUM_FRAMES = 192, 380.0, 10
GAPS = {"face": 0.015, "hair": 0.05, "torso": 0.03}
MARGIN = 0.02


@pytest.fixture(scope="module")
def head() -> ShapedHead:
    model = load_open_head()
    return ShapedHead.of(model, torch.zeros(model.num_identity), None)


def camera() -> Camera:
    T = np.eye(4)
    T[2, 3] = 1.0
    return Camera(T, FOCAL, FOCAL, SIDE / 2, SIDE / 2, SIDE, SIDE)


def matte(head: ShapedHead, gaps: dict[str, float]) -> np.ndarray:
    """White where a pixel is closer to its nearest projected vertex than the gap of this vertex's region."""
    verts, view = head.verts_rest.double(), camera()
    projected = project_points(verts, view.intrinsics, torch.from_numpy(view.T_world_camera)).numpy()
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    distance, nearest = KDTree(projected).query(np.stack([x, y], -1))
    metres = distance * (1 - verts[:, 2].numpy()[nearest]) / FOCAL
    regions = {name: head.model.regions[name].numpy() > 0.5 for name in ("face", "torso")}
    gap = np.where(regions["torso"], gaps["torso"], np.where(regions["face"], gaps["face"], gaps["hair"]))
    return ((metres < gap[nearest]) * 255).astype(np.uint8)


@pytest.fixture
def capture(head, tmp_path) -> Capture:
    """Ten equal frames of a still head in front of the camera."""
    mask = Image.fromarray(matte(head, GAPS))
    frames = []
    for t in range(NUM_FRAMES):
        image, alpha = tmp_path / f"{t}.png", tmp_path / f"{t}_mask.png"
        Image.new("RGB", (SIDE, SIDE)).save(image)
        mask.save(alpha)
        frames.append(Frame(t, 0, camera(), image, alpha))
    states = HeadState.stack([HeadState.neutral(head.model.num_expr)] * NUM_FRAMES)
    splits = {"train": tuple(range(NUM_FRAMES)), "val": (), "test": ()}
    return Capture(
        tmp_path, "x", HeadModelRef(), torch.zeros(head.model.num_identity), None, states, tuple(frames), splits
    )


def change_mask(frame: Frame, change: str) -> None:
    assert frame.mask_path is not None
    mask = np.array(Image.open(frame.mask_path))
    if change == "white":
        mask[:] = 255
    elif change == "black":
        mask[:] = 0
    else:  # a hand beside the head
        mask[:40, :40] = 255
    Image.fromarray(mask).save(frame.mask_path)


def test_each_region_has_the_reach_of_its_matte_and_a_margin(head, capture):
    reach = measure_reach(capture, head.model, capture.frames)
    assert_close(reach, torch.tensor([*GAPS.values()]) + MARGIN, atol=0.003, rtol=0)


def test_a_hand_in_one_frame_does_not_count(head, capture):
    expected = measure_reach(capture, head.model, capture.frames)
    change_mask(capture.frames[4], "hand")
    assert_close(measure_reach(capture, head.model, capture.frames), expected, atol=0.003, rtol=0)
    for frame in capture.frames:
        change_mask(frame, "hand")
    assert measure_reach(capture, head.model, capture.frames)[1] > expected[1] + 0.03


@pytest.mark.parametrize("extreme", ["short", "long"])
def test_a_reach_has_limits(head, capture, extreme):
    gaps = dict.fromkeys(GAPS, 0.004 if extreme == "short" else 0.2)
    for frame in capture.frames:
        assert frame.mask_path is not None
        Image.fromarray(matte(head, gaps)).save(frame.mask_path)
    reach = measure_reach(capture, head.model, capture.frames)
    assert reach[1] == pytest.approx(0.03 if extreme == "short" else 0.12)


@pytest.mark.parametrize("lack", ["no image", "unreadable", "white", "black"])
def test_frames_that_show_no_matte_are_left_out(head, capture, lack):
    def spoil(frame: Frame) -> Frame:
        if lack == "no image":
            return replace(frame, image_path=None, mask_path=None)
        if lack == "unreadable":
            assert frame.mask_path is not None
            frame.mask_path.write_bytes(b"no picture")
        else:
            change_mask(frame, lack)
        return frame

    expected = measure_reach(capture, head.model, capture.frames)
    half = [spoil(frame) for frame in capture.frames[:5]] + list(capture.frames[5:])
    assert_close(measure_reach(capture, head.model, half), expected, atol=1e-4, rtol=0)
    assert measure_reach(capture, head.model, half[:5]).isnan().all()


def test_an_avatar_has_the_reach_of_its_person_and_takes_it_to_another(make_avatar, avatar_init):
    settings = make_avatar().config.space
    own = make_avatar(replace(avatar_init, reach=torch.tensor([0.03, 0.05, torch.nan])))
    assert_close(own.reach, torch.tensor([0.03, 0.05, settings.reach_torso]))
    verts = own.skinning.canonical.verts
    assert_close(own.skinning.space.upper[1], verts[:, 1].max() + 0.05)
    assert own.skinning.space.padding == pytest.approx(0.05)
    other = make_avatar()
    assert_close(other.reach, settings.reach)
    assert other.skinning.space.padding == pytest.approx(settings.reach_hair)
    other.load_state_dict(own.state_dict())
    assert other.skinning.space.padding == pytest.approx(0.05)
    assert_close(other.skinning.space.upper, own.skinning.space.upper)


def test_only_frames_to_train_on_are_measured(head, capture):
    for frame in capture.frames[5:]:
        change_mask(frame, "white")
    train_only = replace(capture, splits={"train": (5, 6, 7), "val": (), "test": (0, 1, 2)})
    assert AvatarInit.of(train_only, head.model).reach.isnan().all()
    assert not AvatarInit.of(train_only, head.model, frames=capture.frames[:5]).reach.isnan().any()
