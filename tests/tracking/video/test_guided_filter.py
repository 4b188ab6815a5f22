"""The guided filter."""

from __future__ import annotations

import numpy as np

from partnerface_ns.tracking.video.guided_filter import guided_filter


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
