"""The thread that renders one page, in image sizes that suit the machine.

nerfstudio's own aims at 30 images a second while something moves, down to 30 pixels, and renders the full size as soon
as nothing does, also while it holds the lock that a training step waits for. Here

- an image of something that moves has the size that takes about half a second (`ImageSize`);
- while a run trains all images have such a size, and those that nobody asked for take a small share of the time.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.utils import CameraState, get_camera
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from nerfstudio.viewer_legacy.server.viewer_utils import SetTrace
from torch import Tensor

from partnerface_ns.plugin.training_views import FAR

SMALLEST = 96
"""Pixels of an image's longer side that no page goes below."""
_STEP = 16
"""Pixels between two sizes; a new size costs a CPU's matrix library a new kernel."""
_SECONDS_ON_CPU, _SECONDS_ON_GPU = 0.5, 0.1
"""What an image of something that moves may take."""
_PREPARING = "The avatar is prepared for fast images. On a CPU this takes about half a minute, once."
_SHARE = 0.1
"""Of a training run's time that images take which nobody asked for."""


class ImageSize:
    """The longer side, in pixels, of images that take a given time on this machine."""

    def __init__(self, seconds: float) -> None:
        self.side = SMALLEST
        self._seconds = seconds

    def took(self, side: int, seconds: float) -> None:
        """Follow the time that an image took; others than those of this size say nothing."""
        if side != self.side:
            return
        factor = math.sqrt(min(4.0, max(0.25, self._seconds / max(seconds, 1e-6))))
        if not 0.8 < factor < 1.25:  # a size that changes with every image would be slow itself
            self.side = max(SMALLEST, round(self.side * factor / _STEP) * _STEP)


class PageRenderer(RenderStateMachine):
    """Renders one page of a `PartnerfaceModel`."""

    def __init__(self, viewer: Any, client: Any, model: Any) -> None:
        super().__init__(viewer, VISER_NERFSTUDIO_SCALE_RATIO, client)
        self.transitions["low_move"]["static"] = "high"  # a second image of the same size shows nothing new
        self._model = model
        seconds = _SECONDS_ON_GPU if model.device.type == "cuda" else _SECONDS_ON_CPU
        self._sizes = {training: ImageSize(seconds) for training in (False, True)}
        self._full = self._previewed = False
        self._next_preview, self._seconds, self._step = 0.0, 0.0, -1
        self._note: Any = None
        self._warning: Any = None

    @property
    def training(self) -> bool:
        """Whether a run trains at this moment."""
        trainer = self.viewer.trainer
        return trainer is not None and trainer.training_state == "training"

    def run(self) -> None:
        """Render until the page is closed; say what it waits for until there is an image."""
        self._say_wait()
        super().run()

    def action(self, action: RenderAction) -> None:
        """Take an action; a run's progress is shown as often as its share of the time allows."""
        if self.training:
            if action.action == "step":  # nerfstudio's own count of steps supposes images of the full size
                return
            if action.action == "static":
                if time.monotonic() < self._next_preview or self.viewer.step == self._step:
                    return
                action = RenderAction("step", action.camera_state)
        elif action.action == "static" and self._previewed:
            action = RenderAction("rerender", action.camera_state)
        super().action(action)

    def hurry(self) -> None:
        """Give up an image of the full size: someone waits for the lock."""
        if self._full:
            self.interrupt_render_flag = True

    def check_interrupt(self, frame: Any, event: Any, arg: Any) -> Any:
        """Also give up an image of the full size when training goes on."""
        if self._full and self.training:
            self.interrupt_render_flag = True
        return super().check_interrupt(frame, event, arg)

    def _calculate_image_res(self, aspect_ratio: float) -> tuple[int, int]:
        """Height and width, pixels."""
        training, longest = self.training, self.viewer.control_panel.max_res
        self._full = self.state == "high" and not training
        if not self._full:
            longest = min(longest, self._sizes[training].side)
        return image_size(longest, aspect_ratio)

    def _render_img(self, camera_state: CameraState) -> dict[str, Any]:
        if self._model.prepares:
            self._say_wait()
            self._model.prepare()
        height, width = self._calculate_image_res(camera_state.aspect)
        training, full = self.training, self._full
        # nerfstudio also interrupts what has not begun: the first small image after a full one would be lost.
        self.interrupt_render_flag = full and self.next_action is not None and self.next_action.action == "move"
        camera = get_camera(camera_state, height, width).to(self._model.device)
        try:
            outputs = self._rendered(camera)
        finally:
            self._full = False
        if not full:
            self._sizes[training].took(max(height, width), self._seconds)
        self._previewed, self._step = training, self.viewer.step
        if self.viewer.control_panel.layer_depth:
            outputs["gl_z_buf_depth"] = _depth_along_axis(camera, outputs["depth"])
        self._warn(camera)
        return outputs

    def _rendered(self, camera: Cameras) -> dict[str, Any]:
        """The page's image, and how long it took without the wait for a training step."""
        with self.viewer.train_lock or contextlib.nullcontext(), evaluating(self._model):
            began = time.monotonic()
            with torch.no_grad(), SetTrace(self.check_interrupt):
                outputs = self._model.get_outputs_for_camera(camera)
            if outputs["rgb"].is_cuda:
                torch.cuda.synchronize()
            self._seconds = time.monotonic() - began
        return outputs

    def _send_output_to_viewer(self, outputs: dict[str, Any], static_render: bool = True) -> None:
        super()._send_output_to_viewer(outputs, static_render)
        self.viewer.update_step(self.viewer.step)
        if self._note is not None:
            self._note.remove()
            self._note = None
        if self._previewed:
            pages = max(1, len(self.viewer.render_statemachines))
            self._next_preview = time.monotonic() + self._seconds * (1 / _SHARE - 1) * pages
            if not static_render:
                time.sleep(self._seconds)  # what a page asks for takes half of the time

    def _say_wait(self) -> None:
        if self._note is None:
            body = _PREPARING if self._model.prepares else "It is being rendered."
            self._note = self.client.add_notification(
                "The first image is on its way", body, loading=True, with_close_button=False
            )

    def _warn(self, camera: Cameras) -> None:
        """Say on the page that training saw nothing like this view, as long as that is so."""
        degrees = self._model.degrees_from_training(camera)
        if degrees <= FAR:
            if self._warning is not None:
                self._warning.remove()
            self._warning = None
            return
        body = (
            f"This view is {degrees:.0f} degrees from the nearest training view. What is seen here is a guess. "
            "Reset view shows the front of the face."
        )
        if self._warning is None:
            self._warning = self.client.add_notification("Far from the training views", body, color="yellow")
        else:
            self._warning.body = body


def image_size(longest: int, aspect: float) -> tuple[int, int]:
    """Height and width, even pixels, of an image with this longer side and width over height."""
    height, width = (longest / aspect, longest) if aspect > 1 else (longest, longest * aspect)
    return max(2, 2 * round(height / 2)), max(2, 2 * round(width / 2))


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Any:
    """The model in evaluation mode, and in its mode of before afterwards."""
    training = model.training
    try:
        model.eval()
        yield
    finally:
        model.train(training)


def _depth_along_axis(camera: Cameras, depth: Tensor) -> Tensor:
    """Depth along the camera's axis, (height, width, 1), from depth along each ray, metres."""
    directions = camera.generate_rays(camera_indices=0).directions
    axis = -camera.camera_to_worlds[0, :3, 2]
    return depth * (directions @ axis)[..., None]
