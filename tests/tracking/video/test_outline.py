"""The outline of a matte."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.outline import NUM_POINTS, matte_border, matte_outline


def test_outline_of_a_disc_has_sub_pixel_positions_and_outward_normals(disc):
    outline = matte_outline(disc(200, (103.3, 96.7), 60.0))
    assert outline.shape == (NUM_POINTS, 4) and np.isfinite(outline).all()
    radial = outline[:, :2] - (103.3, 96.7)
    radius = np.linalg.norm(radial, axis=1)
    np.testing.assert_allclose(radius, 60, atol=0.4)
    assert ((radial / radius[:, None]) * outline[:, 2:]).sum(1).min() > 0.99


def test_the_border_of_the_image_is_not_outline(disc):
    outline = matte_outline(disc(200, (100, 200), 80.0))
    points = outline[np.isfinite(outline).all(1), :2]
    assert points[:, 1].max() < 197 and len(points) > NUM_POINTS // 2


def test_an_empty_matte_has_no_outline():
    assert np.isnan(matte_outline(np.zeros((64, 64), dtype=np.float32))).all()


def test_small_regions_are_ignored(disc):
    matte = disc(200, (100, 100), 50.0) + disc(200, (20, 20), 8.0)
    points = matte_outline(matte)[:, :2]
    assert np.linalg.norm(points - 100, axis=1).max() < 52


def test_the_border_has_every_pixel_of_the_outline(disc):
    """Every point of the outline has a border pixel nearby; the few points of `matte_outline` do not cover it."""
    centre, radius = np.array([103.3, 96.7]), 60.0
    border = matte_border(disc(200, tuple(centre), radius))
    angle = np.linspace(0, 2 * np.pi, 500)
    circle = centre + radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    nearest = np.linalg.norm(circle[:, None] - border[None], axis=-1).min(1)
    assert nearest.mean() < 0.6 and nearest.max() < 1.5
    assert len(matte_border(np.zeros((64, 64), dtype=np.float32))) == 0
