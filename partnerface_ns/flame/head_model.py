"""The head model: FLAME's arrays, checked once when they are loaded.

Any model with FLAME's structure works: five joints (global, neck, jaw, left eye, right eye), identity and
expression directions, pose correctives and linear blend skinning. Lengths are metres. The rest frame has x to the
subject's left, y up, z out of the face. The arrays are never written into a checkpoint or an export.
Source: Li et al., "Learning a model of facial shape and expression from 4D scans", 2017.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.npz_file import read_npz, require_bounded
from partnerface_ns.flame.joints import JOINT_NAMES, JOINT_PARENTS, Joint
from partnerface_ns.flame.pickle_file import MAX_BYTES, read_flame_pickle
from partnerface_ns.flame.regions import REGION_NAMES, derive_regions

NUM_FLAME_IDENTITY = 300
"""The first 300 of FLAME's 400 shape directions are identity, the others expression."""
_SIZE = (0.05, 5.0)
"""Range of a head's largest extent in metres, with or without shoulders."""
_REGRESSOR_TOLERANCE = 0.01
_MAX_NUMBER = 2.0**32
"""Bound for all lengths, weights and indices. FLAME stores 2**32 - 1 as the parent of the root."""


@dataclass(frozen=True)
class HeadModel:
    """A head model with FLAME's structure."""

    name: str
    template: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]
    identity_dirs: Float[Tensor, "verts 3 identity"]
    expression_dirs: Float[Tensor, "verts 3 expr"]
    pose_dirs: Float[Tensor, "correctives verts3"]
    """Vertex offsets per entry of (R - I) of the four joints below the root, flattened over verts and xyz; 36 rows."""
    joint_regressor: Float[Tensor, "joints verts"]
    skinning_weights: Float[Tensor, "verts joints"]
    expression_names: tuple[str, ...]
    regions: dict[str, Float[Tensor, "verts"]] = field(repr=False)
    """Soft vertex masks in [0, 1], one for each of `regions.REGION_NAMES`."""

    @property
    def num_verts(self) -> int:
        return self.template.shape[0]

    @property
    def num_identity(self) -> int:
        return self.identity_dirs.shape[-1]

    @property
    def num_expr(self) -> int:
        return self.expression_dirs.shape[-1]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of template and directions. It depends on what coefficients mean, not on the file of the model."""
        digest = hashlib.sha256()
        for array in (self.template, self.identity_dirs, self.expression_dirs):
            digest.update(np.ascontiguousarray(array.cpu().numpy().astype(np.float16)).tobytes())
        return digest.hexdigest()[:16]

    def to(self, device: torch.device | str) -> HeadModel:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        regions = {name: mask.to(device) for name, mask in self.regions.items()}
        return replace(self, regions=regions, **tensors)


def load_head_model(path: Path) -> HeadModel:
    """Read a head model from an `.npz` with FLAME's keys, or from FLAME's own pickle.

    FLAME's keys are v_template, f, shapedirs, posedirs, J_regressor, kintree_table and weights. Optional keys are
    `n_id` (the number of shapedirs that are identity), `expr_names`, `mask_<region>` (uint8, 0 to 255) and `name`.

    Raises:
        InputError: the file is not such a model. Names key, expected and found value.
    """
    return head_model_from_arrays(load_head_arrays(Path(path)), path)


def load_head_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a head model file, not yet checked.

    Raises:
        InputError: the file does not exist or cannot be read safely.
    """
    if path.suffix == ".npz":
        return read_npz(path, max_bytes=MAX_BYTES)
    if path.suffix in (".pkl", ".pickle"):
        return read_flame_pickle(path)
    raise InputError(path, "not a readable head model", expected="an .npz or .pkl file", actual=path.suffix)


def head_model_from_arrays(arrays: dict[str, np.ndarray], path: Path) -> HeadModel:
    """Check the arrays of a head model and build it. The keys are those of `load_head_model`.

    Raises:
        InputError: an array is missing or wrong. Names `path`, key, expected and found value.
    """
    template = _template(arrays, path)
    num_verts = template.shape[0]
    faces, weights = _faces(arrays, path, num_verts), _weights(arrays, path, num_verts)
    shape_dirs = _array(arrays, path, "shapedirs", (num_verts, 3, None))
    num_identity = _num_identity(arrays, path, shape_dirs.shape[-1])
    _check_tree(arrays, path)
    num_correctives = 9 * (len(JOINT_NAMES) - 1)
    pose_dirs = _array(arrays, path, "posedirs", (num_verts, 3, num_correctives))
    masks = {name: _mask(arrays, path, f"mask_{name}", num_verts) for name in REGION_NAMES if f"mask_{name}" in arrays}
    return HeadModel(
        name=_texts(arrays, path, "name")[0] if "name" in arrays else path.stem,
        template=_tensor(template),
        faces=torch.from_numpy(faces),
        identity_dirs=_tensor(shape_dirs[..., :num_identity]),
        expression_dirs=_tensor(shape_dirs[..., num_identity:]),
        pose_dirs=_tensor(pose_dirs.reshape(-1, num_correctives).T),
        joint_regressor=_tensor(_regressor(arrays, path, num_verts)),
        skinning_weights=_tensor(weights / weights.sum(-1, keepdims=True)),
        expression_names=_expression_names(arrays, path, shape_dirs.shape[-1] - num_identity),
        regions={name: _tensor(mask) for name, mask in derive_regions(template, faces, weights, masks).items()},
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _template(arrays: dict[str, np.ndarray], path: Path) -> np.ndarray:
    template = _array(arrays, path, "v_template", (None, 3))
    if len(template) == 0 or not _SIZE[0] < np.ptp(template, axis=0).max() < _SIZE[1]:
        raise InputError(path, "not a head in metres", key="v_template", expected="{} to {} m".format(*_SIZE))
    return template


def _num_identity(arrays: dict[str, np.ndarray], path: Path, num_shape: int) -> int:
    """Number of shape directions that are identity."""
    num_identity = float(_array(arrays, path, "n_id", ())) if "n_id" in arrays else NUM_FLAME_IDENTITY
    if not 0 < num_identity < num_shape or num_identity != int(num_identity):
        raise InputError(
            path, "the number of identity directions is wrong", key="n_id", expected=f"1 to {num_shape - 1}"
        )
    return int(num_identity)


def _expression_names(arrays: dict[str, np.ndarray], path: Path, num_expr: int) -> tuple[str, ...]:
    if "expr_names" not in arrays:
        return tuple(f"expr_{i:02d}" for i in range(num_expr))
    names = _texts(arrays, path, "expr_names")
    if len(names) != num_expr:
        raise InputError(path, "each expression needs one name", key="expr_names", expected=num_expr, actual=len(names))
    return tuple(names)


def _regressor(arrays: dict[str, np.ndarray], path: Path, num_verts: int) -> np.ndarray:
    regressor = _array(arrays, path, "J_regressor", (len(JOINT_NAMES), num_verts))
    if np.abs(regressor.sum(-1) - 1).max() > _REGRESSOR_TOLERANCE:
        problem = "joints are not weighted means of vertices"
        raise InputError(path, problem, key="J_regressor", expected="rows that sum to 1")
    return regressor


def _array(arrays: dict[str, np.ndarray], path: Path, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One checked array in float32. None in `shape` means any size."""
    if key not in arrays:
        raise InputError(path, "a key is missing", key=key, actual=f"keys {', '.join(sorted(arrays))}")
    array = arrays[key]
    wanted = tuple("any" if s is None else s for s in shape)
    if array.ndim != len(shape) or any(s not in (None, n) for s, n in zip(shape, array.shape, strict=True)):
        raise InputError(path, "wrong shape", key=key, expected=wanted, actual=array.shape)
    if array.dtype.kind not in "fiu":
        raise InputError(path, "not a number array", key=key, actual=array.dtype)
    require_bounded(array, _MAX_NUMBER, path, key)
    return array.astype(np.float32)


def _faces(arrays: dict[str, np.ndarray], path: Path, num_verts: int) -> np.ndarray:
    given = _array(arrays, path, "f", (None, 3))
    faces = given.astype(np.int64)
    if faces.size == 0 or faces.min() < 0 or faces.max() >= num_verts or (faces != given).any():
        raise InputError(path, "faces have invalid vertex indices", key="f", expected=f"0 to {num_verts - 1}")
    return faces


def _weights(arrays: dict[str, np.ndarray], path: Path, num_verts: int) -> np.ndarray:
    weights = _array(arrays, path, "weights", (num_verts, len(JOINT_NAMES)))
    if (weights < 0).any() or (weights.sum(-1) <= 0).any():
        raise InputError(path, "skinning weights must be non-negative with a positive sum", key="weights")
    if (weights[:, Joint.ROOT] > 0.5 * weights.sum(-1)).all():
        raise InputError(path, "no vertex follows the joints of the head", key="weights")
    return weights


def _mask(arrays: dict[str, np.ndarray], path: Path, key: str, num_verts: int) -> np.ndarray:
    mask = _array(arrays, path, key, (num_verts,))
    if mask.min() < 0 or mask.max() > 255:
        raise InputError(path, "wrong values", key=key, expected="0 to 255", actual=f"{mask.min():g} to {mask.max():g}")
    return mask / 255.0


def _texts(arrays: dict[str, np.ndarray], path: Path, key: str) -> list[str]:
    """A list of printable texts; a single text counts as a list of one."""
    texts = arrays[key].reshape(-1).tolist() if arrays[key].ndim < 2 else []
    if not texts or not all(isinstance(text, str) and text.isprintable() and 0 < len(text) <= 200 for text in texts):
        raise InputError(path, "not a text", key=key, expected="names of 1 to 200 printable characters")
    return texts


def _check_tree(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Check that the joint tree is FLAME's. The parent of the root is ignored; real files store 2**32 - 1."""
    tree = _array(arrays, path, "kintree_table", (2, len(JOINT_NAMES)))
    if tuple(int(p) for p in tree[0][1:]) != JOINT_PARENTS[1:]:
        raise InputError(path, "not FLAME's joints", key="kintree_table", expected=JOINT_PARENTS, actual=tree[0])
