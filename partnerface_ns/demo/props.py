"""Glasses, hair and a striped shirt as meshes in the person's rest frame.

Lengths are metres. Glasses and hair move with the skull, the shirt with the torso. The head model has no vertices for
them. Triangles are counter-clockwise seen from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import KDTree

from partnerface_ns.demo.face_map import Anchors, smoothstep
from partnerface_ns.flame.head_model import HeadModel


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the rest frame with texture coordinates."""

    verts: Float[np.ndarray, "verts 3"]
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "verts 2"]

    @staticmethod
    def join(meshes: list[Mesh]) -> Mesh:
        starts = np.cumsum([0] + [len(m.verts) for m in meshes[:-1]])
        faces = [m.faces + start for m, start in zip(meshes, starts, strict=True)]
        return Mesh(np.concatenate([m.verts for m in meshes]), np.concatenate(faces),
                    np.concatenate([m.uv for m in meshes]))  # fmt: skip


@dataclass(frozen=True)
class HairStyle:
    """Lengths of one hair style, metres."""

    top: float
    sides: float
    fringe: float
    """How far the hairline extends down the forehead."""
    sweep: float
    """Angle of the strands to one side from straight down, radians."""
    clump: float
    """Depth of the furrows between locks."""
    parting: bool


HAIR_STYLES = (
    HairStyle(top=0.019, sides=0.009, fringe=0.0, sweep=0.7, clump=0.0022, parting=True),
    HairStyle(top=0.009, sides=0.006, fringe=-0.004, sweep=0.2, clump=0.0010, parting=False),
    HairStyle(top=0.026, sides=0.020, fringe=0.010, sweep=0.9, clump=0.0042, parting=False),
    HairStyle(top=0.016, sides=0.012, fringe=0.012, sweep=0.35, clump=0.0026, parting=False),
)


def _grid(points: np.ndarray, *, closed_columns: bool, uv: np.ndarray | None = None) -> Mesh:
    """Triangles over a (rows, columns) grid of points. The front is where rows x columns is right-handed."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    if closed_columns:
        index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    if uv is None:
        uv = np.stack(np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), -1)
    float32 = lambda a: np.asarray(a, dtype=np.float32)  # noqa: E731
    return Mesh(float32(points).reshape(-1, 3), faces, float32(uv).reshape(-1, 2))


def _tube(line: np.ndarray, radius: tuple[float, float], up: np.ndarray, *, closed: bool) -> Mesh:
    """A tube along `line`. `radius` is its half extent along `up` and across it."""
    step = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    step /= np.linalg.norm(step, axis=-1, keepdims=True)
    side = np.cross(step, up)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    over = np.cross(side, step)
    angle = np.arange(8) / 8 * 2 * np.pi
    ring = radius[0] * np.sin(angle)[:, None] * over[:, None] + radius[1] * np.cos(angle)[:, None] * side[:, None]
    points = line[:, None] + ring
    if closed:
        points = np.concatenate([points, points[:1]])
    return _grid(points, closed_columns=True)


_RIM, _ARM = (0.0016, 0.0015), (0.0019, 0.0011)
"""Half height and half width of the frame's cross-section, metres."""
_FORWARD, _UP = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class _LensPlane:
    """The curved surface of both lenses, with the lower rims towards the cheeks."""

    centre: Float[np.ndarray, "3"]
    """Centre of the left lens."""
    half: Float[np.ndarray, "2"]
    """Half width and half height of a lens."""

    def place(
        self, xy: Float[np.ndarray, "*points 2"], side: int, lift: Float[np.ndarray, "*points"] | float = 0.0
    ) -> Float[np.ndarray, "*points 3"]:
        """Rest positions of points relative to the centre of a lens (outwards, up), lifted to the front."""
        x, y = side * (xy[..., 0] + self.centre[0]), xy[..., 1]
        z = self.centre[2] - 1.6 * x**2 - 0.10 * (self.half[1] - y) + lift
        return np.stack([x, y + self.centre[1], z], -1)


def glasses(anchors: Anchors, roundness: float) -> tuple[Mesh, Mesh]:
    """Frame and lenses of the glasses. `roundness` is the exponent of the lens outline."""
    half = np.array([0.0245, 0.0195 if roundness < 3 else 0.0170])
    centre = anchors.eyes[0] * [1.06, 1, 1] + [0, -0.0035, anchors.eye_radius + 0.0125]
    plane = _LensPlane(centre, half)
    angle = np.linspace(0, 2 * np.pi, 49)[:-1]
    power = lambda x: np.sign(x) * np.abs(x) ** (2 / roundness)  # noqa: E731
    outline = np.stack([power(np.cos(angle)), power(np.sin(angle))], -1) * half
    frames, lenses = [_bridge(plane)], []
    for side in (-1, 1):
        rim = plane.place(outline, side)
        frames += [_tube(rim, _RIM, _FORWARD, closed=True), _arm(plane, anchors.ear_top, side)]
        # Counter-clockwise seen from the front, on both sides.
        bulge = [plane.place(outline * r, side, 0.0015 * (1 - r**2))[::side] for r in (0.02, 0.33, 0.66, 1.0)]
        lenses.append(_grid(np.stack(bulge), closed_columns=True))
    return Mesh.join(frames), Mesh.join(lenses)


def _arm(plane: _LensPlane, ear_top: np.ndarray, side: int) -> Mesh:
    """The arm from the outer edge of a lens over the ear and down behind it."""
    hinge = plane.place(plane.half * [1, 0.35], 1)
    top = ear_top + np.array([0.001, -0.002, 0.002])
    ways = [hinge, hinge + np.array([0.005, 0, -0.006]), 0.5 * (hinge + top) + np.array([0.005, 0.002, 0])]
    ways += [top, top + np.array([-0.002, -0.004, -0.012]), top + np.array([-0.004, -0.018, -0.022])]
    line = PchipInterpolator(np.arange(6), np.stack(ways))(np.linspace(0, 5, 24))
    return _tube([side, 1, 1] * line, _ARM, _UP, closed=False)


def _bridge(plane: _LensPlane) -> Mesh:
    """The bridge over the nose between the lenses."""
    ends = [plane.place(plane.half * [-1, 0.25], side) for side in (-1, 1)]
    top = 0.5 * (ends[0] + ends[1]) + [0, 0.003, 0.003]
    line = PchipInterpolator(np.arange(3), np.stack([ends[0], top, ends[1]]))(np.linspace(0, 2, 13))
    return _tube(line, _RIM, _FORWARD, closed=False)


_HAIR_GRID = (72, 161)
"""Rows from the crown downwards and columns around the head."""
_HAIR_REACH = 2.35
"""Largest angle of the shell from straight up, radians."""


def hair(
    model: HeadModel, verts: Float[np.ndarray, "verts 3"], anchors: Anchors, style: HairStyle, rng: np.random.Generator
) -> Mesh:
    """A shell over the scalp that goes under the skin at the hairline.

    Args:
        model: the head model.
        verts: the person's rest vertices, (verts, 3).
        anchors: measured on `verts`.
        style: lengths of the hair.
        rng: varies hairline and locks.
    """
    polar, azimuth = np.meshgrid(
        np.linspace(0.0, _HAIR_REACH, _HAIR_GRID[0]),
        np.linspace(-np.pi, np.pi, _HAIR_GRID[1]), indexing="ij")  # fmt: skip
    out = np.stack([np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)], -1)
    centre = np.array([0, anchors.eyes[0, 1] + 0.03, anchors.axis_z])
    skin = centre + _scalp_distance(model, verts - centre, out)[..., None] * out

    inside = skin[..., 1] - _hairline(azimuth, anchors, style)
    inside = inside + 0.0022 * gaussian_filter(rng.standard_normal(_HAIR_GRID), (1.5, 0.8), mode="wrap") / 0.25
    top = smoothstep(1.5, 0.7, polar)
    length = style.sides + (style.top - style.sides) * top
    length = length * (1 + 0.25 * smoothstep(0.9, 0.3, np.abs(azimuth)) * smoothstep(0.4, 0.9, polar))
    if style.parting:
        length = length - 0.006 * np.exp(-(((skin[..., 0] - 0.028) / 0.004) ** 2)) * top
    thickness = np.where(inside > 0, length * (1 - np.exp(-np.maximum(inside, 0) / 0.012)) + 0.0005, 0.8 * inside)
    locks = lock_noise(rng, _HAIR_GRID, style.sweep, (9.0, 1.6))
    thickness = thickness + style.clump * locks * smoothstep(0.0, 0.02, inside) * smoothstep(0.1, 0.9, polar)
    thickness = np.maximum(thickness, -0.012)
    thickness[:, -1] = thickness[:, 0]  # the seam at the back

    mesh = _grid(skin + thickness[..., None] * out, closed_columns=False,
                 uv=np.stack([azimuth / np.pi, polar / np.pi], -1))  # fmt: skip
    kept = (inside.ravel() > -0.012)[mesh.faces].any(-1)
    return replace(mesh, faces=mesh.faces[kept])


def _blur(values: np.ndarray, size: float | tuple[float, float]) -> np.ndarray:
    """Gaussian blur over rows, and over columns that wrap around."""
    return gaussian_filter(values, size, mode=("nearest", "wrap"))  # pyright: ignore[reportArgumentType]  # scipy allows it


def lock_noise(
    rng: np.random.Generator, shape: tuple[int, int], sweep: float, size: tuple[float, float]
) -> Float[np.ndarray, "rows columns"]:
    """Noise of deviation 1 in streaks along the rows that lean by `sweep` radians."""
    streaks = _blur(rng.standard_normal(shape), size)
    row, column = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    lean = column + sweep * shape[1] / (2 * np.pi) * (row / shape[0]) ** 1.5
    streaks = map_coordinates(streaks, [row, lean], order=1, mode="grid-wrap")
    return (streaks - streaks.mean()) / streaks.std()


def _scalp_distance(model: HeadModel, verts: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Smoothed distance of the skin from the origin along directions, without ears, eyes and mouth."""
    region = {name: mask.numpy() > 0.3 for name, mask in model.regions.items()}
    skin = region["head"] & ~(region["ears"] | region["eyeballs"] | region["inside_mouth"] | region["jaw"])
    distance = np.linalg.norm(verts[skin], axis=-1)
    apart, near = KDTree(verts[skin] / distance[:, None]).query(directions, k=4)
    weight = 1 / (apart + 1e-3)
    mean = (distance[near] * weight).sum(-1) / weight.sum(-1)
    return _blur(mean, 1.2)


def _hairline(azimuth: np.ndarray, anchors: Anchors, style: HairStyle) -> np.ndarray:
    """Height y of the hairline around the head: forehead, temples, in front of the ear, behind it, nape."""
    eye_y, ear_y = anchors.eyes[0, 1], anchors.ear_top[1]
    forehead = eye_y + 0.064 - style.fringe
    turns = [0, 0.35, 0.62, 0.85, 1.05, 1.22, 1.36, 1.62, 1.95, 2.4, np.pi]
    height = [forehead, forehead + 0.001, forehead - 0.004, eye_y + 0.040, eye_y + 0.022, eye_y - 0.012,
              ear_y + 0.002, ear_y + 0.007, ear_y - 0.018, eye_y - 0.070, eye_y - 0.078]  # fmt: skip
    return PchipInterpolator(turns, height)(np.abs(azimuth))


def shirt(
    verts: Float[np.ndarray, "verts 3"], root_weights: Float[np.ndarray, "verts"], rng: np.random.Generator
) -> Mesh:
    """A crew-neck shirt around the neck and shoulders of the person's rest vertices.

    Args:
        verts: the person's rest vertices, (verts, 3).
        root_weights: skinning weight of the root joint, (verts,); it is about 0.8 at the base of the neck.
        rng: varies the folds.
    """
    neck = verts[(root_weights > 0.7) & (root_weights < 0.82)]
    half, base = np.quantile(np.abs(neck[:, 0]), 0.8), np.median(neck[:, 1])
    z = np.median(neck[:, 2])
    # width, depth in front, depth behind, height above the base of the neck, drop towards front and back; metres
    rings = np.array([
        [half - 0.004, 0.046, 0.036, 0.008, 0.014, -0.006],
        [half + 0.001, 0.052, 0.041, 0.011, 0.015, -0.006],
        [half + 0.006, 0.058, 0.046, 0.008, 0.017, -0.005],
        [half + 0.008, 0.061, 0.050, 0.001, 0.018, -0.004],
        [half + 0.024, 0.070, 0.061, -0.005, 0.026, 0.000],
        [half + 0.056, 0.082, 0.072, -0.018, 0.040, 0.008],
        [half + 0.088, 0.094, 0.078, -0.036, 0.048, 0.022],
        [half + 0.112, 0.104, 0.080, -0.060, 0.048, 0.034],
        [half + 0.124, 0.112, 0.084, -0.095, 0.040, 0.030],
        [half + 0.128, 0.118, 0.086, -0.150, 0.020, 0.015],
        [half + 0.126, 0.120, 0.086, -0.300, 0.000, 0.000],
    ])  # fmt: skip
    rings = PchipInterpolator(np.arange(len(rings)), rings)(np.linspace(0, len(rings) - 1, 41))
    angle = np.arange(72) / 72 * 2 * np.pi
    width, front, back, up, drop_front, drop_back = (r[:, None] for r in rings.T)
    cos, sin = np.cos(angle), np.sin(angle)
    x = width * cos
    depth = np.where(sin > 0, front, back) * np.sign(sin) * np.abs(sin) ** 0.9
    drop = np.where(sin > 0, drop_front, drop_back) * np.abs(sin) ** 1.4
    points = np.stack([x, base + up - drop, z + depth], -1)[:, ::-1]  # this order makes the outside the front
    folds = _blur(rng.standard_normal(points.shape[:2]), (2.0, 2.5))
    loose = np.linspace(0, 1, len(rings))[:, None] > 0.4
    points[..., 2] += 0.0035 * folds / folds.std() * loose
    return _grid(points, closed_columns=True)
