"""Whole images of the avatar, rendered exactly or from the baked avatar."""

from __future__ import annotations

import threading

from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.plugin.head_states import ShownHead
from partnerface_ns.plugin.page import MutedPart
from partnerface_ns.rendering.rays import Rays

OUTPUTS = ("rgb", "accumulation", "depth", "parts", "deformation", "canonical")
"""Channels of every rendered image, in the viewer's order."""


class ImageRenderer:
    """Renders images of one avatar."""

    def __init__(self, avatar: Avatar, muted_part: MutedPart) -> None:
        """
        Args:
            avatar: the avatar.
            muted_part: removes the deformation of a part. A CUDA graph would ignore it, so none is used meanwhile.
        """
        self._avatar, self._muted_part = avatar, muted_part
        self._baked: BakedAvatar | None = None
        self._baking = threading.Lock()
        self.fast = False
        """Whether to render the baked avatar. Set only while nothing is trained."""

    @property
    def needs_baking(self) -> bool:
        """Whether the next image must wait for `bake`."""
        return self.fast and self._baked is None

    def bake(self) -> None:
        """Bake the avatar if it is needed, which takes up to half a minute on a CPU."""
        with self._baking:
            if self.needs_baking:
                self._baked = BakedAvatar(self._avatar)

    def discard_baked(self) -> None:
        """Bake again before the next fast image, because the avatar has changed."""
        self._baked = None

    def render(
        self, camera: Cameras, head: ShownHead, rays_per_chunk: int, exact: bool = False
    ) -> dict[str, Float[Tensor, "height width _"]]:
        """Render the image of one camera.

        Args:
            camera: one camera, shape (1,).
            head: the head state.
            rays_per_chunk: rays rendered at once without the baked avatar.
            exact: whether to render all samples even if `fast` is set.
        """
        return self.render_bundle(camera.generate_rays(camera_indices=0, keep_shape=True), head, rays_per_chunk, exact)

    def render_bundle(
        self, bundle: RayBundle, head: ShownHead, rays_per_chunk: int, exact: bool = False
    ) -> dict[str, Float[Tensor, "height width _"]]:
        """Render an image's rays, axes (height, width). The arguments are those of `render`."""
        device = self._avatar.identity.device
        origins, directions = (rays.reshape(-1, 3).to(device) for rays in (bundle.origins, bundle.directions))
        if self.fast and not exact and bool((origins == origins[0]).all()):
            height, width = bundle.origins.shape[:2]
            output = self._render_baked(origins[0], directions, head, (height, width))
        else:
            output = self._render_exact(Rays(origins[None], directions[None]), head, rays_per_chunk)
        channels = output.channels()
        return {name: channels[name].reshape(*bundle.origins.shape[:2], -1) for name in OUTPUTS}

    def _render_baked(
        self, origin: Float[Tensor, "3"], directions: Float[Tensor, "rays 3"], head: ShownHead, size: tuple[int, int]
    ) -> RenderOutput:
        self.bake()
        assert self._baked is not None
        use_graph = self._muted_part.part is None
        return self._baked.render(origin, directions, head.states, head.timesteps, use_graph=use_graph, size=size)

    def _render_exact(self, rays: Rays, head: ShownHead, rays_per_chunk: int) -> RenderOutput:
        return self._avatar.render(rays, head.states, head.timesteps, rays_per_chunk)
