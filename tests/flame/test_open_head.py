"""The open head: its file, and that joints and expressions move the face as their names say."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch.testing import assert_close

from partnerface_ns.flame.head_model import HeadModel, load_head_model
from partnerface_ns.flame.joints import JOINT_NAMES
from partnerface_ns.flame.open_head import (
    OPEN_HEAD_FILE,
    OPEN_HEAD_PARTS,
    load_open_head,
    open_head_parts,
    unpack,
)
from partnerface_ns.flame.posing import PosedHead, ShapedHead
from partnerface_ns.flame.regions import REGION_NAMES
from partnerface_ns.flame.state import HeadState

FINGERPRINT = "1729ea9b894d60b3"
"""A new fingerprint means a new head, which needs a new name, because captures and checkpoints refer to it."""


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_open_head()


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(OPEN_HEAD_FILE, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def is_part(name: str) -> torch.Tensor:
    return torch.from_numpy(open_head_parts() == OPEN_HEAD_PARTS.index(name))


def posed(head: HeadModel, identity: torch.Tensor | None = None, **motion: float | list[float]) -> PosedHead:
    """The head with joints (axis-angle) and expressions by name, all others at rest."""
    state = HeadState.neutral(head.num_expr)
    for name, value in motion.items():
        if name in head.expression_names:
            state.expression[head.expression_names.index(name)] = value
        else:
            getattr(state, name)[:] = torch.tensor(value)
    return ShapedHead.of(head, torch.zeros(head.num_identity) if identity is None else identity).pose(state)


def distances(points: torch.Tensor) -> torch.Tensor:
    """Distances between all pairs of points; a rigid motion keeps them."""
    return torch.cdist(points.double(), points.double())


def random_people(head: HeadModel, num: int = 4) -> torch.Tensor:
    return 0.7 * torch.randn(num, head.num_identity, generator=torch.Generator().manual_seed(0))


def gap(verts: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor) -> float:
    """Height of the opening between two sets of vertices in metres; negative where they overlap."""
    return float(verts[upper, 1].min() - verts[lower, 1].max())


def lips(head: HeadModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper and lower lip near the middle of the mouth."""
    middle = (head.regions["lips"] > 0.5) & (head.template[:, 0].abs() < 0.004)
    jaw = head.skinning_weights[:, JOINT_NAMES.index("jaw")]
    return middle & (jaw < 0.5), middle & (jaw > 0.5)


def lids(head: HeadModel, eye: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper and lower lid in front of the middle of an eyeball."""
    centre = (head.joint_regressor @ head.template)[JOINT_NAMES.index(eye)]
    beside, above, before = (head.template - centre).T
    lid = (head.regions["eyelids"] > 0.5) & is_part("skin") & (beside.abs() < 0.004) & (before > 0.01)
    return lid & (above > 0), lid & (above < 0)


def test_file_is_small_and_holds_no_pickle(stored):
    assert OPEN_HEAD_FILE.stat().st_size < 1_000_000
    assert str(stored["name"]) == "open-head-1"


def test_licence_notice_ships_beside_the_file():
    notice = OPEN_HEAD_FILE.with_name("OPEN_HEAD_LICENSE.txt").read_text()
    assert "CC0 1.0 Universal" in notice and "MakeHuman" in notice


def test_loading_returns_the_stored_arrays(head, stored):
    arrays = unpack(stored)
    directions = torch.cat([head.identity_dirs, head.expression_dirs], dim=-1)
    assert_close(head.template, torch.from_numpy(stored["v_template"]))
    assert_close(directions, torch.from_numpy(arrays["shapedirs"]))
    assert_close(head.pose_dirs.T.reshape(-1, 3, 36), torch.from_numpy(arrays["posedirs"]))
    assert_close(head.joint_regressor, torch.from_numpy(arrays["J_regressor"]))
    assert head.expression_names == tuple(stored["expr_names"])
    for name in REGION_NAMES:
        assert_close(head.regions[name], torch.from_numpy(stored[f"mask_{name}"] / np.float32(255)))


def test_every_number_is_finite(head):
    for array in (head.template, head.identity_dirs, head.expression_dirs, head.pose_dirs, head.joint_regressor):
        assert torch.isfinite(array).all()


def test_is_read_once_and_known_by_its_fingerprint(head):
    assert load_open_head() is head
    assert head.name == "open-head-1"
    assert head.fingerprint == FINGERPRINT


def test_unpacked_arrays_are_a_head_model_file_of_the_same_head(head, stored, tmp_path):
    np.savez(tmp_path / "head.npz", **unpack(stored))
    assert load_head_model(tmp_path / "head.npz").fingerprint == head.fingerprint


@pytest.fixture(scope="module")
def pack():
    """`pack` of the script that builds the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
        return import_module("build_open_head").pack


def test_packing_and_unpacking_round_trips(pack, stored):
    again = pack(unpack(stored))
    assert again.keys() == stored.keys()
    for key, array in stored.items():
        np.testing.assert_array_equal(again[key], array, err_msg=key)


def test_packing_refuses_too_large_displacements(pack, stored):
    arrays = unpack(stored)
    arrays["shapedirs"][0, 0, 0] = 0.5
    with pytest.raises(ValueError, match="shapedirs holds a displacement"):
        pack(arrays)


def test_has_five_joints_and_named_expressions(head):
    assert head.joint_regressor.shape == (5, head.num_verts)
    assert (head.num_identity, head.num_expr) == (40, 41)
    assert {"eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "tongueOut"} <= set(head.expression_names)
    assert not [n for n in head.expression_names if n.startswith("eyeLook") or n in ("jawOpen", "jawLeft", "jawRight")]


def test_joints_are_where_flame_has_them(head):
    root, neck, jaw, left, right = head.joint_regressor @ head.template
    assert root[1] < neck[1] < jaw[1] < left[1]
    assert left[0] > 0 > right[0]
    assert left[2] > jaw[2] > neck[2]
    assert_close(torch.stack([root, neck, jaw])[:, 0], torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(left * torch.tensor([-1.0, 1, 1]), right, atol=1e-5, rtol=0)


def test_head_has_a_human_size(head):
    skull = head.template[head.regions["head"] > 0.9]
    width, height, depth = (skull.max(0).values - skull.min(0).values).tolist()
    assert 0.13 < width < 0.20 and 0.18 < height < 0.28 and 0.17 < depth < 0.26


def test_weights_sum_to_one_and_rigid_parts_follow_one_joint(head):
    weights = head.skinning_weights
    assert_close(weights.sum(-1), torch.ones(head.num_verts))
    assert weights.min() >= 0
    for part, joint in (
        ("teeth_upper", "neck"),
        ("teeth_lower", "jaw"),
        ("tongue", "jaw"),
        ("eye_left", "eye_left"),
        ("eye_right", "eye_right"),
    ):
        assert (weights[is_part(part), JOINT_NAMES.index(joint)] > 0.99999).all(), part
    shoulders = head.template[:, 0].abs() > 0.12
    assert shoulders.any() and (weights[shoulders, 0] > 0.98).all()


def test_template_is_symmetric(head):
    mirrored = head.template.numpy() * [-1, 1, 1]
    assert cKDTree(head.template.numpy()).query(mirrored)[0].max() < 1e-4


def test_faces_look_outwards(head):
    """By the divergence theorem an outward surface has positive volume. Eyeballs and tongue are closed."""
    for part in ("eye_left", "eye_right", "tongue"):
        inside = is_part(part)[head.faces].all(-1)
        a, b, c = (head.template - head.template[is_part(part)].mean(0))[head.faces[inside]].unbind(1)
        assert (a * torch.linalg.cross(b, c)).sum() > 0, part
    a, b, c = head.template[head.faces].unbind(1)
    nose_tip = head.template[:, 2].argmax()
    normals = torch.linalg.cross(b - a, c - a)[(head.faces == nose_tip).any(-1)]
    assert (normals[:, 2] > 0).all()


@pytest.mark.parametrize("name", REGION_NAMES)
def test_regions_are_masks_of_some_vertices(head, name):
    mask = head.regions[name]
    assert mask.min() == 0 and mask.max() == 1
    assert 0.01 * head.num_verts < (mask > 0.5).sum() < 0.95 * head.num_verts


def test_regions_lie_where_their_names_say(head):
    y = head.template[:, 1]
    height = {name: float(y[mask > 0.5].mean()) for name, mask in head.regions.items()}
    assert height["torso"] < height["jaw"] < height["lips"] < height["ears"] < height["eyelids"]
    assert torch.equal(head.regions["eyeballs"] > 0.5, is_part("eye_left") | is_part("eye_right"))
    assert (head.regions["inside_mouth"][is_part("tongue") | is_part("teeth_lower")] == 1).all()


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_blink_closes_the_lids_of_its_eye(head, side):
    upper, lower = lids(head, f"eye_{side.lower()}")
    assert upper.any() and lower.any()
    assert gap(posed(head).verts, upper, lower) > 0.005
    assert gap(posed(head, **{f"eyeBlink{side}": 0.5}).verts, upper, lower) < 0.003
    assert gap(posed(head, **{f"eyeBlink{side}": 1.0}).verts, upper, lower) <= 0


def test_blink_of_one_eye_does_not_move_the_other(head):
    upper, lower = lids(head, "eye_right")
    assert_close(posed(head, eyeBlinkLeft=1.0).verts[upper | lower], posed(head).verts[upper | lower])


@pytest.mark.parametrize("person", range(4))
def test_an_open_jaw_parts_the_lips_of_any_identity(head, person):
    identity = random_people(head)[person]
    upper, lower = lips(head)
    closed = gap(posed(head, identity).verts, upper, lower)
    ajar, open_ = (gap(posed(head, identity, jaw=[math.radians(a), 0, 0]).verts, upper, lower) for a in (8.0, 24.0))
    assert abs(closed) < 0.004
    assert ajar > closed + 0.006
    assert open_ > closed + 0.02


def test_open_jaw_does_not_move_the_upper_face(head):
    rest, open_ = posed(head).verts, posed(head, jaw=[0.4, 0, 0]).verts
    upper_face = (head.regions["eyelids"] > 0.5) | (head.regions["eyeballs"] > 0.5) | is_part("teeth_upper")
    assert (open_ - rest)[upper_face].norm(dim=-1).max() < 0.002


def test_open_jaw_corrects_the_skin_and_leaves_teeth_and_tongue_rigid(head):
    corrected = posed(head, jaw=[0.4, 0, 0]).offsets.norm(dim=-1)
    assert corrected[~is_part("skin")].max() == 0
    assert 0.002 < corrected[head.regions["lips"] > 0.5].max() < 0.008


@pytest.mark.parametrize("person", range(4))
@pytest.mark.parametrize("eye", ["eye_left", "eye_right"])
def test_eyeballs_are_spheres_that_turn_in_their_sockets(head, person, eye):
    identity = random_people(head)[person]
    rest = posed(head, identity)
    ball = rest.verts[is_part(eye)]
    centre = head.joint_regressor[JOINT_NAMES.index(eye)] @ rest.verts
    radii = (ball - centre).norm(dim=-1)
    assert_close(radii, radii.mean().expand_as(radii), atol=5e-5, rtol=0)

    turned = posed(head, identity, eyes=[0.2, -0.3, 0.1, 0.2, -0.3, 0.1]).verts[is_part(eye)]
    assert_close(distances(turned), distances(ball), atol=1e-5, rtol=0)
    assert_close((turned - centre).norm(dim=-1), radii, atol=5e-5, rtol=0)
    assert (turned - ball).norm(dim=-1).max() > 0.002


def test_expressions_do_not_move_the_eyeballs(head):
    eyeballs = is_part("eye_left") | is_part("eye_right")
    assert head.expression_dirs[eyeballs].abs().max() == 0
    joints = torch.einsum("jv,vae->jae", head.joint_regressor, head.expression_dirs)
    assert joints.norm(dim=1).max() < 0.001


def test_upper_lid_follows_the_gaze(head):
    upper, lower = lids(head, "eye_left")
    down, up = (
        gap(posed(head, eyes=[a, 0, 0, a, 0, 0]).verts, upper, lower) for a in (math.radians(12), -math.radians(12))
    )
    assert down < gap(posed(head).verts, upper, lower) < up


def test_neck_turns_the_head_and_not_the_shoulders(head):
    rest, turned = posed(head).verts, posed(head, neck=[0, 0.5, 0]).verts
    moved = (turned - rest).norm(dim=-1)
    assert moved[head.skinning_weights[:, 0] > 0.999].max() < 1e-4
    assert moved[head.template[:, 2].argmax()] > 0.04
    skull = is_part("teeth_upper") | is_part("eye_left")
    assert_close(distances(turned[skull]), distances(rest[skull]), atol=1e-5, rtol=0)


def test_random_people_stay_human(head):
    for identity in random_people(head, 20):
        change = torch.einsum("vai,i->va", head.identity_dirs, identity).norm(dim=-1)
        assert change[head.regions["head"] > 0.9].max() < 0.04
        assert change.mean() > 0.001
