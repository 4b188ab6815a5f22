"""Aligns the images of a video with each other on the surface of a fitted head.

Every texture point should look the same in all frames. What it looks like is the template, a robust mean over the
training frames. Corrections of each frame's head state, and the shape of the person, minimise the differences between
images and template, together with the errors of landmarks and outline. The detail images go from coarse to fine. In
each round, visibility, template and outline matches are renewed, then the shape and the frames are improved by
Gauss-Newton steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.tracking.fit import energy
from partnerface_ns.tracking.fit.energy import Priors, Steadiness
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.landmark_weights import eye_openness, head_rotation, landmark_weights
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.outline_matching import Matches, match_outline
from partnerface_ns.tracking.fit.photometric.corrections import (
    Chain,
    CorrectionPriors,
    Corrections,
    solve_chain,
    steadiness_sigmas,
)
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages, Level, ReadFrame
from partnerface_ns.tracking.fit.photometric.equations import (
    NormalEquations,
    landmark_residuals,
    outline_residuals,
    texture_residuals,
)
from partnerface_ns.tracking.fit.photometric.posed_points import PosedPoints
from partnerface_ns.tracking.fit.photometric.surface_points import SurfacePoints, choose_points
from partnerface_ns.tracking.fit.photometric.template import Template, make_template
from partnerface_ns.tracking.fit.photometric.visibility import visibility
from partnerface_ns.tracking.fit.problem import GAP_PAIRS, GAP_SIGMA, has_neighbours

LEVELS = (Level(3.0, 12.0), Level(1.5, 8.0), Level(0.7, 5.0))
"""From coarse to fine."""
_ROUNDS, _FRAME_STEPS = 4, 2
"""Rounds at each level, and Gauss-Newton steps of the frames in each round."""
_CORRELATED_TEXTURE = 8.0
"""Errors of neighbouring texture points are correlated: this many points count as one."""
_OUTLINE_SIGMA, _OUTLINE_GATE = 2.0, 10.0
"""Uncertainty of the outline and largest distance of a match, pixels at 512."""
_FAR_YAW, _PROFILE_YAW, _PROFILE_WEIGHT = 40.0, 75.0, 0.1
"""Between these turns of the head, in degrees, the weight of all landmarks falls to the last value: the detector is
biased where it sees one side only."""
_CHUNK, _SHAPE_CHUNK, _SHAPE_FRAMES = 32, 8, 100
"""Frames in memory at once, in steps of the frames and of the shape, and number of frames that determine the shape."""
_OFFSET_SIGMA = 0.002
"""Standard deviation of the offsets of face and ears, metres."""
_CORRELATED_FRAMES = 4.0


@dataclass(frozen=True)
class Alignment:
    """The result of the photometric fit."""

    fit: Fit
    """Its identity has the offsets of face and ears appended."""
    points: SurfacePoints
    before: Float[Tensor, "frames"]
    """Residual of each frame before the fit, grey levels of 255: median over the visible points of the face."""
    after: Float[Tensor, "frames"]
    covered: Float[Tensor, "frames"]
    """Share of the visible points of the face that differ much from the template, in [0, 1]."""


def num_steps() -> int:
    """Number of calls of `on_step` of `align_images`."""
    return len(LEVELS) * (1 + _ROUNDS * (2 + _FRAME_STEPS)) + 2


def align_images(
    head: FitHead,
    observations: Observations,
    fit: Fit,
    spread: Float[np.ndarray, "landmarks"],
    num_train: int,
    read: ReadFrame,
    folder: Path,
    on_step: Callable[[], None] = lambda: None,
) -> Alignment:
    """Improve a fit by the images.

    Args:
        head: the reduced head model.
        observations: landmarks and outlines.
        fit: the fit to landmarks and outlines.
        spread: uncertainty of the landmarks' positions on the head, metres.
        num_train: number of training frames, which come first; only they form the template.
        read: reads image and matte of a frame.
        folder: folder for the detail images, which are removed at the end.
        on_step: called after each pass over the frames, for a progress bar.
    """
    aligner = _Aligner(head, observations, fit, spread, num_train)
    path = folder / "details.npy"
    before: Float[Tensor, "frames"] | None = None
    try:
        for level in (LEVELS[-1], *LEVELS):
            aligner.details = DetailImages(path, read, len(observations.times), observations.size, level)
            on_step()
            if before is None:
                aligner.renew()
                before = aligner.residuals()[0]
                continue
            for _ in range(_ROUNDS):
                aligner.renew()
                on_step()
                aligner.improve_shape()
                on_step()
                for _ in range(_FRAME_STEPS):
                    aligner.improve_frames()
                    on_step()
        aligner.renew()
        after, covered = aligner.residuals()
        on_step()
    finally:
        path.unlink(missing_ok=True)
    assert before is not None
    return Alignment(aligner.result(), aligner.points, before, after, covered)


class _Aligner:
    """The unknowns of the photometric fit and everything that its energy depends on."""

    details: DetailImages
    template: Template
    matches: Matches
    seen: Float[Tensor, "frames texture"]
    """Visibility of the texture points."""

    def __init__(
        self,
        head: FitHead,
        observations: Observations,
        fit: Fit,
        spread: Float[np.ndarray, "landmarks"],
        num_train: int,
    ) -> None:
        self.fit, self.observations, self.num_train = fit, observations, num_train
        self.points = choose_points(head)
        model, px, num = self.points.model, observations.px, head.num_landmarks
        self.coefficients = torch.cat([fit.identity, torch.zeros(model.num_identity - len(fit.identity))])
        self.bias = torch.zeros_like(model.template)
        self.bias[:num] = fit.landmark_bias
        rest = self.shaped().verts_rest
        neck, face = rest[-4], rest[:num].mean(0)
        self.face = face - neck
        self.corrections = Corrections.zero(fit.track, self.face)
        depth = float(-fit.track.translation[:, 2].median())
        pixel_size = depth / fit.focal
        steady, names = Steadiness(), model.expression_names
        times = observations.times
        step_seconds = float(torch.diff(times).median())
        sigmas = steadiness_sigmas(steady, steady.of_expression(names), step_seconds, pixel_size * px, depth)
        neighbours = has_neighbours(times, step_seconds)
        self.chain = Chain.of(fit.track, self.face, neck - rest[-5], neighbours, sigmas)
        self.precision = CorrectionPriors().vector(model.num_expr).square().reciprocal()
        self.sigmas = energy.landmark_sigmas(spread / pixel_size / px) * px
        self.openness = eye_openness(observations.landmarks)
        self.landmark_normals = self.points.normals[:num]
        self.pairs = torch.tensor(GAP_PAIRS)
        priors = Priors()
        groups = ((priors.identity, head.num_identity), (priors.displacement, head.displacements.shape[-1]))
        groups = (*groups, (_OFFSET_SIGMA, self.points.offsets.shape[-1]))
        self.shape_precision = torch.cat([torch.full((n,), sigma**-2) for sigma, n in groups])

    def shaped(self) -> ShapedHead:
        return ShapedHead.of(self.points.model, self.coefficients, self.bias)

    def result(self) -> Fit:
        return replace(self.fit, identity=self.coefficients, track=self.corrections.states())

    def pose(self, part: slice | Tensor) -> tuple[PosedPoints, Float[Tensor, "frames points 2"]]:
        """The posed points of some frames, and their pixels."""
        posed = PosedPoints.of(self.shaped(), self.corrections.states()[part], self.face)
        return posed, self.observations[part].project(posed.verts, self.fit.focal)

    def renew(self) -> None:
        """Renew visibility, template and outline matches."""
        seen, samples, matches = [], [], []
        y_down = torch.tensor([1.0, -1.0])
        outline, texture, size, px = self.points.outline, self.points.texture, self.observations.size, self.observations.px
        for part in self._chunks():
            posed, pixels = self.pose(part)
            normals = posed.normals(self.points.normals, slice(0, texture.stop))
            verts = posed.verts[:, : texture.stop]
            seen.append(visibility(verts[:, texture], normals[:, texture], pixels[:, texture], size))
            samples.append(self.details.sample(part, pixels[:, texture])[0])
            facing = -(normals * torch.nn.functional.normalize(verts, dim=-1)).sum(-1)[:, outline]
            in_image = torch.nn.functional.normalize(normals[:, outline, :2] * y_down, dim=-1)
            observed = self.observations.outline[part]
            gate = _OUTLINE_GATE * px
            matches.append(match_outline(observed, pixels[:, outline], in_image, facing, gate, px))
        self.seen, self.samples = torch.cat(seen), torch.cat(samples)
        self.matches = Matches(torch.cat([m.indices for m in matches]), torch.cat([m.valid for m in matches]))
        train = slice(0, self.num_train)
        self.template = make_template(self.samples[train], self.seen[train])

    def residuals(self) -> tuple[Float[Tensor, "frames"], Float[Tensor, "frames"]]:
        """Residual of each frame and share of covered points, as in `Alignment`."""
        weights = self.seen * self.template.known * self.points.is_face
        difference = (self.samples - self.template.values).abs()
        visible = difference.where(weights > 0.5, torch.nan)
        outlier = (weights * (difference > energy.OUTLIER * self.template.noise)).sum(-1)
        return visible.nanmedian(-1).values, outlier / weights.sum(-1).clamp(min=1)

    def improve_frames(self) -> None:
        """One Gauss-Newton step of the corrections of all frames."""
        parts = [self._equations(part, False) for part in self._chunks()]
        values = self.corrections.values
        hessian = torch.cat([p.hessian for p in parts]) + torch.diag(self.precision)
        gradient = torch.cat([p.gradient for p in parts])
        gradient = gradient + self.precision * values + self.chain.energy_gradient(values)
        self.corrections = self.corrections.add(solve_chain(hessian, gradient, self.chain))

    def improve_shape(self) -> None:
        """One Gauss-Newton step of the shape; the frames' corrections follow it to first order (Schur complement)."""
        num_frames, n = self.corrections.values.shape
        chosen = torch.linspace(0, num_frames - 1, min(_SHAPE_FRAMES, num_frames)).round().long().unique()
        bands = self.chain.bands()[0]
        forces = self.chain.energy_gradient(self.corrections.values) + self.precision * self.corrections.values
        hessian, gradient = 0.0, 0.0
        for index in chosen.split(_SHAPE_CHUNK):
            equations = self._equations(index, True)
            H, g = equations.hessian, equations.gradient
            own = H[:, :n, :n] + torch.diag_embed(self.precision + bands[index])
            solved = torch.linalg.solve(own, torch.cat([H[:, :n, n:], (g[:, :n] + forces[index])[..., None]], -1))
            cross = H[:, :n, n:].mT
            hessian = hessian + (H[:, n:, n:] - cross @ solved[..., :-1]).sum(0)
            gradient = gradient + (g[:, n:] - (cross @ solved[..., -1:])[..., 0]).sum(0)
        precision = self.shape_precision * max(1.0, len(chosen) / _CORRELATED_FRAMES)
        system = (hessian + torch.diag(precision)).double()
        step = torch.linalg.solve(system, (gradient + precision * self.coefficients).double())
        self.coefficients = self.coefficients - step.float()

    def _equations(self, part: slice | Tensor, with_shape: bool) -> NormalEquations:
        """The normal equations of some frames."""
        posed, pixels = self.pose(part)
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
        index = self.matches.indices[part] + points.outline.start
        sigma = _OUTLINE_SIGMA * px
        outline = outline_residuals(
            posed, pixels, observed.outline, index, self.matches.valid[part], sigma, focal, with_shape
        )
        values, slope = self.details.sample(part, pixels[:, points.texture])
        weights = self.seen[part] * self.template.known / _CORRELATED_TEXTURE
        texture = texture_residuals(
            posed,
            points.texture,
            values - self.template.values,
            slope,
            weights,
            self.template.noise,
            focal,
            with_shape,
        )
        return NormalEquations.of([*landmarks, outline, texture])

    def _landmark_weights(self, posed: PosedPoints, part: slice | Tensor) -> Float[Tensor, "frames landmarks"]:
        states = self.corrections.states()[part]
        rotation = head_rotation(states.rotation, states.neck)
        num = self.points.num_landmarks
        weights = landmark_weights(posed.verts[:, :num], rotation, self.landmark_normals, self.openness[part])
        yaw = torch.rad2deg(torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])).abs()
        turned = ((yaw - _FAR_YAW) / (_PROFILE_YAW - _FAR_YAW)).clamp(0, 1)
        return weights * (1 - turned * (1 - _PROFILE_WEIGHT))[:, None]

    def _chunks(self) -> list[slice]:
        num = len(self.observations.times)
        return [slice(i, min(i + _CHUNK, num)) for i in range(0, num, _CHUNK)]
