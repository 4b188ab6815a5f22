"""Rig: named channels to head states.

A channel is zero at rest. A name is looked up in this order:

- `jaw` (opening), `gaze_yaw` and `gaze_pitch` (both eyes), `yaw`, `pitch` and `roll` (the head), all in radians
- the head model's expressions, 1 at full strength
- ARKit's 52 blendshapes, 0 to 1, in any spelling that `blendshape_names.py` normalises
- a blendshape without `Left` or `Right`, which moves both sides

Head turns are about the head's own axes y, x, z. Positive angles turn to the person's left, down, and the left side up.

ARKit's names are those of Apple's `ARFaceAnchor.BlendShapeLocation`. ARKit does not define how far jaw and eyes turn at
1; the angles are constants below. An expression that the head model does not name is fitted by `fit_expressions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.blendshape_names import normalize
from partnerface_ns.driving.expression_fit import fit_expressions
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState

NECK_SHARE = 0.3
"""Share of a head turn that the neck joint makes; the global rotation makes the rest."""
_JAW_OPEN, _JAW_SIDE, _LOOK_SIDE, _LOOK_UP = 0.35, 0.10, 0.50, 0.35
"""Radians at a blendshape of 1."""
_TURNS = ("yaw", "pitch", "roll")
JointRow = tuple[str, Mapping[int, float]]
"""What a channel of 1 adds to a head state: the field, and radians by index."""

_JOINT_CHANNELS: dict[str, JointRow] = {
    "jaw": ("jaw", {0: 1.0}),
    "gaze_yaw": ("eyes", {1: 1.0, 4: 1.0}),
    "gaze_pitch": ("eyes", {0: 1.0, 3: 1.0}),
}
_ARKIT_JOINTS: dict[str, JointRow] = {
    "jawOpen": ("jaw", {0: _JAW_OPEN}),
    "jawLeft": ("jaw", {1: _JAW_SIDE}),
    "jawRight": ("jaw", {1: -_JAW_SIDE}),
    "eyeLookUpLeft": ("eyes", {0: -_LOOK_UP}),
    "eyeLookUpRight": ("eyes", {3: -_LOOK_UP}),
    "eyeLookDownLeft": ("eyes", {0: _LOOK_UP}),
    "eyeLookDownRight": ("eyes", {3: _LOOK_UP}),
    "eyeLookOutLeft": ("eyes", {1: _LOOK_SIDE}),
    "eyeLookInLeft": ("eyes", {1: -_LOOK_SIDE}),
    "eyeLookOutRight": ("eyes", {4: -_LOOK_SIDE}),
    "eyeLookInRight": ("eyes", {4: _LOOK_SIDE}),
}


def arkit_names() -> tuple[str, ...]:
    """ARKit's 52 blendshapes: the joint rotations, and the expressions of the open head."""
    return tuple(sorted((*_ARKIT_JOINTS, *load_open_head().expression_names)))


@dataclass(frozen=True)
class Rig:
    """The channels of one head model."""

    model: HeadModel

    def states(self, channels: Mapping[str, Float[np.ndarray, "timesteps"]], source: Path | str) -> HeadState:
        """The head states of curves, batch axes (timesteps,), without translation.

        Args:
            channels: at least one curve, all of one length.
            source: where the channels come from, for error messages.

        Raises:
            InputError: a channel is unknown; the message lists the known ones.
        """
        num = len(next(iter(channels.values())))
        state = HeadState.neutral(self.model.num_expr, (num,))
        turns = np.zeros((num, 3))
        for name, values in channels.items():
            if name in _TURNS:
                turns[:, _TURNS.index(name)] = values
                continue
            curve = torch.from_numpy(np.asarray(values, np.float32))
            for field, row in self._rows(name, source):
                getattr(state, field).add_(curve[:, None] * row)
        state.rotation.copy_(_axis_angle(turns * (1 - NECK_SHARE)))
        state.neck.copy_(_axis_angle(turns * NECK_SHARE))
        return state

    def knows(self, name: str) -> bool:
        """Whether there is a channel of this name."""
        return name in _TURNS or bool(self._find_rows(name))

    def _rows(self, name: str, source: Path | str) -> list[tuple[str, Tensor]]:
        rows = self._find_rows(name)
        if not rows:
            expressions = self.model.expression_names
            listed = ", ".join(expressions[:60]) + (" ..." if len(expressions) > 60 else "")
            raise InputError(
                source,
                "unknown channel",
                key=name,
                expected=f"{', '.join((*_TURNS, *_JOINT_CHANNELS))}; ARKit's blendshapes; or {listed}",
            )
        return rows

    def _find_rows(self, name: str) -> list[tuple[str, Tensor]]:
        """Fields and rows of a channel, of both sides for a name without a side; empty if it is unknown."""
        return self._single(name) or [row for side in ("Left", "Right") for row in self._single(name + side)]

    def _single(self, name: str) -> list[tuple[str, Tensor]]:
        if name in _JOINT_CHANNELS:
            return [self._joint_row(_JOINT_CHANNELS[name])]
        if name in self.model.expression_names:
            row = torch.zeros(self.model.num_expr)
            row[self.model.expression_names.index(name)] = 1
            return [("expression", row)]
        name = self._arkit_spelling.get(normalize(name).key, name)
        if name in _ARKIT_JOINTS:
            return [self._joint_row(_ARKIT_JOINTS[name])]
        index = self._expression_index.get(name)
        return [] if index is None else [("expression", self._arkit_rows[index])]

    def _joint_row(self, row: JointRow) -> tuple[str, Tensor]:
        field, amounts = row
        values = torch.zeros(6 if field == "eyes" else 3)
        values[list(amounts)] = torch.tensor(list(amounts.values()))
        return field, values

    @cached_property
    def _arkit_spelling(self) -> dict[str, str]:
        return {normalize(name).key: name for name in arkit_names()}

    @cached_property
    def _expression_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(load_open_head().expression_names)}

    @cached_property
    def _arkit_rows(self) -> Float[Tensor, "shapes expr"]:
        """This head model's coefficients for each of the open head's expressions."""
        own, named = self.model.expression_names, load_open_head().expression_names
        if set(named) <= set(own):
            return torch.eye(len(own))[[own.index(name) for name in named]]
        return fit_expressions(load_open_head(), self.model)


def _axis_angle(yaw_pitch_roll: Float[np.ndarray, "timesteps 3"]) -> Float[Tensor, "timesteps 3"]:
    """Rotation vectors of a yaw (y), followed by pitch (x) and roll (z) in the turned frame."""
    return torch.from_numpy(Rotation.from_euler("YXZ", yaw_pitch_roll).as_rotvec().astype(np.float32))
