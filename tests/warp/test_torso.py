"""The torso bone: its mean, its prediction for any frame, its residuals of training frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.warp.torso import TorsoMotion


@pytest.fixture
def states() -> HeadState:
    """Six head states of training."""
    noise = lambda size, scale: scale * torch.randn(6, size)  # noqa: E731
    return HeadState(noise(4, 1), noise(3, 0.2), noise(3, 0.1), noise(3, 0.1), noise(6, 0.1), noise(3, 0.05) + 0.3)


@pytest.fixture
def torso(states) -> TorsoMotion:
    """A torso of a track with ten timesteps, six of them for training."""
    return TorsoMotion(states, torch.tensor([0.0, -0.2, 0.05]), 10)


def trained(torso: TorsoMotion) -> TorsoMotion:
    torch.nn.init.normal_(torso.prediction.weight, std=0.1)
    torch.nn.init.normal_(torso.residual, std=0.1)
    return torso


def test_it_begins_at_the_mean_root_transform_whatever_the_head_does(torso, states):
    T = torso(states, torch.arange(6))
    mean = rotation_from_axis_angle(states.rotation.mean(0))
    root = torch.tensor([0.0, -0.2, 0.05])
    assert_close(T[:, :3, :3], mean.expand(6, 3, 3))
    assert_close(
        torch.einsum("fab,b->fa", T[:, :3, :3], root) + T[:, :3, 3], (root + states.translation.mean(0)).expand(6, 3)
    )


def test_it_is_always_rigid(torso, states):
    T = trained(torso)(states, torch.arange(6))
    rotation = T[:, :3, :3]
    assert_close(rotation @ rotation.mT, torch.eye(3).expand(6, 3, 3), atol=1e-5, rtol=0)
    assert_close(rotation.det(), torch.ones(6))
    assert torch.equal(T[:, 3], torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(6, 4))


def test_residuals_belong_to_the_timesteps_of_training(torso, states):
    torso.residual.data[4] = 0.3
    plain, with_residual = torso(states[:2], None), torso(states[:2], torch.tensor([3, 4]))
    assert torch.equal(plain[0], with_residual[0])
    assert not torch.allclose(plain[1], with_residual[1], atol=0.01)


def test_a_frame_that_was_not_trained_on_is_predicted_from_the_heads_pose(torso, states):
    trained(torso)
    T = torso(states, None)
    assert T.std(0).max() > 0.01
    same_pose = HeadState(
        states.expression + 1, states.rotation, states.neck, states.jaw + 1, states.eyes + 1, states.translation
    )
    assert torch.equal(torso(same_pose, None), T), "the face says nothing of the shoulders"


def test_a_head_pose_far_beyond_training_does_not_throw_the_torso_away(torso, states):
    trained(torso)
    near = torso(states, None)
    wild = HeadState(
        states.expression, states.rotation + 50, states.neck, states.jaw, states.eyes, states.translation - 50
    )
    assert (torso(wild, None)[:, :3, 3] - near[:, :3, 3]).abs().max() < 1.0


def test_prediction_and_residual_both_learn(torso, states):
    target = torch.eye(4).expand(2, 4, 4)
    timesteps = torch.tensor([1, 5])
    (torso(states[:2], timesteps) - target).square().sum().backward()
    assert torso.prediction.weight.grad.isfinite().all() and torso.prediction.weight.grad.any()
    touched = torso.residual.grad.abs().sum(1) > 0
    assert torch.equal(touched.nonzero()[:, 0], timesteps)


def test_the_loss_of_residuals_is_their_mean_square_at_the_given_frames(torso):
    trained(torso)
    timesteps = torch.tensor([2, 7])
    assert_close(
        torso.residual_loss(timesteps), (torso.residual[2].square().sum() + torso.residual[7].square().sum()) / 12
    )


def test_a_state_of_a_longer_track_loads_and_brings_its_residuals(torso, states):
    longer = trained(TorsoMotion(states, torch.zeros(3), 25))
    torso.load_state_dict(longer.state_dict())
    assert torch.equal(torso.residual, longer.residual)
    assert isinstance(torso.residual, torch.nn.Parameter)
    assert torch.equal(torso(states, torch.tensor([20] * 6)), longer(states, torch.tensor([20] * 6)))


def test_one_training_frame_is_enough(states):
    T = TorsoMotion(states[:1], torch.zeros(3), 1)(states, None)
    assert T.isfinite().all()


def known(states: HeadState) -> HeadState:
    """The states with a torso that the head's translation determines."""
    shift = states.translation - states.translation.mean(0)
    torso = torch.cat([0.5 * shift + torch.tensor([0.0, 0.4, 0.0]), 0.8 * shift + 0.3], -1)
    return replace(states, torso=torso)


def test_a_known_torso_is_used_as_it_is(states):
    root = torch.tensor([0.0, -0.2, 0.05])
    given = known(states)
    T = trained(TorsoMotion(given, root, 10))(given, torch.arange(6))
    rotation = rotation_from_axis_angle(given.torso[:, :3])
    assert_close(T[:, :3, :3], rotation)
    assert_close(torch.einsum("fab,b->fa", T[:, :3, :3], root) + T[:, :3, 3], root + given.torso[:, 3:])


def test_a_torso_that_is_not_known_is_predicted_from_the_known_ones():
    torch.manual_seed(0)
    noise = lambda size, scale: scale * torch.randn(200, size)  # noqa: E731
    many = HeadState(noise(4, 1), noise(3, 0.2), noise(3, 0.1), noise(3, 0.1), noise(6, 0.1), noise(3, 0.05) + 0.3)
    given = known(many)
    torso = TorsoMotion(given, torch.tensor([0.0, -0.2, 0.05]), 200)
    true, predicted = torso(given, None), torso(many, None)
    error, spread = (true - predicted).square().mean().sqrt(), (true - true.mean(0)).square().mean().sqrt()
    assert error < 0.2 * spread


def test_twists_invert_motions(torso):
    twist = torch.cat([torch.randn(5, 6), torch.zeros(1, 6)])
    assert_close(torso.twists(torso.motion(twist)), twist, atol=1e-5, rtol=1e-5)
