"""The viewer's sliders."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerElement

from partnerface_ns.avatar.file_format import AvatarInfo
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.rig import Rig
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.plugin.controls import HeadControls, strongest_expressions


@pytest.fixture(scope="module")
def info(subject, head):
    return AvatarInfo.of(load_capture(subject), head, "open-head")


@pytest.fixture
def controls(head, info):
    verts = ShapedHead.of(head, torch.zeros(head.num_identity)).verts_rest
    return HeadControls(head, info, lambda: verts)


def test_nerfstudio_finds_every_control_once(controls):
    elements = parse_object(SimpleNamespace(head_controls=controls), ViewerElement, "Custom Elements")
    names = [element.name for _, element in elements]
    assert names[:3] == ["Motion", "Expression", "Reset"] and names[-2:] == ["Name", "Save this expression"]
    assert len(names) == len(set(names)) == 5 + 12 + 6
    assert not list(controls.parameters()) and not controls.state_dict()


def test_the_strongest_expressions_have_sliders(head, tiny_head):
    names = strongest_expressions(head)
    assert len(names) == 12 and {"mouthSmile", "eyeBlink", "browInnerUp"} <= set(names)
    assert all(Rig(head).knows(name) for name in names)
    assert set(strongest_expressions(tiny_head)) == {"smile", "frown", "pout", "blink"}


def test_tracked_motion_is_shown_until_a_slider_moves(controls, info):
    assert controls.shown_channels is None
    slider = controls._sliders["jaw"]
    slider.value = 0.2
    slider.cb_hook(slider)
    assert controls.shown_channels is None, "the program moved it"
    slider.page = object()
    slider.cb_hook(slider)
    state = controls.state(controls.shown_channels)
    torch.testing.assert_close(state.jaw[0], info.neutral.jaw + torch.tensor([0.2, 0, 0]))
    torch.testing.assert_close(state.expression[0], info.neutral.expression)
    controls.motion.value = "tracked"
    assert controls.shown_channels is None


def test_presets_and_reset_move_the_sliders(controls, info, head):
    choose(controls, "smile")
    left = head.expression_names.index("mouthSmileLeft")
    added = controls.state(controls.shown_channels).expression[0] - info.neutral.expression
    assert added[left] == pytest.approx(0.8) and "jaw" not in controls.channels
    controls.reset.cb_hook(controls.reset)
    assert controls.channels == {}
    torch.testing.assert_close(controls.state(controls.shown_channels).expression[0], info.neutral.expression)
    neutral = info.neutral.translation
    torch.testing.assert_close(controls.state(controls.shown_channels).translation[0], neutral, atol=1e-6, rtol=0)


def test_every_expression_can_be_chosen_unless_it_is_shown(controls):
    assert controls.expression.value == "-", "the tracked motion is shown"
    choose(controls, "smile")
    assert controls.expression.value == "smile"
    controls.reset.cb_hook(controls.reset)
    assert controls.expression.value == "neutral", "so that smile can be chosen again"
    choose(controls, "smile")
    slider = controls._sliders["jaw"]
    slider.value, slider.page = 0.2, object()
    slider.cb_hook(slider)
    assert controls.expression.value == "-"
    choose(controls, "smile")
    controls.show_tracked()
    assert controls.expression.value == "-"
    choose(controls, "smile")
    controls.motion.value = "tracked"
    controls.motion.cb_hook(controls.motion)
    assert controls.expression.value == "-"
    choose(controls, "-")
    assert controls.motion.value == "tracked", "no expression"


def choose(controls, name):
    controls.expression.value, controls.expression.page = name, object()
    controls.expression.cb_hook(controls.expression)


def test_a_turn_turns_the_head(controls, info):
    controls.set_channels({"yaw": 9.0})
    state = controls.state(controls.shown_channels)
    assert controls.channels == {"yaw": 0.6}, "kept on the slider"
    assert not np.allclose(state.rotation[0], info.neutral.rotation, atol=0.1)


def test_expressions_are_saved_and_offered_again(controls, head, info, tmp_path):
    controls.use_folder(tmp_path)
    controls.set_channels({"mouthSmile": 0.3, "yaw": -0.1})
    controls.save_name.value = "wry"
    controls.save_button.cb_hook(controls.save_button)
    controls.save("neutral")
    wry = {"mouthSmile": 0.3, "yaw": -0.1}
    assert json.loads((tmp_path / "expressions.json").read_text()) == {"wry": wry, "neutral 2": wry}
    assert controls.save_name.value == "neutral 2", "the page says under which name"
    again = HeadControls(head, info, controls._verts_rest)
    again.use_folder(tmp_path)
    assert again.expression.options == ["-", "neutral", "smile", "surprise", "wry", "neutral 2"]
    choose(again, "wry")
    assert again.channels == {"mouthSmile": 0.3, "yaw": -0.1}
    assert again.expression.value == "wry"
    (tmp_path / "expressions.json").write_text('{"wry": {"jaw": "wide"}}')
    with pytest.raises(InputError, match=r"wry\.jaw"):
        again.use_folder(tmp_path)


def test_the_hint_and_the_marks_give_the_range_of_training(controls, info):
    low, high = (round(float((end.jaw - info.neutral.jaw)[0]), 2) + 0.0 for end in (info.lowest, info.highest))
    slider = controls._sliders["jaw"]
    assert slider.hint.startswith(f"Training saw {low:.2f} to {high:.2f}")
    assert slider.marks == (max(0.0, low), high) and controls._sliders["yaw"].marks == ()
    controls.set_channels({"jaw": 0.1})
    controls.show_tracked()
    assert controls.motion.value == "tracked"


def test_sliders_change_page_images_only(make_config, start):
    trainer = start(make_config())
    model = trainer.pipeline.model
    trainer.pipeline.eval()
    cameras = trainer.pipeline.datamanager.eval_dataset.cameras[:1]
    page = cameras.to("cpu")
    page.metadata = {"cam_idx": 0}
    model.head_controls.set_channels({"jaw": 0.35})
    before = model.get_outputs_for_camera(page)["rgb"]
    evaluated = model.get_outputs_for_camera(cameras)["rgb"]
    model.face_view.viewer = SimpleNamespace(ready=False)
    assert torch.equal(model.get_outputs_for_camera(cameras)["rgb"], evaluated), "evaluation has its own frames"
    opened = model.get_outputs_for_camera(page)["rgb"]
    assert (opened - before).abs().max() > 0.02
    model.head_controls.set_channels({"jaw": 0.0})
    assert (model.get_outputs_for_camera(page)["rgb"] - opened).abs().max() > 0.02
