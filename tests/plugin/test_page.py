"""The controls of a viewer page that change its image."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.viewer.utils import CameraState, parse_object
from nerfstudio.viewer.viewer_elements import ViewerElement
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from plugin.conftest import _start, tiny
from viser import ClientHandle, ViserServer

from partnerface_ns.capture.images import load_image
from partnerface_ns.plugin.configs import lite
from partnerface_ns.plugin.elements import PageButton, PageCheckbox, PageFolder, PageSlider
from partnerface_ns.plugin.page import PageView, compute_part_share, fade_other_parts
from partnerface_ns.plugin.true_images import TrueImages
from partnerface_ns.plugin.viewer import PageClipSource


@pytest.fixture(scope="module")
def pipeline(subject, tmp_path_factory):
    config = tiny(lite())
    config.pipeline.datamanager.data = subject
    config.output_dir, config.timestamp = tmp_path_factory.mktemp("page"), "run"
    config.set_timestamp()
    pipeline = _start(config).pipeline
    torch.nn.init.normal_(pipeline.model.avatar.deformation.networks.output, std=0.5)
    return pipeline


@pytest.fixture
def model(pipeline):
    """One model for all tests, its page as it opens."""
    model, page = pipeline.model.eval(), pipeline.model.page_view
    page.part_choice.value, page.part_mode.value, page.mesh.value = "all", "solo", False
    page.wireframe.value, page.background.value, page.true_image.value = False, page._own_color, False
    model.head_controls.set_channels({})
    model.head_controls.motion.value = "tracked"
    model.face_view.viewer = SimpleNamespace(ready=False)
    return model


@pytest.fixture
def look(model):
    """Renders what a page shows."""
    camera = model.kwargs["metadata"]["parsed_capture"].capture.frames[0].camera
    pose = torch.from_numpy(camera.T_world_camera[:3]).float()[None]
    sides = (camera.fl_x, camera.fl_y, camera.cx, camera.cy, camera.width, camera.height)
    return lambda: model.get_outputs_for_camera(Cameras(pose, *sides))


def test_the_shares_of_all_parts_are_the_head(model, look):
    outputs = look()
    shares = [compute_part_share(model.avatar, outputs, part) for part in range(4)]
    opacity = outputs["accumulation"]
    assert bool((sum(shares) <= opacity + 1e-4).all())
    assert sum(shares).sum() > 0.3 * opacity.sum(), "the torso has no part"
    assert all(share.max() <= 1 for share in shares)


def test_a_part_alone_leaves_the_rest_grey(model, look):
    rgb = look()["rgb"]
    model.page_view.part_choice.value = model.page_view._names[1]
    solo = look()["rgb"]
    share = compute_part_share(model.avatar, look(), 1)[..., 0]
    saturation = solo.amax(-1) - solo.amin(-1)
    assert saturation[share < 1e-3].max() < 1e-3
    torch.testing.assert_close(fade_other_parts(rgb, torch.ones_like(rgb[..., :1])), rgb)


def test_a_muted_part_does_not_deform_and_only_on_a_page(model, look):
    before = look()
    model.page_view.part_choice.value, model.page_view.part_mode.value = model.page_view._names[1], "muted"
    muted = look()
    share = compute_part_share(model.avatar, before, 1)[..., 0]
    lower = muted["deformation"].mean(-1) - before["deformation"].mean(-1)
    assert lower[share > 0.7].mean() < -0.01
    assert lower[share == 0].abs().mean() < -0.1 * lower[share > 0.7].mean(), "little of the others"
    model.face_view.viewer = None
    file = look()["deformation"]
    model.page_view.part_choice.value = "all"
    assert torch.equal(look()["deformation"], file), "files are rendered whole"


def test_the_mesh_lies_over_the_image(model, look):
    rgb = look()["rgb"]
    model.page_view.mesh.value = True
    changed = (look()["rgb"] - rgb).abs().amax(-1) > 0.05
    assert 0.05 < changed.float().mean() < 0.95 and not changed[0].any()


def test_the_mesh_has_an_opacity_and_can_be_a_wireframe(model, look):
    page, rgb = model.page_view, look()["rgb"]
    assert not page.opacity.visible and not page.wireframe.visible
    tick(page.mesh, True)
    assert page.opacity.visible and page.wireframe.visible
    page.opacity.value = 1.0
    opaque = (look()["rgb"] - rgb).abs().amax(-1)
    page.opacity.value = 0.0
    assert (look()["rgb"] - rgb).abs().max() < 0.01
    page.opacity.value, page.wireframe.value = 1.0, True
    wires = (look()["rgb"] - rgb).abs().amax(-1)
    assert 0.01 < wires.mean() < 0.8 * opaque.mean()
    tick(page.mesh, False)
    assert not page.opacity.visible


def test_the_background_has_the_selected_colour_and_the_head_its_own(model, look):
    before = look()
    assert model.pages.settings(0.0).background is None, "unless a person selects another"
    model.page_view.background.value = (0, 128, 255)
    after = look()["rgb"]
    opacity = before["accumulation"]
    expected = before["rgb"] + (1 - opacity) * (after.new_tensor([0, 128, 255]) / 255 - model.avatar.background)
    torch.testing.assert_close(after, expected)
    assert (after[0, 0] - torch.tensor([0, 128, 255]) / 255).abs().max() < 0.05


def test_the_true_image_lies_left_of_the_avatar_at_the_same_scale(model, look):
    alone = look()
    tick(model.page_view.true_image, True)
    model.animation.frame.value = 2
    outputs = look()
    size = alone["rgb"].shape[1]
    assert all(values.shape[:2] == alone["rgb"].shape[:2] for values in outputs.values())
    capture = model.kwargs["metadata"]["parsed_capture"].capture
    image = torch.from_numpy(load_image(capture.frames[2], tuple(model.avatar.background.tolist()))[0]) / 255
    middle = slice(size // 4, size // 4 + size // 2)
    torch.testing.assert_close(outputs["rgb"][:, : size // 2], image[:, middle], atol=1e-3, rtol=0)
    tick(model.page_view.true_image, False)
    torch.testing.assert_close(outputs["rgb"][:, size // 2 :], look()["rgb"][:, middle], atol=0.02, rtol=0)
    assert outputs["depth"][:, : size // 2].abs().max() == 0


@pytest.mark.parametrize(("width", "columns"), [(40, 24), (10, 10)])
def test_a_true_image_is_padded_or_cropped_to_its_pane(model, width, columns):
    color = torch.tensor([0.0, 0.0, 1.0])
    images = TrueImages(model.kwargs["metadata"]["parsed_capture"].capture, (1.0, 1.0, 1.0))
    pane = images.pane(0, 24, width, color)
    blue = (pane - color).abs().amax(-1).lt(0.01).all(0)
    assert pane.shape == (24, width, 3) and (~blue).sum() <= columns and not blue[width // 2]
    assert bool((images.pane(99, 24, width, color) == color).all())


def tick(element, value):
    """A person gives a control a value."""
    element.value = value
    element._handle_event(SimpleNamespace(client="page"))


def test_an_interrupted_image_leaves_no_part_muted(model, look, monkeypatch):
    before = look()
    model.page_view.part_choice.value, model.page_view.part_mode.value = model.page_view._names[1], "muted"
    with monkeypatch.context() as patch:
        patch.setattr(model.image_renderer, "_render_exact", Mock(side_effect=IOChangeException))
        with pytest.raises(IOChangeException):
            look()
    assert model.pages._muted_part.part is None
    model.page_view.part_choice.value = "all"
    assert torch.equal(look()["rgb"], before["rgb"])


def test_a_part_is_muted_in_the_thread_of_its_page_alone(model):
    seen = []
    with model.pages._muted_part.mute(2):
        thread = threading.Thread(target=lambda: seen.append(model.pages._muted_part.part))
        thread.start()
        thread.join()
        with model.pages._muted_part.mute(None):
            assert model.pages._muted_part.part is None
        assert model.pages._muted_part.part == 2
    assert seen == [None] and model.pages._muted_part.part is None


def test_reset_view_turns_the_page_on_which_it_was_pressed(model):
    reset_pages = []
    page = PageView(model.avatar, ["mouth"], reset_pages.append)
    page.reset_button.page = "a page"
    page.reset_button.cb_hook(page.reset_button)
    assert reset_pages == ["a page"] and page.part is None
    page.part_choice.value = "mouth"
    assert page.part == 0


def test_a_clip_has_the_viewers_resolution_and_shows_the_recorded_page(model, look):
    viewer = Mock(ready=False, train_lock=threading.Lock(), trainer=SimpleNamespace(training_state="training"))
    viewer.control_panel.max_res = 48
    model.face_view.viewer = viewer
    camera = model.kwargs["metadata"]["parsed_capture"].capture.frames[0].camera
    pose = torch.from_numpy(camera.T_world_camera[:3]).float()
    fov = 2 * math.atan(camera.height / (2 * camera.fl_y))
    viewer.get_camera_state.return_value = CameraState(fov, 2.0, pose, CameraType.PERSPECTIVE)
    source = PageClipSource(model.train(), Mock(spec=ClientHandle, camera=SimpleNamespace(aspect=2.0)))
    assert "paused" in source.waiting_reason()
    viewer.trainer = None
    assert source.waiting_reason() is None
    model.head_controls.set_channels({"jaw": 0.3})
    frame = source.snapshot(0.0)
    model.head_controls.set_channels({})
    image = source.render(frame)
    assert image.shape == (24, 48, 3) and model.training and not viewer.train_lock.locked()
    closed = source.render(source.snapshot(0.0))
    assert not np.array_equal(image, closed), "a frame keeps the sliders' values"
    viewer.ready, viewer.render_tab_state.preview_render = True, True
    assert source.snapshot(0.0) is None, "a preview of a camera path is not recorded"


def test_the_folders_of_controls_have_readable_names(pipeline):
    folders = {path.split("/")[-2] for path, _ in parse_object(pipeline, ViewerElement, "Custom Elements")}
    assert folders == {"Animation", "Expression", "View"}
    assert len(pipeline.state_dict()) == len({id(v) for v in pipeline.state_dict(keep_vars=True).values()})


def test_sliders_are_labelled_with_their_ends():
    server = Mock(spec=ViserServer, gui=Mock())
    PageSlider("gaze", 0.0, -0.5, 0.5, 0.01)._create_gui_handle(server)
    assert server.gui.add_slider.call_args.kwargs["marks"] == ((-0.5, "-0.5"), (0.5, "0.5"))


def test_an_element_knows_its_page_and_leaves_out_changes_by_the_program():
    calls, server = [], Mock(spec=ViserServer, gui=Mock())
    button = PageButton("Go", cb_hook=lambda element: calls.append(element.page))
    button.before_change = lambda: calls.append("before")
    button.install(server)
    (handle_event,) = server.gui.add_button.return_value.on_click.call_args.args
    handle_event(SimpleNamespace(client="page"))
    handle_event(SimpleNamespace(client=None))
    assert calls == ["before", "page"]


def test_a_folder_calls_the_hook_of_its_element_inside_that_of_nerfstudio():
    calls, server = [], Mock(spec=ViserServer, gui=MagicMock())
    box = PageCheckbox("Box", False, cb_hook=lambda element: calls.append(element.name))
    folder = PageFolder("Mouth", [box])
    own = folder.cb_hook
    folder.install(server)
    folder.cb_hook = lambda element: [calls.append("lock"), own(element), calls.append("rerender")]
    assert server.gui.add_folder.call_args.kwargs == {"expand_by_default": False}
    (handle_event,) = server.gui.add_checkbox.return_value.on_update.call_args.args
    handle_event(SimpleNamespace(client="page"))
    assert calls == ["lock", "Box", "rerender"] and list(folder) == [box]
