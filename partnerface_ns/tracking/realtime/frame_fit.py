"""The head state of one frame: a few Gauss-Newton steps that start at the state of the frame before.

The change between two frames has a prior. Its standard deviations are generous, because landmarks determine most of the
state: the prior only damps what the landmarks leave open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.alignment import align_points
from partnerface_ns.tracking.fit.photometric.corrections import EYES, JAW, NUM_POSE, PLACE, SKULL, Corrections
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints
from partnerface_ns.tracking.realtime.landmark_energy import LandmarkEnergy, Person

_STEPS, _FIRST_STEPS = 2, 8
"""Gauss-Newton steps of a frame, and of the first frame of a face."""
_FRAME_SECONDS = 0.04
"""Seconds between frames for which `Changes` are stated."""
_MAX_FRAMES = 10.0
"""Frames between two states after which the prior of the change becomes no wider."""
_OPEN = 1e3
"""Standard deviation of a correction without a prior."""


@dataclass(frozen=True)
class Changes:
    """Standard deviations of the change from one frame to the next at 25 frames per second."""

    skull: float = 0.08
    """Radians."""
    place: float = 0.015
    """Metres."""
    jaw: float = 0.08
    """Radians."""
    gaze: float = 0.15
    """Radians."""
    expression: float = 0.15
    eyelid: float = 0.5
    """Large, because a blink lasts only four frames."""

    def sigmas(self, names: tuple[str, ...], seconds: float) -> Float[Tensor, "corrections"]:
        """The standard deviation of each correction after some seconds (a random walk)."""
        lids = torch.tensor([name.startswith(("eyeBlink", "eyeSquint")) for name in names])
        pose = torch.empty(NUM_POSE)
        for part, sigma in ((SKULL, self.skull), (PLACE, self.place), (JAW, self.jaw), (EYES, self.gaze)):
            pose[part] = sigma
        frames = min(max(seconds / _FRAME_SECONDS, 0.1), _MAX_FRAMES)
        return torch.cat([pose, torch.where(lids, self.eyelid, self.expression)]) * frames**0.5


class FrameFit:
    """Fits head states of one person."""

    def __init__(self, energy: LandmarkEnergy, person: Person, neutral: HeadState) -> None:
        """
        Args:
            energy: the energy.
            person: the person.
            neutral: the person's neutral state, batch axes (); its torso does not move.
        """
        self._energy, self._person, self._neutral = energy, person, neutral
        self._changes = Changes()

    def start(self, detected: Float[Tensor, "landmarks 3"]) -> HeadState:
        """The state of a face whose last state is not known, batch axes ().

        Args:
            detected: the detected landmarks, as in `LandmarkEnergy`.
        """
        guess = guess_states(self._person.head, detected[None], self._person, self._neutral)
        return self._improve(guess, detected, _FIRST_STEPS, torch.full((NUM_POSE + self._num_expr,), _OPEN))

    def follow(self, last: HeadState, detected: Float[Tensor, "landmarks 3"], seconds: float) -> HeadState:
        """The state of the next frame, batch axes ().

        Args:
            last: the state before, batch axes ().
            detected: the detected landmarks, as in `LandmarkEnergy`.
            seconds: time since the state before.
        """
        sigmas = self._changes.sigmas(self._energy.model.expression_names, seconds)
        return self._improve(HeadState.stack([last]), detected, _STEPS, sigmas)

    def error(self, state: HeadState, detected: Float[Tensor, "landmarks 3"]) -> float:
        """Median distance of the landmarks from the detected ones, pixels at 512."""
        return float(self._energy.errors(self._person, HeadState.stack([state]), detected[None]).median())

    @property
    def _num_expr(self) -> int:
        return self._energy.model.num_expr

    def _improve(
        self,
        states: HeadState,
        detected: Float[Tensor, "landmarks 3"],
        steps: int,
        sigmas: Float[Tensor, "corrections"],
    ) -> HeadState:
        corrections, precision = Corrections.zero(states, self._person.face), sigmas.square().reciprocal()
        for _ in range(steps):
            states = corrections.states()
            equations = self._energy.equations(self._person, states, detected[None])
            force, stiffness = self._energy.prior(states, self._energy.priors.expression)
            hessian = equations.hessian + torch.diag_embed(stiffness + precision)
            gradient = equations.gradient + force + precision * corrections.values
            corrections = corrections.add(-torch.linalg.solve(hessian, gradient))
        return corrections.states()[0]


def guess_states(
    head: ShapedHead, detected: Float[Tensor, "frames landmarks 3"], person: Person, neutral: HeadState
) -> HeadState:
    """States whose face is neutral and whose skull is aligned with the detected landmarks (Procrustes).

    Args:
        head: the landmarks and the joints.
        detected: the detected landmarks.
        person: the person, for the focal length and the face's centre.
        neutral: the face and the torso's rotation, batch axes ().
    """
    from scipy.spatial.transform import Rotation

    num = detected.shape[1]
    rest, flip = head.verts_rest[:num].double().numpy(), np.array([1.0, -1.0, -1.0])
    aligned = [align_points(rest, points.double().numpy() * flip) for points in detected]
    torso = Rotation.from_rotvec(neutral.rotation.double().numpy())
    necks = torso.inv() * Rotation.from_matrix(np.stack([similarity.rotation for similarity in aligned]))
    states = HeadState.stack([neutral] * len(detected))
    states.neck.copy_(torch.from_numpy(necks.as_rotvec()))
    states.translation.zero_()
    centres = PosedPoints.of(head, states, person.face).face
    metres = torch.tensor([1 / similarity.scale for similarity in aligned], dtype=torch.float32)[:, None]
    place = (detected[..., :2] * torch.tensor([1.0, -1.0])).mean(1)
    target = torch.cat([place, torch.full_like(place[:, :1], -person.focal)], -1) * metres
    states.translation.copy_(target - centres)
    return states
