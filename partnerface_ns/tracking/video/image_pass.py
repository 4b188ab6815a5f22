"""Second pass over the video: the square images, and what is measured in each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from partnerface_ns.common.progress import progress
from partnerface_ns.tracking.video.crop import CropPath, plan_crop
from partnerface_ns.tracking.video.decode.frame import VideoFrame
from partnerface_ns.tracking.video.decode.reading import Selection, read_frames
from partnerface_ns.tracking.video.face_pass import FaceTrack
from partnerface_ns.tracking.video.face_texture import face_grid, read_texture
from partnerface_ns.tracking.video.face_topology import NUM_LANDMARKS
from partnerface_ns.tracking.video.interfaces import Box, LandmarkDetector
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import image_path

_MAX_CENTRE_OFFSET = 0.75
"""Largest distance between the centres of landmarks and box, in box sizes, at which both are of one face."""
_BURNT_OUT = 250
"""Brightness (0 to 255) above which a pixel is burnt out."""


@dataclass(frozen=True)
class ImageMeasurements:
    """Measurements in the square images of all frames."""

    crop: CropPath
    landmarks: Float[np.ndarray, "frames landmarks 3"]
    """Pixels of the images; NaN where no landmarks were detected."""
    disagreement: Float[np.ndarray, "frames"]
    """Uncertainty of the landmarks, pixels."""
    sharpness: Float[np.ndarray, "frames"]
    """Strength of the edges in the face, relative to its brightness."""
    brightness: Float[np.ndarray, "frames"]
    """Mean brightness of the face, 0 to 255."""
    burnt: Float[np.ndarray, "frames"]
    """Share of burnt-out pixels in the face."""
    texture: UInt8[np.ndarray, "frames points 3"]
    """Colours at the points of the face grid; black without landmarks."""


def cut_images(
    video: Path,
    selection: Selection,
    size: int,
    faces: FaceTrack,
    work: WorkFolder,
    new_detector: Callable[[], LandmarkDetector],
) -> ImageMeasurements:
    """Cut the square images, store them with their alpha in the work folder, and measure them.

    Args:
        video: the file or image folder.
        selection: which frames to read.
        size: side of the images, pixels.
        faces: result of the first pass.
        work: stores the images and caches the measurements.
        new_detector: constructor of the landmark detector.
    """
    crop = plan_crop(faces.boxes, faces.shape, faces.fps, faces.heads)

    def measure() -> dict[str, np.ndarray]:
        num = len(faces.times)
        landmarks = np.full((num, NUM_LANDMARKS, 3), np.nan, dtype=np.float32)
        looks = np.full((num, 4), np.nan)
        texture = np.zeros((num, len(face_grid().points), 3), dtype=np.uint8)
        index_at = {time: index for index, time in enumerate(faces.times.tolist())}
        frames = (frame for frame in read_frames(video, selection) if frame.time in index_at)
        detector = new_detector()
        for frame in progress(frames, "Landmarks", num):
            index = index_at[frame.time]
            image = _store_image(frame, crop, index, size, work)
            box = faces.boxes[index].copy()
            box[:2] -= crop.corners[index]
            detected = None if np.isnan(box[0]) else detector(image)
            if detected is not None and is_same_face(detected.points, box * crop.scale(size)):
                landmarks[index] = detected.points
                looks[index] = (detected.disagreement, *_image_quality(image, detected.points))
                texture[index] = read_texture(image, detected.points)
        return {"landmarks": landmarks, "looks": looks, "texture": texture}

    arrays = work.stage("landmarks", measure)
    disagreement, sharpness, brightness, burnt = arrays["looks"].T
    return ImageMeasurements(crop, arrays["landmarks"], disagreement, sharpness, brightness, burnt, arrays["texture"])


def _store_image(
    frame: VideoFrame, crop: CropPath, index: int, size: int, work: WorkFolder
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a frame, store the image and its alpha if it has one, and return the image."""
    image = crop.cut(frame.rgb, index, size)
    if frame.alpha is not None:
        rgba = crop.cut(np.dstack([frame.rgb, frame.alpha]), index, size)
        image = np.ascontiguousarray(rgba[..., :3])
        Image.fromarray(rgba[..., 3]).save(image_path(work.folder("alphas"), index))
    Image.fromarray(image).save(image_path(work.folder("images"), index), compress_level=1)
    return image


def is_same_face(landmarks: Float[np.ndarray, "landmarks 3"], box: Box) -> bool:
    """Whether landmarks and a box belong to one face; the image may show several."""
    centre = landmarks[:, :2].mean(0)
    return bool((np.abs(centre - box[:2] - box[2:] / 2) < _MAX_CENTRE_OFFSET * box[2:]).all())


def _image_quality(
    image: UInt8[np.ndarray, "rows columns 3"], landmarks: Float[np.ndarray, "landmarks 3"]
) -> tuple[float, float, float]:
    """Sharpness, mean brightness and share of burnt-out pixels of the face."""
    low = np.clip(landmarks[:, :2].min(0), 0, image.shape[0] - 8).astype(int)
    high = np.clip(landmarks[:, :2].max(0), low + 8, image.shape[0]).astype(int)
    face = image[low[1] : high[1], low[0] : high[0]].astype(np.float32).mean(-1)
    laplacian = face[1:-1, 1:-1] * 4 - face[:-2, 1:-1] - face[2:, 1:-1] - face[1:-1, :-2] - face[1:-1, 2:]
    return float(laplacian.std()) / max(float(face.mean()), 1.0), float(face.mean()), float((face > _BURNT_OUT).mean())
