"""Mattes and their outlines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partnerface_ns.tracking.fit.outline_matching import match_outline
from partnerface_ns.tracking.video.guided_filter import guided_filter
from partnerface_ns.tracking.video.matte_cleaning import keep_main_person
from partnerface_ns.tracking.video.matting import SelfieMatting
from partnerface_ns.tracking.video.outline import NUM_POINTS, matte_border, matte_outline


def slow_guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """One linear fit a window, by the normal equations; borders repeat their pixels."""
    padded = np.pad(guide, ((2 * radius,) * 2, (2 * radius,) * 2, (0, 0)), mode="edge")
    padded_values = np.pad(values, 2 * radius, mode="edge")
    rows, columns = values.shape
    side = 2 * radius + 1
    fits = np.empty((rows + 2 * radius, columns + 2 * radius, 4))
    for y, x in np.ndindex(*fits.shape[:2]):
        colours = padded[y : y + side, x : x + side].reshape(-1, 3)
        window = padded_values[y : y + side, x : x + side].ravel()
        centred = colours - colours.mean(0)
        slope = np.linalg.solve(
            centred.T @ centred / len(window) + epsilon * np.eye(3), centred.T @ (window - window.mean()) / len(window)
        )
        fits[y, x] = *slope, window.mean() - slope @ colours.mean(0)
    result = np.empty_like(values)
    for y, x in np.ndindex(rows, columns):
        fit = fits[y : y + side, x : x + side].reshape(-1, 4).mean(0)
        result[y, x] = guide[y, x] @ fit[:3] + fit[3]
    return result


def test_guided_filter_agrees_with_the_slow_one():
    # Smooth images of twice the size: the filter works on half of it.
    y, x = np.mgrid[:48, :48] / 48
    guide = np.stack([x, y**2, 0.5 + 0.4 * np.sin(5 * x + 2 * y)], -1).astype(np.float32)
    values = (1 / (1 + np.exp(-(x + 0.3 * y - 0.6) * 20))).astype(np.float32)
    fast = guided_filter(guide, values, 4, 1e-3)
    half = guide.reshape(24, 2, 24, 2, 3).mean((1, 3)), values.reshape(24, 2, 24, 2).mean((1, 3))
    slow = slow_guided_filter(half[0].astype(np.float64), half[1].astype(np.float64), 2, 1e-3)
    np.testing.assert_allclose(fast.reshape(24, 2, 24, 2).mean((1, 3))[4:-4, 4:-4], slow[4:-4, 4:-4], atol=0.02)


def test_guided_filter_sharpens_a_rough_matte_to_the_images_edge():
    guide = np.zeros((64, 64, 3), dtype=np.float32)
    guide[:, 30:] = (0.8, 0.6, 0.5)
    rough = np.clip((np.arange(64) - 25) / 12, 0, 1)[None].repeat(64, 0).astype(np.float32)
    fine = guided_filter(guide, rough, 6, 1e-4)
    assert fine[:, 28].max() < 0.35 and fine[:, 32].min() > 0.65


def test_the_person_is_cut_out(images):
    matting = SelfieMatting()
    for rgb, truth in images[:3]:
        matte = matting(rgb)
        assert matte.shape == truth.shape and matte.min() >= 0 and matte.max() <= 1
        person, true = matte > 0.5, truth > 0.5
        assert (person & true).sum() / (person | true).sum() > 0.95


def disc(size: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5
    return np.clip(radius + 0.5 - np.hypot(x - centre[0], y - centre[1]), 0, 1).astype(np.float32)


def test_outline_of_a_disc_has_sub_pixel_positions_and_outward_normals():
    outline = matte_outline(disc(200, (103.3, 96.7), 60.0))
    assert outline.shape == (NUM_POINTS, 4) and np.isfinite(outline).all()
    radial = outline[:, :2] - (103.3, 96.7)
    radius = np.linalg.norm(radial, axis=1)
    np.testing.assert_allclose(radius, 60, atol=0.4)
    assert ((radial / radius[:, None]) * outline[:, 2:]).sum(1).min() > 0.99


def test_the_border_of_the_image_is_not_outline():
    outline = matte_outline(disc(200, (100, 200), 80.0))
    points = outline[np.isfinite(outline).all(1), :2]
    assert points[:, 1].max() < 197 and len(points) > NUM_POINTS // 2


def test_an_empty_matte_has_no_outline():
    assert np.isnan(matte_outline(np.zeros((64, 64), dtype=np.float32))).all()


def test_small_regions_are_ignored():
    matte = disc(200, (100, 100), 50.0) + disc(200, (20, 20), 8.0)
    points = matte_outline(matte)[:, :2]
    assert np.linalg.norm(points - 100, axis=1).max() < 52


@pytest.mark.parametrize("gate, expected", [(5.0, True), (1.0, False)])
def test_the_outermost_surface_point_beside_an_outline_point_is_matched(gate, expected):
    outline = torch.tensor([[[50.0, 20.0, 0.0, -1.0], [torch.nan] * 4]])
    # Inner rim, outer rim 3 pixels too far in, one that faces the viewer, one with a wrong normal, one aside.
    projected = torch.tensor([[[50.0, 33.0], [52.0, 23.0], [50.0, 19.0], [50.0, 21.0], [90.0, 20.0]]])
    normals = torch.tensor([[[0.0, -1.0], [0.0, -1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0]]])
    facing = torch.tensor([[0.1, 0.0, 0.9, 0.0, 0.0]])
    matches = match_outline(outline, projected, normals, facing, gate, 1.0)
    assert matches.valid.tolist() == [[expected, False]]
    if expected:
        assert matches.indices[0, 0] == 1


def test_the_border_has_every_pixel_of_the_outline():
    """Every point of the outline has a border pixel nearby; the few points of `matte_outline` do not cover it."""
    centre, radius = np.array([103.3, 96.7]), 60.0
    border = matte_border(disc(200, tuple(centre), radius))
    angle = np.linspace(0, 2 * np.pi, 500)
    circle = centre + radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    nearest = np.linalg.norm(circle[:, None] - border[None], axis=-1).min(1)
    assert nearest.mean() < 0.6 and nearest.max() < 1.5
    assert len(matte_border(np.zeros((64, 64), dtype=np.float32))) == 0


@pytest.fixture
def landmarks() -> np.ndarray:
    """A round face of radius 30 about (100, 80)."""
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    return np.stack([100 + 30 * np.sin(angle), 80 - 30 * np.cos(angle), np.zeros(478)], -1)


def person_matte() -> np.ndarray:
    matte = disc(200, (100, 80), 40.0)
    matte[150:, 40:160] = 1
    matte[115:155, 85:115] = 1
    return matte


def test_regions_apart_from_face_and_body_are_removed(landmarks):
    matte = person_matte()
    stray = matte.copy()
    stray[10:50, 180:] = 1
    stray[60:90, :8] = 0.4
    np.testing.assert_array_equal(keep_main_person(stray, landmarks), matte)


def test_a_faint_bridge_does_not_keep_a_large_region(landmarks):
    matte = person_matte()
    stray = matte.copy()
    stray[60:63, 138:180] = 0.2
    stray[50:80, 175:] = 1
    kept = keep_main_person(stray, landmarks)
    assert not kept[:, 176:].any() and (kept[:, :138] == matte[:, :138]).all()


def test_loose_hair_and_temples_are_kept(landmarks):
    matte = person_matte()
    matte[78:80, 142:160] = 0.6
    matte[20:38, 96:99] = 0.3
    np.testing.assert_array_equal(keep_main_person(matte, landmarks), matte)


def test_a_body_separated_from_the_head_is_kept(landmarks):
    matte = person_matte()
    matte[125:140] = 0
    np.testing.assert_array_equal(keep_main_person(matte, landmarks), matte)


def test_a_matte_without_person_stays_empty(landmarks):
    assert not keep_main_person(np.zeros((200, 200), dtype=np.float32), landmarks).any()
