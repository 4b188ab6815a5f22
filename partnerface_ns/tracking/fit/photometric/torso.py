"""Aligns the shoulders of all frames with each other, after the head.

The head model's root joint turns shoulders and neck together, and its rotation is fitted to the head. Real shoulders
move on their own. Their pose in each frame is a rigid motion of the torso's rest surface:

    X = R (x - c) + C,    R = exp(turn) R_mean,    C = R_mean (c - r) + r + t + movement

with c the centre of the torso's surface, r the root joint and t its tracked translation. R_mean is the mean tracked
rotation of the root joint. The corrections (turn, movement) minimise differences between the frames and two templates,
priors, and second differences in time. One template is the texture at points of the torso's surface. The other is the
matte at points of a plane through the torso. It shows the outline of the shoulders with any clothes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.tracking.fit.energy import Steadiness
from partnerface_ns.tracking.fit.fit_head import FitHead
from partnerface_ns.tracking.fit.landmark_weights import head_rotation, normalize
from partnerface_ns.tracking.fit.observations import Fit, Observations
from partnerface_ns.tracking.fit.photometric.corrections import Chain, rotate, solve_chain
from partnerface_ns.tracking.fit.photometric.detail_images import DetailImages
from partnerface_ns.tracking.fit.photometric.equations import (
    CORRELATED_TEXTURE,
    NormalEquations,
    Residuals,
    image_precision,
)
from partnerface_ns.tracking.fit.photometric.posed_points import pixel_derivatives
from partnerface_ns.tracking.fit.photometric.surface_points import on_torso, torso_rows
from partnerface_ns.tracking.fit.photometric.template import Template, make_template
from partnerface_ns.tracking.fit.photometric.visibility import visibility
from partnerface_ns.tracking.fit.problem import has_neighbours

_TURN_SIGMA, _MOVEMENT_SIGMA = 0.1, 0.05
"""Standard deviations of the corrections, radians and metres."""
_SPACING, _MARGIN = 0.008, 0.12
"""Distance between points of the plane, and how far it extends beyond the torso's surface to both sides, metres."""
_MIN_EDGE = 8.0
"""Points whose template of the matte is smaller in absolute value are far from the outline, grey levels of 255."""
_CHUNK = 8
"""Frames in memory at once."""


def has_shoulders(model: HeadModel) -> bool:
    """Whether a part of the surface moves with the shoulders alone."""
    return len(torso_rows(model)) > 0


@dataclass(frozen=True)
class _Term:
    """What the frames show at points that move with the shoulders."""

    weights: Float[Tensor, "frames points"]
    """Visibility of the points."""
    samples: Float[Tensor, "frames points"]
    """Values of the detail images at the points."""
    template: Template


class TorsoAligner:
    """The corrections of the shoulders in all frames, and what their energy depends on."""

    texture: _Term
    outline: _Term

    def __init__(
        self,
        head: FitHead,
        observations: Observations,
        fit: Fit,
        num_train: int,
        details: DetailImages,
        mattes: DetailImages,
    ) -> None:
        """
        Args:
            head: the reduced head model of the fit.
            observations: the frames; their landmarks and outlines are not used.
            fit: the fit of the head, which does not change.
            num_train: number of training frames, which come first; only they form the templates.
            details: detail images of the frames.
            mattes: detail images of their mattes, with as many levels.
        """
        self.observations, self.fit, self.num_train = observations, fit, num_train
        self.details, self.mattes, self.level = details, mattes, 0
        model = head.full
        self.shaped = ShapedHead.of(model, fit.identity[: model.num_identity], head.static_offset(fit.identity))
        verts, track = self.shaped.verts_rest, fit.track
        self.vertex_normals = vertex_normals(verts, model.faces)
        self.root = (model.joint_regressor @ verts)[Joint.ROOT]
        torso = verts[on_torso(model)]
        self.centre = torso.mean(0)
        rows = torso_rows(model)
        self.num_texture = len(rows)
        self.points = torch.cat([rows @ verts, _plane(torso)]) - self.centre
        self.normals = normalize(rows @ self.vertex_normals)
        mean = Rotation.from_rotvec(track.rotation.double().numpy()).mean().as_rotvec()
        self.rotation = torch.from_numpy(mean).float()
        self.start = self._from_root(self.rotation) + self.root + track.translation
        self.values = torch.zeros(len(self.start), 6)
        self.precision = torch.tensor([_TURN_SIGMA] * 3 + [_MOVEMENT_SIGMA] * 3).square().reciprocal()
        self.steadiness = self._steadiness()

    def _steadiness(self) -> Chain:
        """The prior on second differences in time."""
        times, steady = self.observations.times, Steadiness()
        step_seconds = float(torch.diff(times).median())
        depth = float(-self.start[:, 2].median())
        place = steady.place * depth / self.fit.focal * self.observations.px
        sigmas = torch.tensor([steady.root] * 3 + [place] * 2 + [steady.log_depth * depth])
        second = torch.nn.functional.pad(self.start[2:] - 2 * self.start[1:-1] + self.start[:-2], (3, 0))
        precision = (sigmas * min(25.0, (step_seconds / 0.04) ** 2)).square().reciprocal()
        return Chain(second, has_neighbours(times, step_seconds)[1:-1, None] * precision)

    def result(self) -> Fit:
        """The fit with the pose of the shoulders in each frame."""
        rotation = rotate(self.values[:, :3], self.rotation.expand(len(self.values), 3))
        torso = torch.cat([rotation, self._place - self._from_root(rotation) - self.root], -1)
        return replace(self.fit, track=replace(self.fit.track, torso=torso))

    def renew(self, level: int) -> None:
        """Renew visibility and templates, at a level of the detail images."""
        self.level = level
        seen, texture, inside, matte = [], [], [], []
        for part in self._chunks():
            verts, normals = self._pose(part)
            pixels = self.observations[part].project(verts, self.fit.focal)
            on_surface, in_plane = pixels.split([self.num_texture, pixels.shape[1] - self.num_texture], 1)
            seen.append(self._visibility(part, verts[:, : self.num_texture], normals, on_surface))
            texture.append(self.details.sample(level, part, on_surface))
            inside.append(((in_plane > 0) & (in_plane < self.observations.size)).all(-1).float())
            matte.append(self.mattes.sample(level, part, in_plane))
        self.texture = self._term(torch.cat(seen), torch.cat(texture))
        near = self._term(torch.cat(inside), torch.cat(matte))
        self.outline = self._term(near.weights * (near.template.values.abs() > _MIN_EDGE), near.samples)

    def residuals(self) -> Float[Tensor, "frames"]:
        """Median difference between visible points and their template, grey levels of 255; NaN without such points."""
        term = self.texture
        difference = (term.samples - term.template.values).abs()
        return difference.where(term.weights * term.template.known > 0.5, torch.nan).nanmedian(-1).values

    def improve(self) -> None:
        """One Gauss-Newton step of the corrections of all frames."""
        parts = [self._equations(part) for part in self._chunks()]
        chain = self.steadiness.reweighted(self.values)
        hessian = torch.cat([p.hessian for p in parts]) + torch.diag(self.precision)
        gradient = torch.cat([p.gradient for p in parts]) + self.precision * self.values
        self.values = self.values + solve_chain(hessian, gradient + chain.energy_gradient(self.values), chain)

    def _term(self, weights: Float[Tensor, "frames points"], samples: Float[Tensor, "frames points"]) -> _Term:
        return _Term(weights, samples, make_template(samples[: self.num_train], weights[: self.num_train]))

    @property
    def _place(self) -> Float[Tensor, "frames 3"]:
        """Position of the torso's centre, camera frame, metres."""
        return self.start + self.values[:, 3:]

    def _from_root(self, rotation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """The torso's centre relative to the root joint, after a rotation."""
        return rotation_from_axis_angle(rotation) @ (self.centre - self.root)

    def _pose(self, part: slice) -> tuple[Float[Tensor, "frames points 3"], Float[Tensor, "frames texture 3"]]:
        """Positions of all points and normals of the surface points in some frames, camera frame, metres."""
        R = rotation_from_axis_angle(self.values[part, :3]) @ rotation_from_axis_angle(self.rotation)
        verts = torch.einsum("fab,pb->fpa", R, self.points) + self._place[part, None]
        return verts, torch.einsum("fab,pb->fpa", R, self.normals)

    def _visibility(
        self,
        part: slice,
        verts: Float[Tensor, "frames points 3"],
        normals: Float[Tensor, "frames points 3"],
        pixels: Float[Tensor, "frames points 2"],
    ) -> Float[Tensor, "frames points"]:
        """Visibility of surface points, which the head may cover."""
        states, observed = self.fit.track[part], self.observations[part]
        on_head = self.shaped.model.regions["head"] > 0.5
        head, turn = self.shaped.pose(states).verts[:, on_head], head_rotation(states.rotation, states.neck)
        head_normals = torch.einsum("fab,vb->fva", turn, self.vertex_normals[on_head])
        head_pixels = observed.project(head, self.fit.focal)
        return visibility(
            torch.cat([verts, head], 1),
            torch.cat([normals, head_normals], 1),
            torch.cat([pixels, head_pixels], 1),
            observed.size,
        )[:, : verts.shape[1]]

    def _equations(self, part: slice) -> NormalEquations:
        """The normal equations of some frames."""
        verts, _ = self._pose(part)
        arms = verts - self._place[part, None]
        pixels = self.observations[part].project(verts, self.fit.focal)
        to_pixels, on_surface = pixel_derivatives(verts, self.fit.focal), slice(0, self.num_texture)
        residuals = []
        for points, images, term in (
            (on_surface, self.details, self.texture),
            (slice(self.num_texture, None), self.mattes, self.outline),
        ):
            values, slope = images.sample_with_slope(self.level, part, pixels[:, points])
            difference = values - term.template.values
            weights = term.weights[part] * term.template.known / CORRELATED_TEXTURE
            precision = image_precision(difference, weights, term.template.noise)
            a = torch.einsum("fpk,fpkc->fpc", slope, to_pixels[:, points])
            derivatives = torch.cat([torch.linalg.cross(arms[:, points], a, dim=-1), a], -1)
            residuals.append(Residuals(difference, precision, derivatives))
        return NormalEquations.of(residuals)

    def _chunks(self) -> list[slice]:
        num = len(self.values)
        return [slice(i, min(i + _CHUNK, num)) for i in range(0, num, _CHUNK)]


def _plane(torso: Float[Tensor, "verts 3"]) -> Float[Tensor, "points 3"]:
    """Evenly spread points of a plane that faces forward, through the middle of the torso, rest frame, metres."""
    low, high = torso.amin(0), torso.amax(0)
    x = torch.arange(float(low[0]) - _MARGIN, float(high[0]) + _MARGIN, _SPACING)
    y = torch.arange(float(low[1]), float(high[1]), _SPACING)
    return torch.cartesian_prod(x, y, torso.mean(0)[2:])
