"""Implausible heads are named and left out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from format_writers.truth import make_truth
from format_writers.vhap import write_vhap_export
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.plausibility import MAX_COEFFICIENT, drop_torn_heads, join_names, torn_timesteps
from partnerface_ns.common.errors import InputError


@pytest.fixture(scope="module")
def truth():
    return make_truth()


@pytest.fixture(scope="module")
def capture(truth, tmp_path_factory):
    return load_capture(write_vhap_export(tmp_path_factory.mktemp("plausibility") / "person", truth))


def changed(capture, name, timestep, value):
    values = getattr(capture.track, name).clone()
    values[timestep] = value
    return replace(capture, track=replace(capture.track, **{name: values}))


def test_plausible_heads_are_kept(capture, truth):
    assert drop_torn_heads(capture, truth.head) is capture


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("expression", 9e4, r"an expression coefficient of 9e\+04"),
        ("expression", float("nan"), "an expression coefficient of nan"),
        ("jaw", torch.tensor([3.0, 0, 0]), "jaw turned by 172 degrees"),
        ("jaw", torch.tensor([3.0, 3.0, 3.0]), "jaw turned by 62 degrees"),
        ("eyes", torch.tensor([0, 0, 0, 0, 2.5, 0]), "eyes turned by 143 degrees"),
    ],
)
def test_a_torn_head_is_left_out_of_its_split_and_named(capture, truth, name, value, reason):
    result = drop_torn_heads(changed(capture, name, 2, value), truth.head)
    assert [frame.timestep for frame in result.frames] == [0, 1, 3, 4, 5, 6, 7]
    assert [frame.timestep for frame in result.frames_of("train")] == [0, 1, 3, 4]
    assert [frame.timestep for frame in result.frames_of("test")] == [5, 6, 7]
    assert result.num_timesteps == capture.num_timesteps
    (warning,) = result.warnings
    assert "1 of 8 frames: 00002_00.png" in warning
    assert re.search(reason, warning)


def test_a_torn_surface_is_detected_by_its_edges(capture, truth):
    """Coefficients that are small individually but tear the surface."""
    model = truth.head
    model = replace(model, expression_dirs=model.expression_dirs * 20)
    torn = changed(capture, "expression", 3, 0.9 * MAX_COEFFICIENT)
    calm = replace(torn, track=replace(torn.track, expression=torn.track.expression * (torch.arange(8) == 3)[:, None]))
    assert torn_timesteps(calm, model).keys() == {3} and "edges change" in torn_timesteps(calm, model)[3]


def test_full_turns_count_as_no_rotation(capture, truth):
    assert not torn_timesteps(changed(capture, "neck", 1, torch.tensor([0, 2 * np.pi + 0.1, 0])), truth.head)


def test_many_torn_heads_are_refused(capture, truth):
    wrong = replace(capture, track=replace(capture.track, expression=capture.track.expression + 1000))
    with pytest.raises(InputError, match=r"the tracked head is no face(.|\n)*8 of 8 frames: 00000_00\.png"):
        drop_torn_heads(wrong, truth.head)


def test_an_implausible_identity_is_refused(capture, truth):
    with pytest.raises(InputError, match="identity is no person's"):
        drop_torn_heads(replace(capture, identity=capture.identity + 1e3), truth.head)


def test_long_lists_of_names_are_shortened():
    assert join_names(list("abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more" and join_names(["a"]) == "a"
