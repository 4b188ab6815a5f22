"""The viewer's side of the model: a page opens looking at the face, and a thread of ours renders it.

nerfstudio finds `FaceView` by a scan of the model's public attributes. The viewer's scene is ten times the world.
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
from partnerface_ns.plugin.clips import Image, Note
from partnerface_ns.plugin.elements import FromPage
from partnerface_ns.plugin.page_renderer import PageRenderer, evaluating, image_size
from partnerface_ns.rendering.figures import to_image


class FaceView(ViewerControl):
    """Puts each new page's camera where the capture's camera stood, and drives the head by frame number."""

    def __init__(self, model: Any, camera: Camera, face: Float[np.ndarray, 3]) -> None:
        """
        Args:
            model: the `PartnerfaceModel` that is shown.
            camera: the camera that a page opens with.
            face: a point of the face, world frame; the page's camera turns about its depth.
        """
        self._model, self._camera, self._face = model, camera, face
        self._viewer: Viewer | None = None
        self._scene_ready, self._frustums_hidden, self._hiding = False, False, threading.Lock()

    @property
    def decides(self) -> bool:
        """Whether the page's controls say what is shown: not without a viewer, nor while a camera path is previewed."""
        return self._viewer is not None and not (self._viewer.ready and self._viewer.render_tab_state.preview_render)

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        self._viewer = viewer
        # The viewer's own time slider has a hundred steps only; ours takes its place.
        viewer.control_panel._time_enabled = False
        viewer.control_panel._time.set_hidden(True)
        viewer.viser_server.on_client_connect(self._look_at_face)
        viewer.viser_server.on_client_connect(self._render_page)
        viewer.init_scene = self._then_hidden(viewer.init_scene)
        # Keyframes of a camera path see as wide as the page does.
        for handle in viewer.viser_server.gui._gui_input_handle_from_id.values():
            if handle._impl.label == "Default FOV":
                handle.value = math.degrees(self._fov)
        for _, element in viewer.viewer_elements:
            if isinstance(element, FromPage):
                element.hurry = self._hurry
        threading.Thread(target=self._model.prepare, daemon=True).start()

    def _hurry(self) -> None:
        """Let no control wait for an image of the full size."""
        assert self._viewer is not None
        for renderer in list(self._viewer.render_statemachines.values()):
            if isinstance(renderer, PageRenderer):
                renderer.hurry()

    def _render_page(self, client: ClientHandle) -> None:
        """Render a new page in a thread of our own kind; nerfstudio's does nothing."""
        assert self._viewer is not None
        theirs = self._viewer.render_statemachines[client.client_id]
        theirs.running, theirs.action = False, _nothing
        self._viewer.render_statemachines[client.client_id] = PageRenderer(self._viewer, client, self._model)
        self._viewer.render_statemachines[client.client_id].start()

    def _then_hidden(self, init_scene: Callable[..., None]) -> Callable[..., None]:
        """A page may be open before the scene is there."""

        def init_then_hide(*args: Any, **kwargs: Any) -> None:
            init_scene(*args, **kwargs)
            self._scene_ready = True
            if self._viewer is not None and self._viewer.viser_server.get_clients():
                self._hide_frustums()

        return init_then_hide

    @property
    def _fov(self) -> float:
        """The camera's vertical field of view, radians."""
        return 2 * math.atan(self._camera.height / (2 * self._camera.fl_y))

    def _look_at_face(self, client: ClientHandle) -> None:
        T = self._camera.T_world_camera
        position, forward, up = T[:3, 3], -T[:3, 2], T[:3, 1]
        self._look(client, position, position + self._depth * forward, up)
        self._hide_frustums()

    def look_at_front(self, client: ClientHandle) -> None:
        """Turn a page's camera to the front of the face that it shows."""
        self._look(client, *(vector.numpy() for vector in self._model.front_of_face(self._depth)))

    @property
    def _depth(self) -> float:
        """Metres from the page's first camera to the face."""
        T = self._camera.T_world_camera
        return max(1e-3, float((T[:3, 3] - self._face) @ T[:3, 2]))

    def _look(self, client: ClientHandle, position: np.ndarray, target: np.ndarray, up: np.ndarray) -> None:
        client.camera.up_direction = up
        client.camera.position = position * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.look_at = target * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.fov = self._fov

    def _hide_frustums(self) -> None:
        """Hide the training cameras once: in a monocular capture the first of them covers the face."""
        with self._hiding:
            if self._viewer is None or self._frustums_hidden or not self._scene_ready:
                return
            self._frustums_hidden = True
            self._viewer.set_camera_visibility(False)
            self._viewer.toggle_cameravis_button()


def _nothing(action: RenderAction) -> None:
    """What a renderer does that is to end."""


class PageClipSource:
    """What a clip of a page is made from."""

    def __init__(self, model: Any, page: ClientHandle) -> None:
        """
        Args:
            model: the `PartnerfaceModel` that the page shows.
            page: its size, and the viewer's resolution at this moment, are those of the clip.
        """
        self._model, self._page = model, page
        self._viewer: Viewer = model.face_view._viewer
        self._size = image_size(self._viewer.control_panel.max_res, page.camera.aspect)

    def note(self, now: float) -> Note | None:
        if not self._model.face_view.decides:
            return None
        return Note(self._viewer.get_camera_state(self._page), self._model.look(now))

    def image(self, note: Note) -> Image:
        camera = get_camera(note.camera, *self._size).to(self._model.device)
        with self._viewer.train_lock or contextlib.nullcontext(), evaluating(self._model):
            return to_image(self._model.page_image(camera, note.look)["rgb"])

    def waits_for(self) -> str | None:
        trainer = self._viewer.trainer
        trains = trainer is not None and trainer.training_state == "training"
        return "The clip is rendered when training is paused or done." if trains else None
