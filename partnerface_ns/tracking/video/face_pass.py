"""First pass over the video: the box of the main face, and the extent of the head, in every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.progress import progress
from partnerface_ns.tracking.video.decode.frame import VideoFrame
from partnerface_ns.tracking.video.decode.reading import Selection, estimate_count, read_frames
from partnerface_ns.tracking.video.head_extent import head_extent, head_window
from partnerface_ns.tracking.video.interfaces import Box, FaceDetector, Matting
from partnerface_ns.tracking.video.main_face import choose_main_face
from partnerface_ns.tracking.video.work_folder import WorkFolder

_HEAD_INTERVAL = 0.4
"""Seconds between two measurements of the head's extent."""


@dataclass(frozen=True)
class FaceTrack:
    """The main face over the whole video, in pixels of the video's frames."""

    boxes: Float[np.ndarray, "frames 4"]
    """Left, top, width, height; NaN where the face is not visible."""
    times: Float[np.ndarray, "frames"]
    """Seconds."""
    shape: tuple[int, int]
    """Rows and columns of a frame."""
    num_others: int
    """Number of other faces."""
    heads: Float[np.ndarray, "frames 4"]
    """Left, top, right and bottom of the head including hair; NaN where it was not measured."""
    notes: tuple[str, ...] = ()
    """Sentences about what reading the video converted, inferred or left out."""

    @property
    def fps(self) -> float:
        return float(1 / np.median(np.diff(self.times))) if len(self.times) > 1 else 25.0


def find_faces(
    video: Path,
    selection: Selection,
    work: WorkFolder,
    new_detector: Callable[[], FaceDetector],
    new_matting: Callable[[], Matting],
) -> FaceTrack:
    """Find the main face in every frame.

    Args:
        video: the file or image folder.
        selection: which frames to read.
        work: caches the result.
        new_detector: constructor of the face detector.
        new_matting: constructor of the matting model, which measures the head.

    Raises:
        InputError: the video cannot be read, or no frame shows a face.
    """

    def detect() -> dict[str, np.ndarray]:
        notes = list[str]()
        frames = read_frames(video, selection, notes.append)
        frames = progress(frames, "Finding the face", estimate_count(video, selection))
        return _detect(video, frames, new_detector(), new_matting()) | {"notes": np.array(notes, dtype=str)}

    arrays = work.stage("faces", detect)
    rows, columns = map(int, arrays["shape"])
    notes = tuple(arrays["notes"].tolist())
    return FaceTrack(
        arrays["boxes"], arrays["times"], (rows, columns), int(arrays["num_others"]), arrays["heads"], notes
    )


def _detect(
    video: Path, frames: Iterable[VideoFrame], detector: FaceDetector, matting: Matting
) -> dict[str, np.ndarray]:
    """The arrays of a `FaceTrack`, except for the notes."""
    faces: list[list[Box]] = []
    measured: list[np.ndarray] = []  # the box that was measured, then the head's extent
    times: list[float] = []
    shape, next_measurement = (0, 0), 0.0
    for frame in frames:
        faces.append(detector(frame.rgb))
        measured.append(np.full(8, np.nan))
        if faces[-1] and frame.time >= next_measurement:
            measured[-1] = np.concatenate([faces[-1][0], _measure_head(matting, frame, faces[-1][0])])
            next_measurement = frame.time + _HEAD_INTERVAL
        times.append(frame.time)
        shape = (frame.rgb.shape[0], frame.rgb.shape[1])
    if not any(faces):
        raise InputError(video, "no face was found", actual=f"{len(faces)} frames without a face")
    main_face = choose_main_face(faces)
    return {
        "boxes": main_face.boxes,
        "times": np.array(times),
        "shape": np.array(shape),
        "num_others": np.array(main_face.num_others),
        "heads": _heads_of(main_face.boxes, np.array(measured)),
    }


def _measure_head(matting: Matting, frame: VideoFrame, box: Box) -> Float[np.ndarray, "4"]:
    """The extent of the head around a face; from the frame's own alpha if it has one."""
    rows, columns, _ = frame.rgb.shape
    left, top, right, bottom = head_window(box, (rows, columns))
    corner, window = np.array([left, top]), (slice(top, bottom), slice(left, right))
    if frame.alpha is None:
        person = matting(np.ascontiguousarray(frame.rgb[window]))
    else:
        person = frame.alpha[window].astype(np.float32) / 255
    return head_extent(person, np.concatenate([box[:2] - corner, box[2:]])) + np.tile(corner, 2)


def _heads_of(
    boxes: Float[np.ndarray, "frames 4"], measured: Float[np.ndarray, "frames 8"]
) -> Float[np.ndarray, "frames 4"]:
    """The extents of those frames in which the measured face is the main face."""
    same = (np.abs(measured[:, :4] - boxes) < 1).all(1)
    return np.where(same[:, None], measured[:, 4:], np.nan)
