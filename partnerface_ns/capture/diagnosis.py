"""Does the tracked head lie where the images show it, and if not, why: a verdict before hours of training.

The head's silhouettes are compared with the masks. Where they do not meet, the usual mistakes are undone one at a time
to see which makes them meet. Where they do, the head's motion must still be the masks' motion: images in another
order than the poses overlap well and fit badly. Medians over frames decide, so that single bad frames do not; these are
looked for in all frames. Silhouettes cannot tell long hair from another head: between right and wrong they leave the
verdict to `tracking/report/agreement.py`, which looks at the face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES
from partnerface_ns.capture.names import FixName
from partnerface_ns.capture.overlap import (
    Overlap,
    head_faces,
    median_overlap,
    outside_shares,
    overlap_of,
    posed_verts,
    rows_to_chin,
    silhouette,
    small_mask,
    small_size,
)
from partnerface_ns.flame.head_model import HeadModel

GOOD_UNION, GOOD_OUTSIDE, GOOD_ABOVE = 0.6, 0.05, 0.033
"""A head that fits has at least this union with the masks, at most this share outside of them, and leaves them at the
top by at most this share of its size."""
BAD_UNION, BAD_OUTSIDE, BAD_ABOVE = 0.45, 0.12, 0.08
"""The same for a head that does not fit, whatever hair the person has."""
_NARROW = 0.08
"""Share of the cheeks' width which a head without hair leaves to the mask at most."""
_COMPARABLE_UNION = 0.45
"""Union from which the order of frames can be told."""
NUM_FRAMES, NUM_MOVING = 24, 120
"""Frames that the overlap is measured on, and the motion."""
_GAIN = 0.15
"""How much more union an undone mistake must bring to be named as the cause."""
_OWN_MASK = 0.4
"""Preference for the own mask over others', in deviations, below which images and poses are not of one moment."""
_OTHER_MASK = 1.0
"""Preference for the masks of a shift from which it is named."""
_MIN_MOTION = 0.01
"""Motion in shares of the head's size below which the order cannot be told."""
_MAX_LAG, _MIN_LAG, _LAG_GAIN = 15, 3, 0.2
"""Shifts of the images that are tried and named, in frames looked at, and how much better they must fit."""
_SCALES = (0.5, 2 / 3, 0.8, 1.0, 1.25, 1.5, 2.0)


_NOT_SEEN = "the head is not in the images: the poses of head and camera do not belong together"
_NO_ONE = "the masks show no one: all are black (0 and 1 where 0 and 255 are expected?)"
_INVERTED = "inverted masks: they are white where the person is not"
_ALL_WHITE = "the masks are white everywhere: the background would be learned as if it were the person"
_HAIR = "the masks are larger than the head: long hair, or another head; the face would tell"
_MISSING = 0.3
"""How much more of a head than of the others is outside of the mask in a bad frame, as a share of its vertices."""
OTHER_HEAD = "another head: this is not the head model that was tracked with (FLAME version?), or the tracking is bad"


T = TypeVar("T")
Mask = Bool[np.ndarray, "h w"]
Masked = tuple[Frame, np.ndarray]
"""A frame and its foreground at low resolution."""


@dataclass(frozen=True)
class Verdict:
    """What was found, for people and for `partnerface inspect`."""

    fits: bool | None
    """None where the capture has nothing to compare with."""
    overlap: Overlap | None
    cause: str | None = None
    """The likely cause, where it does not fit."""
    fix: FixName | None = None
    """The fix that makes it fit, if one does."""
    face: float | None = None
    """How far brows, eyes and lips are from where the images show them, in shares of the face's height, where that
    was looked at."""
    about: Literal["head", "order", "masks"] = "head"
    """What the cause blames."""
    bad: tuple[Frame, ...] = ()
    """Single frames whose head is elsewhere, although the others' are not."""


@dataclass(frozen=True)
class _Seen:
    """Silhouettes and masks of some frames at low resolution."""

    heads: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]

    @property
    def overlap(self) -> Overlap:
        return median_overlap([overlap_of(head, mask) for head, mask in zip(self.heads, self.masks, strict=True)])


def diagnose(capture: Capture, model: HeadModel, mask_of: Callable[[Frame], Mask] = small_mask) -> Verdict:
    """Judge a capture by its masks.

    Args:
        capture: the capture.
        model: its head model.
        mask_of: gives a frame's foreground at low resolution; asked for all frames.

    Raises:
        InputError: an image cannot be decoded.
    """
    capture = _of_one_size(capture)
    if not capture.frames:
        return Verdict(None, None, "there are no images to compare with")
    masked = [(frame, mask_of(frame)) for frame in capture.frames]
    frames, masks = zip(*evenly(masked, NUM_FRAMES), strict=True)
    seen = _Seen(_silhouettes(capture, model, frames), masks)
    if all(mask.all() for _, mask in masked):
        return _verdict_without_masks(capture, model, frames, seen.heads)
    if not any(mask.any() for _, mask in masked):
        return Verdict(False, seen.overlap, _NO_ONE, about="masks")
    verdict = _verdict_of_masks(capture, model, masked, frames, seen)
    return verdict if verdict.fits is False else replace(verdict, bad=_bad_frames(capture, model, masked))


def _verdict_of_masks(
    capture: Capture, model: HeadModel, masked: Sequence[Masked], frames: Sequence[Frame], seen: _Seen
) -> Verdict:
    overlap = seen.overlap
    order = _other_moments(capture, model, masked) if overlap.union >= _COMPARABLE_UNION else None
    if order is not None:
        return Verdict(False, overlap, order, about="order")
    if _is_good(overlap):
        return Verdict(True, overlap)
    if _is_good(_Seen(seen.heads, tuple(~mask for mask in seen.masks)).overlap):
        return Verdict(False, overlap, _INVERTED, about="masks")
    cause, fix = _cause(capture, model, frames, seen)
    if _is_bad(overlap) or fix is not None:
        return Verdict(False, overlap, cause, fix)
    return Verdict(None, overlap, _HAIR)


def _bad_frames(capture: Capture, model: HeadModel, masked: Sequence[Masked]) -> tuple[Frame, ...]:
    """Frames much more of whose head is outside of the mask than of the others'."""
    frames, masks = zip(*masked, strict=True)
    outside = outside_shares(capture, model, frames, masks)
    limit = float(np.median(outside)) + _MISSING
    return tuple(frame for frame, share in zip(frames, outside, strict=True) if share > limit)


def evenly(frames: Sequence[T], count: int) -> list[T]:
    """At most so many frames, evenly spread, the first and the last among them."""
    if len(frames) <= count:
        return list(frames)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def _of_one_size(capture: Capture) -> Capture:
    """The frames with images, of the size that most have: others cannot be compared with them."""
    frames = [frame for frame in capture.frames if frame.image_path is not None]
    sizes = [small_size(frame.camera) for frame in frames]
    most = max(set(sizes), key=sizes.count, default=None)
    return replace(capture, frames=tuple(f for f, size in zip(frames, sizes, strict=True) if size == most))


def _is_good(overlap: Overlap) -> bool:
    inside = overlap.outside <= GOOD_OUTSIDE and overlap.above <= GOOD_ABOVE
    return overlap.union >= GOOD_UNION and inside and overlap.beside <= _NARROW


def _is_bad(overlap: Overlap) -> bool:
    return overlap.union < BAD_UNION or overlap.outside > BAD_OUTSIDE or overlap.above > BAD_ABOVE


def _silhouettes(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> tuple[np.ndarray, ...]:
    faces = head_faces(model)
    verts = posed_verts(capture, model, frames)
    return tuple(silhouette(v, faces, frame.camera) for v, frame in zip(verts, frames, strict=True))


def _fixed_frames(capture: Capture, name: FixName, frames: Sequence[Frame]) -> tuple[Capture, list[Frame]]:
    some = replace(capture, frames=tuple(frames))
    fixed = CONVENTION_FIXES[name].apply(some)
    return fixed, list(fixed.frames)


def _verdict_without_masks(
    capture: Capture, model: HeadModel, frames: Sequence[Frame], heads: Sequence[np.ndarray]
) -> Verdict:
    """Without masks only this can be told: whether the head is in the image at all."""
    if any(frame.mask_path is not None for frame in frames):
        return Verdict(False, None, _ALL_WHITE, about="masks")
    if _in_view(heads):
        return Verdict(None, None, "there are no masks to compare with: look at the image")
    for name, fix in CONVENTION_FIXES.items():
        if _in_view(_silhouettes(*_with_model(_fixed_frames(capture, name, frames), model))):
            return Verdict(False, None, fix.cause, name)
    return Verdict(False, None, _NOT_SEEN)


def _with_model(fixed: tuple[Capture, list[Frame]], model: HeadModel) -> tuple[Capture, HeadModel, list[Frame]]:
    return fixed[0], model, fixed[1]


def _in_view(heads: Sequence[Bool[np.ndarray, "h w"]]) -> bool:
    """Whether heads are seen and neither tiny nor larger than the image."""
    shares = [float(head.mean()) for head in heads]
    return all(0.01 < share < 0.85 for share in shares)


def _cause(capture: Capture, model: HeadModel, frames: Sequence[Frame], seen: _Seen) -> tuple[str, FixName | None]:
    """The mistake whose undoing brings most, if that is enough."""
    overlaps = {
        name: _Seen(_silhouettes(*_with_model(_fixed_frames(capture, name, frames), model)), seen.masks).overlap
        for name in CONVENTION_FIXES
    }
    best = max(overlaps, key=lambda name: overlaps[name].union)
    if overlaps[best].union >= max(GOOD_UNION, seen.overlap.union + _GAIN):
        return CONVENTION_FIXES[best].cause, best
    union, scale, shift = _best_crop(seen)
    if union >= max(GOOD_UNION, seen.overlap.union + _GAIN):
        side = max(frames[0].camera.width, frames[0].camera.height)
        x, y = (round(float(s) * side) for s in shift)
        return crop_words(scale, x, y), None
    if not any(head.any() for head in seen.heads):
        return _NOT_SEEN, None
    return OTHER_HEAD, None


def crop_words(scale: float, x: int, y: int) -> str:
    """The cause, where one scale and shift (pixels) of the head makes it fit."""
    return (
        "a crop: images were cut or resized after tracking, or the focal length is another; they fit with the head"
        f" {scale:.3g} times as large and moved by ({x}, {y}) pixels"
    )


def shift_words(frames: int) -> str:
    """The cause, where each pose fits the image so many frames later."""
    when = "later" if frames > 0 else "earlier"
    return f"the order of the frames: each pose fits the image about {abs(frames)} frames {when}"


def _best_crop(seen: _Seen) -> tuple[float, float, tuple[float, float]]:
    """The union that one scaling and shift of all silhouettes reaches; scale and shift (shares of the longer side)."""
    best = (0.0, 1.0, (0.0, 0.0))
    for scale in _SCALES:
        scaled = [_scaled(head, scale) for head in seen.heads]
        gain = sum(_correlation(head, mask) for head, mask in zip(scaled, seen.masks, strict=True))
        dy, dx = np.unravel_index(int(np.argmax(gain)), gain.shape)
        height, width = seen.masks[0].shape
        dy, dx = (int(d) if d < size else int(d) - 2 * size for d, size in ((dy, height), (dx, width)))
        moved = tuple(_moved(head, dx, dy) for head in scaled)
        union = _Seen(moved, seen.masks).overlap.union
        if union > best[0]:
            best = (union, scale, (dx / max(height, width), dy / max(height, width)))
    return best


def _scaled(head: Bool[np.ndarray, "h w"], scale: float) -> Bool[np.ndarray, "h w"]:
    """A silhouette larger or smaller about the image's middle."""
    height, width = head.shape
    y, x = ((np.arange(size) + 0.5 - size / 2) / scale + size / 2 for size in (height, width))
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    return head[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & inside


def _moved(head: Bool[np.ndarray, "h w"], dx: int, dy: int) -> Bool[np.ndarray, "h w"]:
    height, width = head.shape
    moved = np.zeros_like(head)
    target = (slice(max(0, dy), min(height, height + dy)), slice(max(0, dx), min(width, width + dx)))
    source = (slice(max(0, -dy), min(height, height - dy)), slice(max(0, -dx), min(width, width - dx)))
    moved[target] = head[source]
    return moved


def _correlation(head: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """For each shift (negative ones at the end) the head's pixels in the mask less those outside."""
    shape = tuple(2 * size for size in head.shape)
    gain = np.where(mask, 1.0, -1.0)
    # Higher places are preferred, since a head fits inside shoulders too.
    gain = gain * np.linspace(1.2, 0.8, len(mask))[:, None]
    return np.fft.irfft2(np.fft.rfft2(gain, shape) * np.conj(np.fft.rfft2(head.astype(float), shape)), shape)


def _other_moments(capture: Capture, model: HeadModel, masked: Sequence[Masked]) -> str | None:
    """The cause, if poses fit the masks of other moments better than their own."""
    first = capture.frames[0]
    of_camera = [(frame, mask) for frame, mask in masked if frame.camera_index == first.camera_index]
    frames, seen = zip(*evenly(sorted(of_camera, key=lambda pair: pair[0].timestep), NUM_MOVING), strict=True)
    heads = np.stack(_silhouettes(capture, model, frames))
    masks = np.stack(seen)
    if len(frames) < 6 or not heads.any() or min(_motion(heads, heads), _motion(masks, heads)) < _MIN_MOTION:
        return None
    preference = _preference(heads, masks)
    own = float(np.diagonal(preference).mean())
    lags = [lag for lag in range(-_MAX_LAG, _MAX_LAG + 1) if _MIN_LAG <= abs(lag) < len(frames) // 2]
    by_lag = {lag: float(np.diagonal(preference, lag).mean()) for lag in lags}
    lag = max(by_lag, key=lambda k: by_lag[k], default=0)
    if lag and by_lag[lag] > max(own + _LAG_GAIN, _OTHER_MASK):
        stride = max(1, round((frames[-1].timestep - frames[0].timestep) / (len(frames) - 1)))
        return shift_words(lag * stride)
    if own < _OWN_MASK:
        return "the order of the frames: images and poses are not of the same moments (shuffled, or sorted by name?)"
    return None


def _preference(
    heads: Bool[np.ndarray, "frames h w"], masks: Bool[np.ndarray, "frames h w"]
) -> Float[np.ndarray, "frames frames"]:
    """How much better each head fits each mask than other heads and masks do, in standard deviations."""
    rows = np.stack([rows_to_chin(head) for head in heads])
    flat = lambda images: images.reshape(len(images), -1).astype(np.float32)  # noqa: E731
    both = flat(heads) @ flat(masks).T
    union = both / (flat(heads).sum(1)[:, None] + flat(rows) @ flat(masks).T - both).clip(1)
    centered = union - union.mean(0, keepdims=True) - union.mean(1, keepdims=True) + union.mean()
    return centered / (centered.std() + 1e-12)


def _motion(images: Bool[np.ndarray, "frames h w"], heads: Bool[np.ndarray, "frames h w"]) -> float:
    """How far the middle of what is seen in the rows of the heads moves, in shares of a head's size."""
    rows = np.flatnonzero(heads.any((0, 2)))
    band = images[:, rows[0] : rows[-1] + 1]
    weights = band.sum((1, 2)).clip(1)
    x = (band.sum(1) * np.arange(band.shape[2])).sum(1) / weights
    y = (band.sum(2) * np.arange(band.shape[1])).sum(1) / weights
    return float(np.hypot(x.std(), y.std()) / np.sqrt(heads.sum((1, 2)).mean()))
