"""The image agrees with the posed head model and shows what the head model lacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from partnerface_ns.demo.appearance import Appearance
from partnerface_ns.demo.posed_person import PosedPerson
from partnerface_ns.demo.scene import EYE_LEFT, EYE_RIGHT, FRAME, SHIRT, SKIN, TEETH_LOWER, TEETH_UPPER
from partnerface_ns.demo.subject import DemoSubject
from partnerface_ns.flame.open_head import open_head_parts
from partnerface_ns.flame.posing import PosedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rasterizer import project, rasterize


def state_of(person: DemoSubject, jaw: float = 0.0, turn: float = 0.0, **expression: float) -> HeadState:
    names = person.head.model.expression_names
    neutral = HeadState.neutral(len(names))
    coefficients = torch.tensor([expression.get(name, 0.0) for name in names])
    return replace(
        neutral, expression=coefficients, jaw=torch.tensor([jaw, 0, 0]), rotation=torch.tensor([0.0, turn, 0.0])
    )


def pose_person(person: DemoSubject, state: HeadState) -> tuple[PosedHead, PosedPerson]:
    """The posed head model, and the person in this pose with shoulders at the root joint."""
    posed = person.head.pose(state)
    T = posed.T_world_rest.numpy().astype(float)
    expression = dict(zip(person.head.model.expression_names, state.expression.tolist(), strict=True))
    return posed, PosedPerson(posed.verts.numpy(), T[1], T[3:5], T[0], np.eye(4), expression)


def draw(person: DemoSubject, pose: PosedPerson) -> tuple[np.ndarray, np.ndarray]:
    rgb, mask = person.scene.image(pose, person.camera)
    return rgb.astype(float), mask


def on_screen(person: DemoSubject, points: np.ndarray) -> np.ndarray:
    c = person.camera
    return project(points, c.intrinsics, c.T_world_camera)[0]


def box_of(person: DemoSubject, points: np.ndarray, grow: int = 0) -> tuple[slice, slice]:
    xy = on_screen(person, points)
    low, high = np.floor(xy.min(0)).astype(int) - grow, np.ceil(xy.max(0)).astype(int) + grow
    return slice(max(low[1], 0), high[1]), slice(max(low[0], 0), high[0])


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first - second).max(-1) > 4


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_the_silhouette_is_that_of_the_posed_head(person, turn):
    posed, pose = pose_person(person, state_of(person, turn=turn, jaw=0.1))
    _, mask = draw(person, pose)
    verts, c = posed.verts.numpy(), person.camera
    screen, near = project(verts, c.intrinsics, c.T_world_camera)
    head = (person.head.model.skinning_weights[:, 0] < 0.05).numpy()
    faces = person.head.model.faces.numpy()
    seen = rasterize(screen, near, faces[head[faces].all(-1)], c.width, c.height)
    truth = np.zeros(c.height * c.width, dtype=bool)
    truth[seen.samples] = True
    truth = truth.reshape(c.height, c.width)
    assert truth.sum() > 1000
    assert (mask[truth] > 127).mean() > 0.995  # hair and glasses only add
    # Between ears and chin nothing is worn: there both outlines are the same.
    lips = on_screen(person, verts[(person.head.model.regions["lips"] > 0.5).numpy()])[:, 1]
    for row in range(int(lips.min()), int(lips.max())):
        ours, theirs = np.flatnonzero(mask[row] > 127), np.flatnonzero(truth[row])
        assert abs(ours[0] - theirs[0]) <= 1 or turn
        assert abs(ours[-1] - theirs[-1]) <= 1


def seen_verts(person: DemoSubject, posed: PosedHead) -> np.ndarray:
    """The visible vertex of the head model at each pixel; -1 without one."""
    c = person.camera
    screen, near = project(posed.verts.numpy(), c.intrinsics, c.T_world_camera)
    seen = rasterize(screen, near, person.head.model.faces.numpy(), c.width, c.height)
    verts = np.full(c.height * c.width, -1)
    verts[seen.samples] = seen.corners[np.arange(len(seen.samples)), seen.weights.argmax(-1)]
    return verts.reshape(c.height, c.width)


def test_lips_part_and_show_the_dark_mouth_when_the_jaw_opens(person):
    inside = (person.head.model.regions["inside_mouth"] > 0.9).numpy()
    lips = (person.head.model.regions["lips"] > 0.5).numpy()
    closed, _ = pose_person(person, state_of(person))
    assert inside[seen_verts(person, closed)].sum() < 3
    opened, pose = pose_person(person, state_of(person, jaw=0.3))
    verts = seen_verts(person, opened)
    image, _ = draw(person, pose)
    mouth, around = image[(verts >= 0) & inside[verts]], image[(verts >= 0) & lips[verts]]
    assert len(mouth) > 15
    assert np.median(mouth.mean(-1)) < 0.7 * np.median(around.mean(-1))


def test_teeth_show_when_the_lips_draw_back(person):
    drawn_back = {f"{name}{side}": 1.0 for name in ("mouthUpperUp", "mouthLowerDown") for side in ("Left", "Right")}
    posed, pose = pose_person(person, state_of(person, jaw=0.05, **drawn_back))
    verts = seen_verts(person, posed)
    teeth = (verts >= 0) & np.isin(open_head_parts()[verts], (TEETH_UPPER, TEETH_LOWER))
    image = draw(person, pose)[0][teeth]
    assert len(image) >= 8
    white, skin = np.median(image, axis=0), 255 * person.scene.materials[SKIN].tone
    assert white.min() > 90 and white.min() / white.max() > 0.7 > skin.min() / skin.max()


def test_eyes_show_an_iris_that_moves_with_the_gaze(person):
    shift = {}
    for name, yaw in (("left", 0.3), ("right", -0.3)):
        state = replace(state_of(person, eyeWideLeft=0.6), eyes=torch.tensor([0, yaw, 0, 0, yaw, 0.0]))
        posed, pose = pose_person(person, state)
        eye = posed.verts.numpy()[open_head_parts() == EYE_LEFT]
        opening = box_of(person, eye[eye[:, 2] > eye[:, 2].max() - 0.004])
        window = draw(person, pose)[0][opening].mean(-1)
        middle = window[window.shape[0] // 2]
        shift[name] = np.average(np.arange(len(middle)), weights=(middle.max() - middle) ** 2)
    # The subject's left is the image's right.
    assert shift["left"] > shift["right"] + 0.5


def test_each_eye_turns_and_glints_by_itself(person):
    still, pose = pose_person(person, state_of(person))
    _, turned = pose_person(person, replace(state_of(person), eyes=torch.tensor([0, 0, 0, 0, 0.3, 0.0])))
    glint_alone = replace(pose, T_world_eyes=turned.T_world_eyes)
    before, _ = draw(person, pose)
    right = box_of(person, still.verts.numpy()[open_head_parts() == EYE_RIGHT])
    for after in (turned, glint_alone):
        difference = changed(before, draw(person, after)[0])
        assert difference[right].any() and difference[right].sum() == difference.sum()


def test_wrinkles_come_with_the_expression_and_move_no_surface(person):
    _, pose = pose_person(person, state_of(person))
    smooth, mask = draw(person, pose)
    raised, mask_raised = draw(person, replace(pose, expression={"browInnerUp": 1.0, "browOuterUpLeft": 1.0}))
    difference = changed(smooth, raised)
    rows = np.flatnonzero(difference.any(1))
    eyes = on_screen(person, person.anchors.eyes)[:, 1].mean()
    assert difference.sum() > 50 and rows.max() < eyes
    assert np.array_equal(mask, mask_raised)
    smiling, _ = draw(person, replace(pose, expression={"mouthSmileLeft": 1.0}))
    columns = np.flatnonzero(changed(smooth, smiling).any(0))
    assert len(columns) and columns.min() > on_screen(person, person.anchors.nose_tip[None])[0, 0]


def test_glasses_slide_on_a_still_face(person):
    _, pose = pose_person(person, state_of(person))
    slid = person._slide_glasses(0.003)
    before, after = draw(person, pose)[0], draw(person, replace(pose, T_skull_glasses=slid))[0]
    rows = np.flatnonzero(changed(before, after).any(1))
    eyes, mouth = (
        on_screen(person, p.reshape(-1, 3))[:, 1].mean() for p in (person.anchors.eyes, person.anchors.mouth)
    )
    assert changed(before, after).sum() > 40
    assert rows.min() > eyes - 0.6 * (mouth - eyes) and rows.max() < mouth
    moved = np.abs(person.scene._place(replace(pose, T_skull_glasses=slid)) - person.scene._place(pose)).max(-1) > 1e-4
    of_part = [np.unique(person.scene.faces[person.scene.parts == part]) for part in range(SHIRT + 1)]
    assert [part for part, verts in enumerate(of_part) if moved[verts].any()] == [FRAME]
    lens_before = person.scene.lenses.verts.mean(0)
    lens_after = slid[:3, :3] @ lens_before + slid[:3, 3]
    assert -0.004 < (lens_after - lens_before)[1] < -0.002 and (lens_after - lens_before)[2] > 0


def test_shoulders_move_without_the_face(person):
    _, pose = pose_person(person, state_of(person))
    T_world_torso = pose.T_world_torso.copy()
    T_world_torso[:3, 3] += [0.01, 0.002, 0]
    before, after = draw(person, pose)[0], draw(person, replace(pose, T_world_torso=T_world_torso))[0]
    difference = changed(before, after)
    chin = int(on_screen(person, person.anchors.mouth[None])[0, 1]) + 10
    assert difference[chin:].sum() > 500
    assert not difference[:chin].any()


def test_the_neck_follows_the_shoulders_and_the_face_does_not(person):
    timestep = 7
    drawn = person.pose(timestep).skin
    posed = person.head.pose(person.performance.track[timestep]).verts.numpy()
    face = (person.head.model.skinning_weights[:, 0] == 0).numpy()
    apart = np.linalg.norm(drawn - posed, axis=-1)
    assert apart[face].max() < 1e-6
    assert apart[~face].max() > 0.002


def test_images_are_over_white_with_soft_edges(person):
    rgb, mask = person.image(0)
    assert rgb.shape == (*mask.shape, 3) and rgb.dtype == mask.dtype == np.uint8
    assert (rgb[mask == 0] == 255).all()
    assert 0.2 < (mask == 255).mean() < 0.8
    soft = (mask > 0) & (mask < 255)
    assert 50 < soft.sum() < 0.05 * mask.size
    assert set(np.unique(mask)) == {0, 64, 128, 191, 255}


def test_every_part_is_visible_somewhere(person):
    seen = set()
    for state in (
        state_of(person, jaw=0.3),
        state_of(person, jaw=0.2, turn=0.5, mouthUpperUpLeft=1.0, mouthUpperUpRight=1.0),
    ):
        _, pose = pose_person(person, state)
        c = person.camera
        screen, near = project(person.scene._place(pose), c.intrinsics, c.T_world_camera)
        visible = rasterize(screen, near, person.scene.faces, c.width, c.height)
        seen |= set(person.scene.parts[visible.triangles].tolist())
    assert seen == set(range(SHIRT + 1))


def test_the_same_pose_gives_the_same_image(person):
    first, again = person.image(3), person.image(3)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_appearances_differ():
    looks = [Appearance.random(np.random.default_rng(seed)) for seed in range(12)]
    assert len({tuple(look.skin.tolist()) for look in looks}) == 12
    assert len({look.hair_style % 4 for look in looks}) > 2
    for look in looks:
        for colour in (look.skin, look.hair, look.iris, look.shirt, look.frame):
            assert (colour > 0).all() and (colour < 1).all()


def test_eyeballs_cast_no_shadow(person):
    eyes = np.isin(person.scene.parts, (EYE_LEFT, EYE_RIGHT))
    assert eyes.any() and not person.scene.casts[eyes].any()
