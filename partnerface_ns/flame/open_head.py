"""The open head: a head model with FLAME's structure that ships with the package (CC0).

Its file is compact: displacement directions are rounded to a fixed step, stored as differences between consecutive
vertices and compressed. `scripts/build_open_head.py` builds it; OPEN_HEAD_LICENSE.txt names the sources. An expression
coefficient is 0 at rest and 1 at the full named face unit. Identity coefficients have unit variance.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from partnerface_ns.flame.head_model import HeadModel, head_model_from_arrays

OPEN_HEAD_NAME = "open-head"
"""Option value that selects the open head instead of a file."""
OPEN_HEAD_FILE = Path(__file__).parent / "open_head.npz"
OPEN_HEAD_PARTS = ("skin", "teeth_upper", "teeth_lower", "tongue", "eye_left", "eye_right")
"""Names of the surface's parts; `open_head_parts` indexes them."""

DISPLACEMENT_STEP = 8e-6
"""Quantisation step of displacements in metres. Errors stay under 4 micrometres; the range is 26 cm."""
WEIGHT_STEP = 1.0 / 65535
"""Quantisation step of skinning weights."""
DIRECTIONS = ("shapedirs", "posedirs")
"""Keys of arrays of displacements."""


@lru_cache(maxsize=1)
def load_open_head() -> HeadModel:
    """The open head. It is cached, so callers must not change its arrays."""
    return head_model_from_arrays(unpack(_read()), OPEN_HEAD_FILE)


def open_head_parts() -> UInt8[np.ndarray, "verts"]:
    """Index into `OPEN_HEAD_PARTS` for each vertex of the open head."""
    return _read()["part"]


def _read() -> dict[str, np.ndarray]:
    with np.load(OPEN_HEAD_FILE, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def unpack(packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the compact form back to arrays with FLAME's keys, float32."""
    arrays = {key: value for key, value in packed.items() if key != "J_regressor_index"}
    for key in DIRECTIONS:
        steps = np.cumsum(packed[key], axis=1, dtype=np.int16)
        arrays[key] = np.moveaxis(steps, 0, -1).astype(np.float32) * np.float32(DISPLACEMENT_STEP)
    arrays["weights"] = packed["weights"].astype(np.float32) * np.float32(WEIGHT_STEP)
    regressor = np.zeros((len(packed["kintree_table"][0]), len(packed["v_template"])), dtype=np.float32)
    regressor[tuple(packed["J_regressor_index"].astype(np.int64))] = packed["J_regressor"]
    arrays["J_regressor"] = regressor
    return arrays
