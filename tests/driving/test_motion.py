"""Motions of channels, of built-in motions and of captures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.capture.capture import HeadModelRef
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving import rig as rig_module
from partnerface_ns.driving.builtin_motions import BUILTIN_MOTIONS
from partnerface_ns.driving.capture_motion import motion_of_capture
from partnerface_ns.driving.expression_fit import fit_expressions
from partnerface_ns.driving.load import load_motion
from partnerface_ns.driving.motion import builtin_motion, motion_of_channels
from partnerface_ns.driving.rig import Rig, arkit_names
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.rigid import rotation_from_axis_angle


def one(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array([0.0, value]) for name, value in values.items()}


@pytest.fixture(scope="session")
def head():
    return load_open_head()


# -- channels ----------------------------------------------------------------------------------------------------


def test_channels_move_the_named_parts(head):
    rig, names = Rig(head), head.expression_names
    states = rig.states(one(mouthSmile=0.8, EyeBlinkLeft=1.0, jaw=0.2, jawOpen=0.5, gaze_yaw=0.1), "test")
    moved = {names[i]: float(v) for i, v in enumerate(states.expression[1]) if v}
    assert moved == pytest.approx({"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "eyeBlinkLeft": 1.0})
    torch.testing.assert_close(states.jaw[1], torch.tensor([0.2 + 0.5 * 0.35, 0, 0]))
    torch.testing.assert_close(states.eyes[1], torch.tensor([0, 0.1, 0, 0, 0.1, 0]))
    assert not states.expression[0].any() and not states.translation.any()


def test_there_are_arkits_52_and_all_are_followed(head):
    names = arkit_names()
    assert len(set(names)) == 52 and all(Rig(head).knows(name) for name in names)


def test_eyes_look_where_the_names_say(head):
    """Of the surface in front of each eyeball's centre; x is to the person's left, y up."""
    rig = Rig(head)
    for name, eye, axis, sign in (
        ("eyeLookUpLeft", 0, 1, 1),
        ("eyeLookDownRight", 1, 1, -1),
        ("eyeLookOutLeft", 0, 0, 1),
        ("eyeLookInLeft", 0, 0, -1),
        ("eyeLookOutRight", 1, 0, -1),
        ("eyeLookInRight", 1, 0, 1),
    ):
        eyes = rig.states(one(**{name: 1.0}), "test").eyes[1].reshape(2, 3)
        gaze = rotation_from_axis_angle(eyes) @ torch.tensor([0.0, 0.0, 1.0])
        assert sign * gaze[eye, axis] > 0.3, name
        assert torch.equal(eyes[1 - eye], torch.zeros(3)), name


def test_a_turn_is_shared_by_the_neck_and_adds_up(head):
    states = Rig(head).states(one(yaw=0.4), "test")
    torch.testing.assert_close(states.rotation[1] + states.neck[1], torch.tensor([0, 0.4, 0]))
    assert states.neck[1, 1] > 0.1


def test_an_unknown_channel_is_named(head):
    with pytest.raises(InputError) as error:
        Rig(head).states(one(mouthGrin=1.0), "keys.json")
    assert error.value.key == "mouthGrin" and "mouthSmileLeft" in str(error.value)


def test_a_head_without_names_gets_the_nearest_expressions(head):
    """Its directions are a mix of the named ones, its vertices fewer and elsewhere, and it is larger."""
    mix = torch.linalg.qr(torch.randn(head.num_expr, head.num_expr)).Q
    larger = 1.1
    other = replace(
        head,
        template=larger * head.template + torch.tensor([0.0, 0.1, 0.02]),
        expression_dirs=larger * head.expression_dirs @ mix,
        expression_names=tuple(f"expr_{i:02d}" for i in range(head.num_expr)),
    )
    moved = other.expression_dirs @ fit_expressions(head, other).T
    face = (head.regions["face"] > 0.5) & (head.regions["eyeballs"] < 0.5) & (head.regions["inside_mouth"] < 0.5)
    for name in ("mouthSmileLeft", "browInnerUp", "eyeBlinkRight", "mouthPucker"):
        i = head.expression_names.index(name)
        expected = larger * head.expression_dirs[face][..., i]
        error = (moved[face][..., i] - expected).norm() / expected.norm()
        assert error < 0.15, (name, error)
    smile = Rig(other).states(one(mouthSmileLeft=1.0), "test")
    assert smile.expression[1].norm() > 0.5


def test_any_spelling_of_a_channel_is_followed(head):
    for name in ("mouthSmile_L", "MOUTH_SMILE_LEFT", "mouth smile left", "L_mouthSmile"):
        states = Rig(head).states({name: np.ones(1)}, "test")
        assert states.expression[0, head.expression_names.index("mouthSmileLeft")] == 1, name


def test_the_nearest_expressions_are_found_once(head, monkeypatch):
    """A slider is moved many times a second; a head without names takes seconds to be laid over the named one."""
    calls, fitted = [], rig_module.fit_expressions
    unnamed = replace(head, expression_names=tuple(f"expr_{i:02d}" for i in range(head.num_expr)))
    monkeypatch.setattr(rig_module, "fit_expressions", lambda *given: calls.append(given) or fitted(*given))
    rig = Rig(unnamed)
    for value in (0.1, 0.2, 0.3):
        motion_of_channels({"mouthSmile": np.array([value])}, 1.0, rig, Path("slider"))
    assert len(calls) == 1


# -- built-in motions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTIN_MOTIONS)
def test_built_in_motions_move_smoothly_and_within_limits(head, name):
    motion = builtin_motion(name, head)
    states = motion.states
    assert len(motion) > 100 and motion.fps == 25
    assert 0.3 < states.expression.amax() <= 1.001 and states.expression.amin() >= -1e-6
    assert 0.1 < states.jaw[:, 0].amax() <= 0.36
    assert states.expression.diff(dim=0).abs().amax() < 0.6, "no jumps"
    fast = builtin_motion(name, head, fps=50.0)
    assert len(fast) == 2 * len(motion) - 1
    torch.testing.assert_close(fast.states.expression[::2], states.expression, atol=1e-5, rtol=0)


def test_the_range_shows_every_blendshape(head):
    expression = builtin_motion("range", head).states.expression
    assert bool((expression.amax(0) > 0.95).all())


# -- captures ----------------------------------------------------------------------------------------------------


def test_a_captures_motion_keeps_its_cameras(capture, tiny_head):
    motion = motion_of_capture(capture, tiny_head)
    assert torch.equal(motion.states.jaw, capture.track.jaw)
    assert motion.cameras is not None and motion.cameras[3] is capture.frames[3].camera
    assert motion.images is None and motion.fps == 25


def test_timesteps_without_a_frame_take_the_nearest_camera(capture, tiny_head, camera):
    other = replace(camera, cx=1.0)
    frames = tuple(replace(f, camera=other) if f.timestep == 7 else f for f in capture.frames if f.timestep != 6)
    capture = replace(capture, frames=frames)
    motion = motion_of_capture(capture, tiny_head)
    assert motion.cameras is not None and [c.cx for c in motion.cameras[-3:]] == [8.0, 8.0, 1.0]


def test_a_torn_head_shows_the_nearest_frame(capture, tiny_head):
    expression = capture.track.expression.clone()
    expression[3] = 9e4
    torn = replace(capture, track=replace(capture.track, expression=expression))
    motion = motion_of_capture(torn, tiny_head)
    expected = capture.track.expression[[0, 1, 2, 2, 4, 5, 6, 7]]
    torch.testing.assert_close(motion.states.expression, expected)
    assert len(motion) == len(capture.track) and "torn in 1 of 8 frames" in " ".join(motion.notes)


def test_a_capture_whose_images_are_all_equal_drives_but_is_not_trained_on(capture, tiny_head, head_file, tmp_path):
    images = ((np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)) for _ in capture.frames)
    write_vhap(tmp_path / "subject", capture, tiny_head, images)
    with pytest.raises(InputError, match="all training images are also test"):
        load_capture(tmp_path / "subject")
    motion = load_motion(tmp_path / "subject", tiny_head)
    torch.testing.assert_close(motion.states.jaw, capture.track.jaw)


def test_a_capture_of_an_unknown_head_model_is_refused(capture, tiny_head):
    stranger = replace(capture, head_model=HeadModelRef("other", "0123456789abcdef"))
    for model in (tiny_head, load_open_head()):
        with pytest.raises(InputError, match="head model of this capture is not known"):
            motion_of_capture(stranger, model)


def test_expressions_of_another_head_model_are_carried_over_by_name(capture, tiny_head, head_arrays, tmp_path):
    order = [2, 0, 3, 1]
    identity, expression = np.split(head_arrays["shapedirs"], [3], axis=-1)
    other = head_arrays | {
        "shapedirs": np.concatenate([identity, expression[..., order]], -1),
        "expr_names": head_arrays["expr_names"][order],
        "name": np.array("other"),
    }
    np.savez(tmp_path / "other.npz", **other)
    theirs = load_head_model(tmp_path / "other.npz")
    shuffled = replace(capture.track, expression=capture.track.expression[:, order])
    stranger = replace(capture, track=shuffled, head_model=HeadModelRef("other", theirs.fingerprint))
    motion = motion_of_capture(stranger, tiny_head, source_head_model=tmp_path / "other.npz")
    own = motion_of_capture(capture, tiny_head)
    torch.testing.assert_close(motion.states.expression, own.states.expression)
    torch.testing.assert_close(motion.neutral.expression, own.neutral.expression)
    torch.testing.assert_close(motion.skulls.moving, own.skulls.moving)
    assert motion.notes == ("expressions of other are mapped to tiny",) and own.notes == ()


def test_a_long_motion_is_never_posed_at_once(capture, tiny_head, monkeypatch):
    """The vertices of an hour of frames would take tens of gigabytes."""
    posed, pose = [], ShapedHead.pose
    monkeypatch.setattr(ShapedHead, "pose", lambda head, states: posed.append(states.batch_shape) or pose(head, states))
    long = replace(capture, track=capture.track[torch.arange(500) % len(capture.track)])
    long = replace(long, frames=tuple(replace(capture.frames[0], timestep=t) for t in range(500)))
    assert len(motion_of_capture(long, tiny_head).skulls.moving) == 500
    assert all(shape == () or shape[0] <= 16 for shape in posed)
