"""The person's colours and skin texture: brows, freckles, stubble, pores, and wrinkles that depend on expressions.

Colours are linear reflectances in [0, 1]; heights are metres above the smooth skin. The texture is drawn on the sheet
of `face_map`, so it moves with the surface for every identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from partnerface_ns.demo import face_map
from partnerface_ns.demo.face_map import SHAPE, TEXEL, Anchors, Sheet, smoothstep, to_sheet
from partnerface_ns.demo.wrinkles import draw_wrinkles

_SKINS = ((238, 196, 172), (228, 178, 148), (208, 154, 120), (176, 120, 88), (128, 84, 62))
_HAIRS = ((30, 24, 22), (52, 36, 28), (84, 56, 36), (122, 62, 36), (168, 128, 80), (132, 130, 130))
_IRISES = ((92, 54, 30), (112, 84, 40), (84, 112, 72), (78, 116, 150), (104, 122, 136))
_SHIRTS = (((34, 58, 96), (226, 224, 214)), ((128, 36, 44), (232, 220, 204)), ((38, 84, 72), (222, 214, 176)),
           ((58, 54, 62), (206, 150, 62)))  # fmt: skip
_FRAMES = ((24, 22, 24), (86, 48, 26), (38, 46, 70), (120, 30, 36))

"""Colours in sRGB, 0 to 255, light skin first."""
_WRINKLED_Y, _WRINKLED_A = (-0.08, 0.125), (-0.11, 0.11)
"""Extent of wrinkles on the sheet, metres."""


def to_linear(srgb: Sequence[object]) -> Float[np.ndarray, "*colours 3"]:
    """Linear reflectance of one or more sRGB colours in 0 to 255."""
    return ((np.asarray(srgb, dtype=np.float32) / 255 + 0.055) / 1.055) ** 2.4


@dataclass(frozen=True)
class Appearance:
    """One person's colours and style."""

    skin: Float[np.ndarray, "3"]
    hair: Float[np.ndarray, "3"]
    iris: Float[np.ndarray, "3"]
    shirt: Float[np.ndarray, "2 3"]
    """The two colours of the stripes."""
    frame: Float[np.ndarray, "3"]
    """Colour of the glasses."""
    freckles: float
    """Share of full freckling, 0 to 1."""
    stubble: float
    """Darkness of the beard's shadow, 0 to 1."""
    hair_style: int
    """An index into `props.HAIR_STYLES`, taken modulo their number."""
    lens_roundness: float
    """Exponent of the lens outline: 2 is an ellipse, more is squarer."""

    @staticmethod
    def random(rng: np.random.Generator) -> Appearance:
        pick = lambda palette: to_linear(palette[rng.integers(len(palette))])  # noqa: E731
        tone = int(rng.integers(len(_SKINS)))
        dark = tone >= 3  # dark skin gets dark hair and eyes
        return Appearance(
            skin=to_linear(_SKINS[tone]) * rng.uniform(0.93, 1.05, 3).astype(np.float32),
            hair=pick(_HAIRS[:2] if dark else _HAIRS),
            iris=pick(_IRISES[:2] if dark else _IRISES),
            shirt=pick(_SHIRTS),
            frame=pick(_FRAMES),
            freckles=float(rng.uniform(0.2, 1.0)),
            stubble=float(rng.choice([0.0, 0.35, 0.7])),
            hair_style=int(rng.integers(1000)),
            lens_roundness=float(rng.choice([2.0, 2.6, 3.6])),
        )


@dataclass(frozen=True)
class SkinSheets:
    """Textures of the skin on the sheet of `face_map`."""

    colour: Float[np.ndarray, "rows columns 4"]
    """Reflectance in three channels, then gloss; all in [0, 1]."""
    height: Sheet
    """Height of pores and permanent lines, metres."""
    wrinkles: Mapping[str, Float[np.ndarray, "window_rows window_columns"]]
    """Heights in metres of wrinkles at full strength, by name, inside `window` only."""
    window: tuple[slice, slice]
    """Rows and columns of the sheet that can have wrinkles."""

    def bumps(self, strengths: Mapping[str, float]) -> Float[np.ndarray, "rows columns 3"]:
        """Height in metres and its slopes along a and y, for given wrinkle strengths, over the whole sheet."""
        height = self.height.copy()
        for name, strength in strengths.items():
            height[self.window] += np.float32(strength) * self.wrinkles[name]
        slope_y, slope_a = np.gradient(height, TEXEL)
        return np.stack([height, slope_a, slope_y], -1)


def paint_skin(anchors: Anchors, look: Appearance, rng: np.random.Generator) -> SkinSheets:
    """Draw one person's skin. `anchors` are those of the head model's template, which the sheet unwraps."""
    a, y = face_map.coordinates()
    points = (anchors.eyes[0], anchors.mouth, anchors.nose_tip)
    eye, mouth, nose = (to_sheet(p, anchors.axis_z).astype(np.float64) for p in points)
    beard, brows = look.stubble * _beard_zone(a, y, mouth, nose), np.clip(_brows(eye, rng), 0, 1)
    stubble = beard * (0.35 + 0.55 * smoothstep(0.0, 1.8, face_map.noise(rng, (0.8, 0.55))))
    blush = 0.28 * _spots(a, y, (0.038, mouth[1] + 0.03), (0.018, 0.014))
    blush = blush + 0.20 * _spots(a, y, (0.0, nose[1]), (0.012, 0.012))
    under_eyes = 0.35 * _spots(a, y, (eye[0], eye[1] - 0.013), (0.014, 0.005))

    colour = np.broadcast_to(look.skin, (*SHAPE, 3)).copy()
    colour *= 1 + 0.04 * face_map.noise(rng, 18.0)[..., None] + 0.035 * face_map.noise(rng, 1.2)[..., None]
    for mask, target in (
        (blush, look.skin * [1.0, 0.66, 0.62]),
        (under_eyes, look.skin * [0.78, 0.62, 0.66]),
        (0.75 * look.freckles * _freckles(eye, nose, rng), look.skin * [0.52, 0.36, 0.27]),
        (stubble, 0.6 * look.hair + 0.25 * look.skin),
        (0.92 * brows, 0.55 * look.hair),
    ):
        colour += np.clip(mask, 0, 1)[..., None] * (target - colour)
    gloss = 0.45 + 0.3 * _spots(a, y, (0.0, nose[1]), (0.012, 0.02))
    gloss = (gloss + 0.15 * _spots(a, y, (0.0, eye[1] + 0.05), (0.04, 0.02))) * (1 - 0.7 * brows) * (1 - 0.5 * beard)

    wrinkles = draw_wrinkles(anchors, rng)
    pores = 0.00003 * face_map.noise(rng, 0.9) + 0.00006 * face_map.noise(rng, 3.0)
    always = 0.22 * (wrinkles["foldLeft"] + wrinkles["foldRight"]) + 0.12 * wrinkles["forehead"]
    window = (_texels(y[:, 0], *_WRINKLED_Y), _texels(a[0], *_WRINKLED_A))
    return SkinSheets(
        colour=np.concatenate([np.clip(colour, 0, 1), gloss[..., None]], -1).astype(np.float32),
        height=(pores + always + 0.0003 * brows).astype(np.float32),
        wrinkles={name: sheet[window].copy() for name, sheet in wrinkles.items()},
        window=window,
    )


def _spots(a: Sheet, y: Sheet, at: tuple[float, float], size: tuple[float, float]) -> Sheet:
    """A soft spot of deviation `size` on each side of the face. At a = 0 the two add up."""
    left, right = (np.exp(-((np.abs(a - s * at[0]) / size[0]) ** 2)) for s in (-1, 1))
    return (left + right) * np.exp(-(((y - at[1]) / size[1]) ** 2))


def _texels(axis: np.ndarray, low: float, high: float) -> slice:
    return slice(*(int(i) for i in np.searchsorted(axis, (low, high))))


def _freckles(eye: np.ndarray, nose: np.ndarray, rng: np.random.Generator) -> Sheet:
    """Freckles, dense on nose and cheeks and rare elsewhere, and a few moles."""
    sheet = np.zeros(SHAPE, dtype=np.float32)
    middle = 0.55 * nose[1] + 0.45 * eye[1]
    dense = np.stack([rng.normal(0, 0.034, 190), rng.normal(middle - 0.008, 0.012, 190)], -1)
    rare = np.stack([rng.uniform(-0.1, 0.1, 70), rng.uniform(-0.07, 0.1, 70)], -1)
    for at in np.concatenate([dense, rare]):
        draw = rng.uniform(0.0004, 0.0009), rng.uniform(0.3, 0.9)
        face_map.draw_line(sheet, np.stack([at, at + 1e-5]), *draw, taper=False)
    for at in rng.uniform([-0.07, -0.05], [0.07, 0.06], (4, 2)):
        face_map.draw_line(sheet, np.stack([at, at + 1e-5]), 0.0011, 1.3, taper=False)
    return sheet


def _beard_zone(a: Sheet, y: Sheet, mouth: np.ndarray, nose: np.ndarray) -> Sheet:
    """Where a beard grows: upper lip, chin, and along the jaw up to the ears."""
    edge = np.interp(np.abs(a), [0, 0.014, 0.022, 0.05, 0.09, 0.12],
                     nose[1] + np.array([-0.012, -0.012, -0.02, -0.045, -0.015, 0.02]))  # fmt: skip
    behind = smoothstep(0.125, 0.11, np.abs(a))
    return smoothstep(0.004, -0.006, y - edge) * smoothstep(mouth[1] - 0.085, mouth[1] - 0.05, y) * behind


def _brows(eye: np.ndarray, rng: np.random.Generator) -> Sheet:
    """Two brows of single hairs on a soft base."""
    sheet = np.zeros(SHAPE, dtype=np.float32)
    arch = rng.uniform(0.003, 0.0065)
    for side in (-1, 1):
        inner, outer = [side * (eye[0] - 0.0215), eye[1] + 0.0165], [side * (eye[0] + 0.0225), eye[1] + 0.0155]
        line = face_map.curve(np.array([inner, [side * (eye[0] + 0.004), eye[1] + 0.0185 + arch], outer]), 24)
        face_map.draw_line(sheet, line, 0.0034, 0.45)
        for _ in range(240):
            t = rng.uniform(0, 1)
            root = line[int(t * 23)] + [0, rng.normal(-0.0008, 0.0017) * (1.15 - t)]
            lean = side * rng.uniform(0.35, 0.9) + side * 0.6 * t
            tip = root + 0.0058 * (1 - 0.35 * t) * np.array([lean, 0.75 - 0.85 * t])
            face_map.draw_line(sheet, np.stack([root, tip]), 0.00042, rng.uniform(0.5, 1.0))
    return sheet
