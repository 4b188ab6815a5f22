"""The whole command on a few frames, interruptions, and footage that cannot be tracked."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.load import load_capture
from partnerface_ns.cli.main import main
from partnerface_ns.cli.track import Track
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.locks import lock_folder
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking import pipeline
from partnerface_ns.tracking.fit.fitting import FitSchedule
from partnerface_ns.tracking.options import TrackingOptions
from partnerface_ns.tracking.video.decode.reading import Selection
from partnerface_ns.tracking.video.vision_models import VisionModels

QUICK = FitSchedule(key_frames=8, place=20, key=30, all=20, outline=10, key_gates=(40.0, 15.0), all_gates=(12.0,))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pipeline, "FitSchedule", lambda: QUICK)


def names_beside(root: Path) -> list[str]:
    return sorted(p.name for p in root.parent.iterdir())


@pytest.fixture(scope="module")
def tracked(wide_video, tmp_path_factory):
    """The command, once: 20 frames at 256 pixels."""
    root = tmp_path_factory.mktemp("subjects") / "person"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "FitSchedule", lambda: QUICK)
        Track(wide_video, root, size=256)()
    return root


def test_the_result_is_a_readable_capture(tracked, person):
    capture = load_capture(tracked)
    model = load_open_head()
    assert capture.head_model.fingerprint == model.fingerprint
    assert capture.num_timesteps == 20 and len(capture.splits["train"]) == 14 and len(capture.splits["test"]) == 6
    assert capture.background == (1.0, 1.0, 1.0)
    camera = capture.frames[0].camera
    assert (camera.width, camera.height) == (256, 256) and camera.cx == pytest.approx(128, abs=20)
    turn = Rotation.from_rotvec(capture.track.rotation.numpy()) * Rotation.from_rotvec(capture.track.neck.numpy())
    state = person.performance.track[:20]
    true = Rotation.from_rotvec(state.rotation.numpy()) * Rotation.from_rotvec(state.neck.numpy())
    # The motion is what counts: few frames leave the resting direction of a face open.
    relative = (turn * turn[0].inv()) * (true * true[0].inv()).inv()
    assert np.degrees(relative.magnitude()).mean() < 4
    assert names_beside(tracked) == ["person"], "no unfinished work is left"


def test_images_are_on_white_by_their_mattes(tracked, images):
    capture = load_capture(tracked)
    with Image.open(capture.frames[3].image_path) as image, Image.open(capture.frames[3].mask_path) as mask:
        rgb, matte = np.asarray(image), np.asarray(mask)
    assert rgb.shape == (256, 256, 3) and matte.shape == (256, 256)
    assert (rgb[matte == 0] == 255).all()
    # The square was cut out this many pixels to the right of the person's own image.
    aside = round(128 - capture.frames[3].camera.cx)
    person, true = matte > 127, np.roll(images[3][1] > 0.5, -aside, axis=1)
    assert (person & true).sum() / (person | true).sum() > 0.93


def test_the_report_is_complete(tracked):
    report = json.loads((tracked / "tracking.json").read_text())
    assert report["frames_total"] == report["frames_tracked"] == 20
    assert len(report["frame_times"]) == report["frames_total"] and report["frame_times"][0] == 0
    for key in ("seconds_total", "seconds_per_frame", "focal_length_px", "jitter_px"):
        assert report[key] > 0, key
    for key in ("landmark_px_mean", "landmark_px_median", "lips_px_median", "eyes_px_median", "iris_px_median"):
        assert 0 < report[key] < 8, key
    assert report["silhouette_px_mean"] < 12
    for part in ("", "_test"):
        for surface in ("image", "torso"):
            assert 0 < report[f"{surface}_residual_after{part}"] < report[f"{surface}_residual_before{part}"]
    assert report["head_model"]["name"] == load_open_head().name and report["left_out"] == {}
    assert any("Only 20 frames" in warning for warning in report["warnings"])
    assert (tracked / "preview.mp4").stat().st_size > 1000 and (tracked / "quality.png").is_file()


def test_the_photometric_fit_can_be_left_out(tracked, wide_video, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "align_images", lambda *_: pytest.fail("the images were aligned"))
    root = tmp_path / "person"
    main(["track", str(wide_video), str(root), "--size", "256", "--no-preview", "--no-photometric"])
    reports = [json.loads((folder / "tracking.json").read_text()) for folder in (tracked, root)]
    for key in (f"image_residual_{name}{part}" for name in ("before", "after") for part in ("", "_test")):
        assert reports[0][key] > 0 and reports[1][key] is None, key
    aligned, fitted = load_capture(tracked), load_capture(root)
    # The stages before are the same, so the difference is that of the photometric fit.
    assert torch.equal(aligned.track.rotation, fitted.track.rotation)
    assert not torch.equal(aligned.track.neck, fitted.track.neck)
    assert not torch.equal(aligned.static_offset, fitted.static_offset)
    assert aligned.track.torso is not None and fitted.track.torso is None


def with_gaps(images, film, path: Path) -> Path:
    """A film in which the person is away in some frames."""
    away = np.full_like(images[0][0], 120)
    return film(path, [away if i in (4, 5, 6) else rgb for i, (rgb, _) in enumerate(images)])


def unused(constructor: Callable[[], object]) -> Callable[[], Any]:
    """A constructor of the same name that fails."""

    def fail() -> None:
        pytest.fail(f"{constructor.__qualname__} was constructed")

    fail.__qualname__ = constructor.__qualname__
    return fail


def test_frames_without_face_are_left_out_and_an_interrupted_run_resumes(tmp_path, images, film, monkeypatch):
    video, root = with_gaps(images, film, tmp_path / "gaps.mp4"), tmp_path / "subject"
    track = partial(pipeline.track_video, video, root, load_open_head(), TrackingOptions(size=128))

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit_track", stop)
        with pytest.raises(KeyboardInterrupt):
            track()
    assert names_beside(root) == [".subject.tracking", "gaps.mp4"]

    defaults = VisionModels()
    models = VisionModels(unused(defaults.faces), unused(defaults.landmarks), unused(defaults.matting))
    report = track(preview=False, models=models)
    assert set(report["left_out"]) >= {"4", "5", "6"} and set(report["left_out"].values()) == {"no face"}
    assert report["frames_tracked"] == 20 - len(report["left_out"])
    capture = load_capture(root)
    assert capture.num_timesteps == report["frames_tracked"]
    assert names_beside(root) == ["gaps.mp4", "subject"] and not (root / "preview.mp4").exists()


def test_a_full_disk_leaves_no_capture(tmp_path, wide_video, monkeypatch):
    root = tmp_path / "subject"

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_vhap", full)
    with pytest.raises(InputError, match=r"No space left on device[\s\S]*make room[\s\S]*\.subject\.tracking"):
        pipeline.track_video(wide_video, root, load_open_head(), TrackingOptions(size=128))
    assert names_beside(root) == [".subject.tracking"], "what was done is kept for the next run"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda images: [np.full((96, 96, 3), 120, np.uint8)] * 12, "no face was found"),
        (lambda images: [rgb for rgb, _ in images[:3]], r"too few frames[\s\S]*at least 10[\s\S]*3 of 3 frames"),
        (
            lambda images: [rgb for rgb, _ in images[:11]] + [np.full_like(images[0][0], 120)] * 20,
            r"most frames cannot be tracked[\s\S]*11 of 31 frames \(left out 20: no face\)",
        ),
    ],
)
def test_footage_that_cannot_be_tracked_is_refused(tmp_path, images, film, make, message):
    video = film(tmp_path / "film.mp4", make(images))
    with pytest.raises(InputError, match=message):
        pipeline.track_video(video, tmp_path / "subject", load_open_head(), TrackingOptions(size=128))
    assert names_beside(tmp_path / "subject") == ["film.mp4"]


OUT_OF_RANGE = {
    "--focal-length": [{"focal_length": value} for value in (1200.0, -1.0, 0.0, float("nan"))],
    "--fps": [{"selection": Selection(fps=value)} for value in (0.0, -5.0, float("nan"))],
    "--size": [{"size": value} for value in (0, -3, 4, 100000)],
    "--max-frames": [{"selection": Selection(max_frames=value)} for value in (0, -1, 9)],
    "--start": [{"selection": Selection(start=value)} for value in (-5.0, float("nan"))],
    "--end": [{"selection": Selection(end=value)} for value in (0.0, -1.0)],
}


@pytest.mark.parametrize(
    "option, values", [(option, values) for option, rows in OUT_OF_RANGE.items() for values in rows], ids=str
)
def test_options_out_of_range_are_refused_before_any_work(tmp_path, wide_video, monkeypatch, option, values):
    monkeypatch.setattr(pipeline, "find_faces", lambda *_: pytest.fail("the work began"))
    with pytest.raises(InputError, match=f"^{option}: ") as refusal:
        pipeline.track_video(wide_video, tmp_path / "subject", load_open_head(), TrackingOptions(**values))
    assert "Selection(" not in str(refusal.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option, values", [(option, rows[0]) for option, rows in OUT_OF_RANGE.items()], ids=str)
def test_options_are_checked_before_the_video_is_opened(tmp_path, option, values):
    with pytest.raises(InputError, match=f"^{option}: "):
        pipeline.track_video(tmp_path / "missing.mp4", tmp_path, load_open_head(), TrackingOptions(**values))


def test_a_focal_length_in_pixels_is_recognised(tmp_path, wide_video):
    # The frame is 352 pixels wide.
    with pytest.raises(InputError, match=r"for 500 pixels give 1\.42"):
        pipeline.track_video(wide_video, tmp_path / "subject", load_open_head(), TrackingOptions(focal_length=500.0))


@pytest.mark.parametrize("start, end", [(0.5, 0.4), (2.0, None)])
def test_an_empty_part_is_refused_with_the_length_of_the_video(tmp_path, wide_video, start, end):
    with pytest.raises(InputError, match=r"no frame in the chosen part[\s\S]*its 0\.80 s"):
        pipeline.track_video(
            wide_video,
            tmp_path / "subject",
            load_open_head(),
            TrackingOptions(selection=Selection(start=start, end=end)),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option, selection", [("--start", Selection(start=-5.0)), ("--end", Selection(end=0.0))])
def test_a_start_or_end_out_of_range_is_refused_with_the_length_of_the_video(tmp_path, wide_video, option, selection):
    with pytest.raises(InputError, match=rf"^{option}: [\s\S]*in a video of 0\.80 s"):
        pipeline.track_video(wide_video, tmp_path / "subject", load_open_head(), TrackingOptions(selection=selection))


@pytest.fixture
def instant(monkeypatch):
    """Tracking that takes no time: the work folders that it was given."""
    works = []

    def track(run, preview, start):
        work, root = run.work, run.root
        works.append(sorted(path.name for path in work.root.iterdir()))
        (work.root / "subject").mkdir(exist_ok=True)
        (work.root / "subject" / "tracking.json").write_text("{}")
        (work.root / "finished.npz").write_text("x")
        pipeline.publish(work.root / "subject", root)
        work.remove()
        return {}

    monkeypatch.setattr(pipeline._Run, "track", track)
    return works


def test_the_working_directory_and_a_mount_point_can_be_written(tmp_path, wide_video, instant, monkeypatch):
    before = tmp_path.stat().st_ino
    (tmp_path / "lost+found").mkdir()
    monkeypatch.chdir(tmp_path)
    pipeline.track_video(wide_video, Path("."), load_open_head(), TrackingOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lost+found", "tracking.json"]
    assert tmp_path.stat().st_ino == before, "a mount point cannot be replaced"


def test_a_result_inside_the_image_folder_is_not_read_as_input(tmp_path, instant, monkeypatch):
    for index in range(12):
        Image.fromarray(np.full((64, 64, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    track = partial(pipeline.track_video, tmp_path, tmp_path / "out", load_open_head(), TrackingOptions())
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            track()
    track()
    assert "finished.npz" in instant[1], "the second run goes on from what the first one finished"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["tracking.json"]


def test_a_second_command_is_refused_while_the_first_one_writes(tmp_path, wide_video, instant):
    track = partial(pipeline.track_video, wide_video, tmp_path / "subject", load_open_head(), TrackingOptions())
    (tmp_path / ".subject.tracking").mkdir()
    with lock_folder(tmp_path / ".subject.tracking"), pytest.raises(InputError, match="another command is writing"):
        track()
    assert instant == []
    track()  # the lock file that was left is no obstacle
    assert names_beside(tmp_path / "subject") == ["subject"]


def test_a_refused_video_leaves_no_folders(tmp_path, images, film):
    video = film(tmp_path / "film.mp4", [np.full((96, 96, 3), 120, np.uint8)] * 12)
    with pytest.raises(InputError, match="no face was found"):
        pipeline.track_video(video, tmp_path / "a" / "b" / "subject", load_open_head(), TrackingOptions(size=128))
    assert names_beside(video) == ["film.mp4"]


def test_an_existing_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "subject").mkdir()
    (tmp_path / "subject" / "precious.txt").write_text("keep me")
    with pytest.raises(InputError, match="something here already"):
        pipeline.track_video(tmp_path / "none.mp4", tmp_path / "subject", load_open_head(), TrackingOptions())
    assert names_beside(tmp_path / "subject") == ["subject"]
