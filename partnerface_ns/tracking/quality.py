"""How good a track is: figures, warnings about the footage, and a chart.

All distances are pixels of an image of 512 x 512, whatever the images' size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.tracking.landmarks import EYE_LEFT, EYE_RIGHT, IRIS_LEFT, IRIS_RIGHT, LIPS
from partnerface_ns.tracking.stages import COVERED, OTHER_PERSON

_FEW_FRAMES = 300
_LITTLE_YAW, _LITTLE_JAW = 15.0, 6.0
"""Degrees of turning to each side, and of opening the mouth, below which an avatar has not seen enough."""
_TILTED = 45.0
"""Degrees of tilt from which a video was filmed or stored lying."""
_SMALL_FACE = 120
"""Pixels of the face's height in the video below which detail is lost."""
_TOO_BRIGHT, _TOO_DARK = 0.10, 45
"""Share of burnt-out pixels in the face; mean brightness (0 to 255) of a dark face."""

_CUT_OFTEN = 0.1
"""Share of the frames from which a head that is cut off is told of."""
_MAX_NAMED = 8
"""Runs of frames that a warning names at most."""


@dataclass(frozen=True)
class Errors:
    """Distances for each frame, pixels at 512."""

    landmarks: Float[Tensor, "frames landmarks"]
    silhouette: Float[Tensor, "frames"]
    """Mean distance of the mesh's outline from the matte's; NaN where it was not measured."""
    jitter: float


def figures(errors: Errors) -> dict[str, float | None]:
    """The figures of `tracking.json`; None for what was not measured."""
    e = errors.landmarks
    iris = [*range(IRIS_LEFT.start, IRIS_LEFT.stop), *range(IRIS_RIGHT.start, IRIS_RIGHT.stop)]
    silhouette = errors.silhouette[torch.isfinite(errors.silhouette)]
    values = {
        "landmark_px_mean": e.mean(),
        "landmark_px_median": e.median(),
        "lips_px_median": e[:, list(LIPS)].median(),
        "eyes_px_median": e[:, [*EYE_LEFT, *EYE_RIGHT]].median(),
        "iris_px_median": e[:, iris].median(),
        "silhouette_px_mean": silhouette.mean() if len(silhouette) else torch.tensor(float("nan")),
        "jitter_px": torch.tensor(errors.jitter),
    }
    return {key: round(float(value), 3) if torch.isfinite(value) else None for key, value in values.items()}


def jitter(projected: Float[Tensor, "frames landmarks 2"]) -> float:
    """Trembling of the tracked face where it is nearly still, pixels of the given points.

    The second difference in time of independent errors is sqrt(6) times one of them; the quarter of the frames that
    move least is looked at, so that motion does not count.
    """
    if len(projected) < 8:
        return 0.0
    second = projected[2:] - 2 * projected[1:-1] + projected[:-2]
    per_frame = second.square().sum(-1).mean(-1).sqrt() / 6**0.5
    speed = (projected[2:] - projected[:-2]).square().sum(-1).mean(-1)
    still = speed.argsort()[: max(1, len(speed) // 4)]
    return float(per_frame[still].median())


def outline_distance(mesh: Float[np.ndarray, "points 2"], matte: Float[np.ndarray, "others 2"]) -> float:
    """Mean distance of the mesh's outline points from the matte's outline; NaN without points."""
    from scipy.spatial import cKDTree

    if len(mesh) == 0 or len(matte) == 0:
        return float("nan")
    return float(cKDTree(matte).query(mesh)[0].mean())


@dataclass(frozen=True)
class Footage:
    """What the warnings look at."""

    num_frames: int
    yaw: Float[np.ndarray, "frames"]
    """Degrees of the head's turning to its left."""
    tilt: Float[np.ndarray, "frames"]
    """Degrees of the head's tilt to its left in the image."""
    jaw: Float[np.ndarray, "frames"]
    """Degrees that the mouth is open."""
    face_height: float
    """Pixels of the face in the video, brows to chin."""
    burnt: float
    """Share of burnt-out pixels in the face."""
    brightness: float
    """Mean brightness of the face, 0 to 255."""
    num_others: int
    """Other faces."""
    head_cut: float
    """Share of the frames in which the head, hair included, is not whole in the image."""


def warnings_about(footage: Footage) -> list[str]:
    """What about the footage keeps the avatar from being good, each with the measured figure."""
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
        f"The mouth opens {opened:.1f} degrees at most; without open mouth ({_LITTLE_JAW:.0f} or more) its inside "
        "stays unknown.": opened < _LITTLE_JAW,
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


def warnings_about_left_out(reasons: Mapping[int, str]) -> list[str]:
    """What was left out that the user may not know of, with the frames.

    Args:
        reasons: for each frame that was left out.
    """
    messages = {
        OTHER_PERSON: "Another person is seen in {}; only the person who is seen in most frames is kept.",
        COVERED: "Something is in front of the face in {}; this is left out.",
    }
    frames = {reason: sorted(i for i, r in reasons.items() if r == reason) for reason in messages}
    return [messages[reason].format(name_frames(indices)) for reason, indices in frames.items() if indices]


def name_frames(indices: Sequence[int]) -> str:
    """Frames by their numbers, runs of them as `3 to 7`.

    Args:
        indices: at least one, ascending.
    """
    runs = np.split(np.array(indices), np.nonzero(np.diff(indices) > 1)[0] + 1)
    names = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    more = f" and {len(names) - _MAX_NAMED} more places" if len(names) > _MAX_NAMED else ""
    return f"frame{'s' if len(indices) > 1 else ''} {', '.join(names[:_MAX_NAMED])}{more}"


def draw_quality(errors: Errors, times: Float[np.ndarray, "frames"], path: Path) -> None:
    """A chart of the errors over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), sharex=True, constrained_layout=True)
    groups = {"all landmarks": slice(None), "lips": list(LIPS), "eyes": [*EYE_LEFT, *EYE_RIGHT]}
    for name, index in groups.items():
        top.plot(times, errors.landmarks[:, index].median(-1).values, label=name, linewidth=1)
    worst = errors.landmarks.mean(-1).topk(min(3, len(times))).indices.numpy()
    top.plot(times[worst], errors.landmarks.mean(-1)[worst], "kv", label="worst frames (mean)")
    top.set_ylabel("landmark error, px at 512")
    measured = np.isfinite(errors.silhouette.numpy())
    bottom.plot(times[measured], errors.silhouette.numpy()[measured], color="tab:brown", linewidth=1)
    bottom.set_ylabel("silhouette error, px at 512")
    bottom.set_xlabel("seconds")
    for axis in (top, bottom):
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    top.legend(fontsize=8)
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
    plt.close(figure)
