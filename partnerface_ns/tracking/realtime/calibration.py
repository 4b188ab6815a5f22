"""Measurement in the first seconds of a live video: identity, focal length and the neutral face.

All frames share the identity and the focal length; each frame has its own head state. Gauss-Newton steps solve for all
of them: the head states are eliminated (Schur complement), and updated after the shape. The errors are robust, so that
a frame in which the person blinks or speaks does not disturb the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.neutral import central_frame
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.landmark_weights import head_rotation
from partnerface_ns.tracking.fit.photometric.corrections import PLACE, SKULL, Corrections
from partnerface_ns.tracking.fit.photometric.equations import NormalEquations
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints
from partnerface_ns.tracking.fit.problem import CORRELATED_FRAMES
from partnerface_ns.tracking.realtime.frame_fit import guess_states
from partnerface_ns.tracking.realtime.landmark_energy import LandmarkEnergy, Person

_TORSO_SHARE = 0.2
"""Share of the head's rotation that the torso has; the neck has the rest."""
_POSE_STEPS, _SHAPE_STEPS, _BIAS_STEPS, _NEUTRAL_STEPS = 5, 8, 4, 3
"""Numbers of Gauss-Newton steps: for the states; for all unknowns; for all unknowns and the landmarks' offsets; for the
states with the priors of later frames."""
_DAMPING = ((SKULL, 0.3), (PLACE, 0.1))
"""Standard deviation of a single step of skull (radians) and position (metres)."""
_MAX_FOCAL_STEP = 0.3
"""Largest relative change of the focal length in one step."""
_VERGENCE = 0.02
"""Inward rotation of each eye for a gaze at a distance of 1.5 metres, radians."""


@dataclass(frozen=True)
class Calibration:
    """The result of the first seconds."""

    person: Person
    neutral: HeadState
    """The neutral face at the usual head pose, batch axes ()."""
    error: float
    """Median error of the landmarks, pixels at 512."""


def calibrate(
    energy: LandmarkEnergy, detected: Float[Tensor, "frames landmarks 3"], expected_focal: float
) -> Calibration:
    """Fit a person to frames in which they look at the camera and keep still.

    Args:
        energy: the energy.
        detected: the detected landmarks, as in `LandmarkEnergy`.
        expected_focal: expected focal length, pixels.
    """
    model, repetitions = energy.model, max(1.0, len(detected) / CORRELATED_FRAMES)
    bias = torch.zeros(detected.shape[1], 3)
    person = Person.of(model, torch.zeros(model.num_identity), bias, expected_focal)
    states = _initial_states(person, detected)
    for _ in range(_POSE_STEPS):
        states = _improve_states(energy, person, states, detected, energy.priors.mean_expression)
    for step in range(_SHAPE_STEPS + _BIAS_STEPS):
        person, states = _improve_all(energy, person, states, detected, expected_focal, repetitions)
        if step >= _SHAPE_STEPS:
            person = energy.improve_bias(person, states, detected, repetitions)
    for _ in range(_NEUTRAL_STEPS):
        states = _improve_states(energy, person, states, detected, energy.priors.expression)
    error = float(energy.errors(person, states, detected).median())
    return Calibration(person, _neutral(states), error)


def _initial_states(person: Person, detected: Float[Tensor, "frames landmarks 3"]) -> HeadState:
    """Aligned states at rest. The torso takes a share of the mean rotation of the head."""
    from scipy.spatial.transform import Rotation

    rest = HeadState.neutral(person.head.model.num_expr)
    rest.eyes[1], rest.eyes[4] = -_VERGENCE, _VERGENCE
    facing = guess_states(person.head, detected, person, rest)
    mean = Rotation.from_rotvec(facing.neck.double().numpy()).mean().as_rotvec()
    rest.rotation.copy_(torch.from_numpy(_TORSO_SHARE * mean))
    return guess_states(person.head, detected, person, rest)


def _improve_states(
    energy: LandmarkEnergy,
    person: Person,
    states: HeadState,
    detected: Float[Tensor, "frames landmarks 3"],
    expression_sigma: float,
) -> HeadState:
    """One Gauss-Newton step of the states."""
    equations = energy.equations(person, states, detected)
    force, stiffness = _prior(energy, states, expression_sigma)
    step = torch.linalg.solve(equations.hessian + torch.diag_embed(stiffness), equations.gradient + force)
    return Corrections.zero(states, person.face).add(-step).states()


def _prior(
    energy: LandmarkEnergy, states: HeadState, expression_sigma: float
) -> tuple[Float[Tensor, "frames corrections"], Float[Tensor, "frames corrections"]]:
    """Gradient and curvature of the priors, and of the damping."""
    force, stiffness = energy.prior(states, expression_sigma)
    for part, sigma in _DAMPING:
        stiffness[:, part] += sigma**-2
    return force, stiffness


def _improve_all(
    energy: LandmarkEnergy,
    person: Person,
    states: HeadState,
    detected: Float[Tensor, "frames landmarks 3"],
    expected_focal: float,
    repetitions: float,
) -> tuple[Person, HeadState]:
    """One Gauss-Newton step of the states, the identity and the focal length."""
    equations = energy.equations(person, states, detected, with_shape=True)
    force, stiffness = _prior(energy, states, energy.priors.mean_expression)
    n = force.shape[1]
    own = equations.hessian[:, :n, :n] + torch.diag_embed(stiffness)
    shape_step, follow = _solve_shape(energy, person, equations, own, force, expected_focal, repetitions)
    focal_step = float(shape_step[-1].clamp(-_MAX_FOCAL_STEP, _MAX_FOCAL_STEP))
    states = Corrections.zero(states, person.face).add(follow).states()
    depth = PosedPoints.of(person.head, states, person.face).face[:, 2:]
    translation = states.translation + torch.nn.functional.pad(focal_step * depth, (2, 0))
    person = Person.of(energy.model, person.identity + shape_step[:-1], person.bias, person.focal * (1 + focal_step))
    return person, replace(states, translation=translation)


def _solve_shape(
    energy: LandmarkEnergy,
    person: Person,
    equations: NormalEquations,
    own: Float[Tensor, "frames corrections corrections"],
    force: Float[Tensor, "frames corrections"],
    expected_focal: float,
    repetitions: float,
) -> tuple[Float[Tensor, "shape"], Float[Tensor, "frames corrections"]]:
    """Steps of the shape's unknowns and of all frames' corrections."""
    n, H, p = force.shape[1], equations.hessian, energy.priors
    cross, gradient = H[:, :n, n:], equations.gradient[:, :n] + force
    solved = torch.linalg.solve(own, torch.cat([cross, gradient[..., None]], -1))
    log_focal = torch.tensor([person.focal / expected_focal]).log()
    sigmas = torch.cat([torch.full_like(person.identity, p.identity), torch.tensor([p.log_focal])])
    precision = repetitions * sigmas.square().reciprocal()
    system = (H[:, n:, n:] - cross.mT @ solved[..., :-1]).sum(0) + torch.diag(precision)
    right = (equations.gradient[:, n:] - (cross.mT @ solved[..., -1:])[..., 0]).sum(0)
    right = right + precision * torch.cat([person.identity, log_focal])
    step = -torch.linalg.solve(system.double(), right.double()).float()
    return step, -(solved[..., -1] + solved[..., :-1] @ step)


def _neutral(states: HeadState) -> HeadState:
    """The median face at the head pose of the central frame."""
    middle = states[central_frame(head_rotation(states.rotation, states.neck), states.translation)]
    face = {name: getattr(states, name).median(0).values for name in ("expression", "jaw", "eyes")}
    return replace(middle, **face)
