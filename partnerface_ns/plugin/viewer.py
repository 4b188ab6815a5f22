"""The viewer's side of the model: a page opens looking at the face, and a slider chooses the frame.

nerfstudio finds both by a scan of the model's public attributes. The viewer's scene is ten times the world's size.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer
from nerfstudio.viewer.viewer_elements import ViewerCheckbox, ViewerControl, ViewerSlider
from viser import ClientHandle

from partnerface_ns.capture.capture import Camera

_FPS, _PATIENCE = 25.0, 5.0
"""Frames a second while playing; seconds after which the slider moves on although nothing was rendered."""


class FaceView(ViewerControl):
    """Puts each new page's camera where the capture's camera stood, and drives the head by frame number."""

    def __init__(self, camera: Camera, face: Float[np.ndarray, 3], num_timesteps: int, timestep: int) -> None:
        """
        Args:
            camera: the camera that a page opens with.
            face: a point of the face, world frame; the page's camera turns about its depth.
            num_timesteps: length of the track that the slider runs over.
            timestep: where the slider starts.
        """
        self._camera, self._face = camera, face
        self._viewer: Viewer | None = None
        self._scene_ready, self._frustums_hidden, self._hiding = False, False, threading.Lock()
        self.rendered = threading.Event()
        """Set by the model when it has rendered a page."""
        self.slider = ViewerSlider(
            "Frame", timestep, 0, max(1, num_timesteps - 1), 1, hint="Which frame's expression and pose to show"
        )
        self.play = ViewerCheckbox("Play", False, cb_hook=self._start, hint="Let the frames run")

    @property
    def decides(self) -> bool:
        """Whether the page's controls say what is shown: not without a viewer, nor while a camera path is previewed."""
        return self._viewer is not None and not (self._viewer.ready and self._viewer.render_tab_state.preview_render)

    @property
    def timestep(self) -> int | None:
        """The frame that the slider asks for; None where the page does not decide."""
        return int(self.slider.value) if self.decides else None

    def _start(self, element: ViewerCheckbox) -> None:
        if element.value:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        """Move the slider in real time until play is switched off; what there is no time for is skipped."""
        num, first, began = self.slider.max + 1, self.slider.value, time.monotonic()
        while self.play.value:
            self.rendered.clear()
            self.slider.value = (first + int((time.monotonic() - began) * _FPS)) % num
            # Moves that pile up would keep the page's other controls waiting.
            self.rendered.wait(_PATIENCE)
            time.sleep(1 / _FPS)

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        # The viewer's own time slider has a hundred steps only; ours takes its place.
        viewer.control_panel._time_enabled = False
        viewer.control_panel._time.set_hidden(True)
        viewer.viser_server.on_client_connect(self._look_at_face)
        viewer.init_scene = self._then_hidden(viewer.init_scene)
        # Keyframes of a camera path see as wide as the page does.
        for handle in viewer.viser_server.gui._gui_input_handle_from_id.values():
            if handle._impl.label == "Default FOV":
                handle.value = math.degrees(self._fov)
        self._viewer = viewer

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
        depth = max(1e-3, float((self._face - position) @ forward))
        client.camera.up_direction = up
        client.camera.position = position * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.look_at = (position + depth * forward) * VISER_NERFSTUDIO_SCALE_RATIO
        client.camera.fov = self._fov
        self._hide_frustums()

    def _hide_frustums(self) -> None:
        """Hide the training cameras once: in a monocular capture the first of them covers the face."""
        with self._hiding:
            if self._viewer is None or self._frustums_hidden or not self._scene_ready:
                return
            self._frustums_hidden = True
            self._viewer.set_camera_visibility(False)
            self._viewer.toggle_cameravis_button()
