"""Completion of hair, neck, torso and the inside of the mouth where no training image shows them.

Training images say nothing about the back of a head that never turns. The field would repeat the face there, because
its planes are shared, and fill free space behind the person with fog. Instead, the surface that training sees is
continued over the head model's mesh: its distance from the mesh, the thickness of hair and clothes, and its colour.
The continued surface is stored in the field's completion volume. In evaluation, the field is blended with this volume
at hidden points near and above the surface.

Hidden points below the surface of the mouth's inside are black. The planes would give them the colour of the cheek in
front of them, and a smile that is wider than those of training would show it.

A point is hidden if few training rays reached it: the occupancy grid stores the transmittance of their samples. The
face and the ears are not completed. The method's paper has no completion; it is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from partnerface_ns.avatar.surface_prior import surface_features
from partnerface_ns.fields.canonical_field import CanonicalField
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.mesh_areas import areas_of_verts, connected_components
from partnerface_ns.geometry.mesh_border import border_vertices
from partnerface_ns.geometry.neighbors import VertexIndex
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.geometry.smooth import fit_smooth
from partnerface_ns.rendering.occupancy import OccupancyGrid
from partnerface_ns.rendering.volume import surface_heights, weights_from_density
from partnerface_ns.warp.inverse_skinning import InverseSkinning

_NUM_INTERVALS, _FIRST = 25, 5
"""Intervals of the training progress, and the first one at whose end there is a completion. Before, the field has no
surface, and rays reach everything."""
_COMPLETED_EVERY = 3
"""Intervals from one completion to the next. The last one is near the end of training."""
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
"""Factor on the stored transmittances in each interval."""
_OUTSIDE = 0.006
"""Distance from the surface in metres at which its transmittance is read. Hidden space more than twice as far above the
surface is free."""
_HAIRLINE = 0.38
"""Distance of the hairline from the top of the head, as a share of the eyes' distance from it."""
_BEHIND_EARS = 0.015
"""Distance from the ears in metres within which the surface may show an ear."""
_NEARER, _ROUGH = 0.4, 0.01
"""Share of a point's height by which it may be nearer to another part of the mesh, and tolerance, metres."""
_STIFFNESS, _TYPICAL = 0.05, 0.01
"""Stiffness of the continued surface and weight of the typical surface, relative to the weight 1 of a seen vertex."""
_NUM_NEIGHBORS = 4
"""Number of nearest vertices whose values a node averages."""
_NEAR_MOUTH = 0.02
"""Distance from the inside of the mouth within which hidden points may be black, metres."""
_FROM_SKIN = 0.015
"""Distance from skin and lips within which no point is black, metres: views from the side would show it through a cheek
that is not quite opaque. At 18 mm, the demo's mouth keeps only a fifth of what black points gain."""
_IN_WALL = 0.002
"""Depth below the mesh up to which no point is black, metres: interpolation would darken teeth and tongue."""
_DEEP, _BEYOND = 0.03, 0.03
"""Nodes deeper than this inside the mesh, or this far beyond the reach of density, are left out; metres."""


@dataclass
class UnseenSurfaceConfig:
    """Completion of the surface that no training image shows."""

    REMOVED: ClassVar[tuple[str, ...]] = ("color_weight", "density_weight")
    """Settings of earlier versions, which trained the completion."""

    enabled: bool = True
    """Whether training fills the completion, the mouth included. If not, evaluation shows the field alone."""


class ContinuedSurface(NamedTuple):
    """The surface at the mesh's vertices, continued where no training image shows it."""

    height: Float[Tensor, "verts"]
    """Distance from the mesh along the normal, metres."""
    color: Float[Tensor, "verts 3"]
    seen: Bool[Tensor, "verts"]
    """Whether training images show the surface."""
    known: Bool[Tensor, "verts"]
    """Whether the surface is seen or continued from seen vertices."""


class _NearNodes(NamedTuple):
    """Nodes of the completion volume near the mesh."""

    index: Int[Tensor, "near"]
    points: Float[Tensor, "near 3"]
    """Canonical frame, metres."""
    distance: Float[Tensor, "near"]
    """Signed distance to the mesh, metres."""
    below_mouth: Bool[Tensor, "near"]
    """Whether the node is below the surface of the mouth's inside."""
    verts: Int[Tensor, "near neighbors"]
    """The nearest vertices."""
    weights: Float[Tensor, "near neighbors"]

    @staticmethod
    def of(field: CanonicalField, skinning: InverseSkinning) -> _NearNodes:
        points = field.uncontract(field.completion.nodes())
        distance, clearance = skinning.space.distance_and_clearance(points)
        index = ((clearance > -_BEYOND) & (distance > -_DEEP)).nonzero()[:, 0]
        points = points[index]
        far, verts = VertexIndex(skinning.canonical.verts).query(points, _NUM_NEIGHBORS)
        closeness = 1 / (far + 1e-3)
        below_mouth = _is_below_mouth(points, distance[index], skinning)
        return _NearNodes(
            index, points, distance[index], below_mouth, verts, closeness / closeness.sum(1, keepdim=True)
        )

    def interpolate(self, of_verts: Float[Tensor, "verts channels"]) -> Float[Tensor, "near channels"]:
        return (self.weights[..., None] * of_verts[self.verts]).sum(1)


class UnseenSurface(nn.Module):
    """Fills the completion of the canonical field during training."""

    interval: Tensor
    faces: Tensor
    component: Tensor
    border: Tensor

    def __init__(self, config: UnseenSurfaceConfig, model: HeadModel) -> None:
        """
        Args:
            config: settings.
            model: gives the faces and regions of the mesh.
        """
        super().__init__()
        self.config = config
        num_verts = len(model.template)
        self.register_buffer("interval", torch.tensor(0))
        self.register_buffer("faces", shell_faces(model), persistent=False)
        self.register_buffer("component", connected_components(self.faces, num_verts), persistent=False)
        self.register_buffer("border", torch.zeros(num_verts, dtype=torch.bool), persistent=False)
        self.border[torch.from_numpy(border_vertices(model.faces.cpu().numpy()))] = True
        self._near: tuple[InverseSkinning, _NearNodes] | None = None

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # Earlier versions had no completion, or stored the points at which they trained it.
        state_dict.setdefault(f"{prefix}interval", self.interval)
        for name in ("points", "log_density", "color", "density_share", "color_share"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UnseenSurface:
        moved = super()._apply(fn, recurse)
        self.interval = self.interval.cpu()  # it drives Python control flow
        self._near = None
        return moved

    @torch.no_grad()
    def end_step(self, progress: float, field: CanonicalField, skinning: InverseSkinning, grid: OccupancyGrid) -> None:
        """End a training step. Once in each interval of the progress, continue the surface that training sees now.

        Args:
            progress: of training, 0 to 1.
            field: the canonical field, in training.
            skinning: gives the canonical mesh.
            grid: gives the transmittance of training rays.
        """
        interval, before = int(progress * _NUM_INTERVALS), int(self.interval)
        if interval == before:
            return
        self.interval.fill_(interval)
        if before >= _FIRST:
            is_due = interval // _COMPLETED_EVERY > before // _COMPLETED_EVERY
            can_complete = len(self.faces) > 0  # a head model may have no such surface
            if is_due and can_complete and self.config.enabled:
                with record_function("unseen surface"):
                    self.complete(field, skinning, grid)
            grid.reached.mul_(_KEPT)
        elif interval >= _FIRST:
            grid.reached.zero_()

    @torch.no_grad()
    def complete(self, field: CanonicalField, skinning: InverseSkinning, grid: OccupancyGrid) -> None:
        """Continue the surface and fill the field's completion with it; arguments as for `end_step`."""
        assert field.training, "in evaluation, the field would show its own completion"
        surface = continue_surface(field, skinning, grid, self.faces, self.component)
        if self._near is None or self._near[0] is not skinning:
            self._near = skinning, _NearNodes.of(field, skinning)
        near = self._near[1]
        unseen = surface.known & ~surface.seen
        bounds = surface.known & ~self.border  # beyond the mesh's border, clothes may go on
        of_verts = torch.stack([bounds.float(), unseen.float(), surface.height], -1)
        bounds_share, unseen_share, surface_height = near.interpolate(of_verts).unbind(-1)
        height = near.distance - surface_height
        # Near a seen surface the field stays. Hidden space further away is free.
        share = torch.where(height > 2 * _OUTSIDE, bounds_share, unseen_share)
        share = torch.where(near.below_mouth, 1.0, share) * grid.is_hidden(near.points)
        height = torch.where(near.below_mouth, near.distance, height)
        color = near.interpolate(surface.color) * ~near.below_mouth[:, None]
        field.completion.fill(near.index, torch.cat([share[:, None], height[:, None], color], 1))


def _is_below_mouth(
    points: Float[Tensor, "points 3"], distance: Float[Tensor, "points"], skinning: InverseSkinning
) -> Bool[Tensor, "points"]:
    """Whether canonical points are below the surface of the mouth's inside, and away from skin and lips.

    Args:
        points: metres.
        distance: signed distance to the mesh, metres.
        skinning: gives the canonical mesh.
    """
    inside, regions = skinning.verts_in_mouth, skinning.head.model.regions
    skin = (regions["inside_mouth"] <= 0.5) | (regions["lips"] >= 0.5)
    if len(inside) < 2:
        return torch.zeros_like(distance, dtype=torch.bool)
    from_mouth = VertexIndex(inside).query(points, 2).distance[:, 0]
    from_skin = VertexIndex(skinning.canonical.verts[skin]).query(points, 2).distance[:, 0]
    return (from_mouth < _NEAR_MOUTH) & (from_skin > _FROM_SKIN) & (distance < -_IN_WALL)


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
    faces: Int[Tensor, "faces 3"],
    component: Int[Tensor, "verts"],
) -> ContinuedSurface:
    """The surface of the undeformed field at the vertices, continued from those that training sees.

    Far from seen vertices it has the height and colour that are typical of its connected component: the medians.

    Args:
        field: the canonical field, in training.
        skinning: gives the canonical mesh.
        grid: gives the transmittance of training rays.
        faces: from `shell_faces`.
        component: connected component of each vertex.
    """
    verts = skinning.canonical.verts
    normals = vertex_normals(verts, skinning.head.model.faces)
    shell = torch.zeros(len(verts), dtype=torch.bool, device=verts.device)
    shell[faces.flatten()] = True
    height, color, seen = _measure_surface(field, skinning, grid, verts[shell], normals[shell])
    all_seen = torch.zeros_like(shell).masked_scatter(shell, seen)
    known, target = torch.zeros_like(shell), height.new_zeros(len(shell), 4)
    target[shell] = torch.cat([height[:, None], color], 1)
    area = areas_of_verts(verts, faces)
    for index in component[all_seen].unique():
        members = component == index
        measured = members & all_seen
        known |= members
        target[members & ~measured] = _weighted_median(target[measured], area[measured])
    stiffness = torch.full_like(area, _STIFFNESS)
    weights = torch.where(all_seen, 1.0, _TYPICAL * known)
    arrays = (values.cpu().numpy() for values in (target, weights, stiffness, faces))
    fitted = torch.from_numpy(fit_smooth(*arrays)).to(verts.device)
    return ContinuedSurface(fitted[:, 0], fitted[:, 1:], all_seen, known)


def _measure_surface(
    field: CanonicalField,
    skinning: InverseSkinning,
    grid: OccupancyGrid,
    verts: Float[Tensor, "shell 3"],
    outward: Float[Tensor, "shell 3"],
) -> tuple[Float[Tensor, "shell"], Float[Tensor, "shell 3"], Bool[Tensor, "shell"]]:
    """Height and colour of the field's surface along the normals of vertices, and whether training sees it."""
    heights = torch.arange(_ABOVE, -_BELOW, -_STEP, device=verts.device)  # from outside
    points = (verts[:, None] + heights[:, None] * outward[:, None]).flatten(0, 1)
    distance = skinning.space.distance_and_clearance(points)[0].view(len(verts), -1)
    geometry = field.geometry(points, *surface_features(skinning.space, points))
    density = geometry.density.view(len(verts), -1)
    belongs = _belongs(distance, heights)
    density = torch.where((density > _THIN) & belongs, density, 0.0)
    height, is_known = surface_heights(density.flip(1), heights.flip(0), ~belongs.flip(1), _OPTICAL_DEPTH)
    weights = weights_from_density(density, torch.full_like(density, _STEP))
    weights = weights * ~grid.is_hidden(points).view_as(weights)  # colours deep inside are arbitrary
    directions = F.normalize(F.pad(field.view_mean, (0, 1), value=-1.0), dim=0).expand_as(points)
    colors = field.color(geometry.features, directions, points.new_zeros(len(points), field.num_ambient))
    color = (weights[..., None] * colors.view(*density.shape, 3)).sum(1) / weights.sum(1, keepdim=True).clamp(min=1e-3)
    outside = verts + (height + _OUTSIDE)[:, None] * outward
    seen = is_known & (grid.reached_at(outside) > _SEEN) & (_largest_cosine(field, outward) > _GRAZING)
    return height, color, seen


def _weighted_median(
    values: Float[Tensor, "rows channels"], weights: Float[Tensor, "rows"]
) -> Float[Tensor, "channels"]:
    """The median of each channel, in which each row counts by its weight."""
    ascending, order = values.sort(0)
    below = weights[order].cumsum(0)
    middle = (below < below[-1] / 2).sum(0, keepdim=True)
    return ascending.gather(0, middle)[0]


def _belongs(distance: Float[Tensor, "*#points"], height: Float[Tensor, "*#points"]) -> Bool[Tensor, "*points"]:
    """Whether points above or below a vertex belong to it, from their signed distances to the mesh and heights."""
    return (height - distance).abs() < (_NEARER * height).clamp(min=_ROUGH)


def _largest_cosine(field: CanonicalField, normals: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
    """Largest cosine, up to a factor, between each normal and the direction to a camera like those of training."""
    deviation = (field.view_square - field.view_mean.square()).clamp(min=0).sqrt()
    sideways = (normals[:, :2].abs() * _SPREAD * deviation - normals[:, :2] * field.view_mean).sum(1)
    return normals[:, 2] + sideways
