"""Colours of eyeballs, teeth, tongue and the inside of the mouth as functions of the rest position.

Colours are linear reflectances in [0, 1], lengths metres, angles radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partnerface_ns.demo.face_map import smoothstep

IRIS_ANGLE = 0.405
"""Angle at the eyeball's centre between its axis and the iris's edge."""
_PUPIL_SHARE = 0.40
_SCLERA = np.array([0.80, 0.77, 0.73], dtype=np.float32)
_VEINS = np.array([0.66, 0.30, 0.26], dtype=np.float32)
_ENAMEL = np.array([0.84, 0.82, 0.76], dtype=np.float32)
_GUM = np.array([0.50, 0.18, 0.17], dtype=np.float32)
_TOOTH_WIDTH = 0.0072
MOUTH_INSIDE = np.array([0.34, 0.09, 0.075], dtype=np.float32)
TONGUE = np.array([0.50, 0.15, 0.13], dtype=np.float32)

_FIBRES = 256
"""Number of random values around an iris."""


def fibre_ring(rng: np.random.Generator) -> Float[np.ndarray, "entries"]:
    """Random values around an iris."""
    return rng.uniform(0, 1, _FIBRES).astype(np.float32)


def _on_ring(ring: np.ndarray, turn: np.ndarray, times: int) -> np.ndarray:
    """Linear interpolation of a ring at angles, with `times` of its entries per full turn."""
    at = (turn / (2 * np.pi) + 0.5) * times
    index = np.floor(at).astype(np.int64)
    share = at - index
    return ring[index % times] * (1 - share) + ring[(index + 1) % times] * share


def eye_colour(
    directions: Float[np.ndarray, "samples 3"], iris: Float[np.ndarray, "3"], ring: Float[np.ndarray, "entries"]
) -> Float[np.ndarray, "samples 3"]:
    """Colours of an eye: white with veins, iris with fibres and a dark edge, pupil.

    Args:
        directions: unit vectors from the eyeball's centre in the rest frame; the eye looks along +z.
    """
    angle = np.arccos(np.clip(directions[:, 2], -1, 1))
    turn = np.arctan2(directions[:, 1], directions[:, 0])
    radius = angle / IRIS_ANGLE

    bent = turn + 0.35 * np.sin(7 * angle)
    vein = smoothstep(0.86, 0.97, _on_ring(ring, bent, 61)) * smoothstep(1.15, 2.2, radius)
    corner = smoothstep(1.3, 2.3, radius)[:, None]
    white = _SCLERA * (1 - corner * np.array([0.18, 0.36, 0.38])) + (0.55 * vein)[:, None] * (_VEINS - _SCLERA)

    fibres = 0.65 * _on_ring(ring, turn, 97) + 0.35 * _on_ring(ring, turn + 1.0, 37)
    glow = 1.25 - 0.45 * radius + 0.75 * (fibres - 0.5) * smoothstep(0.4, 0.55, radius)
    collar = smoothstep(0.62, 0.45, radius) * (0.5 + 0.5 * fibres)
    coloured = (iris * 1.9 * glow[:, None] + collar[:, None] * np.array([0.10, 0.06, 0.02])).clip(0, 1)
    coloured = coloured * (1 - 0.72 * smoothstep(0.80, 0.99, radius))[:, None]
    coloured = coloured * (1 - smoothstep(_PUPIL_SHARE + 0.05, _PUPIL_SHARE - 0.03, radius))[:, None] + 0.006
    edge = smoothstep(0.95, 1.07, radius)[:, None]
    return (coloured + edge * (white - coloured)).astype(np.float32)


def cornea_normals(directions: Float[np.ndarray, "samples 3"]) -> Float[np.ndarray, "samples 3"]:
    """Normals of the cornea, which bulges over the iris, in the rest frame."""
    axis = np.array([0, 0, 1], dtype=np.float32)
    inside = smoothstep(1.15, 0.85, np.arccos(np.clip(directions[:, 2], -1, 1)) / IRIS_ANGLE)[:, None]
    bulged = directions + 1.5 * inside * (directions - axis)
    return bulged / np.linalg.norm(bulged, axis=-1, keepdims=True)


@dataclass(frozen=True)
class TeethRow:
    """Position of a row of teeth on the template, for its colours."""

    edge_y: float
    """Height of the biting edge."""
    root_y: float
    """Height at which the gum begins."""
    arch_z: float
    """Depth (z) of the middle of the arch."""

    @staticmethod
    def measure(verts: Float[np.ndarray, "verts 3"], up: float) -> TeethRow:
        """Measure the rest vertices of a row. `up` is 1 for upper teeth, -1 for lower teeth."""
        heights = np.sort(up * verts[:, 1])
        return TeethRow(float(up * heights[0]), float(up * heights[-1]), float(np.median(verts[:, 2])))

    def colour(self, points: Float[np.ndarray, "samples 3"]) -> Float[np.ndarray, "samples 3"]:
        """Colours at rest positions: enamel with gaps between teeth, and gum."""
        along = np.arctan2(points[:, 0], points[:, 2] - self.arch_z) * 0.028 / _TOOTH_WIDTH
        gap = np.abs(along - np.round(along)) * 2  # one gap is on the middle line, between the incisors
        scallop = 0.60 + 0.12 * np.abs(np.sin(np.pi * along))
        gum = smoothstep(-0.05, 0.05, (points[:, 1] - self.edge_y) / (self.root_y - self.edge_y) - scallop)
        bright = (1 - 0.5 * smoothstep(0.18, 0.0, gap)) * (1 - 0.024 * np.minimum(np.abs(along), 5))
        enamel = _ENAMEL * bright[:, None]
        return (enamel + gum[:, None] * (_GUM - enamel)).astype(np.float32)
