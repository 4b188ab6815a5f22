"""What a viewer page can do besides the image: one part alone or without its deformation, the mesh.

Nothing of it reaches training, evaluation or rendered files: the model asks only for images of a page.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn
from viser import ClientHandle

from partnerface_ns.avatar.avatar import SOFT, Avatar
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.plugin.clips import Look
from partnerface_ns.plugin.elements import PageButton, PageCheckbox, PageDropdown
from partnerface_ns.rendering.figures import to_image
from partnerface_ns.rendering.overlay import draw_mesh_overlay
from partnerface_ns.warp.part_assigner import PartWeights

ALL, SOLO, MUTED = "all", "solo", "muted"
_FADED = 0.25
"""Contrast of what is not of the part shown alone."""


class PageView(nn.Module):
    """Controls of one viewer; a `Look` says what they ask for, `dressed` does it."""

    def __init__(self, avatar: Avatar, names: Sequence[str], reset_view: Callable[[ClientHandle], None]) -> None:
        """
        Args:
            avatar: whose parts are shown.
            names: of its parts; none where it has no parts.
            reset_view: turns a page's camera to the front of the face.
        """
        super().__init__()
        self._avatar = lambda: avatar  # a module here would be registered, and saved, a second time
        self._names = list(names)
        self._reset_view = reset_view
        self.a_reset = PageButton("Reset view", cb_hook=self._reset)
        self.b_part = PageDropdown("Part", ALL, [ALL, *names], hint="A part to look at")
        self.c_shown = PageDropdown(
            "Shown", SOLO, [SOLO, MUTED], hint="solo: the rest is grey; muted: as if this part did not deform"
        )
        self.d_mesh = PageCheckbox("Mesh", False, hint="The tracked mesh over the image")

    def _reset(self, button: Any) -> None:
        if button.page is not None:
            self._reset_view(button.page)

    @property
    def part(self) -> int | None:
        """The part to look at."""
        return None if self.b_part.value == ALL else self._names.index(self.b_part.value)

    @property
    def muted(self) -> bool:
        """Whether that part does not deform; else it is shown alone."""
        return self.c_shown.value == MUTED

    def dressed(self, outputs: dict[str, Tensor], camera: Cameras, states: HeadState, look: Look) -> dict[str, Tensor]:
        """A page's image with what its controls ask for.

        Args:
            outputs: images (height, width, channels).
            camera: of the image, shape (1,).
            states: the head state that it shows, batch axes (1,).
            look: what is asked for.
        """
        rgb = outputs["rgb"]
        if look.part is not None and not look.muted:
            rgb = fade_other_parts(rgb, compute_part_share(self._avatar(), outputs, look.part))
        if look.mesh:
            rgb = self._with_mesh(rgb, camera, states)
        return outputs | {"rgb": rgb}

    def _with_mesh(self, rgb: Tensor, camera: Cameras, states: HeadState) -> Tensor:
        head = self._avatar().skinning.head
        verts = head.pose(states).verts[0].cpu().numpy()
        nothing = np.zeros(rgb.shape[:2], np.uint8)
        faces = head.model.faces.cpu().numpy()
        drawn = draw_mesh_overlay(to_image(rgb), nothing, verts, faces, _camera_of(camera), side=max(rgb.shape[:2]))
        return torch.from_numpy(drawn).to(rgb) / 255


def fade_other_parts(rgb: Float[Tensor, "height width 3"], share: Float[Tensor, "height width 1"]) -> Tensor:
    """Colours where `share` is 1, a pale grey of them where it is 0."""
    faded = 1 - _FADED * (1 - rgb.mean(-1, keepdim=True))
    return share * rgb + (1 - share) * faded


@torch.no_grad()
def compute_part_share(avatar: Avatar, outputs: dict[str, Tensor], part: int) -> Float[Tensor, "height width 1"]:
    """How much of each pixel belongs to a part: the part's weight at the canonical place that the pixel sees."""
    opacity = outputs["accumulation"]
    lower, upper = avatar.field.get_buffer("lower"), avatar.field.get_buffer("upper")
    points = (lower + outputs["canonical"] / opacity.clamp(min=1e-3) * (upper - lower)).reshape(-1, 3)
    found = avatar.assigner.soft(points) if int(avatar.stage) == SOFT else avatar.assigner.hard(points)
    weight = (found.weight * (found.index == part)).sum(1) * (1 - avatar.skinning.space.torso_share(points))
    return opacity * weight.reshape(opacity.shape)


class MutedPart:
    """Leaves one part's deformation out of an avatar's images, in the thread that asks for it alone."""

    def __init__(self, avatar: Avatar) -> None:
        self._here = threading.local()
        if avatar.config.deformation == "parts":
            avatar.deformation.register_forward_pre_hook(self._without)

    @property
    def part(self) -> int | None:
        """The part that does not deform in this thread."""
        return getattr(self._here, "part", None)

    @contextmanager
    def mute(self, part: int | None) -> Iterator[None]:
        """Mute a part, or none, until the end of the block; an image that is given up ends it too."""
        before = self.part
        try:
            self._here.part = part
            yield
        finally:
            self._here.part = before

    def _without(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.part is None:
            return None
        *rest, parts = arguments
        return *rest, PartWeights(parts.index, parts.weight * (parts.index != self.part))


def _camera_of(camera: Cameras) -> Camera:
    """The capture's kind of camera."""
    T = np.eye(4)
    T[:3] = camera.camera_to_worlds.reshape(3, 4).cpu().numpy()
    sizes = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    fl_x, fl_y, cx, cy, width, height = (float(value.flatten()[0]) for value in sizes)
    return Camera(T, fl_x, fl_y, cx, cy, int(width), int(height))
