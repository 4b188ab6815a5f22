"""Reach of hair, face and clothes, measured in mattes that are drawn at known distances from the mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.avatar.reach import measure_reach
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera

FOCAL_X, FOCAL_Y, WIDTH, HEIGHT, NUM_FRAMES = 500.0, 700.0, 300, 400, 10
GAPS = {"face": 0.015, "hair": 0.05, "torso": 0.03}
MARGIN = 0.02
TURN = Rotation.from_euler("yxz", [25.0, -10.0, 15.0], degrees=True)


@pytest.fixture(scope="module")
def head() -> ShapedHead:
    model = load_open_head()
    return ShapedHead.of(model, torch.zeros(model.num_identity), None)


def camera() -> Camera:
    """A turned camera a metre from the head. Its pixels are not square."""
    T = np.eye(4)
    T[:3, :3] = TURN.as_matrix()
    T[:3, 3] = TURN.apply([0.0, 0.0, 1.0])
    return Camera(T, FOCAL_X, FOCAL_Y, WIDTH / 2 + 7, HEIGHT / 2 - 9, WIDTH, HEIGHT)


def state_at(head: ShapedHead, t: int) -> HeadState:
    """The head moves to the side from frame to frame."""
    state = HeadState.neutral(head.model.num_expr)
    return replace(state, translation=torch.tensor([0.02 * (t - NUM_FRAMES / 2), 0.0, 0.0]))


def matte(head: ShapedHead, t: int, gaps: dict[str, float]) -> np.ndarray:
    """White where a ray passes the skin of a region at less than the region's gap. Nothing continues at the border."""
    view, verts = camera(), head.surface(state_at(head, t)).double().numpy()
    in_camera = TURN.inv().apply(verts) - [0.0, 0.0, 1.0]
    depth = -in_camera[:, 2]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(x - view.cx) / FOCAL_X, -(y - view.cy) / FOCAL_Y], -1)
    distance, nearest = KDTree(in_camera[:, :2] / depth[:, None]).query(rays)
    regions = {name: head.model.regions[name].numpy() > 0.5 for name in ("face", "torso")}
    gap = np.where(regions["torso"], gaps["torso"], np.where(regions["face"], gaps["face"], gaps["hair"]))
    return ((distance * depth[nearest] < gap[nearest]) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def mattes(head) -> list[np.ndarray]:
    return [matte(head, t, GAPS) for t in range(NUM_FRAMES)]


@pytest.fixture
def capture(head, mattes, tmp_path) -> Capture:
    """Ten frames of a head in front of the camera."""
    frames = []
    for t, mask in enumerate(mattes):
        image, alpha = tmp_path / f"{t}.png", tmp_path / f"{t}_mask.png"
        Image.new("RGB", (WIDTH, HEIGHT)).save(image)
        Image.fromarray(mask).save(alpha)
        frames.append(Frame(t, 0, camera(), image, alpha))
    states = HeadState.stack([state_at(head, t) for t in range(NUM_FRAMES)])
    splits = {"train": tuple(range(NUM_FRAMES)), "val": (), "test": ()}
    person = HeadModelRef(), torch.zeros(head.model.num_identity), None
    return Capture(tmp_path, "x", *person, states, tuple(frames), splits)


def change_mask(frame: Frame, change: str) -> None:
    assert frame.mask_path is not None
    mask = np.array(Image.open(frame.mask_path))
    if change == "white":
        mask[:] = 255
    elif change == "black":
        mask[:] = 0
    elif change == "body":  # it continues to the lower border of the image
        inside = np.flatnonzero(mask.any(0))
        mask[mask.any(1).nonzero()[0].max() - 20 :, inside.min() : inside.max()] = 255
    else:  # a hand beside the head
        mask[:60, :60] = 255
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


def test_the_body_below_the_mesh_is_no_clothes(head, capture):
    """The mesh of a head ends at the chest, and FLAME's at the neck."""
    expected = measure_reach(capture, head.model, capture.frames)
    for frame in capture.frames:
        change_mask(frame, "body")
    assert_close(measure_reach(capture, head.model, capture.frames), expected, atol=0.015, rtol=0)


def test_a_frame_that_looks_away_is_left_out(head, capture):
    expected = measure_reach(capture, head.model, capture.frames)
    behind = camera().T_world_camera.copy()
    behind[:3, :3] = behind[:3, :3] @ np.diag([-1.0, 1.0, -1.0])
    away = replace(capture.frames[0], camera=replace(camera(), T_world_camera=behind))
    assert_close(measure_reach(capture, head.model, [away, *capture.frames]), expected, atol=1e-3, rtol=0)
    assert measure_reach(capture, head.model, [away]).isnan().all()
    assert measure_reach(capture, head.model, []).isnan().all()


@pytest.mark.parametrize("extreme", ["short", "long"])
def test_a_reach_has_limits(head, capture, extreme):
    gaps = dict.fromkeys(GAPS, 0.004 if extreme == "short" else 0.2)
    for frame in capture.frames:
        assert frame.mask_path is not None
        Image.fromarray(matte(head, frame.timestep, gaps)).save(frame.mask_path)
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
    own = make_avatar(replace(avatar_init, reach=torch.tensor([0.03, 0.05, torch.nan])))
    assert_close(own.reach, torch.tensor([0.03, 0.05, 0.04]))
    verts = own.skinning.canonical.verts
    assert_close(own.skinning.space.upper[1], verts[:, 1].max() + 0.05)
    assert own.skinning.space.padding == pytest.approx(0.05)
    other = make_avatar()
    assert_close(other.reach, torch.tensor([0.04, 0.07, 0.04]))
    assert other.skinning.space.padding == pytest.approx(0.07)
    other.load_state_dict(own.state_dict())
    assert other.skinning.space.padding == pytest.approx(0.05)
    assert_close(other.skinning.space.upper, own.skinning.space.upper)


def test_only_frames_to_train_on_are_measured(head, capture):
    for frame in capture.frames[5:]:
        change_mask(frame, "white")
    train_only = replace(capture, splits={"train": (5, 6, 7), "val": (), "test": (0, 1, 2)})
    assert AvatarInit.of(train_only, head.model).reach.isnan().all()
    assert not AvatarInit.of(train_only, head.model, frames=capture.frames[:5]).reach.isnan().any()
