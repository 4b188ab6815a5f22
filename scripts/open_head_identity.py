"""Identities of the open head: random people made of the source's targets, and their principal directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from makehuman import MakeHuman
from rich.progress import track
from scipy.spatial.transform import Rotation

NUM_SAMPLES = 900
LOCAL_AMOUNT = 0.25
"""Standard deviation of the amount of a local target in a random person."""
TRUNK_IMPORTANCE = 0.3
"""Of the trunk's vertices in the principal directions, relative to the head's."""
OPPOSITES = {"decr": "incr", "down": "up", "in": "out", "backward": "forward", "concave": "convex", "l": "r"}
OPPOSITES |= {"compress": "uncompress"}
IDENTITY_FOLDERS = ("asym", "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
NOT_A_FACE = ("breast", "trunk", "pointed", "head-trans", "neck-trans", "ear-shape")
"""Targets of the trunk, of elves, and those that only move the whole head about."""


def macro_shares(age: float, male: float, muscle: float, weight: float, origin: np.ndarray) -> dict[str, float]:
    """How much of which macro target makes a body type.

    Args:
        age: 0 young to 1 old.
        male: 0 to 1.
        muscle: -1 to 1.
        weight: -1 to 1.
        origin: shares (3,) of the three faces that MakeHuman calls african, asian and caucasian.
    """

    def level(value: float, name: str) -> list[tuple[str, float]]:
        return [(("max" if value > 0 else "min") + name, abs(value)), ("average" + name, 1 - abs(value))]

    shares = {}
    for sex, sex_share in (("male", male), ("female", 1 - male)):
        for era, era_share in (("young", 1 - age), ("old", age)):
            share = sex_share * era_share
            for face, face_share in zip(("african", "asian", "caucasian"), origin, strict=True):
                shares[f"macrodetails/{face}-{sex}-{era}"] = share * face_share
            for bulk, bulk_share in level(muscle, "muscle"):
                for mass, mass_share in level(weight, "weight"):
                    shares[f"macrodetails/universal-{sex}-{era}-{bulk}-{mass}"] = share * bulk_share * mass_share
    return {name: share for name, share in shares.items() if share > 0}


NEUTRAL = macro_shares(0.0, 0.5, 0.0, 0.0, np.full(3, 1 / 3))


def identity_axes(names: list[str]) -> list[tuple[list[str], list[str]]]:
    """Targets as axes: what a positive and what a negative amount of each adds; left and right sides go together."""
    axes: dict[str, tuple[list[str], list[str]]] = {}
    for name in names:
        if any(word in name for word in NOT_A_FACE):
            continue
        stem, end = name.rsplit("-", 1)
        paired = end in OPPOSITES or end in OPPOSITES.values()
        key = (stem if paired else name).replace("/l-", "/").replace("/r-", "/")
        plus, minus = axes.setdefault(key, ([], []))
        (minus if end in OPPOSITES else plus).append(name)
    return list(axes.values())


def identity_dirs(
    source: MakeHuman,
    move: Callable[[np.ndarray], np.ndarray],
    template: np.ndarray,
    weights: np.ndarray,
    num_directions: int,
) -> tuple[np.ndarray, float]:
    """Directions (verts, 3, num_directions) of unit variance, and the share of the samples' variance that they hold.

    Args:
        source: where the targets are.
        move: carries a target's displacement to the head's vertices.
        template: (verts, 3) metres.
        weights: skinning weights (verts, 5).
        num_directions: how many.
    """
    rng = np.random.default_rng(0)
    cache: dict[str, np.ndarray] = {}

    def moved(name: str) -> np.ndarray:
        if name not in cache:
            cache[name] = move(source.target(name)).astype(np.float32)
        return cache[name]

    axes = identity_axes([n for folder in IDENTITY_FOLDERS for n in source.target_names(folder)])
    sums = [[sum(moved(n) for n in names) if names else 0.0 for names in axis] for axis in axes]
    neutral = sum(share * moved(name) for name, share in NEUTRAL.items())
    skull = weights[:, 1] > 0.98
    samples = []
    for _ in track(range(NUM_SAMPLES), "people"):
        shares = macro_shares(
            age=rng.beta(1, 2),
            male=rng.beta(0.7, 0.7),
            muscle=rng.uniform(-0.8, 0.8),
            weight=rng.uniform(-0.7, 0.9),
            origin=rng.dirichlet([0.8] * 3),
        )
        change = sum(share * moved(name) for name, share in shares.items()) - neutral
        for (plus, minus), amount in zip(sums, rng.normal(0, LOCAL_AMOUNT, len(sums)), strict=True):
            change = change + (amount * plus if amount > 0 else -amount * minus)
        samples.append(without_rigid_motion(template, change, skull))
    importance = np.where(weights[:, 0] > 0.5, TRUNK_IMPORTANCE, 1.0)
    return principal_directions(np.stack(samples), importance, num_directions)


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
