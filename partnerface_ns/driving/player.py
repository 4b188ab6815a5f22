"""An avatar ready to be shown: `partnerface_ns.load(run).render(camera, state)`.

Needs no nerfstudio and no capture: an avatar file holds all but the head model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.file_format import AVATAR_NAME, AvatarInfo, load_avatar
from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.threads import map_threaded
from partnerface_ns.driving.motion import motion_of_channels
from partnerface_ns.driving.retarget import retargeted
from partnerface_ns.driving.rig import Rig
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.rays import rays_of_image

_MOST_AT_ONCE = 8
"""Images drawn at once: each takes hundreds of megabytes. More threads are shared among them."""
Item, Result = TypeVar("Item"), TypeVar("Result")


class Player:
    """Shows an avatar in any state from any camera."""

    def __init__(self, avatar: Avatar, info: AvatarInfo, fast: bool = False) -> None:
        """
        Args:
            fast: whether images are made as `baked/` does, many times as fast and nearly the same.
        """
        self.avatar, self.info, self.fast = avatar.eval(), info, fast

    @cached_property
    def prepared(self) -> BakedAvatar:
        """The avatar prepared for driving, which takes seconds once."""
        return BakedAvatar(self.avatar)

    @property
    def device(self) -> torch.device:
        return self.avatar.identity.device

    @property
    def camera(self) -> Camera:
        """The camera of training's first frame: `scaled_camera` makes its images smaller or larger."""
        return self.info.camera

    @property
    def neutral(self) -> HeadState:
        """The person's neutral state, batch axes ()."""
        return self.info.neutral

    @property
    def head(self) -> ShapedHead:
        """The person's head in the head model's mesh, on the avatar's device."""
        return self.avatar.skinning.head

    @property
    def person(self) -> ShapedHead:
        """The same on the CPU."""
        return ShapedHead(self.head.model.to("cpu"), self.head.verts_rest.cpu())

    @cached_property
    def rig(self) -> Rig:
        """The channels of the avatar's head model."""
        return Rig(self.person.model)

    def face(self, **channels: float) -> HeadState:
        """The neutral state with channels of `rig.py` added, batch axes (): `player.face(mouthSmile=0.8, yaw=0.2)`.

        Raises:
            InputError: a channel that the head model cannot follow.
        """
        if not channels:
            return self.neutral
        curves = {name: np.array([value], dtype=np.float64) for name, value in channels.items()}
        motion = motion_of_channels(curves, 1.0, self.rig, Path("face"))
        return retargeted(motion, self.person, self.neutral)[0][0]

    @torch.no_grad()
    def render(
        self, camera: Camera | None = None, state: HeadState | None = None
    ) -> dict[str, Float[Tensor, "height width channels"]]:
        """Render one image.

        Args:
            camera: world frame, metres and pixels; None takes `self.camera`.
            state: batch axes (); None takes `self.neutral`.

        Returns:
            On the avatar's device: rgb (h, w, 3) in [0, 1] over the avatar's background, accumulation (h, w, 1) in
            [0, 1], depth (h, w, 1) in metres along the ray, and as colours (h, w, 3) parts, deformation and canonical.

        Raises:
            InputError: the state has another number of expression coefficients than the head model.
        """
        camera = camera or self.camera
        state = self._checked(self.neutral if state is None else state)
        rays = rays_of_image(camera, self.device)
        if self.fast:
            output = self.prepared.render(rays.origins[0, 0], rays.directions[0], state)
        else:
            output = self.avatar.render(rays, state)
        shape = (camera.height, camera.width, -1)
        return {name: values.float().reshape(shape) for name, values in output.channels().items()}

    def render_batch(
        self, cameras: Iterable[Camera], states: HeadState
    ) -> dict[str, Float[Tensor, "frames height width channels"]]:
        """Render an image for each camera and state, several at once on a CPU.

        Args:
            cameras: as many as states, all of one image size.
            states: batch axes (frames,).

        Returns:
            As `render`, with the frames first.
        """
        moments = zip(range(len(states)), cameras, strict=True)
        images = list(self.drawn(lambda moment: self.render(moment[1], states[moment[0]]), moments))
        return {name: torch.stack([image[name] for image in images]) for name in images[0]}

    @property
    def at_once(self) -> int:
        """How many images of a sequence are drawn at once: on a CPU as many as there are threads, on a GPU one."""
        return min(torch.get_num_threads(), _MOST_AT_ONCE) if self.device.type == "cpu" else 1

    def drawn(self, draw: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What `draw` makes of each item of a sequence, in order; it is called in `at_once` threads."""
        _ = self.prepared if self.fast else self.avatar.skinning  # once, not by each thread
        return map_threaded(draw, items, self.at_once)

    def _checked(self, state: HeadState) -> HeadState:
        expected, found = self.head.model.num_expr, state.expression.shape[-1]
        if state.batch_shape != () or found != expected:
            raise InputError(
                "render", "not one head state of this avatar", expected=(expected,), found=tuple(state.expression.shape)
            )
        stacked = HeadState.stack([state])
        return stacked.to(self.device)


def load(run: Path | str, head_model: Path | None = None, device: str = "cpu", fast: bool = False) -> Player:
    """Open a trained avatar.

    Args:
        run: a run folder, an avatar file in it, or an avatar file anywhere.
        head_model: the head model's file, where it is no longer where training found it.
        device: where to render, as torch names it.
        fast: many times as fast, nearly the same images.

    Raises:
        InputError: there is no avatar, or it cannot be used with the head model.
    """
    path = Path(run)
    path = path / AVATAR_NAME if path.is_dir() else path
    if not path.is_file():
        raise InputError(run, "no avatar here", expected=f"a run folder with {AVATAR_NAME}, or that file")
    avatar, info = load_avatar(path, head_model)
    return Player(avatar.to(device), info, fast)


def scaled_camera(camera: Camera, longest: int) -> Camera:
    """The same view in images whose longer side has so many pixels; sizes are rounded to even pixels."""
    scale = longest / max(camera.width, camera.height)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (camera.width, camera.height))
    return camera.resize(width, height)
