"""Where motion comes from: channels, keyframes, recordings, performances and captures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.capture.capture import HeadModelRef
from partnerface_ns.driving.fitted_directions import fitted_directions
from partnerface_ns.driving.keyframes import read_keyframes
from partnerface_ns.driving.livelink import read_livelink
from partnerface_ns.driving.motion import load_motion, motion_of_capture, performance
from partnerface_ns.driving.performances import PERFORMANCES
from partnerface_ns.driving.rig import Rig, arkit_names
from partnerface_ns.errors import SubjectError
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.geometry.rigid import rotation_from_axis_angle


def one(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array([0.0, value]) for name, value in values.items()}


@pytest.fixture(scope="session")
def head():
    return load_open_head()


# -- channels ----------------------------------------------------------------------------------------------------


def test_names_move_what_they_say(head):
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
    with pytest.raises(SubjectError) as error:
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
    moved = other.expression_dirs @ fitted_directions(head, other).T
    face = (head.regions["face"] > 0.5) & (head.regions["eyeballs"] < 0.5) & (head.regions["inside_mouth"] < 0.5)
    for name in ("mouthSmileLeft", "browInnerUp", "eyeBlinkRight", "mouthPucker"):
        i = head.expression_names.index(name)
        expected = larger * head.expression_dirs[face][..., i]
        error = (moved[face][..., i] - expected).norm() / expected.norm()
        assert error < 0.15, (name, error)
    smile = Rig(other).states(one(mouthSmileLeft=1.0), "test")
    assert smile.expression[1].norm() > 0.5


# -- keyframes ---------------------------------------------------------------------------------------------------


def test_keyframes_are_met_smoothly_without_overshoot(tmp_path):
    file = tmp_path / "keys.json"
    keys = [{"time": 0, "jaw": 0}, {"time": 1, "jaw": 0.3, "yaw": 0.2}, {"time": 2, "jaw": 0.3}]
    file.write_text(json.dumps({"keyframes": keys}))
    channels, fps = read_keyframes(file, 10.0)
    assert fps == 10.0 and len(channels["jaw"]) == 21
    np.testing.assert_allclose(channels["jaw"][[0, 10, 20]], [0, 0.3, 0.3], atol=1e-9)
    assert (np.diff(channels["jaw"]) >= -1e-12).all() and channels["jaw"].max() <= 0.3
    assert np.diff(channels["jaw"])[0] < 0.5 * np.diff(channels["jaw"])[5], "it starts gently"
    np.testing.assert_allclose(channels["yaw"], 0.2)


def test_a_csv_of_keyframes_says_the_same_as_json(tmp_path, head):
    (tmp_path / "keys.json").write_text(
        json.dumps(
            {"keyframes": [{"time": 0, "mouthSmile": 0.1}, {"time": 0.4, "jaw": 0.2}, {"time": 1, "mouthSmile": 1}]}
        )
    )
    (tmp_path / "keys.csv").write_text("Time, jaw ,mouthSmile\n0,,0.1\n0.4,0.2,\n\n1,,1\n")
    motions = [load_motion(tmp_path / name, head) for name in ("keys.json", "keys.csv")]
    assert len(motions[0]) == 26 and motions[0].fps == 25
    assert torch.equal(motions[0].states.expression, motions[1].states.expression)
    assert torch.equal(motions[0].states.jaw, motions[1].states.jaw)
    assert not motions[0].neutral.expression.any(), "keyframes start from rest"


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("k.json", "{", "k.json"),
        ("k.json", '{"keys": []}', "keyframes"),
        ("k.json", '{"keyframes": [{"time": 0, "jaw": "wide"}]}', "keyframes[0].jaw"),
        ("k.json", '{"keyframes": [{"jaw": 1}]}', "keyframes[0].time"),
        ("k.json", '{"keyframes": [{"time": 1, "jaw": 1}, {"time": 1, "jaw": 1}]}', "keyframe 1"),
        ("k.json", '{"keyframes": [{"time": 1e5, "jaw": 1}]}', "keyframe 0"),
        ("k.json", '{"keyframes": [{"time": 1}]}', "no keyframes"),
        ("k.csv", "time,jaw\n0,1\n1,wide\n", "line 3, jaw"),
        ("k.csv", "time,jaw\n0,1\n1\n", "line 3"),
        ("k.csv", "time,jaw\n", "no rows"),
        ("k.csv", "time,jaw\n,1\n", "keyframe 0"),
        ("k.csv", "time,jaw\n0,nan\n", "line 2, jaw"),
    ],
)
def test_wrong_keyframes_are_refused(tmp_path, name, content, where):
    (tmp_path / name).write_text(content)
    with pytest.raises(SubjectError) as error:
        read_keyframes(tmp_path / name, 25.0)
    assert where in str(error.value)


# -- recordings --------------------------------------------------------------------------------------------------


def write_recording(path: Path, names: list[str], rows: np.ndarray, timecodes: list[str] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(["Timecode", "BlendshapeCount"] if timecodes else []), *names])
        for i, row in enumerate(rows):
            writer.writerow([*([timecodes[i], len(names)] if timecodes else []), *row])
    return path


def capitalised(names) -> list[str]:
    return [name[0].upper() + name[1:] for name in names]


def test_a_live_link_file_of_61_columns(tmp_path, head):
    rng = np.random.default_rng(0)
    names = [*capitalised(arkit_names()), "HeadYaw", "HeadPitch", "HeadRoll"]
    names += [f"{side}Eye{angle}" for side in ("Left", "Right") for angle in ("Yaw", "Pitch", "Roll")]
    assert len(names) == 61
    order = rng.permutation(61)
    values = rng.uniform(0, 1, (120, 61)) * 0.3
    timecodes = [f"10:00:{i // 30:02d}:{i % 30:02d}.125" for i in range(120)]
    file = write_recording(tmp_path / "take.csv", [names[i] for i in order], values[:, order], timecodes)
    recorded = read_livelink(file)
    assert recorded.fps == 30 and recorded.notes == ()
    np.testing.assert_allclose(recorded.channels["mouthPucker"], values[:, names.index("MouthPucker")])
    np.testing.assert_allclose(recorded.channels["yaw"], values[:, names.index("HeadYaw")])
    motion = load_motion(file, head)
    assert motion.fps == 30 and len(motion) == 120
    assert load_motion(file, head, fps=12.5).fps == 12.5
    assert motion.neutral.expression.any(), "a recording's neutral is measured"


@pytest.mark.parametrize(
    ("times", "fps"),
    [
        ([f"{i // 30:02d}:{i % 30:02d}.5" for i in range(20, 60)], 30),
        ([f"{i // 60:02d}:{i // 2 % 30:02d}.{i % 2}" for i in range(40, 110)], 60),
        ([f"{i // 30:02d}:{i % 30:02d}.5" for i in range(20)], 60),
        ([f"{i // 60:02d}.{1000 * (i % 60) // 60:03d}" for i in range(110)], 60),
    ],
    ids=["frames", "two rows a frame", "within a second", "milliseconds"],
)
def test_the_rate_of_a_short_recording(tmp_path, times, fps):
    """Without a new second or frames there is nothing to tell by."""
    timecodes, num = [f"10:00:{time}" for time in times], len(times)
    names = capitalised(arkit_names())
    assert read_livelink(write_recording(tmp_path / "t.csv", names, np.zeros((num, 52)), timecodes)).fps == fps


def test_missing_columns_stay_at_rest_and_are_told(tmp_path):
    names = [name for name in arkit_names() if not name.startswith("brow")]
    recorded = read_livelink(write_recording(tmp_path / "take.csv", names, np.zeros((3, len(names)))))
    assert recorded.fps == 60 and len(recorded.channels) == 47
    assert "browInnerUp" in recorded.notes[0]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("a,b\n1,2\n", "0 of them among 2 columns"),
        ("", "is empty"),
        ("a,b\n1\n", "line 2"),
        ("a,b\n", "a header of 2 columns alone"),
        ("a;b\n1,5;2\n", "separated by semicolons"),
        ('{"keyframes": []}\n', "holds JSON"),
        (",".join(capitalised(arkit_names())) + "\n" + ",".join(["0"] * 51 + ["x"]) + "\n", "line 2, TongueOut"),
    ],
)
def test_wrong_recordings_are_refused(tmp_path, head, content, where):
    (tmp_path / "take.csv").write_text(content)
    with pytest.raises(SubjectError) as error:
        load_motion(tmp_path / "take.csv", head)
    assert where in str(error.value)


def test_what_is_no_motion_is_refused(tmp_path, head):
    (tmp_path / "talk.mp4").write_bytes(b"x")
    with pytest.raises(SubjectError, match="partnerface track"):
        load_motion(tmp_path / "talk.mp4", head)
    with pytest.raises(SubjectError, match="no motion here"):
        load_motion(tmp_path / "none.csv", head)


# -- performances ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PERFORMANCES)
def test_performances_move_and_stay_within_reason(head, name):
    motion = performance(name, head)
    states = motion.states
    assert len(motion) > 100 and motion.fps == 25
    assert 0.3 < states.expression.amax() <= 1.001 and states.expression.amin() >= -1e-6
    assert 0.1 < states.jaw[:, 0].amax() <= 0.36
    assert states.expression.diff(dim=0).abs().amax() < 0.6, "no jumps"
    fast = performance(name, head, fps=50.0)
    assert len(fast) == 2 * len(motion) - 1
    torch.testing.assert_close(fast.states.expression[::2], states.expression, atol=1e-5, rtol=0)


def test_the_range_shows_every_blendshape(head):
    expression = performance("range", head).states.expression
    assert bool((expression.amax(0) > 0.95).all())


# -- captures ----------------------------------------------------------------------------------------------------


def test_a_captures_motion_keeps_its_cameras(capture, tiny_head):
    motion = motion_of_capture(capture, tiny_head)
    assert torch.equal(motion.states.jaw, capture.track.jaw)
    assert motion.cameras is not None and motion.cameras[3] is capture.frames[3].camera
    assert motion.pictures is None and motion.fps == 25


def test_moments_without_a_frame_take_the_nearest_camera(capture, tiny_head, camera):
    other = replace(camera, cx=1.0)
    frames = tuple(replace(f, camera=other) if f.timestep == 7 else f for f in capture.frames if f.timestep != 6)
    capture = replace(capture, frames=frames)
    motion = motion_of_capture(capture, tiny_head)
    assert motion.cameras is not None and [c.cx for c in motion.cameras[-3:]] == [8.0, 8.0, 1.0]


def test_a_capture_of_an_unknown_head_model_is_refused(capture, tiny_head):
    stranger = replace(capture, head_model=HeadModelRef("other", "0123456789abcdef"))
    for model in (tiny_head, load_open_head()):
        with pytest.raises(SubjectError, match="head model of this capture is not known"):
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
    assert motion.notes == ("Expressions of other are carried over to tiny.",) and own.notes == ()
