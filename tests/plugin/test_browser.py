"""A real browser before ns-viewer: what their controls do to the pixels of the page.

Needs playwright (the extra `dev` brings it) and a Chromium or Chrome of the system; without them the tests are skipped.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from nerfstudio.scripts.viewer import run_viewer
from PIL import Image
from plugin.conftest import _start
from viser import SceneApi

from partnerface_ns.demo.subject import make_subject
from partnerface_ns.plugin.configs import lite
from partnerface_ns.plugin.page_renderer import PageRenderer

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed"),
    # Of the browser's and the viewer's threads, when they are cut off at the end.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WITHOUT_GPU = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PATIENCE = 180.0
"""Seconds within which the page must have done what it was asked."""
STEPS, RESOLUTION = 200, 96
"""Of training, and pixels of the page's images: enough to see eyes and lips."""
SAME, ALIKE = 8.0, 0.3
"""Mean difference, 0 to 255, up to which a screenshot shows an image; and by how much it may be nearer to another.
A busy page draws in so few pixels that a striped shirt alone gives a difference of 5."""


class Opened:
    """ns-viewer in this process, and a page that shows it."""

    def __init__(self, page: Any, model: Any) -> None:
        self.page, self.model = page, model
        self.viewer = model.face_view.viewer
        self.controls = model.head_controls
        self.begun = 0.0
        """When the newest image was begun."""
        self.finished: tuple[float, bool] = (0.0, False)
        """The same of the newest image that was sent, and whether that one was in full resolution."""
        self.sent: deque[np.ndarray] = deque(maxlen=10)
        """The newest images that were sent, (height, width, 3)."""

    def input(self, label: str) -> Any:
        """The input beside a label."""
        return find_input(self.page, label)

    def open(self, folder: str) -> None:
        """Open a folder that is closed on a new page, or close it."""
        self.page.get_by_text(folder, exact=True).click()

    def set(self, label: str, value: float) -> None:
        """Type a slider's value."""
        self.input(label).fill(f"{value:g}")
        self.input(label).press("Tab")

    def choose(self, label: str, option: str) -> None:
        """Choose from a dropdown."""
        self.input(label).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def tick(self, label: str) -> None:
        """Switch a checkbox."""
        self.input(label).click()

    def image(self, until: Callable[[], bool]) -> np.ndarray:
        """The finished image after something has happened on the server: (height, width, 3) in [0, 255].

        It is what the page was sent, in the canvas's size, once the page shows just that: the page itself draws in
        fewer pixels when its machine is busy.
        """
        wait(until)
        asked = time.monotonic()
        self.viewer._trigger_rerender()
        wait(lambda: self.finished[0] >= asked or not self._renders())
        assert self._renders(), "the thread that renders the page died"
        return wait(self._shown)[0]

    def _renders(self) -> bool:
        return all(thread.is_alive() for thread in self.viewer.render_statemachines.values())

    def _shown(self) -> list[np.ndarray]:
        """The finished image, alone in a list; an empty one where the page does not show it yet."""
        if self.finished != (self.begun, True):
            return []
        begun, screen, sent = self.begun, self._screen(), [self._as_canvas(image) for image in list(self.sent)]
        difference = [np.abs(coarse(image[: len(screen)]) - coarse(screen)).mean() for image in sent]
        there = difference[-1] < min(SAME, min(difference) + ALIKE) and begun == self.begun
        return sent[-1:] if there else []

    def _as_canvas(self, image: np.ndarray) -> np.ndarray:
        size = (round(self._canvas["width"]), round(self._canvas["height"]))
        return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), float)

    def _screen(self) -> np.ndarray:
        box = self._canvas
        box["height"] -= 60  # viser's axes lie in the lower corner
        return np.array(Image.open(BytesIO(self.page.screenshot(clip=box, timeout=200_000))).convert("RGB"), float)

    @property
    def mouth(self) -> torch.Tensor:
        """Middle of the neutral lips, canonical frame, metres."""
        lips = self.controls._model.regions["lips"]
        return self.model.avatar.skinning.canonical.verts[lips > 0.5].mean(0)

    @property
    def _canvas(self) -> dict[str, float]:
        return self.page.locator("canvas[data-engine]").bounding_box()

    def box(self, region: str, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Pixels (left, top, right, bottom) around a region of the neutral face."""
        view, info = self.model.face_view, self.controls._info
        head = self.controls._model
        verts = self.model.avatar.skinning.head.pose(info.neutral).verts.numpy()[head.regions[region] > 0.5]
        verts = verts if of is None else verts[of(verts)]
        T = np.linalg.inv(view._camera.T_world_camera)
        at = verts @ T[:3, :3].T + T[:3, 3]
        size = self._canvas
        focal = size["height"] * view._camera.fl_y / view._camera.height
        x = size["width"] / 2 - focal * at[:, 0] / at[:, 2]
        y = size["height"] / 2 + focal * at[:, 1] / at[:, 2]
        return np.round([x.min(), y.min(), x.max(), y.max()]).astype(int)


def find_input(page: Any, label: str) -> Any:
    """The visible input beside a label of viser's panel. Another tab or a closed folder may hold a second one."""
    row = f'//label[text()="{label}"]/ancestor::div[contains(@class,"mantine-Flex-root")][1]'
    return page.locator(f"xpath={row}//input[not(@type='hidden')] >> visible=true").last


def coarse(image: np.ndarray) -> np.ndarray:
    """Means over 40 x 40 fields, which do not tell how finely the page draws."""
    return np.array(Image.fromarray(image.astype(np.uint8)).resize((40, 40), Image.Resampling.BOX), float)


def wait(until: Callable[[], Any]) -> Any:
    """Wait for something that is not empty, false or zero, and return it."""
    end = time.monotonic() + PATIENCE
    while not (result := until()):
        assert time.monotonic() < end, "the page did not do it in time"
        time.sleep(0.05)
    return result


def change(a: np.ndarray, b: np.ndarray, *boxes: np.ndarray) -> float:
    """Mean absolute difference of two images within boxes, 0 to 255."""
    return float(np.mean([np.abs(a - b)[top:bottom, left:right].mean() for left, top, right, bottom in boxes]))


def outside(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels of an image that are not in the box, (pixels, channels)."""
    left, top, right, bottom = box
    kept = np.ones(image.shape[:2], bool)
    kept[top:bottom, left:right] = False
    return image[kept]


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
        yield from _open(trained, patch)


def _open(trained: Path, patch: pytest.MonkeyPatch) -> Iterator[Opened]:
    models, end, start_viewer = [], threading.Event(), run_viewer._start_viewer

    def starting(config: Any, pipeline: Any, step: int) -> None:
        models.append(pipeline.model)
        with suppress(KeyboardInterrupt):
            start_viewer(config, pipeline, step)

    def sleep(seconds: float) -> None:
        if end.wait(seconds):
            raise KeyboardInterrupt

    patch.setattr(run_viewer, "_start_viewer", starting)
    patch.setattr(run_viewer, "time", SimpleNamespace(sleep=sleep))
    command = run_viewer.RunViewer(load_config=trained)
    command.viewer.websocket_port = free_port()
    command.viewer.websocket_host, command.viewer.image_format = "127.0.0.1", "png"
    server = threading.Thread(target=command.main, daemon=True)
    server.start()
    wait(lambda: bool(models) and models[0].face_view.viewer is not None and models[0].face_view.viewer.ready)
    viewer = models[0].face_view.viewer
    viewer.control_panel._max_res.value = RESOLUTION
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=WITHOUT_GPU)
        page = browser.new_page(viewport={"width": 760, "height": 520})
        page.set_default_timeout(1000 * PATIENCE)
        result = Opened(page, models[0])
        _watch(patch, result)
        page.goto(f"http://127.0.0.1:{command.viewer.websocket_port}")
        wait(lambda: bool(viewer.viser_server.get_clients()))
        page.get_by_text("Reset", exact=True).wait_for()
        yield result
        renderers = list(viewer.render_statemachines.values())
        browser.close()
    end.set()
    viewer.viser_server.stop()
    for thread in (server, *renderers):
        thread.running = False
        thread.join(PATIENCE)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _watch(patch: pytest.MonkeyPatch, result: Opened) -> None:
    """Note when images are begun and sent."""
    render, send = PageRenderer._render_img, PageRenderer._send_output_to_viewer

    def rendering(self: Any, camera_state: Any) -> Any:
        result.begun = time.monotonic()
        return render(self, camera_state)

    def sending(self: Any, outputs: Any, static_render: bool = True) -> None:
        send(self, outputs, static_render)
        result.finished = (result.begun, max(result.sent[-1].shape) == RESOLUTION)

    show = SceneApi.set_background_image

    def showing(self: Any, image: np.ndarray, *args: Any, **kwargs: Any) -> None:
        result.sent.append(image)
        show(self, image, *args, **kwargs)

    patch.setattr(SceneApi, "set_background_image", showing)
    patch.setattr(PageRenderer, "_render_img", rendering)
    patch.setattr(PageRenderer, "_send_output_to_viewer", sending)


def at_rest(opened: Opened) -> np.ndarray:
    """The image of the neutral face."""
    opened.page.get_by_text("Reset", exact=True).click()
    return opened.image(lambda: opened.controls.motion.value == "sliders" and not opened.controls.channels)


def keep(name: str, *images: np.ndarray) -> None:
    """Leave images and their difference in the folder PARTNERFACE_SCREENSHOTS, for people to look at."""
    if "PARTNERFACE_SCREENSHOTS" in os.environ:
        row = np.hstack([*images, np.abs(images[0] - images[1])])
        Image.fromarray(row.astype(np.uint8)).save(Path(os.environ["PARTNERFACE_SCREENSHOTS"]) / f"{name}.png")


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
