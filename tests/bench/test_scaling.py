"""What a step takes: settings are what they say, pieces are counted once, and the quick suite runs through."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from partnerface_ns.bench import scaling, variants
from partnerface_ns.bench.benchmark import Benchmark
from partnerface_ns.bench.pieces import PIECES, STEP, shares_of_pieces
from partnerface_ns.bench.scaling import StepCost, measure_pieces, measure_step_costs
from partnerface_ns.bench.tables import steps_table
from partnerface_ns.cli.bench import Bench
from partnerface_ns.common.errors import InputError
from partnerface_ns.demo.subject import make_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaling") / "subject"
    make_subject(folder, frames=10, size=32)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch, small_preset):
    monkeypatch.setattr(scaling, "lite", small_preset)
    for name, values in {"FRAMES": (5, 20), "SIZES": (16, 32), "PARTS": (2, 3)}.items():
        monkeypatch.setattr(scaling, name, values)
    for name, value in {"_SIZE": 32, "_NUM_PARTS": 2, "_WARM_UP": 1, "_MEASURED": 2}.items():
        monkeypatch.setattr(scaling, name, value)


def test_each_setting_is_trained_as_it_says(subject, monkeypatch):
    seen = []

    def noted(avatar, images, track, config):
        seen.append((len(images.frames), images.rgb[0].shape[0], avatar.config.num_parts))
        timesteps = {frame.timestep for frame in images.frames}
        assert timesteps == set(range(len(track))) and len(images.rgb) == len(images.boxes) == len(track)
        assert all(frame.camera.width == rgb.shape[1] for frame, rgb in zip(images.frames, images.rgb, strict=True))
        return steps(avatar, images, track, config)

    steps = scaling.run_steps
    monkeypatch.setattr(scaling, "run_steps", noted)
    costs = measure_step_costs(subject, "cpu")
    assert seen == [(5, 32, 2), (20, 32, 2), (5, 16, 2), (5, 32, 2), (5, 32, 2), (5, 32, 3)]
    assert [(c.changed, c.value) for c in costs] == [(k, v) for k in ("frames", "size", "parts") for v in of(k)]
    assert [c.ratio for c in costs[::2]] == [1.0, 1.0, 1.0] and all(c.milliseconds > 0 for c in costs)


def of(changed: str) -> tuple[int, ...]:
    return {"frames": scaling.FRAMES, "size": scaling.SIZES, "parts": scaling.PARTS}[changed]


def test_pieces_of_a_step_add_up(subject):
    pieces = measure_pieces(subject)
    assert sum(pieces.values()) == pytest.approx(1) and min(pieces.values()) > 0
    assert pieces.keys() == set(PIECES)


def event(name: str, start: float, end: float, thread: int = 1) -> SimpleNamespace:
    return SimpleNamespace(name=name, thread=thread, time_range=SimpleNamespace(start=start, end=end))


def test_time_within_a_nested_piece_counts_for_that_alone():
    events = [
        event("inverse skinning", 10, 40),
        event(STEP, 0, 100),
        event("ray sampling", 5, 50),
        event("aten::mul", 20, 30),
        event("inverse skinning", 60, 70),
        event("backward pass", 0, 100, thread=2),
    ]
    shares = shares_of_pieces(events)
    assert shares == pytest.approx(
        {STEP: 45 / 200, "ray sampling": 15 / 200, "inverse skinning": 40 / 200, "backward pass": 100 / 200}
    )


def test_the_quick_suite_says_everything_once(subject, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(
        Benchmark, "train_and_measure", lambda self: done.append((self.variants, self.seeds, self.num_test)) or 3
    )
    monkeypatch.setattr(Benchmark, "time_avatar", lambda self, avatar, sizes: done.append((avatar.name, sizes)))
    monkeypatch.setattr(Benchmark, "time_steps", lambda self: done.append("steps"))
    Bench(tmp_path, (subject,), suite="quick")()
    assert done == [(variants.QUICK, 1, 2), "steps", ("subject-two-stage-60s-0.pt", (128, 256))]


@pytest.mark.parametrize("suite", ["scaling", "quick"])
def test_scaling_takes_one_capture_and_no_avatar(tmp_path, suite):
    with pytest.raises(InputError, match="one capture"):
        Bench(tmp_path, (tmp_path / "a", tmp_path / "b"), suite=suite)()
    with pytest.raises(InputError, match="--avatar"):
        Bench(tmp_path, (tmp_path / "a",), suite=suite, avatar=tmp_path / "avatar.pt")()


def test_the_table_has_a_row_for_each():
    rows = steps_table([StepCost("frames", 100, 12.34, 1.0)], {"parts": 0.25, "backward pass": 0.75}).splitlines()
    assert rows[2] == "| frames | 100 | 12.3 | 1.00 |" and rows[-1] == "| backward pass | 75% |"
    assert np.unique([row.count("|") for row in rows[:3]]).tolist() == [5]
