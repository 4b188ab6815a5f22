"""From a video to a subject: look, fit, measure, write.

The work folder stands beside the result and is removed at the end; the result appears whole or not at all. Frames
that are kept are counted anew from 0; the first 70% of them are for training, the rest for testing.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Camera, Capture, Frame, HeadModelRef
from partnerface_ns.capture.vhap_writer import require_new, write_vhap
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.progress import progress
from partnerface_ns.tracking import quality
from partnerface_ns.tracking.embedding import landmark_embedding
from partnerface_ns.tracking.fit_head import FitHead, cut_share, reduce_head
from partnerface_ns.tracking.fitting import Schedule, fit_track
from partnerface_ns.tracking.observations import REFERENCE_SIZE, Fit, Observations
from partnerface_ns.tracking.preview import draw_mesh, write_film
from partnerface_ns.tracking.stages import (
    Faces,
    Options,
    Pictures,
    cut_mattes,
    cut_pictures,
    find_faces,
    read_picture,
    reasons_to_leave_out,
    require_enough,
)
from partnerface_ns.tracking.workfolder import WorkFolder

EXPECTED_FOCAL = 1.6
"""Focal length in longer sides of the frame, where nothing is known: between a phone's and a portrait lens."""
_TRAIN_SHARE = 0.7
_MAX_DRAWN = 500
"""Frames that are drawn and measured against the matte at most, evenly over the video."""
_BAD_FIT_PX, _BAD_FIT_FACTOR = 5.0, 3.5
"""A frame whose mean landmark error is above both, pixels at 512 and times the median, was fitted to nonsense."""


@dataclass(frozen=True)
class Tracked:
    """All that is known of the kept frames before it is written."""

    indices: Float[np.ndarray, "frames"]
    """Frames of the video that were kept."""
    cameras: tuple[Camera, ...]
    seen: Observations
    fit: Fit


def track_video(video: Path, root: Path, model: HeadModel, options: Options, preview: bool = True) -> dict[str, object]:
    """Track a video and write the subject; gives what `tracking.json` says.

    Args:
        video: a file that ffmpeg decodes, or a folder of images.
        root: the new folder.
        model: the head model to fit.
        options: how to track.
        preview: whether to draw `preview.mp4`.

    Raises:
        SubjectError: the video cannot be read, shows no face in most frames, or the folder exists.
    """
    start = time.monotonic()
    video, root = Path(video), Path(root)
    require_new(root)
    made_from = {**{f.name: getattr(options, f.name) for f in fields(options)}, "head_model": model.fingerprint}
    work = WorkFolder(root.with_name(f".{root.name}.tracking"), video, made_from)
    faces = find_faces(video, options, work)
    pictures = cut_pictures(video, options, faces, work)
    reasons = reasons_to_leave_out(faces, pictures)
    require_enough(video, len(faces.times), reasons)
    tracked = _fit(model, options, faces, pictures, reasons, work)
    require_enough(video, len(faces.times), reasons)

    capture = _capture(root, model, tracked, reasons)
    staged = work.root / "subject"
    write_vhap(staged, capture, model, _composited(work, tracked.indices, options))
    errors = _measure_and_draw(staged, work, capture, model, tracked, faces, preview)
    warnings = quality.warnings_about(_footage(capture, faces, pictures, tracked))
    seconds = time.monotonic() - start
    report = _report(errors, tracked, model, faces, reasons, warnings, seconds, options)
    (staged / "tracking.json").write_text(json.dumps(report, indent=1), encoding="utf8")
    os.replace(staged, root)
    work.remove()
    return report


def _fit(
    model: HeadModel, options: Options, faces: Faces, pictures: Pictures, reasons: dict[int, str], work: WorkFolder
) -> Tracked:
    """Fit the frames that are not left out; those that do not fit are added to `reasons`."""
    embedding = landmark_embedding(model)
    head = reduce_head(model, embedding)
    indices = np.array([i for i in range(len(faces.times)) if i not in reasons])
    outlines = _outlines(options, indices, work)
    scale = pictures.crop.scale(options.size)
    focal = (options.focal_length or EXPECTED_FOCAL) * max(faces.shape) * scale
    centre = np.array([faces.shape[1] / 2, faces.shape[0] / 2])
    seen = Observations(
        size=options.size,
        landmarks=torch.from_numpy(pictures.landmarks[indices]),
        outline=torch.from_numpy(outlines),
        principal=torch.from_numpy((centre - pictures.crop.corners[indices]) * scale).float(),
        times=torch.from_numpy(faces.times[indices]).float(),
        focal=focal,
    )
    names = [f.name for f in fields(HeadState)]

    def make() -> dict[str, np.ndarray]:
        schedule = Schedule()
        steps = progress(range(schedule.total), "Fitting the head", schedule.total)
        known = options.focal_length is not None
        fit = fit_track(head, seen, embedding.spread, lambda: next(steps, None), schedule, known, options.device)
        next(steps, None)
        states = {f"track_{name}": getattr(fit.track, name).numpy() for name in names}
        return {
            "identity": fit.identity.numpy(),
            "focal": np.array(fit.focal),
            "bias": fit.landmark_bias.numpy(),
            **states,
        }

    arrays = {key: torch.from_numpy(np.asarray(value)) for key, value in work.stage("fit", make).items()}
    track = HeadState(*(arrays[f"track_{name}"] for name in names))
    fit = Fit(arrays["identity"], track, float(arrays["focal"]), arrays["bias"])
    return _keep_good(head, Tracked(indices, _cameras(seen, fit.focal), seen, fit), reasons)


def _outlines(options: Options, indices: np.ndarray, work: WorkFolder) -> np.ndarray:
    if options.matting:
        return cut_mattes(options, indices, work)
    return np.full((len(indices), 1, 4), np.nan, dtype=np.float32)


def _cameras(seen: Observations, focal: float) -> tuple[Camera, ...]:
    return tuple(Camera(np.eye(4), focal, focal, float(x), float(y), seen.size, seen.size) for x, y in seen.principal)


def _keep_good(head: FitHead, tracked: Tracked, reasons: dict[int, str]) -> Tracked:
    error = landmark_errors(head, tracked)[1].mean(-1)
    bad = (error > _BAD_FIT_PX) & (error > _BAD_FIT_FACTOR * error.median())
    if not bad.any():
        return tracked
    for index in tracked.indices[bad.numpy()]:
        reasons[int(index)] = "the landmarks fit no face"
    keep = torch.nonzero(~bad)[:, 0]
    seen, fit = tracked.seen, tracked.fit
    return Tracked(
        tracked.indices[keep.numpy()],
        tuple(tracked.cameras[i] for i in keep.tolist()),
        seen[keep],
        Fit(fit.identity, fit.track[keep], fit.focal, fit.landmark_bias),
    )


def landmark_errors(
    head: FitHead, tracked: Tracked
) -> tuple[Float[Tensor, "frames landmarks 2"], Float[Tensor, "frames landmarks"]]:
    """Projected landmarks and their distances from the detected ones, pixels at 512."""
    seen, fit = tracked.seen, tracked.fit
    offset = torch.zeros_like(head.landmark_model.template)
    offset[: head.num_landmarks] = fit.landmark_bias
    verts = ShapedHead.of(head.landmark_model, fit.identity, offset).pose(fit.track).verts[:, : head.num_landmarks]
    projected = seen.project(verts, fit.focal)
    return projected / seen.px, (projected - seen.landmarks[..., :2]).norm(dim=-1) / seen.px


def _capture(root: Path, model: HeadModel, tracked: Tracked, reasons: dict[int, str]) -> Capture:
    head = reduce_head(model, landmark_embedding(model))
    num = len(tracked.indices)
    num_train = math.ceil(_TRAIN_SHARE * num)
    return Capture(
        root=root,
        name=root.name,
        head_model=HeadModelRef(model.name, model.fingerprint),
        identity=tracked.fit.identity[: model.num_identity],
        static_offset=head.static_offset(tracked.fit.identity),
        track=tracked.fit.track,
        frames=tuple(Frame(t, 0, camera, None, None) for t, camera in enumerate(tracked.cameras)),
        splits={"train": tuple(range(num_train)), "val": (), "test": tuple(range(num_train, num))},
        skipped={f"frame {index}": reason for index, reason in sorted(reasons.items())},
        background=(1.0, 1.0, 1.0),
    )


def _composited(work: WorkFolder, indices: np.ndarray, options: Options) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures on white, with their mattes."""
    for index in indices.tolist():
        rgb = read_picture(work.folder("pictures"), index)
        matte = np.full(rgb.shape[:2], 255, np.uint8)
        if options.matting:
            matte = read_picture(work.folder("mattes"), index)
        yield on_white(rgb, matte), matte


def on_white(rgb: np.ndarray, matte: np.ndarray) -> np.ndarray:
    share = matte[..., None].astype(np.float32) / 255
    return np.round(rgb * share + 255 * (1 - share)).astype(np.uint8)


def _measure_and_draw(
    staged: Path,
    work: WorkFolder,
    capture: Capture,
    model: HeadModel,
    tracked: Tracked,
    faces: Faces,
    preview: bool,
) -> quality.Errors:
    head = reduce_head(model, landmark_embedding(model))
    projected, distances = landmark_errors(head, tracked)
    silhouette = torch.full((len(tracked.indices),), float("nan"))
    stride = math.ceil(len(tracked.indices) / _MAX_DRAWN)
    pictures = _draw(work, capture, model, tracked, silhouette, stride)
    if preview:
        write_film(pictures, staged / "preview.mp4", faces.fps / stride)
    else:
        for _ in pictures:
            pass
    errors = quality.Errors(distances, silhouette, quality.jitter(projected))
    quality.draw_quality(errors, faces.times[tracked.indices], staged / "quality.png")
    return errors


def _draw(
    work: WorkFolder, capture: Capture, model: HeadModel, tracked: Tracked, silhouette: Tensor, stride: int
) -> Iterator[np.ndarray]:
    """Mesh over picture beside the matted picture; writes silhouette errors as it goes."""
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    cut = cut_share(model)
    faces = model.faces.numpy()
    drawn = range(0, len(tracked.indices), stride)
    for t in progress(drawn, "Checking and drawing", len(drawn)):
        index = int(tracked.indices[t])
        rgb = read_picture(work.folder("pictures"), index)
        verts = shaped.pose(capture.track[t]).verts.numpy()
        picture, outline = draw_mesh(rgb, verts, faces, tracked.cameras[t], cut)
        matte_outline = tracked.seen.outline[t, :, :2].numpy()
        matte_outline = matte_outline[np.isfinite(matte_outline).all(-1)]
        silhouette[t] = quality.outline_distance(outline, matte_outline) / tracked.seen.px
        matted = rgb
        path = work.root / "mattes"
        if path.is_dir():
            matted = on_white(rgb, read_picture(path, index))
        yield np.concatenate([picture, matted], 1)


def _footage(capture: Capture, faces: Faces, pictures: Pictures, tracked: Tracked) -> quality.Footage:
    from scipy.spatial.transform import Rotation

    track = capture.track
    turn = Rotation.from_rotvec(track.rotation.numpy()) * Rotation.from_rotvec(track.neck.numpy())
    look = turn.apply([0.0, 0.0, 1.0])
    kept = tracked.indices
    return quality.Footage(
        num_frames=len(kept),
        yaw=np.degrees(np.arctan2(look[:, 0], look[:, 2])),
        jaw=np.degrees(track.jaw[:, 0].numpy()),
        face_height=float(np.nanmedian(faces.boxes[kept, 3])),
        burnt=float(np.nanmedian(pictures.burnt[kept])),
        brightness=float(np.nanmedian(pictures.brightness[kept])),
        num_others=faces.num_others,
    )


def _report(
    errors: quality.Errors,
    tracked: Tracked,
    model: HeadModel,
    faces: Faces,
    reasons: dict[int, str],
    warnings: list[str],
    seconds: float,
    options: Options,
) -> dict[str, object]:
    num = len(faces.times)
    return {
        "frames_total": num,
        "frames_tracked": num - len(reasons),
        "seconds_total": round(seconds, 1),
        "seconds_per_frame": round(seconds / num, 3),
        **quality.figures(errors),
        "focal_length_px": round(tracked.fit.focal, 2),
        "picture_size": options.size,
        "reference_size": REFERENCE_SIZE,
        "head_model": {"name": model.name, "fingerprint": model.fingerprint},
        "versions": {name: _version(name) for name in ("partnerface", "mediapipe", "torch", "numpy")},
        "warnings": warnings,
        "left_out": {str(index): reason for index, reason in sorted(reasons.items())},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
