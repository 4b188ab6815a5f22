"""The unknowns of the photometric fit: small corrections of each frame's head state, their priors and their solution.

The corrections of one frame are, in this order, those of skull, position, jaw, eyes and expression. Rotations are
applied from the left in the frame of the parent joint. A rotation of the skull leaves the face's centre in place, so
that it does not need a compensating movement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.tracking.fit.energy import Steadiness, pseudo_huber_weight

SKULL, PLACE, JAW, EYES = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 11)
NUM_POSE = 11
"""Number of corrections before those of the expression."""


@dataclass(frozen=True)
class CorrectionPriors:
    """Standard deviations of the corrections; angles are radians, lengths metres."""

    skull: float = 0.1
    place: float = 0.01
    jaw: float = 0.03
    jaw_side: float = 0.02
    eyes: float = 0.1
    expression: float = 0.1

    def vector(self, num_expr: int) -> Float[Tensor, "corrections"]:
        """The standard deviation of each correction."""
        jaw = [self.jaw, self.jaw_side, self.jaw_side]
        pose = [self.skull] * 3 + [self.place] * 3 + jaw + [self.eyes] * 2
        return torch.tensor(pose + [self.expression] * num_expr)


@dataclass(frozen=True)
class Corrections:
    """Corrections of a track."""

    track: HeadState
    """The track before the correction."""
    face: Float[Tensor, "3"]
    """The face's centre relative to the neck joint, rest frame, metres."""
    values: Float[Tensor, "frames corrections"]
    """In the order of the module's text: radians, metres, and coefficients of the expression."""

    @staticmethod
    def zero(track: HeadState, face: Float[Tensor, "3"]) -> Corrections:
        num_frames, num_expr = track.expression.shape
        return Corrections(track, face, torch.zeros(num_frames, NUM_POSE + num_expr))

    def add(self, step: Float[Tensor, "frames corrections"]) -> Corrections:
        return replace(self, values=self.values + step)

    def states(self) -> HeadState:
        """The corrected track."""
        track, values = self.track, self.values
        neck = rotate(values[:, SKULL], track.neck)
        turn = rotation_from_axis_angle(neck) - rotation_from_axis_angle(track.neck)
        shift = torch.einsum("fab,fbc,c->fa", rotation_from_axis_angle(track.rotation), turn, self.face)
        look = torch.nn.functional.pad(values[:, EYES], (0, 1))
        return HeadState(
            expression=track.expression + values[:, NUM_POSE:],
            rotation=track.rotation,
            neck=neck,
            jaw=rotate(values[:, JAW], track.jaw),
            eyes=track.eyes + torch.cat([look, look], -1),
            translation=track.translation + values[:, PLACE] - shift,
        )


def rotate(turn: Float[Tensor, "frames 3"], rotation: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3"]:
    """Axis-angle vectors of rotations after a further rotation."""
    from scipy.spatial.transform import Rotation

    product = Rotation.from_rotvec(turn.double().numpy()) * Rotation.from_rotvec(rotation.double().numpy())
    return torch.from_numpy(product.as_rotvec()).float()


@dataclass(frozen=True)
class Chain:
    """The steadiness prior: second differences in time of the corrected track.

    To first order they are second differences of the corrections plus those of the track. The energy is that of
    `energy.steadiness_energy`.
    """

    of_track: Float[Tensor, "inner corrections"]
    """Second differences of the track before the correction."""
    precision: Float[Tensor, "inner corrections"]
    """Inverse variances; 0 at frames without neighbours."""

    @staticmethod
    def of(
        track: HeadState,
        face: Float[Tensor, "3"],
        neck_joint: Float[Tensor, "3"],
        neighbours: Float[Tensor, "frames"],
        sigmas: Float[Tensor, "corrections"],
    ) -> Chain:
        """
        Args:
            track: the track before the correction.
            face: the face's centre relative to the neck joint, rest frame, metres.
            neck_joint: the neck joint relative to the root joint, rest frame, metres.
            neighbours: 1 at frames with neighbours in time, else 0.
            sigmas: standard deviations of the second differences.
        """
        root, neck = rotation_from_axis_angle(track.rotation), rotation_from_axis_angle(track.neck)
        centre = torch.einsum("fab,fb->fa", root, neck @ face + neck_joint) + track.translation
        values = torch.cat([centre, track.jaw, track.eyes[:, :2], track.expression], -1)
        second = torch.cat([_turning(track.neck), values[2:] - 2 * values[1:-1] + values[:-2]], -1)
        return Chain(second, neighbours[1:-1, None] / sigmas.square())

    def reweighted(self, values: Float[Tensor, "frames corrections"]) -> Chain:
        """The prior whose squares have the gradient of the robust energy at some corrections."""
        squared = self._second_differences(values).square() * self.precision
        return replace(self, precision=self.precision * pseudo_huber_weight(squared))

    def _second_differences(self, values: Float[Tensor, "frames corrections"]) -> Float[Tensor, "inner corrections"]:
        return self.of_track + values[2:] - 2 * values[1:-1] + values[:-2]

    def energy_gradient(self, values: Float[Tensor, "frames corrections"]) -> Float[Tensor, "frames corrections"]:
        """Gradient of the quadratic energy at some corrections."""
        force = self.precision * self._second_differences(values)
        gradient = torch.zeros_like(values)
        for offset, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
            gradient[offset : offset + len(force)] += factor * force
        return gradient

    def bands(self) -> tuple[Float[Tensor, "frames corrections"], ...]:
        """Curvature between corrections of frames that are 0, 1 and 2 frames apart; unused ends are 0."""
        p = self.precision
        result = tuple(torch.zeros(len(p) + 2, p.shape[1]) for _ in range(3))
        for lag, first, factor in ((0, 0, 1), (0, 1, 4), (0, 2, 1), (1, 0, -2), (1, 1, -2), (2, 0, 1)):
            result[lag][first : first + len(p)] += factor * p
        return result


def _turning(rotation: Float[Tensor, "frames 3"]) -> Float[Tensor, "inner 3"]:
    """Differences between successive rotations from frame to frame, axis-angle."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_rotvec(rotation.double().numpy())
    between = (turns[1:] * turns[:-1].inv()).as_rotvec()
    return torch.from_numpy(np.diff(between, axis=0)).float()


def steadiness_sigmas(
    steady: Steadiness,
    expression: Float[Tensor, "expr"],
    step_seconds: float,
    pixel_size: float,
    depth: float,
) -> Float[Tensor, "corrections"]:
    """Standard deviations of second differences in time of the corrections.

    Args:
        steady: the standard deviations at 25 frames per second.
        expression: those of the expression.
        step_seconds: time between frames.
        pixel_size: size of a pixel at 512 at the face, metres.
        depth: distance of the face, metres.
    """
    place = [steady.place * pixel_size] * 2 + [steady.log_depth * depth]
    pose = [steady.angle] * 3 + place + [steady.jaw] * 3 + [steady.gaze] * 2
    return torch.cat([torch.tensor(pose), expression]) * min(25.0, (step_seconds / 0.04) ** 2)


def solve_chain(
    hessian: Float[Tensor, "frames n n"], gradient: Float[Tensor, "frames n"], chain: Chain
) -> Float[Tensor, "frames n"]:
    """Solve for the step that minimises the quadratic energy of all frames, with the steadiness prior (Newton).

    The matrix is banded: frames are coupled with the two before and the two after them.
    """
    from scipy.linalg import solveh_banded

    num_frames, n = gradient.shape
    diagonal, *others = (band.double().numpy() for band in chain.bands())
    blocks = hessian.double().numpy() + np.eye(n) * diagonal[:, None]
    banded = np.zeros((2 * n + 1, num_frames * n))
    for below in range(n):
        columns = np.arange(n - below)
        banded[below].reshape(num_frames, n)[:, : n - below] = blocks[:, columns + below, columns]
    for lag, band in enumerate(others, 1):
        banded[lag * n] += band.reshape(-1)
    step = solveh_banded(banded, -gradient.double().numpy().reshape(-1), lower=True, overwrite_ab=True)
    return torch.from_numpy(step.reshape(num_frames, n)).float()
