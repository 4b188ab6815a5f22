"""The person apart from the background: a matte in [0, 1] for each image.

A segmentation network says roughly where the person is; a guided filter (He et al., "Guided image filtering", 2013)
lets its border follow the image's edges, hair included.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.landmarks import OVAL
from partnerface_ns.tracking.networks.segmenter import Segmenter
from partnerface_ns.tracking.video import require

_RADIUS_SHARE = 0.014
"""Radius of the guided filter as a share of the image's side."""
_SMOOTHNESS = 2e-4
"""Variance of colour in [0, 1] below which the guided filter sees no edge."""
_SHARPNESS = 2.2
"""Contrast given to the filtered matte around one half."""
_PRESENT = 0.1
"""Matte from which pixels connect pieces of it."""
_LOOSE_SHARE = 0.003
"""Share of the image up to which a solid piece can be a strand of hair or a temple of glasses."""
_BRIDGED_SHARE = 0.02
"""Gap between two pieces that still count as connected, as a share of the image's side."""


class Matter:
    """Mattes one image after the other. Close it, or use it in a `with` statement."""

    def __init__(self) -> None:
        self._segment = Segmenter()

    def __enter__(self) -> Matter:
        return self

    def __exit__(self, *exception: object) -> None:
        del self._segment

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "rows columns"]:
        """The matte, float32, person = 1."""
        rough = self.rough(rgb)
        radius = max(2, round(_RADIUS_SHARE * min(rough.shape)))
        fine = guided_filter(rgb.astype(np.float32) / 255, rough, radius, _SMOOTHNESS)
        return np.clip((fine - 0.5) * _SHARPNESS + 0.5, 0, 1)

    def rough(self, rgb: UInt8[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "rows columns"]:
        """What the network says, without the image's edges: enough to tell where the person is."""
        return self._segment(rgb)


def keep_subject(
    matte: Float[np.ndarray, "rows columns"], landmarks: Float[np.ndarray, "landmarks 3"]
) -> Float[np.ndarray, "rows columns"]:
    """A matte without what is not connected with the subject's face or with the body under it.

    Small or faint pieces near what is kept, such as loose hair and the temples of glasses, are kept with it. A large
    solid piece is not, even if faint pixels lead to it.

    Args:
        matte: person = 1.
        landmarks: of the subject's face, pixels.
    """
    cv2 = require("cv2")
    reach = 2 * max(1, round(_BRIDGED_SHARE * min(matte.shape) / 2)) + 1
    window = np.ones((reach, reach), dtype=np.uint8)
    seeds = (_face_and_below(matte.shape, landmarks) > 0) & (matte > 0.5)
    _, solid, stats, _ = cv2.connectedComponentsWithStats((matte > 0.5).astype(np.uint8))
    large = np.nonzero(stats[:, cv2.CC_STAT_AREA] > _LOOSE_SHARE * matte.size)[0]
    strays = np.isin(solid, np.setdiff1d(large, [0, *np.unique(solid[seeds])])).astype(np.uint8)
    present = cv2.dilate((matte > _PRESENT).astype(np.uint8), window) & (1 - cv2.dilate(strays, window))
    _, labels = cv2.connectedComponents(present)
    kept = np.unique(labels[seeds])
    return matte * np.isin(labels, kept[kept > 0])


def _face_and_below(shape: tuple[int, int], landmarks: np.ndarray) -> UInt8[np.ndarray, "rows columns"]:
    """The face's outline, and the strip as wide as the face between it and the image's lower border."""
    outline = landmarks[list(OVAL), :2]
    low, high = outline.min(0), outline.max(0)
    strip = np.array([low, [high[0], low[1]], [high[0], shape[0]], [low[0], shape[0]]])
    strip[:2, 1] = outline[:, 1].mean()
    seeds = np.zeros(shape, dtype=np.uint8)
    for polygon in (outline, strip):
        require("cv2").fillPoly(seeds, [np.round(polygon).astype(np.int32)], 1)
    return seeds


def guided_filter(
    guide: Float[np.ndarray, "rows columns 3"], values: Float[np.ndarray, "rows columns"], radius: int, epsilon: float
) -> Float[np.ndarray, "rows columns"]:
    """Values smoothed so that in each window they are a linear function of the guide's colours.

    The coefficients are found on images of half the size, which is four times as quick and looks the same.

    Args:
        guide: colours in [0, 1], float32.
        values: to be smoothed, float32.
        radius: half the side of a window, pixels.
        epsilon: colour variance below which a window counts as flat.
    """
    cv2 = require("cv2")
    rows, columns = values.shape
    small_size = ((columns + 1) // 2, (rows + 1) // 2)
    small = cv2.resize(guide, small_size, interpolation=cv2.INTER_AREA)
    small_values = cv2.resize(values, small_size, interpolation=cv2.INTER_AREA)
    slope, offset = _coefficients(small, small_values, max(1, radius // 2), epsilon)
    coefficients = cv2.resize(np.concatenate([slope, offset[..., None]], -1), (columns, rows))
    return (coefficients[..., :3] * guide).sum(-1) + coefficients[..., 3]


def _coefficients(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope (rows, columns, 3) and offset (rows, columns) of each pixel, the mean over the windows that hold it."""
    cv2 = require("cv2")
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image, window, borderType=cv2.BORDER_REPLICATE)

    mean_guide, mean_values = mean(guide), mean(values)
    first, second = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])
    products = np.concatenate([mean(guide[..., first[k]] * guide[..., second[k]])[..., None] for k in range(6)], -1)
    shared = products - mean_guide[..., first] * mean_guide[..., second]
    covariance = np.empty((*values.shape, 3, 3), dtype=np.float32)
    covariance[..., first, second] = covariance[..., second, first] = shared
    covariance += epsilon * np.eye(3, dtype=np.float32)
    cross = mean(guide * values[..., None]) - mean_guide * mean_values[..., None]
    slope = _solve_symmetric(covariance, cross)
    return mean(slope), mean(mean_values - (slope * mean_guide).sum(-1))


def _solve_symmetric(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of many symmetric 3x3 systems by the adjugate."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 1], matrix[..., 1, 2], matrix[..., 2, 2]
    adjugate = ((d * f - e * e, c * e - b * f, b * e - c * d), (a * f - c * c, b * c - a * e), (a * d - b * b,))
    (aa, ab, ac), (bb, bc), (cc,) = adjugate
    x, y, z = right[..., 0], right[..., 1], right[..., 2]
    determinant = a * aa + b * ab + c * ac
    solution = np.stack([aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z], -1)
    return solution / np.maximum(determinant, 1e-12)[..., None]
