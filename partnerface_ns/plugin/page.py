"""Controls of a viewer page that change its image: one part alone or without its deformation, and the mesh.

They affect page images only, never training, evaluation or rendered files.
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

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.plugin.elements import ControlFolder, PageButton, PageCheckbox, PageDropdown
from partnerface_ns.plugin.page_settings import PageSettings
from partnerface_ns.rendering.figures import to_image
from partnerface_ns.rendering.overlay import draw_mesh_overlay
from partnerface_ns.warp.part_assigner import PartWeights

ALL, SOLO, MUTED = "all", "solo", "muted"
_FADED_CONTRAST = 0.25
"""Contrast of everything outside of a part that is shown alone."""


class PageView(ControlFolder):
    """Controls of one viewer. `PageSettings` holds their values, and `decorate` applies them to an image."""

    def __init__(self, avatar: Avatar, names: Sequence[str], reset_view: Callable[[ClientHandle], None]) -> None:
        """
        Args:
            avatar: the avatar.
            names: names of its parts; empty if it has none.
            reset_view: turns a page's camera to the front of the face.
        """
        super().__init__()
        self._avatar = lambda: avatar  # a module as an attribute would be registered, and saved, a second time
        self._names = list(names)
        self._reset_view = reset_view
        self.reset_button = PageButton("Reset view", cb_hook=self._on_reset)
        self.part_choice = PageDropdown("Part", ALL, [ALL, *names], hint="A part to look at")
        self.part_mode = PageDropdown(
            "Shown", SOLO, [SOLO, MUTED], hint="solo: the rest is grey; muted: this part does not deform"
        )
        self.mesh = PageCheckbox("Mesh", False, hint="Draw the tracked mesh over the image")
        self.show_in_order([self.reset_button, self.part_choice, self.part_mode, self.mesh])

    def _on_reset(self, button: Any) -> None:
        if button.page is not None:
            self._reset_view(button.page)

    @property
    def part(self) -> int | None:
        """Index of the selected part; None for all."""
        return None if self.part_choice.value == ALL else self._names.index(self.part_choice.value)

    @property
    def muted(self) -> bool:
        """Whether the selected part does not deform. Otherwise it is shown alone."""
        return self.part_mode.value == MUTED

    def decorate(
        self, outputs: dict[str, Tensor], camera: Cameras, states: HeadState, settings: PageSettings
    ) -> dict[str, Tensor]:
        """Apply the settings to a rendered page image.

        Args:
            outputs: images (height, width, channels).
            camera: the image's camera, shape (1,).
            states: the head state in the image, batch axes (1,).
            settings: the page's settings.
        """
        rgb = outputs["rgb"]
        if settings.part is not None and not settings.muted:
            rgb = fade_other_parts(rgb, compute_part_share(self._avatar(), outputs, settings.part))
        if settings.mesh:
            rgb = self._draw_mesh(rgb, camera, states)
        return outputs | {"rgb": rgb}

    def _draw_mesh(
        self, rgb: Float[Tensor, "height width 3"], camera: Cameras, states: HeadState
    ) -> Float[Tensor, "height width 3"]:
        head = self._avatar().head
        verts = head.pose(states).verts[0].cpu().numpy()
        no_mask = np.zeros(rgb.shape[:2], np.uint8)
        faces = head.model.faces.cpu().numpy()
        drawn = draw_mesh_overlay(to_image(rgb), no_mask, verts, faces, _to_camera(camera), side=max(rgb.shape[:2]))
        return torch.from_numpy(drawn).to(rgb) / 255


def fade_other_parts(
    rgb: Float[Tensor, "height width 3"], share: Float[Tensor, "height width 1"]
) -> Float[Tensor, "height width 3"]:
    """Keep the colours where `share` is 1, and make them pale grey where it is 0."""
    faded = 1 - _FADED_CONTRAST * (1 - rgb.mean(-1, keepdim=True))
    return share * rgb + (1 - share) * faded


@torch.no_grad()
def compute_part_share(avatar: Avatar, outputs: dict[str, Tensor], part: int) -> Float[Tensor, "height width 1"]:
    """Share of each pixel that belongs to a part: the part's weight at the canonical point that the pixel shows."""
    opacity = outputs["accumulation"]
    lower, upper = avatar.field.get_buffer("lower"), avatar.field.get_buffer("upper")
    points = (lower + outputs["canonical"] / opacity.clamp(min=1e-3) * (upper - lower)).reshape(-1, 3)
    assigned = avatar.assign_parts(points)
    weight = (assigned.weight * (assigned.index == part)).sum(1) * (1 - avatar.skinning.space.torso_share(points))
    return opacity * weight.reshape(opacity.shape)


class MutedPart:
    """Removes the deformation of one part from an avatar's images, in the calling thread only."""

    def __init__(self, avatar: Avatar) -> None:
        self._per_thread = threading.local()
        if avatar.config.deformation == "parts":
            avatar.deformation.register_forward_pre_hook(self._remove_weights)

    @property
    def part(self) -> int | None:
        """The part that does not deform in this thread."""
        return getattr(self._per_thread, "part", None)

    @contextmanager
    def mute(self, part: int | None) -> Iterator[None]:
        """Mute a part, or none, until the end of the block, even if the block raises."""
        before = self.part
        try:
            self._per_thread.part = part
            yield
        finally:
            self._per_thread.part = before

    def _remove_weights(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.part is None:
            return None
        points, frame, codes, parts, *options = arguments
        weights = PartWeights(parts.index, parts.weight * (parts.index != self.part))
        return points, frame, codes, weights, *options


def _to_camera(camera: Cameras) -> Camera:
    T = np.eye(4)
    T[:3] = camera.camera_to_worlds.reshape(3, 4).cpu().numpy()
    sizes = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    fl_x, fl_y, cx, cy, width, height = (float(value.flatten()[0]) for value in sizes)
    return Camera(T, fl_x, fl_y, cx, cy, int(width), int(height))
