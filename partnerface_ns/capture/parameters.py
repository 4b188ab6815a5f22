"""Reading and checking FLAME parameters from a user's files, and joining them into a track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64, Num

from partnerface_ns.capture.json_object import MAX_NUMBER
from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.common.npz_file import require_bounded
from partnerface_ns.flame.state import HeadState

IDENTITY_TOLERANCE = 1e-3
"""Largest difference of identity coefficients between two frames of one person."""
_COUNTS = {"rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}


def read_vector(
    arrays: Mapping[str, np.ndarray], key: str, count: int | None, source: Path
) -> Float[np.ndarray, "count"]:
    """Read an array as a checked float32 vector. Leading axes of size 1 are dropped.

    Args:
        arrays: the file's content.
        key: name of the array.
        count: required number of entries; None allows 1 to 1000.
        source: the file, for error messages.

    Raises:
        InputError: missing, wrong shape, not numbers, not finite or too large.
    """
    values = read_numbers(arrays, key, source)
    wanted = (1, "1 to 1000" if count is None else count)
    if values.ndim == 0 or any(size != 1 for size in values.shape[:-1]):
        raise InputError(source, "wrong shape", key=key, expected=wanted, actual=values.shape)
    size = values.shape[-1]
    if size != count if count is not None else not 0 < size <= 1000:
        raise InputError(source, "wrong shape", key=key, expected=wanted, actual=values.shape)
    return values.reshape(-1).astype(np.float32)


def read_numbers(arrays: Mapping[str, np.ndarray], key: str, source: Path) -> Num[np.ndarray, "*shape"]:
    """Read an array of any shape. Its numbers must be finite and not too large.

    Raises:
        InputError: missing, not numbers, not finite or too large.
    """
    if key not in arrays:
        raise InputError(source, "a key is missing", key=key, actual=shorten(f"keys {', '.join(sorted(arrays))}"))
    values = arrays[key]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise InputError(source, "not an array of numbers", key=key, actual=getattr(values, "dtype", type(values)))
    require_bounded(values, MAX_NUMBER, source, key)
    return values


def make_state(
    expression: Float[np.ndarray, "expr"],
    rotation: Float[np.ndarray, "3"] | None = None,
    neck: Float[np.ndarray, "3"] | None = None,
    jaw: Float[np.ndarray, "3"] | None = None,
    eyes: Float[np.ndarray, "6"] | None = None,
    translation: Float[np.ndarray, "3"] | None = None,
    torso: Float[np.ndarray, "6"] | None = None,
) -> HeadState:
    """The head state of one frame; None means zero, and for the torso that it is not known."""
    given = {"rotation": rotation, "neck": neck, "jaw": jaw, "eyes": eyes, "translation": translation}
    rest = {
        name: torch.from_numpy(np.zeros(_COUNTS[name], np.float32) if v is None else v.astype(np.float32))
        for name, v in given.items()
    }
    known_torso = None if torso is None else torch.from_numpy(torso.astype(np.float32))
    return HeadState(expression=torch.from_numpy(expression.astype(np.float32)), **rest, torso=known_torso)


def join_states(states: Sequence[HeadState], sources: Sequence[Path]) -> HeadState:
    """Join the states of all timesteps.

    Raises:
        InputError: their numbers of expression coefficients differ, or only some have a torso. Names the file.
    """
    count, has_torso = states[0].expression.shape[-1], states[0].torso is not None
    for state, source in zip(states, sources, strict=True):
        if (state.torso is not None) != has_torso:
            raise InputError(source, "only some frames have a torso pose", expected="all frames, or none")
        if state.expression.shape[-1] != count:
            raise InputError(
                source,
                "another number of expression coefficients than in the first frame",
                expected=count,
                actual=state.expression.shape[-1],
            )
    return HeadState.stack(states)


def pad_zeros(values: Float[np.ndarray, "stored"], count: int) -> Float[np.ndarray, "count"]:
    """Coefficients padded with zeros. Trackers that use only FLAME's first directions store only those."""
    return np.concatenate([values, np.zeros(max(0, count - len(values)), values.dtype)])


def check_identity(
    identity: Float[np.ndarray, "*shape"], first: Float[np.ndarray, "*first_shape"], source: Path, key: str
) -> None:
    """Check that a frame shows the same person as the first frame.

    Raises:
        InputError: identity coefficients or vertex offsets differ.
    """
    if identity.shape != first.shape or np.abs(identity - first).max() > IDENTITY_TOLERANCE:
        raise InputError(source, "another person than in the first frame", key=key, expected="one for all frames")


def read_array(
    arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int, ...], source: Path
) -> Float64[np.ndarray, "*shape"]:
    """Read an array of exactly this shape as float64. Further leading axes of size 1 are dropped.

    Raises:
        InputError: missing, wrong shape, not numbers, not finite or too large.
    """
    values = read_numbers(arrays, key, source)
    extra = values.ndim - len(shape)
    if extra < 0 or values.shape[extra:] != shape or any(size != 1 for size in values.shape[:extra]):
        raise InputError(source, "wrong shape", key=key, expected=(1, *shape), actual=values.shape)
    return values.reshape(shape).astype(np.float64)
