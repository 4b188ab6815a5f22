"""A real browser before ns-viewer: what its controls do to the pixels of the page."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from plugin.conftest import _start
from plugin.viewer_page import (
    PATIENCE,
    RESOLUTION,
    STEPS,
    Opened,
    at_rest,
    change,
    keep,
    open_viewer,
    outside,
    pytestmark,
    wait,
)

from partnerface_ns.demo.subject import make_subject
from partnerface_ns.plugin.configs import lite

__all__ = ["pytestmark"]  # skipped without a browser


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config.yml of a short run on the demo subject."""
    folder = tmp_path_factory.mktemp("browser")
    make_subject(folder / "subject", frames=20, size=64, seed=0)
    config = lite()
    avatar = config.pipeline.model.avatar
    avatar.canonical.resolutions, avatar.sampling.num_samples = (32, 64), 12
    config.pipeline.datamanager.sampler.rays_per_batch = 1024
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.logging.local_writer.enable = False
    config.pipeline.datamanager.data = folder / "subject"
    config.output_dir, config.timestamp, config.max_num_iterations = folder / "out", "run", STEPS
    config.set_timestamp()
    config.save_config()
    _start(config).train()
    return config.get_base_dir() / "config.yml"


@pytest.fixture(scope="module")
def opened(trained: Path) -> Iterator[Opened]:
    """ns-viewer on the run, and a page on it."""
    with pytest.MonkeyPatch.context() as patch:
        yield from open_viewer(trained, patch)


def test_sliders_move_what_they_say_and_nothing_else(opened):
    rest = at_rest(opened)
    mouth, head = [opened.box("lips")], opened.box("head")
    eyes = [opened.box("eyeballs", lambda v, side=side: side * (v[:, 0] - v[:, 0].mean()) > 0) for side in (1, -1)]
    corners = [
        opened.box("lips", lambda v, side=side: side * (v[:, 0] - v[:, 0].mean()) > 0.3 * np.ptp(v[:, 0]))
        for side in (1, -1)
    ]
    opened.open("Mouth")
    for label, name, value, moving, still in (
        ("Open jaw", "jaw", 0.3, mouth, eyes),
        ("Smile", "mouthSmile", 1.0, corners, eyes),
        ("Look left", "gaze_yaw", 0.5, eyes, mouth),
    ):
        opened.set(label, value)
        moved = opened.image(lambda: opened.controls.channels == {name: value})  # noqa: B023
        keep(name, rest, moved)
        assert change(rest, moved, *moving) > 1, name
        assert change(rest, moved, *still) < 0.2 * change(rest, moved, *moving), name
        assert np.abs(outside(rest - moved, head)).mean() < 0.1 * change(rest, moved, *moving), name
        opened.set(label, 0.0)
    back = opened.image(lambda: opened.controls.channels == {})
    np.testing.assert_array_equal(back, rest)

    opened.tick("Left and right apart")
    wait(opened.input("Smile left").is_visible)
    assert not opened.input("Smile").is_visible()
    opened.set("Smile left", 1.0)
    smirk = opened.image(lambda: opened.controls.channels == {"mouthSmileLeft": 1.0})
    keep("smirk", rest, smirk)
    by_side = [change(rest, smirk, corner) for corner in corners]
    assert by_side[0] > 1 and by_side[0] > 3 * by_side[1], "the person's left, on the right of the image"
    opened.tick("Left and right apart")
    wait(lambda: opened.controls.channels == {"mouthSmile": 0.5})
    opened.open("Mouth")


def test_the_frame_slider_shows_the_tracked_motion_and_plays(opened):
    rest, slider = at_rest(opened), opened.model.animation.frame
    opened.set("Frame", 9)
    frame = opened.image(lambda: slider.value == 9 and opened.controls.motion.value == "tracked")
    keep("frame", rest, frame)
    assert change(rest, frame, opened.box("head")) > 2
    opened.tick("Play")
    seen = set()
    wait(lambda: seen.add(slider.value) or len(seen) > 3)
    opened.tick("Play")
    wait(lambda: not opened.model.animation.play.value)
    opened.tick("Loop")
    opened.set("Speed", 2.0)
    wait(lambda: opened.model.animation.speed.value == 2.0)
    opened.tick("Play")
    wait(lambda: opened.model.animation.play.value)
    wait(lambda: not opened.model.animation.play.value and slider.value == slider.max)
    opened.tick("Loop")
    opened.set("Speed", 1.0)


def test_parts_are_seen_alone_and_muted(opened):
    rest = at_rest(opened)
    head, mouth, eyes = opened.box("head"), opened.box("lips"), opened.box("eyeballs")
    opened.choose("Output type", "parts")
    parts = opened.image(lambda: opened.viewer.control_panel.output_render == "parts")
    keep("parts", rest, parts)
    colors = parts[head[1] : head[3], head[0] : head[2]].reshape(-1, 3)
    assert np.ptp(colors, axis=1).max() > 150, "bright colours"
    opened.choose("Output type", "rgb")

    page = opened.model.page_view
    part = opened.model.avatar.deformation.seeds[:, 1:].sub(opened.mouth[1:]).norm(dim=1).argmin()
    opened.choose("Part", page._names[int(part)])
    solo = opened.image(lambda: page.part == int(part))
    keep("solo", rest, solo)
    saturation, colorful = np.ptp(solo, axis=2), np.ptp(rest, axis=2)
    hair, chin = np.s_[head[1] : eyes[1]], np.s_[mouth[1] : mouth[3], mouth[0] : mouth[2]]
    assert saturation[hair].max() < 12 < colorful[hair].max(), "the rest is grey"
    assert saturation[chin].mean() > 0.3 * colorful[chin].mean(), "the part keeps its colours"

    opened.choose("Shown", "muted")
    muted = opened.image(lambda: page.muted)
    keep("muted", rest, muted)
    assert change(rest, muted, head) > 2 * np.abs(outside(rest - muted, head)).mean()
    opened.choose("Part", "all")
    opened.tick("Mesh")
    mesh = opened.image(lambda: page.mesh.value)
    keep("mesh", rest, mesh)
    assert change(rest, mesh, opened.box("face")) > 30
    opened.tick("Wireframe")
    wires = opened.image(lambda: page.wireframe.value)
    keep("wires", rest, wires)
    assert 5 < change(rest, wires, opened.box("face")) < 0.9 * change(rest, mesh, opened.box("face"))
    opened.tick("Wireframe")
    opened.set("Mesh opacity", 0.0)
    np.testing.assert_allclose(opened.image(lambda: page.opacity.value == 0), rest, atol=2)
    opened.tick("Mesh")
    np.testing.assert_array_equal(opened.image(lambda: not page.mesh.value), rest)


def test_the_true_image_beside_the_avatar_on_another_background(opened):
    rest, page = at_rest(opened), opened.model.page_view
    half = rest.shape[1] // 2
    opened.tick("True image")
    both = opened.image(lambda: page.true_image.value)
    keep("true_image", rest, both)
    shift = round(1.5 * half) - half  # the avatar's middle lies in the middle of the right half
    moved = np.roll(rest, shift, 1)[:, half + 8 : -8]
    assert np.abs(both[:, half + 8 : -8] - moved).mean() < 5
    opened.set("Frame", 9)
    other = opened.image(lambda: opened.model.animation.frame.value == 9)
    assert np.abs(both - other)[:, :half].mean() > 2, "another true image"
    opened.input("Background").fill("#0080ff")
    opened.input("Background").press("Tab")
    blue = opened.image(lambda: page.background.value == (0, 128, 255))
    keep("background", other, blue)
    for corner in (blue[4:12, 4:12], blue[4:12, -12:-4]):
        assert np.abs(corner - [0, 128, 255]).mean() < 12
    opened.input("Background").fill("#{:02x}{:02x}{:02x}".format(*page._own_color))
    opened.input("Background").press("Tab")
    opened.tick("True image")
    wait(lambda: not page.true_image.value and opened.model.pages.settings(0.0).background is None)


def test_an_expression_is_saved_and_shown_again(opened, trained):
    at_rest(opened)
    opened.set("Open jaw", 0.25)
    wry = opened.image(lambda: opened.controls.channels == {"jaw": 0.25})
    opened.input("Name").fill("wry")
    wait(lambda: opened.controls.save_name.value == "wry")
    opened.page.get_by_text("Save this expression", exact=True).click()
    file = trained.parent / "expressions.json"
    wait(file.exists)
    assert json.loads(file.read_text()) == {"wry": {"jaw": 0.25}}
    at_rest(opened)
    opened.choose("Expression", "wry")
    np.testing.assert_array_equal(opened.image(lambda: opened.controls.channels == {"jaw": 0.25}), wry)
    opened.page.get_by_text("Delete this expression", exact=True).click()
    wait(lambda: json.loads(file.read_text()) == {})
    opened.input("Expression").click()
    assert opened.page.get_by_role("option", name="smile", exact=True).is_visible()
    assert opened.page.get_by_role("option", name="wry", exact=True).count() == 0
    opened.page.keyboard.press("Escape")
    opened.page.get_by_text("Delete this expression", exact=True).wait_for(state="hidden")


def test_a_preset_can_be_chosen_again_after_reset(opened):
    at_rest(opened)
    for _ in range(2):
        opened.choose("Expression", "smile")
        wait(lambda: opened.controls.channels.get("mouthSmile") == 0.8)
        opened.page.get_by_text("Reset", exact=True).click()
        wait(lambda: not opened.controls.channels)
    wait(lambda: opened.input("Expression").input_value() == "neutral")
    gaze = opened.page.locator(
        "xpath=//label[text()='Look left']/ancestor::div[contains(@class,'mantine-Flex-root')][1]"
    )
    assert gaze.inner_text().split() == ["Look", "left", "-0.5", "0.5"]
    for folder in ("Animation", "View"):
        assert opened.page.get_by_text(folder, exact=True).count() >= 1


def test_a_view_far_from_training_is_warned_of_until_it_is_reset(opened):
    at_rest(opened)
    warning = opened.page.get_by_text("Far from the training views")
    (client,) = opened.viewer.viser_server.get_clients().values()
    face = client.camera.look_at
    client.camera.position = 2 * face - client.camera.position
    client.camera.look_at = face  # a camera that is moved takes this along
    warning.wait_for()
    opened.page.get_by_text("Reset view", exact=True).click()
    warning.wait_for(state="detached")
    place, _, _ = opened.model.front_of_face(opened.model.face_view._depth)
    np.testing.assert_allclose(client.camera.position, 10 * place.numpy(), atol=0.1)


def test_a_clip_holds_every_frame_of_the_time_that_was_recorded(opened, trained):
    at_rest(opened)
    animation = opened.model.animation
    opened.tick("Play")
    opened.tick("Record")
    wait(lambda: animation._recorder)
    time.sleep(0.4)
    opened.tick("Record")
    opened.tick("Play")
    opened.page.get_by_text("Written to").wait_for(timeout=1000 * PATIENCE)
    clip = trained.parent / "clips" / "clip_000.mp4"
    reader = imageio_ffmpeg.read_frames(str(clip), pix_fmt="gray", bits_per_pixel=8)
    width, height = next(reader)["size"]
    assert max(width, height) == RESOLUTION
    frames = [np.frombuffer(frame, np.uint8).astype(float) for frame in reader]
    assert len(frames) >= 10
    assert all(np.abs(a - b).max() > 2 for a, b in itertools.pairwise(frames)), "each frame has its own image"
