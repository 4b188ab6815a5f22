"""The controls of the page of `partnerface live`, in a real browser. A uniform image takes the avatar's place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from browsers import BROWSER, WITHOUT_GPU
from PIL import Image
from plugin.viewer_page import PATIENCE, find_input, free_port, playwright, pytestmark, wait

from partnerface_ns.cli.live_page import LivePage
from partnerface_ns.cli.page_server import PageServer
from partnerface_ns.driving.live import Pace
from partnerface_ns.driving.plan import Plan
from partnerface_ns.driving.playback import Playback, View

__all__ = ["pytestmark"]  # skipped without a browser


def plan_of(seconds: float) -> Plan:
    plan = MagicMock(spec=Plan, fps=10.0)
    plan.__len__.return_value = round(10 * seconds)
    return plan


@pytest.fixture(scope="module")
def playback() -> Playback:
    return Playback(plan_of(20), View(64))


@pytest.fixture(scope="module")
def page(playback: Playback) -> Iterator[Any]:
    """A page whose images are as bright as the frame's number."""
    server, ended = PageServer("127.0.0.1", free_port()), threading.Event()
    live = LivePage(server, playback, {"me.mp4": playback.plan, "talk": None}, lambda _: plan_of(3))

    def show() -> None:
        while not ended.wait(0.1):
            current = playback.current_frame()
            image = np.full((current.view.size, current.view.size, 3), current.frame % 200, np.uint8)
            live.show(image, Pace(9.9, 0.101))

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=BROWSER, args=WITHOUT_GPU)
            page = browser.new_page(viewport={"width": 390, "height": 700})
            page.set_default_timeout(1000 * PATIENCE)
            page.goto(server.addresses)
            page.get_by_text("9.9 images/s, 101 ms late").wait_for()
            yield page
            browser.close()
    finally:
        ended.set()
        thread.join()
        server.stop()


def enter(page: Any, label: str, value: str, taken: Callable[[], bool]) -> None:
    """Type a value, until the program has taken it. The program writes into the same field while it plays."""

    def is_taken() -> bool:
        find_input(page, label).fill(value)
        find_input(page, label).press("Tab")
        page.wait_for_timeout(300)
        return taken()

    wait(is_taken)


def brightness(page: Any) -> float:
    """Mean brightness of a field beside the panel, 0 to 255."""
    field = {"x": 200, "y": 200, "width": 40, "height": 40}
    return float(np.array(Image.open(BytesIO(page.screenshot(clip=field))).convert("L"), float).mean())


def test_the_panel_is_one_line_on_a_telephone_and_opens_on_a_click(page):
    panel = page.get_by_text("9.9 images/s, 101 ms late").locator(
        "xpath=ancestor::div[contains(@class,'mantine-Paper-root')]"
    )
    wait(lambda: panel.bounding_box()["height"] < 0.2 * 700)
    page.set_viewport_size({"width": 760, "height": 520})
    page.get_by_text("Controls", exact=True).click()
    wait(find_input(page, "Motion").is_visible)


def test_a_typed_time_is_shown_while_the_motion_is_paused(page, playback):
    find_input(page, "Play").click()
    page.get_by_text("Paused", exact=True).wait_for()
    for seconds in (15, 2):
        enter(page, "Seconds", f"{seconds}.0", lambda: playback.current_frame().frame == 10 * seconds)  # noqa: B023
        wait(lambda: abs(brightness(page) - 10 * seconds) < 10)  # noqa: B023
        assert playback.current_frame().paused


def test_size_view_and_mouse(page, playback):
    find_input(page, "Size").click()
    page.get_by_role("option", name="128", exact=True).click()
    wait(lambda: playback.view == View(128))
    page.mouse.move(100, 300)
    page.mouse.down()
    page.mouse.move(40, 300, steps=4)
    wait(lambda: playback.view.turn > 0.05)  # the scene follows the mouse, so the camera goes to the other side
    page.mouse.up()
    enter(page, "Tilt", "20", lambda: playback.view.tilt == pytest.approx(np.radians(20)))
    page.get_by_text("Front view", exact=True).click()
    wait(lambda: playback.view == View(128) and find_input(page, "Tilt").input_value() == "0")


def test_another_motion_plays_from_its_start_within_its_own_length(page, playback):
    find_input(page, "Motion").click()
    page.get_by_role("option", name="talk", exact=True).click()
    wait(lambda: len(playback.plan) == 30 and not playback.current_frame().paused)
    page.get_by_text("9.9 images/s, 101 ms late").wait_for()
    wait(lambda: 0 < float(find_input(page, "Seconds").input_value()) <= 3.0)
