"""A real browser before the page of `partnerface live`: what its controls do. A uniform image stands for the avatar."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image
from plugin.test_browser import BROWSER, PATIENCE, WITHOUT_GPU, find_input, free_port, playwright, pytestmark, wait

from partnerface_ns.cli.live_page import LivePage
from partnerface_ns.cli.page_server import PageServer
from partnerface_ns.driving.live import Pace
from partnerface_ns.driving.plan import Plan
from partnerface_ns.driving.playback import Playback, View

__all__ = ["pytestmark"]  # as in test_browser.py: skipped without a browser


def plan_of(seconds: float) -> Plan:
    plan = MagicMock(spec=Plan, fps=10.0)
    plan.__len__.return_value = round(10 * seconds)
    return plan


@pytest.fixture
def playback() -> Playback:
    return Playback(plan_of(20), View(64))


@pytest.fixture
def address(playback) -> Iterator[str]:
    """The address of a page whose images are as bright as the frame's number."""
    server, ended = PageServer("127.0.0.1", free_port()), threading.Event()
    page = LivePage(server, playback, {"me.mp4": playback.plan, "talk": None}, lambda _: plan_of(3))

    def show() -> None:
        while not ended.wait(0.1):
            moment = playback.moment()
            page.show(np.full((moment.view.size, moment.view.size, 3), moment.frame % 200, np.uint8), Pace(9.9, 0.101))

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    yield server.addresses
    ended.set()
    thread.join()
    server.stop()


def test_the_controls_of_live_and_a_panel_of_one_line(playback, address):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=WITHOUT_GPU)
        page = browser.new_page(viewport={"width": 390, "height": 700})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(address)
        line = page.get_by_text("9.9 images/s, 101 ms late")
        line.wait_for()
        panel = line.locator("xpath=ancestor::div[contains(@class,'mantine-Paper-root')]")
        wait(lambda: panel.bounding_box()["height"] < 0.2 * 700)  # it opens and closes once
        page.set_viewport_size({"width": 760, "height": 520})
        page.get_by_text("Controls", exact=True).click()
        use_controls(page, playback)
        browser.close()


def use_controls(page: Any, playback: Playback) -> None:
    enter = lambda label, value: (find_input(page, label).fill(value), find_input(page, label).press("Tab"))  # noqa: E731
    find_input(page, "Play").click()
    page.get_by_text("Paused", exact=True).wait_for()
    enter("Seconds", "15.0")
    wait(lambda: playback.moment().frame == 150 and playback.moment().paused)
    wait(lambda: abs(brightness(page) - 150) < 10)
    enter("Seconds", "2.0")
    wait(lambda: abs(brightness(page) - 20) < 10)
    find_input(page, "Size").click()
    page.get_by_role("option", name="128", exact=True).click()
    wait(lambda: playback.view == View(128))

    page.mouse.move(100, 300)
    page.mouse.down()
    page.mouse.move(40, 300, steps=4)
    wait(lambda: playback.view.turn > 0.05)  # the scene follows the mouse, so the camera goes to the other side
    page.mouse.up()
    enter("Tilt", "20")
    wait(lambda: playback.view.tilt == pytest.approx(np.radians(20)))
    page.get_by_text("Front view", exact=True).click()
    wait(lambda: playback.view == View(128) and find_input(page, "Tilt").input_value() == "0")

    find_input(page, "Motion").click()
    page.get_by_role("option", name="talk", exact=True).click()
    wait(lambda: len(playback.plan) == 30 and not playback.moment().paused)
    page.get_by_text("9.9 images/s, 101 ms late").wait_for()
    enter("Seconds", "99")
    wait(lambda: float(find_input(page, "Seconds").input_value()) <= 3.0)


def brightness(page: Any) -> float:
    """Mean brightness of a field beside the panel, 0 to 255."""
    field = {"x": 60, "y": 200, "width": 40, "height": 40}
    return float(np.array(Image.open(BytesIO(page.screenshot(clip=field))).convert("L"), float).mean())
