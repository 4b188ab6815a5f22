"""The guided filter (He et al., "Guided image filtering", 2013): smooths values along the edges of a colour image.

This is our own implementation because OpenCV has it in opencv-contrib only, which this package does not require.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from partnerface_ns.tracking.video.packages import require


def guided_filter(
    guide: Float[np.ndarray, "rows columns 3"], values: Float[np.ndarray, "rows columns"], radius: int, epsilon: float
) -> Float[np.ndarray, "rows columns"]:
    """Smooth values so that they are a linear function of the guide's colours in each window.

    The coefficients are computed at half the resolution, which is four times as fast and looks the same.

    Args:
        guide: colours in [0, 1], float32.
        values: values to smooth, float32.
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


def _coefficients(
    guide: Float[np.ndarray, "rows columns 3"], values: Float[np.ndarray, "rows columns"], radius: int, epsilon: float
) -> tuple[Float[np.ndarray, "rows columns 3"], Float[np.ndarray, "rows columns"]]:
    """Slope and offset of each pixel, the mean over all windows that contain it."""
    cv2 = require("cv2")
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(image: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
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


def _solve_symmetric(
    matrix: Float[np.ndarray, "*batch 3 3"], right: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Solve many symmetric 3x3 systems by the adjugate, much faster than `np.linalg.solve`."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 1], matrix[..., 1, 2], matrix[..., 2, 2]
    adjugate = ((d * f - e * e, c * e - b * f, b * e - c * d), (a * f - c * c, b * c - a * e), (a * d - b * b,))
    (aa, ab, ac), (bb, bc), (cc,) = adjugate
    x, y, z = right[..., 0], right[..., 1], right[..., 2]
    determinant = a * aa + b * ab + c * ac
    solution = np.stack([aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z], -1)
    return solution / np.maximum(determinant, 1e-12)[..., None]
