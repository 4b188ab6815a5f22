"""Images of viewer pages: the settings of their controls select the head state, and change the image."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.capture.capture import Capture
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.plugin.animation import Animation
from partnerface_ns.plugin.controls import HeadControls
from partnerface_ns.plugin.head_states import HeadStates, ShownHead
from partnerface_ns.plugin.page import MutedPart, PageView
from partnerface_ns.plugin.page_settings import PageSettings
from partnerface_ns.plugin.training_views import FrontView, TrainingViews
from partnerface_ns.plugin.true_images import TrueImages, put_beside, right_half


class PageImages:
    """Renders what the pages of one viewer show."""

    def __init__(
        self,
        avatar: Avatar,
        capture: Capture,
        true_images: TrueImages,
        head_states: HeadStates,
        muted_part: MutedPart,
        render: Callable[[Cameras, ShownHead], dict[str, Tensor]],
        controls: tuple[HeadControls, Animation, PageView],
    ) -> None:
        """
        Args:
            avatar: the avatar.
            capture: the capture that is shown.
            true_images: its images.
            head_states: its head states.
            muted_part: removes the deformation of a part.
            render: renders one camera's image of a head.
            controls: the controls of all pages.
        """
        self._avatar, self._capture, self._head_states = avatar, capture, head_states
        self._muted_part, self._render = muted_part, render
        self._head_controls, self._animation, self._view = controls
        self._true_images = true_images

    def settings(self, now: float) -> PageSettings:
        """The controls' settings at a time in seconds of `time.monotonic`."""
        return self._view.settings(self._animation.timestep_at(now), self._head_controls.shown_channels)

    def head(self, settings: PageSettings | None = None) -> ShownHead:
        """The head that a page shows, with the current settings by default."""
        settings = settings or self.settings(time.monotonic())
        device = self._avatar.identity.device
        if settings.channels is not None:
            return ShownHead(self._head_controls.state(settings.channels).to(device))
        last = self._capture.num_timesteps - 1  # the slider of a single frame has two steps
        return self._head_states.at(None if settings.timestep is None else min(settings.timestep, last), device)

    @torch.no_grad()
    def render(
        self, camera: Cameras, settings: PageSettings | None = None
    ) -> dict[str, Float[Tensor, "height width _"]]:
        """Render a page's image.

        Args:
            camera: the page's camera, shape (1,).
            settings: the page's settings; by default the current ones.
        """
        settings = settings or self.settings(time.monotonic())
        head = self.head(settings)
        is_split = settings.true_frame is not None
        whole, camera = camera, right_half(camera) if is_split else camera
        with self._muted_part.mute(settings.part if settings.muted else None):
            outputs = self._render(camera, head)
        self._animation.rendered.set()
        outputs = self._view.decorate(outputs, camera, head.states, settings)
        return self._add_true_image(outputs, whole, settings) if is_split else outputs

    def _add_true_image(
        self, outputs: dict[str, Tensor], camera: Cameras, settings: PageSettings
    ) -> dict[str, Float[Tensor, "height width _"]]:
        """The outputs of the right half of a camera's image, with the true image on the left."""
        assert settings.true_frame is not None
        height, width = outputs["rgb"].shape[:2]
        own = self._avatar.background
        background = own if settings.background is None else own.new_tensor(settings.background) / 255
        pane = self._true_images.pane(settings.true_frame, height, int(camera.width) - width, background)
        return put_beside(outputs, pane)

    def degrees_from_training(self, camera: Cameras, head: ShownHead) -> float:
        """Angle between a camera's view of the head and the nearest training view, degrees."""
        position = camera.camera_to_worlds[0, :3, 3].cpu().float()
        return self._training_views.degrees_from(position, head.states.to("cpu"))

    def front_of_face(self, distance: float) -> FrontView:
        """The view from straight in front of the face that pages show now, at a distance in metres."""
        return self._training_views.front(distance, self.head().states.to("cpu"))

    @cached_property
    def _training_views(self) -> TrainingViews:
        head = self._avatar.head
        return TrainingViews(self._capture, ShapedHead(head.model.to("cpu"), head.verts_rest.detach().cpu()))
