"""The whole command on a few frames, interruptions, and footage that cannot be tracked."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.load import load_capture
from partnerface_ns.cli.track import Track
from partnerface_ns.errors import SubjectError
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.locks import alone_in
from partnerface_ns.tracking import pipeline, quality, report, stages
from partnerface_ns.tracking.crop import CropPath
from partnerface_ns.tracking.face_texture import face_places
from partnerface_ns.tracking.fitting import Schedule
from partnerface_ns.tracking.matting import Matter
from partnerface_ns.tracking.stages import Options
from partnerface_ns.tracking.video import Selection, VideoFrame
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
    with pytest.raises(SubjectError, match=r"No space left on device[\s\S]*make room[\s\S]*\.subject\.tracking"):
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
    monkeypatch.setattr(stages, "FaceFinder", lambda: pytest.fail("the work began"))
    with pytest.raises(SubjectError, match=f"^{option}: ") as refusal:
        pipeline.track_video(wide_video, tmp_path / "subject", load_open_head(), Options(**values))
    assert "Selection(" not in str(refusal.value) and list(tmp_path.iterdir()) == []


def test_a_focal_length_in_pixels_is_recognised(tmp_path, wide_video):
    # The frame is 352 pixels wide.
    with pytest.raises(SubjectError, match=r"for 500 pixels give 1\.42"):
        pipeline.track_video(wide_video, tmp_path / "subject", load_open_head(), Options(focal_length=500.0))


@pytest.mark.parametrize("start, end", [(0.5, 0.4), (2.0, None)])
def test_an_empty_part_is_refused_with_the_length_of_the_video(tmp_path, wide_video, start, end):
    with pytest.raises(SubjectError, match=r"no frame in the chosen part[\s\S]*its 0\.80 s"):
        pipeline.track_video(
            wide_video, tmp_path / "subject", load_open_head(), Options(selection=Selection(start=start, end=end))
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option, selection", [("--start", Selection(start=-5.0)), ("--end", Selection(end=0.0))])
def test_a_start_or_end_out_of_range_is_refused_with_the_length_of_the_video(tmp_path, wide_video, option, selection):
    with pytest.raises(SubjectError, match=rf"^{option}: [\s\S]*in a video of 0\.80 s"):
        pipeline.track_video(wide_video, tmp_path / "subject", load_open_head(), Options(selection=selection))


@pytest.fixture
def instant(monkeypatch):
    """Tracking that takes no time: the work folders that it was given."""
    works = []

    def track(video, root, model, options, preview, work, start):
        works.append(sorted(path.name for path in work.root.iterdir()))
        (work.root / "subject").mkdir(exist_ok=True)
        (work.root / "subject" / "tracking.json").write_text("{}")
        (work.root / "finished.npz").write_text("x")
        pipeline.publish(work.root / "subject", root)
        work.remove()
        return {}

    monkeypatch.setattr(pipeline, "_track", track)
    return works


def test_the_folder_one_stands_in_and_a_mount_point_can_be_written(tmp_path, wide_video, instant, monkeypatch):
    before = tmp_path.stat().st_ino
    (tmp_path / "lost+found").mkdir()
    monkeypatch.chdir(tmp_path)
    pipeline.track_video(wide_video, Path("."), load_open_head(), Options())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lost+found", "tracking.json"]
    assert tmp_path.stat().st_ino == before, "a mount point cannot be replaced"


def test_a_folder_inside_the_images_is_no_part_of_them(tmp_path, instant, monkeypatch):
    for index in range(12):
        Image.fromarray(np.full((64, 64, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    track = partial(pipeline.track_video, tmp_path, tmp_path / "out", load_open_head(), Options())
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            track()
    track()
    assert "finished.npz" in instant[1], "the second run goes on from what the first one finished"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["tracking.json"]


def test_a_second_command_is_refused_while_the_first_one_writes(tmp_path, wide_video, instant):
    track = partial(pipeline.track_video, wide_video, tmp_path / "subject", load_open_head(), Options())
    (tmp_path / ".subject.tracking").mkdir()
    with alone_in(tmp_path / ".subject.tracking"), pytest.raises(SubjectError, match="another command is writing"):
        track()
    assert instant == []
    track()  # the lock file that was left is no obstacle
    assert names_beside(tmp_path / "subject") == ["subject"]


def test_a_refusal_leaves_no_folders(tmp_path, pictures, film):
    video = film(tmp_path / "film.mp4", [np.full((96, 96, 3), 120, np.uint8)] * 12)
    with pytest.raises(SubjectError, match="no face was found"):
        pipeline.track_video(video, tmp_path / "a" / "b" / "subject", load_open_head(), Options(size=128))
    assert names_beside(video) == ["film.mp4"]


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


def seen(num: int, **changes: np.ndarray) -> tuple[stages.Faces, stages.Pictures]:
    """What the two passes found in a good video of some frames."""
    landmarks = np.zeros((num, 478, 3), dtype=np.float32)
    landmarks[:, 152, 1] = 100
    arrays = {
        "disagreement": np.full(num, 1.0),
        "sharpness": np.full(num, 0.5),
        "brightness": np.zeros(num),
        "burnt": np.zeros(num),
        "texture": np.zeros((num, len(face_places().points), 3), dtype=np.uint8),
    }
    crop = CropPath(100.0, np.zeros((num, 2)), True, np.zeros(num, dtype=bool))
    pictures = stages.Pictures(crop, landmarks, **arrays | changes)
    return stages.Faces(np.ones((num, 4)), np.arange(num) / 25, (100, 100), 0, np.full((num, 4), np.nan)), pictures


def test_blurred_and_unsure_frames_are_left_out():
    num = 12
    disagreement, sharpness = np.full(num, 1.0), np.full(num, 0.5)
    disagreement[2], sharpness[5] = 9.0, 0.02
    reasons = stages.reasons_to_leave_out(*seen(num, disagreement=disagreement, sharpness=sharpness))
    assert set(reasons) == {2, 5} and "unsure" in reasons[2] and reasons[5] == "blurred"


class Stub:
    """A detector that gives what a function says; close it as one would the real one."""

    def __init__(self, look):
        self.look = look

    def __call__(self, *arguments):
        return self.look(*arguments)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class StubMatter(Matter):
    """Sees a person everywhere, and is not to be asked for a matte."""

    def __init__(self):
        pass

    def __exit__(self, *exception):
        pass

    def rough(self, rgb):
        return np.ones(rgb.shape[:2], np.float32)

    def __call__(self, rgb):
        pytest.fail("the network was asked")


@pytest.fixture
def stubbed(monkeypatch):
    """Detectors that see one still face, and no network for mattes."""
    landmarks = np.full((478, 3), 32.0, np.float32)
    landmarks[:, :2] += np.random.default_rng(0).normal(0, 8, (478, 2))
    monkeypatch.setattr(stages, "FaceFinder", lambda: Stub(lambda rgb: [np.array([20.0, 20.0, 24.0, 24.0])]))
    monkeypatch.setattr(stages, "LandmarkDetector", lambda: Stub(lambda picture: (landmarks, 0.5)))
    monkeypatch.setattr(stages, "Matter", StubMatter)


def test_alpha_of_the_frames_is_the_matte(tmp_path, stubbed):
    (tmp_path / "frames").mkdir()
    noise = np.random.default_rng(1)
    for index in range(12):
        rgba = noise.integers(0, 256, (64, 64, 4), dtype=np.uint8)
        rgba[..., 3] = 0
        rgba[16:, 16:48] = (200, 100, 50, 255)
        Image.fromarray(rgba).save(tmp_path / "frames" / f"{index}.png")
    options, work = Options(size=64), WorkFolder(tmp_path / "work", tmp_path / "frames", {})
    faces = stages.find_faces(tmp_path / "frames", options, work)
    pictures = stages.cut_pictures(tmp_path / "frames", options, faces, work)
    stages.cut_mattes(np.arange(12), pictures, work)
    assert pictures.crop.side == 64
    matte, picture = stages.read_matte(work, 5), stages.read_picture(work, 5)
    assert set(np.unique(matte)) == {0, 255}
    np.testing.assert_array_equal(matte[16:, 16:48], 255)
    np.testing.assert_array_equal(picture[16:, 16:48], np.broadcast_to([200, 100, 50], (48, 32, 3)))
    assert (report.on_white(picture, matte)[:16] == 255).all(), "colours of transparent pixels are gone"


def test_both_looks_at_a_video_are_matched_by_time(tmp_path, stubbed, monkeypatch):
    def frames(times):
        return lambda *_: (VideoFrame(t / 25, np.full((64, 64, 3), 10 * t, np.uint8)) for t in times)

    (tmp_path / "video.mp4").write_bytes(b"x")
    options, work = Options(size=64), WorkFolder(tmp_path / "work", tmp_path / "video.mp4", {})
    monkeypatch.setattr(stages, "read_frames", frames([0, 1, 2, 5, 6]))
    monkeypatch.setattr(stages, "estimate_count", lambda *_: None)
    faces = stages.find_faces(tmp_path / "video.mp4", options, work)
    monkeypatch.setattr(stages, "read_frames", frames([0, 2, 3, 4, 5, 6, 7]))
    pictures = stages.cut_pictures(tmp_path / "video.mp4", options, faces, work)
    shown = {index: int(stages.read_picture(work, index)[0, 0, 0]) // 10 for index in (0, 2, 3, 4)}
    assert shown == {0: 0, 2: 2, 3: 5, 4: 6}
    assert stages.reasons_to_leave_out(faces, pictures)[1] == "no landmarks"


def test_what_reading_converts_is_said_in_the_report(tmp_path, stubbed, film):
    video = film(tmp_path / "video.mp4", [np.full((64, 48, 3), 120, np.uint8)] * 12, sar=Fraction(4, 3))
    for _ in range(2):  # made, and from the work folder
        work = WorkFolder(tmp_path / "work", video, {})
        faces = stages.find_faces(video, Options(size=64), work)
        assert faces.notes == ("Pixels are not square (4:3): 48 x 64 was stretched to 64 x 64.",)
    assert faces.shape == (64, 64)


def test_a_silhouette_that_was_not_measured_is_null():
    errors = quality.Errors(torch.ones(8, 478), torch.full((8,), float("nan")), 0.1)
    assert quality.figures(errors)["silhouette_px_mean"] is None


def test_another_person_is_told_from_a_covered_face(monkeypatch):
    """Another person is looked for first: a covered face is one that this person shows otherwise."""
    monkeypatch.setattr(stages, "compare_people", lambda looks, times: (times > 0.59, times < 0.05))
    monkeypatch.setattr(stages, "covered", lambda texture, facing: np.arange(len(texture)) >= len(texture) - 2)
    reasons = stages.reasons_to_leave_out(*seen(20))
    assert reasons == dict.fromkeys((0, 1, 13, 14), stages.COVERED) | dict.fromkeys(range(15, 20), stages.OTHER_PERSON)


def test_other_people_do_not_count_as_frames_that_should_be_tracked(tmp_path):
    others = dict.fromkeys(range(60), stages.OTHER_PERSON)
    stages.require_enough(tmp_path, 100, others)
    with pytest.raises(SubjectError, match="most frames cannot be tracked"):
        stages.require_enough(tmp_path, 100, others | dict.fromkeys(range(60, 85), "no face"))
