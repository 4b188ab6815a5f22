"""The first view of a viewer page, and its renderer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.viewer import Viewer
from viser import ClientHandle

from partnerface_ns.geometry.camera import Camera
from partnerface_ns.plugin.elements import PageFolder, PageSlider
from partnerface_ns.plugin.page_renderer import PageRenderer
from partnerface_ns.plugin.viewer import FaceView

FRONT = (torch.tensor([0.0, 0, 0.3]), torch.tensor([0.0, 0, 0.2]), torch.tensor([0.0, 1, 0]))
MODEL = SimpleNamespace(bake=lambda: None, front_of_face=lambda distance: FRONT, device=torch.device("cpu"))


@pytest.fixture
def view():
    return FaceView(MODEL, Camera(np.eye(4), 100.0, 100.0, 32.0, 24.0, 64, 48), np.zeros(3))


@pytest.fixture
def client():
    """A page whose camera may only be changed while the page's own reports of it wait.

    `client.blocks` has an entry for each time that the reports waited.
    """
    waiting, blocks = [], []

    class PageCamera(SimpleNamespace):
        def __setattr__(self, name: str, value: object) -> None:
            assert waiting, f"a report of the page may come between {name} and the rest"
            super().__setattr__(name, value)

    @contextmanager
    def atomic() -> Iterator[None]:
        waiting.append(True)
        blocks.append(True)
        yield
        waiting.pop()

    return Mock(spec=ClientHandle, camera=PageCamera(), atomic=atomic, blocks=blocks)


def test_a_page_opens_at_the_captures_camera(client):
    T = np.eye(4)
    T[:3, 3] = [0.1, 0.2, 1.0]
    view = FaceView(MODEL, Camera(T, 100.0, 100.0, 32.0, 24.0, 64, 48), np.array([0.1, 0.2, 0.0]))
    hidden = []
    view.viewer = SimpleNamespace(set_camera_visibility=hidden.append, toggle_cameravis_button=lambda: None)
    view._scene_ready = True
    view._look_at_face(client)
    view._look_at_face(client)
    np.testing.assert_allclose(client.camera.position, [1, 2, 10])
    np.testing.assert_allclose(client.camera.look_at, [1, 2, 0], atol=1e-9)
    np.testing.assert_allclose(client.camera.up_direction, [0, 1, 0])
    assert client.camera.fov == 2 * math.atan(24 / 100)
    assert hidden == [False], "frustums are hidden once; a user may show them again"


def test_reset_view_turns_the_page_to_the_front_of_the_face(view, client):
    view.look_at_front(client)
    assert len(client.blocks) == 1, "no report of the page comes between two of the camera's values"
    np.testing.assert_allclose(client.camera.position, [0, 0, 3])
    np.testing.assert_allclose(client.camera.look_at, [0, 0, 2])
    np.testing.assert_allclose(client.camera.up_direction, [0, 1, 0])


def test_a_page_is_rendered_by_our_thread_and_no_control_waits_for_it(view, monkeypatch):
    monkeypatch.setattr("partnerface_ns.plugin.viewer.PageRenderer.start", lambda self: None)
    view.viewer = Mock(spec=Viewer)
    theirs = RenderStateMachine(view.viewer, 10.0, Mock(spec=ClientHandle))
    view.viewer.render_statemachines = {4: theirs}
    view._render_page(Mock(spec=ClientHandle, client_id=4))
    ours = view.viewer.render_statemachines[4]
    assert isinstance(ours, PageRenderer) and not theirs.running
    theirs.action(RenderAction("static", None))
    assert theirs.next_action is None, "it finds nothing to render while it ends"
    ours._full_size = True
    view._cancel_full_images()
    assert ours.interrupt_render_flag


def test_controls_in_folders_interrupt_full_images_too(view):
    slider = PageSlider("Smile", 0.0, 0.0, 1.0, 0.1)
    view.viewer = viewer = Mock(spec=Viewer)
    viewer.viewer_elements = [("path", PageFolder("Mouth", [slider])), ("other", SimpleNamespace())]
    viewer.viser_server, viewer.control_panel, viewer.init_scene = Mock(), Mock(), Mock()
    viewer.viser_server.gui._gui_input_handle_from_id = {}
    view._setup(viewer)
    renderer = Mock(spec=PageRenderer)
    viewer.render_statemachines = {0: renderer}
    slider.before_change()
    renderer.cancel_full_image.assert_called_once_with()
    view.rerender()
    viewer._trigger_rerender.assert_called_once_with()


def test_frustums_are_hidden_on_early_pages_and_keyframes_get_the_pages_field_of_view(view, client):
    fov = SimpleNamespace(_impl=SimpleNamespace(label="Default FOV"), value=75.0)
    other = SimpleNamespace(_impl=SimpleNamespace(label="Default Time"), value=0.0)
    init_scene = Mock()
    viewer = Mock(spec=Viewer)
    viewer.viser_server, viewer.control_panel, viewer.camera_handles = Mock(), Mock(), {}
    viewer.init_scene, viewer.viewer_elements, viewer.ready = init_scene, [], False
    viewer.viser_server.gui._gui_input_handle_from_id = {"a": other, "b": fov}
    viewer.viser_server.get_clients.return_value = {0: Mock()}
    view._setup(viewer)
    viewer.viser_server.on_client_connect.call_args_list[0].args[0](client)
    viewer.set_camera_visibility.assert_not_called()
    viewer.init_scene(train_dataset=1)
    init_scene.assert_called_once_with(train_dataset=1)
    viewer.set_camera_visibility.assert_called_once_with(False)
    assert fov.value == math.degrees(2 * math.atan(24 / 100)) and other.value == 0.0
