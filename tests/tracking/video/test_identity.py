"""Telling one person from another by the face, with made-up faces."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.face_texture import face_grid, light_basis
from partnerface_ns.tracking.video.identity import FaceSignatures, agreement, compare_people, face_signatures

FRONT, SIDE = (0.9, 0.9), (0.9, 0.3)


def film(person: int, num: int, light: float = 1.0, turn: tuple[float, float] = FRONT) -> tuple[np.ndarray, np.ndarray]:
    """Textures of a person, and how much each point faces the camera. A face from the side differs from the front."""
    points = face_grid().points
    common, own = np.random.default_rng(99), np.random.default_rng(person)
    pose = np.random.default_rng(50 + round(100 * turn[1]))
    look = 4.5 + 0.2 * common.normal(size=len(points)) + 0.25 * own.normal(size=len(points))
    look = look + (0.14 * pose.normal(size=len(points)) if turn != FRONT else 0)
    frames = look + 0.05 * np.random.default_rng(person + num).normal(size=(num, len(points)))
    frames = frames[..., None] + np.log([1.0, 0.8, 0.7]) + np.log(light)
    facing = np.where(points[:, 0] > 0, *turn)
    return np.clip(np.exp(frames), 0, 255).astype(np.uint8), np.broadcast_to(facing, frames.shape[:2])


def others_in(*films: tuple[np.ndarray, np.ndarray]) -> list[float]:
    """Share of each film's frames that show another person."""
    texture, facing = (np.concatenate(arrays) for arrays in zip(*films, strict=True))
    others, _ = compare_people(face_signatures(texture, facing), np.arange(len(texture)) / 25)
    ends = np.cumsum([len(t) for t, _ in films])[:-1]
    return [float(part.mean()) for part in np.split(others, ends)]


def test_people_agree_with_themselves_more_than_with_each_other():
    one, again, two = (face_signatures(*film(p, n)) for p, n in ((1, 20), (1, 25), (2, 20)))
    assert agreement(one, again) > 0.93 and agreement(one, two) < 0.8
    np.testing.assert_allclose(np.linalg.norm(one.upper, axis=1), 1)


def test_the_person_in_most_frames_is_kept():
    assert others_in(film(1, 34), film(2, 26)) == [0, 1]
    assert others_in(film(1, 26), film(2, 34)) == [1, 0]


def test_a_person_who_comes_back_is_kept():
    assert others_in(film(1, 20), film(2, 30), film(1, 25)) == [0, 1, 0]
    assert others_in(film(1, 40), film(2, 20), film(3, 20), film(1, 20)) == [0, 1, 1, 0]


def test_one_person_alone_is_kept():
    assert others_in(film(1, 60)) == [0]
    assert others_in(film(1, 3)) == [0]


@pytest.mark.parametrize("light", [0.5, 1.4])
def test_a_cut_to_the_same_person_in_other_light_leaves_nothing_out(light):
    texture, facing = film(1, 30)
    slope = np.exp(0.3 * light_basis()[:, 1:2])
    lit = np.clip(texture * light * slope * np.array([1.0, 0.9, 0.7]), 0, 255).astype(np.uint8)
    assert others_in(film(1, 30), (lit, facing)) == [0, 0]


def test_a_turned_face_is_not_compared_with_one_from_the_front():
    """The difference comes from the pose, and there is no pair of frames with a similar pose."""
    assert np.isnan(agreement(face_signatures(*film(1, 20)), face_signatures(*film(1, 20, turn=SIDE))))


def test_people_are_compared_in_poses_that_both_show():
    assert others_in(film(1, 40), film(1, 10, turn=SIDE), film(2, 20, turn=SIDE), film(2, 10)) == [0, 0, 1, 1]


def test_frames_of_a_fade_count_as_the_other_person():
    (a, facing), (b, _) = film(1, 25), film(2, 25)
    share = np.linspace(0, 1, 25)[:, None, None]
    fade = (a * (1 - share) + b * share).astype(np.uint8), facing
    before, between, after = others_in(film(1, 60), fade, film(2, 40))
    assert before < 0.1 and between > 0.7 and after == 1


def test_a_person_with_hidden_eyes_is_not_another_person():
    """The lower face agrees, so it is a hand in front of the eyes."""
    texture, facing = film(1, 60)
    hand = texture.copy()
    eyes = face_grid().points[:, 1] > 0.005
    hand[20:40, eyes] = np.random.default_rng(4).integers(150, 170, (20, int(eyes.sum()), 3))
    others, hidden = compare_people(face_signatures(hand, facing), np.arange(60) / 25)
    assert not others.any() and hidden[20:40].all() and hidden.sum() == 20


def test_signatures_of_some_frames():
    looks = face_signatures(*film(1, 10))
    some = looks[np.array([2, 3])]
    assert isinstance(some, FaceSignatures) and len(some) == 2
    np.testing.assert_array_equal(some.turns, looks.turns[2:4])
