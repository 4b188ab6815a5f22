"""Wrinkles: their lines on the skin's sheet and their depth for an expression.

They change colours and normals but no vertices. Expression coefficients drive them, but the head model cannot represent
them. Sheet coordinates and depths are metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from partnerface_ns.demo import face_map
from partnerface_ns.demo.face_map import SHAPE, Anchors, Sheet, to_sheet

_SIDES = ((1, "Left"), (-1, "Right"))


class Groove(NamedTuple):
    """One line of a wrinkle."""

    points: np.ndarray
    """Sheet coordinates, (points, 2)."""
    width: float
    depth: float


def wrinkle_strengths(expression: Mapping[str, float]) -> dict[str, float]:
    """Strength of each wrinkle, 0 to about 1, from expression coefficients by name. Missing ones count as 0."""
    get = lambda name: max(0.0, expression.get(name, 0.0))  # noqa: E731
    both = lambda name: get(f"{name}Left") + get(f"{name}Right")  # noqa: E731
    strengths = {
        "forehead": 0.6 * get("browInnerUp") + 0.35 * both("browOuterUp"),
        "frown": 0.5 * both("browDown") + 0.25 * both("noseSneer"),
        "bunny": 0.5 * both("noseSneer"),
        "chin": get("mouthShrugLower") + 0.5 * get("mouthPucker"),
    }
    for _, side in _SIDES:
        smile, up, sneer = (get(f"{name}{side}") for name in ("mouthSmile", "mouthUpperUp", "noseSneer"))
        squint = get(f"eyeSquint{side}") + get(f"cheekSquint{side}")
        strengths[f"crow{side}"] = 0.6 * squint + 0.55 * smile
        strengths[f"fold{side}"] = 0.95 * smile + 0.3 * up + 0.4 * sneer
    return {name: min(1.2, strength) for name, strength in strengths.items()}


def draw_wrinkles(anchors: Anchors, rng: np.random.Generator) -> dict[str, Sheet]:
    """Draw every wrinkle at full strength: negative heights in metres over the whole sheet."""
    eye, mouth, nose = (to_sheet(p, anchors.axis_z) for p in (anchors.eyes[0], anchors.mouth, anchors.nose_tip))
    grooves = {"forehead": _forehead(eye, rng), "frown": _frown(eye), "bunny": _bunny(eye), "chin": _chin(mouth, rng)}
    for side, name in _SIDES:
        grooves[f"crow{name}"] = _crow(eye, side)
        grooves[f"fold{name}"] = _fold(mouth, nose, anchors.mouth_half_width, side)
    sheets = {}
    for name, lines in grooves.items():
        sheet = np.zeros(SHAPE, dtype=np.float32)
        for line in lines:
            face_map.draw_line(sheet, line.points, line.width, line.depth)
        sheets[name] = -sheet
    return sheets


def _forehead(eye: np.ndarray, rng: np.random.Generator) -> list[Groove]:
    """Four irregular horizontal lines."""
    grooves = []
    for i, up in enumerate((0.031, 0.040, 0.049, 0.057)):
        half = 0.048 - 0.004 * i
        a = np.linspace(-half, half, 9)
        points = np.stack([a, eye[1] + up + 0.0025 * np.cos(a / half * np.pi)], -1)
        points += rng.normal(0, 0.0004, points.shape)
        grooves.append(Groove(face_map.curve(points, 24), 0.0019, 0.0008 + 0.0002 * (i % 2)))
    return grooves


def _frown(eye: np.ndarray) -> list[Groove]:
    """Two vertical lines between the brows."""
    path = np.array([[0.0055, 0.008], [0.0065, 0.018], [0.005, 0.028]])
    return [Groove(face_map.curve(path * [side, 1] + [0, eye[1]]), 0.0014, 0.0011) for side, _ in _SIDES]


def _bunny(eye: np.ndarray) -> list[Groove]:
    """Lines at the sides of the bridge of the nose."""
    path = np.array([[0.004, 0.0], [0.009, -0.002], [0.013, -0.006]])
    return [
        Groove(face_map.curve(path * [side, 1] + [0, eye[1] - drop]), 0.0012, 0.0008)
        for side, _ in _SIDES
        for drop in (0.003, 0.008)
    ]


def _chin(mouth: np.ndarray, rng: np.random.Generator) -> list[Groove]:
    """Dimples of the chin."""
    at = rng.uniform([-0.013, mouth[1] - 0.034], [0.013, mouth[1] - 0.018], (16, 2))
    return [Groove(np.stack([p, p + np.array([0.001, 0.001])]), 0.0016, 0.0006) for p in at]


def _crow(eye: np.ndarray, side: int) -> list[Groove]:
    """A fan of lines from the outer corner of an eye."""
    corner = np.array([eye[0] + 0.0185, eye[1] - 0.001])
    along, bow = np.linspace(0.15, 1, 4)[:, None], np.array([[0, 0], [0, 0.0012], [0, 0.0012], [0, 0]])
    reach = (0.017 * np.array([np.cos(angle), np.sin(angle)]) for angle in (0.55, 0.15, -0.25, -0.6))
    return [Groove((corner + along * step + bow) * [side, 1], 0.0011, 0.0008) for step in reach]


def _fold(mouth: np.ndarray, nose: np.ndarray, half_width: float, side: int) -> list[Groove]:
    """The line from the wing of the nose around the corner of the mouth."""
    wing = nose[1] + 0.003
    path = np.array(
        [
            [0.017, wing],
            [half_width + 0.004, 0.55 * mouth[1] + 0.45 * wing],
            [half_width + 0.0115, mouth[1]],
            [half_width + 0.010, mouth[1] - 0.012],
        ]
    )
    return [Groove(face_map.curve(path * [side, 1], 16), 0.0021, 0.0014)]
