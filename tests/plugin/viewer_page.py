"""A real browser before a page of ns-viewer, for tests of the viewer.

Needs playwright (the extra `dev` brings it) and a Chromium or Chrome of the system; without them the tests are skipped.
"""

from __future__ import annotations

import os
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

import numpy as np
import pytest
import torch
from browsers import BROWSER, WITH_BROWSER, WITHOUT_GPU
from nerfstudio.scripts.viewer import run_viewer
from PIL import Image
from viser import SceneApi

from partnerface_ns.plugin.page_renderer import PageRenderer

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    *WITH_BROWSER,
    # Of the browser's and the viewer's threads, when they are cut off at the end.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
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


def open_viewer(trained: Path, patch: pytest.MonkeyPatch) -> Iterator[Opened]:
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
        page.on("console", lambda message: print(message.text))  # pytest shows it when a test fails
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
