"""Which frames show something in front of the face: a hand, a microphone, a cup.

The lower face of each frame is compared with the lower faces of the same video. Expressions and light change it in few
ways, and gradually: the frames of an uncovered face lie near a plane of few dimensions. The plane is grown from calm
stretches of the video, frame by frame, as long as frames lie near it; frames that never do show something else. So a
beard, make-up or glasses, which are there all the time, are part of the face.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from partnerface_ns.tracking.face_texture import face_places, logarithm, smooth_light

_LOWER = 0.005
"""Metres above the landmarks' origin, at the nose's middle, up to which the lower face goes."""
_FAR, _FAR_FACTOR = 0.035, 2.5
"""A frame shows something else above both distances from the plane: in logarithms of colours (root mean square), and in
medians of the frames near the plane."""
_FEW_FRAMES = 12
"""Frames at which the second distance is doubled: few frames show few of the ways in which a face changes."""
_NUM_DIMENSIONS = 8
_MAX_SAMPLES = 200
"""Frames from which the plane is computed at most."""
_NUM_STRETCHES = 12
_MIN_FRAMES = 8
_MAX_ROUNDS = 20


def covered(
    texture: UInt8[np.ndarray, "frames places 3"], facing: Float[np.ndarray, "frames places"]
) -> Bool[np.ndarray, "frames"]:
    """Frames in which something covers the lower face.

    What is seen in less than half of the frames, or in a video of few frames, does not count as the usual look: then
    no frame is said to be covered.

    Args:
        texture: colours of one person's face, frames in order of time.
        facing: cosine between each place's normal and the line of sight.
    """
    if len(texture) < _NUM_STRETCHES * 2:
        return np.zeros(len(texture), dtype=bool)
    appearance = lower_face(texture, facing)
    uncovered = max((_grow(appearance, start) for start in _calm_stretches(appearance)), key=np.sum)
    return _without_single_frames(~uncovered & (2 * uncovered.sum() > len(texture)))


def _without_single_frames(found: np.ndarray) -> Bool[np.ndarray, "frames"]:
    """What is in front of a face stays for more than a frame; one frame alone is rather blurred by motion."""
    around = np.pad(found, 1)
    return found & (around[:-2] | around[2:])


def lower_face(texture: np.ndarray, facing: np.ndarray) -> Float[np.ndarray, "frames values"]:
    """What the lower face looks like beside its usual look, without light that changes slowly over it."""
    visible = np.clip((facing - 0.2) / 0.3, 0, 1)
    colours = logarithm(texture)
    difference = colours - np.median(colours, 0)
    kept = face_places().points[:, 1] < _LOWER
    difference, visible, light = difference[:, kept], visible[:, kept], smooth_light()[kept]
    normal = np.einsum("pk,tp,pl->tkl", light, visible, light) + 1e-6 * np.eye(light.shape[1])
    share = np.linalg.solve(normal, np.einsum("pk,tp,tpc->tkc", light, visible, difference))
    rest = difference - np.einsum("pk,tkc->tpc", light, share)
    return (rest * np.sqrt(visible)[..., None]).reshape(len(texture), -1)


def _calm_stretches(appearance: np.ndarray) -> list[np.ndarray]:
    """The calmer half of the video's stretches: something that comes or goes makes a stretch restless."""
    stretches = np.array_split(np.arange(len(appearance)), _NUM_STRETCHES)
    return sorted(stretches, key=lambda s: float(appearance[s].std(0).mean()))[: _NUM_STRETCHES // 2]


def _grow(appearance: np.ndarray, start: np.ndarray) -> Bool[np.ndarray, "frames"]:
    """The frames near the plane that a stretch grows to."""
    near = np.zeros(len(appearance), dtype=bool)
    near[start] = True
    for _ in range(_MAX_ROUNDS):
        distance = _distance(appearance, np.nonzero(near)[0])
        factor = _FAR_FACTOR * (1 + _FEW_FRAMES / len(appearance))
        now = distance < max(_FAR, factor * float(np.median(distance[near])))
        if now.sum() < _MIN_FRAMES or (now == near).all():
            break
        near = now
    return near


def _distance(appearance: np.ndarray, members: np.ndarray) -> Float[np.ndarray, "frames"]:
    """Root mean square distance of all frames from the plane through some of them."""
    members = members[np.linspace(0, len(members) - 1, min(len(members), _MAX_SAMPLES)).astype(int)]
    mean = appearance[members].mean(0)
    directions = np.linalg.svd(appearance[members] - mean, full_matrices=False)[2]
    directions = directions[: min(_NUM_DIMENSIONS, len(members) // 4)]
    offset = appearance - mean
    return np.sqrt(((offset - (offset @ directions.T) @ directions) ** 2).mean(1))
