"""Measures a finished track: draws the mesh over its images, computes the figures and collects the warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.tracking.fit.fit_head import cut_mask
from partnerface_ns.tracking.fit.observations import REFERENCE_SIZE
from partnerface_ns.tracking.fit.tracked import TrackedVideo
from partnerface_ns.tracking.report.chart import draw_quality
from partnerface_ns.tracking.report.footage import Footage, footage_warnings, name_frames
from partnerface_ns.tracking.report.preview import draw_mesh, write_film
from partnerface_ns.tracking.report.quality import TrackErrors, measure_jitter, outline_distance, quality_figures
from partnerface_ns.tracking.video.face_pass import FaceTrack
from partnerface_ns.tracking.video.image_pass import ImageMeasurements
from partnerface_ns.tracking.video.outline import matte_border
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import read_foreground, read_image, read_matte

_MAX_DRAWN = 500
"""Largest number of frames that are drawn and compared with their mattes; they are evenly spread."""
_MOSTLY_COVERED = 0.5
"""Share of the visible face that differs from the other frames, above which a warning names the frame."""
_PACKAGES = ("partnerface", "ai-edge-litert", "torch", "numpy")


def measure_track(
    folder: Path,
    work: WorkFolder,
    capture: Capture,
    tracked: TrackedVideo,
    faces: FaceTrack,
    images: ImageMeasurements,
    preview: bool,
) -> dict[str, Any]:
    """Measure a track, draw `quality.png` and, if requested, `preview.mp4`.

    Args:
        folder: folder for the drawings.
        work: folder with the images.
        capture: the result of the track.
        tracked: the fit.
        faces: first pass over the whole video.
        images: second pass over the whole video.
        preview: whether to draw the film.

    Returns:
        The content of `tracking.json`, except for the computing time.
    """
    stride = math.ceil(len(tracked.indices) / _MAX_DRAWN)
    silhouette = torch.full((len(tracked.indices),), float("nan"))

    def draw_film() -> Iterator[np.ndarray]:
        for timestep, image, distance in _draw_frames(work, capture, tracked, stride):
            silhouette[timestep] = distance
            yield image

    if preview:
        write_film(draw_film(), folder / "preview.mp4", faces.fps / stride)
    else:
        for _ in draw_film():
            pass
    jitter = measure_jitter(tracked.landmarks() / tracked.observations.px)
    errors = TrackErrors(tracked.landmark_errors(), silhouette, jitter, tracked.residuals, tracked.num_train)
    draw_quality(errors, faces.times[tracked.indices], folder / "quality.png")
    return _report(capture, tracked, faces, images, errors)


def _report(
    capture: Capture, tracked: TrackedVideo, faces: FaceTrack, images: ImageMeasurements, errors: TrackErrors
) -> dict[str, Any]:
    model, size, focal = tracked.head.full, tracked.observations.size, tracked.fit.focal
    return {
        "frames_total": len(faces.times),
        "frames_tracked": len(tracked.indices),
        **quality_figures(errors),
        "focal_length": round(focal / images.crop.scale(size) / max(faces.shape), 4),
        "focal_length_px": round(focal, 2),
        "image_size": size,
        "reference_size": REFERENCE_SIZE,
        "head_model": {"name": model.name, "fingerprint": model.fingerprint},
        "versions": {name: _version(name) for name in _PACKAGES},
        "warnings": [
            *faces.notes,
            *footage_warnings(_footage(capture, faces, images, tracked)),
            *covered_warnings(tracked),
        ],
    }


def _draw_frames(
    work: WorkFolder, capture: Capture, tracked: TrackedVideo, stride: int
) -> Iterator[tuple[int, UInt8[np.ndarray, "rows columns 3"], float]]:
    """Yield timestep, drawing and silhouette error of every `stride`-th frame.

    The drawing shows the mesh over the image, beside the image on white. The error is in pixels at 512.
    """
    model = tracked.head.full
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    cut, faces, cameras = cut_mask(model), model.faces.numpy(), tracked.cameras
    timesteps = range(0, len(tracked.indices), stride)
    for timestep in progress(timesteps, "Checking and drawing", len(timesteps)):
        index = int(tracked.indices[timestep])
        rgb = read_image(work, index)
        verts = shaped.surface(capture.track[timestep]).numpy()
        image, mesh_outline = draw_mesh(rgb, verts, faces, cameras[timestep], cut)
        matte = read_matte(work, index)
        distance = float("nan")
        if tracked.observations.outline[timestep].isfinite().any():
            distance = outline_distance(mesh_outline, matte_border(matte / 255)) / tracked.observations.px
        yield timestep, np.concatenate([image, compose_on_white(read_foreground(work, index), matte)], 1), distance


def compose_on_white(
    rgb: UInt8[np.ndarray, "rows columns 3"], matte: UInt8[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Compose foreground colours over white by their matte, 0 to 255."""
    share = matte[..., None].astype(np.float32) / 255
    return np.round(rgb * share + 255 * (1 - share)).astype(np.uint8)


def _footage(capture: Capture, faces: FaceTrack, images: ImageMeasurements, tracked: TrackedVideo) -> Footage:
    from scipy.spatial.transform import Rotation

    track, kept = capture.track, tracked.indices
    skull = Rotation.from_rotvec(track.rotation.numpy()) * Rotation.from_rotvec(track.neck.numpy())
    forward, up = skull.apply([0.0, 0.0, 1.0]), skull.apply([0.0, 1.0, 0.0])
    return Footage(
        num_frames=len(kept),
        yaw=np.degrees(np.arctan2(forward[:, 0], forward[:, 2])),
        tilt=np.degrees(np.arctan2(up[:, 0], up[:, 1])),
        jaw=np.degrees(track.jaw[:, 0].numpy()),
        face_height=float(np.nanmedian(faces.boxes[kept, 3])),
        burnt=float(np.nanmedian(images.burnt[kept])),
        brightness=float(np.nanmedian(images.brightness[kept])),
        num_others=faces.num_others,
        head_cut=float(images.crop.cut_off[kept].mean()),
    )


def covered_warnings(tracked: TrackedVideo) -> list[str]:
    """Return a warning that names the frames in which most of the face looks unlike the other frames."""
    if tracked.residuals is None:
        return []
    frames = tracked.indices[tracked.residuals.covered.numpy() > _MOSTLY_COVERED].tolist()
    return [f"Most of the face is covered or looks different in {name_frames(frames)}."] if frames else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
