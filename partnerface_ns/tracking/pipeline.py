"""From a video to a subject: look, fit, measure, write.

The work folder is hidden, on the file system of the result, and removed at the end; the result appears whole or not at
all. Frames that are kept are counted anew from 0; the first 70% of them are for training, the rest for testing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.capture.writing import make_folder, publish, remove_empty, require_new, unfinished_folder
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import write_failure
from partnerface_ns.common.json_file import write_json
from partnerface_ns.common.locks import lock_folder
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking import quality, report
from partnerface_ns.tracking.embedding import landmark_embedding
from partnerface_ns.tracking.fit_head import reduce_head
from partnerface_ns.tracking.fitting import Schedule, fit_track
from partnerface_ns.tracking.observations import Fit, Observations
from partnerface_ns.tracking.stages import (
    Faces,
    Images,
    Options,
    cut_images,
    cut_mattes,
    find_faces,
    read_image,
    read_matte,
    reasons_to_leave_out,
    require_enough,
)
from partnerface_ns.tracking.tracked import Tracked
from partnerface_ns.tracking.video import length_of, require_selection
from partnerface_ns.tracking.workfolder import WorkFolder

MIN_SIZE, MAX_SIZE = 64, 4096
"""Pixels of an image's side: the landmark detector needs as many; memory and time allow as many."""
FOCAL_RANGE = (0.3, 10.0)
EXPECTED_FOCAL = 1.6
"""Focal length in longer sides of the frame, where nothing is known: between a phone's and a portrait lens."""


def track_video(video: Path, root: Path, model: HeadModel, options: Options, preview: bool = True) -> dict[str, Any]:
    """Track a video and write the subject; gives what `tracking.json` says.

    Args:
        video: a file that ffmpeg decodes, or a folder of images.
        root: the new folder.
        model: the head model to fit.
        options: how to track.
        preview: whether to draw `preview.mp4`.

    Raises:
        InputError: an option is out of range, the video cannot be read or shows no face in most frames, or the
            folder exists, is being written by another process, or cannot be written.
    """
    start = time.monotonic()
    video, root = Path(video), Path(root)
    require_new(root)
    require_options(options, video)
    folder, made = unfinished_folder(root, "tracking"), list[Path]()
    try:
        made = make_folder(folder)
        with lock_folder(folder, root):
            made_from = {**{f.name: getattr(options, f.name) for f in fields(options)}, "head_model": model.fingerprint}
            work = WorkFolder(folder, video, made_from)
            try:
                require_new(root)  # another process may just have finished it
                return _track(video, root.resolve(), model, options, preview, work, start)
            except InputError:
                # The same video would be refused again: there is nothing to go on from.
                work.remove()
                raise
    except OSError as error:
        hint = f"what is finished lies in {folder}: the same command goes on from there"
        raise write_failure(root, error, hint) from error
    finally:
        remove_empty(made)


def require_options(options: Options, video: Path) -> None:
    """Check the options for a video, before anything is decoded.

    Raises:
        InputError: an option is out of range, or there is no video; names the option and what it takes.
    """
    if not MIN_SIZE <= options.size <= MAX_SIZE:
        expected = f"{MIN_SIZE} to {MAX_SIZE} pixels"
        raise InputError("--size", "out of range", expected=expected, found=options.size)
    require_selection(options.selection, video)
    low, high = FOCAL_RANGE
    focal = options.focal_length
    if focal is not None and not low <= focal <= high:
        longer_side = length_of(video).longer_side
        looks_like_pixels = longer_side is not None and low <= focal / longer_side <= high
        raise InputError(
            "--focal-length",
            "out of range",
            expected=f"{low:g} to {high:g}, in longer sides of the video's frame",
            found=f"{focal:g}",
            hint=f"for {focal:g} pixels give {focal / longer_side:.3g}" if looks_like_pixels else None,
        )


def _track(
    video: Path, root: Path, model: HeadModel, options: Options, preview: bool, work: WorkFolder, start: float
) -> dict[str, Any]:
    faces = find_faces(video, options, work)
    images = cut_images(video, options, faces, work)
    reasons = reasons_to_leave_out(faces, images)
    require_enough(video, len(faces.times), reasons)
    tracked = _fit(model, options, faces, images, reasons, work)
    require_enough(video, len(faces.times), reasons)

    capture = tracked.capture(root, reasons)
    staged = work.root / "subject"
    shutil.rmtree(staged, ignore_errors=True)
    write_vhap(staged, capture, model, _images_on_white(work, tracked.indices))
    result = report.check(staged, work, capture, tracked, faces, images, preview)
    result["warnings"] += quality.warnings_about_left_out(reasons)
    seconds = time.monotonic() - start
    result |= {
        "seconds_total": round(seconds, 1),
        "seconds_per_frame": round(seconds / len(faces.times), 3),
        "left_out": {str(index): reason for index, reason in sorted(reasons.items())},
        "frame_times": [round(float(time), 6) for time in faces.times],
    }
    write_json(staged / "tracking.json", result)
    publish(staged, root)
    work.remove()
    return result


def _fit(
    model: HeadModel, options: Options, faces: Faces, images: Images, reasons: dict[int, str], work: WorkFolder
) -> Tracked:
    """Fit the frames that are not left out; those that do not fit are added to `reasons`."""
    embedding = landmark_embedding(model)
    head = reduce_head(model, embedding)
    indices = np.array([i for i in range(len(faces.times)) if i not in reasons])
    seen = _observations(options, faces, images, indices, work)

    def make() -> dict[str, np.ndarray]:
        schedule = Schedule()
        steps = progress(range(schedule.total), "Fitting the head", schedule.total)
        known = options.focal_length is not None
        fit = fit_track(head, seen, embedding.spread, lambda: next(steps, None), schedule, known, options.device)
        next(steps, None)
        return _pack(fit)

    tracked = Tracked(indices, head, seen, _unpack(work.stage("fit", make)))
    good = tracked.without_bad_fits()
    reasons |= {int(index): "the landmarks fit no face" for index in set(indices) - set(good.indices)}
    return good


def _observations(
    options: Options, faces: Faces, images: Images, indices: np.ndarray, work: WorkFolder
) -> Observations:
    outlines = np.full((len(indices), 1, 4), np.nan, dtype=np.float32)
    if options.matting:
        outlines = cut_mattes(indices, images, work)
    scale = images.crop.scale(options.size)
    centre = np.array([faces.shape[1] / 2, faces.shape[0] / 2])
    return Observations(
        size=options.size,
        landmarks=torch.from_numpy(images.landmarks[indices]),
        outline=torch.from_numpy(outlines),
        principal=torch.from_numpy((centre - images.crop.corners[indices]) * scale).float(),
        times=torch.from_numpy(faces.times[indices]).float(),
        focal=(options.focal_length or EXPECTED_FOCAL) * max(faces.shape) * scale,
    )


def _pack(fit: Fit) -> dict[str, np.ndarray]:
    """A fit as arrays of a stage."""
    states = {f"track_{f.name}": getattr(fit.track, f.name).numpy() for f in fields(HeadState)}
    once = {"identity": fit.identity.numpy(), "focal": np.array(fit.focal), "bias": fit.landmark_bias.numpy()}
    return {**once, **states}


def _unpack(arrays: dict[str, np.ndarray]) -> Fit:
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
    track = HeadState(*(tensors[f"track_{f.name}"] for f in fields(HeadState)))
    return Fit(tensors["identity"], track, float(tensors["focal"]), tensors["bias"])


def _images_on_white(work: WorkFolder, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images on white, with their mattes."""
    for index in indices.tolist():
        matte = read_matte(work, index)
        yield report.on_white(read_image(work, index), matte), matte
