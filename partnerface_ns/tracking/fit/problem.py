"""The energy of a fit as a function of its unknowns, and its minimisation by Adam.

Frames are posed in chunks, so memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.tracking.fit import energy
from partnerface_ns.tracking.fit.energy import Priors, Steadiness
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.initial_guess import guess_unknowns
from partnerface_ns.tracking.fit.landmark_weights import eye_openness, head_rotation, landmark_weights, normalize
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.outline_matching import Matches, match_outline
from partnerface_ns.tracking.fit.unknowns import RATES, Unknowns
from partnerface_ns.tracking.video.face_topology import IRIS_LEFT, IRIS_RIGHT

_CHUNK = 400
"""Frames posed at once."""
CORRELATED_FRAMES = 4.0
"""Detection errors of one person are correlated between frames: this many frames count once for the identity."""
GAP_SIGMA = 0.8
"""Uncertainty of the distance between lids and between lips, pixels at 512."""
GAP_PAIRS = (
    *((159, 145), (160, 144), (158, 153), (386, 374), (385, 380), (387, 373)),
    *((13, 14), (82, 87), (312, 317), (81, 178), (311, 402)),
)
"""Landmarks of upper and lower lid, and of upper and lower lip."""
_MIN_BIAS_SIGMA, _MAX_BIAS_SIGMA, _IRIS_BIAS_SIGMA = 5e-4, 3e-3, 3e-4
"""Uncertainty of a landmark's position on one person, metres."""


class FitProblem:
    """The unknowns of a fit and their energy; `minimise` changes the unknowns."""

    def __init__(
        self,
        head: FitHead,
        observations: Observations,
        spread: Float[np.ndarray, "landmarks"],
        known: Unknowns | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            head: the reduced head model.
            observations: the frames to fit.
            spread: uncertainty of the landmarks' positions on the head, metres.
            known: unknowns of an earlier fit to some of the frames; those of the whole video are used.
            device: device of the computation.
        """
        self.unknowns = guess_unknowns(head, observations, known)
        for field_ in fields(Unknowns):
            tensor = getattr(self.unknowns, field_.name).to(device)
            setattr(self.unknowns, field_.name, tensor.requires_grad_(field_.name in RATES))
        self.head, self.observations, self.device = head.to(device), observations.to(device), device
        self.priors, self.steady = Priors(), Steadiness()
        spread_px = spread / float(self.unknowns.log_depth.detach().exp().median()) / observations.px
        self.sigmas = (energy.landmark_sigmas(spread_px) * observations.px).to(device)
        self.bias_sigma = landmark_bias_sigmas(spread)[:, None].to(device)
        self.outline_sigma = 2.0 * observations.px
        self.explained = explained_directions(head).to(device)
        times = observations.times
        self.step_seconds = float(torch.diff(times).median()) if len(times) > 1 else 0.04
        self.neighbours = has_neighbours(times, self.step_seconds).to(device)
        self.openness = eye_openness(self.observations.landmarks)
        names = head.full.expression_names
        self.is_named = not names[0].startswith("expr_")
        self.expression_steadiness = self.steady.of_expression(names).to(device)
        self.pairs = torch.tensor(GAP_PAIRS, device=device)

    @property
    def focal(self) -> Float[Tensor, ""]:
        """Focal length, pixels."""
        return self.observations.focal * self.unknowns.log_focal.exp()

    def landmark_bias(self) -> Float[Tensor, "landmarks 3"]:
        """The bias without its components along affine maps and identity directions, which it must not replace."""
        flat = self.unknowns.landmark_bias.flatten()
        return (flat - self.explained @ (self.explained.mT @ flat)).unflatten(0, (-1, 3))

    def minimise(
        self,
        steps: int,
        names: tuple[str, ...],
        matches: Matches | None = None,
        rate: float = 1.0,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Lower the energy with Adam; the learning rate falls to zero.

        Args:
            steps: number of steps.
            names: unknowns that may change.
            matches: surface points on the outline; None leaves out the outline term.
            rate: factor on all learning rates.
            on_step: called after each step.
        """
        groups = [{"params": [t], "lr": RATES[n] * rate} for n, t in self.unknowns.items() if n in names]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            self.prior_energy().backward()
            for chunk in self._chunks():
                self.data_energy(chunk, matches).backward()
            optimiser.step()
            scheduler.step()
            on_step()

    def _chunks(self) -> list[slice]:
        num = len(self.observations.times)
        return [slice(i, min(i + _CHUNK, num)) for i in range(0, num, _CHUNK)]

    def data_energy(self, chunk: slice, matches: Matches | None) -> Float[Tensor, ""]:
        """Distance of landmarks and outline from the observations, for a chunk of frames."""
        u, num, observed = self.unknowns, self.head.num_landmarks, self.observations[chunk]
        model = self.head.landmark_model if matches is None else self.head.model
        bias = torch.cat([self.landmark_bias(), u.landmark_bias.new_zeros(model.num_verts - num, 3)])
        verts = ShapedHead.of(model, u.coefficients, bias).pose(u.states(self.focal, chunk)).verts
        pixels = observed.project(verts, self.focal)
        detected, landmarks = observed.landmarks[..., :2], pixels[:, :num]
        rotation = head_rotation(u.rotation[chunk].detach(), u.neck[chunk].detach())
        weights = landmark_weights(verts[:, :num].detach(), rotation, self.head.landmark_normals, self.openness[chunk])
        total = energy.landmark_energy(landmarks, detected, self.sigmas, weights)
        total = total + energy.gap_energy(landmarks, detected, self.pairs, GAP_SIGMA * observed.px, weights)
        if matches is not None:
            index, valid = matches.indices[chunk][..., None].expand(-1, -1, 2), matches.valid[chunk]
            matched = pixels[:, num : num + self.head.num_outline].gather(1, index)[valid]
            total = total + energy.outline_energy(matched, observed.outline[valid], self.outline_sigma)
        return total

    def prior_energy(self) -> Float[Tensor, ""]:
        """Priors of the unknowns, and their steadiness in time."""
        u, p, half = self.unknowns, self.priors, energy.half_square
        repetitions = max(1.0, len(self.observations.times) / CORRELATED_FRAMES)
        total = repetitions * (
            half(u.identity, p.identity)
            + half(u.displacement, p.displacement)
            + half(u.landmark_bias, self.bias_sigma)
            + half(u.log_focal, p.log_focal)
        )
        total = total + half(u.expression, p.expression if self.is_named else p.unnamed_expression)
        if self.is_named:
            total = total + repetitions * half(u.expression.mean(0), p.mean_expression)
            total = total + energy.bounds_energy(u.expression, 0.0, 1.0, p.beyond_bounds)
        total = total + half(u.rotation, p.root) + half(u.rotation - u.rotation.mean(0), p.root_motion)
        total = total + half(u.neck, p.neck)
        translation = u.states(self.focal).translation
        total = total + half(translation - translation.mean(0), p.sway)
        total = total + half(u.jaw[:, :1], p.jaw_open) + half(u.jaw[:, 1:], p.jaw_side)
        total = total + half(u.jaw[:, :1].clamp(max=0), p.jaw_closed)
        total = total + half(u.gaze, p.gaze) + half(u.vergence - p.vergence, p.vergence)
        return total + self._steadiness_energy()

    def _steadiness_energy(self) -> Float[Tensor, ""]:
        u, s = self.unknowns, self.steady
        # The deviations hold at 25 frames per second; second differences grow with the square of the step.
        scale = min(25.0, (self.step_seconds / 0.04) ** 2)
        facing = head_rotation(u.rotation, u.neck)[..., [0, 2]].flatten(1)
        terms = (
            (facing, s.angle),
            (u.rotation, s.root),
            (u.place, s.place * self.observations.px),
            (u.log_depth, s.log_depth),
            (u.jaw, s.jaw),
            (u.gaze, s.gaze),
            (u.vergence, s.vergence),
            (u.expression, self.expression_steadiness),
        )
        return sum(
            (energy.steadiness_energy(values, sigma * scale, self.neighbours) for values, sigma in terms),
            torch.zeros((), device=self.device),
        )

    @torch.no_grad()
    def match_outline(self, gate: float) -> Matches:
        """Match outline points to the surface of the current fit; `gate` is the largest distance, pixels."""
        num = self.head.num_landmarks
        outline = slice(num, num + self.head.num_outline)
        shaped = ShapedHead.of(self.head.model, self.unknowns.coefficients)
        y_down = torch.tensor([1.0, -1.0], device=self.device)
        chunks = []
        for chunk in self._chunks():
            posed = shaped.pose(self.unknowns.states(self.focal, chunk))
            rotation = posed.skinning(self.head.model.skinning_weights[outline])[..., :3, :3]
            normals = normalize(torch.einsum("fvab,vb->fva", rotation, self.head.outline_normals))
            verts, observed = posed.verts[:, outline], self.observations[chunk]
            facing = -(normals * normalize(verts)).sum(-1)
            projected, image_normals = observed.project(verts, self.focal), normalize(normals[..., :2] * y_down)
            chunks.append(match_outline(observed.outline, projected, image_normals, facing, gate, observed.px))
        return Matches(torch.cat([c.indices for c in chunks]), torch.cat([c.valid for c in chunks]))

    @torch.no_grad()
    def result(self) -> Fit:
        """The current fit, on the CPU."""
        u = self.unknowns
        track = u.states(self.focal)
        track = track.map(lambda value: value.detach().cpu().clone())
        return Fit(u.coefficients.detach().cpu(), track, float(self.focal), self.landmark_bias().detach().cpu())


def landmark_bias_sigmas(spread: Float[np.ndarray, "landmarks"]) -> Float[Tensor, "landmarks"]:
    """Return the uncertainty of each landmark's position on one person, metres.

    Args:
        spread: uncertainty of the landmarks' positions on the head, metres.
    """
    sigmas = torch.from_numpy(np.clip(spread, _MIN_BIAS_SIGMA, _MAX_BIAS_SIGMA)).float()
    sigmas[IRIS_LEFT] = sigmas[IRIS_RIGHT] = _IRIS_BIAS_SIGMA
    return sigmas


def explained_directions(head: FitHead) -> Float[Tensor, "coordinates directions"]:
    """Return an orthonormal basis of the landmarks' motions under affine maps and changes of identity."""
    num = head.num_landmarks
    rest = head.landmark_model.template[:num]
    linear = torch.einsum("la,bc->lbac", torch.cat([rest, torch.ones(num, 1)], 1), torch.eye(3)).reshape(3 * num, 12)
    identity = head.landmark_model.identity_dirs[:num, :, : head.num_identity].reshape(3 * num, -1)
    return torch.linalg.qr(torch.cat([linear, identity], 1))[0]


def has_neighbours(times: Float[Tensor, "frames"], step: float) -> Float[Tensor, "frames"]:
    """1 where the frames before and after are at most two steps away, else 0."""
    near = torch.diff(times) < 2.1 * step
    result = torch.zeros(len(times))
    result[1:-1] = (near[1:] & near[:-1]).float()
    return result
