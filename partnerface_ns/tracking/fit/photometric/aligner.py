"""The unknowns of the photometric fit, and the steps that improve them.

Each step is a Gauss-Newton step of the energy: differences between images and template, errors of landmarks and
outline, and priors. Visibility, template and outline matches are constant between two calls of `Aligner.renew`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.tracking.fit import energy
from partnerface_ns.tracking.fit.energy import Priors, Steadiness
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.landmark_weights import eye_openness, head_rotation, landmark_weights, normalize
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.outline_matching import Matches, match_outline
from partnerface_ns.tracking.fit.photometric.corrections import (
    NUM_POSE,
    Chain,
    CorrectionPriors,
    Corrections,
    solve_chain,
    steadiness_sigmas,
)
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages
from partnerface_ns.tracking.fit.photometric.equations import (
    CORRELATED_TEXTURE,
    NormalEquations,
    OutlineErrors,
    Residuals,
    bias_step,
    landmark_precision,
    landmark_residuals,
    outline_errors,
    texture_residuals,
)
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints, pixel_derivatives
from partnerface_ns.tracking.fit.photometric.surface_points import choose_points
from partnerface_ns.tracking.fit.photometric.template import Template, make_template
from partnerface_ns.tracking.fit.photometric.visibility import visibility
from partnerface_ns.tracking.fit.problem import (
    CORRELATED_FRAMES,
    GAP_PAIRS,
    GAP_SIGMA,
    explained_directions,
    has_neighbours,
    landmark_bias_sigmas,
)

_OUTLINE_SIGMA, _OUTLINE_GATE = 1.0, 10.0
"""Uncertainty of the matte's outline and largest distance of a match, pixels at 512."""
_RELIEF_SIGMA = 0.01
"""Standard deviation of the relief, metres."""
_FAR_YAW, _PROFILE_YAW, _PROFILE_WEIGHT = 40.0, 75.0, 0.1
"""Between these turns of the head, in degrees, the weight of all landmarks falls to the last value: the detector is
biased where it sees one side only."""
_CHUNK = 8
"""Frames in memory at once."""
_SHAPE_FRAMES = 50
"""Largest number of frames that determine the shape; they are evenly spread."""
_OFFSET_SIGMA = 0.001
"""Standard deviation of the offsets of face and ears, metres."""


class Aligner:
    """The unknowns of the photometric fit and everything that its energy depends on."""

    template: Template
    matches: Matches
    seen: Float[Tensor, "frames texture"]
    """Visibility of the texture points."""
    samples: Float[Tensor, "frames texture"]
    """Values of the detail images at the texture points."""
    relief: Float[Tensor, "outline"]
    """Offset of each outline point of the surface along its normal in the rest frame, metres. It describes what the
    smooth displacements cannot, such as locks of hair. It is not part of the result."""

    def __init__(
        self,
        head: FitHead,
        observations: Observations,
        fit: Fit,
        spread: Float[np.ndarray, "landmarks"],
        num_train: int,
        details: DetailImages,
    ) -> None:
        """The arguments are those of `align_images`, and the detail images."""
        self.details, self.level = details, 0
        self.fit, self.observations, self.num_train = fit, observations, num_train
        self.points = choose_points(head)
        model, px, num = self.points.model, observations.px, head.num_landmarks
        self.bias = torch.zeros_like(model.template)
        self.bias[:num] = fit.landmark_bias
        self._set_shape(torch.nn.functional.pad(fit.identity, (0, model.num_identity - len(fit.identity))))
        root, neck = self.shaped.verts_rest[-5:-3]
        self.face = self.shaped.verts_rest[:num].mean(0) - neck
        self._set_corrections(Corrections.zero(fit.track, self.face))
        depth = float(-fit.track.translation[:, 2].median())
        pixel_size = depth / fit.focal
        steady, times = Steadiness(), observations.times
        step_seconds = float(torch.diff(times).median())
        expression = steady.of_expression(model.expression_names)
        sigmas = steadiness_sigmas(steady, expression, step_seconds, pixel_size * px, depth)
        self.steadiness = Chain.of(fit.track, self.face, neck - root, has_neighbours(times, step_seconds), sigmas)
        self.precision = CorrectionPriors().vector(model.num_expr).square().reciprocal()
        self.sigmas = energy.landmark_sigmas(spread / pixel_size / px) * px
        self.is_named = not model.expression_names[0].startswith("expr_")
        self.openness = eye_openness(observations.landmarks)
        self.pairs = torch.tensor(GAP_PAIRS)
        sigmas = torch.full_like(self.coefficients, _OFFSET_SIGMA)
        sigmas[: len(fit.identity)] = Priors().displacement
        sigmas[: head.num_identity] = Priors().identity
        self.shape_precision = sigmas.square().reciprocal()
        # Offsets of neighbouring landmarks are correlated like their errors.
        repetitions = max(1.0, len(times) / CORRELATED_FRAMES) / energy.CORRELATED_LANDMARKS
        self.bias_precision = repetitions * landmark_bias_sigmas(spread).square().reciprocal()
        self.explained = explained_directions(head)
        self.relief = torch.zeros(head.num_outline)
        repetitions = max(1.0, num_train / CORRELATED_FRAMES) / energy.CORRELATED_POINTS
        self.relief_precision = repetitions / _RELIEF_SIGMA**2

    @property
    def chain(self) -> Chain:
        """The steadiness prior, reweighted at the current corrections."""
        return self.steadiness.reweighted(self.corrections.values)

    def result(self) -> Fit:
        """The current fit."""
        bias = self.bias[: self.points.num_landmarks]
        return replace(self.fit, identity=self.coefficients, track=self.states, landmark_bias=bias)

    def renew(self, level: int) -> None:
        """Renew visibility, template and outline matches; the template is that of a level of the detail images."""
        self.level = level
        seen, samples, matches = [], [], []
        y_down = torch.tensor([1.0, -1.0])
        outline, texture, observed = self.points.outline, self.points.texture, self.observations
        for part in self._chunks():
            posed, pixels = self._pose(part)
            normals = posed.normals(self.points.normals, slice(0, texture.stop))
            verts = posed.verts[:, : texture.stop]
            seen.append(visibility(verts[:, texture], normals[:, texture], pixels[:, texture], observed.size))
            samples.append(self.details.sample(level, part, pixels[:, texture]))
            facing = -(normals * normalize(verts)).sum(-1)[:, outline]
            in_image = normalize(normals[:, outline, :2] * y_down)
            gate, px = _OUTLINE_GATE * observed.px, observed.px
            matches.append(match_outline(observed.outline[part], pixels[:, outline], in_image, facing, gate, px))
        self.seen, self.samples = torch.cat(seen), torch.cat(samples)
        self.matches = Matches(torch.cat([m.indices for m in matches]), torch.cat([m.valid for m in matches]))
        train = slice(0, self.num_train)
        self.template = make_template(self.samples[train], self.seen[train])

    def residuals(self) -> tuple[Float[Tensor, "frames"], Float[Tensor, "frames"]]:
        """Residual of each frame and share of covered points, as in `PhotometricResiduals`."""
        weights = self.seen * self.template.known * self.points.is_face
        difference = (self.samples - self.template.values).abs()
        visible = difference.where(weights > 0.5, torch.nan)
        outlier = (weights * (difference > energy.OUTLIER * self.template.noise)).sum(-1)
        return visible.nanmedian(-1).values, outlier / weights.sum(-1).clamp(min=1)

    def improve_frames(self) -> None:
        """One step of the corrections of all frames."""
        parts = [self._equations(part, False) for part in self._chunks()]
        force, stiffness = self._prior()
        hessian = torch.cat([p.hessian for p in parts]) + torch.diag_embed(stiffness)
        gradient = torch.cat([p.gradient for p in parts]) + force
        self._set_corrections(self.corrections.add(solve_chain(hessian, gradient, self.chain)))

    def improve_shape(self) -> None:
        """One step of the shape; the frames' corrections follow it to first order (Schur complement)."""
        num_frames, n = self.corrections.values.shape
        chosen = torch.linspace(0, num_frames - 1, min(_SHAPE_FRAMES, num_frames)).round().long().unique()
        force, stiffness = self._prior()
        stiffness = stiffness + self.chain.bands()[0]
        num_shape = len(self.coefficients)
        hessian, gradient = torch.zeros(num_shape, num_shape), torch.zeros(num_shape)
        for index in chosen.split(_CHUNK):
            equations = self._equations(index, True)
            H, g = equations.hessian, equations.gradient
            own = H[:, :n, :n] + torch.diag_embed(stiffness[index])
            solved = torch.linalg.solve(own, torch.cat([H[:, :n, n:], (g[:, :n] + force[index])[..., None]], -1))
            cross = H[:, :n, n:].mT
            hessian += (H[:, n:, n:] - cross @ solved[..., :-1]).sum(0)
            gradient += (g[:, n:] - (cross @ solved[..., -1:])[..., 0]).sum(0)
        precision = self.shape_precision * max(1.0, len(chosen) / CORRELATED_FRAMES)
        system = (hessian + torch.diag(precision)).double()
        step = torch.linalg.solve(system, (gradient + precision * self.coefficients).double())
        self._set_shape(self.coefficients - step.float())

    def improve_bias(self) -> None:
        """One step of the landmarks' offsets from the embedding; shape and frames stay."""
        num = self.points.num_landmarks
        hessian = torch.diag_embed(self.bias_precision[:, None].expand(-1, 3))
        gradient = self.bias_precision[:, None] * self.bias[:num]
        for part in self._chunks():
            posed, pixels = self._pose(part)
            error = pixels[:, :num] - self.observations.landmarks[part, :, :2]
            weights = landmark_precision(error, self.sigmas, self._landmark_weights(posed, part))
            J = pixel_derivatives(posed.verts[:, :num], self.fit.focal) @ posed.linear[:, :num]
            weighted = (weights[..., None, None] * J).mT
            hessian = hessian + (weighted @ J).sum(0)
            gradient = gradient + (weighted @ error[..., None])[..., 0].sum(0)
        self.bias = self.bias.clone()
        self.bias[:num] += bias_step(hessian, gradient, self.explained)
        self._set_shape(self.coefficients)

    def improve_relief(self) -> None:
        """One step of the relief; shape and frames stay. Only training frames determine it."""
        outline = self.points.outline
        normals = self.points.normals[outline]
        hessian = torch.full_like(self.relief, self.relief_precision)
        gradient = self.relief_precision * self.relief
        for part in self._chunks(self.num_train):
            posed, pixels = self._pose(part)
            errors = self._outline_errors(posed, pixels, part)
            index = self.matches.indices[part]
            frames = torch.arange(len(index))[:, None]
            outward = torch.einsum("fpij,pj->fpi", posed.linear[:, outline], normals)[frames, index]
            J = (outward * errors.slope).sum(-1)  # of each distance with respect to the relief, pixels per metre
            hessian.index_add_(0, index.flatten(), (errors.weights * J.square()).flatten())
            gradient.index_add_(0, index.flatten(), (errors.weights * J * errors.distances).flatten())
        self.relief = self.relief - gradient / hessian
        self.bias = self.bias.clone()
        self.bias[outline] = self.relief[:, None] * normals
        self._set_shape(self.coefficients)

    def _prior(self) -> tuple[Float[Tensor, "frames corrections"], Float[Tensor, "frames corrections"]]:
        """Gradient and curvature of the priors of the corrections; the curvature is that without steadiness."""
        values = self.corrections.values
        force = self.precision * values + self.chain.energy_gradient(values)
        stiffness = self.precision.expand_as(values).clone()
        if self.is_named:
            # Named face units range from 0 to 1.
            expression, precision = self.states.expression, Priors().beyond_bounds ** -2
            beyond = expression - expression.clamp(0, 1)
            force[:, NUM_POSE:] += precision * beyond
            stiffness[:, NUM_POSE:] += precision * (beyond != 0)
        return force, stiffness

    def _set_shape(self, coefficients: Float[Tensor, "shape"]) -> None:
        self.coefficients = coefficients
        self.shaped = ShapedHead.of(self.points.model, coefficients, self.bias)

    def _set_corrections(self, corrections: Corrections) -> None:
        self.corrections, self.states = corrections, corrections.states()

    def _pose(self, part: slice | Tensor) -> tuple[PosedPoints, Float[Tensor, "frames points 2"]]:
        """The posed points of some frames, and their pixels."""
        posed = PosedPoints.of(self.shaped, self.states[part], self.face)
        return posed, self.observations[part].project(posed.verts, self.fit.focal)

    def _equations(self, part: slice | Tensor, with_shape: bool) -> NormalEquations:
        """The normal equations of some frames."""
        posed, pixels = self._pose(part)
        observed, points, focal = self.observations[part], self.points, self.fit.focal
        px, num = observed.px, points.num_landmarks
        landmarks = landmark_residuals(
            posed,
            pixels[:, :num],
            observed.landmarks[..., :2],
            self.sigmas,
            self._landmark_weights(posed, part),
            self.pairs,
            GAP_SIGMA * px,
            focal,
            with_shape,
        )
        errors = self._outline_errors(posed, pixels, part)
        index = self.matches.indices[part] + points.outline.start
        outline = Residuals(errors.distances, errors.weights, posed.derivatives(index, errors.slope, with_shape))
        # Every third texture point is enough for the shape.
        step = 3 if with_shape else 1
        chosen = slice(points.texture.start, points.texture.stop, step)
        values, slope = self.details.sample_with_slope(self.level, part, pixels[:, chosen])
        weights = (self.seen[part] * self.template.known)[:, ::step] * step / CORRELATED_TEXTURE
        difference, noise = values - self.template.values[::step], self.template.noise
        texture = texture_residuals(posed, chosen, difference, slope, weights, noise, focal, with_shape)
        return NormalEquations.of([*landmarks, outline, texture])

    def _outline_errors(
        self, posed: PosedPoints, pixels: Float[Tensor, "frames points 2"], part: slice | Tensor
    ) -> OutlineErrors:
        """Distances of the matched surface points of some frames from the outline of the matte.

        Points have less weight where they follow the root joint, because shoulders move without the head.
        """
        index = self.matches.indices[part] + self.points.outline.start
        weights = self.matches.valid[part] * (1 - self.points.model.skinning_weights[index, Joint.ROOT])
        sigma = _OUTLINE_SIGMA * self.observations.px
        return outline_errors(
            posed.verts, pixels, self.observations.outline[part], index, weights, sigma, self.fit.focal
        )

    def _landmark_weights(self, posed: PosedPoints, part: slice | Tensor) -> Float[Tensor, "frames landmarks"]:
        """Visibility of the landmarks, lower in views from the side."""
        states, num = self.states[part], self.points.num_landmarks
        rotation = head_rotation(states.rotation, states.neck)
        weights = landmark_weights(posed.verts[:, :num], rotation, self.points.normals[:num], self.openness[part])
        yaw = torch.rad2deg(torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])).abs()
        turned = ((yaw - _FAR_YAW) / (_PROFILE_YAW - _FAR_YAW)).clamp(0, 1)
        return weights * (1 - turned * (1 - _PROFILE_WEIGHT))[:, None]

    def _chunks(self, num: int | None = None) -> list[slice]:
        """Slices of the first `num` frames; of all frames by default."""
        num = len(self.observations.times) if num is None else num
        return [slice(i, min(i + _CHUNK, num)) for i in range(0, num, _CHUNK)]
