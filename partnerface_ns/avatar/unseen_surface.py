"""Completion of hair, neck and torso where no training image shows them.

Training images say nothing about the back of a head that never turns. The field would repeat the face there, because
its planes are shared, and fill free space behind the person with fog. Instead, the surface that training sees is
continued over the head model's mesh: its distance from the mesh, the thickness of hair and clothes, and its colour.
Random points of the continued surface and of hidden free space are pulled towards this completion in training.

A point is hidden if few training rays reached it: the occupancy grid stores the transmittance of their samples. The
face and the ears are not completed. The method's paper has no completion; it is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from partnerface_ns.avatar.surface_prior import surface_features
from partnerface_ns.fields.canonical_field import CanonicalField
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.neighbors import VertexIndex
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.smooth import fit_smooth
from partnerface_ns.rendering.occupancy import OccupancyGrid
from partnerface_ns.rendering.volume import surface_heights, weights_from_density
from partnerface_ns.warp.inverse_skinning import InverseSkinning

_NUM_INTERVALS, _FIRST = 25, 5
"""Intervals of the training progress, and the first one at whose end there is a completion. Before, the field has no
surface, and rays reach everything."""
_NUM_POINTS, _PER_STEP = 4096, 256
"""Points of a completion, half of them near the surface and half in free space, and points of a step."""
_BELOW, _ABOVE, _STEP = 0.012, 0.07, 0.004
"""Depth below and height above the mesh at which the surface is searched, and the distance of samples, metres."""
_THIN = 25.0
"""Density in 1/m below which a sample is fog, not surface."""
_OPTICAL_DEPTH = 0.1
"""Optical depth at the surface."""
_SEEN = 0.3
"""Transmittance from which a surface counts as seen."""
_GRAZING, _SPREAD = 0.5, 1.6
"""Smallest cosine between a seen surface's normal and a camera's direction, and the cameras' range in deviations."""
_KEPT = 0.9
"""Factor on the stored transmittances at each completion."""
_OUTSIDE = 0.006
"""Distance from the surface in metres at which its transmittance is read, and beyond which space is free."""
_HAIRLINE = 0.38
"""Distance of the hairline from the top of the head, as a share of the eyes' distance from it."""
_BEHIND_EARS = 0.015
"""Distance from the ears in metres within which the surface may show an ear."""
_NEARER, _ROUGH = 0.4, 0.01
"""Share of a point's height by which it may be nearer to another part of the mesh, and tolerance, metres."""
_STIFFNESS = 0.05
"""Stiffness of the continued surface, relative to the weight 1 of a seen vertex."""
_SOLID, _EMPTY = 5.7, -1.5
"""Smallest log density of the surface and largest log density of free space."""


@dataclass
class UnseenSurfaceConfig:
    """Weights of the completion's loss terms; zero for both leaves it out."""

    color_weight: float = 1.0
    """Weight of the mean squared difference from the continued colour."""
    density_weight: float = 1e-3
    """Weight of the robust mean difference of the log density."""


class ContinuedSurface(NamedTuple):
    """The surface at the mesh's vertices, continued where no training image shows it."""

    height: Float[Tensor, "verts"]
    """Distance from the mesh along the normal, metres."""
    color: Float[Tensor, "verts 3"]
    seen: Bool[Tensor, "verts"]
    """Whether training images show the surface."""
    known: Bool[Tensor, "verts"]
    """Whether the surface is seen or continued from seen vertices."""


class UnseenSurface(nn.Module):
    """Points of a completion, with the density and colour that are expected there."""

    interval: Tensor
    points: Tensor
    log_density: Tensor
    color: Tensor
    density_share: Tensor
    color_share: Tensor

    def __init__(self, config: UnseenSurfaceConfig, model: HeadModel) -> None:
        """
        Args:
            config: weights.
            model: gives the faces and regions of the mesh.
        """
        super().__init__()
        self.config = config
        self._faces = shell_faces(model)
        self.register_buffer("interval", torch.tensor(0))
        self.register_buffer("points", torch.zeros(_NUM_POINTS, 3))
        self.register_buffer("log_density", torch.zeros(_NUM_POINTS))
        self.register_buffer("color", torch.zeros(_NUM_POINTS, 3))
        self.register_buffer("density_share", torch.zeros(_NUM_POINTS))
        self.register_buffer("color_share", torch.zeros(_NUM_POINTS))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        for name, value in self.named_buffers(recurse=False):  # files of earlier versions have no completion
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UnseenSurface:
        moved = super()._apply(fn, recurse)
        self.interval = self.interval.cpu()  # it drives Python control flow
        return moved

    @property
    def enabled(self) -> bool:
        """Whether training has these terms. A head model may have no surface that can be completed."""
        return len(self._faces) > 0 and (self.config.color_weight > 0 or self.config.density_weight > 0)

    def losses(self, field: CanonicalField, skinning: InverseSkinning) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms at random points of the completion; zero before the first one."""
        pick = torch.randint(_NUM_POINTS, (_PER_STEP,), device=self.points.device)
        points, expected = self.points[pick], self.log_density[pick]
        geometry = field.geometry(points, *surface_features(skinning.space, points))
        error = expected - geometry.density.clamp(min=1e-3).log()
        # Neither a surface that is too dense nor free space that is too empty is an error.
        error = torch.where(expected > 0, error, -error).clamp(min=0)
        density = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none") * self.density_share[pick]
        directions, ambient = _seen_directions(field, len(pick)), _no_ambient(field, len(pick))
        # Colours of the back would cost the network accuracy in the face.
        color = field.color(geometry.features, directions, ambient, fixed_network=True)
        difference = (color - self.color[pick]).square().sum(1) * self.color_share[pick]
        return {
            "unseen_density": self.config.density_weight * density.mean(),
            "unseen_color": self.config.color_weight * difference.mean(),
        }

    @torch.no_grad()
    def end_step(self, progress: float, field: CanonicalField, skinning: InverseSkinning, grid: OccupancyGrid) -> None:
        """End a training step. Once in each interval of the progress, continue the surface that training sees now.

        Args:
            progress: of training, 0 to 1.
            field: the canonical field.
            skinning: gives the canonical mesh.
            grid: gives the transmittance of training rays.
        """
        interval, before = int(progress * _NUM_INTERVALS), int(self.interval)
        if interval == before:
            return
        self.interval.fill_(interval)
        if before >= _FIRST:
            if self.enabled:
                with record_function("unseen surface"):
                    self._complete(field, skinning, grid)
            grid.reached.mul_(_KEPT)
        elif interval >= _FIRST:
            grid.reached.zero_()

    def _complete(self, field: CanonicalField, skinning: InverseSkinning, grid: OccupancyGrid) -> None:
        """Continue the surface and draw the points of the next steps."""
        verts = skinning.canonical.verts
        normals = vertex_normals(verts, skinning.head.model.faces)
        surface = continue_surface(field, skinning, grid, normals, self._faces.to(verts.device))
        near = self._near_surface(surface, normals, skinning, grid)
        free = self._in_free_space(surface, skinning, grid)
        for name, values in zip(("points", "log_density", "color", "density_share", "color_share"), near, strict=True):
            getattr(self, name)[: _NUM_POINTS // 2] = values
        half = slice(_NUM_POINTS // 2, None)
        self.points[half], self.density_share[half] = free
        self.log_density[half], self.color_share[half] = _EMPTY, 0.0

    def _near_surface(
        self, surface: ContinuedSurface, normals: Tensor, skinning: InverseSkinning, grid: OccupancyGrid
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Points near unseen triangles: positions, log densities, colours, and the shares of both terms."""
        verts, faces = skinning.canonical.verts, self._faces.to(normals.device)
        unseen = (surface.known & ~surface.seen)[faces].float().mean(1)
        a, b, c = verts[faces].unbind(1)
        area = torch.linalg.cross(b - a, c - a).norm(dim=1)
        num = _NUM_POINTS // 2
        chosen = faces[torch.multinomial(area * unseen + 1e-12, num, replacement=True)]
        corners = torch.distributions.Dirichlet(torch.ones(3, device=verts.device)).sample((num,))

        def at_points(values: Tensor) -> Tensor:
            return (corners[..., None] * values[chosen]).sum(1)

        height = at_points(surface.height[:, None])[:, 0]
        above = -_BELOW + torch.rand(num, device=verts.device) * (height + _BELOW + 2 * _OUTSIDE)
        points = at_points(verts) + above[:, None] * F.normalize(at_points(normals), dim=1)
        distance = skinning.space.distance_and_clearance(points)[0]
        hidden = grid.is_hidden(points) & _belongs(distance, above)
        solid = above < height
        log_density = torch.where(solid, _SOLID, _EMPTY)
        undecided = (above - height).abs() < _OUTSIDE / 3  # the surface is not known more precisely
        return points, log_density, at_points(surface.color), (hidden & ~undecided).float(), (hidden & solid).float()

    def _in_free_space(
        self, surface: ContinuedSurface, skinning: InverseSkinning, grid: OccupancyGrid
    ) -> tuple[Tensor, Tensor]:
        """Hidden points around the person, and which of them must be empty."""
        points = grid.draw(_NUM_POINTS // 2)[1]
        nearest = VertexIndex(skinning.canonical.verts).query(points, 2).index[:, 0]
        distance = skinning.space.distance_and_clearance(points)[0]
        beyond = distance > surface.height[nearest] + 2 * _OUTSIDE
        return points, (beyond & surface.known[nearest] & grid.is_hidden(points)).float()


def shell_faces(model: HeadModel) -> Int[Tensor, "faces 3"]:
    """Triangles under hair, clothes or the skin of the neck: all but face, ears and the inside of the head.

    Scalp, neck and torso have no common triangles, so that a surface is not continued from one to another. The scalp
    begins at the usual height of the hairline.
    """
    template, regions = model.template, model.regions
    height, eyeballs = template[:, 1], regions["eyeballs"] > 0.5
    hairline = height.max() - _HAIRLINE * (height.max() - height[eyeballs].mean())
    face = (regions["face"] > 0.3) & ~(height > hairline)  # without eyeballs, all of the face
    names = ("ears", "lips", "eyelids", "eyeballs", "inside_mouth")
    shell = (torch.stack([regions[name] for name in names]).amax(0) < 0.3) & ~face
    ears = template[regions["ears"] > 0.5]
    if len(ears) > 1:
        shell &= VertexIndex(ears).query(template, 2).distance[:, 0] > _BEHIND_EARS
    nape = template[regions["lips"] > 0.5, 1].mean()
    area = torch.where(regions["torso"] > 0.5, 0, torch.where(template[:, 1] < nape, 1, 2))
    area = torch.where(shell, area, -1)[model.faces]
    return model.faces[(area >= 0).all(1) & (area == area[:, :1]).all(1)]


def continue_surface(
    field: CanonicalField,
    skinning: InverseSkinning,
    grid: OccupancyGrid,
    normals: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
) -> ContinuedSurface:
    """The surface of the undeformed field at the vertices, continued from those that training sees.

    Args:
        field: the canonical field.
        skinning: gives the canonical mesh.
        grid: gives the transmittance of training rays.
        normals: the mesh's normals.
        faces: from `shell_faces`.
    """
    shell = torch.zeros(len(normals), dtype=torch.bool, device=normals.device)
    shell[faces.flatten()] = True
    verts, outward = skinning.canonical.verts[shell], normals[shell]
    heights = torch.arange(_ABOVE, -_BELOW, -_STEP, device=verts.device)  # from outside
    points = (verts[:, None] + heights[:, None] * outward[:, None]).flatten(0, 1)
    distance = skinning.space.distance_and_clearance(points)[0].view(len(verts), -1)
    geometry = field.geometry(points, *surface_features(skinning.space, points))
    density = geometry.density.view(len(verts), -1)
    belongs = _belongs(distance, heights)
    density = torch.where((density > _THIN) & belongs, density, 0.0)
    height, is_known = surface_heights(density.flip(1), heights.flip(0), ~belongs.flip(1), _OPTICAL_DEPTH)
    weights = weights_from_density(density, torch.full_like(density, _STEP))
    weights = weights * grid.reached_at(points).view_as(weights)  # colours deep inside are arbitrary
    num_points = len(points)
    colors = field.color(geometry.features, _seen_directions(field, num_points, 0.0), _no_ambient(field, num_points))
    color = (weights[..., None] * colors.view(*density.shape, 3)).sum(1) / weights.sum(1, keepdim=True).clamp(min=1e-3)
    outside = verts + (height + _OUTSIDE)[:, None] * outward
    seen = is_known & (grid.reached_at(outside) > _SEEN) & (_largest_cosine(field, outward) > _GRAZING)

    all_seen = torch.zeros_like(shell).masked_scatter(shell, seen)
    target = torch.zeros(len(shell), 5, device=verts.device)
    target[shell] = torch.cat([height[:, None], color.float(), torch.ones_like(height)[:, None]], 1)
    stiffness = torch.full((len(shell),), _STIFFNESS, device=verts.device)
    arrays = (values.cpu().numpy() for values in (target, all_seen.float(), stiffness, faces))
    fitted = torch.from_numpy(fit_smooth(*arrays)).to(verts.device)
    return ContinuedSurface(fitted[:, 0], fitted[:, 1:4], all_seen, fitted[:, 4] > 0.5)


def _belongs(distance: Float[Tensor, "*#points"], height: Float[Tensor, "*#points"]) -> Bool[Tensor, "*points"]:
    """Whether points above or below a vertex belong to it, from their signed distances to the mesh and heights."""
    return (height - distance).abs() < (_NEARER * height).clamp(min=_ROUGH)


def _largest_cosine(field: CanonicalField, normals: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
    """Largest cosine, up to a factor, between each normal and the direction to a camera like those of training."""
    deviation = (field.view_square - field.view_mean.square()).clamp(min=0).sqrt()
    sideways = (normals[:, :2].abs() * _SPREAD * deviation - normals[:, :2] * field.view_mean).sum(1)
    return normals[:, 2] + sideways


def _seen_directions(field: CanonicalField, num: int, spread: float = 1.0) -> Float[Tensor, "points 3"]:
    """Random view directions like those of training; `spread` scales their standard deviation."""
    deviation = (field.view_square - field.view_mean.square()).clamp(min=0).sqrt()
    tangents = field.view_mean + spread * deviation * torch.randn(num, 2, device=field.view_mean.device)
    return F.normalize(F.pad(tangents, (0, 1), value=-1.0), dim=-1)


def _no_ambient(field: CanonicalField, num: int) -> Float[Tensor, "points ambient"]:
    return field.view_mean.new_zeros(num, field.num_ambient)
