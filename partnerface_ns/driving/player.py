"""Rendering of a trained avatar: `partnerface_ns.load(run).render(camera, state)`.

It needs neither nerfstudio nor a capture: an avatar file contains everything except the head model.
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
from partnerface_ns.driving.retarget import retarget
from partnerface_ns.driving.rig import Rig
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.rays import rays_of_image

_MAX_PARALLEL = 8
"""Largest number of images rendered in parallel; each takes hundreds of megabytes. Further threads are shared."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Player:
    """Renders an avatar in any head state from any camera."""

    def __init__(self, avatar: Avatar, info: AvatarInfo, fast: bool = False) -> None:
        """
        Args:
            avatar: the avatar.
            info: what its file states about the person and the training.
            fast: whether to render the baked avatar, which is faster and slightly less accurate (docs/benchmarks.md).
        """
        self.avatar, self.info, self.fast = avatar.eval(), info, fast

    @cached_property
    def baked(self) -> BakedAvatar:
        """The baked avatar. Baking takes seconds and happens on first use."""
        return BakedAvatar(self.avatar)

    @property
    def device(self) -> torch.device:
        return self.avatar.identity.device

    @property
    def camera(self) -> Camera:
        """The camera of the first training frame. `scale_camera` changes its resolution."""
        return self.info.camera

    @property
    def neutral(self) -> HeadState:
        """The person's neutral state, batch axes ()."""
        return self.info.neutral

    @property
    def head(self) -> ShapedHead:
        """The person's head, on the avatar's device."""
        return self.avatar.skinning.head

    @property
    def person(self) -> ShapedHead:
        """The person's head, on the CPU."""
        return ShapedHead(self.head.model.to("cpu"), self.head.verts_rest.cpu())

    @cached_property
    def face_center(self) -> Float[np.ndarray, "3"]:
        """Middle of the neutral face, world frame, metres."""
        head = self.person
        verts = head.pose(self.neutral).verts[head.model.regions["face"] > 0.5]
        return verts.mean(0).numpy().astype(np.float64)

    @cached_property
    def rig(self) -> Rig:
        """The channels of the avatar's head model."""
        return Rig(self.person.model)

    def face(self, **channels: float) -> HeadState:
        """The neutral state with channels of `rig.py` added, batch axes (): `player.face(mouthSmile=0.8, yaw=0.2)`.

        Raises:
            InputError: the head model has no such channel.
        """
        if not channels:
            return self.neutral
        curves = {name: np.array([value], dtype=np.float64) for name, value in channels.items()}
        motion = motion_of_channels(curves, 1.0, self.rig, Path("face"))
        return retarget(motion, self.person, self.neutral)[0][0]

    @torch.no_grad()
    def render(
        self, camera: Camera | None = None, state: HeadState | None = None
    ) -> dict[str, Float[Tensor, "height width channels"]]:
        """Render one image.

        Args:
            camera: world frame, metres and pixels; None takes `self.camera`.
            state: batch axes (); None takes `self.neutral`.

        Returns:
            Images on the avatar's device. rgb (h, w, 3) is in [0, 1] over the avatar's background, accumulation
            (h, w, 1) in [0, 1], and depth (h, w, 1) in metres along the ray. The inspection colours parts, deformation
            and canonical are (h, w, 3).

        Raises:
            InputError: the state has another number of expression coefficients than the head model.
        """
        camera = camera or self.camera
        state = self._as_batch(self.neutral if state is None else state)
        rays = rays_of_image(camera, self.device)
        if self.fast:
            output = self.baked.render(
                rays.origins[0, 0], rays.directions[0], state, size=(camera.height, camera.width)
            )
        else:
            output = self.avatar.render(rays, state)
        shape = (camera.height, camera.width, -1)
        return {name: values.float().reshape(shape) for name, values in output.channels().items()}

    def render_batch(
        self, cameras: Iterable[Camera], states: HeadState
    ) -> dict[str, Float[Tensor, "frames height width channels"]]:
        """Render an image for each camera and state, several in parallel on a CPU.

        Args:
            cameras: one camera per state, all of one image size.
            states: batch axes (frames,).

        Returns:
            The images of `render`, stacked along a first axis of frames.
        """
        frames = zip(range(len(states)), cameras, strict=True)
        images = list(self.map_images(lambda frame: self.render(frame[1], states[frame[0]]), frames))
        return {name: torch.stack([image[name] for image in images]) for name in images[0]}

    @property
    def num_parallel(self) -> int:
        """Images of a sequence that are rendered in parallel: one per thread on a CPU, one on a GPU."""
        return min(torch.get_num_threads(), _MAX_PARALLEL) if self.device.type == "cpu" else 1

    def map_images(self, render: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The results of `render` for a sequence of items, in order. It is called in `num_parallel` threads."""
        _ = self.baked if self.fast else self.avatar.skinning  # built here once, not by each thread
        return map_threaded(render, items, self.num_parallel)

    def _as_batch(self, state: HeadState) -> HeadState:
        """The state with batch axes (1,), on the avatar's device.

        Raises:
            InputError: it is not a single state, or has another number of expression coefficients.
        """
        shape, num_expr = tuple(state.expression.shape), self.head.model.num_expr
        if state.batch_shape != () or shape != (num_expr,):
            raise InputError("render", "not a single head state of this avatar", expected=(num_expr,), actual=shape)
        return HeadState.stack([state]).to(self.device)


def load(run: Path | str, head_model: Path | None = None, device: str = "cpu", fast: bool = False) -> Player:
    """Open a trained avatar.

    Args:
        run: a run folder, or an avatar file.
        head_model: the head model's file, if it was moved since training.
        device: the device to render on, such as cpu or cuda:0.
        fast: whether to render the baked avatar, which is faster and slightly less accurate (docs/benchmarks.md).

    Raises:
        InputError: there is no avatar, or it does not fit the head model.
    """
    path = Path(run)
    path = path / AVATAR_NAME if path.is_dir() else path
    if not path.is_file():
        raise InputError(run, "no avatar here", expected=f"a run folder with {AVATAR_NAME}, or an avatar file")
    avatar, info = load_avatar(path, head_model)
    return Player(avatar.to(device), info, fast)


def scale_camera(camera: Camera, longest: int) -> Camera:
    """The same view at a resolution of `longest` pixels on the longer side; both sides are rounded to even numbers."""
    scale = longest / max(camera.width, camera.height)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (camera.width, camera.height))
    return camera.resize(width, height)
