"""Rotation and mirroring of stored frames by the display matrix of a file.

The matrix [[a, b], [c, d]] maps a stored pixel (x, y), y down, to the displayed pixel (a x + c y, b x + d y). Cameras
write one of eight matrices: four quarter turns, each with or without mirroring (ISO/IEC 14496-12, `tkhd`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

_DISPLAY_MATRIX = "DISPLAYMATRIX"


def display_matrix(frame: Any) -> Float[np.ndarray, "2 2"]:
    """Return the display matrix of a decoded frame, scaled to entries of at most 1; the identity if it has none."""
    for side_data in frame.side_data:
        if side_data.type.name == _DISPLAY_MATRIX:
            matrix = np.frombuffer(bytes(side_data), dtype=np.int32)[[0, 1, 3, 4]].reshape(2, 2).astype(np.float64)
            largest = np.abs(matrix).max()
            return matrix / largest if largest > 0 else np.eye(2)
    return np.eye(2)


def nearest_quarter_turn(matrix: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, "2 2"]:
    """Return the nearest of the eight quarter turns with or without mirroring."""
    swaps_axes = abs(matrix[0, 1]) + abs(matrix[1, 0]) > abs(matrix[0, 0]) + abs(matrix[1, 1])
    shape = np.array([[0.0, 1.0], [1.0, 0.0]]) if swaps_axes else np.eye(2)
    return shape * np.where(matrix < 0, -1.0, 1.0)


def apply_turn(
    pixels: UInt8[np.ndarray, "rows columns channels"], turn: Float[np.ndarray, "2 2"]
) -> UInt8[np.ndarray, "shown_rows shown_columns channels"]:
    """Rotate and mirror pixels by one of the eight matrices of `nearest_quarter_turn`."""
    if turn[0, 0] == 0:
        pixels = pixels.swapaxes(0, 1)
    across, down = turn.sum(0)  # each column has one entry: the directions of displayed x and y
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
