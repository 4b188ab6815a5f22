"""Controls of a viewer page that change its image: parts, mesh, background, and the true image beside the avatar.

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
from partnerface_ns.plugin.elements import ControlFolder, PageButton, PageCheckbox, PageColor, PageDropdown, PageSlider
from partnerface_ns.plugin.page_settings import MeshStyle, PageSettings
from partnerface_ns.rendering.figures import to_image
from partnerface_ns.rendering.overlay import OPACITY, draw_mesh_overlay
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
        self.mesh = PageCheckbox("Mesh", False, cb_hook=self._on_mesh, hint="Draw the tracked mesh over the image")
        self.opacity = PageSlider("Mesh opacity", OPACITY, 0.0, 1.0, 0.05, visible=False)
        self.wireframe = PageCheckbox("Wireframe", False, visible=False, hint="Draw the edges of the mesh alone")
        self._own_color = _to_bytes(avatar.background)
        self.background = PageColor("Background", self._own_color, hint="Colour behind the person")
        self.true_image = PageCheckbox(
            "True image", False, hint="Show the video's image of the selected frame beside the avatar"
        )
        mesh = [self.mesh, self.opacity, self.wireframe]
        part = [self.part_choice, self.part_mode]
        self.show_in_order([self.reset_button, self.true_image, self.background, *part, *mesh])

    def _on_reset(self, button: Any) -> None:
        self._reset_view(button.page)

    def _on_mesh(self, checkbox: Any) -> None:
        self.opacity.show(checkbox.value)
        self.wireframe.show(checkbox.value)

    def settings(self, timestep: int | None, channels: tuple[tuple[str, float], ...] | None) -> PageSettings:
        """The settings of a page that shows a frame of the track, or the channels of the sliders."""
        style = MeshStyle(float(self.opacity.value), bool(self.wireframe.value)) if self.mesh.value else None
        red, green, blue = self.background.value
        return PageSettings(
            timestep,
            channels,
            self.part,
            self.muted,
            style,
            None if (red, green, blue) == self._own_color else (red, green, blue),
            timestep if self.true_image.value else None,
        )

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
        if settings.background is not None:
            color = rgb.new_tensor(settings.background) / 255
            rgb = rgb + (1 - outputs["accumulation"]) * (color - self._avatar().background)
        if settings.part is not None and not settings.muted:
            rgb = fade_other_parts(rgb, compute_part_share(self._avatar(), outputs, settings.part))
        if settings.mesh is not None:
            rgb = self._draw_mesh(rgb, camera, states, settings.mesh)
        return outputs | {"rgb": rgb}

    def _draw_mesh(
        self, rgb: Float[Tensor, "height width 3"], camera: Cameras, states: HeadState, style: MeshStyle
    ) -> Float[Tensor, "height width 3"]:
        head = self._avatar().head
        verts = head.surface(states)[0].cpu().numpy()
        no_mask = np.zeros(rgb.shape[:2], np.uint8)
        faces = head.model.faces.cpu().numpy()
        image, side = to_image(rgb), max(rgb.shape[:2])
        drawn = draw_mesh_overlay(
            image, no_mask, verts, faces, _to_camera(camera), side, style.opacity, style.wireframe
        )
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


def _to_bytes(color: Float[Tensor, "3"]) -> tuple[int, int, int]:
    red, green, blue = (color.detach().cpu() * 255).round().int().tolist()
    return red, green, blue


def _to_camera(camera: Cameras) -> Camera:
    T = np.eye(4)
    T[:3] = camera.camera_to_worlds.reshape(3, 4).cpu().numpy()
    sizes = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    fl_x, fl_y, cx, cy, width, height = (float(value.flatten()[0]) for value in sizes)
    return Camera(T, fl_x, fl_y, cx, cy, int(width), int(height))
