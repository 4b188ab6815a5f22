"""The energy of a fit as a function of its unknowns, and its minimisation by Adam.

Frames are posed in chunks, so memory does not grow with the video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.tracking import energy
from partnerface_ns.tracking.energy import Priors, Steadiness
from partnerface_ns.tracking.fit_head import FitHead
from partnerface_ns.tracking.landmarks import IRIS_LEFT, IRIS_RIGHT
from partnerface_ns.tracking.observations import Fit, Observations
from partnerface_ns.tracking.outline import match_outline
from partnerface_ns.tracking.unknowns import RATES, Unknowns, first_guess

_CHUNK = 400
"""Frames posed at once."""
_CORRELATED_FRAMES = 4.0
"""The detector errs alike in all frames of a person: what they say about the identity counts as often as this."""
_BEHIND, _FADE, _UNSEEN = 0.6, 0.4, 0.02
"""A landmark's weight is the cosine to the line of sight over _FADE plus _BEHIND, from _UNSEEN to 1."""
_GAP_SIGMA = 0.8
"""Pixels at 512."""
_GAP_PAIRS = (
    *((159, 145), (160, 144), (158, 153), (386, 374), (385, 380), (387, 373)),
    *((13, 14), (82, 87), (312, 317), (81, 178), (311, 402)),
)
"""Landmarks of upper and lower lid, and of upper and lower lip."""
_EYES = ((386, 374, 362, 263), (159, 145, 133, 33))
"""Upper lid, lower lid, inner and outer corner of the left and the right eye."""


@dataclass(frozen=True)
class Matches:
    """Which surface point belongs to each outline point."""

    indices: Int[Tensor, "frames points"]
    found: Bool[Tensor, "frames points"]


class Problem:
    """One fit: its unknowns are changed by `minimise`."""

    def __init__(
        self,
        head: FitHead,
        seen: Observations,
        spread: Float[np.ndarray, "landmarks"],
        known: Unknowns | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            head: the reduced head model.
            seen: the frames to fit.
            spread: uncertainty of the landmarks' places on the head, metres.
            known: what holds for the whole video, from an earlier fit of some of its frames.
            device: where to compute.
        """
        self.unknowns = first_guess(head, seen, known)
        for field_ in fields(Unknowns):
            tensor = getattr(self.unknowns, field_.name).to(device)
            setattr(self.unknowns, field_.name, tensor.requires_grad_(field_.name in RATES))
        self.head, self.seen, self.device = head.to(device), seen.to(device), device
        self.priors, self.steady = Priors(), Steadiness()
        spread_px = spread / float(self.unknowns.log_depth.detach().exp().median()) / seen.px
        self.sigmas = (energy.landmark_sigmas(spread_px) * seen.px).to(device)
        bias_sigma = torch.from_numpy(np.clip(spread, 5e-4, 3e-3)).float()[:, None]
        bias_sigma[IRIS_LEFT] = bias_sigma[IRIS_RIGHT] = 3e-4
        self.bias_sigma = bias_sigma.to(device)
        self.outline_sigma = 2.0 * seen.px
        self.explained = _explained(head).to(device)
        self.step_seconds = float(torch.diff(seen.times).median()) if len(seen.times) > 1 else 0.04
        self.neighbours = _has_neighbours(seen.times, self.step_seconds).to(device)
        self.openness = _eye_openness(self.seen.landmarks)
        names = head.full.expression_names
        self.named = not names[0].startswith("expr_")
        self.expression_steadiness = torch.full((len(names),), self.steady.expression, device=device)
        lids = [i for i, name in enumerate(names) if name.startswith(("eyeBlink", "eyeSquint"))]
        self.expression_steadiness[lids] = self.steady.eyelid
        self.pairs = torch.tensor(_GAP_PAIRS, device=device)

    @property
    def focal(self) -> Tensor:
        return self.seen.focal * self.unknowns.log_focal.exp()

    def landmark_bias(self) -> Float[Tensor, "landmarks 3"]:
        """The bias without what a motion, a stretching or another identity explains: it shall not replace them."""
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
        """Lower the energy.

        Args:
            steps: of Adam; its rate falls to zero.
            names: unknowns that may change.
            matches: surface points on the outline; None leaves the outline out.
            rate: factor on all rates.
            on_step: called after each step.
        """
        groups = [{"params": [t], "lr": RATES[n] * rate} for n, t in self.unknowns.items() if n in names]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            self.prior_energy().backward()
            for chunk in self._chunks():
                self.data_energy(chunk, matches).backward()
            optimiser.step()
            falling.step()
            on_step()

    def _chunks(self) -> list[slice]:
        num = len(self.seen.times)
        return [slice(i, min(i + _CHUNK, num)) for i in range(0, num, _CHUNK)]

    def data_energy(self, chunk: slice, matches: Matches | None) -> Float[Tensor, ""]:
        """How far landmarks and outlines of some frames are from what was seen."""
        u, num, seen = self.unknowns, self.head.num_landmarks, self.seen[chunk]
        model = self.head.landmark_model if matches is None else self.head.model
        bias = torch.cat([self.landmark_bias(), u.landmark_bias.new_zeros(model.num_verts - num, 3)])
        verts = ShapedHead.of(model, u.coefficients, bias).pose(u.states(self.focal, chunk)).verts
        screen = seen.project(verts, self.focal)
        detected, landmarks = seen.landmarks[..., :2], screen[:, :num]
        weights = self._visibility(verts[:, :num].detach(), chunk)
        total = energy.landmark_energy(landmarks, detected, self.sigmas, weights)
        total = total + energy.gap_energy(landmarks, detected, self.pairs, _GAP_SIGMA * seen.px, weights)
        if matches is not None:
            index, found = matches.indices[chunk][..., None].expand(-1, -1, 2), matches.found[chunk]
            chosen = screen[:, num : num + self.head.num_outline].gather(1, index)[found]
            total = total + energy.outline_energy(chosen, seen.outline[found], self.outline_sigma)
        return total

    def _visibility(self, landmarks: Tensor, chunk: slice) -> Tensor:
        """Weights of landmarks: the detector guesses those on the far side of the head; irises need open lids."""
        u = self.unknowns
        rotation = head_rotation(u.rotation[chunk].detach(), u.neck[chunk].detach())
        normals = torch.einsum("fab,lb->fla", rotation, self.head.landmark_normals)
        sight = _unit(-landmarks)
        weights = ((normals * sight).sum(-1) / _FADE + _BEHIND).clamp(_UNSEEN, 1)
        for side, part in enumerate((IRIS_LEFT, IRIS_RIGHT)):
            corner = _EYES[side][2]
            weights[:, part] = 6 * weights[:, corner, None] * self.openness[chunk, side, None]
        return weights

    def prior_energy(self) -> Float[Tensor, ""]:
        """How unlikely the unknowns are by themselves, and how unsteady in time."""
        u, p = self.unknowns, self.priors
        half = energy.half_square
        num = len(self.seen.times)
        once = max(1.0, num / _CORRELATED_FRAMES)
        total = once * (
            half(u.identity, p.identity)
            + half(u.displacement, p.displacement)
            + half(u.landmark_bias, self.bias_sigma)
            + half(u.log_focal, p.log_focal)
        )
        total = total + half(u.expression, p.expression if self.named else p.unnamed_expression)
        if self.named:
            total = total + once * half(u.expression.mean(0), p.mean_expression)
            total = total + energy.bounds_energy(u.expression, 0.0, 1.0, p.beyond_bounds)
        total = total + half(u.rotation, p.root) + half(u.rotation - u.rotation.mean(0), p.root_motion)
        total = total + half(u.neck, p.neck)
        translation = u.states(self.focal).translation
        total = total + half(translation - translation.mean(0), p.sway)
        total = total + half(u.jaw[:, :1], p.jaw_open) + half(u.jaw[:, 1:], p.jaw_side)
        total = total + half(u.jaw[:, :1].clamp(max=0), p.jaw_closed)
        total = total + half(u.gaze, p.gaze) + half(u.vergence - p.vergence, p.vergence)
        return total + self._steadiness()

    def _steadiness(self) -> Tensor:
        u, s = self.unknowns, self.steady
        # Stated at 25 frames a second; second differences grow with the square of the step.
        scale = min(25.0, (self.step_seconds / 0.04) ** 2)
        facing = head_rotation(u.rotation, u.neck)[..., [0, 2]].flatten(1)
        terms = (
            (facing, s.angle),
            (u.rotation, s.root),
            (u.place, s.place * self.seen.px),
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
        """Surface points that lie on the outline now; `gate` is the largest distance in pixels."""
        num = self.head.num_landmarks
        outline = slice(num, num + self.head.num_outline)
        shaped = ShapedHead.of(self.head.model, self.unknowns.coefficients)
        indices, found = [], []
        for chunk in self._chunks():
            posed = shaped.pose(self.unknowns.states(self.focal, chunk))
            turn = posed.skinning(self.head.model.skinning_weights[outline])[..., :3, :3]
            normals = torch.einsum("fvab,vb->fva", turn, self.head.outline_normals)
            normals = _unit(normals)
            verts, seen = posed.verts[:, outline], self.seen[chunk]
            facing = -(normals * _unit(verts)).sum(-1)
            flat = normals[..., :2] * torch.tensor([1.0, -1.0], device=self.device)
            flat = _unit(flat)
            i, f = match_outline(seen.outline, seen.project(verts, self.focal), flat, facing, gate, seen.px)
            indices.append(i)
            found.append(f)
        return Matches(torch.cat(indices), torch.cat(found))

    @torch.no_grad()
    def result(self) -> Fit:
        """The fit as it is now, on the CPU."""
        u = self.unknowns
        track = u.states(self.focal)
        track = HeadState(*(getattr(track, f.name).detach().cpu().clone() for f in fields(HeadState)))
        return Fit(u.coefficients.detach().cpu(), track, float(self.focal), self.landmark_bias().detach().cpu())


def _explained(head: FitHead) -> Float[Tensor, "coordinates directions"]:
    """Orthonormal directions in which landmarks move under affine maps and changes of the identity."""
    num = head.num_landmarks
    rest = head.landmark_model.template[:num]
    linear = torch.einsum("la,bc->lbac", torch.cat([rest, torch.ones(num, 1)], 1), torch.eye(3)).reshape(3 * num, 12)
    identity = head.landmark_model.identity_dirs[:num, :, : head.num_identity].reshape(3 * num, -1)
    return torch.linalg.qr(torch.cat([linear, identity], 1))[0]


def head_rotation(root: Float[Tensor, "frames 3"], neck: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """The skull's rotation."""
    return rotation_from_axis_angle(root) @ rotation_from_axis_angle(neck)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; several times as quick as torch's own for so short ones."""
    return vectors * vectors.square().sum(-1, keepdim=True).clamp(min=1e-20).rsqrt()


def _has_neighbours(times: Tensor, step: float) -> Tensor:
    """1 where the frames before and after are at most two steps away, else 0."""
    near = torch.diff(times) < 2.1 * step
    result = torch.zeros(len(times))
    result[1:-1] = (near[1:] & near[:-1]).float()
    return result


def _eye_openness(landmarks: Tensor) -> Float[Tensor, "frames 2"]:
    """How far the left and the right eye are open: 0 closed, 1 wide enough to see the iris well."""
    result = []
    for upper, lower, a, b in _EYES:
        gap = (landmarks[:, upper] - landmarks[:, lower]).norm(dim=-1)
        width = (landmarks[:, a] - landmarks[:, b]).norm(dim=-1)
        result.append(((gap / width - 0.08) / 0.12).clamp(0, 1))
    return torch.stack(result, -1)
