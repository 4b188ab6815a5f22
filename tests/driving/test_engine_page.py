"""The page of the engine head in a real browser: sliders, orbit, and a recording dropped onto it.

Needs playwright (the extra `dev` brings it) and a Chromium or Chrome of the system; without them the tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import BROWSER, WITH_BROWSER, WITHOUT_GPU
from driving.glb_reader import Glb
from scipy.spatial.transform import Rotation

from partnerface_ns.driving.engine_head.animation import animate
from partnerface_ns.driving.engine_head.gltf import to_glb
from partnerface_ns.driving.engine_head.head import build_engine_head
from partnerface_ns.driving.engine_head.page import build_page
from partnerface_ns.driving.player import Player
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.flame.state import HeadState

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = WITH_BROWSER
JOINT_SLIDERS = ("yaw", "pitch", "roll", "jaw", "gaze_yaw", "gaze_pitch")
SET = """([name, value]) => {
  const input = document.querySelector(`[data-channel="${name}"]`);
  input.value = value;
  input.dispatchEvent(new Event("input"));
}"""
DROP = """([name, text]) => {
  const files = new DataTransfer();
  files.items.add(new File([text], name));
  window.dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
}"""
PATIENCE = 120_000
"""Milliseconds within which the page must have done what it was asked."""


@pytest.fixture
def glb(player: Player) -> bytes:
    """The tiny person's head with an animation in which the jaw opens and the head turns."""
    states = HeadState.stack([player.neutral, player.face(jaw=0.3, yaw=0.4)])
    head = build_engine_head(player, 32)
    return to_glb(head, [animate(head, player, states, 1.0, "nod")])


@pytest.fixture
def page(glb: bytes, tmp_path: Path) -> Iterator[Any]:
    """The page, opened as a file; nothing may be requested and no script may fail."""
    path, faults = tmp_path / "head.html", list[str]()
    path.write_text(build_page(glb), encoding="utf8")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=BROWSER, args=WITHOUT_GPU)
        opened = browser.new_page(viewport={"width": 700, "height": 400})
        opened.set_default_timeout(PATIENCE)
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("request", lambda r: None if r.url.startswith(("file:", "blob:", "data:")) else faults.append(r.url))
        opened.goto(path.as_uri())
        opened.wait_for_function("window.page !== undefined")
        yield opened
        browser.close()
    assert faults == []


def positions(page: Any) -> np.ndarray:
    return np.array(page.evaluate("window.page.head.positions()")).reshape(-1, 3)


def turned(glb: Glb, node: int, rotation: Rotation) -> dict[int, dict[str, Any]]:
    """The node rotated from its neutral rotation."""
    neutral = Rotation.from_quat(glb.nodes[node]["rotation"])
    return {node: {"rotation": (rotation * neutral).as_quat()}}


def with_vector(glb: Glb, node: int, added: list[float]) -> dict[int, dict[str, Any]]:
    """The node with a rotation vector added to its neutral one, as a head state adds them."""
    neutral = Rotation.from_quat(glb.nodes[node]["rotation"]).as_rotvec()
    return {node: {"rotation": Rotation.from_rotvec(neutral + np.array(added)).as_quat()}}


def test_each_slider_moves_what_it_names_and_nothing_else(page, glb):
    file, value = Glb(glb), 0.3
    shapes, rest = file.blendshapes(), file.pose()
    expected = {name: file.pose(value * shape) for name, shape in shapes.items()}
    expected["yaw"] = file.pose(nodes=turned(file, 1, Rotation.from_euler("y", value)))
    expected["pitch"] = file.pose(nodes=turned(file, 1, Rotation.from_euler("x", value)))
    expected["roll"] = file.pose(nodes=turned(file, 1, Rotation.from_euler("z", value)))
    expected["jaw"] = file.pose(nodes=with_vector(file, 2, [value, 0, 0]))
    for name, axis in (("gaze_yaw", [0, value, 0]), ("gaze_pitch", [value, 0, 0])):
        expected[name] = file.pose(nodes=with_vector(file, 3, axis) | with_vector(file, 4, axis))
    sliders = page.evaluate("[...document.querySelectorAll('[data-channel]')].map((i) => i.dataset.channel)")
    assert sorted(sliders) == sorted([*JOINT_SLIDERS, *arkit_names()])
    np.testing.assert_allclose(positions(page), rest, atol=2e-6)
    for name, posed in expected.items():
        page.evaluate(SET, [name, value])
        np.testing.assert_allclose(positions(page), posed, atol=2e-6, err_msg=name)
        if np.abs(posed - rest).max() > 1e-6:
            assert np.abs(positions(page) - rest).max() > 1e-6, name
        page.evaluate(SET, [name, 0])
    np.testing.assert_allclose(positions(page), rest, atol=2e-6)
    page.evaluate(SET, ["yaw", 0.5])
    page.click("#reset")
    np.testing.assert_allclose(positions(page), rest, atol=2e-6)
    assert page.evaluate("Number(document.querySelector('[data-channel=yaw]').value)") == 0


def test_the_head_is_drawn_and_the_mouse_orbits(page):
    shown = page.screenshot()
    page.evaluate(SET, ["yaw", 0.7])
    page.wait_for_timeout(1000)
    assert page.screenshot() != shown
    distance = "window.page.camera.position.distanceTo(window.page.controls.target)"
    place = "window.page.camera.position.toArray()"
    before, away = np.array(page.evaluate(place)), page.evaluate(distance)
    page.mouse.move(150, 200)
    page.mouse.down()
    page.mouse.move(250, 220, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    assert np.linalg.norm(np.array(page.evaluate(place)) - before) > 0.1 * away
    assert page.evaluate(distance) == pytest.approx(away, rel=1e-3)


def recording(rows: list[dict[str, float]]) -> str:
    """A recording as Live Link Face writes it."""
    names = [name[0].upper() + name[1:] for name in arkit_names()] + ["HeadYaw", "HeadPitch", "HeadRoll"]
    lines = [",".join(["Timecode", "BlendshapeCount", *names])]
    for index, row in enumerate(rows):
        values = {key[0].upper() + key[1:]: value for key, value in row.items()}
        lines.append(
            ",".join([f"10:42:07:{29 * index:02d}.123", "61", *(str(values.get(name, 0.0)) for name in names)])
        )
    return "\n".join(lines) + "\n"


def test_a_recording_dropped_onto_the_page_plays(page, glb):
    rest = positions(page)
    rows = [{"jawOpen": 0.5, "HeadYaw": 0.2}, {"jawOpen": 0.5, "HeadYaw": 0.2}]
    page.evaluate(DROP, ["take.csv", recording(rows)])
    page.wait_for_function("document.querySelector('#message').textContent.startsWith('take.csv: 2 frames at 30')")
    page.wait_for_function("window.page.head.values.jawOpen === 0.5 && window.page.head.values.yaw === 0.2")
    assert page.evaluate("Number(document.querySelector('[data-channel=jawOpen]').value)") == 0.5
    file = Glb(glb)
    posed = file.pose(0.5 * file.blendshapes()["jawOpen"], turned(file, 1, Rotation.from_euler("y", 0.2)))
    np.testing.assert_allclose(positions(page), posed, atol=2e-6)
    page.click("#reset")
    np.testing.assert_allclose(positions(page), rest, atol=2e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "has no rows"),
        ("a,b\n1,2\n", "no column of a blendshape"),
        ("Timecode,JawOpen\n0,0.1\n0,wide\n", 'Row 3, column jawopen: "wide" is not a number'),
        ("Timecode,JawOpen\n0\n0,0.1\n", "Row 2 has 1 cells"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_reason(page, text, reason):
    page.evaluate(DROP, ["notes.csv", text])
    page.wait_for_function("document.querySelector('#message').className === 'error'")
    assert reason in page.inner_text("#message")
    assert page.evaluate("window.page.player.recording") is None


def test_the_files_animation_plays_and_reset_ends_it(page, glb):
    rest = positions(page)
    page.click("text=Play nod")
    page.wait_for_function("window.page.player.action !== null && window.page.player.action.time > 0.3")
    assert np.abs(positions(page) - rest).max() > 0.003
    page.click("#reset")
    np.testing.assert_allclose(positions(page), rest, atol=2e-6)


def test_a_page_is_small():
    page = build_page(b"")
    assert len(page) < 1e6 and "MIT" in page and "@three" not in page
