"""Which pixels a training step looks at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partnerface_ns.capture.capture import Camera, Frame
from partnerface_ns.errors import SubjectError
from partnerface_ns.training import Pictures, RaySampler, RaySamplerConfig, beside_outline

SIZE = 64
PERSON = (slice(20, 50), slice(10, 40))
BOXES = np.array([[30, 40, 36, 44], [15, 25, 35, 30], [8, 16, 44, 46]], np.float32)
"""Left, top, right, bottom of mouth, eyes and head."""


def pictures(num: int = 3, person: bool = True) -> Pictures:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if person:
        mask[PERSON] = 255
    rgb = np.random.default_rng(0).integers(0, 256, (num, SIZE, SIZE, 3), dtype=np.uint8)
    camera = Camera(np.eye(4), 80.0, 80.0, 32.0, 32.0, SIZE, SIZE)
    frames = tuple(Frame(t, 0, camera, None, None) for t in range(num))
    return Pictures(list(rgb), [mask] * num, frames, np.stack([BOXES] * num))


def only(**shares: float) -> RaySamplerConfig:
    """A step of 400 rays of one picture, aimed at nothing but what is given."""
    names = ("mouth_share", "eyes_share", "outline_share", "head_share", "foreground_share")
    return RaySamplerConfig(400, 1, **{name: shares.get(name, 0.0) for name in names})


def rows_and_columns(config: RaySamplerConfig, person: bool = True) -> torch.Tensor:
    return RaySampler(config, pictures(person=person)).sample(0).pixels


@pytest.mark.parametrize("name, box", zip(("mouth_share", "eyes_share", "head_share"), BOXES, strict=True))
def test_rays_aimed_at_a_box_fall_into_it_and_fill_it(name, box):
    left, top, right, bottom = box
    pixels = rows_and_columns(only(**{name: 1.0}))
    low, high = torch.tensor([top, left]), torch.tensor([bottom, right])
    assert ((pixels >= low) & (pixels <= high)).all()
    assert ((pixels.amax(0) - pixels.amin(0)) > 0.7 * (high - low)).all()


def test_rays_aimed_at_the_person_hit_them_and_the_rest_falls_anywhere():
    on_person = RaySampler(only(foreground_share=1.0), pictures()).sample(0).mask
    anywhere = RaySampler(only(), pictures()).sample(0).mask
    share = pictures().mask[0].mean() / 255
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
    found = beside_outline(mask, np.stack([np.full(400, 50), columns], 1), np.array([0, 0, 400, 400], np.float32))
    assert columns[found].tolist() == list(range(196, 204))


def test_shares_of_more_than_all_rays_are_one_error():
    with pytest.raises(SubjectError, match=r"foreground_share 0\.4"):
        RaySamplerConfig(foreground_share=0.4)


@pytest.mark.parametrize("person", [True, False])
def test_a_step_has_all_its_rays_with_or_without_a_person(person):
    batch = RaySampler(RaySamplerConfig(400, 2), pictures(person=person)).sample(3)
    assert batch.pixels.shape == (400, 2) and batch.rays.origins.shape == (400, 3)
    assert batch.rays.frame.tolist() == [0] * 200 + [1] * 200
    assert len(set(batch.picture.tolist())) == 2


def test_the_same_seed_and_step_give_the_same_rays_and_others_give_others():
    sample = lambda seed, step: RaySampler(RaySamplerConfig(), pictures(), seed).sample(step).pixels  # noqa: E731
    assert torch.equal(sample(0, 5), sample(0, 5))
    assert not torch.equal(sample(0, 5), sample(0, 6))
    assert not torch.equal(sample(0, 5), sample(1, 5))


def test_colours_and_directions_belong_to_the_pixels():
    given = pictures()
    batch = RaySampler(RaySamplerConfig(400, 1), given).sample(1)
    row, column = batch.pixels.T
    truth = given.rgb[int(batch.picture[0])][row, column]
    np.testing.assert_allclose(batch.rgb.numpy(), truth / 255, atol=1e-6)
    across = (column + 0.5 - 32) / 80
    np.testing.assert_allclose(batch.rays.directions[:, 0] / -batch.rays.directions[:, 2], across, atol=1e-5)
