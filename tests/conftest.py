"""Fixtures: a head model of a few dozen vertices and small avatars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.flame.head_model import HeadModel, load_head_model
from partnerface_ns.flame.state import HeadState

NUM_IDENTITY, NUM_EXPR = 3, 4


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every run, whichever tests run."""
    torch.manual_seed(0)


@pytest.fixture(params=[(), (1,), (3, 1, 2)], ids=str)
def batch(request: pytest.FixtureRequest) -> tuple[int, ...]:
    """Leading axes that every function of points, rotations or head states must take."""
    return request.param


@pytest.fixture
def head_arrays() -> dict[str, np.ndarray]:
    """A head model file's arrays, in FLAME's structure."""
    skull, skull_faces = _sphere(np.array([0.0, 0.0, 0.0]), 0.1, 7, 10)
    eye_left, eye_faces = _sphere(np.array([0.035, 0.03, 0.085]), 0.012, 4, 5)
    eye_right, _ = _sphere(np.array([-0.035, 0.03, 0.085]), 0.012, 4, 5)
    torso, torso_faces = _sphere(np.array([0.0, -0.2, 0.0]), 0.12, 5, 6)
    surfaces = [(skull, skull_faces), (eye_left, eye_faces), (eye_right, eye_faces), (torso, torso_faces)]
    starts = np.cumsum([0, *(len(verts) for verts, _ in surfaces)])
    template = np.concatenate([verts for verts, _ in surfaces])
    joints = np.array([[0, -0.2, 0], [0, -0.1, 0], [0, -0.02, 0], [0.035, 0.03, 0.085], [-0.035, 0.03, 0.085]])
    rng = np.random.default_rng(0)
    num = len(template)
    return {
        "v_template": template,
        "f": np.concatenate([faces + start for (_, faces), start in zip(surfaces, starts, strict=False)]),
        "shapedirs": 0.004 * rng.standard_normal((num, 3, NUM_IDENTITY + NUM_EXPR)),
        "posedirs": 0.002 * rng.standard_normal((num, 3, 36)),
        "J_regressor": np.stack([_near(template, joint) for joint in joints]),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": _skinning_weights(skull, starts),
        "mask_lips": np.where(np.linalg.norm(template - [0, -0.02, 0.1], axis=1) < 0.04, 255, 0).astype(np.uint8),
        "n_id": np.array(NUM_IDENTITY),
        "expr_names": np.array(["smile", "frown", "pout", "blink"]),
        "name": np.array("tiny"),
    }


@pytest.fixture
def head_file(head_arrays: dict[str, np.ndarray], tmp_path: Path) -> Path:
    """The tiny head model as a file."""
    np.savez(tmp_path / "tiny_head.npz", **head_arrays)
    return tmp_path / "tiny_head.npz"


@pytest.fixture
def tiny_head(head_file: Path) -> HeadModel:
    """The tiny head model: a ball with a jaw, two eyes and a torso."""
    return load_head_model(head_file)


@pytest.fixture
def avatar_init(tiny_head: HeadModel) -> AvatarInit:
    """Three head states of a person with the tiny head; the second has an open mouth."""
    noise = lambda size, scale: scale * torch.randn(3, size)  # noqa: E731
    expression = noise(NUM_EXPR, 0.3)
    states = HeadState(expression, noise(3, 0.1), noise(3, 0.05), noise(3, 0.02), noise(6, 0.05), noise(3, 0.005))
    states.jaw[1, 0] = 0.3
    still = torch.zeros_like(tiny_head.template)
    return AvatarInit(tiny_head, torch.zeros(NUM_IDENTITY), still, states, 3, (0.2, 0.4, 0.9))


@pytest.fixture
def make_avatar(avatar_init: AvatarInit) -> Callable[..., Avatar]:
    """Builds a very small avatar that computes in single precision."""

    def make(init: AvatarInit = avatar_init, **changes: object) -> Avatar:
        config = AvatarConfig(num_parts=3, bfloat16=False, everywhere_start=0.0, stage2_start=0.5)
        config.displacement.shape, config.space.resolution = (16, 16, 16), 24
        config.canonical.resolutions, config.canonical.num_channels, config.canonical.hidden = (12, 16), 2, 8
        config.parts.hidden = config.assigner.hidden = 8
        config.sampling.grid_resolution, config.sampling.num_probes, config.sampling.num_samples = 24, 24, 8
        for name, value in changes.items():
            setattr(config, name, value)
        return Avatar(config, init)

    return make


def _sphere(center: np.ndarray, radius: float, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward faces of a ball: its poles and rings of `columns` vertices between them."""
    height = np.cos(np.linspace(0, np.pi, rows)[1:-1])
    angle = np.arange(columns) * 2 * np.pi / columns
    ring = np.stack([np.sin(angle), np.zeros(columns), np.cos(angle)], -1)
    rings = [np.array([0, h, 0]) + np.sqrt(1 - h**2) * ring for h in height]
    verts = center + radius * np.concatenate([[[0, 1, 0]], *rings, [[0, -1, 0]]])
    last, faces = len(verts) - 1, []
    for c in range(columns):
        right = (c + 1) % columns
        faces += [(0, 1 + c, 1 + right), (last, last - columns + right, last - columns + c)]
        for r in range(rows - 3):
            a, b = 1 + r * columns + c, 1 + r * columns + right
            faces += [(a, a + columns, b + columns), (a, b + columns, b)]
    return verts, np.array(faces)


def _near(verts: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A convex combination of the vertices near a point."""
    weights = np.exp(-(np.square(verts - point).sum(-1)) / 0.03**2)
    return weights / weights.sum()


def _skinning_weights(skull: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Torso to the root, skull to the neck but for its jaw, each eye to its joint."""
    weights = np.zeros((starts[-1], 5))
    jaw = np.clip((-0.01 - skull[:, 1]) / 0.03, 0, 1) * (skull[:, 2] > 0)
    weights[: starts[1], 2], weights[: starts[1], 1] = jaw, 1 - jaw
    weights[starts[1] : starts[2], 3] = weights[starts[2] : starts[3], 4] = 1
    weights[starts[3] :, 0] = 1
    return weights
