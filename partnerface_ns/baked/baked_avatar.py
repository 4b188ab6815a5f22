"""The baked avatar: images of one head state from one camera, many times as fast as `Avatar.render`.

`Avatar.render` sends every sample of every ray through skinning, deformation and field. Here

1. density is computed once on a fine volume over the canonical head (`volumes.py`);
2. canonical points and ambient coordinates are computed on a lattice around the visible surface, coarse first, then
   fine, and interpolated (`view_volume.py`). Rays at mouth and eyes warp their samples in two passes, because lips part
   and lids slide there;
3. colour is computed at a few points of a ray, the quantiles of its weights (`renderer.py`);
4. on a CPU, pixels of smooth areas are interpolated (`sparse_image.py`).

`partnerface bench` measures the loss of quality (docs/benchmarks.md). `Avatar.render` serves metrics and `ns-eval`,
and cameras too close to the surface for a lattice.
"""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.baked.capacity import Capacity
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.baked.renderer import RAYS_ON_GPU, BakedRenderer, RenderedView, View
from partnerface_ns.common.precision import ignore_outer_autocast
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.cuda_graph import CapturedWork

_NUM_CAPTURED = 3
"""CUDA graphs that are kept: a viewer renders smaller images while the camera moves."""
_CLOSE = 0.15
"""Distance to the surface in metres below which a camera's view is wider than a lattice."""


class _CapturedView(NamedTuple):
    """A CUDA graph for images that fit into a capacity."""

    capacity: Capacity
    work: CapturedWork[View, RenderedView]


class BakedAvatar:
    """Renders an avatar after its training."""

    def __init__(self, avatar: Avatar, config: BakedConfig | None = None) -> None:
        """Bake the density volume, which takes seconds; the avatar must not change afterwards."""
        self._avatar = avatar.eval()
        self._renderer = BakedRenderer(avatar, config or BakedConfig())
        self._captured: dict[tuple[int, bool, bool], _CapturedView] = {}
        self._replaying = Lock()

    @torch.no_grad()
    @ignore_outer_autocast()
    def render(
        self,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        state: HeadState,
        timesteps: Int[Tensor, "1"] | None = None,
        use_graph: bool = True,
        size: tuple[int, int] | None = None,
    ) -> RenderOutput:
        """Render rays from one camera centre.

        Args:
            origin: world frame, metres.
            directions: world frame, unit length.
            state: one head state, batch axes (1,).
            timesteps: as for `Avatar.render`.
            use_graph: whether a GPU may replay a CUDA graph, which ignores later changes of the avatar.
            size: height and width, if the rays are the pixels of an image, row by row. A CPU then interpolates smooth
                areas (`BakedConfig.interpolated_contrast`).

        Returns:
            Rays with axes (rays,), as `Avatar.render` gives them in evaluation. `inspection.canonical` shows points
            after deformation.
        """
        head = self._avatar.skinning.head.pose(state)
        if (head.verts[0] - origin).norm(dim=1).min() < _CLOSE:
            rays = Rays(origin.expand_as(directions)[None], directions[None])
            return self._avatar.render(rays, state, timesteps).squeeze_frame()
        view = View(origin, directions, state, head, timesteps, None if directions.is_cuda else size)
        if use_graph and directions.is_cuda and len(directions) <= RAYS_ON_GPU:
            return self._replay(view)
        return self._renderer.render(view).output

    def _replay(self, view: View) -> RenderOutput:
        """Render by a CUDA graph, which is captured for one number of rays, given inputs and a capacity."""
        kind = (len(view.directions), view.timesteps is None, view.state.torso is None)
        with self._replaying:
            captured, needed = self._captured.pop(kind, None), None
            if captured is not None:
                rendered = captured.work(view)
                needs = Capacity.of(rendered.counts)
                if not captured.capacity.holds(needs):
                    # Keep both capacities: a larger lattice holds more cells than the plain image counts.
                    captured, needed = None, captured.capacity.union(needs.with_headroom())
            if captured is None:
                rendered = self._renderer.render(view)
                captured = self._capture(Capacity.of(rendered.counts).with_headroom(), needed)
            self._captured[kind] = captured  # the newest is the last
            if len(self._captured) > _NUM_CAPTURED:
                self._captured.pop(next(iter(self._captured)))
            return rendered.output.clone()

    def _capture(self, capacity: Capacity, needed: Capacity | None) -> _CapturedView:
        """A graph for a capacity, enlarged to what the last graph of this kind had and lacked."""
        capacity = capacity if needed is None else capacity.union(needed)

        def render(view: View) -> RenderedView:
            return self._renderer.render(view, capacity)

        return _CapturedView(capacity, CapturedWork(render))
