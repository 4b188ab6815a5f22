"""Telling a covered face from expressions, light and beards, with made-up faces."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.face_texture import face_grid, light_basis
from partnerface_ns.tracking.video.occlusion import find_covered

NUM = 120
POINTS = face_grid().points
MOUTH = (np.abs(POINTS[:, 0]) < 0.035) & (POINTS[:, 1] < -0.012)
FACING = np.full((NUM, len(POINTS)), 0.9)


def film(expression: float = 1.0, beard: bool = False) -> np.ndarray:
    """Textures of a face that speaks: a few ways to change, each of which comes and goes gradually."""
    rng = np.random.default_rng(0)
    look = 5.0 + 0.2 * rng.normal(size=len(POINTS)) - (1.5 * MOUTH if beard else 0)
    times = np.arange(NUM)[:, None] / 25
    ways = 0.1 * rng.normal(size=(4, len(POINTS))) * (POINTS[:, 1] < 0)
    amounts = np.sin(times * rng.uniform(2, 5, 4) + rng.uniform(0, 6, 4))
    frames = look + expression * amounts @ ways + 0.02 * rng.normal(size=(NUM, len(POINTS)))
    return np.clip(np.exp(frames[..., None] + np.log([1.0, 0.8, 0.7])), 0, 255).astype(np.uint8)


def cover(texture: np.ndarray, frames: range, colour: tuple[float, float, float], where: np.ndarray) -> np.ndarray:
    """Cover some points with one slightly uneven colour."""
    result = texture.copy()
    noise = 1 + 0.04 * np.random.default_rng(3).normal(size=(len(frames), int(where.sum()), 1))
    result[np.ix_(list(frames), np.nonzero(where)[0])] = np.clip(np.array(colour) * noise, 0, 255).astype(np.uint8)
    return result


@pytest.mark.parametrize(
    "colour", [(140, 118, 100), (60, 60, 65), (230, 230, 225), (170, 40, 40)], ids=["hand", "microphone", "cup", "red"]
)
@pytest.mark.parametrize("frames", [range(40, 70), range(0, 12), range(100, 120)], ids=str)
def test_frames_with_a_covered_mouth_are_found(colour, frames):
    result = find_covered(cover(film(), frames, colour, MOUTH), FACING)
    assert result[list(frames)].all() and result.sum() == len(frames)


@pytest.mark.parametrize("expression", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("beard", [False, True])
def test_expressions_and_beards_cover_nothing(expression, beard):
    assert not find_covered(film(expression, beard), FACING).any()


def test_a_hand_in_front_of_a_beard_is_found():
    result = find_covered(cover(film(beard=True), range(40, 60), (140, 118, 100), MOUTH), FACING)
    assert result[40:60].all() and result.sum() == 20


def test_a_change_of_light_covers_nothing():
    texture = film().astype(float)
    texture[60:] *= 0.7 * np.exp(0.2 * light_basis()[:, 1:2]) * np.array([1.0, 0.9, 0.8])
    assert not find_covered(texture.astype(np.uint8), FACING).any()


def test_points_that_face_away_are_ignored():
    facing = FACING.copy()
    facing[40:70, MOUTH] = 0.05
    assert not find_covered(cover(film(0.2), range(40, 70), (60, 60, 65), MOUTH), facing).any()


@pytest.mark.parametrize("is_new", [True, False], ids=["a view that is new", "a view seen uncovered"])
def test_frames_in_a_view_that_is_never_seen_uncovered_are_not_judged(is_new):
    turned = FACING.copy()
    turned[:12, POINTS[:, 0] > 0] = 0.4
    if not is_new:
        turned[12:30] = turned[:12].mean(0)
    result = find_covered(cover(film(), range(0, 12), (140, 118, 100), MOUTH), turned)
    assert result[:12].all() != is_new and not result[12:].any()


def test_one_frame_alone_is_not_covered():
    assert not find_covered(cover(film(), range(50, 51), (60, 60, 65), MOUTH), FACING).any()


def test_a_permanent_cover_and_a_short_video_are_not_judged():
    mostly = find_covered(cover(film(), range(20, 110), (60, 60, 65), MOUTH), FACING)
    assert not mostly[20:110].any()
    assert not find_covered(cover(film(), range(5, 10), (60, 60, 65), MOUTH)[:20], FACING[:20]).any()
