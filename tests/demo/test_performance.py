"""The two takes: the second is new, both are natural, and the seed determines them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.demo.performance import (
    CUT,
    EXPRESSION_UNIT,
    JAW_UNIT,
    TURN_UNIT,
    Performance,
    frame_features,
    novelty,
    perform,
)
from partnerface_ns.demo.subject import assert_unseen
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState

NAMES = load_open_head().expression_names


def make(seed: int, num_frames: int = 300) -> Performance:
    return perform(NAMES, num_frames, np.random.default_rng(seed))


def takes(performance: Performance) -> tuple[HeadState, HeadState]:
    return performance.track[: performance.num_train], performance.track[performance.num_train :]


def of(state: HeadState, *names: str) -> torch.Tensor:
    return state.expression[:, [NAMES.index(name) for name in names]]


@pytest.mark.parametrize("seed", range(12))
def test_no_test_frame_is_near_a_training_frame(seed):
    train, test = takes(make(seed))
    features = frame_features(train)
    apart = torch.cdist(features, features) + torch.diag(torch.full((len(train),), torch.inf))
    usual = torch.quantile(apart.min(1).values, 0.95)
    nearest = torch.cdist(frame_features(test), features).min()
    assert nearest > 1.2 * usual
    assert_unseen(make(seed))


@pytest.mark.parametrize("num_frames", [10, 37, 1000])
def test_test_frames_are_new_at_any_number_of_frames(num_frames):
    train, _ = takes(make(0, 3000))
    _, test = takes(make(0, num_frames))
    assert novelty(test, train).min() > 1.5


def test_a_second_take_that_repeats_the_first_is_refused():
    performance = make(0)
    cut = performance.num_train
    repeated = HeadState(
        *(
            torch.cat([value[:cut], value[: len(performance.track) - cut] + 1e-4])
            for value in performance.track.tensors().values()
        )
    )
    with pytest.raises(AssertionError, match="comes within"):
        assert_unseen(replace(performance, track=repeated))


@pytest.mark.parametrize("seed", range(4))
def test_the_first_take_keeps_faces_for_the_second(seed):
    train, test = takes(make(seed))
    for name in ("mouthPucker", "noseSneerLeft", "noseSneerRight", "cheekPuff"):
        assert of(train, name).abs().max() == 0
        assert of(test, name).max() > 0.5
    tilt = lambda state: (state.rotation + state.neck)[:, 2]  # noqa: E731
    beyond = torch.maximum(tilt(test) - tilt(train).max(), tilt(train).min() - tilt(test))
    assert (beyond > 0).float().mean() > 0.9
    laughing = lambda state: (of(state, "mouthSmileLeft")[:, 0] > 0.4) & (state.jaw[:, 0] > 0.15)  # noqa: E731
    assert not laughing(train).any() and laughing(test).any()


@pytest.mark.parametrize("seed", range(4))
def test_motion_is_natural(seed):
    performance = make(seed)
    track = performance.track
    turn = (track.rotation + track.neck).abs().max(0).values
    assert 0.35 < turn[1] < 0.6 and turn[0] < 0.4 and turn[2] < 0.3
    assert track.jaw.min() >= 0 and 0.25 < track.jaw[:, 0].max() < 0.45
    assert of(track, "eyeBlinkLeft").max() > 0.8
    assert track.expression.min() >= 0 and track.expression.max() < 1.6
    assert track.translation.abs().max() < 0.03
    assert np.abs(performance.glasses_slip).max() < 0.006 and np.ptp(performance.glasses_slip) > 0.002


@pytest.mark.parametrize("name", ["rotation", "neck", "jaw", "translation"])
def test_motion_is_smooth_within_a_take(name):
    for take in takes(make(0, 900)):
        value = getattr(take, name)
        steps = value.diff(dim=0).norm(dim=-1)
        bends = value.diff(n=2, dim=0).norm(dim=-1)
        assert steps.max() < 0.06
        assert bends.max() < 0.5 * steps.max()


def test_shoulders_have_a_motion_of_their_own():
    performance = make(0, 900)
    assert np.ptp(performance.torso_translation, axis=0).max() > 0.01
    head, torso = performance.track.rotation[:, 1].numpy(), performance.torso_rotation[:, 1]
    assert np.ptp(torso) > 0.05
    assert abs(np.corrcoef(head, torso)[0, 1]) < 0.6


@pytest.mark.parametrize("num_frames", [10, 11, 13, 40, 300])
def test_the_cut_is_at_the_layouts_default_share(num_frames):
    performance = make(0, num_frames)
    assert performance.num_train == math.ceil(CUT * num_frames)
    assert len(performance.track) == len(performance.torso_rotation) == len(performance.glasses_slip) == num_frames


def test_the_seed_determines_the_performance():
    first, again, other = make(3), make(3), make(4)
    for name, value in first.track.tensors().items():
        assert torch.equal(value, getattr(again.track, name))
    assert np.array_equal(first.torso_rotation, again.torso_rotation)
    assert (frame_features(first.track) - frame_features(other.track)).norm(dim=-1).mean() > 0.5


def test_more_frames_show_the_same_performance():
    few, many = make(0, 100), make(0, 300)
    assert torch.allclose(few.track.jaw[0], many.track.jaw[1], atol=1e-6)
    assert torch.allclose(few.track.rotation[50], many.track.rotation[151], atol=1e-6)


def test_a_head_model_without_some_expressions_can_perform(tiny_head: HeadModel):
    performance = perform(tiny_head.expression_names, 20, np.random.default_rng(0))
    assert performance.track.expression.shape == (20, tiny_head.num_expr)
    assert torch.isfinite(performance.track.full_pose).all()


def test_novelty_is_a_distance_in_visible_changes():
    zero = HeadState.neutral(2, (3,))
    moved = [
        replace(zero, expression=torch.tensor([[EXPRESSION_UNIT, 0.0]] * 3)),
        replace(zero, jaw=torch.tensor([[JAW_UNIT, 0.0, 0.0]] * 3)),
        replace(
            zero,
            rotation=torch.tensor([[0.0, 0.5 * TURN_UNIT, 0.0]] * 3),
            neck=torch.tensor([[0.0, 0.5 * TURN_UNIT, 0.0]] * 3),
        ),
    ]
    for state in moved:
        np.testing.assert_allclose(novelty(state, zero), 1.0, rtol=1e-5)


def test_novelty_ignores_the_frame_itself():
    jaw = torch.tensor([[0.0, 0, 0], [JAW_UNIT, 0, 0], [3 * JAW_UNIT, 0, 0]])
    track = replace(HeadState.neutral(2, (3,)), jaw=jaw)
    np.testing.assert_allclose(novelty(track, track), [1, 1, 2], rtol=1e-5)
