"""A verdict on a capture before hours of training: does the tracked head fit the images, and if not, why?

The head's silhouettes are compared with the masks. If they do not overlap, the usual convention mistakes are fixed one
at a time to see which fix makes them overlap. If they do, the order of the frames is checked too. The verdict uses
medians over frames, so that single bad frames do not matter; bad frames are searched for afterwards. Silhouettes cannot
tell long hair from another head. Between right and wrong they leave the verdict to `tracking/report/agreement.py`,
which compares the face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES
from partnerface_ns.capture.frame_order import find_order_fault
from partnerface_ns.capture.image_crop import find_crop
from partnerface_ns.capture.names import FixName
from partnerface_ns.capture.overlap import (
    Overlap,
    head_faces,
    median_overlap,
    outside_shares,
    posed_verts,
    silhouette,
    small_mask,
    small_size,
)
from partnerface_ns.capture.verdict import (
    ALL_WHITE,
    HAIR,
    INVERTED,
    NO_ONE,
    NOT_SEEN,
    OTHER_HEAD,
    Verdict,
    describe_crop,
)
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.head_model import HeadModel

GOOD_UNION, GOOD_OUTSIDE, GOOD_ABOVE = 0.6, 0.05, 0.033
"""Limits of a head that fits: least union with the masks, largest share outside of them, and largest extent above them
as a share of its size."""
BAD_UNION, BAD_OUTSIDE, BAD_ABOVE = 0.45, 0.12, 0.08
"""Limits beyond which a head does not fit, whatever hair the person has."""
_MAX_BESIDE = 0.08
"""Share of the mask's width at the cheeks that a head with short hair may leave uncovered."""
_COMPARABLE_UNION = 0.45
"""Union from which the order of frames can be checked."""
NUM_FRAMES, NUM_MOVING = 24, 120
"""Frames on which the overlap and the motion are measured."""
_GAIN = 0.15
"""How much a fix must raise the union to be named as the cause."""
_MISSING = 0.3
"""A frame is bad if this much more of its head lies outside of the mask than in the median frame, as a share."""

Silhouette = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class _ComparedFrames:
    """Some frames with silhouettes and masks at low resolution."""

    capture: Capture
    model: HeadModel
    frames: tuple[Frame, ...]
    masks: tuple[Silhouette, ...]
    heads: tuple[Silhouette, ...]

    @staticmethod
    def create(capture: Capture, model: HeadModel, masked: Sequence[tuple[Frame, Silhouette]]) -> _ComparedFrames:
        frames, masks = tuple(frame for frame, _ in masked), tuple(mask for _, mask in masked)
        return _ComparedFrames(capture, model, frames, masks, _silhouettes(capture, model, frames))

    @property
    def overlap(self) -> Overlap:
        return median_overlap(self.heads, self.masks)

    def heads_after(self, fix: FixName) -> tuple[Silhouette, ...]:
        """Silhouettes after a convention fix."""
        fixed = CONVENTION_FIXES[fix].apply(replace(self.capture, frames=self.frames))
        return _silhouettes(fixed, self.model, fixed.frames)


def diagnose(capture: Capture, model: HeadModel, mask_of: Callable[[Frame], Silhouette] = small_mask) -> Verdict:
    """Judge a capture by its masks.

    Args:
        capture: the capture.
        model: its head model.
        mask_of: gives a frame's foreground at low resolution. It is called once for every frame.

    Raises:
        InputError: an image cannot be decoded.
    """
    capture = _with_most_common_size(capture)
    if not capture.frames:
        return Verdict(None, None, "there are no images to compare with")
    masked = [(frame, mask_of(frame)) for frame in capture.frames]
    compared = _ComparedFrames.create(capture, model, pick_evenly(masked, NUM_FRAMES))
    if all(mask.all() for _, mask in masked):
        return _judge_without_masks(compared)
    if not any(mask.any() for _, mask in masked):
        return Verdict(False, compared.overlap, NO_ONE, about="masks")
    verdict = _judge_with_masks(compared, masked)
    return verdict if verdict.fits is False else replace(verdict, bad=find_bad_frames(capture, model, masked))


def _judge_with_masks(compared: _ComparedFrames, masked: Sequence[tuple[Frame, Silhouette]]) -> Verdict:
    overlap = compared.overlap
    order = _order_fault(compared, masked) if overlap.union >= _COMPARABLE_UNION else None
    if order is not None:
        return Verdict(False, overlap, order, about="order")
    if _is_good(overlap):
        return Verdict(True, overlap)
    if _is_good(median_overlap(compared.heads, tuple(~mask for mask in compared.masks))):
        return Verdict(False, overlap, INVERTED, about="masks")
    cause, fix = _find_cause(compared)
    if _is_bad(overlap) or fix is not None:
        return Verdict(False, overlap, cause, fix)
    return Verdict(None, overlap, HAIR)


def _judge_without_masks(compared: _ComparedFrames) -> Verdict:
    """Without masks the only check is whether the head is in the image."""
    if any(frame.mask_path is not None for frame in compared.frames):
        return Verdict(False, None, ALL_WHITE, about="masks")
    if _in_view(compared.heads):
        return Verdict(None, None, "there are no masks to compare with: look at the image")
    for name, fix in CONVENTION_FIXES.items():
        if _in_view(compared.heads_after(name)):
            return Verdict(False, None, fix.cause, name)
    return Verdict(False, None, NOT_SEEN)


def _find_cause(compared: _ComparedFrames) -> tuple[str, FixName | None]:
    """The cause whose fix raises the union most, if it raises it enough."""
    enough = max(GOOD_UNION, compared.overlap.union + _GAIN)
    unions: dict[FixName, float] = {
        name: median_overlap(compared.heads_after(name), compared.masks).union for name in CONVENTION_FIXES
    }
    best = max(unions, key=lambda name: unions[name])
    if unions[best] >= enough:
        return CONVENTION_FIXES[best].cause, best
    crop = find_crop(compared.heads, compared.masks)
    if crop.union >= enough:
        camera = compared.frames[0].camera
        x, y = (round(float(share) * max(camera.width, camera.height)) for share in crop.shift)
        return describe_crop(crop.scale, x, y), None
    if not any(head.any() for head in compared.heads):
        return NOT_SEEN, None
    return OTHER_HEAD, None


def _order_fault(compared: _ComparedFrames, masked: Sequence[tuple[Frame, Silhouette]]) -> str | None:
    """The fault in the order of the first camera's frames, if there is one."""
    camera_index = compared.capture.frames[0].camera_index
    of_camera = sorted((pair for pair in masked if pair[0].camera_index == camera_index), key=lambda p: p[0].timestep)
    moving = _ComparedFrames.create(compared.capture, compared.model, pick_evenly(of_camera, NUM_MOVING))
    return find_order_fault(moving.frames, np.stack(moving.heads), np.stack(moving.masks))


def find_bad_frames(
    capture: Capture, model: HeadModel, masked: Sequence[tuple[Frame, Silhouette]]
) -> tuple[Frame, ...]:
    """Frames whose head lies outside of the mask much more than in the median frame.

    Args:
        capture: the capture.
        model: its head model.
        masked: frames and their foreground, in any resolution.
    """
    frames, masks = zip(*masked, strict=True)
    outside = outside_shares(capture, model, frames, masks)
    limit = float(np.median(outside)) + _MISSING
    return tuple(frame for frame, share in zip(frames, outside, strict=True) if share > limit)


def _with_most_common_size(capture: Capture) -> Capture:
    """The capture with only those images whose size is the most common; other sizes cannot be compared with them."""
    frames = [frame for frame in capture.frames if frame.image_path is not None]
    sizes = [small_size(frame.camera) for frame in frames]
    most = max(set(sizes), key=sizes.count, default=None)
    return replace(capture, frames=tuple(f for f, size in zip(frames, sizes, strict=True) if size == most))


def _is_good(overlap: Overlap) -> bool:
    inside = overlap.outside <= GOOD_OUTSIDE and overlap.above <= GOOD_ABOVE
    return overlap.union >= GOOD_UNION and inside and overlap.beside <= _MAX_BESIDE


def _is_bad(overlap: Overlap) -> bool:
    return overlap.union < BAD_UNION or overlap.outside > BAD_OUTSIDE or overlap.above > BAD_ABOVE


def _silhouettes(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> tuple[Silhouette, ...]:
    faces = head_faces(model)
    verts = posed_verts(capture, model, frames)
    return tuple(silhouette(v, faces, frame.camera) for v, frame in zip(verts, frames, strict=True))


def _in_view(heads: Sequence[Silhouette]) -> bool:
    """Whether each head is visible, and neither tiny nor larger than the image."""
    shares = [float(head.mean()) for head in heads]
    return all(0.01 < share < 0.85 for share in shares)
