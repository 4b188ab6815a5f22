"""Regions derived from a head model's weights and shape."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.flame.regions import REGION_NAMES, derive_regions


@pytest.fixture
def regions(head_arrays) -> dict[str, np.ndarray]:
    return derive_regions(head_arrays["v_template"], head_arrays["f"], head_arrays["weights"], {})


def test_every_region_is_a_mask(regions, head_arrays):
    assert tuple(regions) == REGION_NAMES
    for mask in regions.values():
        assert mask.shape == (len(head_arrays["v_template"]),) and mask.dtype == np.float32
        assert mask.min() >= 0 and mask.max() <= 1


def test_regions_lie_where_their_names_say(regions, head_arrays):
    verts, weights = head_arrays["v_template"], head_arrays["weights"]
    where = {name: verts[mask > 0.5] for name, mask in regions.items()}
    assert ((regions["head"] > 0) != (regions["torso"] > 0)).all()
    assert where["torso"][:, 1].max() < -0.05
    np.testing.assert_array_equal(regions["eyeballs"] > 0.5, weights[:, 3:].sum(1) > 0.5)
    eyes = verts[regions["eyeballs"] > 0.5]
    assert all(np.linalg.norm(eyes - lid, axis=1).min() < 0.006 for lid in where["eyelids"])
    assert (where["face"][:, 2] > 0).all()
    assert (np.abs(where["ears"][:, 0]) > 0.08).all() and len(where["ears"])
    assert not (regions["eyeballs"] * regions["eyelids"]).any()


def test_lips_meet_where_the_jaw_does():
    """A flat face of two rows: skull above, jaw below, 8 mm apart at the front only."""
    depth = np.linspace(0, 0.1, 11)
    gap = np.where(depth > 0.06, 0.008, 0.05)
    upper = np.stack([np.zeros(11), gap / 2, depth], -1)
    lower = np.stack([np.zeros(11), -gap / 2, depth], -1)
    weights = np.zeros((22, 5))
    weights[:11, 1] = weights[11:, 2] = 1
    lips = derive_regions(np.concatenate([upper, lower]), np.zeros((1, 3), int), weights, {})["lips"]
    np.testing.assert_array_equal(lips > 0, np.tile(depth > 0.06, 2))


def test_a_head_without_jaw_or_eyes_has_empty_regions_for_them(head_arrays):
    weights = np.zeros_like(head_arrays["weights"])
    weights[:, 1] = 1
    regions = derive_regions(head_arrays["v_template"], head_arrays["f"], weights, {})
    for name in ("lips", "eyeballs", "eyelids", "jaw", "torso"):
        assert not regions[name].any(), name


def test_given_masks_are_kept(head_arrays):
    given = {"inside_mouth": np.linspace(0, 1, len(head_arrays["v_template"]))}
    regions = derive_regions(head_arrays["v_template"], head_arrays["f"], head_arrays["weights"], given)
    np.testing.assert_allclose(regions["inside_mouth"], given["inside_mouth"], rtol=1e-6)
