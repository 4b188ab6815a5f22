"""Named regions of a head model's surface, as soft vertex masks in [0, 1].

The open head has its own masks. For a FLAME file without masks they are derived from skinning weights and rest
geometry. Part seeds, ray sampling and metrics use them; a rough border is enough there.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.flame.joints import EYES, Joint

REGION_NAMES = ("head", "torso", "jaw", "eyeballs", "eyelids", "lips", "inside_mouth", "ears", "face")
"""`head` moves with the neck joint or a joint below it, `torso` with the root. The other names describe themselves."""

_EYELID_BAND = 0.006
"""Width in metres of the eyelid region around an eyeball."""
_LIP_BAND = 0.012
"""Distance in metres to the other lip below which a vertex counts as lip."""


def derive_regions(
    template: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    weights: Float[np.ndarray, "verts joints"],
    given: dict[str, Float[np.ndarray, "verts"]],
) -> dict[str, Float[np.ndarray, "verts"]]:
    """Masks of all `REGION_NAMES`: given masks where there are any, others derived from the model.

    Args:
        template: rest vertices, metres, y up and z out of the face.
        faces: vertex indices.
        weights: skinning weights, joints in FLAME's order.
        given: masks from the file, in [0, 1].

    Returns:
        One mask per name, float32 in [0, 1].
    """
    if all(name in given for name in REGION_NAMES):
        return {name: np.asarray(given[name], dtype=np.float32) for name in REGION_NAMES}
    from scipy.spatial import KDTree

    eyeballs = weights[:, EYES].sum(-1) > 0.5
    jaw = weights[:, Joint.JAW] > 0.5
    torso = weights[:, Joint.ROOT] > 0.5
    eye_distance = KDTree(template[eyeballs]).query(template)[0] if eyeballs.any() else np.full(len(template), 1.0)
    regions = {
        "head": ~torso,
        "torso": torso,
        "jaw": weights[:, Joint.JAW],
        "eyeballs": eyeballs,
        "eyelids": (eye_distance < _EYELID_BAND) & ~eyeballs,
        "lips": _lips(template, jaw, ~torso & ~eyeballs),
        "inside_mouth": np.zeros(len(template)),
        "ears": np.abs(template[:, 0]) > 0.9 * np.abs(template[~torso, 0]).max(),
        "face": ~torso & (template[:, 2] > np.median(template[~torso, 2])),
    }
    return {name: np.asarray(given.get(name, regions[name]), dtype=np.float32) for name in REGION_NAMES}


def _lips(template: np.ndarray, jaw: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Vertices near the border of jaw and skull at the front of the face, where the mouth opens."""
    from scipy.spatial import KDTree

    upper, lower = head & ~jaw, head & jaw
    lips = np.zeros(len(template), dtype=bool)
    if not upper.any() or not lower.any():
        return lips
    front = template[:, 2] > np.quantile(template[lower, 2], 0.6)
    for side, other in ((upper & front, lower), (lower & front, upper)):
        lips[side] = KDTree(template[other]).query(template[side])[0] < _LIP_BAND
    return lips
