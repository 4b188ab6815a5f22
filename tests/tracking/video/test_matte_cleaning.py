"""Removal of other people and objects from a matte."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.matte_cleaning import keep_main_person


@pytest.fixture
def landmarks() -> np.ndarray:
    """A round face of radius 30 about (100, 80)."""
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    return np.stack([100 + 30 * np.sin(angle), 80 - 30 * np.cos(angle), np.zeros(478)], -1)


@pytest.fixture
def matte(disc) -> np.ndarray:
    """A head, a neck and shoulders."""
    matte = disc(200, (100, 80), 40.0)
    matte[150:, 40:160] = 1
    matte[115:155, 85:115] = 1
    return matte


def test_regions_apart_from_face_and_body_are_removed(landmarks, matte):
    stray = matte.copy()
    stray[10:50, 180:] = 1
    stray[60:90, :8] = 0.4
    np.testing.assert_array_equal(keep_main_person(stray, landmarks), matte)


def test_a_faint_bridge_does_not_keep_a_large_region(landmarks, matte):
    stray = matte.copy()
    stray[60:63, 138:180] = 0.2
    stray[50:80, 175:] = 1
    kept = keep_main_person(stray, landmarks)
    assert not kept[:, 176:].any() and (kept[:, :138] == matte[:, :138]).all()


def test_loose_hair_and_temples_are_kept(landmarks, matte):
    matte[78:80, 142:160] = 0.6
    matte[20:38, 96:99] = 0.3
    np.testing.assert_array_equal(keep_main_person(matte, landmarks), matte)


def test_a_body_separated_from_the_head_is_kept(landmarks, matte):
    matte[125:140] = 0
    np.testing.assert_array_equal(keep_main_person(matte, landmarks), matte)


def test_a_matte_without_person_stays_empty(landmarks):
    assert not keep_main_person(np.zeros((200, 200), dtype=np.float32), landmarks).any()
