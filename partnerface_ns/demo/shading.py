"""Lighting: one lamp with shadows, a soft sky, and shading models of skin, eyes, teeth, hair and cloth.

Directions are unit vectors in the world frame. Colours are linear; `to_srgb` converts them for display. Lamp and sky
are fixed in the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from partnerface_ns.demo.face_map import smoothstep
from partnerface_ns.geometry.rasterizer import rasterize

LAMP = np.array([-0.48, 0.56, 0.68], dtype=np.float32) / np.float32(np.sqrt(0.48**2 + 0.56**2 + 0.68**2))
"""Direction towards the lamp: from the subject's right, above and in front."""
_LAMP_COLOUR = np.array([0.86, 0.81, 0.74], dtype=np.float32)
_SKY = np.array([0.50, 0.52, 0.56], dtype=np.float32)
_GROUND = np.array([0.30, 0.27, 0.26], dtype=np.float32)
_FILL = np.array([0.85, 0.10, 0.50], dtype=np.float32) / np.float32(np.sqrt(0.85**2 + 0.10**2 + 0.50**2))
_FILL_COLOUR = np.array([0.13, 0.15, 0.18], dtype=np.float32)

_SHADOW_SIZE = 320
_SHADOW_HALF = 0.25
"""Half width of the shadow map, metres."""
_SHADOW_BIAS = 0.004
"""Depth tolerance of the shadow map, metres."""
_OCCLUSION_SIZE, _OCCLUSION_VIEWS, _OCCLUSION_BIAS = 160, 72, 0.004


@dataclass(frozen=True)
class Surface:
    """Geometry and light at visible points."""

    normals: Float[np.ndarray, "samples 3"]
    view: Float[np.ndarray, "samples 3"]
    """Directions towards the camera."""
    occlusion: Float[np.ndarray, "samples"]
    """Visible share of the sky, 0 to 1."""
    lit: Float[np.ndarray, "samples"]
    """Visible share of the lamp, 0 to 1."""

    def __getitem__(self, index: np.ndarray) -> Surface:
        return Surface(self.normals[index], self.view[index], self.occlusion[index], self.lit[index])


def normalize(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    return vectors / (np.sqrt(np.einsum("...c,...c->...", vectors, vectors))[..., None] + 1e-12)


def _light_axes(direction: np.ndarray) -> np.ndarray:
    """Right-handed axes as rows: two across `direction`, then `direction`."""
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = normalize(np.cross(helper, direction))
    return np.stack([right, np.cross(direction, right), direction]).astype(np.float32)


def _height_map(
    points: np.ndarray, faces: np.ndarray, axes: np.ndarray, centre: np.ndarray, half: float, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height map (size, size) of a parallel view along axes[2], and texel and height of each point."""
    local = (points - centre) @ axes.T
    texel = (local[:, :2] * [1, -1] / half + 1) * (size / 2)
    texel = texel.astype(np.float32)
    seen = rasterize(texel, local[:, 2], faces, size, size, perspective=False)
    heights = np.full(size * size, -np.inf, dtype=np.float32)
    heights[seen.samples] = seen.nearness
    return heights.reshape(size, size), texel, local[:, 2]


@dataclass(frozen=True)
class Shadows:
    """Shadow map of the lamp."""

    heights: Float[np.ndarray, "rows columns"]
    axes: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, "3"]

    @staticmethod
    def cast(verts: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]) -> Shadows:
        axes, centre = _light_axes(LAMP), np.array([0.0, 0.0, 0.03], dtype=np.float32)
        heights, _, _ = _height_map(verts, faces, axes, centre, _SHADOW_HALF, _SHADOW_SIZE)
        return Shadows(heights, axes, centre)

    def lit(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points"]:
        """Visible share of the lamp at each point, averaged over nine texels."""
        local = (points - self.centre) @ self.axes.T
        x = (local[:, 0] / _SHADOW_HALF + 1) * (_SHADOW_SIZE / 2) - 0.5
        y = (1 - local[:, 1] / _SHADOW_HALF) * (_SHADOW_SIZE / 2) - 0.5
        column, row = (np.clip(v, 1, _SHADOW_SIZE - 3).astype(np.int64) for v in (x, y))
        fx, fy = np.clip(x - column, 0, 1), np.clip(y - row, 0, 1)
        flat, index, limit = self.heights.ravel(), row * _SHADOW_SIZE + column, local[:, 2] + _SHADOW_BIAS
        total = np.zeros(len(points), dtype=np.float32)
        # A box of three texels centred at the point: outer rows and columns have fractional weights.
        for dy, wy in ((-1, 1 - fy), (0, 1), (1, 1), (2, fy)):
            for dx, wx in ((-1, 1 - fx), (0, 1), (1, 1), (2, fx)):
                total += (flat[index + (dy * _SHADOW_SIZE + dx)] < limit) * (wx * wy)
        return total / 9


def ambient_occlusion(
    verts: Float[np.ndarray, "verts 3"], normals: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "verts"]:
    """Share of the sky visible from each vertex of a still scene, cosine-weighted, from views in all directions."""
    index = np.arange(_OCCLUSION_VIEWS) + 0.5
    height, turn = 1 - 2 * index / _OCCLUSION_VIEWS, np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - height**2)
    seen, total = np.zeros(len(verts)), np.full(len(verts), 1e-6)
    centre = verts.mean(0)
    for direction in np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], -1):
        heights, texel, own = _height_map(verts, faces, _light_axes(direction), centre, 0.32, _OCCLUSION_SIZE)
        column, row = np.clip(texel.astype(np.int64), 0, _OCCLUSION_SIZE - 1).T
        weight = np.maximum(normals @ direction, 0) * (1.3 if direction[1] > 0 else 0.7)
        seen += weight * (heights[row, column] < own + _OCCLUSION_BIAS)
        total += weight
    return (seen / total).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...c,...c->...", a, b)


def _sky_light(surface: Surface) -> np.ndarray:
    up = 0.5 + 0.5 * surface.normals[:, 1:2]
    return (_GROUND + (_SKY - _GROUND) * up) * surface.occlusion[:, None]


def _diffuse(surface: Surface, wrap: np.ndarray | float) -> np.ndarray:
    """Diffuse light (samples, 3). `wrap` extends the lamp's light past the terminator, as in skin."""
    facing = surface.normals @ LAMP
    lamp = np.clip((facing[:, None] + wrap) / (1 + wrap), 0, 1) * (surface.lit[:, None] * _LAMP_COLOUR)
    fill = np.maximum(surface.normals @ _FILL, 0)[:, None] * _FILL_COLOUR * surface.occlusion[:, None]
    return lamp + fill + _sky_light(surface)


def _highlight(surface: Surface, exponent: float) -> np.ndarray:
    """Specular reflection of the lamp (samples,), stronger at grazing angles."""
    half = normalize(surface.view + LAMP)
    glancing = 0.04 + 0.96 * (1 - np.clip(_cosine(surface.view, half), 0, 1)) ** 5
    shine = np.maximum(_cosine(surface.normals, half), 0) ** exponent * (exponent + 8) / 25
    return shine * glancing * surface.lit * (surface.normals @ LAMP > 0)


def shade_skin(
    surface: Surface, colour: Float[np.ndarray, "samples 3"], gloss: Float[np.ndarray, "samples"]
) -> Float[np.ndarray, "samples 3"]:
    """Shade skin. Light extends past the terminator, red most, and there are two specular lobes."""
    light = _diffuse(surface, np.array([0.42, 0.20, 0.13], dtype=np.float32))
    edge = (1 - np.clip(_cosine(surface.normals, surface.view), 0, 1)) ** 4
    sheen = (
        gloss * (1.6 * _highlight(surface, 18.0) + 1.2 * _highlight(surface, 60.0))
        + 0.12 * gloss * edge * surface.occlusion
    )
    return colour * light + sheen[:, None]


def shade_matt(surface: Surface, colour: Float[np.ndarray, "samples 3"]) -> Float[np.ndarray, "samples 3"]:
    """Shade cloth."""
    return colour * _diffuse(surface, 0.15)


def shade_glossy(
    surface: Surface, colour: Float[np.ndarray, "samples 3"], exponent: float, shine: float
) -> Float[np.ndarray, "samples 3"]:
    """Shade teeth, wet skin or plastic."""
    return colour * _diffuse(surface, 0.1) + (shine * _highlight(surface, exponent))[:, None]


def shade_hair(
    surface: Surface, colour: Float[np.ndarray, "samples 3"], strands: Float[np.ndarray, "samples 3"]
) -> Float[np.ndarray, "samples 3"]:
    """Shade hair with unit strand directions `strands`: one white highlight and one in the hair's colour."""
    half = normalize(surface.view + LAMP)
    sine = lambda shift: np.sqrt(  # noqa: E731
        np.clip(1 - _cosine(normalize(strands + shift * surface.normals), half) ** 2, 0, 1)
    )
    facing = np.clip(surface.normals @ LAMP + 0.3, 0, 1)
    open_ = surface.lit * facing
    bands = (0.07 * open_ * sine(0.10) ** 140)[:, None] + colour * (0.8 * open_ * sine(-0.12) ** 24)[:, None]
    return colour * _diffuse(surface, 0.3) + bands


def lens_glint(
    normals: Float[np.ndarray, "samples 3"], view: Float[np.ndarray, "samples 3"]
) -> Float[np.ndarray, "samples"]:
    """Reflection on lenses: a dim room and the lamp as a soft window, stronger at grazing angles."""
    towards = 2 * _cosine(normals, view)[:, None] * normals - view
    axes = _light_axes(LAMP)
    across = towards @ axes.T
    window = smoothstep(0.50, 0.38, np.abs(across[:, 0])) * smoothstep(0.42, 0.30, np.abs(across[:, 1]))
    window = window * (across[:, 2] > 0)
    grazing = 0.05 + 0.95 * (1 - np.clip(_cosine(normals, view), 0, 1)) ** 5
    return grazing * (0.30 + 2.2 * window)


def to_srgb(linear: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Display values 0 to 255 with soft compression of highlights."""
    bright = np.maximum(linear - 0.6, 0)
    rolled = np.minimum(linear, 0.6) + 0.4 * (1 - np.exp(-bright / 0.4))
    encoded = np.where(rolled < 0.0031308, 12.92 * rolled, 1.055 * np.maximum(rolled, 1e-6) ** (1 / 2.4) - 0.055)
    return np.rint(255 * np.clip(encoded, 0, 1)).astype(np.uint8)
