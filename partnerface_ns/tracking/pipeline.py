"""Tracks a video: finds faces, landmarks and mattes, fits the head model, measures the fit, and writes the capture.

Unfinished work is in a hidden folder beside the result, or in its folder if that exists. It is removed at the end. The
result appears only when it is complete. The frames that are kept are numbered from 0; the first 70% are for training,
the rest for testing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.capture.writing import make_folder, publish, remove_empty, require_new, unfinished_folder
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import write_failure
from partnerface_ns.common.json_file import write_json
from partnerface_ns.common.locks import lock_folder
from partnerface_ns.common.progress import progress
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.fit.fit_head import reduce_head
from partnerface_ns.tracking.fit.fitting import FitSchedule, fit_track
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric.alignment import (
    Alignment,
    PhotometricResiduals,
    align_images,
    num_steps,
)
from partnerface_ns.tracking.fit.photometric.surface_points import face_offsets
from partnerface_ns.tracking.fit.tracked import TrackedVideo
from partnerface_ns.tracking.options import TrackingOptions, require_options
from partnerface_ns.tracking.report.footage import left_out_warnings
from partnerface_ns.tracking.report.measure import compose_on_white, measure_track
from partnerface_ns.tracking.video.face_pass import FaceTrack, find_faces
from partnerface_ns.tracking.video.image_pass import ImageMeasurements, cut_images
from partnerface_ns.tracking.video.left_out import reasons_to_leave_out, require_enough
from partnerface_ns.tracking.video.matte_pass import cut_mattes
from partnerface_ns.tracking.video.vision_models import VisionModels
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import read_foreground, read_image, read_matte

_EXPECTED_FOCAL = 1.6
"""Expected focal length if none is given, in longer sides of the frame: between a phone and a portrait lens."""


def track_video(
    video: Path,
    root: Path,
    model: HeadModel,
    options: TrackingOptions,
    preview: bool = True,
    models: VisionModels | None = None,
) -> dict[str, Any]:
    """Track a video, write the capture, and return the content of its `tracking.json`.

    Args:
        video: a file that ffmpeg decodes, or a folder of images.
        root: the new folder.
        model: the head model to fit.
        options: how to track.
        preview: whether to draw `preview.mp4`.
        models: detectors and matting; None uses MediaPipe's networks.

    Raises:
        InputError: an option is out of range; the video cannot be read, or most frames show no usable face; the
            folder exists, cannot be written, or another process is writing to it.
    """
    start = time.monotonic()
    video, root = Path(video), Path(root)
    models = models or VisionModels()
    require_new(root)
    require_options(options, video)
    folder, new_parents = unfinished_folder(root, "tracking"), list[Path]()
    try:
        new_parents = make_folder(folder)
        with lock_folder(folder, root):
            settings = {f.name: getattr(options, f.name) for f in fields(options)}
            settings |= {"head_model": model.fingerprint, **models.names()}
            work = WorkFolder(folder, video, settings)
            try:
                require_new(root)  # another process may just have finished it
                return _Run(video, root.resolve(), model, options, models, work).track(preview, start)
            except InputError:
                # The same video would be refused again, so there is nothing to resume.
                work.remove()
                raise
    except OSError as error:
        hint = f"finished stages are kept in {folder}: run the same command again to resume"
        raise write_failure(root, error, hint) from error
    finally:
        remove_empty(new_parents)


@dataclass(frozen=True)
class _Run:
    """One tracking run, stage by stage."""

    video: Path
    root: Path
    model: HeadModel
    options: TrackingOptions
    models: VisionModels
    work: WorkFolder

    def track(self, preview: bool, start: float) -> dict[str, Any]:
        """Run all stages and write the capture; `start` is the time at which the run began, `time.monotonic()`."""
        selection, work = self.options.selection, self.work
        faces = find_faces(self.video, selection, work, self.models.faces, self.models.matting)
        images = cut_images(self.video, selection, self.options.size, faces, work, self.models.landmarks)
        reasons = reasons_to_leave_out(faces, images)
        require_enough(self.video, len(faces.times), reasons)
        tracked = self.fit(faces, images, reasons)
        require_enough(self.video, len(faces.times), reasons)

        capture = tracked.to_capture(self.root, reasons)
        staged = work.root / "subject"
        shutil.rmtree(staged, ignore_errors=True)
        write_vhap(staged, capture, self.model, _images_on_white(work, tracked.indices))
        report = measure_track(staged, work, capture, tracked, faces, images, preview)
        report["warnings"] += left_out_warnings(reasons)
        seconds = time.monotonic() - start
        report |= {
            "seconds_total": round(seconds, 1),
            "seconds_per_frame": round(seconds / len(faces.times), 3),
            "left_out": {str(index): reason for index, reason in sorted(reasons.items())},
            "frame_times": [round(float(frame_time), 6) for frame_time in faces.times],
        }
        write_json(staged / "tracking.json", report)
        publish(staged, self.root)
        work.remove()
        return report

    def fit(self, faces: FaceTrack, images: ImageMeasurements, reasons: dict[int, str]) -> TrackedVideo:
        """Fit the frames that are not left out; frames with a bad fit are added to `reasons`."""
        embedding = landmark_embedding(self.model)
        head = reduce_head(self.model, embedding)
        indices = np.array([i for i in range(len(faces.times)) if i not in reasons])
        observations = self.observe(faces, images, indices)

        def compute() -> dict[str, np.ndarray]:
            schedule = FitSchedule()
            steps = progress(range(schedule.total), "Fitting the head", schedule.total)
            fixed_focal = self.options.focal_length is not None

            def on_step() -> None:
                next(steps, None)

            fit = fit_track(head, observations, embedding.spread, on_step, schedule, fixed_focal, self.options.device)
            on_step()  # ends the progress bar
            return _fit_to_arrays(fit)

        tracked = TrackedVideo(indices, head, observations, _fit_from_arrays(self.work.stage("fit", compute)))
        good = tracked.drop_bad_fits()
        reasons |= {int(index): "the landmarks fit no face" for index in set(indices) - set(good.indices)}
        return self.align(good, embedding.spread) if self.options.photometric else good

    def align(self, tracked: TrackedVideo, spread: Float[np.ndarray, "landmarks"]) -> TrackedVideo:
        """Improve a fit by aligning the images with each other (photometric fit)."""
        head = tracked.head.with_offsets(face_offsets(self.model))

        def read(position: int) -> tuple[np.ndarray, np.ndarray]:
            index = int(tracked.indices[position])
            return read_image(self.work, index), read_matte(self.work, index)

        def compute() -> dict[str, np.ndarray]:
            num = num_steps(self.model)
            steps = progress(range(num), "Aligning the images", num)

            def on_step() -> None:
                next(steps, None)

            alignment = align_images(
                head,
                tracked.observations,
                tracked.fit,
                spread,
                tracked.num_train,
                read,
                self.work.folder("details"),
                on_step,
            )
            on_step()  # ends the progress bar
            residuals = {f.name: getattr(alignment.residuals, f.name).numpy() for f in fields(PhotometricResiduals)}
            return _fit_to_arrays(alignment.fit) | residuals

        arrays = self.work.stage("photometric", compute)
        residuals = PhotometricResiduals(*(torch.from_numpy(arrays[f.name]) for f in fields(PhotometricResiduals)))
        return tracked.with_photometric(head, Alignment(_fit_from_arrays(arrays), residuals))

    def observe(self, faces: FaceTrack, images: ImageMeasurements, indices: Int[np.ndarray, "frames"]) -> Observations:
        """Collect the observations of some frames, and make their mattes."""
        outlines = np.full((len(indices), 1, 4), np.nan, dtype=np.float32)
        if self.options.matting:
            outlines = cut_mattes(indices, images, self.work, self.models.matting)
        scale = images.crop.scale(self.options.size)
        centre = np.array([faces.shape[1] / 2, faces.shape[0] / 2])
        return Observations(
            size=self.options.size,
            landmarks=torch.from_numpy(images.landmarks[indices]),
            outline=torch.from_numpy(outlines),
            principal=torch.from_numpy((centre - images.crop.corners[indices]) * scale).float(),
            times=torch.from_numpy(faces.times[indices]).float(),
            focal=(self.options.focal_length or _EXPECTED_FOCAL) * max(faces.shape) * scale,
        )


def _fit_to_arrays(fit: Fit) -> dict[str, np.ndarray]:
    states = {f"track_{name}": value.numpy() for name, value in fit.track.tensors().items()}
    once = {"identity": fit.identity.numpy(), "focal": np.array(fit.focal), "bias": fit.landmark_bias.numpy()}
    return {**once, **states}


def _fit_from_arrays(arrays: dict[str, np.ndarray]) -> Fit:
    tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
    prefix = "track_"
    track = HeadState(**{key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)})
    return Fit(tensors["identity"], track, float(tensors["focal"]), tensors["bias"])


def _images_on_white(work: WorkFolder, indices: Int[np.ndarray, "frames"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the foreground colours on white, with their mattes."""
    for index in indices.tolist():
        matte = read_matte(work, index)
        yield compose_on_white(read_foreground(work, index), matte), matte
