"""Split coverage: how far the test frames exceed the training frames.

Head rotations are relative to the camera, so that layouts that move the camera and layouts that move the head give the
same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead

_NEIGHBOURS = 5
"""Training frames that are this near in time do not count as nearest frames."""


@dataclass(frozen=True)
class Range:
    """Range of one quantity in training and test frames."""

    name: str
    unit: str
    train: tuple[float, float]
    test: tuple[float, float]
    beyond: float
    """Share of the test frames whose value exceeds the training range."""


def split_coverage(capture: Capture, model: HeadModel) -> list[Range]:
    """Ranges of head rotation, distance, jaw and gaze, and of the five expressions that exceed their range most.

    The list is empty if there are no training or no test frames.
    """
    train, test = capture.frames_of("train"), capture.frames_of("test")
    if not train or not test:
        return []
    ours, theirs = (_quantities(capture, model, frames) for frames in (train, test))
    ranges = [_range(name, unit, ours[name, unit], theirs[name, unit]) for name, unit in ours]
    expressions = [
        _range(f"expression {model.expression_names[i]}", "", *pair)
        for i, pair in enumerate(zip(_expression(capture, train).T, _expression(capture, test).T, strict=True))
    ]
    return ranges + sorted(expressions, key=lambda r: -r.beyond)[:5]


def expression_novelty(capture: Capture) -> float | None:
    """Distance of test expressions from the nearest training frame, relative to the distance between training frames.

    Both distances are medians over frames. Each coefficient is divided by its standard deviation in training, but at
    least by a tenth of the largest deviation, so that coefficients which hardly move are not amplified. None if there
    are few frames.
    """
    train, test = capture.frames_of("train"), capture.frames_of("test")
    if len(train) <= 2 * _NEIGHBOURS + 1 or not test:
        return None
    ours, theirs = _expression(capture, train), _expression(capture, test)
    deviation = ours.std(0)
    scale = np.maximum(deviation, 0.1 * deviation.max() + 1e-6)
    ours, theirs = ours / scale, theirs / scale
    order = np.arange(len(ours))
    distances, indices = KDTree(ours).query(ours, k=2 * _NEIGHBOURS + 2)
    far = np.abs(indices - order[:, None]) > _NEIGHBOURS
    nearest = np.where(far, distances, np.inf).min(1)
    usual = float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 0.0
    return float(np.median(KDTree(ours).query(theirs)[0])) / usual if usual > 0 else None


def _quantities(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> dict[tuple[str, str], np.ndarray]:
    """Values per frame, by name and unit."""
    steps = torch.tensor([frame.timestep for frame in frames], dtype=torch.long)
    state = capture.track[steps]
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    T_world_head = np.concatenate(
        [shaped.pose(state[slice(i, i + 32)]).T_world_rest[:, Joint.NECK].numpy() for i in range(0, len(frames), 32)]
    ).astype(np.float64)
    T_world_camera = np.stack([frame.camera.T_world_camera for frame in frames])
    T_camera_head = np.linalg.inv(T_world_camera) @ T_world_head
    center = T_camera_head[:, :3, :3] @ model.template.double().numpy().mean(0) + T_camera_head[:, :3, 3]
    yaw, pitch, roll = Rotation.from_matrix(T_camera_head[:, :3, :3]).as_euler("YXZ", degrees=True).T
    jaw, eyes = np.degrees(state.jaw.numpy()), np.degrees(state.eyes.numpy())
    return {
        ("turn left", "deg"): yaw,
        ("turn down", "deg"): pitch,
        ("tilt", "deg"): roll,
        ("distance", "m"): np.linalg.norm(center, axis=-1),
        ("jaw open", "deg"): jaw[:, 0],
        ("gaze down", "deg"): (eyes[:, 0] + eyes[:, 3]) / 2,
        ("gaze left", "deg"): (eyes[:, 1] + eyes[:, 4]) / 2,
    }


def _expression(capture: Capture, frames: Sequence[Frame]) -> Float[np.ndarray, "frames coefficients"]:
    steps = sorted({frame.timestep for frame in frames})
    return capture.track.expression[torch.tensor(steps, dtype=torch.long)].double().numpy()


def _range(name: str, unit: str, train: np.ndarray, test: np.ndarray) -> Range:
    low, high = float(train.min()), float(train.max())
    margin = 0.02 * (high - low)
    beyond = float(((test < low - margin) | (test > high + margin)).mean())
    return Range(name, unit, (low, high), (float(test.min()), float(test.max())), beyond)
