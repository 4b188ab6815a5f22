"""Materials: the colours of each part of the person at visible surface points.

A material is created once for a person; `shade` returns linear colours of visible points in one pose. Textures are
looked up at rest positions: on the head model's template for the head, in the person's rest frame for glasses, hair and
clothes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from partnerface_ns.demo import face_map, shading
from partnerface_ns.demo.appearance import SkinSheets
from partnerface_ns.demo.eyes_and_mouth import MOUTH_INSIDE, TONGUE, TeethRow, cornea_normals, eye_colour
from partnerface_ns.demo.face_map import smoothstep
from partnerface_ns.demo.posed_person import PosedPerson
from partnerface_ns.demo.shading import Surface, normalize
from partnerface_ns.demo.wrinkles import wrinkle_strengths
from partnerface_ns.geometry.rasterizer import Visible

_PINK = np.array([0.88, 0.46, 0.46], dtype=np.float32)
"""Factor of the lips on the skin's colour."""
_CREASE = np.array([0.30, 0.42, 0.46], dtype=np.float32)
"""Share of the skin's colour that is lost at the bottom of a wrinkle."""
_MOUTH_LIGHT = np.array([1.0, 0.91, 0.84], dtype=np.float32)
"""Colour of the light inside the mouth, which is reflected by its walls."""
_MOUTH_DIMMING = 0.025
"""Distance behind the lips in metres over which the light falls to 37%."""

Colours = Float[np.ndarray, "samples 3"]


@runtime_checkable
class Material(Protocol):
    """Appearance of one part of the person."""

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        """Linear colours of visible points."""
        ...


def _mouth_light(rest: np.ndarray, lips_z: float) -> np.ndarray:
    """Share of the outside light that reaches rest positions in the mouth."""
    return 0.85 * np.exp(-np.maximum(lips_z - 0.012 - rest[:, 2], 0) / _MOUTH_DIMMING)


@dataclass(frozen=True)
class Skin:
    """Skin, lips, the rims of the eyelids and the walls of the mouth."""

    rest: Float[np.ndarray, "verts 3"]
    masks: Float[np.ndarray, "verts 3"]
    """Soft masks: lips, inside of the mouth, rims of the eyelids."""
    sheets: SkinSheets
    tone: Float[np.ndarray, "3"]
    axis_z: float
    lips_z: float

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        rest = seen.interpolate(self.rest)
        at = face_map.to_sheet(rest, self.axis_z)
        painted = face_map.look_up(self.sheets.colour, at)
        height, *slopes = face_map.look_up(self.sheets.bumps(wrinkle_strengths(pose.expression)), at).T
        lips, inside, rim = seen.interpolate(self.masks).T
        lips, inside = smoothstep(0.30, 0.70, lips), smoothstep(0.25, 0.75, inside)

        colour = painted[:, :3] * (1 - np.clip(-height / 0.001, 0, 1)[:, None] * _CREASE)
        pink = (0.80 * self.tone + 0.10) * _PINK * (0.92 + 0.08 * painted[:, :3] / self.tone)
        for mask, target in ((lips, pink), (rim, 0.05 * self.tone), (inside, MOUTH_INSIDE)):
            colour = colour + mask[:, None] * (target - colour)
        gloss = (painted[:, 3] + 0.55 * lips) * (1 - 0.7 * rim) * (1 - 0.8 * inside)
        open_ = 1 - inside * (1 - _mouth_light(rest, self.lips_z))
        normals = _tilt_normals(surface.normals, at[:, 0] / face_map.RADIUS, slopes, pose.T_world_skull)
        bent = Surface(normals, surface.view, surface.occlusion * open_, surface.lit * open_)
        return shading.shade_skin(bent, colour, gloss)


def _tilt_normals(
    normals: np.ndarray, turn: np.ndarray, slopes: list[np.ndarray], T_world_skull: np.ndarray
) -> np.ndarray:
    """Bump mapping: normals tilted by the slopes of the height along the sheet's a and y axes."""
    R = T_world_skull[:3, :3].astype(np.float32)
    sideways = np.stack([np.cos(turn), np.zeros_like(turn), -np.sin(turn)], -1) @ R.T
    return normalize(normals - slopes[0][:, None] * sideways - slopes[1][:, None] * R[:, 1])


@dataclass(frozen=True)
class Eye:
    """One eyeball under its lids."""

    rest: Float[np.ndarray, "verts 3"]
    side: int
    """0 for the left, 1 for the right eye."""
    centre: Float[np.ndarray, "3"]
    iris: Float[np.ndarray, "3"]
    fibres: Float[np.ndarray, "entries"]

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        directions = normalize(seen.interpolate(self.rest) - self.centre)
        R = pose.T_world_eyes[self.side, :3, :3].astype(np.float32)
        up = directions @ (R.T @ pose.T_world_skull[:3, 1].astype(np.float32))
        under_lids = 1 - 0.55 * smoothstep(0.02, 0.36, up) - 0.15 * smoothstep(-0.18, -0.36, up)
        white = Surface(surface.normals, surface.view, under_lids, surface.lit * (0.3 + 0.7 * under_lids))
        colour = shading.shade_matt(white, eye_colour(directions, self.iris, self.fibres))
        # The reflection of the lamp on the wet cornea. Its shadow is ignored because it would flicker.
        wet = Surface(cornea_normals(directions) @ R.T, surface.view, under_lids, np.ones_like(up))
        return colour + shading.shade_glossy(wet, np.zeros_like(colour), 200.0, 2.6)


@dataclass(frozen=True)
class Teeth:
    """A row of teeth."""

    rest: Float[np.ndarray, "verts 3"]
    row: TeethRow
    lips_z: float

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        rest = seen.interpolate(self.rest)
        return _shade_wet(surface, self.row.colour(rest), _mouth_light(rest, self.lips_z))


@dataclass(frozen=True)
class Tongue:
    """The tongue."""

    rest: Float[np.ndarray, "verts 3"]
    lips_z: float

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        rest = seen.interpolate(self.rest)
        return _shade_wet(surface, np.broadcast_to(TONGUE, rest.shape), _mouth_light(rest, self.lips_z))


def _shade_wet(surface: Surface, colour: np.ndarray, light: np.ndarray) -> np.ndarray:
    dim = Surface(surface.normals, surface.view, light, surface.lit * light)
    return shading.shade_glossy(dim, colour * _MOUTH_LIGHT, 40.0, 0.25)


@dataclass(frozen=True)
class Plastic:
    """The frame of the glasses."""

    colour: Float[np.ndarray, "3"]

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        return shading.shade_glossy(surface, np.broadcast_to(self.colour, surface.normals.shape), 60.0, 1.6)


@dataclass(frozen=True)
class Hair:
    """Hair in strands from the crown downwards."""

    uv: Float[np.ndarray, "verts 2"]
    """Azimuth and polar angle from the crown, divided by pi."""
    streaks: Float[np.ndarray, "rows columns"]
    """Brightness of strands with mean 0 and deviation 1."""
    colour: Float[np.ndarray, "3"]

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        u, v = seen.interpolate(self.uv).T
        rows, columns = self.streaks.shape
        row, column = np.clip(v * rows, 0, rows - 1).astype(np.int64), ((u + 1) / 2 * columns).astype(np.int64)
        streak = self.streaks[row, column % columns]
        turn, polar = np.pi * u, np.pi * v
        down = np.stack([np.cos(polar) * np.sin(turn), -np.sin(polar), np.cos(polar) * np.cos(turn)], -1)
        around = np.stack([np.cos(turn), np.zeros_like(turn), -np.sin(turn)], -1)
        strands = normalize(down + (0.5 + 0.12 * streak)[:, None] * around)
        colour = self.colour * np.clip(1 + 0.30 * streak, 0.35, 1.9)[:, None]
        return shading.shade_hair(surface, colour, strands @ pose.T_world_skull[:3, :3].astype(np.float32).T)


@dataclass(frozen=True)
class StripedCloth:
    """Woven cloth with horizontal stripes and a plain collar."""

    rest: Float[np.ndarray, "verts 3"]
    uv: Float[np.ndarray, "verts 2"]
    """Position around the body and down from the collar, 0 to 1."""
    colours: Float[np.ndarray, "2 3"]

    def shade(self, seen: Visible, surface: Surface, pose: PosedPerson) -> Colours:
        y = seen.interpolate(self.rest)[:, 1]
        u, v = seen.interpolate(self.uv).T
        stripe = smoothstep(-0.10, 0.10, np.sin(2 * np.pi * y / 0.024)) * smoothstep(0.29, 0.31, v)
        colour = self.colours[0] + stripe[:, None] * (self.colours[1] - self.colours[0])
        weave = 1 + 0.03 * np.sin(2200 * u) * np.sin(2400 * y)
        seam = 1 - 0.35 * np.exp(-(((v - 0.30) / 0.006) ** 2))
        return shading.shade_matt(surface, colour * (weave * seam)[:, None])
