"""A texture sheet for the skin: the head's rest surface unwrapped around a vertical axis, and functions to draw on it.

Rest points are in the frame of the head model: x to the subject's left, y up, z out of the face, metres. A point is at
(a, y) on the sheet, where a is the angle about an axis between the ears times a fixed radius. Both coordinates are
metres, so lines roughly keep their width on the face. The texture depends on the rest position only, so it moves with
the skin. Sheets are arrays (rows, columns) with row 0 at the lowest y and column 0 at the lowest a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.ndimage import gaussian_filter

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import EYES

RADIUS = 0.11
"""Metres on the sheet per radian about the axis: roughly the distance of the face from the axis."""
TEXEL = 0.0006
"""Metres per texel."""
LOW_Y, HIGH_Y = -0.16, 0.16
"""Extent of the sheet in y, metres, from the collar to above the crown."""
SHAPE = (round((HIGH_Y - LOW_Y) / TEXEL), round(2 * np.pi * RADIUS / TEXEL))

Sheet = Float[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class Anchors:
    """Positions of facial features, measured on a head model's rest vertices, metres."""

    eyes: Float[np.ndarray, "2 3"]
    """Centres of the left and the right eyeball."""
    eye_radius: float
    mouth: Float[np.ndarray, "3"]
    """Middle of the lips."""
    mouth_half_width: float
    nose_tip: Float[np.ndarray, "3"]
    ear_top: Float[np.ndarray, "3"]
    """Upper front of the left ear, where glasses rest."""
    axis_z: float
    """Depth (z) of the vertical axis between the ears around which the skin is unwrapped."""
    crown_y: float

    @staticmethod
    def measure(model: HeadModel, verts: Float[np.ndarray, "verts 3"]) -> Anchors:
        """Measure rest vertices of `model` by its joints and regions."""
        region = {name: mask.numpy() > 0.5 for name, mask in model.regions.items()}
        eyes = (model.joint_regressor.numpy() @ verts)[EYES]
        eyeballs = verts[region["eyeballs"] & (verts[:, 0] > 0)]
        lips = verts[region["lips"]]
        between = verts[:, 1][:, None] - np.array([lips[:, 1].max(), eyes[:, 1].mean()])
        nose = verts[region["face"] & (np.abs(verts[:, 0]) < 0.01) & (between[:, 0] > 0) & (between[:, 1] < 0)]
        ear = verts[region["ears"] & (verts[:, 0] > 0)]
        return Anchors(
            eyes=eyes,
            eye_radius=float(np.linalg.norm(eyeballs - eyes[0], axis=-1).mean()),
            mouth=np.array([0.0, np.median(lips[:, 1]), lips[:, 2].max()]),
            mouth_half_width=float(np.abs(lips[:, 0]).max()),
            nose_tip=nose[nose[:, 2].argmax()],
            ear_top=np.array([np.quantile(ear[:, 0], 0.3), ear[:, 1].max(), ear[:, 2].max()]),
            axis_z=float(ear[:, 2].mean()),
            crown_y=float(verts[region["head"], 1].max()),
        )


def to_sheet(points: Float[np.ndarray, "*batch 3"], axis_z: float) -> Float[np.ndarray, "*batch 2"]:
    """Sheet coordinates (a, y) in metres of rest points."""
    return np.stack([np.arctan2(points[..., 0], points[..., 2] - np.float32(axis_z)) * RADIUS, points[..., 1]], -1)


def coordinates() -> tuple[Sheet, Sheet]:
    """Coordinates a and y of all texel centres, metres."""
    a = (np.arange(SHAPE[1]) + 0.5) * TEXEL - np.pi * RADIUS
    y = (np.arange(SHAPE[0]) + 0.5) * TEXEL + LOW_Y
    grid_a, grid_y = np.meshgrid(a.astype(np.float32), y.astype(np.float32))
    return grid_a, grid_y


def look_up(
    sheet: Shaped[np.ndarray, "rows columns channels"], at: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "points channels"]:
    """Bilinear values at sheet coordinates. Outside of the sheet it returns the value of the border."""
    rows, columns = sheet.shape[:2]
    column = np.clip((at[:, 0] + np.pi * RADIUS) / TEXEL - 0.5, 0, columns - 1.001).astype(np.float32)
    row = np.clip((at[:, 1] - LOW_Y) / TEXEL - 0.5, 0, rows - 1.001).astype(np.float32)
    c0, r0 = column.astype(np.int64), row.astype(np.int64)
    fc, fr = (column - c0)[:, None], (row - r0)[:, None]
    flat, index = sheet.reshape(rows * columns, -1), r0 * columns + c0
    low = flat[index] * (1 - fc) + flat[index + 1] * fc
    high = flat[index + columns] * (1 - fc) + flat[index + columns + 1] * fc
    return low * (1 - fr) + high * fr


def noise(rng: np.random.Generator, size: float | tuple[float, float], shape: tuple[int, int] = SHAPE) -> Sheet:
    """Smooth noise with mean 0 and deviation 1, blurred by `size` texels (rows, columns)."""
    field = gaussian_filter(rng.standard_normal(shape).astype(np.float32), size, mode="wrap")
    return (field - field.mean()) / field.std()


def draw_line(
    sheet: Sheet, points: Float[np.ndarray, "points 2"], width: float, strength: float = 1.0, taper: bool = True
) -> None:
    """Draw a soft polyline onto `sheet` in place. Each texel keeps its larger value.

    Args:
        sheet: the sheet to draw on.
        points: corners of the polyline in sheet coordinates, metres.
        width: distance in metres at which the line fades to 37%.
        strength: value in the middle of the line.
        taper: whether the line fades towards both ends.
    """
    margin = 3 * width + TEXEL
    low, high = points.min(0) - margin, points.max(0) + margin
    c0, c1 = (np.clip(int((v + np.pi * RADIUS) / TEXEL), 0, SHAPE[1]) for v in (low[0], high[0]))
    r0, r1 = (np.clip(int((v - LOW_Y) / TEXEL), 0, SHAPE[0]) for v in (low[1], high[1]))
    a = (np.arange(c0, c1) + 0.5) * TEXEL - np.pi * RADIUS
    y = (np.arange(r0, r1) + 0.5) * TEXEL + LOW_Y
    at = np.stack(np.meshgrid(a, y), -1)
    closest, along = np.full(at.shape[:2], np.inf), np.zeros(at.shape[:2])
    for i in range(len(points) - 1):
        step = points[i + 1] - points[i]
        t = np.clip(((at - points[i]) @ step) / max(step @ step, 1e-12), 0, 1)
        distance = np.linalg.norm(at - points[i] - t[..., None] * step, axis=-1)
        nearer = distance < closest
        closest[nearer], along[nearer] = distance[nearer], (i + t[nearer]) / (len(points) - 1)
    value = strength * np.exp(-((closest / width) ** 2))
    if taper:
        value *= np.sqrt(np.sin(np.pi * np.clip(along, 0.02, 0.98)))
    window = sheet[r0:r1, c0:c1]
    np.maximum(window, value, out=window, casting="unsafe")


def curve(points: Float[np.ndarray, "points 2"], num: int = 12) -> Float[np.ndarray, "num 2"]:
    """A smooth curve of `num` points through three or more given points."""
    from scipy.interpolate import make_interp_spline

    t = np.linspace(0, 1, len(points))
    return make_interp_spline(t, points, k=2)(np.linspace(0, 1, num))


def smoothstep(low: float, high: float, x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """A smooth step from 0 at `low` to 1 at `high`. It descends if `low` is larger than `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
