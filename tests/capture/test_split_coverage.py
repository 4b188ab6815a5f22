"""Split coverage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.split_coverage import expression_novelty, split_coverage
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera


def capture_of(head, track: HeadState, num_train: int) -> Capture:
    T = np.eye(4)
    T[:3, 3] = [0, 0, 1]
    camera = Camera(T, 50.0, 50.0, 8.0, 8.0, 16, 16)
    num = len(track)
    frames = tuple(Frame(t, 0, camera, None, None) for t in range(num))
    splits = {"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))}
    return Capture(Path("x"), "x", HeadModelRef(), torch.zeros(head.num_identity), None, track, frames, splits)


@pytest.fixture
def capture(tiny_head):
    """Ten training frames that turn left to 9 degrees, ten test frames that go on to 19."""
    track = HeadState.neutral(tiny_head.num_expr, (20,))
    track.rotation[:, 1] = torch.deg2rad(torch.arange(20.0))
    track.jaw[:, 0] = torch.linspace(0, 0.1, 20) % 0.05
    track.expression[:, 1] = torch.arange(20) % 3 + 2.0 * (torch.arange(20) == 17)
    return capture_of(tiny_head, track, 10)


def test_values_beyond_the_training_range_are_counted(capture, tiny_head):
    ranges = {r.name: r for r in split_coverage(capture, tiny_head)}
    turn = ranges["turn left"]
    assert turn.train == pytest.approx((0, 9), abs=1e-3) and turn.test == pytest.approx((10, 19), abs=1e-3)
    assert turn.beyond == 1
    assert ranges["turn down"].beyond == ranges["tilt"].beyond == 0
    assert ranges["expression frown"].beyond == pytest.approx(0.1), "frame 17"
    assert ranges["expression frown"].test == (0, 4)


def test_head_rotations_are_relative_to_the_camera(capture, tiny_head):
    """A camera that moves around a still head sees it turn the other way."""
    angles = torch.arange(20.0)
    frames = []
    for frame, angle in zip(capture.frames, angles, strict=True):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("y", -float(angle), degrees=True).as_matrix()
        T[:3, 3] = T[:3, :3] @ [0, 0, 1]
        frames.append(replace(frame, camera=replace(frame.camera, T_world_camera=T)))
    still = replace(capture, frames=tuple(frames), track=HeadState.neutral(tiny_head.num_expr, (20,)))
    turn = {r.name: r for r in split_coverage(still, tiny_head)}["turn left"]
    assert turn.train == pytest.approx((0, 9), abs=1e-3) and turn.beyond == 1


def test_new_expressions_lie_far_from_training_ones(capture, tiny_head):
    rng = torch.Generator().manual_seed(0)
    expression = torch.randn(200, tiny_head.num_expr, generator=rng)
    track = HeadState.neutral(tiny_head.num_expr, (200,))
    seen = capture_of(tiny_head, replace(track, expression=expression), 140)
    assert 0.5 < expression_novelty(seen) < 2
    expression[140:] += 20
    assert expression_novelty(capture_of(tiny_head, replace(track, expression=expression), 140)) > 5


def test_a_coefficient_that_training_never_moves_is_not_amplified(capture, tiny_head):
    rng = torch.Generator().manual_seed(0)
    expression = torch.randn(200, tiny_head.num_expr, generator=rng)
    expression[:140, 0] = 0
    track = HeadState.neutral(tiny_head.num_expr, (200,))
    novelty = expression_novelty(capture_of(tiny_head, replace(track, expression=expression), 140))
    assert 2 < novelty < 100


def test_few_frames_give_no_result(capture, tiny_head):
    assert expression_novelty(capture) is None
    assert split_coverage(replace(capture, splits={"train": (0,), "val": (), "test": ()}), tiny_head) == []
