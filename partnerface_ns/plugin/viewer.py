"""The model's part in the viewer: a page opens with the face in view, and a `PageRenderer` renders it.

nerfstudio finds `FaceView` among the model's public attributes. Coordinates in the viewer are ten times those of the
world.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.render_state_machine import RenderAction
from nerfstudio.viewer.utils import get_camera
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer
from nerfstudio.viewer.viewer_elements import ViewerControl
from viser import ClientHandle

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.plugin.clips import ClipFrame, Image
from partnerface_ns.plugin.elements import PageElement, PageFolder
from partnerface_ns.plugin.page_renderer import PageRenderer, evaluation_mode, image_size
from partnerface_ns.rendering.figures import to_image


class FaceView(ViewerControl):
    """Places the camera of each new page at the capture's camera, and renders the page in a `PageRenderer`."""

    def __init__(self, model: Any, camera: Camera, face: Float[np.ndarray, "3"]) -> None:
        """
        Args:
            model: the `PartnerfaceModel` that is shown.
            camera: the first camera of a page.
            face: a point of the face, world frame. The page's camera orbits at its depth.
        """
        self._model, self._camera, self._face = model, camera, face
        self.viewer: Viewer | None = None
        self._scene_ready, self._frustums_hidden, self._hiding = False, False, threading.Lock()

    @property
    def controls_image(self) -> bool:
        """Whether the page's controls select the head state. A previewed camera path selects its own."""
        return self.viewer is not None and not (self.viewer.ready and self.viewer.render_tab_state.preview_render)

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        self.viewer = viewer
        # The frame slider replaces the viewer's time slider, which has only a hundred steps.
        viewer.control_panel._time_enabled = False
        viewer.control_panel._time.set_hidden(True)
        viewer.viser_server.on_client_connect(self._look_at_face)
        viewer.viser_server.on_client_connect(self._render_page)
        viewer.init_scene = self._hide_frustums_after(viewer.init_scene)
        # Keyframes of a camera path get the page's field of view.
        for handle in viewer.viser_server.gui._gui_input_handle_from_id.values():
            if handle._impl.label == "Default FOV":
                handle.value = math.degrees(self._fov)
        for _, element in viewer.viewer_elements:
            for control in element if isinstance(element, PageFolder) else (element,):
                if isinstance(control, PageElement):
                    control.before_change = self._cancel_full_images
        threading.Thread(target=self._model.bake, daemon=True).start()

    def rerender(self) -> None:
        """Render all pages again, because the program has changed what they show."""
        if self.viewer is not None:
            self.viewer._trigger_rerender()

    def _cancel_full_images(self) -> None:
        """Interrupt full-size images, so that no control waits for them."""
        assert self.viewer is not None
        for renderer in list(self.viewer.render_statemachines.values()):
            if isinstance(renderer, PageRenderer):
                renderer.cancel_full_image()

    def _render_page(self, client: ClientHandle) -> None:
        """Render a new page in a `PageRenderer`, and stop nerfstudio's thread."""
        assert self.viewer is not None
        theirs = self.viewer.render_statemachines[client.client_id]
        theirs.running, theirs.action = False, _ignore_action
        self.viewer.render_statemachines[client.client_id] = PageRenderer(self.viewer, client, self._model)
        self.viewer.render_statemachines[client.client_id].start()

    def _hide_frustums_after(self, init_scene: Callable[..., None]) -> Callable[..., None]:
        """`init_scene`, followed by hiding the frustums. A page may open before the scene is initialised."""

        def init_then_hide(*args: Any, **kwargs: Any) -> None:
            init_scene(*args, **kwargs)
            self._scene_ready = True
            if self.viewer is not None and self.viewer.viser_server.get_clients():
                self._hide_frustums()

        return init_then_hide

    @property
    def _fov(self) -> float:
        """Vertical field of view of the capture's camera, radians."""
        return 2 * math.atan(self._camera.height / (2 * self._camera.fl_y))

    def _look_at_face(self, client: ClientHandle) -> None:
        T = self._camera.T_world_camera
        position, forward, up = T[:3, 3], -T[:3, 2], T[:3, 1]
        self._look(client, position, position + self._depth * forward, up)
        self._hide_frustums()

    def look_at_front(self, client: ClientHandle) -> None:
        """Turn a page's camera to the front of the face."""
        self._look(client, *(vector.numpy() for vector in self._model.front_of_face(self._depth)))

    @property
    def _depth(self) -> float:
        """Distance from the capture's camera to the face along its axis, metres."""
        T = self._camera.T_world_camera
        return max(1e-3, float((T[:3, 3] - self._face) @ T[:3, 2]))

    def _look(
        self,
        client: ClientHandle,
        position: Float[np.ndarray, "3"],
        target: Float[np.ndarray, "3"],
        up: Float[np.ndarray, "3"],
    ) -> None:
        position, target = position * VISER_NERFSTUDIO_SCALE_RATIO, target * VISER_NERFSTUDIO_SCALE_RATIO
        # The page reports its camera in another thread. A report between two of these lines would mix two cameras.
        with client.atomic():
            client.camera.up_direction = up
            client.camera.position = position
            client.camera.look_at = target
            client.camera.fov = self._fov

    def _hide_frustums(self) -> None:
        """Hide the training cameras once. In a monocular capture they cover the face."""
        with self._hiding:
            if self.viewer is None or self._frustums_hidden or not self._scene_ready:
                return
            self._frustums_hidden = True
            self.viewer.set_camera_visibility(False)
            self.viewer.toggle_cameravis_button()


def _ignore_action(action: RenderAction) -> None:
    """Replaces the method `action` of a renderer that is about to end."""


class PageClipSource:
    """Records a page and renders its clip."""

    def __init__(self, model: Any, page: ClientHandle) -> None:
        """
        Args:
            model: the `PartnerfaceModel` that the page shows.
            page: the page. Its current size and the viewer's current resolution give the size of the clip.
        """
        self._model, self._page = model, page
        self._viewer: Viewer = model.face_view.viewer
        self._size = image_size(self._viewer.control_panel.max_res, page.camera.aspect)

    def snapshot(self, now: float) -> ClipFrame | None:
        """The page's camera and settings; None while a camera path is previewed."""
        if not self._model.face_view.controls_image:
            return None
        return ClipFrame(self._viewer.get_camera_state(self._page), self._model.pages.settings(now))

    def render(self, frame: ClipFrame) -> Image:
        """Render a frame, outside of training steps."""
        camera = get_camera(frame.camera, *self._size).to(self._model.device)
        with self._viewer.train_lock or contextlib.nullcontext(), evaluation_mode(self._model):
            return to_image(self._model.pages.render(camera, frame.settings)["rgb"])

    def waiting_reason(self) -> str | None:
        """A clip waits while a run is training."""
        trainer = self._viewer.trainer
        training = trainer is not None and trainer.training_state == "training"
        return "The clip is rendered when training is paused or done." if training else None
