"""Resolution and timing of the images of a viewer page."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.utils import CameraState
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException

from partnerface_ns.plugin import page_renderer
from partnerface_ns.plugin.page_renderer import MIN_SIDE, AdaptiveResolution, PageRenderer, evaluation_mode, image_size

STATE = CameraState(0.5, 1.5, torch.eye(4)[:3], CameraType.PERSPECTIVE)


class Model(torch.nn.Module):
    """Takes a time for each image that grows with its pixels."""

    device, needs_baking, degrees = torch.device("cpu"), False, 0.0

    def __init__(self, now: list[float]) -> None:
        super().__init__()
        self.now, self.sizes, self.modes = now, [], []
        self.during = lambda: None

    def get_outputs_for_camera(self, camera):
        self.modes.append(self.training)
        height, width = int(camera.height), int(camera.width)
        self.sizes.append(max(height, width))
        self.now[0] += 0.1 + 2e-5 * height * width
        self.during()
        return {"rgb": torch.zeros(height, width, 3), "depth": torch.ones(height, width, 1)}

    def degrees_from_training(self, camera):
        return self.degrees


class Notes:
    """A page's notifications."""

    def __init__(self):
        self.open, self.all = [], []

    def add_notification(self, title, body, **_):
        note = SimpleNamespace(title=title, body=body)
        note.remove = lambda: self.open.remove(note)
        self.open.append(note)
        self.all.append(note)
        return note


@pytest.fixture
def now(monkeypatch):
    time = [100.0]
    sleep = lambda seconds: time.__setitem__(0, time[0] + seconds)  # noqa: E731
    monkeypatch.setattr(page_renderer, "time", SimpleNamespace(monotonic=lambda: time[0], sleep=sleep))
    return time


@pytest.fixture
def renderer(now, monkeypatch):
    monkeypatch.setattr(RenderStateMachine, "_send_output_to_viewer", lambda self, outputs, static_render=True: None)
    panel = SimpleNamespace(max_res=512, layer_depth=True)
    viewer = SimpleNamespace(
        trainer=SimpleNamespace(training_state="training"),
        control_panel=panel,
        train_lock=threading.Lock(),
        step=0,
        update_step=lambda step: setattr(viewer, "shown_step", step),
        render_statemachines={0: None},
        ready=True,
    )
    return PageRenderer(viewer, Notes(), Model(now))


def turn(renderer: PageRenderer, kind: str) -> bool:
    """One turn of the renderer's loop; whether it rendered."""
    renderer.action(RenderAction(kind, STATE))
    action, renderer.next_action = renderer.next_action, None
    return action is not None and renderer.handle(action)


def test_training_keeps_its_time_and_is_shown_every_few_seconds(renderer, now):
    began, rendering, images = now[0], 0.0, []
    while now[0] < began + 120:
        before = now[0]
        renderer.viewer.step += 1
        if turn(renderer, "step") or turn(renderer, "static"):
            rendering += now[0] - before
            images.append(now[0])
        now[0] += 0.2
    assert rendering < 0.15 * (now[0] - began)
    assert all(later - before < 8 for before, later in itertools.pairwise(images))
    assert min(renderer._model.sizes) >= MIN_SIDE and max(renderer._model.sizes) < 300
    assert renderer.viewer.shown_step > 100, "the page says which step it shows"


def test_several_pages_share_the_time_for_images(renderer, now):
    renderer.viewer.render_statemachines = {0: None, 1: None}
    turn(renderer, "static")
    renderer.viewer.step = 1
    now[0] += renderer._seconds * 10
    assert not turn(renderer, "static")


def test_images_after_user_input_take_at_most_half_of_the_time_of_training(renderer, now):
    before = now[0]
    assert turn(renderer, "move")
    assert now[0] - before == pytest.approx(2 * renderer._seconds)


def test_the_full_size_comes_when_nothing_trains(renderer):
    turn(renderer, "static")
    renderer.viewer.trainer.training_state = "paused"
    for _ in range(3):
        turn(renderer, "static")
    assert renderer._model.sizes[-1] == 512
    assert not turn(renderer, "static"), "and comes once"


def test_moving_images_have_the_resolution_that_takes_half_a_second(renderer, now):
    renderer.viewer.trainer = None
    for _ in range(10):
        turn(renderer, "move")
        now[0] += 0.04
    height, width = image_size(renderer._model.sizes[-1], 1.5)
    assert 0.3 < 0.1 + 2e-5 * height * width < 0.7
    turn(renderer, "static")
    assert renderer._model.sizes[-1] == 512, "without a second small one"
    renderer.viewer.control_panel.max_res = 64
    turn(renderer, "move")
    assert renderer._model.sizes[-1] == 64


def test_a_single_change_is_sharp_at_once_if_that_is_fast(renderer, now):
    renderer.viewer.trainer, panel = None, renderer.viewer.control_panel
    panel.max_res = 256  # an image of 1 s
    turn(renderer, "static")
    turn(renderer, "static")
    sizes = renderer._model.sizes
    assert sizes[-1] == 256
    now[0] += 5
    assert turn(renderer, "move") and sizes[-1] == 256
    assert not turn(renderer, "static"), "it is sharp already"
    assert turn(renderer, "move") and sizes[-1] < 256, "more changes at once are a movement"
    assert turn(renderer, "static") and sizes[-1] == 256
    now[0] += 5
    panel.max_res = 1024
    assert turn(renderer, "move") and sizes[-1] < 256, "an image of this size would take 14 s"


def test_an_interrupted_image_is_followed_by_a_small_one(renderer, now):
    renderer.viewer.trainer, renderer.viewer.control_panel.max_res = None, 256
    turn(renderer, "static")
    turn(renderer, "static")
    now[0] += 5
    renderer._model.during = renderer.cancel_full_image
    assert not turn(renderer, "move")
    renderer._model.during = lambda: None
    assert turn(renderer, "move") and renderer._model.sizes[-1] < 256


def test_the_full_size_follows_a_small_image_without_a_wait(renderer, monkeypatch):
    renderer.viewer.trainer, waits = None, []
    renderer.viewer.get_camera_state = lambda client: STATE
    monkeypatch.setattr(renderer.render_trigger, "wait", lambda seconds: waits.append(seconds))
    turn(renderer, "move")
    renderer._wait_for_action()
    assert renderer.next_action.action == "static" and waits[-1] < 0.05
    renderer.state, renderer.next_action = "high", None
    renderer._wait_for_action()
    assert waits[-1] > 0.1, "a page that is still costs little"


def test_a_slow_machine_never_goes_below_the_smallest_size():
    resolution = AdaptiveResolution(0.5)
    for _ in range(5):
        resolution.update(resolution.side, 20.0)
    assert resolution.side == MIN_SIDE
    resolution.update(512, 0.01)
    assert resolution.side == MIN_SIDE, "an image of another size says nothing"


def test_an_interrupt_between_images_does_not_cancel_the_next_one(renderer):
    renderer.viewer.trainer, renderer.state = None, "high"
    renderer.action(RenderAction("move", STATE))
    assert renderer.interrupt_render_flag, "nerfstudio interrupts an image that is not there"
    renderer.next_action, renderer.state = None, "low_move"
    renderer._render_img(STATE)


@pytest.mark.parametrize("reason", ["training goes on", "a control waits"])
def test_a_full_size_image_is_interrupted_and_the_model_trains_again(renderer, reason):
    renderer.viewer.trainer.training_state, renderer.state = "paused", "high"
    renderer._model.train()

    def during():
        if reason == "a control waits":
            renderer.cancel_full_image()
        else:
            renderer.viewer.trainer.training_state = "training"

    renderer._model.during = during
    with pytest.raises(IOChangeException):
        renderer._render_img(STATE)
    assert renderer._model.training and not renderer.viewer.train_lock.locked()
    renderer.cancel_full_image()
    renderer._model.during = lambda: None
    renderer.state = "low_move"
    renderer._render_img(STATE)
    assert renderer._model.modes == [False, False] and renderer._model.training


@pytest.mark.parametrize("interrupted", [True, False])
def test_only_an_interrupted_image_may_end_with_an_error_of_another_kind(renderer, interrupted):
    """jaxtyping's checks of argument types run traced, too, and report the interrupt as an error of their own."""
    renderer.viewer.trainer, renderer.state = None, "low_static"

    def during():
        try:
            if interrupted:
                renderer.cancel_full_image()
            raise ValueError("a real error")
        except Exception as error:
            raise TypeError("checked") from error

    renderer._model.during = during
    action = RenderAction("static", STATE)
    if interrupted:
        assert not renderer.handle(action)
    else:
        with pytest.raises(TypeError, match="checked"):
            renderer.handle(action)


def test_a_page_shows_that_it_waits_and_how_far_its_view_is_from_training(renderer):
    notes = renderer.client
    renderer._notify_wait()
    assert "first image" in notes.open[0].title
    turn(renderer, "move")
    assert not notes.open
    renderer._model.degrees = 80.0
    turn(renderer, "move")
    assert "80 degrees" in notes.open[0].body and "Reset view" in notes.open[0].body
    renderer._model.degrees = 90.0
    turn(renderer, "move")
    assert len(notes.open) == 1 and "90 degrees" in notes.open[0].body
    renderer._model.degrees = 10.0
    turn(renderer, "move")
    assert not notes.open


def test_a_model_is_in_its_previous_mode_after_an_error():
    model = torch.nn.Linear(1, 1).train()
    with pytest.raises(KeyError), evaluation_mode(model):
        assert not model.training
        raise KeyError
    assert model.training


@pytest.mark.parametrize(("aspect", "size"), [(1.5, (64, 96)), (1.0, (96, 96)), (0.5, (96, 48)), (50.0, (2, 96))])
def test_the_longer_side_has_the_requested_size(aspect, size):
    assert image_size(96, aspect) == size
