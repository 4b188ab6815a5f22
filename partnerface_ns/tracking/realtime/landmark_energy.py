"""The energy of head states, given the detected landmarks of their frames, and its Gauss-Newton equations.

Detected landmarks are pixels from the principal point, x right and y down, with a depth in the same unit (smaller is
nearer). Uncertainties are those of `partnerface track`. They are stated for its square images of 512 pixels, whose side
is a multiple of the face's height, so that they scale with the face. The unknowns of a frame are the corrections of
`photometric/corrections.py`. The shape's unknowns are the identity and the logarithm of the focal length.

A focal length that grows by a small share moves the head away by the same share, so that the face keeps its size. Only
the perspective changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit import energy
from partnerface_ns.tracking.fit.energy import Priors
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.landmark_weights import eye_openness, head_rotation, landmark_weights
from partnerface_ns.tracking.fit.observations import REFERENCE_SIZE
from partnerface_ns.tracking.fit.photometric.corrections import EYES, JAW, NUM_POSE
from partnerface_ns.tracking.fit.photometric.equations import (
    NormalEquations,
    Residuals,
    bias_step,
    landmark_precision,
    landmark_residuals,
)
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints, pixel_derivatives
from partnerface_ns.tracking.fit.problem import GAP_PAIRS, GAP_SIGMA, explained_directions, landmark_bias_sigmas
from partnerface_ns.tracking.video.face_topology import CHIN, FOREHEAD

_SIDE_IN_FACES = 3.4
"""Side of the tracker's square image in heights of the face."""


@dataclass(frozen=True)
class Person:
    """What is measured once: a person's head and the camera."""

    head: ShapedHead
    """The landmarks and the joints, with the person's identity and landmark offsets."""
    identity: Float[Tensor, "identity"]
    bias: Float[Tensor, "landmarks 3"]
    """Offset of the person's landmarks from the embedding, rest frame, metres."""
    focal: float
    """Pixels."""

    @staticmethod
    def of(
        model: HeadModel, identity: Float[Tensor, "identity"], bias: Float[Tensor, "landmarks 3"], focal: float
    ) -> Person:
        """
        Args:
            model: head model of the landmarks and the joints.
            identity: coefficients of its identity directions.
            bias: offset of each landmark, metres.
            focal: pixels.
        """
        offsets = torch.nn.functional.pad(bias, (0, 0, 0, model.num_verts - len(bias)))
        return Person(ShapedHead.of(model, identity, offsets), identity, bias, focal)

    @property
    def face(self) -> Float[Tensor, "3"]:
        """The face's centre relative to the neck joint, rest frame, metres."""
        joints = len(self.head.verts_rest) - len(self.bias)
        return self.head.verts_rest[:-joints].mean(0) - self.head.verts_rest[-joints + Joint.NECK]

    def pixels(self, states: HeadState) -> Float[Tensor, "frames landmarks 2"]:
        """The landmarks of head states, pixels from the principal point."""
        return _project(self.head.pose(states).verts[:, : len(self.bias)], self.focal)


class LandmarkEnergy:
    """Errors of landmarks and priors of head states, with their derivatives."""

    def __init__(self, head: FitHead, spread: Float[np.ndarray, "landmarks"]) -> None:
        """
        Args:
            head: the reduced head model.
            spread: uncertainty of the landmarks' positions on the head, metres.
        """
        model, num = head.landmark_model, head.num_landmarks
        self.model = replace(model, identity_dirs=model.identity_dirs[..., : head.num_identity].contiguous())
        height = float(model.template[FOREHEAD, 1] - model.template[CHIN, 1])
        self.pixel_size = _SIDE_IN_FACES * height / REFERENCE_SIZE
        """Size at the face of one pixel of the tracker's image, metres."""
        self.normals = head.landmark_normals
        self.priors = Priors()
        self._num = num
        self._sigmas = energy.landmark_sigmas(spread / self.pixel_size)
        self._bias_precision = landmark_bias_sigmas(spread).square().reciprocal()
        self._explained = explained_directions(head)
        self._pairs = torch.tensor(GAP_PAIRS)
        self._is_named = not model.expression_names[0].startswith("expr_")

    def equations(
        self,
        person: Person,
        states: HeadState,
        detected: Float[Tensor, "frames landmarks 3"],
        with_shape: bool = False,
    ) -> NormalEquations:
        """The normal equations of the landmarks, without priors.

        Args:
            person: the person.
            states: the frames' head states.
            detected: the detected landmarks.
            with_shape: whether to append the unknowns of the shape.
        """
        posed = PosedPoints.of(person.head, states, person.face)
        pixels, px = _project(posed.verts[:, : self._num], person.focal), self._px(person, posed)
        terms = landmark_residuals(
            posed,
            pixels,
            detected[..., :2],
            self._sigmas * px,
            self._weights(posed, states, detected),
            self._pairs,
            GAP_SIGMA * px,
            person.focal,
            with_shape,
        )
        if with_shape:
            terms = self._with_focal(terms, posed, pixels, person.focal)
        return NormalEquations.of(terms)

    def prior(
        self, states: HeadState, expression_sigma: float
    ) -> tuple[Float[Tensor, "frames corrections"], Float[Tensor, "frames corrections"]]:
        """Gradient and curvature of the priors of head states with respect to their corrections.

        Args:
            states: the frames' head states.
            expression_sigma: standard deviation of named face units.
        """
        p = self.priors
        sigma = expression_sigma if self._is_named else p.unnamed_expression
        force = torch.zeros(len(states), NUM_POSE + self.model.num_expr)
        stiffness = torch.zeros_like(force)
        jaw_sigma = torch.where(states.jaw[:, :1] < 0, p.jaw_closed, p.jaw_open)
        sigmas = torch.cat([jaw_sigma, torch.full_like(states.jaw[:, 1:], p.jaw_side)], -1)
        stiffness[:, JAW] = sigmas.square().reciprocal()
        force[:, JAW] = stiffness[:, JAW] * states.jaw
        stiffness[:, EYES] = p.gaze**-2
        force[:, EYES] = p.gaze**-2 * (states.eyes[:, :2] + states.eyes[:, 3:5]) / 2
        stiffness[:, NUM_POSE:] = sigma**-2
        force[:, NUM_POSE:] = sigma**-2 * states.expression
        if self._is_named:
            beyond = states.expression - states.expression.clamp(0, 1)
            force[:, NUM_POSE:] += p.beyond_bounds**-2 * beyond
            stiffness[:, NUM_POSE:] += p.beyond_bounds**-2 * (beyond != 0)
        return force, stiffness

    def improve_bias(
        self, person: Person, states: HeadState, detected: Float[Tensor, "frames landmarks 3"], repetitions: float
    ) -> Person:
        """The person after one step of the landmarks' offsets.

        Args:
            person: the person.
            states: the frames' head states, which stay.
            detected: the detected landmarks.
            repetitions: weight of the offsets' prior.
        """
        posed = PosedPoints.of(person.head, states, person.face)
        error = _project(posed.verts[:, : self._num], person.focal) - detected[..., :2]
        sigmas = self._sigmas * self._px(person, posed)
        weights = landmark_precision(error, sigmas, self._weights(posed, states, detected))
        J = pixel_derivatives(posed.verts[:, : self._num], person.focal) @ posed.linear[:, : self._num]
        weighted = (weights[..., None, None] * J).mT
        precision = repetitions / energy.CORRELATED_LANDMARKS * self._bias_precision[:, None]
        hessian = torch.diag_embed(precision.expand(-1, 3)) + (weighted @ J).sum(0)
        gradient = precision * person.bias + (weighted @ error[..., None])[..., 0].sum(0)
        bias = person.bias + bias_step(hessian, gradient, self._explained)
        return Person.of(self.model, person.identity, bias, person.focal)

    def errors(
        self, person: Person, states: HeadState, detected: Float[Tensor, "frames landmarks 3"]
    ) -> Float[Tensor, "frames landmarks"]:
        """Distances of the landmarks from the detected ones, pixels of the tracker's image."""
        px = self.pixel_size * person.focal / -states.translation[:, 2, None]
        return (person.pixels(states) - detected[..., :2]).norm(dim=-1) / px

    def _px(self, person: Person, posed: PosedPoints) -> float:
        """Pixels of the frame for one pixel of the tracker's image, at the median distance of the face."""
        return self.pixel_size * person.focal / float(-posed.face[:, 2].median())

    def _weights(
        self, posed: PosedPoints, states: HeadState, detected: Float[Tensor, "frames landmarks 3"]
    ) -> Float[Tensor, "frames landmarks"]:
        rotation = head_rotation(states.rotation, states.neck)
        return landmark_weights(posed.verts[:, : self._num], rotation, self.normals, eye_openness(detected))

    def _with_focal(
        self,
        terms: list[Residuals],
        posed: PosedPoints,
        pixels: Float[Tensor, "frames landmarks 2"],
        focal: float,
    ) -> list[Residuals]:
        """The residuals of landmarks and gaps with the derivative by the logarithm of the focal length appended."""
        along = pixel_derivatives(posed.verts[:, : self._num], focal)[..., 2]
        by_focal = pixels + along * posed.face[:, None, 2:]
        first, second = self._pairs.T
        columns = [*by_focal.unbind(-1), *(by_focal[:, first] - by_focal[:, second]).unbind(-1)]
        return [
            replace(term, derivatives=torch.cat([term.derivatives, column[..., None]], -1))
            for term, column in zip(terms, columns, strict=True)
        ]


def _project(points: Float[Tensor, "frames points 3"], focal: float) -> Float[Tensor, "frames points 2"]:
    """Pixels from the principal point, x right and y down; the camera is at the origin with OpenGL axes."""
    return focal * points[..., :2] / -points[..., 2:] * torch.tensor([1.0, -1.0])
