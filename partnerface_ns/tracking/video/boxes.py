"""Boxes around faces: how much two of them overlap, and one box for each face.

A box is left, top, width and height in pixels.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from partnerface_ns.tracking.video.interfaces import Box

ScoredBox: TypeAlias = tuple[float, Box]
"""A detection's score in [0, 1], and its box."""

_SAME_OVERLAP, SAME_CONTAINMENT = 0.3, 0.6
"""Two boxes of one frame show one face from this intersection over union, or over the smaller box."""


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    shared = _intersection(a, b)
    return shared / (float(a[2] * a[3] + b[2] * b[3]) - shared + 1e-9)


def containment(a: Box, b: Box) -> float:
    """Intersection of two boxes over the smaller one: 1 if one lies inside the other."""
    return _intersection(a, b) / (float(min(a[2] * a[3], b[2] * b[3])) + 1e-9)


def _intersection(a: Box, b: Box) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    return float(np.prod(np.clip(high - low, 0, None)))


def suppress_duplicates(detections: list[ScoredBox]) -> list[Box]:
    """Keep the box with the highest score of each face, highest score first."""
    kept: list[Box] = []
    for _, box in sorted(detections, key=lambda detection: -detection[0]):
        if all(overlap(box, other) < _SAME_OVERLAP and containment(box, other) < SAME_CONTAINMENT for other in kept):
            kept.append(box)
    return kept
