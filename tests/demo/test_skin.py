"""The skin's sheet: coordinates, textures and wrinkles."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.demo import face_map
from partnerface_ns.demo.appearance import Appearance, paint_skin, to_linear
from partnerface_ns.demo.eyes_and_mouth import IRIS_ANGLE, TeethRow, cornea_normals, eye_colour, fibre_ring
from partnerface_ns.demo.face_map import RADIUS, SHAPE, TEXEL, Anchors, to_sheet
from partnerface_ns.demo.wrinkles import wrinkle_strengths
from partnerface_ns.flame.open_head import load_open_head

HEAD = load_open_head()
ANCHORS = Anchors.measure(HEAD, HEAD.template.numpy())


@pytest.fixture(scope="module")
def skin():
    rng = np.random.default_rng(0)
    return paint_skin(ANCHORS, Appearance.random(rng), rng)


def test_sheet_coordinates_are_angles_about_the_axis():
    points = np.array([[0.0, 0.02, 0.1], [0.1, -0.03, 0.02], [-0.1, 0.0, 0.02]])
    expected = [[0, 0.02], [np.pi / 2 * RADIUS, -0.03], [-np.pi / 2 * RADIUS, 0.0]]
    np.testing.assert_allclose(to_sheet(points, 0.02), expected, atol=1e-7)


def test_looking_up_a_plane_gives_the_plane():
    a, y = face_map.coordinates()
    sheet = np.stack([2 * a + 0.1, y - a], -1)
    at = np.random.default_rng(0).uniform([-0.3, -0.15], [0.3, 0.15], (50, 2))
    result = face_map.look_up(sheet, at)
    np.testing.assert_allclose(result, np.stack([2 * at[:, 0] + 0.1, at[:, 1] - at[:, 0]], -1), atol=1e-6)


def test_looking_up_beyond_the_sheet_gives_its_border():
    sheet = np.broadcast_to(np.arange(SHAPE[0], dtype=np.float32)[:, None, None], (*SHAPE, 1))
    result = face_map.look_up(sheet, np.array([[0.0, 5.0], [0.0, -5.0]]))
    np.testing.assert_allclose(result[:, 0], [SHAPE[0] - 1, 0], atol=0.01)


def test_a_line_is_strong_on_itself_and_fades_at_its_width():
    sheet = np.zeros(SHAPE, dtype=np.float32)
    face_map.draw_line(sheet, np.array([[-0.02, 0.01], [0.02, 0.01]]), 0.003, 0.8, taper=False)
    value = lambda a, y: face_map.look_up(sheet[..., None], np.array([[a, y]]))[0, 0]  # noqa: E731
    assert value(0.0, 0.01) == pytest.approx(0.8, abs=0.02)
    assert value(0.0, 0.013) == pytest.approx(0.8 * np.exp(-1), abs=0.03)
    assert value(0.0, 0.03) == 0


def test_a_later_line_does_not_weaken_an_earlier_one():
    sheet = np.zeros(SHAPE, dtype=np.float32)
    line = np.array([[-0.01, 0.0], [0.01, 0.0]])
    face_map.draw_line(sheet, line, 0.002, 1.0, taper=False)
    before = sheet.copy()
    face_map.draw_line(sheet, line, 0.002, 0.3, taper=False)
    assert np.array_equal(sheet, before)


def test_noise_is_normalised_and_smooth():
    field = face_map.noise(np.random.default_rng(0), 4.0, (200, 300))
    assert abs(field.mean()) < 1e-4 and abs(field.std() - 1) < 1e-4
    assert np.abs(np.diff(field, axis=1)).mean() < 0.3


def test_skin_is_a_colour_and_pores_are_shallow(skin):
    assert skin.colour.shape == (*SHAPE, 4) and skin.colour.min() >= 0 and skin.colour.max() <= 1.3
    assert np.abs(skin.height).max() < 0.002


def test_brows_are_darker_than_the_forehead(skin):
    eye = to_sheet(ANCHORS.eyes[0], ANCHORS.axis_z)
    at = lambda a, y: face_map.look_up(skin.colour, np.array([[a, y]]))[0, :3].mean()  # noqa: E731
    brow = min(at(eye[0], eye[1] + up) for up in np.arange(0.012, 0.028, 0.001))
    assert brow < 0.7 * at(eye[0], eye[1] + 0.045)


def test_bumps_without_expression_are_the_skins_own_height(skin):
    bumps = skin.bumps({})
    assert np.array_equal(bumps[..., 0], skin.height)
    np.testing.assert_allclose(bumps[:, 5:-5, 1], np.gradient(skin.height, TEXEL, axis=1)[:, 5:-5], atol=1e-4)


@pytest.mark.parametrize(
    "name", ["forehead", "frown", "bunny", "chin", "crowLeft", "crowRight", "foldLeft", "foldRight"]
)
def test_a_wrinkle_is_a_groove_at_its_position(skin, name):
    deeper = skin.bumps({name: 1.0})[..., 0] - skin.height
    assert deeper.max() <= 1e-9 and -0.0020 < deeper.min() < -0.0004
    a, y = face_map.coordinates()
    share = -deeper / -deeper.sum()
    at_a, at_y = (share * a).sum(), (share * y).sum()
    eye, mouth = to_sheet(ANCHORS.eyes[0], ANCHORS.axis_z), ANCHORS.mouth
    side = 1 if name.endswith("Left") else -1 if name.endswith("Right") else 0
    if side:
        assert side * at_a > 0.01
    else:
        assert abs(at_a) < 0.004
    if name in ("forehead", "frown"):
        assert at_y > eye[1]
    elif name in ("chin", "foldLeft", "foldRight"):
        assert at_y < mouth[1] + 0.03


def test_strengths_grow_with_their_expressions():
    rest = wrinkle_strengths({})
    assert set(rest.values()) == {0}
    assert wrinkle_strengths({"browInnerUp": 1.0})["forehead"] > 0.5
    left = wrinkle_strengths({"mouthSmileLeft": 1.0})
    assert left["foldLeft"] > 0.5 and left["crowLeft"] > 0.3 and left["foldRight"] == left["crowRight"] == 0
    assert wrinkle_strengths({"mouthSmileLeft": -1.0}) == rest
    assert max(wrinkle_strengths(dict.fromkeys(HEAD.expression_names, 3.0)).values()) <= 1.2


def test_every_wrinkle_is_driven_by_expressions_that_the_open_head_has():
    for name in wrinkle_strengths({}):
        assert any(wrinkle_strengths({expression: 1.0})[name] > 0.2 for expression in HEAD.expression_names)


def test_an_eye_has_white_iris_and_pupil():
    angles = np.array([0.0, 0.6 * IRIS_ANGLE, 1.5 * IRIS_ANGLE])
    directions = np.stack([np.zeros(3), np.sin(angles), np.cos(angles)], -1).astype(np.float32)
    colours = eye_colour(directions, np.array([0.05, 0.1, 0.2], np.float32), fibre_ring(np.random.default_rng(0)))
    pupil, iris, white = colours
    assert pupil.max() < 0.03 and white.min() > 0.4
    assert iris[2] > iris[0] and pupil.max() < iris.max() < white.max()


def test_the_cornea_bulges_over_the_iris_only():
    angles = np.array([0.0, 0.2, 0.9])
    directions = np.stack([np.sin(angles), np.zeros(3), np.cos(angles)], -1).astype(np.float32)
    normals = cornea_normals(directions)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-6)
    tilt = np.arctan2(normals[:, 0], normals[:, 2])
    assert tilt[0] == 0 and tilt[1] > 0.35 and tilt[2] == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize("up", [1.0, -1.0])
def test_teeth_end_in_gum(up):
    verts = np.array([[0.0, 0.0, 0.05], [0.0, up * 0.012, 0.05], [0.02, up * 0.006, 0.03]])
    row = TeethRow.measure(verts, up)
    edge, root = row.colour(np.array([[0.003, up * 0.002, 0.06], [0.003, up * 0.0115, 0.06]], dtype=np.float32))
    assert edge.min() > 0.4 and root[0] > 2 * root[1]


def test_srgb_to_linear():
    np.testing.assert_allclose(to_linear([0, 128, 255]), [0.0, 0.2158, 1.0], atol=2e-3)
