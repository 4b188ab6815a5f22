"""Pages of a real browser while a run trains: they change nothing of the training."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from browsers import BROWSER, WITHOUT_GPU
from plugin.viewer_page import PATIENCE, find_input, free_port, playwright, pytestmark, wait

from partnerface_ns.plugin.page_renderer import PageRenderer

__all__ = ["pytestmark"]  # skipped without a browser

STEPS, WAIT_AT = 60, 40
"""Steps of the runs, and the step after which training waits until the pages have done everything."""


def test_two_pages_that_play_and_close_leave_the_training_as_it_is(make_config, start, monkeypatch):
    alone = start(make_config("alone", max_num_iterations=STEPS))
    alone.train()

    config = make_config("watched", max_num_iterations=STEPS, vis="viewer+tensorboard")
    config.viewer.websocket_port, config.viewer.websocket_host = free_port(), "127.0.0.1"
    config.viewer.quit_on_train_completion = True
    rendered = count_images(monkeypatch)
    watched = start(config)
    pages = Pages(config.viewer.websocket_port, watched, rendered)
    update = watched._update_viewer_state

    def update_and_wait(step: int) -> None:
        update(step)
        if step == WAIT_AT:  # pages are rendered meanwhile, as between any two steps
            wait(lambda: not pages.is_alive())

    monkeypatch.setattr(watched, "_update_viewer_state", update_and_wait)
    pages.start()
    try:
        watched.train()
    finally:
        watched.shutdown()
        pages.join(PATIENCE)
    assert pages.error is None and pages.done, pages.error
    assert len(rendered) >= 4 and not watched.train_lock.locked()
    expected, actual = (trainer.pipeline.model.state_dict() for trainer in (alone, watched))
    clocks = {"trained_seconds"}
    assert [name for name in expected.keys() - clocks if not torch.equal(expected[name], actual[name])] == []


def count_images(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that gets an entry for every image that is begun during training."""
    begun, render = [], PageRenderer._render_timed

    def rendering(self: Any, camera: Any) -> Any:
        if self.training:
            begun.append(self.client)
        return render(self, camera)

    monkeypatch.setattr(PageRenderer, "_render_timed", rendering)
    return begun


class Pages(threading.Thread):
    """Opens two pages, switches Play quickly, and closes one page half-way."""

    def __init__(self, port: int, trainer: Any, rendered: list[object]) -> None:
        super().__init__(daemon=True)
        self._address, self._trainer, self._rendered = f"http://127.0.0.1:{port}", trainer, rendered
        self.error: BaseException | None = None
        self.done = False

    def run(self) -> None:
        """Do everything in this thread, to which playwright's objects belong."""
        try:
            with playwright.sync_playwright() as started:
                browser = started.chromium.launch(executable_path=BROWSER, args=WITHOUT_GPU)
                self._use(browser)
                browser.close()
            self.done = True
        except BaseException as error:
            self.error = error

    def _use(self, browser: Any) -> None:
        first, second = (self._open(browser) for _ in range(2))
        animation = self._trainer.pipeline.model.animation
        for _ in range(6):
            find_input(first, "Play").click()
        wait(lambda: not animation.play.value)
        find_input(first, "Play").click()
        wait(lambda: animation.play.value)
        self._wait_for_image()
        second.close()  # an image of it is being rendered or about to be
        self._wait_for_image()
        find_input(first, "Play").click()
        first.close()

    def _open(self, browser: Any) -> Any:
        page = browser.new_page(viewport={"width": 500, "height": 400})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(self._address)
        page.get_by_text("Reset", exact=True).wait_for()
        return page

    def _wait_for_image(self) -> None:
        before = len(self._rendered)
        wait(lambda: len(self._rendered) > before)
