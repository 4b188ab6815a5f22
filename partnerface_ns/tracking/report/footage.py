"""Warnings about footage that limits the quality of the avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partnerface_ns.tracking.video.left_out import COVERED, OTHER_PERSON

_FEW_FRAMES = 300
"""Number of frames below which a warning asks for a longer video."""
_LITTLE_YAW, _LITTLE_JAW = 15.0, 6.0
"""Rotation to each side, and opening of the mouth, below which parts of the avatar stay unknown, degrees."""
_TILTED = 45.0
"""Tilt above which the video was probably filmed or stored rotated, degrees."""
_SMALL_FACE = 120
"""Height of the face below which detail is lost, pixels of the video."""
_TOO_BRIGHT, _TOO_DARK = 0.10, 45
"""Share of burnt-out pixels of an overexposed face; mean brightness (0 to 255) of a dark face."""
_CUT_OFTEN = 0.1
"""Share of the frames above which a warning says that the head is cut off."""
_MAX_NAMED = 8
"""Largest number of runs of frames that a warning lists."""


@dataclass(frozen=True)
class Footage:
    """Properties of the footage that the warnings depend on."""

    num_frames: int
    yaw: Float[np.ndarray, "frames"]
    """Rotation of the head to its left, degrees."""
    tilt: Float[np.ndarray, "frames"]
    """Tilt of the head to its left in the image, degrees."""
    jaw: Float[np.ndarray, "frames"]
    """Opening of the mouth, degrees."""
    face_height: float
    """Height of the face from brows to chin, pixels of the video."""
    burnt: float
    """Share of burnt-out pixels in the face."""
    brightness: float
    """Mean brightness of the face, 0 to 255."""
    num_others: int
    """Number of other faces."""
    head_cut: float
    """Share of the frames in which the image cuts off a part of the head or hair."""


def footage_warnings(footage: Footage) -> list[str]:
    """Return a warning with the measured figure for everything in the footage that harms the avatar."""
    low, high = np.quantile(footage.yaw, (0.02, 0.98))
    tilt = float(np.median(footage.tilt))
    opened = float(np.quantile(footage.jaw, 0.98))
    checks: Mapping[str, bool] = {
        f"Only {footage.num_frames} frames were tracked; 30 seconds or more give a better avatar.": (
            footage.num_frames < _FEW_FRAMES
        ),
        f"The head turns {max(-low, 0):.0f} degrees to the right and {max(high, 0):.0f} to the left; turn it "
        f"{_LITTLE_YAW:.0f} or more to each side, or its sides stay unknown.": low > -_LITTLE_YAW or high < _LITTLE_YAW,
        f"The head lies tilted by {tilt:.0f} degrees: turn the video upright, or shoulders and outline are wrong.": (
            abs(tilt) > _TILTED
        ),
        f"The mouth opens {opened:.1f} degrees at most; open it by {_LITTLE_JAW:.0f}, or its inside stays unknown.": (
            opened < _LITTLE_JAW
        ),
        f"The face is {footage.face_height:.0f} pixels high; under {_SMALL_FACE} fine detail is lost.": (
            footage.face_height < _SMALL_FACE
        ),
        f"{100 * footage.burnt:.0f}% of the face is burnt out; use softer light or a shorter exposure.": (
            footage.burnt > _TOO_BRIGHT
        ),
        f"The face is dark (brightness {footage.brightness:.0f} of 255); use more light.": (
            footage.brightness < _TOO_DARK
        ),
        f"{footage.num_others} other face(s) were seen; the largest steady one was taken.": footage.num_others > 0,
        f"The head is cut off in {100 * footage.head_cut:.0f}% of the frames: leave room above the hair and beside the "
        "head, or what is outside the image stays unknown.": footage.head_cut > _CUT_OFTEN,
    }
    return [message for message, applies in checks.items() if applies]


def left_out_warnings(reasons: Mapping[int, str]) -> list[str]:
    """Return warnings that list the frames of other people and those with a covered face.

    Args:
        reasons: the reason for each frame that was left out.
    """
    messages = {
        OTHER_PERSON: "Another person is seen in {}; only the person who is seen in most frames is kept.",
        COVERED: "Something is in front of the face in {}; this is left out.",
    }
    frames = {reason: sorted(i for i, r in reasons.items() if r == reason) for reason in messages}
    return [messages[reason].format(name_frames(indices)) for reason, indices in frames.items() if indices]


def name_frames(indices: Sequence[int]) -> str:
    """Format frame numbers as text, with runs as `3 to 7`.

    Args:
        indices: at least one, in ascending order.
    """
    runs = np.split(np.array(indices), np.nonzero(np.diff(indices) > 1)[0] + 1)
    names = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    more = f" and {len(names) - _MAX_NAMED} more places" if len(names) > _MAX_NAMED else ""
    return f"frame{'s' if len(indices) > 1 else ''} {', '.join(names[:_MAX_NAMED])}{more}"
