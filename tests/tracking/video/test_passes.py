"""Both passes over a video and the mattes, with models that need no network."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from PIL import Image

from partnerface_ns.tracking.report.measure import compose_on_white
from partnerface_ns.tracking.video import face_pass, image_pass
from partnerface_ns.tracking.video.decode.frame import VideoFrame
from partnerface_ns.tracking.video.decode.reading import Selection
from partnerface_ns.tracking.video.interfaces import FaceDetector, FaceLandmarks, LandmarkDetector, Matting
from partnerface_ns.tracking.video.left_out import reasons_to_leave_out
from partnerface_ns.tracking.video.matte_pass import cut_mattes
from partnerface_ns.tracking.video.vision_models import VisionModels
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import read_foreground, read_image, read_matte

LANDMARKS = np.full((478, 3), 32.0, np.float32)
LANDMARKS[:, :2] += np.random.default_rng(0).normal(0, 8, (478, 2))


class StillFace:
    """Detects the same face in every frame."""

    def __call__(self, rgb):
        return [np.array([20.0, 20.0, 24.0, 24.0])]


class StillLandmarks:
    """Detects the same landmarks in every image."""

    def __call__(self, rgb):
        return FaceLandmarks(LANDMARKS, 0.5)


class Everyone:
    """Sees a person everywhere."""

    def __call__(self, rgb):
        return np.ones(rgb.shape[:2], np.float32)


class UpperHalf:
    """Sees a person in the upper half of the image, with a soft border."""

    def __call__(self, rgb):
        rows, columns, _ = rgb.shape
        return np.tile(np.clip(rows / 2 + 0.5 - np.arange(rows), 0, 1).astype(np.float32)[:, None], columns)


def find_faces(video, work):
    return face_pass.find_faces(video, Selection(), work, StillFace, Everyone)


def cut_images(video, faces, work):
    return image_pass.cut_images(video, Selection(), 64, faces, work, StillLandmarks)


def test_the_default_models_have_the_interfaces():
    models = VisionModels()
    assert isinstance(models.faces(), FaceDetector)
    assert isinstance(models.landmarks(), LandmarkDetector)
    assert isinstance(models.matting(), Matting)
    assert VisionModels(matting=Everyone).names() == {**models.names(), "matting_model": "Everyone"}


def test_landmarks_of_another_face_are_distinguished():
    landmarks = np.random.default_rng(0).normal((100, 120, 0), 10, (478, 3))
    assert image_pass.is_same_face(landmarks, np.array([75.0, 90.0, 50.0, 50.0]))
    assert not image_pass.is_same_face(landmarks, np.array([150.0, 90.0, 50.0, 50.0]))


def test_alpha_of_the_frames_is_the_matte(tmp_path):
    (tmp_path / "frames").mkdir()
    noise = np.random.default_rng(1)
    for index in range(12):
        rgba = noise.integers(0, 256, (64, 64, 4), dtype=np.uint8)
        rgba[..., 3] = 0
        rgba[16:, 16:48] = (200, 100, 50, 255)
        Image.fromarray(rgba).save(tmp_path / "frames" / f"{index}.png")
    work = WorkFolder(tmp_path / "work", tmp_path / "frames", {})
    faces = find_faces(tmp_path / "frames", work)
    images = cut_images(tmp_path / "frames", faces, work)
    cut_mattes(np.arange(12), images, work, Everyone)
    assert images.crop.side == 64
    matte, image = read_matte(work, 5), read_image(work, 5)
    assert set(np.unique(matte)) == {0, 255}
    np.testing.assert_array_equal(matte[16:, 16:48], 255)
    np.testing.assert_array_equal(image[16:, 16:48], np.broadcast_to([200, 100, 50], (48, 32, 3)))
    np.testing.assert_array_equal(read_foreground(work, 5), image)
    assert (compose_on_white(image, matte)[:16] == 255).all(), "colours of transparent pixels are dropped"


def test_mattes_do_not_depend_on_the_number_of_workers(tmp_path):
    (tmp_path / "frames").mkdir()
    noise = np.random.default_rng(3)
    for index in range(12):
        rgb = noise.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        rgb[:32, 8 + index % 3 : 50] += 120
        Image.fromarray(rgb).save(tmp_path / "frames" / f"{index}.png")
    results = []
    for num_workers in (1, 3):
        work = WorkFolder(tmp_path / f"work{num_workers}", tmp_path / "frames", {})
        images = cut_images(tmp_path / "frames", find_faces(tmp_path / "frames", work), work)
        outlines = cut_mattes(np.arange(12), images, work, UpperHalf, num_workers)
        mattes = [read_matte(work, index) for index in range(12)]
        results.append((outlines, np.stack(mattes), np.stack([read_foreground(work, index) for index in range(12)])))
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)
    assert 0.2 < (results[0][1] > 127).mean() < 0.6


def test_frames_of_both_passes_are_matched_by_time(tmp_path, monkeypatch):
    def frames(times):
        return lambda *_: (VideoFrame(t / 25, np.full((64, 64, 3), 10 * t, np.uint8)) for t in times)

    (tmp_path / "video.mp4").write_bytes(b"x")
    work = WorkFolder(tmp_path / "work", tmp_path / "video.mp4", {})
    monkeypatch.setattr(face_pass, "read_frames", frames([0, 1, 2, 5, 6]))
    monkeypatch.setattr(face_pass, "estimate_count", lambda *_: None)
    faces = find_faces(tmp_path / "video.mp4", work)
    monkeypatch.setattr(image_pass, "read_frames", frames([0, 2, 3, 4, 5, 6, 7]))
    images = cut_images(tmp_path / "video.mp4", faces, work)
    numbers = {index: int(read_image(work, index)[0, 0, 0]) // 10 for index in (0, 2, 3, 4)}
    assert numbers == {0: 0, 2: 2, 3: 5, 4: 6}
    assert reasons_to_leave_out(faces, images)[1] == "no landmarks"


def test_conversions_by_the_reader_are_noted(tmp_path, film):
    video = film(tmp_path / "video.mp4", [np.full((64, 48, 3), 120, np.uint8)] * 12, sar=Fraction(4, 3))
    for _ in range(2):  # computed, and from the work folder
        faces = find_faces(video, WorkFolder(tmp_path / "work", video, {}))
        assert faces.notes == ("Pixels are not square (4:3): 48 x 64 was stretched to 64 x 64.",)
    assert faces.shape == (64, 64)
