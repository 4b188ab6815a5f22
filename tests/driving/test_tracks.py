"""Head states in one file drive an avatar again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.capture_motion import motion_of_capture
from partnerface_ns.driving.export import export_track
from partnerface_ns.driving.load import load_motion
from partnerface_ns.driving.output import write_plan
from partnerface_ns.driving.plan import PlanConfig, make_plan
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.state import HeadState


def assert_same(found: HeadState, expected: HeadState, atol: float = 1e-5) -> None:
    for name, value in expected.tensors().items():
        torch.testing.assert_close(getattr(found, name), value, atol=atol, rtol=1e-5)


@pytest.fixture
def plan(player, capture, tiny_head):
    motion = replace(motion_of_capture(capture, tiny_head), fps=30.0)
    return make_plan(player, motion, PlanConfig(clamp=False))


@pytest.mark.parametrize("name", ["track.csv", "track.npz"])
def test_an_exported_track_gives_the_same_head_states(name, player, plan, tiny_head, tmp_path):
    export_track(tmp_path, player, plan.states, plan.fps)
    motion = load_motion(tmp_path / name, tiny_head)
    assert motion.fps == 30 and motion.notes == ("8 frames, 0.27 s at 30 fps (stated by the file)",)
    assert_same(make_plan(player, motion, PlanConfig(clamp=False)).states, plan.states)
    absolute = make_plan(player, motion, PlanConfig(transfer="absolute", clamp=False))
    assert_same(absolute.states, plan.states)


def test_a_table_without_its_neutral_is_read_by_a_measured_one(player, plan, tiny_head, tmp_path):
    export_track(tmp_path, player, plan.states, plan.fps)
    (tmp_path / "neutral.csv").unlink()
    motion = load_motion(tmp_path / "track.csv", tiny_head)
    assert "the neutral face is measured from the frames" in motion.notes
    torch.testing.assert_close(motion.states.jaw, plan.states.jaw, atol=1e-5, rtol=1e-5)


def test_an_npz_of_drive_can_drive_again(player, plan, tiny_head, tmp_path):
    write_plan(tmp_path / "out.npz", player, plan)
    motion = load_motion(tmp_path / "out.npz", tiny_head)
    assert motion.fps == 30
    torch.testing.assert_close(motion.states.jaw, plan.states.jaw)


def flame_param(states: HeadState, **others: np.ndarray) -> dict[str, np.ndarray]:
    names = {"expression": "expr", "rotation": "rotation", "neck": "neck_pose", "jaw": "jaw_pose", "eyes": "eyes_pose"}
    arrays = {key: getattr(states, field).numpy() for field, key in names.items()}
    return arrays | {"translation": states.translation.numpy(), "shape": np.zeros(300), **others}


def test_flame_parameters_over_time_are_read(capture, tiny_head, tmp_path):
    np.savez(tmp_path / "flame_param.npz", **flame_param(capture.track))
    motion = load_motion(tmp_path / "flame_param.npz", tiny_head)
    assert_same(motion.states, capture.track, atol=0)
    said = " ".join(motion.notes)
    assert motion.fps == 25 and "--fps sets it" in said and "names no head model" in said
    assert load_motion(tmp_path / "flame_param.npz", tiny_head, fps=60.0).fps == 60


def test_parts_that_are_not_there_are_at_rest(capture, tiny_head, tmp_path):
    np.savez(tmp_path / "speech.npz", expr=capture.track.expression.numpy(), jaw_pose=capture.track.jaw.numpy())
    motion = load_motion(tmp_path / "speech.npz", tiny_head)
    assert not motion.states.eyes.any() and "rotation, neck, eyes, translation" in " ".join(motion.notes)


def test_coefficients_of_a_named_head_model_are_carried_over(capture, tiny_head, head_arrays, tmp_path):
    order = [2, 0, 3, 1]
    identity, expression = np.split(head_arrays["shapedirs"], [3], axis=-1)
    np.savez(
        tmp_path / "other.npz",
        **head_arrays
        | {
            "shapedirs": np.concatenate([identity, expression[..., order]], -1),
            "expr_names": head_arrays["expr_names"][order],
            "name": np.array("other"),
        },
    )
    assert load_head_model(tmp_path / "other.npz").fingerprint != tiny_head.fingerprint
    theirs = replace(capture.track, expression=capture.track.expression[:, order])
    np.savez(tmp_path / "track.npz", **flame_param(theirs))
    motion = load_motion(tmp_path / "track.npz", tiny_head, source_head_model=tmp_path / "other.npz")
    assert_same(motion.states, capture.track)
    assert "expressions of other are mapped to tiny" in motion.notes


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"expr": np.zeros((8, 10))}, "--source-head-model FILE"),
        ({"expr": np.zeros(8)}, "[expr]: wrong shape"),
        ({"jaw_pose": np.zeros((7, 3))}, "[jaw_pose]: wrong shape"),
        ({"jaw_pose": np.zeros((8, 4))}, "[jaw_pose]: wrong shape"),
        ({"rotation": np.full((8, 3), 20.0)}, "[rotation]: a rotation exceeds a full turn"),
        ({"expr": np.full((8, 4), np.nan)}, "[expr]"),
        ({"fps": np.array(0.0)}, "[fps]"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(change, where, capture, tiny_head, tmp_path):
    np.savez(tmp_path / "t.npz", **flame_param(capture.track) | change)
    with pytest.raises(InputError) as error:
        load_motion(tmp_path / "t.npz", tiny_head)
    assert where in str(error.value)


def test_an_npz_of_something_else_is_refused(tiny_head, tmp_path):
    np.savez(tmp_path / "t.npz", poses=np.zeros((8, 165)))
    with pytest.raises(InputError, match="no head states in this file"):
        load_motion(tmp_path / "t.npz", tiny_head)
