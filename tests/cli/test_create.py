"""`partnerface create`: the whole chain on a short film, resuming after a stop in any stage, and refusals."""

from __future__ import annotations

import json
import re
from functools import partial, partialmethod
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.engine.trainer import writer
from PIL import Image

from partnerface_ns.capture.verdict import Verdict
from partnerface_ns.cli.create import _TRACKING_LOOPS, Create
from partnerface_ns.cli.create_page import quality_in_words, tracking_in_words
from partnerface_ns.cli.inspect import Inspect
from partnerface_ns.cli.main import main
from partnerface_ns.cli.stages import Stage, seconds_left, time_in_words
from partnerface_ns.common.locks import lock_folder
from partnerface_ns.common.progress import listen_to_progress, progress
from partnerface_ns.demo.subject import DemoSubject

OPTIONS = ["--minutes", "0.01", "--size", "64", "--device", "cpu"]
STAGES = {
    "_track": "capture/tracking.json",
    "_inspect": "inspect.png",
    "_train": "runs/partnerface-lite/avatar/avatar.pt",
    "_evaluate": "held_out.json",
    "_render_clip": "talk.mp4",
    "_write_page": "index.html",
}
"""Each stage's method, and its last file."""
INSPECT = Create._inspect


@pytest.fixture(autouse=True)
def fresh_writers():
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()


@pytest.fixture
def film(tmp_path) -> Path:
    """A folder of images that no test decodes."""
    folder = tmp_path / "film"
    folder.mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def stages(monkeypatch) -> list[str]:
    """Stages that only write their last file; gives the names of those that ran."""
    ran: list[str] = []

    def run(self: Create, *_: object, name: str) -> None:
        ran.append(name)
        path = self.folder / STAGES[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")

    for name in STAGES:
        monkeypatch.setattr(Create, name, partialmethod(run, name=name))
    return ran


def create(film: Path, folder: Path, *options: str) -> int:
    """The exit code of the command."""
    try:
        main(["create", str(film), str(folder), *OPTIONS, *options])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
    return 0


def test_a_film_becomes_a_page_with_a_talking_avatar(tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    person, film, folder = DemoSubject.create(3, 200, 256), tmp_path / "film", tmp_path / "a person"
    film.mkdir()
    for timestep in range(20):
        Image.fromarray(person.image(timestep)[0]).save(film / f"{timestep:02d}.png")
    labels: set[str] = set()
    with listen_to_progress(lambda label, _: labels.add(label)):
        assert create(film, folder) == 0
    told = capsys.readouterr()
    assert str(folder / "index.html") in told.out and "1 of 6  Tracking the video" in told.err
    assert not labels, "the display listens, not what was listening before"
    page = (folder / "index.html").read_text()
    shown = re.findall(r'src="([^"]+)"', page)
    num_images = len(json.loads((folder / "held_out.json").read_text())["images"])
    assert shown[0] == "talk.mp4" and len(shown) == 1 + num_images, "a clip and the held-out images"
    assert all((folder / name).stat().st_size > 300 for name in shown)
    assert "frames are used" in page and "frames were tracked" in page and "partnerface" in page
    assert np.array(Image.open(folder / shown[1])).shape == (64, 128, 3), "the video's image beside the avatar's"
    assert set(json.loads((folder / "create.json").read_text())["done"]) == {
        "track", "inspect", "train", "evaluate", "clip", "page"
    }  # fmt: skip
    assert [p.name for p in folder.glob(".*")] in ([], [".lock"]), "nothing unfinished is left"
    log = (folder / "create.log").read_text()
    assert "verdict" in log and "== Training" in log


def test_the_loops_of_tracking_are_those_of_the_display():
    package = Path(__file__).parents[2] / "partnerface_ns"
    code = "".join(path.read_text() for path in [*package.glob("tracking/**/*.py"), package / "capture/vhap_writer.py"])
    assert all(f'"{label}"' in code for label in _TRACKING_LOOPS)
    steps = (package / "tracking/pipeline.py").read_text()
    assert set(re.findall(r'progress\(range.*, "([^"]+)"', steps)) <= set(_TRACKING_LOOPS)


@pytest.mark.parametrize("stopped", STAGES)
@pytest.mark.parametrize("finished", [False, True], ids=["in the middle", "before it is recorded"])
def test_a_command_that_is_killed_in_a_stage_goes_on_there(film, tmp_path, stages, monkeypatch, stopped, finished):
    folder, run_stage = tmp_path / "out", getattr(Create, stopped)

    def die(self: Create, *_: object) -> None:
        if finished:
            run_stage(self)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Create, stopped, die)
        with pytest.raises(RuntimeError, match="killed"):
            create(film, folder)
    before = list(STAGES)[: list(STAGES).index(stopped)]
    assert [name for name in stages if name != stopped] == before
    stages.clear()
    assert create(film, folder) == 0
    assert stages == list(STAGES)[len(before) :], "finished stages are kept, the others run"
    stages.clear()
    assert create(film, folder) == 0 and stages == []


def test_ctrl_c_is_reported(film, tmp_path, stages, monkeypatch, capsys):
    def stop(*_: object) -> None:
        raise SystemExit(130)  # as the trainer ends after Ctrl-C

    monkeypatch.setattr(Create, "_train", stop)
    assert create(film, tmp_path / "out") == 130
    assert "the same command continues" in capsys.readouterr().out


def test_a_missing_result_is_made_again_with_all_that_follows(film, tmp_path, stages):
    assert create(film, tmp_path / "out") == 0
    stages.clear()
    (tmp_path / "out" / "held_out.json").unlink()
    assert create(film, tmp_path / "out") == 0
    assert stages == ["_evaluate", "_render_clip", "_write_page"]


def test_more_minutes_train_on_and_other_options_are_refused(film, tmp_path, stages, capsys):
    folder = tmp_path / "out"
    assert create(film, folder) == 0
    stages.clear()
    assert create(film, folder, "--minutes", "0.02") == 0
    assert stages == ["_train", "_evaluate", "_render_clip", "_write_page"]
    for option, value in (("--minutes", "0.01"), ("--size", "128"), ("--start", "0.1")):
        assert create(film, folder, "--minutes", "0.02", option, value) == 1
        assert "other options" in capsys.readouterr().err
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(film / "99.png")
    assert create(film, folder, "--minutes", "0.02") == 1, "the video has changed"


def test_footage_that_gives_no_avatar_stops_with_the_reason(film, tmp_path, stages, monkeypatch, capsys):
    monkeypatch.setattr(Create, "_inspect", INSPECT)
    monkeypatch.setattr(Inspect, "judge", lambda self: Verdict(False, None, "a cat is seen"))
    assert create(film, tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert "gives no avatar" in told and "a cat is seen" in told and "preview.mp4" in told
    assert stages == ["_track"] and not (tmp_path / "out" / "index.html").exists()


@pytest.mark.parametrize(("option", "value"), [("--minutes", "0"), ("--size", "8"), ("--device", "tpu")])
def test_wrong_options_are_refused_before_anything_is_written(film, tmp_path, capsys, option, value):
    assert create(film, tmp_path / "out", option, value) == 1
    assert capsys.readouterr().err.startswith(f"Error: {option}")
    assert not (tmp_path / "out").exists()


def test_a_missing_head_model_is_an_error_before_anything_is_written(film, tmp_path, capsys):
    assert create(film, tmp_path / "out", "--head-model", str(tmp_path / "no.pkl")) == 1
    assert "no.pkl: the file does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_folders_and_other_commands_are_left_alone(film, tmp_path, stages, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    assert create(film, tmp_path / "letters") == 1
    assert "is in use" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    with lock_folder(tmp_path / "out"):
        assert create(film, tmp_path / "out") == 1
    assert "another command is writing here" in capsys.readouterr().err and stages == []


def test_the_page_opens_on_request(film, tmp_path, stages, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert create(film, tmp_path / "out") == 0 and opened == []
    assert create(film, tmp_path / "out", "--open") == 0
    assert opened == [(tmp_path / "out" / "index.html").resolve().as_uri()]


def test_the_time_left_moves_from_the_expected_to_the_measured_duration():
    stages = [Stage(name, name, lambda: None, Path(name), 100.0, {"a": 1.0, "b": 3.0}) for name in "xy"]
    left = partial(seconds_left, stages, 0)
    assert left(0.0, 0.0) == 200 and left(1.0, 500.0) == 100
    assert left(0.5, 100.0) == pytest.approx(100 + 75), "half of 150: the mean of 100 expected and 200 measured"
    assert stages[0].share_done("a", 1.0) == stages[0].share_done("b", 0.0) == 0.25
    assert stages[0].share_done("other", 0.5) is None
    assert time_in_words(50.0) == "less than a minute left" and time_in_words(125.0) == "about 2 min left"


def test_a_listener_hears_a_loop_in_place_of_a_bar(capsys):
    heard: list[tuple[str, float]] = []
    with listen_to_progress(lambda label, done: heard.append((label, done))):
        assert list(progress(range(4), "Working")) == [0, 1, 2, 3]
    assert heard == [("Working", 0.0), ("Working", 0.25), ("Working", 0.5), ("Working", 0.75), ("Working", 1.0)]
    assert capsys.readouterr().err == ""


def test_figures_in_words():
    tracking = {"frames_tracked": 9, "frames_total": 10, "landmark_px_median": 2.0, "jitter_px": 5.0}
    words = " ".join(tracking_in_words(tracking | {"silhouette_px_mean": None}))
    assert words == "9 of 10 frames are used. The head follows the face roughly (2 px); it trembles visibly (5 px)."
    assert quality_in_words([], 1.0)[0].startswith("No held-out image")
    good = quality_in_words([{"psnr_head": 24.0, "psnr_mouth": 21.0, "psnr_eyes": 22.0}], 10.0)
    assert "close to the video" in good[0] and "24.0 dB after 10 minutes" in good[0] and "21.0" in good[1]
