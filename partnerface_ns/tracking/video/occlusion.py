"""Finds frames in which something covers the lower face: a hand, a microphone, a cup.

Expressions and light change the lower face in few ways and gradually, so the frames of an uncovered face lie near a
plane of few dimensions. Starting from calm stretches of the video, the plane grows frame by frame while frames lie near
it. Frames that stay away from it show something else. Beards, make-up and glasses are visible all the time and
therefore count as part of the face.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from partnerface_ns.tracking.video.face_texture import (
    MAX_TURN_DIFFERENCE,
    face_grid,
    face_turns,
    light_basis,
    log_colours,
)

_LOWER = 0.005
"""Upper end of the lower face, metres above the open head's origin, at the middle of the nose."""
_MAX_DISTANCE, _MAX_DISTANCE_FACTOR = 0.035, 2.5
"""A frame is covered if its distance from the plane exceeds both limits.

The first is a root mean square of log colours, the second a factor on the median of the frames near the plane."""
_FEW_FRAMES = 12
"""Number of frames at which the second limit is doubled: few frames show few of the ways in which a face changes."""
_NUM_DIMENSIONS = 8
_MAX_SAMPLES = 200
"""Largest number of frames from which the plane is computed."""
_NUM_STRETCHES = 12
_MIN_FRAMES = 8
_MAX_ROUNDS = 20


def find_covered(
    texture: UInt8[np.ndarray, "frames points 3"], facing: Float[np.ndarray, "frames points"]
) -> Bool[np.ndarray, "frames"]:
    """Find the frames in which something covers the lower face.

    No frame counts as covered if the video has fewer than 24 frames, or if no appearance dominates in at least half of
    them, or if the head is turned as in no uncovered frame: other parts of the face are visible then.

    Args:
        texture: colours of one person's face, frames in order of time.
        facing: cosine between the normal of each grid point and the line of sight.
    """
    if len(texture) < _NUM_STRETCHES * 2:
        return np.zeros(len(texture), dtype=bool)
    appearance = lower_face_appearance(texture, facing)
    uncovered = max((_grow(appearance, start) for start in _calm_stretches(appearance)), key=np.sum)
    covered = _drop_single_frames(~uncovered & (2 * uncovered.sum() > len(texture)))
    return covered & _is_turned_as(facing, uncovered)


def _is_turned_as(
    facing: Float[np.ndarray, "frames points"], others: Bool[np.ndarray, "frames"]
) -> Bool[np.ndarray, "frames"]:
    """Whether the head is turned in each frame as in one of the others."""
    turns = face_turns(facing, face_grid().points[:, 1] < _LOWER)
    return (np.abs(turns[:, None] - turns[others]).max(-1) < MAX_TURN_DIFFERENCE).any(1)


def _drop_single_frames(covered: Bool[np.ndarray, "frames"]) -> Bool[np.ndarray, "frames"]:
    """Ignore single frames, which are more likely blurred by motion than covered."""
    padded = np.pad(covered, 1)
    return covered & (padded[:-2] | padded[2:])


def lower_face_appearance(
    texture: UInt8[np.ndarray, "frames points 3"], facing: Float[np.ndarray, "frames points"]
) -> Float[np.ndarray, "frames values"]:
    """Difference of the lower face from its median over the video, without slowly varying light."""
    visible = np.clip((facing - 0.2) / 0.3, 0, 1)
    colours = log_colours(texture)
    difference = colours - np.median(colours, 0)
    kept = face_grid().points[:, 1] < _LOWER
    difference, visible, light = difference[:, kept], visible[:, kept], light_basis()[kept]
    normal = np.einsum("pk,tp,pl->tkl", light, visible, light) + 1e-6 * np.eye(light.shape[1])
    share = np.linalg.solve(normal, np.einsum("pk,tp,tpc->tkc", light, visible, difference))
    rest = difference - np.einsum("pk,tkc->tpc", light, share)
    return (rest * np.sqrt(visible)[..., None]).reshape(len(texture), -1)


def _calm_stretches(appearance: Float[np.ndarray, "frames values"]) -> list[Int[np.ndarray, "stretch"]]:
    """The half of the video's stretches with the least variation. Something that comes or goes varies a stretch."""
    stretches = np.array_split(np.arange(len(appearance)), _NUM_STRETCHES)
    return sorted(stretches, key=lambda s: float(appearance[s].std(0).mean()))[: _NUM_STRETCHES // 2]


def _grow(
    appearance: Float[np.ndarray, "frames values"], start: Int[np.ndarray, "members"]
) -> Bool[np.ndarray, "frames"]:
    """The frames near the plane that grows from a stretch."""
    near = np.zeros(len(appearance), dtype=bool)
    near[start] = True
    for _ in range(_MAX_ROUNDS):
        distance = _distance(appearance, np.nonzero(near)[0])
        factor = _MAX_DISTANCE_FACTOR * (1 + _FEW_FRAMES / len(appearance))
        now_near = distance < max(_MAX_DISTANCE, factor * float(np.median(distance[near])))
        if now_near.sum() < _MIN_FRAMES or (now_near == near).all():
            break
        near = now_near
    return near


def _distance(
    appearance: Float[np.ndarray, "frames values"], members: Int[np.ndarray, "members"]
) -> Float[np.ndarray, "frames"]:
    """Root mean square distance of all frames from the plane through the members."""
    members = members[np.linspace(0, len(members) - 1, min(len(members), _MAX_SAMPLES)).astype(int)]
    mean = appearance[members].mean(0)
    directions = np.linalg.svd(appearance[members] - mean, full_matrices=False)[2]
    directions = directions[: min(_NUM_DIMENSIONS, len(members) // 4)]
    offset = appearance - mean
    return np.sqrt(((offset - (offset @ directions.T) @ directions) ** 2).mean(1))
