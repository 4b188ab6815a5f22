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
from partnerface_ns.driving.rig import Rig, arkit_names
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.plugin.controls import HeadControls
from partnerface_ns.plugin.expressions import PRESETS
from partnerface_ns.plugin.sliders import channels_by_folder, readable


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
    assert names[:5] == ["Motion", "Expression", "Reset", "Left and right apart", "Head"]
    assert names[-3:] == ["Name", "Save this expression", "Delete this expression"]
    assert len(names) == len(set(names))
    assert not list(controls.parameters()) and not controls.state_dict()


def test_every_expression_has_a_slider_in_the_folder_of_its_region(head, tiny_head):
    folders = channels_by_folder(head)
    assert folders["Brows"] == {
        "browDown": ("browDownLeft", "browDownRight"),
        "browInnerUp": (),
        "browOuterUp": ("browOuterUpLeft", "browOuterUpRight"),
    }
    assert {"mouthLeft", "mouthRight"} < folders["Mouth"].keys() and "Other" not in folders
    shown = [side for names in folders.values() for name, sides in names.items() for side in sides or (name,)]
    assert len(shown) == len(set(shown)) and set(arkit_names()) - {"jawOpen"} <= set(shown)
    assert all(Rig(head).knows(name) for names in folders.values() for name in names)
    assert set(channels_by_folder(tiny_head)["Other"]) == {"smile", "frown", "pout", "blink"}


@pytest.mark.parametrize(
    ("name", "label"),
    [("mouthSmileLeft", "Smile left"), ("mouthLeft", "Mouth left"), ("jawForward", "Jaw forward"), ("smile", "Smile")],
)
def test_labels_leave_out_the_region(name, label):
    assert readable(name) == label


def test_left_and_right_are_apart_on_request_and_the_face_stays(controls):
    controls.set_channels({"mouthSmile": 0.6})
    joined = controls.state(controls.shown_channels)
    split = [controls._sliders[name] for name in ("mouthSmileLeft", "mouthSmileRight")]
    assert controls._sliders["mouthSmile"].visible and not any(slider.visible for slider in split)
    tick(controls.apart, True)
    assert controls.channels == {"mouthSmileLeft": 0.6, "mouthSmileRight": 0.6}
    torch.testing.assert_close(controls.state(controls.shown_channels).expression, joined.expression)
    assert not controls._sliders["mouthSmile"].visible and all(slider.visible for slider in split)
    tick(split[0], 0.2)
    assert controls.state(controls.shown_channels).expression.ne(joined.expression).sum() == 1
    tick(controls.apart, False)
    assert controls.channels == {"mouthSmile": pytest.approx(0.4)}
    controls.set_channels({"eyeBlinkRight": 1.0, "eyeBlink": 0.0, "mouthSmile": 0.5})
    assert controls.apart.value, "an expression with one side shows the sliders of each"
    assert controls.channels == {"eyeBlinkRight": 1.0, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5}


def test_tracked_motion_is_shown_until_a_slider_moves(controls, info):
    assert controls.shown_channels is None
    slider = controls._sliders["jaw"]
    slider._handle_event(SimpleNamespace(client=None))
    assert controls.shown_channels is None, "the program moved it"
    tick(slider, 0.2)
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
    tick(controls._sliders["jaw"], 0.2)
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
    tick(controls.expression, name)


def tick(element, value):
    """A person gives a control a value."""
    element.value = value
    element._handle_event(SimpleNamespace(client="page"))


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
    assert again.delete_button.visible
    again.delete()
    assert again.channels == {"mouthSmile": 0.3, "yaw": -0.1} and not again.delete_button.visible
    assert again.expression.value == "-" and again.expression.options == ["-", *PRESETS, "neutral 2"]
    assert json.loads((tmp_path / "expressions.json").read_text()) == {"neutral 2": wry}
    choose(again, "smile")
    again.delete()
    assert "smile" in again.expression.options and not again.delete_button.visible, "presets stay"
    (tmp_path / "expressions.json").write_text('{"wry": {"jaw": "wide"}}')
    with pytest.raises(InputError, match=r"wry\.jaw"):
        again.use_folder(tmp_path)


def test_the_hint_and_the_marks_give_the_range_of_training(controls, info):
    low, high = (round(float((end.jaw - info.neutral.jaw)[0]), 2) + 0.0 for end in (info.lowest, info.highest))
    slider = controls._sliders["jaw"]
    assert slider.hint.endswith(f"training saw {low:.2f} to {high:.2f}")
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
