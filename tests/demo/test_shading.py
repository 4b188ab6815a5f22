"""Lighting: shadows, occlusion and shading of materials."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.demo import shading
from partnerface_ns.demo.shading import LAMP, Shadows, Surface, normalize

FRONT = np.array([0.0, 0.0, 1.0])


def plate(centre: np.ndarray, half: float, towards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A square that faces `towards`."""
    towards = normalize(towards)
    right = normalize(np.cross([0.0, 1.0, 0.001], towards))
    up = np.cross(towards, right)
    corners = [centre + half * (x * right + y * up) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return np.stack(corners), np.array([[0, 1, 2], [0, 2, 3]])


def facing(normals: np.ndarray, lit: float = 1.0, occlusion: float = 1.0) -> Surface:
    n = np.asarray(normals, dtype=np.float32)
    view = np.broadcast_to(np.array([0, 0, 1], np.float32), n.shape)
    return Surface(n, view, np.full(len(n), occlusion, np.float32), np.full(len(n), lit, np.float32))


def test_a_plate_casts_a_shadow():
    verts, faces = plate(np.zeros(3), 0.05, LAMP)
    shadows = Shadows.cast(verts.astype(np.float32), faces)
    behind, before, beside = -0.05 * LAMP, 0.05 * LAMP, -0.05 * LAMP + [0.15, 0.0, 0.1]
    lit = shadows.lit(np.stack([behind, before, beside]).astype(np.float32))
    np.testing.assert_allclose(lit, [0, 1, 1], atol=1e-6)


def test_a_shadow_has_a_soft_edge_and_does_not_fall_on_its_caster():
    verts, faces = plate(np.zeros(3), 0.05, LAMP)
    shadows = Shadows.cast(verts.astype(np.float32), faces)
    edge = verts[1] + np.linspace(0, 1, 9)[:, None] * (verts[2] - verts[1])
    across = normalize(verts[1] - verts[0])
    lit = shadows.lit((edge[4] + np.linspace(-0.006, 0.006, 25)[:, None] * across - 0.02 * LAMP).astype(np.float32))
    assert lit[0] == 0 and lit[-1] == 1 and (np.diff(lit) >= -1e-6).all()
    assert ((lit > 0.05) & (lit < 0.95)).sum() >= 3
    assert shadows.lit(verts.mean(0, keepdims=True).astype(np.float32))[0] == 1


def test_occlusion_is_less_in_a_corner():
    floor = plate(np.zeros(3), 0.1, np.array([0.0, 1.0, 0.0]))
    wall = plate(np.array([0.0, 0.1, -0.1]), 0.1, np.array([0.0, 0.0, 1.0]))
    back_of_wall = plate(np.array([0.0, 0.1, -0.101]), 0.1, np.array([0.0, 0.0, -1.0]))
    points = np.array([[0.0, 0.0, -0.09], [0.0, 0.0, 0.09]])
    verts = np.concatenate([floor[0], wall[0], back_of_wall[0], points]).astype(np.float32)
    faces = np.concatenate([floor[1], wall[1] + 4, back_of_wall[1] + 8])
    normals = np.zeros_like(verts)
    normals[:, 1] = 1
    seen = shading.ambient_occlusion(verts, normals, faces)
    assert seen[-1] > 0.8 and seen[-2] < 0.7 * seen[-1]


def test_a_surface_towards_the_lamp_is_brighter():
    colour = np.full((2, 3), 0.5, np.float32)
    for shade in (
        lambda s: shading.shade_matt(s, colour),
        lambda s: shading.shade_skin(s, colour, np.zeros(2, np.float32)),
        lambda s: shading.shade_glossy(s, colour, 20.0, 0.0),
    ):
        towards, away = shade(facing(np.stack([LAMP, -LAMP])))
        assert (towards > 2 * away).all() and (away > 0).all()


def test_in_full_shade_only_the_sky_is_left():
    colour = np.full((1, 3), 0.5, np.float32)
    shaded = shading.shade_matt(facing(LAMP[None], lit=0.0), colour)
    lit = shading.shade_matt(facing(LAMP[None]), colour)
    assert (shaded > 0).all() and (shaded < 0.6 * lit).all()
    dark = shading.shade_matt(facing(LAMP[None], lit=0.0, occlusion=0.0), colour)
    np.testing.assert_allclose(dark, 0, atol=1e-7)


def test_light_extends_past_the_terminator_of_skin_most_in_red():
    edge = normalize(np.cross(LAMP, [0.0, 1.0, 0.0]))
    colour = np.full((1, 3), 0.5, np.float32)
    surface = facing((edge - 0.1 * LAMP)[None], occlusion=0.0)
    red, _, blue = shading.shade_skin(surface, colour, np.zeros(1, np.float32))[0]
    assert red > 1.5 * blue


def test_the_highlight_is_where_the_lamp_is_reflected():
    half = normalize(LAMP + FRONT)
    colour = np.zeros((2, 3), np.float32)
    mirrored, tilted = shading.shade_glossy(
        facing(np.stack([half, normalize(half + np.array([0.3, 0, 0]))])), colour, 80.0, 1.0
    )
    assert mirrored.min() > 10 * tilted.max()


def test_lenses_reflect_the_lamp_and_dimly_the_room():
    view = np.array([[0.0, 0.0, 1.0]] * 2, dtype=np.float32)
    normals = np.stack([normalize(LAMP + FRONT), [0.0, 0.0, 1.0]]).astype(np.float32)
    at_lamp, at_room = shading.lens_glint(normals, view)
    assert at_lamp > 5 * at_room > 0 and at_lamp < 0.3


def test_display_values_rise_and_end_at_white():
    values = shading.to_srgb(np.linspace(0, 4, 200, dtype=np.float32)).astype(int)
    assert values[0] == 0 and values[-1] == 255 and (np.diff(values) >= 0).all()
    assert shading.to_srgb(np.array([0.2158], np.float32))[0] == 128


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3)])
def test_normalize(shape):
    vectors = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(np.linalg.norm(normalize(vectors), axis=-1), 1, atol=1e-9)
    assert np.isfinite(normalize(np.zeros(shape))).all()
