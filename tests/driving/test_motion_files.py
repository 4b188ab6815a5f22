"""Motion files of many programs: each is read as the same motion at the same times, or refused with a message."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from driving.recordings import FPS, HEAD, NAMES, NUM, TIMES, rows, text, timecode, turns, weights, write

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.load import load_motion
from partnerface_ns.driving.motion import Motion
from partnerface_ns.flame.open_head import load_open_head


@pytest.fixture(scope="module")
def head():
    return load_open_head()


@pytest.fixture(scope="module")
def plain(head, tmp_path_factory) -> Motion:
    return load_motion(write(tmp_path_factory.mktemp("plain") / "plain.csv", text()), head)


def values(motion: Motion) -> np.ndarray:
    return torch.cat([motion.states.expression, motion.states.full_pose], -1).numpy()


def furthest(motion: Motion, plain: Motion, delay: float = 0.0) -> float:
    """The largest difference to the plain recording at the same time, as a share of each value's range."""
    own, times = values(plain), np.arange(len(motion)) / motion.fps + delay
    expected = np.stack([np.interp(times, np.arange(len(plain)) / plain.fps, curve) for curve in own.T], 1)
    span = np.ptp(own, axis=0)
    moving = span > 1e-3
    return float((np.abs(values(motion) - expected) / np.maximum(span, 1e-6))[:, moving].max())


def lower(name: str) -> str:
    return name[0].lower() + name[1:]


def underscored(name: str) -> str:
    return re.sub("(Left|Right)$", lambda side: "_" + side[1][0], lower(name))


def snake(name: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


DECIMAL = [[cell.replace(".", ",") for cell in row] for row in rows()]
BARE = [*NAMES, *HEAD]
MIDNIGHT = ("23:59:59", "00:00:00", "00:00:01")
SAME = {
    "semicolons": text(separator=";"),
    "tabs": text(separator="\t"),
    "bars": text(separator="|"),
    "blanks": text(separator="  ", names=[underscored(n) for n in BARE]),
    "decimal commas": text(body=DECIMAL, separator=";"),
    "quoted decimal commas": text(body=DECIMAL, cell=lambda cell: f'"{cell}"'),
    "UTF-16": text().encode("utf-16"),
    "UTF-16 without a mark": text().encode("utf-16-be"),
    "UTF-32": text().encode("utf-32"),
    "another code page": ("# Zoë\n" + text()).encode("cp1252"),
    "a separator at the end of rows": text().replace("\n", ",\n").replace(",\n", "\n", 1),
    "comments": "# a phone\n// subject A\n\n" + text() + "# the end\n",
    "a title": "MySlate 3\n" + text(),
    "sep=": "sep=;\n" + text(separator=";"),
    "a commented header": "# " + text(clock="time_ms", cells=[f"{1000 * t:.3f}" for t in TIMES]),
    "percent": text(body=rows(weight=100)),
    "percent signs": text(body=[[f"{100 * float(c):.4f}%" for c in row[:52]] + row[52:] for row in rows()]),
    "degree signs": text(body=[row[:52] + [f"{np.degrees(float(c)):.5f}°" for c in row[52:]] for row in rows()]),
    "units after decimal commas": text(
        body=[
            [f"{100 * float(c):.4f} %".replace(".", ",") for c in row[:52]]
            + [f"{np.degrees(float(c)):.5f} °".replace(".", ",") for c in row[52:]]
            for row in rows()
        ],
        separator=";",
    ),
    "head in degrees": text(body=rows(turn=180 / np.pi)),
    "head in named degrees": text(names=[*NAMES, *(f"{n} (deg)" for n in HEAD)], body=rows(turn=180 / np.pi)),
    "milliseconds": text(clock="timestamp_ms", cells=[f"{1000 * t:.0f}" for t in TIMES]),
    "milliseconds without a unit": text(clock="Timestamp", cells=[f"{1000 * t + 5e6:.2f}" for t in TIMES]),
    "nanoseconds": text(clock="timestamp", cells=[f"{1.7e18 + 1e9 * t:.0f}" for t in TIMES]),
    "since 1970": text(clock="timestamp", cells=[f"{1717000000 + t:.4f}" for t in TIMES]),
    "time since 1970": text(clock="time", cells=[f"{1717000000 + t:.4f}" for t in TIMES]),
    "whole seconds": text(clock="timestamp", cells=[f"{1717000000 + int(t + 1e-6)}" for t in TIMES]),
    "dates": text(clock="DateTime", cells=[f"2024-05-31T23:59:5{7 + t:.4f}Z" for t in TIMES]),
    "timecode of milliseconds": text(cells=[f"00:00:{int(t + 1e-6):02d}:{round(1000 * t) % 1000:03d}" for t in TIMES]),
    "timecode with a fraction": text(cells=[f"00:00:{t:06.3f}" for t in TIMES]),
    "timecode without hours": text(cells=[timecode(t)[3:-4] for t in TIMES]),
    "timecode without frames": text(cells=[timecode(t)[:8] for t in TIMES]),
    "midnight": text(cells=[f"{MIDNIGHT[int(t + 1e-6)]}:{round(t * FPS) % FPS:02d}.000" for t in TIMES]),
    "timecode seconds": text(clock="timeCode", cells=[f"{t:.5f}" for t in TIMES]),
    "_L and _R": text(names=[underscored(n) for n in BARE]),
    "snake case": text(names=[snake(n) for n in BARE]),
    "capitals": text(names=[n.upper() for n in BARE]),
    "a prefix": text(names=[f"blendShapes.{n}" for n in BARE]),
    "another prefix": text(names=[f"face_ctl:{n}" for n in BARE]),
    "more columns": "\n".join(f"{i}," + line for i, line in enumerate(text().splitlines())).replace("0,", ",", 1),
    "JSON": json.dumps(
        {"fps": 30, "frames": [dict(zip(map(lower, BARE), map(float, row), strict=True)) for row in rows()]}
    ),
    "JSON of names and rows": json.dumps(
        {"exportFps": 30.0, "facsNames": BARE, "weightMat": [list(map(float, row)) for row in rows()]}
    ),
    "JSON of columns": json.dumps(
        {"info": {"frameRate": 30}, "curves": {n: [float(row[i]) for row in rows()] for i, n in enumerate(BARE)}}
    ),
    "JSON with times": json.dumps(
        [
            {"time": float(t), "blendShapes": dict(zip(BARE, map(float, row), strict=True))}
            for t, row in zip(TIMES, rows(), strict=True)
        ]
    ),
    "JSON of categories": json.dumps(
        [
            {
                "timestamp_ms": round(1000 * float(t)),
                "faceBlendshapes": [
                    {
                        "categories": [
                            {"index": i, "score": float(v), "categoryName": n}
                            for i, (n, v) in enumerate(zip(BARE, row, strict=True))
                        ]
                    }
                ],
            }
            for t, row in zip(TIMES, rows(), strict=True)
        ]
    ),
    "JSON lines": "\n".join(
        json.dumps({"timestamp": float(t)} | dict(zip(BARE, map(float, row), strict=True)))
        for t, row in zip(TIMES, rows(), strict=True)
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_files_of_other_programs_give_the_same_motion(name, head, plain, tmp_path):
    motion = load_motion(write(tmp_path / "motion.txt", SAME[name]), head)
    assert motion.fps == FPS and len(motion) == NUM, motion.notes
    assert furthest(motion, plain) < 0.01, motion.notes
    assert f"{NUM} rows, 3.00 s at 30 fps" in motion.notes[0]


def test_rows_are_shown_at_their_own_times(head, plain, tmp_path):
    """Rows are missing, repeated, out of order, and at uneven times."""
    body, codes = np.array(rows()), np.array([timecode(t) for t in TIMES])
    dropped = np.array([i for i in range(NUM) if i % 7 != 3])
    doubled = np.sort(np.concatenate([np.arange(NUM), np.arange(0, NUM, 3)]))
    shuffled = np.random.default_rng(0).permutation(NUM)
    for order, said in (
        (dropped, "s without rows (13 pauses) are interpolated"),
        (doubled, "30 rows repeat an earlier time"),
        (shuffled, "rows are not in order of time"),
    ):
        motion = load_motion(write(tmp_path / "t.csv", text(cells=codes[order], body=body[order])), head)
        assert len(motion) == NUM and motion.fps == FPS
        assert furthest(motion, plain) < 0.05
        assert any(said in note for note in motion.notes), motion.notes
    uneven = TIMES + np.random.default_rng(1).uniform(0, 0.3 / FPS, NUM)
    uneven[0] = 0
    content = text(clock="timestamp", cells=[f"{t:.4f}" for t in uneven], body=rows(uneven))
    assert furthest(load_motion(write(tmp_path / "t.csv", content), head), plain) < 0.05


def test_a_pause_keeps_its_length(head, plain, tmp_path):
    kept = [*range(30), *range(60, NUM)]
    content = text(cells=[timecode(TIMES[i]) for i in kept], body=[rows()[i] for i in kept])
    motion = load_motion(write(tmp_path / "t.csv", content), head)
    assert len(motion) == NUM and "1.00 s without rows" in " ".join(motion.notes)
    after = replace(motion, states=motion.states[60:])
    assert furthest(after, plain, delay=2.0) < 0.01


@pytest.mark.parametrize("lost", ["nan", "", "NaN", "-nan(ind)", "#N/A", None])
def test_a_lost_face_is_filled_from_both_sides(lost, head, plain, tmp_path):
    """Also by rows that are short, as Live Link Face writes them."""
    body = rows()
    for i in range(40, 50):
        body[i] = [] if lost is None else [lost] * len(body[i])
    motion = load_motion(write(tmp_path / "t.csv", text(body=body)), head)
    assert "10 rows without a face (the first is line 42) are interpolated" in " ".join(motion.notes)
    between, own = values(motion)[40:50], values(plain)
    assert (between <= np.maximum(own[39], own[50]) + 1e-5).all() and (
        between >= np.minimum(own[39], own[50]) - 1e-5
    ).all()
    np.testing.assert_allclose(values(motion)[:40], own[:40], atol=1e-5)


def test_a_row_that_counts_no_blendshapes_is_a_lost_face(head, plain, tmp_path):
    body = [["52", *row] for row in rows()]
    body[20] = ["0"] * len(body[0])
    motion = load_motion(write(tmp_path / "t.csv", text(body=body, names=["BlendshapeCount", *NAMES, *HEAD])), head)
    assert furthest(motion, plain) < 0.05


def test_a_last_row_that_breaks_off_is_left_out(head, plain, tmp_path):
    motion = load_motion(write(tmp_path / "t.csv", text()[:-200]), head)
    assert len(motion) == NUM - 1 and furthest(motion, plain) < 0.01
    assert "line 91 is incomplete" in " ".join(motion.notes)


@pytest.mark.parametrize(
    ("times", "fps"),
    [
        ([f"{i // 60:02d}:{i // 2 % 30:02d}.{'05'[i % 2]}" for i in range(40, 110)], 60),
        ([f"{i // 60:02d}:{i // 2 % 30:02d}" for i in range(120)], 60),
        ([f"{i // 60:02d}:{i % 60:02d}" for i in range(0, 120, 2)], 30),
        ([f"{i // 120:02d}:{i % 120:03d}" for i in range(300)], 120),
        ([f"{i // 15:02d}:{i % 15:02d}" for i in range(60)], 15),
        ([f"{i // 30:02d};{i % 30:02d}" for i in range(60)], 30000 / 1001),
        ([f"{i // 60:02d}.{1000 * (i % 60) // 60:03d}" for i in range(110)], 60),
    ],
    ids=["two rows a frame", "two rows a code", "every other frame", "120", "15", "drop-frame", "milliseconds"],
)
def test_the_rate_of_timecodes(times, fps, head, tmp_path):
    codes, num = [f"10:00:{time}" for time in times], len(times)
    motion = load_motion(write(tmp_path / "t.csv", text(cells=codes, body=rows(np.arange(num) / 30))), head)
    assert motion.fps == pytest.approx(fps) and len(motion) == num


@pytest.mark.parametrize("clock", ["Timecode", "Frame", None])
def test_an_unknown_rate_is_reported(clock, head, tmp_path):
    """Frame numbers, also within one second of a timecode, do not say how long a frame lasts."""
    cells = [timecode(t) if clock == "Timecode" else str(7 + i) for i, t in enumerate(TIMES[:15])]
    file = write(tmp_path / "t.csv", text(clock=clock, cells=cells, body=rows()[:15]))
    motion = load_motion(file, head)
    assert motion.fps == 60 and len(motion) == 15 and "the rate is assumed; --fps sets it" in motion.notes[0]
    slower = load_motion(file, head, fps=24.0)
    assert slower.fps == 24 and len(slower) == 15 and "the rate is set by --fps" in slower.notes[0]


def test_a_rate_in_a_comment_is_read(head, tmp_path):
    motion = load_motion(write(tmp_path / "t.csv", "# fps: 24\n" + text(clock=None)), head)
    assert motion.fps == 24 and len(motion) == NUM and "the rate is stated by the file" in motion.notes[0]


def test_another_rate_changes_no_times(head, plain, tmp_path):
    motion = load_motion(write(tmp_path / "t.csv", text()), head, fps=50.0)
    assert motion.fps == 50 and len(motion) == 149
    assert furthest(motion, plain) < 0.01


def test_few_columns_beside_a_clock_are_a_recording(head, tmp_path):
    names = ["JawOpen", "MouthSmileLeft", "Subject"]
    content = text(names=names, body=[[row[NAMES.index("JawOpen")], "0.5", "A"] for row in rows()])
    motion = load_motion(write(tmp_path / "t.csv", content), head)
    assert len(motion) == NUM and motion.states.jaw[:, 0].max() > 0.05
    said = " ".join(motion.notes)
    assert "stay at rest: browDownLeft" in said and "not used: Subject" in said


def test_a_weight_a_little_above_one_is_no_other_unit(head, plain, tmp_path):
    motion = load_motion(write(tmp_path / "t.csv", text(body=rows(weight=1.8))), head)
    index = head.expression_names.index("mouthPucker")
    expected = 1.8 * plain.states.expression[:, index]
    torch.testing.assert_close(motion.states.expression[:, index], expected, atol=1e-5, rtol=0)


def one_stray_weight() -> list[list[str]]:
    body = rows()
    body[11][3] = "37.0"
    return body


REFUSED = {
    "255": (text(body=rows(weight=255)), "expected: 0 to 1, or 0 to 100"),
    "a stray weight": (text(body=one_stray_weight()), "line 13, BrowOuterUpLeft"),
    "an unknown unit": (text(body=rows(weight=5)), "the unit of the weights is ambiguous"),
    "a column twice": (
        text(names=[*NAMES, *HEAD, "jawOpen"], body=[[*row, "0"] for row in rows()]),
        "columns 26 (JawOpen) and 57 (jawOpen)",
    ),
    "two recordings": (
        text(cells=[timecode(t) for t in TIMES] * 2, body=rows() * 2),
        "line 92]: the clock starts again",
    ),
    "a long pause": (
        text(clock="timestamp", cells=[f"{t + 900 * (t > 1):.3f}" for t in TIMES]),
        "line 32 to line 33]: a pause is too long",
    ),
    "a row too long": (text().replace("\n10:00:01:00.000,", "\n10:00:01:00.000,0,"), "line 32"),
    "words": (text().replace("\n10:00:01:00.000,0.", "\n10:00:01:00.000,x"), "line 32, BrowDownLeft"),
    "infinity": (text(body=[["inf", *row[1:]] for row in rows()]), "line 2, BrowDownLeft"),
    "no values": (text(body=[["nan"] * 55] * 5), "no values"),
    "nothing": ("", "is empty"),
    "a header alone": (text(body=[]), "only a header of 56 columns"),
    "other columns": ("a,b\n1,2\n", "0 of them among 2 columns: a, b"),
    "JSON of rows": (json.dumps([[0.1] * 52] * 5), "rows of numbers without names"),
    "JSON of rows under a key": (json.dumps({"BlendShapes": [[0.1] * 55] * 5}), "rows of numbers without names"),
    "another program's text": ("HIERARCHY\nROOT Hips\n{\n}\n", "line 2]: not a table"),
    "JSON of something else": ('{"a": [1, 2]}', "names and rows"),
    "JSON of short rows": (json.dumps({"names": NAMES, "rows": [[0.1] * 51] * 5}), "row 0]: a row has another length"),
    "JSON of an impossible rate": (json.dumps({"fps": 0, "frames": [{"jawOpen": 1}]}), "[fps]"),
    "broken JSON": ('{"frames": [', "not a readable JSON file"),
    "no text": (b"\x00\x01\x02\x03" * 100 + b"\xff" * 8000, "not a motion file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unreadable_files_are_refused(name, head, tmp_path):
    content, where = REFUSED[name]
    with pytest.raises(InputError) as error:
        load_motion(write(tmp_path / "take.csv", content), head)
    assert where in str(error.value)


def test_files_of_other_kinds_are_refused(head, tmp_path):
    for name, said in (
        ("talk.mp4", "partnerface track"),
        ("speech.npy", "save the arrays by name"),
        ("take.xlsx", "save the sheet as CSV"),
    ):
        with pytest.raises(InputError, match=said):
            load_motion(write(tmp_path / name, b"PK\x03\x04" + b"\0" * 40), head)
    with pytest.raises(InputError, match="the motion does not exist"):
        load_motion(tmp_path / "none.csv", head)


# -- keyframes ---------------------------------------------------------------------------------------------------

KEYS = [{"time": 0, "mouthSmile": 0.1}, {"time": 0.4, "jaw": 0.2}, {"time": 1, "mouthSmile": 1}]


@pytest.mark.parametrize(
    "content",
    [
        "Time, jaw ,mouthSmile\n0,,0.1\n0.4,0.2,\n\n1,,1\n",
        "time;jaw;mouthSmile\n0;;0,1\n0,4;0,2;\n1;;1\n",
        '"time","jaw","mouthSmile"\n"0","","0.1"\n"0.4","0.2",""\n"1","","1"\n',
        "time (ms),jaw_deg,mouth_smile\n0,,10%\n400,11.459156,\n1000,,100%\n",
        "time,jaw,mouthSmile\n00:00:05.000,,0.1\n00:00:05.400,0.2,\n00:00:06.000,,1\n",
        json.dumps(KEYS),
    ],
    ids=["commas", "semicolons", "quotes", "named units", "timecodes", "a JSON list"],
)
def test_keyframes_are_read_however_they_are_written(content, head, tmp_path):
    expected = load_motion(write(tmp_path / "keys.json", json.dumps({"keyframes": KEYS})), head)
    assert len(expected) == 26 and expected.fps == 25
    assert not expected.neutral.expression.any(), "keyframes start from rest"
    motion = load_motion(write(tmp_path / "keys.csv", content), head)
    np.testing.assert_allclose(values(motion), values(expected), atol=1e-5)
    assert motion.notes[0] == "3 keyframes over 1.00 s: 26 frames at 25 fps"


def test_keyframes_are_met_smoothly_without_overshoot(head, tmp_path):
    keys = [{"time": 0, "jaw": 0}, {"time": 1, "jaw": 0.3, "yaw": 0.2}, {"time": 2, "jaw": 0.3}]
    motion = load_motion(write(tmp_path / "k.json", json.dumps({"keyframes": keys})), head, fps=10.0)
    jaw = motion.states.jaw[:, 0].numpy()
    assert motion.fps == 10 and len(jaw) == 21
    np.testing.assert_allclose(jaw[[0, 10, 20]], [0, 0.3, 0.3], atol=1e-6)
    assert (np.diff(jaw) >= -1e-7).all() and jaw.max() <= 0.3 + 1e-6
    assert np.diff(jaw)[0] < 0.5 * np.diff(jaw)[5], "it starts gently"
    np.testing.assert_allclose((motion.states.rotation + motion.states.neck)[:, 1], 0.2, atol=1e-6)


def test_units_of_keyframes_are_inferred_and_said(head, tmp_path):
    degrees = load_motion(write(tmp_path / "k.csv", "time,yaw,jaw\n0,0,0\n1,20,12\n2,-20,0\n"), head)
    assert degrees.states.jaw[25, 0] == pytest.approx(np.radians(12), abs=1e-5)
    assert "angles up to 20 are read as degrees" in degrees.notes
    percent = load_motion(write(tmp_path / "k.csv", "time,mouthSmile,jawOpen\n0,0,0\n1,80,25\n2,10,0\n"), head)
    assert percent.states.expression.max() == pytest.approx(0.8, abs=1e-5)
    assert "weights up to 80 are read as percent" in percent.notes
    slow = load_motion(write(tmp_path / "k.csv", "time,jaw\n0,0\n800,0.2\n1500,0\n"), head)
    assert "over 1500.00 s" in slow.notes[0] and "up to 800 s apart, name the column time_ms" in slow.notes[0]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("{", "not a readable JSON file"),
        ('{"keyframes": [{"time": 0, "jaw": "wide"}]}', "keyframes[0].jaw"),
        ('{"keyframes": [{"jaw": 1}]}', "keyframes[0].time"),
        ('{"keyframes": [{"time": 1, "jaw": 1}, {"time": 1, "jaw": 1}]}', "keyframe 1"),
        ('{"keyframes": [{"time": 1e5, "jaw": 1}]}', "time_ms"),
        ('{"keyframes": [{"time": 1}]}', "no keyframes"),
        ('{"keyframes": [{"time": 0, "yaw": 20, "jaw": 0.2}]}', "keyframe 0, yaw]: an angle is beyond"),
        ('{"keyframes": [{"time": 0, "mouthGrin": 0.2}]}', "mouthGrin"),
        ("time,jaw\n0,1\n1,wide\n", "line 3, jaw"),
        ("time,jaw\n0,1\n1\n", "line 3"),
        ("time,jaw\n", "no rows"),
        ("time,jaw\n,1\n", "line 2]: a keyframe has no time"),
        ("time,yaw\n0,20000\n", "line 2, yaw"),
        ("time,jawOpen,jaw_open\n0,1,1\n", "columns jawOpen and jaw_open"),
    ],
)
def test_wrong_keyframes_are_refused(content, where, head, tmp_path):
    with pytest.raises(InputError) as error:
        load_motion(write(tmp_path / "k.csv", content), head)
    assert where in str(error.value)


def test_the_hint_names_the_angle_in_radians(head, tmp_path):
    with pytest.raises(InputError, match=r"20 degrees are 0\.35 radians"):
        load_motion(write(tmp_path / "k.csv", "time,yaw,jaw\n0,20,0.2\n"), head)


def test_a_recordings_neutral_is_measured(plain):
    assert plain.neutral.expression.any()


def test_the_recording_has_the_written_values(head, plain):
    pucker = plain.states.expression[:, head.expression_names.index("mouthPucker")]
    np.testing.assert_allclose(pucker, weights()[:, NAMES.index("MouthPucker")], atol=1e-5)
    assert float(plain.states.neck[:, 1].abs().max()) == pytest.approx(0.3 * np.abs(turns()[:, 0]).max(), rel=0.1)
