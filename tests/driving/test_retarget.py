"""One person's motion on another's avatar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from driving.conftest import filmed

from partnerface_ns.common.errors import InputError
from partnerface_ns.demo.subject import DemoSubject
from partnerface_ns.driving.capture_motion import motion_of_capture
from partnerface_ns.driving.motion import Motion
from partnerface_ns.driving.plan import PlanConfig, digest, make_plan
from partnerface_ns.driving.retarget import clamp, measure_excess, retarget, smooth
from partnerface_ns.driving.skulls import Skulls, skull_poses
from partnerface_ns.flame.neutral import measure_neutral
from partnerface_ns.flame.state import HeadState

NECK = 1


def skull(head, states) -> np.ndarray:
    """The skull's rigid transform, as skinning has it."""
    return head.pose(states).T_world_rest[..., NECK, :, :].double().numpy()


@pytest.fixture
def stranger(tiny_head, camera):
    """Another person, filmed in another world by another camera, with another resting face."""
    capture = filmed(tiny_head, camera, seed=5)
    T = np.eye(4)
    T[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    T[:3, 3] = [3.0, 1.0, -2.0]
    turned = replace(camera, T_world_camera=T, fl_x=30.0)
    track = replace(capture.track, expression=capture.track.expression + 0.5, jaw=capture.track.jaw + 0.1)
    return replace(capture, track=track, frames=tuple(replace(f, camera=turned) for f in capture.frames))


def test_the_avatar_adds_to_its_own_neutral(player, stranger, tiny_head):
    motion = motion_of_capture(stranger, tiny_head)
    states, _ = retarget(motion, player.head, player.neutral)
    for name in ("expression", "jaw", "eyes"):
        added = getattr(states, name) - getattr(player.neutral, name)
        torch.testing.assert_close(added, getattr(motion.states, name) - getattr(motion.neutral, name))


def test_a_source_at_rest_gives_the_avatar_at_rest(player, stranger, tiny_head):
    motion = motion_of_capture(stranger, tiny_head)
    still = Motion(
        HeadState.stack([motion.neutral]),
        motion.neutral,
        25.0,
        Skulls(motion.skulls.neutral[None], motion.skulls.neutral),
        motion.cameras[:1],
    )
    states, _ = retarget(still, player.head, player.neutral)
    rest = player.head.pose(player.neutral).verts
    torch.testing.assert_close(player.head.pose(states).verts[0], rest, atol=2e-6, rtol=0)


def test_the_skull_moves_before_the_camera_as_the_sources(player, stranger, tiny_head):
    motion = motion_of_capture(stranger, tiny_head)
    plan = make_plan(player, motion, PlanConfig(clamp=False))
    theirs = motion.skulls.moving.numpy()
    ours = skull(player.head, plan.states)
    for t in range(len(motion)):
        seen_ours = np.linalg.inv(plan.cameras[t].T_world_camera) @ ours[t]
        seen_theirs = np.linalg.inv(motion.cameras[t].T_world_camera) @ theirs[t]
        np.testing.assert_allclose(seen_ours, seen_theirs, atol=3e-6)
    assert plan.cameras[0].fl_x == 30.0


def test_the_clamp_of_the_neck_does_not_move_the_skull(player, stranger, tiny_head):
    turned = replace(stranger, track=replace(stranger.track, neck=5 * stranger.track.neck + 0.3))
    motion = motion_of_capture(turned, tiny_head)
    free, kept = (make_plan(player, motion, PlanConfig(clamp=clamp, smoothing=0.05)).states for clamp in (False, True))
    assert (free.neck - kept.neck).abs().max() > 0.1, "the neck is clamped"
    np.testing.assert_allclose(skull(player.head, kept), skull(player.head, free), atol=5e-6)


def test_skull_poses_equal_those_of_skinning(player, stranger):
    found = skull_poses(player.head, stranger.track).numpy()
    np.testing.assert_allclose(found, skull(player.head, stranger.track), atol=2e-6)


def test_a_moving_camera_before_a_still_head_is_a_moving_head_for_a_fixed_one(player, capture, tiny_head):
    filmed_still = motion_of_capture(capture, tiny_head)
    theirs = filmed_still.skulls.moving.numpy()
    cameras = tuple(
        replace(c, T_world_camera=np.linalg.inv(theirs[t]) @ c.T_world_camera)
        for t, c in enumerate(filmed_still.cameras)
    )
    still = torch.eye(4, dtype=torch.float64)
    moving = replace(filmed_still, skulls=Skulls(still.expand(len(filmed_still), 4, 4), still), cameras=cameras)
    plan = make_plan(player, moving, PlanConfig(camera="fixed", clamp=False))
    ours = skull(player.head, plan.states)
    for t in range(1, len(moving)):
        np.testing.assert_allclose(np.linalg.inv(ours[0]) @ ours[t], np.linalg.inv(theirs[0]) @ theirs[t], atol=5e-6)
    assert all(camera is player.camera for camera in plan.cameras)


def test_absolute_leaves_states_and_cameras(player, stranger, tiny_head):
    motion = motion_of_capture(stranger, tiny_head)
    plan = make_plan(player, motion, PlanConfig(transfer="absolute", clamp=False))
    assert torch.equal(plan.states.expression, motion.states.expression)
    np.testing.assert_array_equal(plan.cameras[2].T_world_camera, motion.cameras[2].T_world_camera)


def test_curves_without_a_person_turn_the_avatars_head(player, tiny_head):
    states = HeadState.neutral(tiny_head.num_expr, (2,))
    states.rotation[1, 1] = 0.3
    states.jaw[1, 0] = 0.2
    motion = Motion(states, HeadState.neutral(tiny_head.num_expr), 25.0)
    plan = make_plan(player, motion, PlanConfig(clamp=False))
    ours = skull(player.head, plan.states)
    np.testing.assert_allclose(ours[0], skull(player.head, player.neutral), atol=2e-6)
    turn = ours[1][:3, :3] @ ours[0][:3, :3].T
    assert np.isclose(np.arccos((np.trace(turn) - 1) / 2), 0.3, atol=1e-5)
    torch.testing.assert_close(plan.states.jaw[1], player.neutral.jaw + torch.tensor([0.2, 0, 0]))


def test_the_clamp_is_soft_and_keeps_the_trained_range(info, capture):
    state = HeadState.stack([info.neutral] * 5)
    low, high = info.lowest.expression[0], info.highest.expression[0]
    span = high - low
    state.expression[:, 0] = torch.stack([high, low, (low + high) / 2, high + 0.01 * span, high + 100 * span])
    kept = clamp(state, info).expression[:, 0]
    torch.testing.assert_close(kept[:3], state.expression[:3, 0])
    assert high < kept[3] < high + 0.0101 * span
    torch.testing.assert_close(kept[4], high + max(span / 2, torch.tensor(0.25)))
    values = torch.linspace(-3, 3, 100)
    many = HeadState.stack([info.neutral] * 100)
    many.expression[:, 0] = values
    assert bool((clamp(many, info).expression[:, 0].diff() >= -1e-6).all())


def test_the_excess_names_the_channel(info, tiny_head):
    state = HeadState.stack([info.neutral] * 4)
    assert (
        str(measure_excess(state, info, tiny_head.expression_names)) == "The motion stays within the range of training."
    )
    state.expression[2, 1] = 3.0
    found = measure_excess(state, info, tiny_head.expression_names)
    (frown,) = found.channels
    assert (found.share, frown.channel, frown.value) == (0.25, "frown", 3.0)
    assert frown.limit == pytest.approx(float(info.highest.expression[1]))
    assert "25% of the frames" in str(found) and "frown (3.00, trained up to" in str(found)
    state.jaw[1, 0] = 1.0
    both = measure_excess(state, info, tiny_head.expression_names)
    assert {beyond.channel for beyond in both.channels} == {"frown", "jaw[0]"} and "; also " in str(both)


def test_smoothing_calms_also_across_half_a_turn(capture):
    rotation = torch.zeros(40, 3)
    rotation[:, 1] = torch.pi + 0.05 * torch.randn(40)
    rotation[:, 1] -= 2 * torch.pi * (rotation[:, 1] > torch.pi)
    states = replace(HeadState.neutral(4, (40,)), rotation=rotation, jaw=torch.randn(40, 3))
    calm = smooth(states, 4.0)
    assert calm.jaw.std() < 0.5 * states.jaw.std()
    off = (calm.rotation[:, 1].abs() - torch.pi).abs()
    assert off.max() < 0.05
    assert smooth(states, 0.0) is states


def test_options_are_checked(player, capture, tiny_head):
    motion = motion_of_capture(capture, tiny_head)
    for config, name in (
        (PlanConfig(size=3), "--size"),
        (PlanConfig(smoothing=-1.0), "--smoothing"),
        (PlanConfig(max_frames=0), "--max-frames"),
        (PlanConfig(side_by_side=True), "--side-by-side"),
    ):
        with pytest.raises(InputError) as error:
            make_plan(player, motion, config)
        assert error.value.source == name


def test_an_orbit_swings_around_the_face(player, capture, tiny_head):
    motion = replace(motion_of_capture(capture, tiny_head), fps=1.0)
    plan = make_plan(player, motion, PlanConfig(camera="orbit", max_frames=5))
    assert len(plan) == len(plan.cameras) == 5
    center = player.head.pose(player.neutral).verts[tiny_head.regions["face"] > 0.5].mean(0).numpy()
    distances = [np.linalg.norm(c.T_world_camera[:3, 3] - center) for c in plan.cameras]
    np.testing.assert_allclose(distances, distances[0])
    np.testing.assert_allclose(plan.cameras[0].T_world_camera, player.camera.T_world_camera, atol=1e-12)
    assert abs(plan.cameras[2].T_world_camera[0, 3] - player.camera.T_world_camera[0, 3]) > 0.1


def test_the_digest_tells_plans_apart(player, capture, tiny_head):
    motion = motion_of_capture(capture, tiny_head)
    plans = [make_plan(player, motion, c) for c in (PlanConfig(), PlanConfig(size=32), PlanConfig(smoothing=0.1))]
    again = make_plan(player, motion, PlanConfig())
    assert digest(player, again) == digest(player, plans[0])
    assert len({digest(player, plan) for plan in plans}) == 3


def mouth_opening(head, states) -> np.ndarray:
    """How far the lips reach from top to bottom before the skull, metres, for each frame."""
    still = replace(states, rotation=0 * states.rotation, neck=0 * states.neck, translation=0 * states.translation)
    lips = head.pose(still).verts[:, head.model.regions["lips"] > 0.5, 1]
    return (lips.amax(1) - lips.amin(1)).numpy()


@pytest.mark.parametrize(("source", "driven"), [(1, 4), (4, 1)])
def test_another_persons_mouth_follows_and_the_head_keeps_its_shape(source, driven):
    theirs, ours = (DemoSubject.create(seed, 120, 32) for seed in (source, driven))
    model = theirs.head.model
    motion = motion_of_capture(theirs.capture(Path("source")), model)
    neutral = measure_neutral(ours.performance.track, model)
    states, _ = retarget(motion, ours.head, neutral)
    openings = mouth_opening(theirs.head, motion.states), mouth_opening(ours.head, states)
    assert np.corrcoef(*openings)[0, 1] > 0.95

    calm = int((motion.states.expression - motion.neutral.expression).abs().sum(1).argmin())
    skull = model.skinning_weights[:, NECK + 1 :].sum(1) < 1e-3
    skull &= model.expression_dirs.abs().amax((1, 2)) < 1e-4
    skull &= model.skinning_weights[:, NECK] > 0.99
    sides = lambda state: torch.pdist(ours.head.pose(state).verts[skull][::40])  # noqa: E731
    torch.testing.assert_close(sides(states[calm]), sides(neutral), atol=1e-3, rtol=0)

    jump = lambda head, track: head.pose(track).verts.diff(dim=0).norm(dim=-1).amax(1)  # noqa: E731
    assert bool((jump(ours.head, states) < 1.5 * jump(theirs.head, motion.states) + 1e-3).all())
