"""Pixels of training rays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.training.rays import RaySampler, RaySamplerConfig, TrainingImages, is_near_outline
from partnerface_ns.training.region_boxes import region_boxes

SIZE = 64
PERSON = (slice(20, 50), slice(10, 40))
BOXES = np.array([[30, 40, 36, 44], [15, 25, 35, 30], [8, 16, 44, 46]], np.float32)
"""Left, top, right, bottom of mouth, eyes and head."""


def images(num: int = 3, person: bool = True, boxes: np.ndarray = BOXES) -> TrainingImages:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if person:
        mask[PERSON] = 255
    rgb = np.random.default_rng(0).integers(0, 256, (num, SIZE, SIZE, 3), dtype=np.uint8)
    camera = Camera(np.eye(4), 80.0, 80.0, 32.0, 32.0, SIZE, SIZE)
    frames = tuple(Frame(t, 0, camera, None, None) for t in range(num))
    return TrainingImages(list(rgb), [mask] * num, frames, np.stack([boxes] * num))


def only(**shares: float) -> RaySamplerConfig:
    """A step of 400 rays of one image, aimed at the given targets only."""
    names = ("mouth_share", "eyes_share", "outline_share", "head_share", "foreground_share")
    return RaySamplerConfig(400, 1, **{name: shares.get(name, 0.0) for name in names})


def rows_and_columns(config: RaySamplerConfig, boxes: np.ndarray = BOXES) -> torch.Tensor:
    return RaySampler(config, images(boxes=boxes)).sample(0).pixels.flatten(0, 1)


@pytest.mark.parametrize("name, box", zip(("mouth_share", "eyes_share", "head_share"), BOXES, strict=True))
def test_rays_aimed_at_a_box_fall_into_it_and_fill_it(name, box):
    left, top, right, bottom = box
    pixels = rows_and_columns(only(**{name: 1.0}))
    low, high = torch.tensor([top, left]), torch.tensor([bottom, right])
    assert ((pixels >= low) & (pixels <= high)).all()
    assert ((pixels.amax(0) - pixels.amin(0)) > 0.7 * (high - low)).all()


@pytest.mark.parametrize("name", ["mouth_share", "eyes_share", "head_share"])
@pytest.mark.parametrize(
    ("beyond", "in_sight"),
    [
        ((-60, 10, 20, 30), (0, 10, 20, 30)),
        ((40, -500, 90, 20), (40, 0, 64, 20)),
        ((-9, -9, 99, 99), (0, 0, 64, 64)),
        ((-1e9, 30, 1e9, 40), (0, 30, 64, 40)),
    ],
)
def test_rays_aimed_at_a_box_beyond_the_image_fill_its_visible_part(name, beyond, in_sight):
    """Rays do not accumulate at the border."""
    pixels = rows_and_columns(only(**{name: 1.0}), np.array([beyond] * 3, np.float32))
    left, top, right, bottom = in_sight
    low, high = torch.tensor([top, left]), torch.tensor([bottom, right])
    assert ((pixels >= low) & (pixels < high)).all()
    for axis, (first, end) in enumerate(zip(low, high, strict=True)):
        counts = torch.bincount(pixels[:, axis] - first, minlength=int(end - first))
        assert counts.max() < 5 * 400 / len(counts), "about even"


NOWHERE = [(-60, 10, -20, 30), (10, 64, 20, 90), (0, 0, 0, 0), (-40, 10, 0.5, 30), (64, 64, 64, 64)]


@pytest.mark.parametrize("nowhere", NOWHERE)
@pytest.mark.parametrize("name", ["mouth_share", "eyes_share", "head_share", "outline_share"])
def test_rays_aimed_outside_the_image_fall_anywhere(name, nowhere):
    pixels = rows_and_columns(only(**{name: 1.0}), np.array([nowhere] * 3, np.float32))
    assert len(pixels) == 400
    assert torch.equal(pixels, rows_and_columns(only())), "as if none were aimed"


def test_a_box_out_of_sight_changes_no_other_share():
    """The person's rays still hit them."""
    out = np.array([NOWHERE[0]] * 3, np.float32)
    mask = RaySampler(only(foreground_share=0.5, head_share=0.5), images(boxes=out)).sample(0).mask
    assert mask.mean() > 0.5


def test_rays_aimed_at_the_person_hit_them_and_the_rest_falls_anywhere():
    on_person = RaySampler(only(foreground_share=1.0), images()).sample(0).mask
    anywhere = RaySampler(only(), images()).sample(0).mask
    share = images().mask[0].mean() / 255
    assert on_person.mean() > 0.6 > 2 * share
    assert abs(float(anywhere.mean()) - share) < 0.1


def test_rays_aimed_at_the_outline_lie_beside_it_within_the_heads_box():
    row, column = rows_and_columns(only(outline_share=1.0)).T
    rows, columns = PERSON
    left, top, right, bottom = BOXES[2]
    assert ((row >= top) & (row <= bottom) & (column >= left) & (column <= right)).all()
    away = lambda at, edges: torch.minimum((at - edges.start + 0.5).abs(), (at - edges.stop + 0.5).abs())  # noqa: E731
    beside = torch.minimum(away(row, rows), away(column, columns)) < 1
    assert beside.float().mean() > 0.95


def test_the_outline_is_as_wide_as_the_head_is_high():
    mask = np.zeros((400, 400), np.uint8)
    mask[:, 200:] = 255
    columns = np.arange(400)
    found = is_near_outline(mask, np.stack([np.full(400, 50), columns], 1), np.array([0, 0, 400, 400], np.float32))
    assert columns[found].tolist() == list(range(196, 204))


def test_shares_with_a_sum_above_one_are_one_error():
    with pytest.raises(InputError, match=r"foreground_share 0\.4"):
        RaySamplerConfig(foreground_share=0.4)


@pytest.mark.parametrize("person", [True, False])
def test_a_step_has_all_its_rays_with_or_without_a_person(person):
    batch = RaySampler(RaySamplerConfig(400, 2), images(person=person)).sample(3)
    assert batch.pixels.shape == (2, 200, 2) and batch.rays.origins.shape == (2, 200, 3)
    assert len(set(batch.image_index.tolist())) == 2


def test_the_same_seed_and_step_give_the_same_rays_and_others_give_others():
    sample = lambda seed, step: RaySampler(RaySamplerConfig(), images(), seed).sample(step).pixels  # noqa: E731
    assert torch.equal(sample(0, 5), sample(0, 5))
    assert not torch.equal(sample(0, 5), sample(0, 6))
    assert not torch.equal(sample(0, 5), sample(1, 5))


def test_colours_and_directions_belong_to_the_pixels():
    given = images()
    batch = RaySampler(RaySamplerConfig(400, 1), given).sample(1)
    row, column = batch.pixels[0].T
    truth = given.rgb[int(batch.image_index[0])][row, column]
    np.testing.assert_allclose(batch.rgb[0].numpy(), truth / 255, atol=1e-6)
    across = (column + 0.5 - 32) / 80
    np.testing.assert_allclose(batch.rays.directions[0, :, 0] / -batch.rays.directions[0, :, 2], across, atol=1e-5)


# -- boxes of regions -------------------------------------------------------------------------------------------------


def boxes_at(tiny_head, *depths: float) -> np.ndarray:
    """Boxes of a head at a distance in front of the camera, metres."""
    head = ShapedHead.of(tiny_head, torch.zeros(3), None)
    track = HeadState.neutral(tiny_head.num_expr, (len(depths),))
    track.translation[:, 2] = -torch.tensor(depths)
    camera = Camera(np.eye(4), 80.0, 80.0, 32.0, 32.0, SIZE, SIZE)
    return region_boxes(head, track, [Frame(t, 0, camera, None, None) for t in range(len(depths))])


def test_boxes_lie_around_their_regions(tiny_head):
    far, near = boxes_at(tiny_head, 2.0, 1.0)
    for mouth, eyes, head in (far, near):
        assert (head[:2] <= eyes[:2]).all() and (eyes[2:] <= head[2:]).all()
        assert eyes[1] < mouth[1] and eyes[3] < mouth[3], "eyes above the mouth"
    assert_close = np.testing.assert_allclose
    assert_close((near[2, 2:] - near[2, :2]) / (far[2, 2:] - far[2, :2]), 2.0, rtol=0.15)


def test_a_head_behind_the_camera_has_no_boxes(tiny_head):
    assert not boxes_at(tiny_head, -2.0).any()


def test_points_behind_the_camera_are_ignored(tiny_head):
    """A camera inside the head sees the back of the head from within; the face behind it would be mirrored."""
    mouth, eyes, head = boxes_at(tiny_head, 0.0)[0]
    assert not mouth.any() and not eyes.any()
    assert (head[:2] < 32).all() and (head[2:] > 32).all() and np.isfinite(head).all()


@pytest.mark.parametrize("field", ["translation", "rotation", "expression"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_posed_head_is_one_error(tiny_head, field, value):
    head = ShapedHead.of(tiny_head, torch.zeros(3), None)
    track = HeadState.neutral(tiny_head.num_expr, (3,))
    getattr(track, field)[1, 0] = value
    camera = Camera(np.eye(4), 80.0, 80.0, 32.0, 32.0, SIZE, SIZE)
    frames = [Frame(t, 0, camera, Path(f"{t:04d}.png"), None) for t in range(3)]
    with pytest.raises(InputError, match=r"0001\.png \[timestep 1\]"):
        region_boxes(head, track, frames)
