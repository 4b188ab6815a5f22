"""The avatar: rays and head states in, pixels out. A plain torch module that knows no framework.

A sample's way (world frame, metres): ray -> probes in remembered density -> proposals in the field's density ->
intervals -> inverse skinning to the canonical head -> correction of tracking -> part deformation -> canonical field ->
volume rendering. `render` does it, `loss` compares with pixels, `set_progress` moves training from hard to soft parts.

The state dict holds what belongs to the person (identity, part seeds, bounds, stage, the head model's fingerprint),
never the head model's arrays: those come again from the user's file.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.init import Subject
from partnerface_ns.avatar.stages import Moments, MovedPoints, Shaded
from partnerface_ns.common.precision import in_bfloat16, own_precision
from partnerface_ns.fields.canonical_field import CanonicalField
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import transform_points
from partnerface_ns.geometry.rows import Rows
from partnerface_ns.rendering.inspection import colors_of_parts
from partnerface_ns.rendering.losses import color_loss, mask_loss
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import (
    DensityGrid,
    RayIntervals,
    along,
    box_interval,
    interpolate_even,
    midpoints,
    probe_edges,
    propose,
    refine,
)
from partnerface_ns.rendering.volume import weights_from_density
from partnerface_ns.warp.driving_code import DrivingCode, code_visibility
from partnerface_ns.warp.inverse_skinning import CanonicalPoints, InverseSkinning, PosedFrames
from partnerface_ns.warp.part_assigner import PartAssigner, PartWeights, seed_parts
from partnerface_ns.warp.part_deformation import GlobalDeformation, PartDeformation
from partnerface_ns.warp.torso import TorsoMotion
from partnerface_ns.warp.tracking_correction import TrackingCorrection

HARD, SOFT = 1, 2
_DEEP = 0.03
"""Metres below the mesh from which nothing can be seen."""
_SKIN = 0.01
"""Height in metres up to which density is expected to be the skin's; hair and glasses begin above."""
_HAIR = 0.02
"""Metres, about hair's thickness: the unit in which the density network is told heights."""
_NUM_KNOWN = 2
"""Numbers that the density network is told of a place: height above the mesh and room left."""
_NUM_ELSEWHERE = 512
"""Random places a step at which the deformation is kept small."""
_NUM_SMOOTH = 512
"""Samples of a step, about, at which part weights are kept smooth."""
_NUM_IN_MOUTH, _NEAR_MOUTH = 128, 0.001
"""Random places a step at which the inside of the mouth is kept dark, and how far from its surface they lie, metres
(standard deviation along each axis)."""
_RAYS_ON_CPU, _RAYS_ON_GPU = 1 << 14, 1 << 16
"""Rays rendered at once in evaluation: enough to keep the device busy, few enough for a small memory."""
_SEEN = 5e-4
"""Share of a pixel below which a sample's colour is not computed."""


class Avatar(nn.Module):
    """An animatable head."""

    stage: Tensor
    step: Tensor
    identity: Tensor
    static_offset: Tensor

    def __init__(self, config: AvatarConfig, subject: Subject) -> None:
        super().__init__()
        self.config = config
        self._model = subject.model
        self._skinning: InverseSkinning | None = None
        self.register_buffer("identity", subject.identity.clone())
        self.register_buffer("static_offset", subject.static_offset.clone())
        self.register_buffer("background", torch.tensor(subject.background))
        self.register_buffer("stage", torch.tensor(SOFT if config.schedule == "soft" else HARD))
        self.register_buffer("step", torch.tensor(0))
        fingerprint = list(bytes.fromhex(subject.model.fingerprint))
        self.register_buffer("fingerprint", torch.tensor(fingerprint, dtype=torch.uint8))
        self.register_load_state_dict_post_hook(lambda module, _: module._become_loaded_person())

        head = self.skinning.head
        canonical = self.skinning.canonical.verts
        lower, upper = self.skinning.space.lower, self.skinning.space.upper
        scale = _half_size(lower, upper)
        root = (head.model.joint_regressor @ head.verts_rest)[0]
        self.torso = TorsoMotion(subject.states, root, subject.num_timesteps)
        middle = canonical[head.model.regions["face"] > 0.5].mean(0)
        self.correction = TrackingCorrection(config.correction, subject.states, middle, subject.num_timesteps)
        self.code = DrivingCode(subject.states)
        num_ambient = 0 if config.deformation == "none" else config.parts.num_ambient
        if config.deformation == "parts":
            seeds = seed_parts(head.model, canonical, config.num_parts)
            visibility = code_visibility(self.code, head, canonical, seeds)
            self.assigner = PartAssigner(config.assigner, seeds, scale)
            self.deformation = PartDeformation(config.parts, seeds, visibility, scale)
        elif config.deformation == "global":
            self.deformation = GlobalDeformation(config.parts, config.num_parts, self.code.size, scale)
        self.field = CanonicalField(config.canonical, lower, upper, _NUM_KNOWN, num_ambient)
        self.grid = self._density_grid(lower, upper)

    # -- parts of the person -------------------------------------------------------------------------------------

    @property
    def skinning(self) -> InverseSkinning:
        """Inverse skinning of this person on this device; a load of another person or a move makes it again."""
        if self._skinning is None:
            head = ShapedHead.of(self._model.to(self.identity.device), self.identity, self.static_offset)
            self._skinning = InverseSkinning(self.config.skinning, self.config.displacement, self.config.space, head)
            self._skinned = (self.identity.clone(), self.static_offset.clone())
        return self._skinning

    def _forget_other_skinning(self) -> None:
        """Keep the skinning, which takes seconds to make, where person and device are those that it was made for."""
        now = (self.identity, self.static_offset)
        if self._skinning is not None and not all(map(_same, self._skinned, now)):
            self._skinning = None

    def _become_loaded_person(self) -> None:
        """Make anew what follows from the person: the avatar may have been built for another one."""
        self._forget_other_skinning()
        scale = _half_size(self.field.lower, self.field.upper)
        for name in ("assigner", "deformation"):
            if hasattr(self, name):
                getattr(self, name).scale = scale

    def _apply(self, *args: object, **kwargs: object) -> Avatar:
        moved = super()._apply(*args, **kwargs)
        self._forget_other_skinning()
        # What decides what is done stays on the CPU: a GPU would have to be waited for.
        self.stage, self.step = self.stage.cpu(), self.step.cpu()
        return moved

    def _density_grid(self, lower: Tensor, upper: Tensor) -> DensityGrid:
        """The density grid; matter is possible within reach of the mesh, and not deep inside it."""
        num = self.config.sampling.grid_resolution
        axes = [torch.linspace(0.5 / num, 1 - 0.5 / num, num, device=lower.device)] * 3
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        height, room = self.skinning.space.height_and_room(lower + cells * (upper - lower))
        return DensityGrid(num, lower, upper, (room > 0) & (height > -_DEEP))

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the learning rate they want."""
        groups = {
            "planes": list(self.field.planes.parameters()),
            "field": [p for n, p in self.field.named_parameters() if not n.startswith("planes")],
        }
        if self.config.torso.enabled:
            groups["torso"] = list(self.torso.parameters())
        if self.config.correction.enabled:
            groups["correction"] = list(self.correction.parameters())
        if self.config.deformation != "none":
            groups["deformation"] = list(self.deformation.parameters())
        if self.config.deformation == "parts" and self.config.schedule != "hard":
            groups["assigner"] = list(self.assigner.parameters())
        return groups

    def set_progress(self, progress: float) -> None:
        """Set the stage from the share of training done, 0 to 1; the same share always gives the same stage."""
        if self.config.schedule == "two-stage":
            self.stage.fill_(SOFT if progress >= self.config.stage2_start else HARD)

    # -- rendering -----------------------------------------------------------------------------------------------

    @own_precision()
    def render(
        self,
        rays: Rays,
        states: HeadState,
        timesteps: Int[Tensor, "frames"] | None = None,
        rays_at_once: int | None = None,
    ) -> dict[str, Float[Tensor, "rays channels"]]:
        """Render rays.

        Args:
            rays: rays of one or more frames, in any order.
            states: head states of these frames, batch axes (frames,).
            timesteps: their timesteps in the training capture, if they were trained on; gives the torso's own
                pose there. None predicts it from the head's pose.
            rays_at_once: rays that share memory, in evaluation; None takes what suits the device.

        Returns:
            rgb (rays, 3) in [0, 1] over the background, accumulation (rays, 1) in [0, 1], depth (rays, 1) in metres
            along the ray; in evaluation also, as colours (rays, 3): parts, deformation (size of the offset), canonical
            (place in the canonical head). In training also the scalar regularisers that `loss` takes.
        """
        moments = self.moments(states, timesteps)
        if self.training:
            rendered = self.rendered(rays, moments, timesteps)
            self.remember()
            return rendered
        size = rays_at_once or (_RAYS_ON_GPU if rays.frame.is_cuda else _RAYS_ON_CPU)
        found = [self.rendered(part, moments, timesteps) for part in rays.split(size)]
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    @own_precision()
    def rendered(
        self, rays: Rays, moments: Moments, timesteps: Int[Tensor, "frames"] | None
    ) -> dict[str, Float[Tensor, "rays channels"]]:
        """Render prepared frames; all else as for `render`, which also counts the step in training."""
        order = rays.frame.argsort(stable=True)
        in_order = Rays(rays.origins[order], rays.directions[order], rays.frame[order])
        with torch.no_grad():
            intervals = self._intervals(in_order, moments)
        outputs = self._shade(in_order, moments, timesteps, intervals)
        as_given = order.argsort()
        return {name: value[as_given] if value.ndim else value for name, value in outputs.items()}

    @own_precision()
    def moments(
        self, states: HeadState, timesteps: Int[Tensor, "frames"] | None = None, posed: PosedFrames | None = None
    ) -> Moments:
        """Prepare frames; arguments as for `render`, and `posed` where the head was posed before."""
        T_world_torso = self.torso(states, timesteps) if self.config.torso.enabled else None
        T_correction = self.correction(states, timesteps) if self.config.correction.enabled else None
        return Moments(states, self.skinning.frames(posed or self.skinning.posed(states), T_world_torso), T_correction)

    def _intervals(self, rays: Rays, moments: Moments) -> RayIntervals:
        config, frames = self.config.sampling, moments.skinned
        padding = max(self.config.space.reach_hair, self.config.space.reach_torso)
        lower, upper = frames.verts.amin(1) - padding, frames.verts.amax(1) + padding
        near, far = box_interval(rays.origins, rays.directions, lower[rays.frame], upper[rays.frame])
        edges = probe_edges(near, far, config.num_probes, self.training)
        middle = midpoints(edges)
        # Most probes are far from the person: that shows where the rigid bones alone would carry them.
        rigid = torch.zeros_like(middle, dtype=torch.bool)
        for T in (frames.T_canonical_skull[rays.frame], frames.T_canonical_torso[rays.frame]):
            directions = torch.einsum("rab,rb->ra", T[:, :3, :3], rays.directions)
            rigid |= self.grid.near_matter(along(transform_points(T, rays.origins), directions, middle))
        near_person = Rows((rigid & (near < far)[:, None]).flatten())
        points = near_person.of(along(rays.origins, rays.directions, middle).flatten(0, 1))
        frame = near_person.of(rays.frame.repeat_interleave(middle.shape[1]))
        found = self.canonical(points, frame, moments).points
        nothing = middle.new_zeros(middle.numel(), 3)
        density = near_person.into(nothing[:, 0], self.grid.probe(found)).view(middle.shape)
        canonical = near_person.into(nothing, found).view(*middle.shape, 3)
        proposed = propose(edges, density, config, jitter=self.training)
        # Inverse skinning is smooth along a ray: the proposals' places lie between the probes'.
        hit = proposed.ray
        step = edges[hit, 1] - edges[hit, 0]
        places = interpolate_even(canonical[hit], middle[hit, 0], step, midpoints(proposed.edges))
        return refine(proposed, self.density(places.flatten(0, 1)).view(places.shape[:2]), config, self.training)

    @own_precision()
    def canonical(
        self, points: Float[Tensor, "points 3"], frame: Int[Tensor, "points"], moments: Moments
    ) -> CanonicalPoints:
        """Canonical places of points of the world, before any deformation; `frame` is ascending."""
        found = self.skinning(points, frame, moments.skinned)
        if moments.T_correction is None:
            return found
        return replace(found, points=self.correction.correct(found.points, frame, found.torso, moments.T_correction))

    @own_precision()
    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """The field's density in 1/m at canonical places that nothing deforms."""
        with in_bfloat16(points.device, self.config.bfloat16):
            return self.field.geometry(points, *self._expected(points)).density

    def _shade(
        self,
        rays: Rays,
        moments: Moments,
        timesteps: Tensor | None,
        intervals: RayIntervals,
    ) -> dict[str, Tensor]:
        ray, edges = intervals.ray, intervals.edges
        middle = midpoints(edges)
        # A long interval spans emptiness that its one sample does not stand for.
        delta = edges.diff(dim=1).clamp(max=self.config.sampling.max_interval)
        num_hits, num_samples = middle.shape
        points = along(rays.origins[ray], rays.directions[ray], middle).flatten(0, 1)
        frame = rays.frame[ray].repeat_interleave(num_samples)

        canonical = self.canonical(points, frame, moments)
        with in_bfloat16(points.device, self.config.bfloat16):
            moved, elsewhere = self._deformed(canonical, frame, moments.states)
            known, prior = self._expected(moved.points)
            geometry = self.field.geometry(moved.points, known, prior)
            weights = weights_from_density(geometry.density.reshape(num_hits, num_samples), delta)
            seen = Rows(weights.detach().flatten() > _SEEN)
            ray_seen = seen.of(ray.repeat_interleave(num_samples))
            T = moments.skinned.T_canonical_skull[rays.frame[ray_seen], :3, :3]
            directions = torch.einsum("pab,pb->pa", T, rays.directions[ray_seen])
            color = self.field.color(seen.of(geometry.features), directions, seen.of(moved.ambient))

        weight_seen = seen.of(weights.flatten() * seen.holds)[:, None]
        if self.training:
            self.field.remember_views(directions, weight_seen.detach())
        on_rays = lambda values: values.new_zeros(rays.origins.shape[0], values.shape[1]).index_add(  # noqa: E731
            0, ray_seen, weight_seen * values
        )
        accumulation = _scatter(weights.sum(1, keepdim=True), ray, rays)
        depth = _scatter((weights * middle).sum(1, keepdim=True), ray, rays)
        outputs = {
            "rgb": on_rays(color) + (1 - accumulation) * self.background,
            "accumulation": accumulation,
            "depth": depth / accumulation.clamp(min=1e-4),
        }
        if self.training:
            optical_depth = (geometry.density.reshape(num_hits, num_samples) * delta).sum(1, keepdim=True)
            outputs["optical_depth"] = _scatter(optical_depth, ray, rays)
            at_skin = known[:, 0] < _SKIN / _HAIR
            on_hits = (edges[:, -1:] > edges[:, :1]).expand_as(middle).flatten()
            shaded = Shaded(moved, elsewhere, geometry.correction * at_skin, canonical.points, on_hits)
            outputs |= self._regularizers(shaded, timesteps)
        else:
            outputs |= {name: on_rays(seen.of(v)) for name, v in self.inspect(canonical.points, moved).items()}
        return outputs

    def _deformed(
        self, canonical: CanonicalPoints, frame: Tensor, states: HeadState
    ) -> tuple[MovedPoints, Float[Tensor, "points 3"] | None]:
        """Points after deformation; in training also the offsets of random possible places, where no ray may look."""
        if not self.training or self.config.deformation == "none":
            return self.deform(canonical, frame, states), None
        num = len(canonical.points)
        _, places = self.grid.draw(_NUM_ELSEWHERE)
        torso = torch.cat([canonical.torso, self.skinning.space.torso_share(places)])
        both = CanonicalPoints(torch.cat([canonical.points, places]), torso)
        frames = torch.randint(len(states), (len(places),), device=frame.device)
        moved = self.deform(both, torch.cat([frame, frames]), states)
        return MovedPoints(moved.points[:num], moved.ambient[:num], moved.offset[:num], None), moved.offset[num:]

    def deform(self, canonical: CanonicalPoints, frame: Int[Tensor, "points"], states: HeadState) -> MovedPoints:
        """Deform the points that the head carries; the torso's stay."""
        points = canonical.points
        num_ambient = 0 if self.config.deformation == "none" else self.config.parts.num_ambient
        still = MovedPoints(points, points.new_zeros(points.shape[0], num_ambient), torch.zeros_like(points), None)
        if self.config.deformation == "none":
            return still
        on_head = Rows(canonical.torso < 0.99)
        codes = self.code(states)
        if self.training:
            codes = codes + self.config.code_noise * torch.randn_like(codes)
        places = on_head.of(points)
        parts = self._parts(places)
        arguments = (places, on_head.of(frame), codes)
        found = self.deformation(*arguments) if parts is None else self.deformation(*arguments, parts)
        free = (1 - on_head.of(canonical.torso))[:, None]
        offset = on_head.into(still.offset, found.offset * free)
        ambient = on_head.into(still.ambient, found.ambient * free)
        return MovedPoints(points + offset, ambient, offset, None if parts is None else (on_head, parts))

    def _parts(self, points: Tensor) -> PartWeights | None:
        if self.config.deformation != "parts":
            return None
        return self.assigner.soft(points) if int(self.stage) == SOFT else self.assigner.hard(points)

    @torch.no_grad()
    @own_precision()
    def remember(self, finite: Bool[Tensor, ""] | None = None) -> None:
        """End a training step: every few steps look at random places of the canonical space, without deformation.

        Args:
            finite: whether the step was, on the avatar's device; one that was not changes no density. None is yes.
        """
        config = self.config.sampling
        if int(self.step) % config.refresh_every == 0:
            index, points = self.grid.draw(max(1, int(config.refresh_share * len(self.grid.possible))))
            self.grid.remember(index, self.density(points), config, finite)
        self.step += 1

    def _expected(self, points: Float[Tensor, "points 3"]) -> tuple[Tensor, Tensor]:
        """What is known of places (points, 2), and their expected log density: opaque inside the mesh, thin air from
        a centimetre on, none beyond reach.

        Without it density gathers in front of the face before the head's turns can tell its depth.
        """
        height, room = self.skinning.space.height_and_room(points)
        known = torch.stack([height / _HAIR, room / _HAIR], -1).clamp(-1.5, 3)
        return known, torch.where(room > 0, (6 - 800 * height).clamp(0.5, 7), -torch.inf)

    def _regularizers(self, shaded: Shaded, timesteps: Tensor | None) -> dict[str, Tensor]:
        moved, correction = shaded.moved, shaded.correction
        counted = shaded.on_hits / shaded.on_hits.sum().clamp(min=1)
        mean = lambda values: (values * counted).sum()  # noqa: E731
        found = {"geometry": mean(F.smooth_l1_loss(correction, torch.zeros_like(correction), reduction="none"))}
        found["planes"] = self.field.roughness()
        if self.config.losses.mouth_weight > 0 and len(self.skinning.verts_in_mouth):
            found["mouth"] = self._brightness_in_mouth()
        if shaded.elsewhere is not None:
            squared = lambda offset: (offset / self.config.parts.offset_scale).square().sum(-1)  # noqa: E731
            found["offset"], found["elsewhere"] = mean(squared(moved.offset)), squared(shaded.elsewhere).mean()
            found["ambient"] = mean(moved.ambient.square().sum(-1))
        if self.config.deformation == "parts" and int(self.stage) == SOFT:
            some = slice(None, None, max(1, len(shaded.points) // _NUM_SMOOTH))
            found["smoothness"] = self.assigner.roughness(shaded.points[some], shaded.on_hits[some])
        if self.config.torso.enabled and timesteps is not None:
            found["torso"] = self.torso.residual_loss(timesteps)
        if self.config.correction.enabled and timesteps is not None:
            found["correction"] = self.correction.residual_loss(timesteps)
        return found

    def _brightness_in_mouth(self) -> Float[Tensor, ""]:
        """Mean squared colour inside the mouth, seen as training mostly looks: elsewhere all else would get dark."""
        inside = self.skinning.verts_in_mouth
        at = inside[torch.randint(len(inside), (_NUM_IN_MOUTH,), device=inside.device)]
        at = at + _NEAR_MOUTH * torch.randn_like(at)
        directions = F.normalize(F.pad(self.field.view_mean, (0, 1), value=-1.0), dim=0).expand_as(at)
        ambient = at.new_zeros(len(at), self.field.num_ambient)
        with in_bfloat16(at.device, self.config.bfloat16):
            color = self.field.color(self.field.features(self.field.spaced(at)), directions, ambient)
        return color.square().mean()

    def inspect(self, points: Float[Tensor, "points 3"], moved: MovedPoints) -> dict[str, Float[Tensor, "points 3"]]:
        """Values of canonical points to look at, as colours."""
        lower, upper = self.field.lower, self.field.upper
        size = moved.offset.norm(dim=-1, keepdim=True) / self.config.parts.offset_scale
        return {
            "parts": colors_of_parts(moved.parts, self.config.num_parts, points),
            "deformation": size.clamp(max=1).expand(-1, 3),
            "canonical": ((points - lower) / (upper - lower)).clamp(0, 1),
        }

    # -- training ------------------------------------------------------------------------------------------------

    @own_precision()
    def loss(
        self, rendered: dict[str, Tensor], rgb: Float[Tensor, "rays 3"], mask: Float[Tensor, "rays 1"] | None
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of rendered rays; their sum is what training minimises.

        Rays rendered in evaluation mode have the colour term alone.

        Args:
            rendered: the result of `render`.
            rgb: true colours in [0, 1] over the same background.
            mask: true foreground in [0, 1]; None where there is none.
        """
        c = self.config.losses
        terms = {"color": color_loss(rendered["rgb"], rgb, c.color_beta)}
        if mask is not None and "optical_depth" in rendered:
            terms["mask"] = c.mask_weight * mask_loss(rendered["optical_depth"], mask)
        weights = {
            "geometry": c.geometry_weight,
            "offset": c.offset_weight,
            "elsewhere": c.elsewhere_weight,
            "ambient": c.ambient_weight,
            "planes": c.planes_weight,
            "smoothness": c.smoothness_weight,
            "mouth": c.mouth_weight,
            "torso": self.config.torso.residual_weight,
            "correction": self.config.correction.residual_weight,
        }
        return terms | {name: weight * rendered[name] for name, weight in weights.items() if name in rendered}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)


def _half_size(lower: Float[Tensor, "3"], upper: Float[Tensor, "3"]) -> float:
    """Half the longest side of the canonical box, metres."""
    return float((upper - lower).max()) / 2


def _scatter(values: Float[Tensor, "hits channels"], ray: Int[Tensor, "hits"], rays: Rays) -> Tensor:
    """Values of the rays that met something, zero for all others."""
    return values.new_zeros(rays.origins.shape[0], values.shape[1]).index_add(0, ray, values)
