"""The first look of a viewer page."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
from nerfstudio.viewer.viewer import Viewer
from viser import ClientHandle

from partnerface_ns.capture.capture import Camera
from partnerface_ns.plugin.viewer import FaceView


def test_a_page_opens_where_the_captures_camera_stood():
    T = np.eye(4)
    T[:3, 3] = [0.1, 0.2, 1.0]
    view = FaceView(Camera(T, 100.0, 100.0, 32.0, 24.0, 64, 48), np.array([0.1, 0.2, 0.0]), 10, 3)
    hidden = []
    view._viewer = SimpleNamespace(set_camera_visibility=hidden.append, toggle_cameravis_button=lambda: None)
    view._scene_ready = True
    client = Mock(spec=ClientHandle, camera=SimpleNamespace())
    view._look_at_face(client)
    view._look_at_face(client)
    np.testing.assert_allclose(client.camera.position, [1, 2, 10])
    np.testing.assert_allclose(client.camera.look_at, [1, 2, 0], atol=1e-9)
    np.testing.assert_allclose(client.camera.up_direction, [0, 1, 0])
    assert client.camera.fov == 2 * math.atan(24 / 100)
    assert hidden == [False], "frustums are hidden once; a user may show them again"
    assert view.slider.default_value == 3 and view.slider.max == 9


def test_play_moves_the_frame_slider_until_it_is_switched_off():
    view = FaceView(Camera(np.eye(4), 100.0, 100.0, 32.0, 24.0, 64, 48), np.zeros(3), 5, 0)
    view.play.value = True
    view.play.cb_hook(view.play)
    seen, end = set(), time.monotonic() + 10
    while len(seen) < 5 and time.monotonic() < end:
        seen.add(view.slider.value)
        view.rendered.set()
        time.sleep(0.01)
    view.play.value = False
    assert seen == {0, 1, 2, 3, 4}, "it begins again at the end"


def test_a_page_that_was_open_before_the_scene_sees_no_frustums_and_keyframes_see_as_wide_as_the_page():
    view = FaceView(Camera(np.eye(4), 100.0, 100.0, 32.0, 24.0, 64, 48), np.zeros(3), 5, 0)
    fov = SimpleNamespace(_impl=SimpleNamespace(label="Default FOV"), value=75.0)
    other = SimpleNamespace(_impl=SimpleNamespace(label="Default Time"), value=0.0)
    init_scene = Mock()
    viewer = Mock(spec=Viewer)
    viewer.viser_server, viewer.control_panel, viewer.camera_handles = Mock(), Mock(), {}
    viewer.init_scene = init_scene
    viewer.viser_server.gui._gui_input_handle_from_id = {"a": other, "b": fov}
    viewer.viser_server.get_clients.return_value = {0: Mock()}
    view._setup(viewer)
    viewer.viser_server.on_client_connect.call_args.args[0](Mock(spec=ClientHandle, camera=SimpleNamespace()))
    viewer.set_camera_visibility.assert_not_called()
    viewer.init_scene(train_dataset=1)
    init_scene.assert_called_once_with(train_dataset=1)
    viewer.set_camera_visibility.assert_called_once_with(False)
    assert fov.value == math.degrees(2 * math.atan(24 / 100)) and other.value == 0.0
