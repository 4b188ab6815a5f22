"""The tracking correction: where it acts, how much, and that it is learned."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.warp.tracking_correction import TrackingCorrection, TrackingCorrectionConfig

MIDDLE = torch.tensor([0.0, 0.02, 0.05])


@pytest.fixture
def states() -> HeadState:
    """Six head states of training."""
    noise = lambda size, scale: scale * torch.randn(6, size)  # noqa: E731
    return HeadState(noise(4, 1), noise(3, 0.2), noise(3, 0.1), noise(3, 0.1), noise(6, 0.1), noise(3, 0.002))


@pytest.fixture
def correction(states) -> TrackingCorrection:
    return TrackingCorrection(TrackingCorrectionConfig(), states, MIDDLE, 6)


def around(distance: float, num: int = 40) -> torch.Tensor:
    """Points at a distance from the face's centre, metres."""
    return MIDDLE + distance * torch.nn.functional.normalize(torch.randn(num, 3), dim=-1)


def corrected(
    correction: TrackingCorrection, points: torch.Tensor, states: HeadState, torso: float = 0.0
) -> torch.Tensor:
    share, frame = torch.full((len(points),), torso), torch.zeros(len(points), dtype=torch.long)
    return correction.correct(points, frame, share, correction(states[:1], None))


def nodding(correction: TrackingCorrection) -> TrackingCorrection:
    """Rotation about x by the difference of the head's pitch from its training mean."""
    correction.prediction.weight.data[0, 0] = 0.1
    return correction


def test_it_begins_as_the_identity(correction, states):
    points = around(0.15)
    assert_close(corrected(correction, points, states), points)


def test_the_face_stays_and_the_back_of_the_head_turns(correction, states):
    nodding(correction)
    pitch = (states.rotation - states.rotation.mean(0))[0, 0]
    near, far = around(0.059), around(0.121)
    assert torch.equal(corrected(correction, near, states), near)
    turn = rotation_from_axis_angle(torch.tensor([1.0, 0, 0]) * pitch)
    assert_close(corrected(correction, far, states), MIDDLE + (far - MIDDLE) @ turn.T)


def test_between_face_and_ears_the_share_grows_smoothly(correction, states):
    nodding(correction)
    direction = torch.tensor([0.0, 1.0, 0.0])
    distance = torch.linspace(0.05, 0.14, 200)
    points = MIDDLE + distance[:, None] * direction
    size = (corrected(correction, points, states) - points).norm(dim=-1) / distance
    assert (size.diff() >= -1e-6).all()
    assert size.diff().abs().max() < 0.03 * size[-1]


def test_the_torso_is_not_corrected(correction, states):
    points = around(0.2)
    assert_close(corrected(nodding(correction), points, states, torso=1.0), points)


def test_frames_do_not_mix(correction, states):
    correction.residual.data[2, 3] = 0.5
    points, frame = around(0.15, 6), torch.tensor([0, 0, 0, 1, 1, 2])
    moved = correction.correct(points, frame, torch.zeros(6), correction(states[:3], torch.arange(3))) - points
    assert_close(moved, torch.tensor([0.05, 0, 0]) * (frame == 2)[:, None], atol=1e-6, rtol=0)


def test_poses_that_hardly_varied_in_training_predict_little(correction, states):
    correction.prediction.weight.data.fill_(0.1)
    shifted = HeadState(
        *(getattr(states[:1], n) for n in ("expression", "rotation", "neck", "jaw", "eyes")),
        states.translation[:1] + 0.001,
    )
    assert_close(correction(shifted, None), correction(states[:1], None), atol=5e-3, rtol=0)


def test_a_wild_pose_is_corrected_within_bounds(correction, states):
    correction.prediction.weight.data.normal_(std=0.02)
    wild = HeadState(
        *(getattr(states[:1], n) * 100 for n in ("expression", "rotation", "neck", "jaw", "eyes", "translation"))
    )
    points = around(0.12)
    assert (corrected(correction, points, wild) - points).norm(dim=-1).max() < 0.12


def test_a_wrong_pitch_is_learned_from_frames_and_carries_over_to_a_pose_never_seen():
    """The tracked pitch is four fifths of the true one. Training learns this, and an unseen pose is corrected."""
    true = torch.linspace(-0.2, 0.1, 10)
    zeros = lambda size: torch.zeros(11, size)  # noqa: E731
    pitch = torch.cat([true, torch.tensor([0.2])])
    tracked = HeadState(
        zeros(4), 0.8 * pitch[:, None] * torch.tensor([1.0, 0, 0]), zeros(3), zeros(3), zeros(6), zeros(3)
    )
    correction = TrackingCorrection(TrackingCorrectionConfig(), tracked[:10], MIDDLE, 10)
    points = around(0.13)
    mean = float(true.mean())
    missed = rotation_from_axis_angle((pitch - mean)[:, None] * torch.tensor([0.2, 0, 0]))
    truth = MIDDLE + torch.einsum("fab,pb->fpa", missed, points - MIDDLE)
    optimizer = torch.optim.Adam([correction.prediction.weight], lr=2e-3)

    def error(frames: range, timesteps: torch.Tensor | None) -> torch.Tensor:
        frame = torch.arange(len(frames)).repeat_interleave(len(points))
        T = correction(tracked[frames.start : frames.stop], timesteps)
        moved = correction.correct(points.repeat(len(frames), 1), frame, torch.zeros(len(frame)), T)
        return (moved.view(len(frames), -1, 3) - truth[frames.start : frames.stop]).norm(dim=-1).mean()

    before = float(error(range(10, 11), None))
    for _ in range(150):
        optimizer.zero_grad()
        error(range(10), torch.arange(10)).backward()
        optimizer.step()
    assert float(error(range(10, 11), None)) < 0.1 * before
