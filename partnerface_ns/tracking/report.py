"""Checking a finished track: draws the mesh over every image, measures, warns, and says it all in `tracking.json`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partnerface_ns.capture.capture import Capture
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.tracking import quality
from partnerface_ns.tracking.fit_head import cut_share
from partnerface_ns.tracking.observations import REFERENCE_SIZE
from partnerface_ns.tracking.outline import matte_border
from partnerface_ns.tracking.preview import draw_mesh, write_film
from partnerface_ns.tracking.stages import Faces, Images, read_image, read_matte
from partnerface_ns.tracking.tracked import Tracked
from partnerface_ns.tracking.workfolder import WorkFolder

_MAX_DRAWN = 500
"""Frames that are drawn and measured against the matte at most, evenly over the video."""
_PACKAGES = ("partnerface", "ai-edge-litert", "torch", "numpy")


def check(
    folder: Path, work: WorkFolder, capture: Capture, tracked: Tracked, faces: Faces, images: Images, preview: bool
) -> dict[str, Any]:
    """Measure a track, and draw `quality.png` and, if wanted, `preview.mp4`.

    Args:
        folder: to draw into.
        work: where the images are.
        capture: as it is written.
        tracked: the fit.
        faces: of the whole video.
        images: of the whole video.
        preview: whether to draw the film.

    Returns:
        What `tracking.json` says, but for the time that all took.
    """
    stride = math.ceil(len(tracked.indices) / _MAX_DRAWN)
    silhouette = torch.full((len(tracked.indices),), float("nan"))

    def film() -> Iterator[np.ndarray]:
        for timestep, image, distance in _draw(work, capture, tracked, stride):
            silhouette[timestep] = distance
            yield image

    if preview:
        write_film(film(), folder / "preview.mp4", faces.fps / stride)
    else:
        for _ in film():
            pass
    jitter = quality.jitter(tracked.landmarks() / tracked.seen.px)
    errors = quality.Errors(tracked.landmark_errors(), silhouette, jitter)
    quality.draw_quality(errors, faces.times[tracked.indices], folder / "quality.png")
    model = tracked.head.full
    return {
        "frames_total": len(faces.times),
        "frames_tracked": len(tracked.indices),
        **quality.figures(errors),
        "focal_length": round(tracked.fit.focal / images.crop.scale(tracked.seen.size) / max(faces.shape), 4),
        "focal_length_px": round(tracked.fit.focal, 2),
        "image_size": tracked.seen.size,
        "reference_size": REFERENCE_SIZE,
        "head_model": {"name": model.name, "fingerprint": model.fingerprint},
        "versions": {name: _version(name) for name in _PACKAGES},
        "warnings": [*faces.notes, *quality.warnings_about(_footage(capture, faces, images, tracked))],
    }


def _draw(work: WorkFolder, capture: Capture, tracked: Tracked, stride: int) -> Iterator[tuple[int, np.ndarray, float]]:
    """Timestep, mesh over image beside the matted image, and distance of the outlines in pixels at 512."""
    model = tracked.head.full
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    cut, faces, cameras = cut_share(model), model.faces.numpy(), tracked.cameras
    drawn = range(0, len(tracked.indices), stride)
    for timestep in progress(drawn, "Checking and drawing", len(drawn)):
        index = int(tracked.indices[timestep])
        rgb = read_image(work, index)
        verts = shaped.pose(capture.track[timestep]).verts.numpy()
        image, mesh_outline = draw_mesh(rgb, verts, faces, cameras[timestep], cut)
        matte = read_matte(work, index)
        distance = float("nan")
        if tracked.seen.outline[timestep].isfinite().any():
            distance = quality.outline_distance(mesh_outline, matte_border(matte / 255)) / tracked.seen.px
        yield timestep, np.concatenate([image, on_white(rgb, matte)], 1), distance


def on_white(rgb: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """An image over white by its matte (0 to 255)."""
    share = matte[..., None].astype(np.float32) / 255
    return np.round(rgb * share + 255 * (1 - share)).astype(np.uint8)


def _footage(capture: Capture, faces: Faces, images: Images, tracked: Tracked) -> quality.Footage:
    from scipy.spatial.transform import Rotation

    track, kept = capture.track, tracked.indices
    turn = Rotation.from_rotvec(track.rotation.numpy()) * Rotation.from_rotvec(track.neck.numpy())
    look, up = turn.apply([0.0, 0.0, 1.0]), turn.apply([0.0, 1.0, 0.0])
    return quality.Footage(
        num_frames=len(kept),
        yaw=np.degrees(np.arctan2(look[:, 0], look[:, 2])),
        tilt=np.degrees(np.arctan2(up[:, 0], up[:, 1])),
        jaw=np.degrees(track.jaw[:, 0].numpy()),
        face_height=float(np.nanmedian(faces.boxes[kept, 3])),
        burnt=float(np.nanmedian(images.burnt[kept])),
        brightness=float(np.nanmedian(images.brightness[kept])),
        num_others=faces.num_others,
        head_cut=float(images.crop.cut_off[kept].mean()),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
