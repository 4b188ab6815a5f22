"""The thread that renders one page, at resolutions that suit the machine.

nerfstudio's own thread aims at 30 images a second while something moves, at resolutions down to 30 pixels. It renders
the full resolution as soon as nothing moves, even while it holds the lock that a training step waits for. Here

- an image of something that moves has a resolution that takes about half a second (`AdaptiveResolution`);
- the full resolution follows at once, and a single change is rendered at the full resolution if that is fast;
- during training all images have such a resolution, and images without user input take a small share of the time.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.utils import CameraState, get_camera
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException, SetTrace
from torch import Tensor

from partnerface_ns.plugin.training_views import FAR_DEGREES

MIN_SIDE = 96
"""Smallest longer side of a page image, pixels."""
_STEP = 16
"""Pixels between two resolutions. In bfloat16 on a CPU, oneDNN compiles a new kernel for every new shape."""
_SECONDS_ON_CPU, _SECONDS_ON_GPU = 0.5, 0.1
"""Seconds that an image may take while something moves."""
_SHARP_AT_ONCE = 3
"""A full-size image is rendered without a small one before it if it takes at most this many times as long as a moving
image."""
_PAUSE = 0.3
"""Seconds after an image within which another change is part of a movement."""
_SETTLE, _IDLE = 0.02, 0.2
"""Seconds to wait for further events of one change, and between looks at a page without changes."""
_BAKING = "The avatar is being baked for fast images. On a CPU this takes about half a minute, once."
_SHARE = 0.1
"""Share of training time for images without user input."""


class AdaptiveResolution:
    """The resolution of images that take a given time on this machine."""

    def __init__(self, seconds: float) -> None:
        self.side = MIN_SIDE
        """Longer side of an image, pixels."""
        self._seconds = seconds

    def update(self, side: int, seconds: float) -> None:
        """Adapt to the time that an image took. Images with another longer side are ignored."""
        if side != self.side:
            return
        factor = math.sqrt(min(4.0, max(0.25, self._seconds / max(seconds, 1e-6))))
        if not 0.8 < factor < 1.25:  # every change of the resolution costs time itself
            self.side = max(MIN_SIDE, round(self.side * factor / _STEP) * _STEP)


class PageRenderer(RenderStateMachine):
    """Renders one page of a `PartnerfaceModel`."""

    def __init__(self, viewer: Any, client: Any, model: Any) -> None:
        super().__init__(viewer, VISER_NERFSTUDIO_SCALE_RATIO, client)
        self.transitions["low_move"]["static"] = "high"  # a second small image would show nothing new
        self._model = model
        self._budget = _SECONDS_ON_GPU if model.device.type == "cuda" else _SECONDS_ON_CPU
        self._resolutions = {training: AdaptiveResolution(self._budget) for training in (False, True)}
        self._full_size = self._is_sharp = self._shows_training = False
        self._sharp_pixels, self._sharp_seconds = 1, math.inf
        self._next_preview, self._seconds, self._last_image, self._step = 0.0, 0.0, 0.0, -1
        self._wait_notification: Any = None
        self._view_warning: Any = None

    @property
    def training(self) -> bool:
        """Whether a run is training now."""
        trainer = self.viewer.trainer
        return trainer is not None and trainer.training_state == "training"

    def run(self) -> None:
        """Render until the page is closed. A notification is shown until the first image."""
        self._notify_wait()
        while self.running:
            if not self.viewer.ready:
                time.sleep(0.1)
                continue
            self._wait_for_action()
            action, self.next_action = self.next_action, None
            if action is not None:
                self.handle(action)

    def _wait_for_action(self) -> None:
        """Wait for a change on the page. After a small image, the full size follows without a wait."""
        follows = self.state == "low_move" and not self.training
        if self.render_trigger.wait(_SETTLE if follows else _IDLE):
            time.sleep(_SETTLE)
        else:
            self.action(RenderAction("static", self.viewer.get_camera_state(self.client)))
        self.render_trigger.clear()

    def handle(self, action: RenderAction) -> bool:
        """Render the image of an action, and return whether it was sent. Another change interrupts a full-size one."""
        if self.state == "high" and action.action == "static":
            return False
        at_once = action.action == "move" and self._is_fast_single_change()
        self.state = "high" if at_once else self.transitions[self.state][action.action]
        try:
            outputs = self._render_img(action.camera_state)
        except Exception as error:
            if not is_interrupt(error):
                raise
            return False
        finally:
            self._last_image = time.monotonic()
        if self._is_sharp:
            self.state = "high"
        self._send_output_to_viewer(outputs, static_render=self._is_sharp or action.action in ("static", "step"))
        return True

    def _is_fast_single_change(self) -> bool:
        """Whether the page was still before, and its full-size image takes little time."""
        seconds = self._sharp_seconds * max(1.0, self.viewer.control_panel.max_res**2 / self._sharp_pixels)
        is_single = time.monotonic() - self._last_image > _PAUSE
        return is_single and seconds <= _SHARP_AT_ONCE * self._budget and not self.training

    def action(self, action: RenderAction) -> None:
        """Handle an action. During training, images without user input come as often as their share allows."""
        if self.training:
            if action.action == "step":  # nerfstudio counts steps for full-size images
                return
            if action.action == "static":
                if time.monotonic() < self._next_preview or self.viewer.step == self._step:
                    return
                action = RenderAction("step", action.camera_state)
        elif action.action == "static" and self._shows_training:
            action = RenderAction("rerender", action.camera_state)
        super().action(action)

    def cancel_full_image(self) -> None:
        """Interrupt a full-size image, because a control waits for the lock."""
        if self._full_size:
            self.interrupt_render_flag = True

    def check_interrupt(self, frame: Any, event: Any, arg: Any) -> Any:
        """Also interrupt a full-size image when training continues."""
        if self._full_size and self.training:
            self.interrupt_render_flag = True
        return super().check_interrupt(frame, event, arg)

    def _calculate_image_res(self, aspect_ratio: float) -> tuple[int, int]:
        """Height and width of the next image, pixels."""
        training, max_res = self.training, self.viewer.control_panel.max_res
        self._full_size = self.state == "high" and not training
        longest = max_res if self._full_size else min(max_res, self._resolutions[training].side)
        self._is_sharp = longest == max_res and not training
        return image_size(longest, aspect_ratio)

    def _render_img(self, camera_state: CameraState) -> dict[str, Any]:
        if self._model.needs_baking:
            self._notify_wait()
            self._model.bake()
        height, width = self._calculate_image_res(camera_state.aspect)
        training, full = self.training, self._full_size
        # nerfstudio sets the flag even if no image is being rendered, and the next small image would be lost.
        self.interrupt_render_flag = full and self.next_action is not None and self.next_action.action == "move"
        camera = get_camera(camera_state, height, width).to(self._model.device)
        try:
            outputs = self._render_timed(camera)
        finally:
            self._full_size = False
        if self._is_sharp:
            self._sharp_pixels, self._sharp_seconds = max(height, width) ** 2, self._seconds
        if not full:
            self._resolutions[training].update(max(height, width), self._seconds)
        self._shows_training, self._step = training, self.viewer.step
        if self.viewer.control_panel.layer_depth:
            outputs["gl_z_buf_depth"] = _depth_along_axis(camera, outputs["depth"])
        self._warn_of_view(camera)
        return outputs

    def _render_timed(self, camera: Cameras) -> dict[str, Any]:
        """Render, and measure the time without the wait for a training step."""
        with self.viewer.train_lock or contextlib.nullcontext(), evaluation_mode(self._model):
            start = time.monotonic()
            with torch.no_grad(), SetTrace(self.check_interrupt) if self._full_size else contextlib.nullcontext():
                outputs = self._model.get_outputs_for_camera(camera)
            if outputs["rgb"].is_cuda:
                torch.cuda.synchronize()
            self._seconds = time.monotonic() - start
        return outputs

    def _send_output_to_viewer(self, outputs: dict[str, Any], static_render: bool = True) -> None:
        super()._send_output_to_viewer(outputs, static_render)
        self.viewer.update_step(self.viewer.step)
        if self._wait_notification is not None:
            self._wait_notification.remove()
            self._wait_notification = None
        if self._shows_training:
            pages = max(1, len(self.viewer.render_statemachines))
            self._next_preview = time.monotonic() + self._seconds * (1 / _SHARE - 1) * pages
            if not static_render:
                time.sleep(self._seconds)  # images after user input take half of the time

    def _notify_wait(self) -> None:
        if self._wait_notification is None:
            body = _BAKING if self._model.needs_baking else "The image is being rendered."
            self._wait_notification = self.client.add_notification(
                "Waiting for the first image", body, loading=True, with_close_button=False
            )

    def _warn_of_view(self, camera: Cameras) -> None:
        """Warn on the page while its view is far from all training views."""
        degrees = self._model.degrees_from_training(camera)
        if degrees <= FAR_DEGREES:
            if self._view_warning is not None:
                self._view_warning.remove()
            self._view_warning = None
            return
        body = (
            f"This view is {degrees:.0f} degrees from the nearest training view. The image is a guess. "
            "Reset view shows the front of the face."
        )
        if self._view_warning is None:
            self._view_warning = self.client.add_notification("Far from the training views", body, color="yellow")
        else:
            self._view_warning.body = body


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is nerfstudio's interrupt of an image, or was raised because of one.

    jaxtyping's checks, which tests enable, run under the trace, too. They replace the interrupt with their own error.
    """
    while error is not None and not isinstance(error, IOChangeException):
        error = error.__cause__ or error.__context__
    return error is not None


def image_size(longest: int, aspect: float) -> tuple[int, int]:
    """Height and width in pixels, both even.

    Args:
        longest: the longer side, pixels.
        aspect: width over height.
    """
    height, width = (longest / aspect, longest) if aspect > 1 else (longest, longest * aspect)
    return max(2, 2 * round(height / 2)), max(2, 2 * round(width / 2))


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the block, then back into its previous mode."""
    training = model.training
    try:
        model.eval()
        yield
    finally:
        model.train(training)


def _depth_along_axis(camera: Cameras, depth: Float[Tensor, "height width 1"]) -> Float[Tensor, "height width 1"]:
    """Depth along the camera's axis from depth along each ray, metres."""
    directions = camera.generate_rays(camera_indices=0).directions
    axis = -camera.camera_to_worlds[0, :3, 2]
    return depth * (directions @ axis)[..., None]
