"""Principal directions of people: what many sampled heads have in common, without where they stand."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def without_rigid_motion(template: np.ndarray, change: np.ndarray, skull: np.ndarray) -> np.ndarray:
    """The change (verts, 3) of a sampled head after moving the head back onto the template's skull.

    Args:
        template: (verts, 3).
        change: the sample minus the template.
        skull: (verts,) bool, what is aligned; size is kept, it belongs to a person.
    """
    sample = template + change
    goal, now = template[skull].mean(0), sample[skull].mean(0)
    rotation = Rotation.align_vectors(template[skull] - goal, sample[skull] - now)[0].as_matrix()
    return (sample - now) @ rotation.T + goal - template


def principal_directions(samples: np.ndarray, importance: np.ndarray, num: int) -> tuple[np.ndarray, float]:
    """Directions whose coefficients have unit variance over the samples, and the share of variance they explain.

    Args:
        samples: (samples, verts, 3) changes; their mean is dropped.
        importance: (verts,) weight of a vertex' error.
        num: how many directions.

    Returns:
        (verts, 3, num), largest first; the sign makes the largest entry positive.
    """
    centred = (samples - samples.mean(0)).reshape(len(samples), -1)
    weighted = centred * np.repeat(importance, 3).astype(centred.dtype)
    variances, vectors = np.linalg.eigh((weighted @ weighted.T).astype(np.float64))
    coefficients = vectors[:, ::-1][:, :num] * np.sqrt(len(samples))
    directions = (coefficients.T @ centred / len(samples)).T
    directions *= np.sign(np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0))
    share = variances[::-1][:num].sum() / variances.sum()
    return directions.reshape(*samples.shape[1:], num), float(share)
