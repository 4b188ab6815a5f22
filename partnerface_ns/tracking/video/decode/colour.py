"""Conversion of high dynamic range (HLG, PQ) and wide gamuts (BT.2020, Display P3) to BT.709.

A signal in [0, 1] becomes linear light, where 1 is diffuse white. The light is converted to BT.709 primaries,
compressed by a tone curve and encoded for a display of gamma 2.2. ffmpeg's `lut3d` applies the conversion as a table.
Sources: ITU-R BT.2100 (HLG, PQ), BT.2408 (diffuse white at 203 nits), SMPTE ST 2084.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

GAMMA = 2.2
WHITE_NITS, PEAK_NITS = 203.0, 1000.0
"""Luminance of diffuse white, and of the brightest highlight that is not clipped."""
_KNEE = 0.85
"""Linear light up to which the tone curve is the identity; brighter light is compressed into the rest."""
_TABLE_SIZE = 49
"""Samples per axis of the table."""

_WHITE_POINT = (0.3127, 0.3290)
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
_DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_PRIMARIES = {9: ("BT.2020", _BT2020), 12: ("Display P3", _DISPLAY_P3)}
"""Names and chromaticities by ITU-T H.273. All others are BT.709 or visually equal to it."""
_PQ, _HLG = 16, 18

Colours = Float[np.ndarray, "*shape 3"]


@dataclass(frozen=True)
class Conversion:
    """A conversion from a video's colours to BT.709."""

    name: str
    """Name of the video's colours."""
    to_light: Callable[[Colours], Colours]
    """Maps the signal to linear light, 1 at diffuse white."""
    primaries: tuple[tuple[float, float], ...]
    high_range: bool
    """Whether the light exceeds diffuse white."""

    def __call__(self, signal: Colours) -> Colours:
        """Convert a signal in [0, 1] to a BT.709 signal in [0, 1]."""
        to_709 = np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(self.primaries)
        light = np.clip(self.to_light(signal) @ to_709.T, 0, None)
        light = _compress(light) if self.high_range else light
        return np.clip(light, 0, 1) ** (1 / GAMMA)

    def table(self) -> str:
        """Return the conversion as the text of a `.cube` file; red varies fastest."""
        axis = np.linspace(0, 1, _TABLE_SIZE)
        blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
        colours = self(np.stack([red, green, blue], -1)).reshape(-1, 3)
        lines = (f"{r:.5f} {g:.5f} {b:.5f}\n" for r, g, b in colours.tolist())
        return f"LUT_3D_SIZE {_TABLE_SIZE}\n" + "".join(lines)


def conversion_from_tags(transfer: int, primaries: int) -> Conversion | None:
    """Return the conversion for a video's colour tags; None for BT.709 and similar colours.

    Args:
        transfer: transfer characteristics by ITU-T H.273.
        primaries: colour primaries by ITU-T H.273.
    """
    high_range = {_PQ: ("PQ", _light_from_pq), _HLG: ("HLG", _light_from_hlg)}.get(transfer)
    gamut = _PRIMARIES.get(primaries)
    if high_range is not None:
        name, chromaticities = gamut or ("BT.709", _BT709) if primaries == 1 else gamut or _PRIMARIES[9]
        return Conversion(f"{high_range[0]} high dynamic range, {name}", high_range[1], chromaticities, True)
    if gamut is not None:
        return Conversion(gamut[0], lambda signal: signal**GAMMA, gamut[1], False)
    return None


def _light_from_hlg(signal: Colours) -> Colours:
    """Linear light of BT.2100 HLG on a display of 1000 nits: inverse OETF, then OOTF of gamma 1.2 on luminance."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2 * (PEAK_NITS / WHITE_NITS)


def _light_from_pq(signal: Colours) -> Colours:
    """Linear light of PQ (SMPTE ST 2084)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (10000 / WHITE_NITS)


def _compress(light: Colours) -> Colours:
    """Apply the tone curve: y = x up to the knee k, and above it y = k + (1 - k) t (1 + t / p^2) / (1 + t).

    Here t is (x - k) / (1 - k), and p is the t of the peak. The slope is 1 at the knee, and the peak maps to 1. Above
    the knee this is the curve of Reinhard et al., 2002. It scales all three channels by the factor of the largest one,
    which preserves the hue.
    """
    largest = light.max(-1, keepdims=True)
    t = np.maximum(largest - _KNEE, 0) / (1 - _KNEE)
    peak = (PEAK_NITS / WHITE_NITS - _KNEE) / (1 - _KNEE)
    shown = np.where(largest > _KNEE, _KNEE + (1 - _KNEE) * t * (1 + t / peak**2) / (1 + t), largest)
    return light * np.minimum(shown, 1.0) / np.maximum(largest, 1e-9)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> Float[np.ndarray, "3 3"]:
    """Matrix from linear RGB with some primaries to CIE XYZ, for the white point D65."""
    x, y = np.array([*primaries, _WHITE_POINT]).T
    columns = np.stack([x / y, np.ones_like(x), (1 - x - y) / y])
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])
