"""Convention fixes: each corrects one mistake of axes, direction or scale that files do not show by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from partnerface_ns.capture.cameras import OPENCV_TO_OPENGL
from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.names import FixName
from partnerface_ns.geometry.camera import Camera

SCALE = 4.0
"""Scale of FLAME in IMAvatar's layout; ignoring it is the usual mistake of scale."""


@dataclass(frozen=True)
class ConventionFix:
    """A mistake and its correction."""

    cause: str
    """Description of the mistake, for people."""
    apply: Callable[[Capture], Capture]


def apply_fix(capture: Capture, name: FixName) -> Capture:
    """The capture with one mistake corrected."""
    return CONVENTION_FIXES[name].apply(capture)


def _with_cameras(capture: Capture, change: Callable[[Camera], np.ndarray]) -> Capture:
    frames = [replace(f, camera=replace(f.camera, T_world_camera=change(f.camera))) for f in capture.frames]
    return replace(capture, frames=tuple(frames))


def _scale_positions(capture: Capture, factor: float) -> Capture:
    """Multiply camera positions and the head's translation by a factor; the size of the head stays the same."""

    def change(camera: Camera) -> np.ndarray:
        T = camera.T_world_camera.copy()
        T[:3, 3] *= factor
        return T

    track = replace(capture.track, translation=capture.track.translation * factor)
    return replace(_with_cameras(capture, change), track=track)


CONVENTION_FIXES: dict[FixName, ConventionFix] = {
    "camera-axes": ConventionFix(
        "the camera's axes: poses are in OpenCV axes (y down, looking along z) where OpenGL's are expected",
        lambda capture: _with_cameras(capture, lambda camera: camera.T_world_camera @ OPENCV_TO_OPENGL),
    ),
    "camera-inverse": ConventionFix(
        "the camera's direction: poses are world-to-camera where camera-to-world is expected",
        lambda capture: _with_cameras(capture, lambda camera: np.linalg.inv(camera.T_world_camera)),
    ),
    "scale-down": ConventionFix(
        "the scale: positions are 4 times too large for the head model (IMAvatar's FLAME is 4 times its size)",
        lambda capture: _scale_positions(capture, 1 / SCALE),
    ),
    "scale-up": ConventionFix(
        "the scale: positions are 4 times too small for the head model (divided by 4 although they were metres)",
        lambda capture: _scale_positions(capture, SCALE),
    ),
}
