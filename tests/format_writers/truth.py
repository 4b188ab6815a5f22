"""A synthetic person for all layouts: a head model of FLAME's size, a motion and images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw

from partnerface_ns.flame.head_model import HeadModel, head_model_from_arrays
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState

SIZE = 64
"""Side of the images in pixels."""
NUM_VERTS = 5023
USED_IDENTITY, USED_EXPR = 100, 50
"""Coefficients beyond these are zero, because some layouts store no more."""


@dataclass(frozen=True)
class Truth:
    """The data that a reader must return."""

    head: HeadModel
    identity: torch.Tensor
    track: HeadState
    focal: tuple[float, float]
    center: tuple[float, float]
    T_world_camera: np.ndarray
    """Camera-to-world of the camera, OpenGL axes."""
    rgb: tuple[np.ndarray, ...]
    """Images with their original background."""
    mask: tuple[np.ndarray, ...]

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return len(self.rgb[0])

    @property
    def num_frames(self) -> int:
        return len(self.track)

    @property
    def shaped(self) -> ShapedHead:
        return ShapedHead.of(self.head, self.identity)

    def verts_in_camera(self) -> np.ndarray:
        """Posed vertices in the camera's frame, OpenGL axes: (frames, verts, 3)."""
        return in_camera(self.shaped.pose(self.track).verts.numpy(), self.T_world_camera)

    def local(self) -> tuple[HeadState, np.ndarray]:
        """The track without global motion, and the transform from that world to this one, (frames, 4, 4)."""
        zero = torch.zeros_like(self.track.rotation)
        still = HeadState(self.track.expression, zero, self.track.neck, self.track.jaw, self.track.eyes, zero)
        moved, rest = self.shaped.pose(self.track).T_world_rest[:, 0], self.shaped.pose(still).T_world_rest[:, 0]
        return still, (moved.double() @ torch.linalg.inv(rest.double())).numpy()


def in_camera(verts: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """World points in a camera's frame."""
    return (verts - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]


def project(points: np.ndarray, focal: tuple[float, float], center: tuple[float, float]) -> np.ndarray:
    """Pixels of points in a camera's frame, OpenGL axes."""
    x, y, depth = points[..., 0], points[..., 1], -points[..., 2]
    return np.stack([center[0] + focal[0] * x / depth, center[1] - focal[1] * y / depth], -1)


@cache
def make_truth(num_frames: int = 8, neck: bool = False, centered: bool = False, square: bool = False) -> Truth:
    """The person.

    Args:
        num_frames: number of timesteps.
        neck: whether the neck turns by itself (some layouts have no place for that).
        centered: the principal point lies in the middle.
        square: both focal lengths are the same.
    """
    rng = np.random.default_rng(7)
    head = flame_like_head()
    noise = lambda size, scale: scale * rng.standard_normal((num_frames, size))  # noqa: E731
    expression, identity = noise(100, 0.8), rng.standard_normal(300)
    expression[:, USED_EXPR:], identity[USED_IDENTITY:] = 0, 0
    jaw = np.abs(noise(3, 0.08)) * [1, 0.2, 0.2]
    gaze = np.tile(noise(3, 0.1) * [1, 1, 0], 2)
    parts = (expression, noise(3, 0.15), noise(3, 0.1) * neck, jaw, gaze, noise(3, 0.01))
    track = HeadState(*(torch.from_numpy(part.astype(np.float32)) for part in parts))
    T = np.eye(4)
    T[:3, 3] = [0.01, -0.04, 0.9]
    focal = (2.0 * SIZE, 2.0 * SIZE * (1 if square else 1.05))
    center = (SIZE / 2, SIZE / 2) if centered else (SIZE / 2 + 1.5, SIZE / 2 - 1.0)
    identity = torch.from_numpy(identity.astype(np.float32))
    verts = in_camera(ShapedHead.of(head, identity).pose(track).verts.numpy(), T)
    images = [_render(v, head.faces.numpy(), project(v, focal, center)) for v in verts]
    rgb, mask = zip(*images, strict=True)
    return Truth(head, identity, track, focal, center, T, rgb, mask)


def _render(verts: np.ndarray, faces: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat-shaded triangles, far to near, over a checkered background, and the mask."""
    corners = verts[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    order = np.argsort(corners[..., 2].mean(-1))
    order = order[normals[order, 2] > 0]
    checks = (np.indices((SIZE, SIZE)).sum(0) // 8 % 2 * 120 + 60).astype(np.uint8)
    image, mask = Image.fromarray(np.stack([checks] * 3, -1)), Image.new("L", (SIZE, SIZE))
    draw, draw_mask = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for triangle in order:
        shade = int(60 + 180 * normals[triangle, 2])
        polygon = [tuple(p - 0.5) for p in pixels[faces[triangle]]]
        draw.polygon(polygon, fill=(shade, int(shade * 0.8), int(shade * 0.7)))
        draw_mask.polygon(polygon, fill=255)
    return np.array(image), np.array(mask)


@cache
def flame_like_head(seed: int = 0) -> HeadModel:
    """A head of FLAME's size: skull with jaw and nose, eyeballs, neck and shoulders."""
    from pathlib import Path

    return head_model_from_arrays(flame_like_arrays(seed), Path(f"flame-like-{seed}.npz"))


def flame_like_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays with FLAME's structure and sizes. The seed determines directions and template."""
    rng = np.random.default_rng(seed)
    skull, skull_faces = _ball((0, 0, 0), (0.075, 0.11, 0.095), 62, 50)
    skull[:, 2] += 0.02 * np.exp(-np.square(skull / [0.015, 0.02, 1.0]).sum(-1)) * (skull[:, 2] > 0)
    eyes = [_ball((x, 0.03, 0.078), (0.012, 0.012, 0.012), 10, 10) for x in (0.032, -0.032)]
    neck, neck_faces = _ball((0, -0.17, -0.01), (0.11, 0.09, 0.06), 37, 53)
    surfaces = [(skull, skull_faces), *eyes, (neck, neck_faces)]
    starts = np.cumsum([0, *(len(verts) for verts, _ in surfaces)])
    template = np.concatenate([verts for verts, _ in surfaces])
    assert len(template) == NUM_VERTS
    if seed:
        template = template * [0.9, 1.1, 1.0]
    weights = np.zeros((NUM_VERTS, 5))
    jaw = np.clip((-0.03 - skull[:, 1]) / 0.02, 0, 1) * (skull[:, 2] > 0)
    weights[: starts[1], 2], weights[: starts[1], 1] = jaw, 1 - jaw
    weights[starts[1] : starts[2], 3] = weights[starts[2] : starts[3], 4] = 1
    rising = np.clip((neck[:, 1] + 0.14) / 0.04, 0, 1)
    weights[starts[3] :, 1], weights[starts[3] :, 0] = rising, 1 - rising
    joints = np.array(
        [[0, -0.17, -0.02], [0, -0.1, -0.02], [0, -0.02, 0.01], [0.032, 0.03, 0.078], [-0.032, 0.03, 0.078]]
    )
    near = np.exp(-np.square(template[None] - joints[:, None]).sum(-1) / 0.03**2)
    return {
        "v_template": template,
        "f": np.concatenate([faces + start for (_, faces), start in zip(surfaces, starts, strict=False)]),
        "shapedirs": np.concatenate([_waves(template, rng, 300, 0.0008), _face_waves(template, rng)], -1),
        "posedirs": _waves(template, rng, 36, 0.001),
        "J_regressor": near / near.sum(-1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": weights,
        "name": np.array(f"flame-like-{seed}"),
    }


def _waves(template: np.ndarray, rng: np.random.Generator, count: int, size: float) -> np.ndarray:
    """Smooth displacement fields, (verts, 3, count)."""
    frequency, phase = 25 * rng.standard_normal((3, count)), rng.uniform(0, 2 * np.pi, count)
    direction = rng.standard_normal((3, count))
    return size * np.sin(template @ frequency + phase)[:, None] * (direction / np.linalg.norm(direction, axis=0))


def _face_waves(template: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    front = np.clip(template[:, 2] / 0.05, 0, 1) * (template[:, 1] > -0.11)
    return front[:, None, None] * _waves(template, rng, 100, 0.0008)


def _ball(center: tuple, radii: tuple, rings: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (2 poles and `rings - 2` rings) and outward faces of an ellipsoid."""
    height = np.cos(np.linspace(0, np.pi, rings)[1:-1])
    angle = np.arange(columns) * 2 * np.pi / columns
    ring = np.stack([np.sin(angle), np.zeros(columns), np.cos(angle)], -1)
    sides = [np.array([0, h, 0]) + np.sqrt(1 - h**2) * ring for h in height]
    verts = np.concatenate([[[0, 1, 0]], *sides, [[0, -1, 0]]]) * radii + np.array(center)
    last, faces = len(verts) - 1, []
    for c in range(columns):
        right = (c + 1) % columns
        faces += [(0, 1 + c, 1 + right), (last, last - columns + right, last - columns + c)]
        for r in range(rings - 3):
            a, b = 1 + r * columns + c, 1 + r * columns + right
            faces += [(a, a + columns, b + columns), (a, b + columns, b)]
    return verts, np.array(faces)
