"""The stages that look at the video: the face in it, images with landmarks, mattes.

Each has a progress bar and leaves its result in the work folder. Frames that cannot be tracked are left out with a
reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.progress import progress
from partnerface_ns.tracking.crop import CropPath, plan_crop
from partnerface_ns.tracking.detection import Box, FaceFinder, choose_subject
from partnerface_ns.tracking.face_texture import face_places, facing, read_texture
from partnerface_ns.tracking.head_extent import head_extent, head_window
from partnerface_ns.tracking.identity import compare_people, looks_of
from partnerface_ns.tracking.landmarks import NUM_LANDMARKS, LandmarkDetector
from partnerface_ns.tracking.matting import Matter, keep_subject
from partnerface_ns.tracking.occlusion import covered
from partnerface_ns.tracking.outline import matte_outline
from partnerface_ns.tracking.video import MIN_FRAMES, Selection, VideoFrame, estimate_count, read_frames
from partnerface_ns.tracking.workfolder import WorkFolder

_MIN_SHARE = 0.5
"""Of all frames that must be trackable."""
_UNSURE = 0.035
"""Difference between the detector's two looks, in face heights, above which it is guessing."""
_BLURRED = 0.2
"""Sharpness of the face, as a share of the video's median, below which a frame is left out."""

_MEASURE_HEAD_EVERY = 0.4
"""Seconds between two looks for hair around the face."""
OTHER_PERSON, COVERED = "another person", "something in front of the face"


@dataclass(frozen=True)
class Options:
    """How to track."""

    size: int = 512
    """Pixels of an image's side."""
    selection: Selection = field(default_factory=Selection)
    focal_length: float | None = None
    """In longer sides of the video's frame, if it is known; None expects one and estimates."""
    matting: bool = True
    """Whether the person is cut out of the background."""
    device: str = "cpu"
    """Where the head is fitted."""


@dataclass(frozen=True)
class Faces:
    """What the first pass over the video found."""

    boxes: Float[np.ndarray, "frames 4"]
    times: Float[np.ndarray, "frames"]
    shape: tuple[int, int]
    num_others: int
    heads: Float[np.ndarray, "frames 4"]
    """Left, top, right and bottom of the head, hair included; NaN where it was not measured."""
    notes: tuple[str, ...] = ()
    """What reading the video converted, inferred or left out."""

    @property
    def fps(self) -> float:
        return float(1 / np.median(np.diff(self.times))) if len(self.times) > 1 else 25.0


def find_faces(video: Path, options: Options, work: WorkFolder) -> Faces:
    """First pass: the subject's face in every frame.

    Raises:
        InputError: the video cannot be read, or there is no face in most of it.
    """

    def make() -> dict[str, np.ndarray]:
        faces, heads, times, shape, notes = [], [], [], (0, 0), list[str]()
        frames = read_frames(video, options.selection, notes.append)
        with FaceFinder() as find, Matter() as matter:
            next_head = 0.0
            for frame in progress(frames, "Finding the face", estimate_count(video, options.selection)):
                faces.append(find(frame.rgb))
                heads.append(np.full(8, np.nan))
                if faces[-1] and frame.time >= next_head:
                    heads[-1] = np.concatenate([faces[-1][0], _measure_head(matter, frame, faces[-1][0])])
                    next_head = frame.time + _MEASURE_HEAD_EVERY
                times.append(frame.time)
                shape = frame.rgb.shape[:2]
        if not any(faces):
            raise InputError(video, "no face was found", found=f"{len(faces)} frames without a face")
        subject = choose_subject(faces)
        return {
            "boxes": subject.boxes,
            "times": np.array(times),
            "shape": np.array(shape),
            "num_others": np.array(subject.num_others),
            "heads": _heads_of(subject.boxes, np.array(heads)),
            "notes": np.array(notes, dtype=str),
        }

    arrays = work.stage("faces", make)
    rows, columns = map(int, arrays["shape"])
    notes = tuple(arrays["notes"].tolist())
    return Faces(arrays["boxes"], arrays["times"], (rows, columns), int(arrays["num_others"]), arrays["heads"], notes)


def _measure_head(matter: Matter, frame: VideoFrame, box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = head_window(box, frame.rgb.shape[:2])
    corner, window = np.array([left, top]), (slice(top, bottom), slice(left, right))
    if frame.alpha is None:
        person = matter.rough(np.ascontiguousarray(frame.rgb[window]))
    else:
        person = frame.alpha[window].astype(np.float32) / 255
    return head_extent(person, np.concatenate([box[:2] - corner, box[2:]])) + np.tile(corner, 2)


def _heads_of(boxes: np.ndarray, measured: np.ndarray) -> Float[np.ndarray, "frames 4"]:
    """The heads of those frames in which the measured face is the subject's."""
    same = (np.abs(measured[:, :4] - boxes) < 1).all(1)
    return np.where(same[:, None], measured[:, 4:], np.nan)


@dataclass(frozen=True)
class Images:
    """What the second pass over the video made."""

    crop: CropPath
    landmarks: Float[np.ndarray, "frames landmarks 3"]
    """Pixels of the images; NaN where there are none."""
    disagreement: Float[np.ndarray, "frames"]
    sharpness: Float[np.ndarray, "frames"]
    brightness: Float[np.ndarray, "frames"]
    burnt: Float[np.ndarray, "frames"]
    """Share of burnt-out pixels in the face."""
    texture: UInt8[np.ndarray, "frames places 3"]
    """Colours at fixed places of the face; black where there are no landmarks."""


def cut_images(video: Path, options: Options, faces: Faces, work: WorkFolder) -> Images:
    """Second pass: the square images and their alpha, stored in the work folder, and their landmarks."""
    crop = plan_crop(faces.boxes, faces.shape, faces.fps, faces.heads)
    folder, alphas = work.folder("images"), work.folder("alphas")

    def make() -> dict[str, np.ndarray]:
        num = len(faces.times)
        landmarks = np.full((num, NUM_LANDMARKS, 3), np.nan, dtype=np.float32)
        looks = np.full((num, 4), np.nan)
        texture = np.zeros((num, len(face_places().points), 3), dtype=np.uint8)
        index_at = {time: index for index, time in enumerate(faces.times.tolist())}
        frames = (frame for frame in read_frames(video, options.selection) if frame.time in index_at)
        with LandmarkDetector() as detect:
            for frame in progress(frames, "Landmarks", num):
                index = index_at[frame.time]
                image = crop.cut(frame.rgb, index, options.size)
                if frame.alpha is not None:
                    cut = crop.cut(np.dstack([frame.rgb, frame.alpha]), index, options.size)
                    image = np.ascontiguousarray(cut[..., :3])
                    Image.fromarray(cut[..., 3]).save(image_path(alphas, index))
                Image.fromarray(image).save(image_path(folder, index), compress_level=1)
                box = faces.boxes[index].copy()
                box[:2] -= crop.corners[index]
                found = None if np.isnan(box[0]) else detect(image)
                if found is not None and is_of(found[0], box * crop.scale(options.size)):
                    landmarks[index], looks[index, 0] = found
                    looks[index, 1:] = _look_of(image, found[0])
                    texture[index] = read_texture(image, found[0])
        return {"landmarks": landmarks, "looks": looks, "texture": texture}

    arrays = work.stage("landmarks", make)
    return Images(crop, arrays["landmarks"], *arrays["looks"].T, arrays["texture"])


def is_of(landmarks: Float[np.ndarray, "landmarks 3"], box: Box) -> bool:
    """Whether landmarks are those of the face in a box, and not of somebody else's in the same image."""
    centre = landmarks[:, :2].mean(0)
    return bool((np.abs(centre - box[:2] - box[2:] / 2) < 0.75 * box[2:]).all())


def image_path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.png"


def read_image(work: WorkFolder, index: int) -> np.ndarray:
    """The square image of a frame."""
    with Image.open(image_path(work.folder("images"), index)) as image:
        return np.asarray(image)


def read_alpha(path: Path) -> Float[np.ndarray, "rows columns"]:
    """The alpha that a frame came with, as a matte in [0, 1], float32."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32) / 255


def read_matte(work: WorkFolder, index: int) -> np.ndarray:
    """The matte of a frame, 0 to 255; all of the image where none was made."""
    path = image_path(work.folder("mattes"), index)
    if not path.exists():
        return np.full(read_image(work, index).shape[:2], 255, dtype=np.uint8)
    with Image.open(path) as image:
        return np.asarray(image)


def _look_of(image: np.ndarray, landmarks: np.ndarray) -> tuple[float, float, float]:
    """Sharpness, mean brightness and share of burnt-out pixels of the face."""
    low = np.clip(landmarks[:, :2].min(0), 0, image.shape[0] - 8).astype(int)
    high = np.clip(landmarks[:, :2].max(0), low + 8, image.shape[0]).astype(int)
    face = image[low[1] : high[1], low[0] : high[0]].astype(np.float32).mean(-1)
    edges = face[1:-1, 1:-1] * 4 - face[:-2, 1:-1] - face[2:, 1:-1] - face[1:-1, :-2] - face[1:-1, 2:]
    return float(edges.std()) / max(float(face.mean()), 1.0), float(face.mean()), float((face > 250).mean())


def reasons_to_leave_out(faces: Faces, images: Images) -> dict[int, str]:
    """Frames that show no face that could be trusted, with the reason."""
    reasons: dict[int, str] = {}
    size = _face_height(images.landmarks)
    typical = np.nanmedian(images.sharpness)
    for index in range(len(faces.times)):
        if np.isnan(faces.boxes[index, 0]):
            reasons[index] = "no face"
        elif np.isnan(images.landmarks[index, 0, 0]):
            reasons[index] = "no landmarks"
        elif images.disagreement[index] > _UNSURE * size[index]:
            reasons[index] = "landmarks are unsure (something in front of the face, or a view from the side)"
        elif images.sharpness[index] < _BLURRED * typical:
            reasons[index] = "blurred"
    towards = facing(images.landmarks)
    kept = _kept(faces, reasons)
    others, hidden = compare_people(looks_of(images.texture[kept], towards[kept]), faces.times[kept])
    reasons |= dict.fromkeys(kept[others].tolist(), OTHER_PERSON) | dict.fromkeys(kept[hidden].tolist(), COVERED)
    kept = _kept(faces, reasons)
    return reasons | dict.fromkeys(kept[covered(images.texture[kept], towards[kept])].tolist(), COVERED)


def _kept(faces: Faces, reasons: dict[int, str]) -> Int[np.ndarray, "frames"]:
    return np.array([index for index in range(len(faces.times)) if index not in reasons], dtype=np.int64)


def require_enough(video: Path, num_frames: int, reasons: dict[int, str]) -> None:
    """Check that most frames of the person can be tracked.

    Raises:
        InputError: too few are left, or more than half was left out; names the commonest reason.
    """
    kept = num_frames - len(reasons)
    counts = {reason: list(reasons.values()).count(reason) for reason in set(reasons.values())}
    summary = ", ".join(f"{count}: {reason}" for reason, count in sorted(counts.items(), key=lambda c: -c[1]))
    found = f"{kept} of {num_frames} frames" + (f" (left out {summary})" if summary else "")
    if kept < MIN_FRAMES:
        raise InputError(video, "too few frames can be tracked", expected=f"at least {MIN_FRAMES}", found=found)
    if kept < _MIN_SHARE * (num_frames - list(reasons.values()).count(OTHER_PERSON)):
        raise InputError(video, "most frames cannot be tracked", expected="at least half of them", found=found)


def _face_height(landmarks: np.ndarray) -> np.ndarray:
    return np.linalg.norm(landmarks[:, 10, :2] - landmarks[:, 152, :2], axis=-1)


def cut_mattes(
    frames: Int[np.ndarray, "frames"], images: Images, work: WorkFolder
) -> Float[np.ndarray, "frames points 4"]:
    """Mattes of the images, stored in the work folder, and their outlines."""
    folder = work.folder("mattes")

    def make() -> dict[str, np.ndarray]:
        outlines = []
        with Matter() as matte_of:
            for index in progress(frames.tolist(), "Matting", len(frames)):
                alpha = image_path(work.folder("alphas"), index)
                matte = read_alpha(alpha) if alpha.exists() else matte_of(read_image(work, index))
                matte = keep_subject(matte, images.landmarks[index])
                outlines.append(matte_outline(matte))
                Image.fromarray(np.round(matte * 255).astype(np.uint8)).save(image_path(folder, index))
        return {"outlines": np.stack(outlines)}

    return work.stage("mattes", make)["outlines"]
