"""Inverse skinning against the exact nearest surface point, on the open head; its invariants, on both heads."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from partnerface_ns.flame.open_head import OPEN_HEAD_PARTS, open_head_parts
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Intrinsics
from partnerface_ns.geometry.rasterizer import project, rasterize
from partnerface_ns.geometry.rigid import invert_rigid, rigid, rotation_from_axis_angle, transform_points
from partnerface_ns.warp import inverse_skinning
from partnerface_ns.warp.canonical_space import CanonicalSpaceConfig
from partnerface_ns.warp.displacement_grid import DisplacementGridConfig
from partnerface_ns.warp.inverse_skinning import InverseSkinning, InverseSkinningConfig

NECK = 1
MOMENTS: dict[str, dict[str, float | list[float]]] = {
    "closed": {},
    "wide open": {"jaw": [0.35, 0, 0]},
    "smile": {"jaw": [0.1, 0, 0], "mouthSmile": 0.8, "cheekSquint": 0.6},
    "pucker": {"jaw": [0.05, 0, 0], "mouthPucker": 0.8, "browInnerUp": 1.0},
    "speech, turned": {
        "jaw": [0.2, 0, 0], "mouthLowerDown": 0.3, "mouthUpperUp": 0.2,
        "rotation": [0.1, 0.3, 0.05], "neck": [0.05, 0.1, 0], "translation": [0.01, 0.02, 0.03],
    },
    "half blink, gaze": {"eyeBlink": 0.5, "eyes": [0.1, 0.3, 0, 0.1, 0.3, 0]},
    "blink": {"eyeBlink": 1.0, "browDown": 0.7},
}  # fmt: skip
"""Joint rotations (rad), translations (m) and expressions (amount) by name, for both sides where there are two."""


def moment(skinning: InverseSkinning, **motion: float | list[float]) -> HeadState:
    names = skinning.head.model.expression_names
    state = HeadState.neutral(len(names), (1,))
    for name, value in motion.items():
        if isinstance(value, list):
            getattr(state, name)[0] = torch.tensor(value)
        else:
            for side in ("", "Left", "Right"):
                if name + side in names:
                    state.expression[0, names.index(name + side)] = value
    return state


class Seen(NamedTuple):
    """Visible surface points of a head state."""

    points: torch.Tensor
    """World frame, metres."""
    canonical: torch.Tensor
    """The same points of the skin on the canonical head."""
    corners: np.ndarray
    """Vertices of their triangles, (points, 3)."""
    weights: np.ndarray

    def where(self, mask: torch.Tensor) -> torch.Tensor:
        """Which points lie where a vertex mask is more than half."""
        return (torch.from_numpy(self.weights) * mask[torch.from_numpy(self.corners)]).sum(1) > 0.5


def visible(skinning: InverseSkinning, verts: torch.Tensor) -> Seen:
    """What cameras to the left, before and to the right of the face see."""
    corners, weights = [], []
    for yaw in (-0.6, 0.0, 0.6):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec([0, yaw, 0]).as_matrix()
        T[:3, 3] = verts.mean(0).numpy() + T[:3, 2]
        screen, nearness = project(verts.numpy(), Intrinsics(560.0, 560.0, 96.0, 128.0), T)
        drawn = rasterize(screen, nearness, skinning.head.model.faces.numpy(), 192, 256)
        corners.append(drawn.corners)
        weights.append(drawn.weights)
    corners, weights = np.concatenate(corners), np.concatenate(weights).astype(np.float32)
    on = lambda v: torch.from_numpy((v.numpy()[corners] * weights[..., None]).sum(1))  # noqa: E731
    return Seen(on(verts), on(skinning.canonical.verts), corners, weights)


def closest_on_mesh(points: np.ndarray, verts: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact nearest surface point of each point: its triangle's vertices and their weights, both (points, 3)."""
    triangles = verts[faces].astype(np.float64)
    centers = triangles.mean(1)
    radii = np.linalg.norm(triangles - centers[:, None], axis=-1).max(1)
    corners, weights = [], []
    for p in points.astype(np.float64):
        apart = np.linalg.norm(p - centers, axis=-1)
        near = np.flatnonzero(apart - radii <= (apart + radii).min())
        candidates = weights_of_nearest(p, triangles[near])
        feet = np.einsum("ctk,tkx->ctx", candidates, triangles[near])
        away = np.where((candidates >= 0).all(-1), np.linalg.norm(feet - p, axis=-1), np.inf)
        way, which = np.unravel_index(away.argmin(), away.shape)
        corners.append(faces[near[which]])
        weights.append(candidates[way, which])
    return np.stack(corners), np.stack(weights)


def weights_of_nearest(p: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Weights of the corners where the nearest point of each triangle may lie, (4, triangles, 3).

    The foot of p on the triangle's plane, of use where no weight is negative, and the nearest points of its sides.
    """
    a, b, c = triangles.transpose(1, 0, 2)
    basis = np.stack([b - a, c - a], -1)
    u, v = (np.linalg.pinv(basis) @ (p - a)[..., None])[..., 0].T
    found = [np.stack([1 - u - v, u, v], -1)]
    for start, end in ((0, 1), (1, 2), (2, 0)):
        first, side = triangles[:, start], triangles[:, end] - triangles[:, start]
        t = np.clip(((p - first) * side).sum(-1) / (side * side).sum(-1), 0, 1)
        weights = np.zeros((len(triangles), 3))
        weights[:, start], weights[:, end] = 1 - t, t
        found.append(weights)
    return np.stack(found)


def carried(T: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """One transform of all points."""
    return transform_points(T.expand(len(points), 4, 4), points)


def one_frame(points: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(points), dtype=torch.long)


def millimetres_off(skinning: InverseSkinning, state: HeadState, points, canonical) -> torch.Tensor:
    found = skinning(points, one_frame(points), skinning.skin_frames(state)).points
    return 1000 * (found - canonical).norm(dim=1)


def room_around(verts: torch.Tensor, num: int, margin: float = 0.1) -> torch.Tensor:
    """Points anywhere in and around a head."""
    low, high = verts.amin(0) - margin, verts.amax(0) + margin
    return low + torch.rand(num, 3) * (high - low)


# -- the reference itself -------------------------------------------------------------------------------------------


def test_the_reference_finds_the_nearest_of_many_surface_points(tiny_head):
    verts, faces = tiny_head.template.double().numpy(), tiny_head.faces.numpy()
    points = room_around(tiny_head.template, 20).double().numpy()
    corners, weights = closest_on_mesh(points, verts, faces)
    found = np.linalg.norm((verts[corners] * weights[..., None]).sum(1) - points, axis=1)
    assert (weights >= -1e-9).all() and np.allclose(weights.sum(1), 1)
    shares = np.array([(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)]) / 20
    samples = np.einsum("sk,fkc->fsc", shares, verts[faces]).reshape(-1, 3)
    sampled = np.linalg.norm(points[:, None] - samples, axis=-1).min(1)
    assert (found <= sampled + 1e-12).all(), "no surface point is nearer"
    assert (found >= sampled - 0.006).all(), "and it lies on the surface"


# -- accuracy on the open head --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(open_skinning) -> dict[str, tuple[HeadState, torch.Tensor, Seen]]:
    """State, posed vertices and visible points by name of the head state."""
    states = {name: moment(open_skinning, **motion) for name, motion in MOMENTS.items()}
    posed = {name: open_skinning.head.pose(state).verts[0] for name, state in states.items()}
    return {name: (states[name], posed[name], visible(open_skinning, posed[name])) for name in MOMENTS}


@pytest.mark.parametrize("name", MOMENTS)
def test_the_visible_surface_maps_to_its_canonical_position(open_skinning, seen, name):
    """Bounds are about 1.5 times what was measured (mm)."""
    state, _, surface = seen[name]
    off = millimetres_off(open_skinning, state, surface.points, surface.canonical)
    regions = open_skinning.head.model.regions
    eyes = torch.maximum(regions["eyelids"], regions["eyeballs"])
    on_eyes = surface.where(eyes)
    assert on_eyes.sum() > 100
    head = off[surface.where(regions["head"]) & ~on_eyes]
    assert head.mean() < 0.2
    assert head.quantile(0.99) < 1.5


@pytest.mark.parametrize("name", [name for name in MOMENTS if name != "wide open"])
def test_lips_map_to_their_own_lip(open_skinning, seen, name):
    """Visible lip points more than 1.5 mm from the other lip; the contact line is ambiguous."""
    state, verts, surface = seen[name]
    model = open_skinning.head.model
    lower = model.skinning_weights[:, 2] > 0.5
    lips = surface.where(model.regions["lips"]).nonzero()[::5, 0]
    on_lower = surface.where(lower.float())[lips]
    points, away = surface.points[lips].numpy(), torch.zeros(len(lips))
    skin = torch.from_numpy(open_head_parts() == OPEN_HEAD_PARTS.index("skin"))
    for side in (False, True):
        other = model.faces[((lower != side) & skin)[model.faces].all(1)].numpy()
        mine = (on_lower == side).numpy()
        corners, weights = closest_on_mesh(points[mine], verts.numpy(), other)
        foot = (verts.numpy()[corners] * weights[..., None]).sum(1)
        away[mine] = torch.from_numpy(np.linalg.norm(points[mine] - foot, axis=1)).float()
    clear = away > 0.0015
    off = millimetres_off(open_skinning, state, surface.points[lips], surface.canonical[lips])[clear]
    assert clear.sum() > 50
    assert off.mean() < 0.4
    assert off.max() < 2


@pytest.mark.parametrize(("name", "mean", "most"), [("speech, turned", 0.02, 0.05), ("half blink, gaze", 0.7, 3.0)])
def test_lids_and_eyeballs_map_to_their_own_position(open_skinning, seen, name, mean, most):
    """Mean and 95th percentile in mm; lids slide over eyeballs that turn on their own."""
    state, _, surface = seen[name]
    for region in ("eyelids", "eyeballs"):
        here = surface.where(open_skinning.head.model.regions[region])
        off = millimetres_off(open_skinning, state, surface.points[here], surface.canonical[here])
        assert off.mean() < mean, region
        assert off.quantile(0.95) < most, region


@pytest.mark.parametrize("name", MOMENTS)
def test_points_near_the_skin_follow_the_nearest_surface_point(open_skinning, seen, name):
    """Against the exact reference, up to 3 mm above and below the visible skin, away from lips and eyes."""
    state, verts, surface = seen[name]
    skinning, regions = open_skinning, open_skinning.head.model.regions
    soft = torch.stack([regions[r] for r in ("lips", "eyelids", "eyeballs", "inside_mouth", "torso")]).amax(0)
    here = (surface.where(regions["face"]) & ~surface.where((soft > 0).float())).nonzero()[:, 0]
    here = here[torch.randperm(len(here))[:250]]
    corners = torch.from_numpy(surface.corners[here])
    a, b, c = verts[corners].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    points = surface.points[here] + (torch.rand(len(here), 1) * 0.006 - 0.003) * normals

    frames = skinning.skin_frames(state)
    T_canonical_skull = frames.T_canonical_skull[0]
    on_head = skinning.head.model.skinning_weights[:, 0] < 0.5
    faces = skinning.head.model.faces[on_head[skinning.head.model.faces].all(1)].numpy()
    corners, weights = closest_on_mesh(points.numpy(), verts.numpy(), faces)
    in_skull = carried(T_canonical_skull, verts)
    displacement = (skinning.canonical.verts - in_skull)[corners]
    moved = (torch.from_numpy(weights).float()[..., None] * displacement).sum(1)
    exact = carried(T_canonical_skull, points) + moved
    off = millimetres_off(skinning, state, points, exact)
    assert off.mean() < 0.6
    assert off.quantile(0.95) < 2


# -- invariants -----------------------------------------------------------------------------------------------------


def test_the_canonical_state_maps_to_itself(open_skinning, tiny_skinning):
    for skinning in (open_skinning, tiny_skinning):
        state = moment(skinning, jaw=[skinning.config.canonical_jaw, 0.0, 0.0])
        points = room_around(skinning.canonical.verts, 2000)
        found = skinning(points, one_frame(points), skinning.skin_frames(state))
        assert_close(found.points, points, atol=2e-6, rtol=0)


def test_without_the_face_points_follow_the_skull_alone(tiny_shaped, tiny_skinning):
    config = InverseSkinningConfig(undo_face=False)
    skinning = InverseSkinning(config, DisplacementGridConfig((16, 16, 16)), CanonicalSpaceConfig(), tiny_shaped)
    state = moment(skinning, jaw=[0.4, 0.0, 0.0])
    frames, face = skinning.skin_frames(state), skinning.head.model.regions["face"] > 0.5
    points = frames.verts[0, face]
    found = skinning(points, one_frame(points), frames).points
    assert_close(found, carried(frames.T_canonical_skull[0], points), atol=1e-6, rtol=0)
    usual = tiny_skinning(points, one_frame(points), tiny_skinning.skin_frames(state)).points
    assert (usual - found).norm(dim=1).max() > 0.005, "the jaw does move the face"


@pytest.mark.parametrize("name", ["open", "tiny"])
def test_a_rigid_motion_of_head_and_points_changes_nothing(request, name):
    skinning = request.getfixturevalue(f"{name}_skinning")
    num_expr = skinning.head.model.num_expr
    state = HeadState(
        0.2 * torch.randn(1, num_expr), 0.3 * torch.randn(1, 3), 0.1 * torch.randn(1, 3),
        torch.tensor([[0.2, 0.0, 0.0]]), 0.1 * torch.randn(1, 6), torch.zeros(1, 3),
    )  # fmt: skip
    posed = skinning.head.pose(state)
    points = room_around(posed.verts[0], 2000)
    turn = torch.from_numpy(Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix()).float()
    T_moved = rigid(turn, torch.tensor([0.3, -0.1, 0.2]))
    # The head model turns about its root joint, so the same motion is another rotation and another translation.
    now = rotation_from_axis_angle(state.rotation[0])
    rotation = torch.from_numpy(Rotation.from_matrix((turn @ now).numpy()).as_rotvec()).float()
    joint = root_joint(skinning, state)
    translation = turn @ joint + T_moved[:3, 3] - joint
    moved = replace(state, rotation=rotation[None], translation=translation[None])
    assert_close(skinning.head.pose(moved).verts[0], carried(T_moved, posed.verts[0]), atol=1e-5, rtol=0)

    before = skinning(points, one_frame(points), skinning.skin_frames(state))
    after = skinning(carried(T_moved, points), one_frame(points), skinning.skin_frames(moved))
    apart = (before.points - after.points).norm(dim=1)
    # Where a point is as near to both lips, or at an edge of the mask of the torso, rounding decides.
    assert apart.quantile(0.995) < 2e-5
    assert (before.torso - after.torso).abs().quantile(0.995) < 1e-3


def root_joint(skinning: InverseSkinning, state: HeadState) -> torch.Tensor:
    """The root joint of a head state in the rest frame."""
    model = skinning.head.model
    shaped = skinning.head.verts_rest + torch.einsum("vce,e->vc", model.expression_dirs, state.expression[0])
    return model.joint_regressor[0] @ shaped


def test_hair_and_glasses_stay_with_the_skull(open_skinning):
    skinning = open_skinning
    state = moment(skinning, jaw=[0.35, 0.0, 0.0], mouthSmile=1.0, browInnerUp=1.0, neck=[0.2, 0.1, 0.0])
    frames = skinning.skin_frames(state)
    top, back = skinning.canonical.verts[:, 1].amax(), skinning.canonical.verts[:, 2].amin()
    hair = torch.tensor([[0.0, top + 0.05, 0.0], [0.0, 0.08, back - 0.05]])
    world = carried(invert_rigid(frames.T_canonical_skull[0]), hair)
    found = skinning(world, one_frame(world), frames).points
    assert (found - hair).norm(dim=1).max() < 0.002


def test_points_of_many_frames_are_as_those_of_each_alone(tiny_skinning, tiny_states):
    verts = tiny_skinning.head.pose(tiny_states).verts
    points = [room_around(v, n) for v, n in zip(verts, (40, 0, 25), strict=True)]
    frame = torch.tensor([0] * 40 + [2] * 25)
    together = tiny_skinning(torch.cat(points), frame, tiny_skinning.skin_frames(tiny_states))
    alone = [
        tiny_skinning(p, one_frame(p), tiny_skinning.skin_frames(tiny_states[i : i + 1])) for i, p in enumerate(points)
    ]
    assert_close(together.points, torch.cat([a.points for a in alone]))
    assert_close(together.torso, torch.cat([a.torso for a in alone]))


def test_view_directions_turn_with_the_skull(tiny_skinning, tiny_states):
    frames = tiny_skinning.skin_frames(tiny_states)
    expected = tiny_skinning.head.pose(tiny_states).T_world_rest[:, NECK]
    identity = torch.eye(4).expand(3, 4, 4)
    assert_close(frames.T_canonical_skull @ expected, identity, atol=1e-5, rtol=0)


# -- torso ----------------------------------------------------------------------------------------------------------


def test_the_torso_bone_moves_the_torso_and_never_the_face(open_skinning):
    skinning, model = open_skinning, open_skinning.head.model
    state = moment(skinning, rotation=[0.1, 0.2, 0.0], jaw=[0.2, 0.0, 0.0])
    verts = skinning.head.pose(state).verts[0]
    T_root = skinning.head.pose(state).T_world_rest[:, 0]
    elsewhere = T_root.clone()
    elsewhere[:, 0, 3] += 0.01
    points = verts + 0.003 * torch.randn_like(verts)
    at_root = skinning(points, one_frame(points), skinning.skin_frames(state, T_root))
    default = skinning(points, one_frame(points), skinning.skin_frames(state))
    assert_close(at_root.points, default.points)
    moved = skinning(points, one_frame(points), skinning.skin_frames(state, elsewhere))
    shift = (moved.points - at_root.points).norm(dim=1)
    face = model.regions["face"] > 0.5
    far = face & (torch.cdist(verts, verts[model.skinning_weights[:, 0] > 0]).amin(1) > 0.02)
    assert far[face].float().mean() > 0.8
    assert torch.equal(moved.points[far], at_root.points[far])
    assert shift[face].max() < 0.002, "a little where face and neck meet"
    deep_in_torso = at_root.torso > 0.999
    assert deep_in_torso.sum() > 100
    assert_close(shift[deep_in_torso], torch.full_like(shift[deep_in_torso], 0.01), atol=1e-4, rtol=0)
    assert at_root.torso.min() >= 0
    assert at_root.torso.max() < 1 + 1e-5


def test_the_torsos_pose_has_the_right_gradient(tiny_skinning, tiny_states):
    state = tiny_states[:1]
    T = tiny_skinning.head.pose(state).T_world_rest[:, 0].clone().requires_grad_()
    torso = tiny_skinning.head.pose(state).verts[0][tiny_skinning.head.model.regions["torso"] > 0.5]
    direction = torch.tensor([0.3, -0.5, 0.8])

    def along(T: torch.Tensor) -> torch.Tensor:
        return (tiny_skinning(torso, one_frame(torso), tiny_skinning.skin_frames(state, T)).points @ direction).mean()

    (gradient,) = torch.autograd.grad(along(T), T)
    step = torch.zeros_like(T)
    step[0, 0, 3] = 1e-3
    with torch.no_grad():
        difference = (along(T + step) - along(T - step)) / 2e-3
    assert gradient.isfinite().all()
    assert_close(gradient[0, 0, 3], difference, atol=2e-3, rtol=0.02)
    assert abs(float(difference)) > 0.1


# -- memory of moments ----------------------------------------------------------------------------------------------


def test_displacement_grids_are_cached_up_to_the_memory_limit(tiny_shaped, tiny_skinning, tiny_states, monkeypatch):
    points = room_around(tiny_skinning.canonical.verts, 60)
    frame = torch.arange(3).repeat_interleave(20)
    first = tiny_skinning(points, frame, tiny_skinning.skin_frames(tiny_states)).points
    made = []
    splat = tiny_skinning._grid.splat
    monkeypatch.setattr(tiny_skinning._grid, "splat", lambda verts: made.append(len(verts)) or splat(verts))
    again = tiny_skinning(points, frame, tiny_skinning.skin_frames(tiny_states)).points
    assert made == [] and torch.equal(first, again)

    with torch.no_grad():
        passing = replace(tiny_states, jaw=tiny_states.jaw + 0.2)
        for _ in range(2):
            tiny_skinning.skin_frames(passing)
        assert made == [3], "the latest moments are remembered"
        turned = replace(passing, rotation=passing.rotation + 0.1)
        tiny_skinning.skin_frames(turned)
        assert made == [3], "the skull does not see its own motion"
        tiny_skinning.skin_frames(tiny_states)
        tiny_skinning.skin_frames(passing)
    assert made == [3, 3, 3], "only training sees its moments again"
    made.clear()

    monkeypatch.setattr(inverse_skinning, "_CACHED_BYTES", 0)
    other = replace(tiny_states, jaw=tiny_states.jaw + 0.1)
    tiny_skinning.skin_frames(other)
    tiny_skinning.skin_frames(tiny_states)
    tiny_skinning.skin_frames(other)
    assert sum(made) == 9
    forgetful = tiny_skinning(points, frame, tiny_skinning.skin_frames(tiny_states)).points
    assert_close(forgetful, first)
