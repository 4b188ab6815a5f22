"""How stored frames are to be shown: quarter turns and mirrorings by a file's display matrix.

The matrix [[a, b], [c, d]] takes a stored pixel (x, y), y down, to the shown one (a x + c y, b x + d y). Cameras write
one of eight: four turns, each with or without mirroring (ISO/IEC 14496-12, `tkhd`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

_DISPLAY_MATRIX = "DISPLAYMATRIX"


def display_matrix(frame: Any) -> Float[np.ndarray, "2 2"]:
    """The display matrix of a decoded frame, scaled to entries of at most 1; the identity where it has none."""
    for side_data in frame.side_data:
        if side_data.type.name == _DISPLAY_MATRIX:
            matrix = np.frombuffer(bytes(side_data), dtype=np.int32)[[0, 1, 3, 4]].reshape(2, 2).astype(np.float64)
            largest = np.abs(matrix).max()
            return matrix / largest if largest > 0 else np.eye(2)
    return np.eye(2)


def nearest_quarter_turn(matrix: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, "2 2"]:
    """The one of the eight turns and mirrorings by quarters that is nearest to a matrix."""
    lying = abs(matrix[0, 1]) + abs(matrix[1, 0]) > abs(matrix[0, 0]) + abs(matrix[1, 1])
    shape = np.array([[0.0, 1.0], [1.0, 0.0]]) if lying else np.eye(2)
    return shape * np.where(matrix < 0, -1.0, 1.0)


def show(
    pixels: UInt8[np.ndarray, "rows columns channels"], turn: Float[np.ndarray, "2 2"]
) -> UInt8[np.ndarray, "shown_rows shown_columns channels"]:
    """Pixels as they are to be shown, for one of the eight turns and mirrorings by quarters."""
    if turn[0, 0] == 0:
        pixels = pixels.swapaxes(0, 1)
    across, down = turn.sum(0)  # each column holds one entry: how shown x and shown y run
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
