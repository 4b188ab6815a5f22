"""The whole command on a few frames, interruptions, and footage that cannot be tracked."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.load import load_capture
from partnerface_ns.cli.track import Track
from partnerface_ns.errors import SubjectError
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.tracking import pipeline, stages
from partnerface_ns.tracking.crop import CropPath
from partnerface_ns.tracking.fitting import Schedule
from partnerface_ns.tracking.stages import Options
from partnerface_ns.tracking.workfolder import WorkFolder

QUICK = Schedule(key_frames=8, place=20, key=30, all=20, outline=10, key_gates=(40.0, 15.0), all_gates=(12.0,))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pipeline, "Schedule", lambda: QUICK)


def names_beside(root: Path) -> list[str]:
    return sorted(p.name for p in root.parent.iterdir())


@pytest.fixture(scope="module")
def tracked(wide_video, tmp_path_factory):
    """The command, once: 20 frames at 256 pixels."""
    root = tmp_path_factory.mktemp("subjects") / "person"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Schedule", lambda: QUICK)
        Track(wide_video, root, size=256)()
    return root


def test_the_result_is_a_subject_that_can_be_read(tracked, person):
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


def test_pictures_are_on_white_by_their_mattes(tracked, pictures):
    capture = load_capture(tracked)
    with Image.open(capture.frames[3].image_path) as image, Image.open(capture.frames[3].mask_path) as mask:
        rgb, matte = np.asarray(image), np.asarray(mask)
    assert rgb.shape == (256, 256, 3) and matte.shape == (256, 256)
    assert (rgb[matte == 0] == 255).all()
    # The square was cut out this many pixels to the right of the person's own picture.
    aside = round(128 - capture.frames[3].camera.cx)
    found, true = matte > 127, np.roll(pictures[3][1] > 0.5, -aside, axis=1)
    assert (found & true).sum() / (found | true).sum() > 0.93


def test_the_report_says_all(tracked):
    report = json.loads((tracked / "tracking.json").read_text())
    assert report["frames_total"] == report["frames_tracked"] == 20
    assert len(report["frame_times"]) == report["frames_total"] and report["frame_times"][0] == 0
    for key in ("seconds_total", "seconds_per_frame", "focal_length_px", "jitter_px"):
        assert report[key] > 0, key
    for key in ("landmark_px_mean", "landmark_px_median", "lips_px_median", "eyes_px_median", "iris_px_median"):
        assert 0 < report[key] < 8, key
    assert report["silhouette_px_mean"] < 12
    assert report["head_model"]["name"] == load_open_head().name and report["left_out"] == {}
    assert any("Only 20 frames" in warning for warning in report["warnings"])
    assert (tracked / "preview.mp4").stat().st_size > 1000 and (tracked / "quality.png").is_file()


def with_gaps(pictures, film, path: Path) -> Path:
    """A film in which the person is away in some frames."""
    away = np.full_like(pictures[0][0], 120)
    return film(path, [away if i in (4, 5, 6) else rgb for i, (rgb, _) in enumerate(pictures)])


def test_frames_without_face_are_left_out_with_a_reason_and_a_stopped_run_goes_on(
    tmp_path, pictures, film, monkeypatch
):
    video, root = with_gaps(pictures, film, tmp_path / "gaps.mp4"), tmp_path / "subject"
    track = partial(pipeline.track_video, video, root, load_open_head(), Options(size=128))

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit_track", stop)
        with pytest.raises(KeyboardInterrupt):
            track()
    assert names_beside(root) == [".subject.tracking", "gaps.mp4"]

    monkeypatch.setattr(stages, "FaceFinder", stop)
    monkeypatch.setattr(stages, "LandmarkDetector", stop)
    monkeypatch.setattr(stages, "Matter", stop)
    report = track(preview=False)
    assert set(report["left_out"]) >= {"4", "5", "6"} and set(report["left_out"].values()) == {"no face"}
    assert report["frames_tracked"] == 20 - len(report["left_out"])
    capture = load_capture(root)
    assert capture.num_timesteps == report["frames_tracked"]
    assert names_beside(root) == ["gaps.mp4", "subject"] and not (root / "preview.mp4").exists()


def test_a_full_disk_while_writing_leaves_no_subject(tmp_path, wide_video, monkeypatch):
    root = tmp_path / "subject"

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_vhap", full)
    with pytest.raises(SubjectError, match="No space left on device"):
        pipeline.track_video(wide_video, root, load_open_head(), Options(size=128))
    assert names_beside(root) == [".subject.tracking"], "what was done is kept for the next run"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda pictures: [np.full((96, 96, 3), 120, np.uint8)] * 12, "no face was found"),
        (lambda pictures: [rgb for rgb, _ in pictures[:3]], r"too few frames[\s\S]*at least 10[\s\S]*3 of 3 frames"),
        (
            lambda pictures: [rgb for rgb, _ in pictures[:11]] + [np.full_like(pictures[0][0], 120)] * 20,
            r"most frames cannot be tracked[\s\S]*11 of 31 frames \(left out 20: no face\)",
        ),
    ],
)
def test_footage_that_cannot_be_tracked_is_refused(tmp_path, pictures, film, make, message):
    video = film(tmp_path / "film.mp4", make(pictures))
    with pytest.raises(SubjectError, match=message):
        pipeline.track_video(video, tmp_path / "subject", load_open_head(), Options(size=128))
    assert names_beside(tmp_path / "subject") == ["film.mp4"]


def test_an_existing_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "subject").mkdir()
    (tmp_path / "subject" / "precious.txt").write_text("keep me")
    with pytest.raises(SubjectError, match="something here already"):
        pipeline.track_video(tmp_path / "none.mp4", tmp_path / "subject", load_open_head(), Options())
    assert names_beside(tmp_path / "subject") == ["subject"]


def test_work_folder_makes_each_stage_once_and_forgets_other_videos(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(b"one")
    calls = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"value": np.arange(3)}

    for _ in range(2):
        found = WorkFolder(tmp_path / "work", video, {"size": 1}).stage("first", make)
        np.testing.assert_array_equal(found["value"], np.arange(3))
    assert len(calls) == 1
    WorkFolder(tmp_path / "work", video, {"size": 2}).stage("first", make)
    video.write_bytes(b"another")
    WorkFolder(tmp_path / "work", video, {"size": 2}).stage("first", make)
    assert len(calls) == 3


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"one")
    work = WorkFolder(tmp_path / "work", tmp_path / "video.mp4", {})

    def fail() -> dict[str, np.ndarray]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        work.stage("first", fail)
    assert [p.name for p in work.root.iterdir()] == ["source.json"]


def test_landmarks_of_another_face_are_told_from_the_subjects():
    landmarks = np.random.default_rng(0).normal((100, 120, 0), 10, (478, 3))
    assert stages.is_of(landmarks, np.array([75.0, 90.0, 50.0, 50.0]))
    assert not stages.is_of(landmarks, np.array([150.0, 90.0, 50.0, 50.0]))


def test_blurred_and_unsure_frames_are_left_out():
    num = 12
    landmarks = np.zeros((num, 478, 3), dtype=np.float32)
    landmarks[:, 152, 1] = 100
    looks = {"disagreement": np.full(num, 1.0), "sharpness": np.full(num, 0.5)}
    looks["disagreement"][2], looks["sharpness"][5] = 9.0, 0.02
    pictures = stages.Pictures(
        CropPath(100.0, np.zeros((num, 2)), True), landmarks, **looks, brightness=np.zeros(num), burnt=np.zeros(num)
    )
    faces = stages.Faces(np.ones((num, 4)), np.arange(num) / 25, (100, 100), 0)
    reasons = stages.reasons_to_leave_out(faces, pictures)
    assert set(reasons) == {2, 5} and "unsure" in reasons[2] and reasons[5] == "blurred"
