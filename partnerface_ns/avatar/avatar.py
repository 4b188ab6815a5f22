"""The avatar: a torch module that renders rays for head states. It does not depend on nerfstudio.

`Avatar` composes other modules and computes nothing itself. A ray passes the proposal sampler (`proposal_sampler.py`),
the canonical warp (`canonical_warp.py`), the canonical field (`fields/`) and volume rendering (`shading.py`). The world
frame and the canonical frame are in metres.

The state dict holds what belongs to the person: identity, reach of hair and clothes, part seeds, bounds, stage, the
head model's fingerprint. It never holds the head model's arrays, which come from the user's file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from partnerface_ns.avatar.canonical_warp import CanonicalWarp, WarpFrames
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.avatar.proposal_sampler import ProposalSampler
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.avatar.shading import Shading, canonical_density
from partnerface_ns.avatar.surface_prior import NUM_FEATURES, can_be_occupied
from partnerface_ns.avatar.unseen_surface import UnseenSurface
from partnerface_ns.common.precision import ignore_outer_autocast
from partnerface_ns.common.threads import map_threaded
from partnerface_ns.fields.canonical_field import CanonicalField
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.occupancy import OccupancyGrid
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.warp.driving_code import DrivingCode, code_visibility
from partnerface_ns.warp.inverse_skinning import InverseSkinning
from partnerface_ns.warp.part_assigner import PartAssigner, PartWeights, seed_parts
from partnerface_ns.warp.part_deformation import GlobalDeformation, PartDeformation
from partnerface_ns.warp.part_names import name_parts
from partnerface_ns.warp.torso import TorsoMotion
from partnerface_ns.warp.tracking_correction import TrackingCorrection

MOUTH, HARD, SOFT = 0, 1, 2
"""Stages of training: deformation at the mouth only, with hard part assignment; everywhere, with hard and soft
assignment."""
_VIEW_NOISE_START = 2000
"""Step at which noise on view directions begins. Colours overfit to directions in long runs only, and noise costs short
runs accuracy."""
_RAYS_ON_CPU, _RAYS_ON_GPU = 1 << 12, 1 << 16
"""Rays that are rendered at once in evaluation. More need more memory, which a CPU gets slowly in large blocks. Fewer
leave the device idle."""


class Avatar(nn.Module):
    """An animatable head."""

    stage: Tensor
    step: Tensor
    identity: Tensor
    static_offset: Tensor
    reach: Tensor
    background: Tensor
    deformation: PartDeformation | GlobalDeformation

    def __init__(self, config: AvatarConfig, init: AvatarInit) -> None:
        """
        Args:
            config: settings.
            init: the person and the training track.
        """
        super().__init__()
        self.config = config
        self._model = init.model
        self._skinning: InverseSkinning | None = None
        self.progress = 0.0
        """Progress of training, 0 to 1; losses that begin late read it."""
        self.register_buffer("identity", init.identity.clone())
        self.register_buffer("static_offset", init.static_offset.clone())
        self.register_buffer("reach", config.space.reach(init.reach))
        self.register_buffer("background", torch.tensor(init.background))
        self.register_buffer("stage", torch.tensor(SOFT if config.schedule == "soft" else HARD))
        self.register_buffer("step", torch.tensor(0))
        fingerprint = list(bytes.fromhex(init.model.fingerprint))
        self.register_buffer("fingerprint", torch.tensor(fingerprint, dtype=torch.uint8))
        self.register_load_state_dict_post_hook(lambda module, _: module._rebuild_for_identity())

        head, canonical = self.skinning.head, self.skinning.canonical.verts
        lower, upper = self.skinning.space.lower, self.skinning.space.upper
        root = (head.model.joint_regressor @ head.verts_rest)[0]
        self.torso = TorsoMotion(init.states, root, init.num_timesteps)
        face_center = canonical[head.model.regions["face"] > 0.5].mean(0)
        self.correction = TrackingCorrection(config.correction, init.states, face_center, init.num_timesteps)
        self.code = DrivingCode(init.states)
        if config.deformation == "parts":
            seeds = seed_parts(head.model, canonical, config.num_parts)
            visibility = code_visibility(self.code, head, canonical, seeds)
            self.assigner = PartAssigner(config.assigner, seeds, _half_size(lower, upper))
            self.deformation = PartDeformation(config.parts, seeds, visibility, _half_size(lower, upper))
        elif config.deformation == "global":
            size = _half_size(lower, upper)
            self.deformation = GlobalDeformation(config.parts, config.num_parts, self.code.size, size)
        self.field = CanonicalField(config.canonical, lower, upper, NUM_FEATURES, self._num_ambient, face_center)
        cells = OccupancyGrid.cell_centers(config.sampling.grid_resolution, lower, upper)
        possible = can_be_occupied(self.skinning.space, cells)
        self.grid = OccupancyGrid(config.sampling.grid_resolution, lower, upper, possible)
        self.unseen = UnseenSurface(config.unseen, head.model)

    # -- parts of the person -------------------------------------------------------------------------------------

    @property
    def skinning(self) -> InverseSkinning:
        """Inverse skinning of this person. It is built again when the person or the device changes."""
        if self._skinning is None:
            head = ShapedHead.of(self._model.to(self.identity.device), self.identity, self.static_offset)
            space = self.config.space.with_reach(self.reach)
            self._skinning = InverseSkinning(self.config.skinning, self.config.displacement, space, head)
            self._skinned = [value.clone() for value in self._person]
        return self._skinning

    @property
    def head(self) -> ShapedHead:
        """The person's head on this device."""
        return self.skinning.head

    def part_names(self) -> list[str]:
        """A unique name for each deformation part; an empty list without parts."""
        if self.config.deformation != "parts":
            return []
        return name_parts(self.head.model, self.skinning.canonical.verts, self.deformation.get_buffer("seeds"))

    def assign_parts(self, points: Float[Tensor, "points 3"]) -> PartWeights:
        """Parts of canonical points and their weights, in the current stage. The avatar must have parts."""
        return self.assigner.soft(points) if int(self.stage) == SOFT else self.assigner.hard(points)

    @property
    def warp(self) -> CanonicalWarp:
        """Canonical warp in the current stage."""
        config = self.config
        return CanonicalWarp(
            skinning=self.skinning,
            torso=self.torso if config.torso.enabled else None,
            correction=self.correction if config.correction.enabled else None,
            code=self.code,
            deformation=None if config.deformation == "none" else self.deformation,
            assign=self.assign_parts if config.deformation == "parts" else None,
            num_ambient=self._num_ambient,
            code_noise=config.code_noise if self.training else 0.0,
            mouth_only=int(self.stage) == MOUTH,
        )

    @property
    def view_noise(self) -> float:
        """Standard deviation of noise on view directions in the current step of training."""
        return self.config.view_noise if int(self.step) >= _VIEW_NOISE_START else 0.0

    @property
    def _num_ambient(self) -> int:
        return 0 if self.config.deformation == "none" else self.config.parts.num_ambient

    @ignore_outer_autocast()
    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points"]:
        """Density of the undeformed canonical field, 1/m, at canonical points; in evaluation, completed."""
        return canonical_density(self.field, self.warp, points, self.config.bfloat16)

    def _rebuild_for_identity(self) -> None:
        """Rebuild everything derived from the identity. The state dict may belong to another person."""
        self._drop_foreign_skinning()
        for name in ("assigner", "deformation"):
            if hasattr(self, name):
                getattr(self, name).scale = _half_size(self.field.lower, self.field.upper)

    def _drop_foreign_skinning(self) -> None:
        """Drop the skinning if it was built for another person or device. Building it takes seconds."""
        if self._skinning is not None and not all(map(_same, self._skinned, self._person)):
            self._skinning = None

    @property
    def _person(self) -> tuple[Tensor, Tensor, Tensor]:
        """What inverse skinning is built from."""
        return self.identity, self.static_offset, self.reach

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        # Older avatars have the reach of their settings.
        state_dict.setdefault(f"{prefix}reach", self.config.space.reach())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Avatar:
        moved = super()._apply(fn, recurse)
        self._drop_foreign_skinning()
        # `stage` and `step` drive Python control flow, so they stay on the CPU: reading them from a GPU synchronises.
        self.stage, self.step = self.stage.cpu(), self.step.cpu()
        return moved

    # -- rendering -----------------------------------------------------------------------------------------------

    @ignore_outer_autocast()
    def render(
        self,
        rays: Rays,
        states: HeadState,
        timesteps: Int[Tensor, "frames"] | None = None,
        rays_at_once: int | None = None,
    ) -> RenderOutput:
        """Render rays.

        Args:
            rays: rays of one or more frames.
            states: head states of these frames, batch axes (frames,).
            timesteps: their timesteps in the training capture, if they were trained on; adds the learned residuals
                of torso and tracking correction. None predicts both from the head's pose. A known pose of the torso
                is used as it is.
            rays_at_once: rays that are rendered at once, in evaluation; a CPU renders a few thousand at most. None
                takes a default for the device.
        """
        frames = self.warp.pose_frames(states, timesteps)
        if self.training:
            return self.render_frames(rays, frames, timesteps)
        default = _RAYS_ON_GPU if rays.origins.is_cuda else _RAYS_ON_CPU
        size = (rays_at_once or default) if rays.origins.is_cuda else min(rays_at_once or default, default)
        gradients, chunks = torch.is_grad_enabled(), rays.split(size)

        def render_chunk(chunk: Rays) -> RenderOutput:
            with torch.set_grad_enabled(gradients), ignore_outer_autocast():  # both are settings of a thread
                return self.render_frames(chunk, frames, timesteps)

        # Operations on a chunk are too small for several threads, so each chunk has its own.
        num_workers = 1 if rays.origins.is_cuda else min(len(chunks), torch.get_num_threads())
        return RenderOutput.cat(list(map_threaded(render_chunk, chunks, num_workers)))

    @ignore_outer_autocast()
    def render_frames(
        self,
        rays: Rays,
        frames: WarpFrames,
        timesteps: Int[Tensor, "frames"] | None = None,
        fixed_shapes: bool = False,
    ) -> RenderOutput:
        """Render rays of posed frames; other arguments as for `render`.

        Args:
            frames: from `CanonicalWarp.pose_frames`.
            fixed_shapes: whether no shape may depend on values, as in a CUDA graph. Results are the same.
        """
        config, warp = self.config, replace(self.warp, fixed_shapes=fixed_shapes)
        padding = self.skinning.space.padding
        sampler = ProposalSampler(config.sampling, self.grid, warp, self.density, padding)
        intervals = sampler(rays, frames, self.training)
        shading = Shading(config, warp, self.field, self.grid, self.background, self.view_noise)
        return shading(rays, frames, intervals, timesteps, self.training)

    # -- training ------------------------------------------------------------------------------------------------

    def set_progress(self, progress: float) -> None:
        """Set the stage from the training progress, 0 to 1."""
        self.progress = progress
        config = self.config
        soft = config.schedule == "soft" or (config.schedule == "two-stage" and progress >= config.stage2_start)
        self.stage.fill_(MOUTH if progress < config.everywhere_start else SOFT if soft else HARD)

    @torch.no_grad()
    @ignore_outer_autocast()
    def end_step(self, finite: Bool[Tensor, ""] | None = None) -> None:
        """End a training step.

        Update the occupancy grid every few steps, and the completion once in each interval of the progress.

        Args:
            finite: whether the step was finite, on the avatar's device. If not, the grid does not change. None is yes.
        """
        config = self.config.sampling
        if int(self.step) % config.update_every == 0:
            with record_function("occupancy grid"):
                index, points = self.grid.draw(max(1, int(config.update_fraction * len(self.grid.possible))))
                # Training renders the field alone, evaluation the completed one. The grid serves both.
                completed = self.field.completion.density(self.field.contract(points))
                self.grid.update(index, torch.maximum(self.density(points), completed), config, finite)
        self.unseen.end_step(self.progress, self.field, self.skinning, self.grid)
        self.step += 1


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)


def _half_size(lower: Float[Tensor, "3"], upper: Float[Tensor, "3"]) -> float:
    """Half the longest side of the canonical box, metres."""
    return float((upper - lower).max()) / 2
