"""The measured neutral face."""

from __future__ import annotations

from dataclasses import replace

import torch

from partnerface_ns.flame.neutral import direction_sizes, measure_neutral
from partnerface_ns.flame.state import HeadState


def restless(head, num=40) -> HeadState:
    """A face that is mostly at its own rest, and otherwise far from it in one direction."""
    track = HeadState.neutral(head.num_expr, (num,))
    track.expression[:, 0] = 0.4
    track.jaw[:, 0] = 0.05
    away = torch.arange(num) % 4 == 0
    track.expression[away] += 2 * torch.rand(int(away.sum()), head.num_expr)
    track.jaw[away, 0] += 0.3 * torch.rand(int(away.sum()))
    track.eyes[:, 1] = torch.linspace(-0.1, 0.1, num)
    track.rotation[:, 1] = torch.linspace(0.0, 0.4, num) ** 2
    return track


def test_the_neutral_is_the_most_frequent_face_not_the_mean_nor_zero(tiny_head):
    neutral = measure_neutral(restless(tiny_head), tiny_head)
    expected = torch.tensor([0.4, 0, 0, 0])
    torch.testing.assert_close(neutral.expression, expected)
    torch.testing.assert_close(neutral.jaw, torch.tensor([0.05, 0, 0]))
    assert neutral.batch_shape == () and abs(float(neutral.eyes[1])) < 0.01


def test_a_held_smile_is_not_neutral(tiny_head):
    track = restless(tiny_head)
    track.expression[10:25] = torch.tensor([2.5, 0.0, 0.0, 0.0])
    track.expression[25:] += 0.05 * torch.randn(15, tiny_head.num_expr)
    assert abs(float(measure_neutral(track, tiny_head).expression[0]) - 0.4) < 0.1


def test_the_head_pose_is_one_of_the_track(tiny_head):
    track = restless(tiny_head)
    # Turned round: the axis-angle vector jumps from one side to the other, and a mean of them would be nonsense.
    flipped = track.rotation + torch.tensor([torch.pi, 0.0, 0.0]) * (1 - 2 * (torch.arange(40) % 2))[:, None]
    neutral = measure_neutral(replace(track, rotation=flipped), tiny_head)
    assert bool((flipped == neutral.rotation).all(-1).any())


def test_the_neutral_of_one_frame_is_that_frame(tiny_head):
    track = restless(tiny_head)[:1]
    assert torch.equal(measure_neutral(track, tiny_head).expression, track.expression[0])


def test_a_long_track_is_subsampled(tiny_head):
    assert measure_neutral(restless(tiny_head, 4001), tiny_head).expression[0] < 0.41


def test_direction_sizes_are_metres_per_unit(tiny_head):
    face = tiny_head.regions["face"] > 0.5
    expected = tiny_head.expression_dirs[face].square().sum(1).mean(0).sqrt()
    torch.testing.assert_close(direction_sizes(tiny_head), expected)
