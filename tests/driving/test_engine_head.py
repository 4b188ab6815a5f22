"""The engine head: surface, texture, blendshapes, and the GLB file, posed as an engine poses it."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from driving.glb_reader import Glb
from PIL import Image

from partnerface_ns.driving.engine_head import head as head_module
from partnerface_ns.driving.engine_head.animation import animate
from partnerface_ns.driving.engine_head.gltf import strongest_influences, to_glb
from partnerface_ns.driving.engine_head.head import EngineHead, arkit_states, build_engine_head, torso_offset
from partnerface_ns.driving.engine_head.neutral_field import FieldPoints, NeutralField
from partnerface_ns.driving.engine_head.texture import Surface, bake, continue_colors, unwrap
from partnerface_ns.driving.player import Player
from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import project_points
from partnerface_ns.geometry.smooth import fit_smooth
from partnerface_ns.rendering.volume import surface_heights

SIZE = 32


@pytest.fixture
def engine_head(player: Player, monkeypatch) -> EngineHead:
    """The engine head of the tiny person, whose surface is the head model's and whose torso is not moved."""
    monkeypatch.setattr(head_module, "measure_distances", lambda _, verts, *__: np.zeros(len(verts), np.float32))
    monkeypatch.setattr(head_module, "_TORSO_ALONE", 2.0)
    return build_engine_head(player, SIZE)


@pytest.fixture
def glb(engine_head: EngineHead) -> Glb:
    return Glb(to_glb(engine_head))


def with_root_at_rest(state: HeadState) -> HeadState:
    zeros = torch.zeros(*state.batch_shape, 3)
    return replace(state, rotation=zeros, translation=zeros)


def nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point from the nearest of the others, metres."""
    return np.linalg.norm(points[:, None] - others[None], axis=-1).min(1)


def test_the_file_shows_the_neutral_face_of_the_head_model(glb, player):
    truth = player.person.pose(with_root_at_rest(player.neutral)).verts.numpy()
    assert nearest(truth, glb.pose()).max() < 2e-5
    assert nearest(glb.pose(), truth).max() < 2e-5


def test_the_file_has_arkits_blendshapes_and_each_is_the_state_of_its_name(glb, player):
    shapes, base = glb.blendshapes(), with_root_at_rest(player.neutral)
    assert tuple(shapes) == arkit_names() and len(shapes) == 52
    added = arkit_states(player.rig)
    for index, (name, shape) in enumerate(shapes.items()):
        change = {field: value + getattr(added, field)[index] for field, value in base.tensors().items()}
        truth = player.person.pose(HeadState(**change)).verts.numpy()
        assert nearest(truth, glb.pose(shape)).max() < 1e-4, name


def test_the_cameras_node_sees_the_head_where_the_avatars_camera_does(glb, engine_head, player):
    camera = player.camera
    T = np.array(glb.nodes[6]["matrix"]).reshape(4, 4).T
    view = glb.document["cameras"][0]["perspective"]
    assert view["yfov"] == pytest.approx(2 * math.atan(camera.height / 2 / camera.fl_y))
    truth = player.person.pose(player.neutral).verts
    pixels = project_points(truth, camera.intrinsics, torch.from_numpy(camera.T_world_camera).float())
    seen = project_points(torch.from_numpy(glb.pose()).float(), camera.intrinsics, torch.from_numpy(T).float())
    assert nearest(pixels.numpy(), seen.numpy()).max() < 1e-2


@pytest.mark.parametrize("has_torso", [True, False])
def test_an_animation_turns_joints_and_follows_the_states(engine_head, player, has_torso):
    if has_torso:
        torch.nn.init.normal_(player.avatar.torso.prediction.weight, std=0.05)
    else:
        player.avatar.config.torso.enabled = False
    states = HeadState.stack([player.neutral, player.face(yaw=0.3, pitch=0.1, jaw=0.3, gaze_yaw=0.2)])
    states = replace(states, translation=states.translation + torch.tensor([[0.0, 0, 0], [0.01, 0.02, 0.03]]))
    glb = Glb(to_glb(engine_head, [animate(engine_head, player, states, 25.0, "nod")]))
    (animation,) = glb.document["animations"]
    assert animation["name"] == "nod"
    tracks = {
        (c["target"]["node"], c["target"]["path"]): glb.array(animation["samplers"][c["sampler"]]["output"])
        for c in animation["channels"]
    }
    weights = tracks[5, "weights"].reshape(2, 52)
    np.testing.assert_allclose(glb.array(animation["samplers"][0]["input"])[:, 0], [0, 0.04])
    added = np.tensordot(weights[1], np.stack(list(glb.blendshapes().values())), 1)
    nodes = {joint: {"rotation": tracks[joint, "rotation"][1]} for joint in range(5)}
    for joint in (0, 1):
        nodes[joint]["translation"] = tracks[joint, "translation"][1]
    truth = player.person.pose(states[1])
    correctives = player.person.pose(states[:1]).offsets[0] - truth.offsets  # a file has no pose correctives
    weights = player.person.model.skinning_weights
    T = truth.T_world_rest.clone()
    if has_torso:  # shoulders move as the avatar's torso moves them
        T[0] = player.avatar.torso(states[1:], None)[0].detach() @ torch.linalg.inv(torso_offset(player))
    blended = torch.einsum("vj,jab->vab", weights, T)
    rest = player.person.verts_rest + truth.offsets + correctives
    posed = torch.einsum("vab,vb->va", blended[:, :3, :3], rest) + blended[:, :3, 3] - player.neutral.translation
    assert nearest(posed.numpy(), glb.pose(added, nodes)).max() < 1e-4


def test_expressions_of_an_animation_are_weights_of_blendshapes(engine_head, player):
    added = arkit_states(player.rig)
    index = arkit_names().index("mouthSmileLeft")
    state = replace(player.neutral, expression=player.neutral.expression + added.expression[index])
    weights = animate(engine_head, player, HeadState.stack([player.neutral, state]), 25.0, "smile").weights
    np.testing.assert_allclose(weights[0], 0, atol=1e-6)
    shown = weights[1] @ engine_head.expression_rows
    np.testing.assert_allclose(shown, added.expression[index].numpy(), atol=1e-5)


def test_the_surface_is_where_light_begins_to_be_stopped():
    heights = torch.arange(-0.006, 0.07, 0.001)
    layers = {
        "skin": (heights <= 0.0005) * 1e4,
        "hair": (heights <= 0.0305) * 1e4,
        "thin hair": torch.where(heights <= 0.0005, 1e4, (heights <= 0.0305) * 20.0),
        "hollow hair": ((heights <= 0.0005) | ((heights > 0.02) & (heights <= 0.0305))) * 1e4,
        "nothing": heights * 0.0,
    }
    density, none = torch.stack([d.float() for d in layers.values()]), torch.zeros(5, len(heights), dtype=torch.bool)
    height, found = surface_heights(density, heights, none, 0.1)
    expected = {"skin": 0.0, "hair": 0.030, "thin hair": 0.026, "hollow hair": 0.030}
    for index, (name, value) in enumerate(expected.items()):
        assert height[index] == pytest.approx(value, abs=0.0016), name
    assert found.tolist() == [True, True, True, True, False]
    end = none.clone()
    end[:, 20] = True  # at 14 mm
    cut = surface_heights(density, heights, end, 0.1)[0]
    assert cut[3] == pytest.approx(0, abs=0.0016), "a gap ends before the hollow hair"
    assert cut[1] == pytest.approx(0.013, abs=0.0016)


def test_a_smooth_surface_keeps_fixed_vertices_and_fills_unknown_ones():
    verts, faces = grid(9)
    weights, target = np.zeros(len(verts)), np.full(len(verts), 0.01)
    weights[:9], target[:9] = 1e4, 0.0
    weights[-9:] = 1e4
    fitted = fit_smooth(target[:, None], weights, np.full(len(verts), 0.1), faces).reshape(9, 9)
    np.testing.assert_allclose(fitted[0], 0, atol=1e-5)
    np.testing.assert_allclose(fitted[-1], 0.01, atol=1e-5)
    assert (np.diff(fitted, axis=0) > 0).all(), "from the fixed to the measured side it rises"


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A flat grid of vertices and its triangles."""
    y, x = np.mgrid[:side, :side]
    verts = np.stack([x, y, 0 * x], -1).reshape(-1, 3) * 0.01
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    upper = np.stack([corner, corner + 1, corner + side], -1)
    lower = np.stack([corner + 1, corner + side + 1, corner + side], -1)
    return verts, np.concatenate([upper, lower])


class PaintedField(NeutralField):
    """A field whose colour is a function of the place."""

    device = torch.device("cpu")  # type: ignore[assignment]

    def __init__(self) -> None:
        pass

    def locate(self, points: torch.Tensor) -> FieldPoints:
        return FieldPoints(points, points.new_zeros(len(points), 0))

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return torch.full((len(points),), 1e3)

    def color(self, located: FieldPoints, canonical: torch.Tensor) -> torch.Tensor:
        return (located.points / 0.3 + 0.5).clamp(0, 1)


def test_the_texture_has_the_colour_of_the_surface_at_its_coordinates(tiny_head):
    verts, faces = tiny_head.template.numpy(), tiny_head.faces.numpy()
    atlas = unwrap(verts, faces, 256)
    np.testing.assert_array_equal(atlas.source[atlas.faces], faces)
    surface = Surface(tiny_head.template, 0 * tiny_head.template, torch.ones(len(verts)), tiny_head.faces)
    texture = bake(PaintedField(), atlas, surface, 256)
    centres = verts[faces].mean(1)
    uv = atlas.uv[atlas.faces].mean(1)
    column, row = (uv * 256).astype(int).T
    expected = 255 * np.clip(centres / 0.3 + 0.5, 0, 1)
    assert np.abs(texture[row, column] - expected).max() < 8
    assert (texture.reshape(-1, 3).max(1) > 0).all(), "texels outside of charts are filled"


def test_colours_that_training_did_not_see_continue_the_others():
    verts, faces = (torch.from_numpy(array) for array in grid(9))
    verts = verts.float()
    seen = (verts[:, 1] < 0.03).float()
    continued = continue_colors(PaintedField(), Surface(verts, 0 * verts, seen, faces))
    truth = verts / 0.3 + 0.5
    assert (continued - truth)[seen == 1].abs().max() < 0.02
    back = continued[verts[:, 1] > 0.07]
    assert (back[:, 1] - truth[seen == 1, 1].max()).abs().max() < 0.03, "the colour of the last seen row"


def test_the_field_is_read_where_rendering_reads_it(player):
    """A ray through a point of the posed mesh meets the field points of the canonical point."""
    field, state = NeutralField(player), HeadState.stack([player.neutral])
    warp = player.avatar.warp
    frames = warp.pose_frames(state)
    on_skin = player.head.model.skinning_weights[:, 1] > 0.99  # moved by the neck joint alone
    posed = frames.skinned.verts[0][on_skin]
    frame = torch.zeros(len(posed), dtype=torch.long)
    with torch.no_grad():
        canonical = warp.to_canonical(posed, frame, frames)
        truth = warp.deform(canonical, frame, state)
    located = field.locate(player.avatar.skinning.canonical.verts[on_skin])
    assert (located.points - truth.points).norm(dim=1).median() < 2e-3
    torch.testing.assert_close(located.ambient, truth.ambient.float(), atol=0.05, rtol=0)


def test_at_most_four_joints_move_a_vertex():
    weights = np.array([[0.1, 0.2, 0.3, 0.35, 0.05], [1.0, 0, 0, 0, 0]])
    joints, strongest = strongest_influences(weights)
    assert joints.tolist() == [[3, 2, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(strongest, [[0.35 / 0.95, 0.3 / 0.95, 0.2 / 0.95, 0.1 / 0.95], [1, 0, 0, 0]], rtol=1e-6)


def test_texture_and_licence_are_in_the_file(engine_head):
    glb = Glb(to_glb(engine_head, licence="free"))
    assert glb.document["asset"]["copyright"] == "free"
    (image,) = glb.document["images"]
    with Image.open(io.BytesIO(glb.view(image["bufferView"]))) as picture:
        shown = np.array(picture.convert("RGB")).astype(float)
    assert shown.shape == (SIZE, SIZE, 3) and np.abs(shown - engine_head.texture).mean() < 6
    assert glb.document["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert glb.array(glb.mesh["indices"]).max() < len(glb.pose())
