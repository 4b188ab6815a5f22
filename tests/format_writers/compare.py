"""Comparison of a capture with the truth: vertices in camera coordinates and their projections."""

from __future__ import annotations

import numpy as np
import torch

from format_writers.truth import Truth, in_camera, project
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.flame.posing import ShapedHead

VERTS_TOLERANCE = 1e-4
"""Metres."""
LANDMARK_TOLERANCE = 0.05
"""Pixels."""


def errors_of(capture: Capture, truth: Truth, timesteps: dict[int, int] | None = None) -> tuple[float, float]:
    """Largest errors of a vertex (metres) and of a projected vertex (pixels) over all frames.

    Args:
        capture: as a reader gives it.
        truth: the person.
        timesteps: for each timestep of the capture the truth's, where they differ.
    """
    head = ShapedHead.of(truth.head, capture.identity, capture.static_offset)
    expected = truth.verts_in_camera()
    metres = pixels = 0.0
    for frame in capture.frames:
        true = expected[frame.timestep if timesteps is None else timesteps[frame.timestep]]
        camera = frame.camera
        verts = in_camera(head.pose(capture.track[frame.timestep]).verts.double().numpy(), camera.T_world_camera)
        projected = project(verts, (camera.fl_x, camera.fl_y), (camera.cx, camera.cy))
        metres = max(metres, float(np.linalg.norm(verts - true, axis=-1).max()))
        pixels = max(pixels, float(np.abs(projected - project(true, truth.focal, truth.center)).max()))
    return metres, pixels


def assert_same(capture: Capture, truth: Truth, timesteps: dict[int, int] | None = None) -> None:
    metres, pixels = errors_of(capture, truth, timesteps)
    assert metres < VERTS_TOLERANCE and pixels < LANDMARK_TOLERANCE, (metres, pixels)
    assert capture.identity.dtype == capture.track.expression.dtype == torch.float32


def assert_usable(frame: Frame) -> None:
    assert frame.image_path is not None and frame.image_path.is_file()
