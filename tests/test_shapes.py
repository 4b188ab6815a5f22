"""Shapes in signatures are checked in every test run, and a wrong one fails."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle, transform_points
from partnerface_ns.rendering.volume import weights_from_density


def test_an_axis_of_the_wrong_size_is_refused():
    rotation_from_axis_angle(torch.zeros(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError, match="vector"):
        rotation_from_axis_angle(torch.zeros(2, 4))


def test_axes_of_one_name_must_agree():
    with pytest.raises(jaxtyping.TypeCheckError):
        transform_points(torch.zeros(2, 4, 4), torch.zeros(5, 3))
    with pytest.raises(jaxtyping.TypeCheckError):
        weights_from_density(torch.zeros(2, 5), torch.zeros(2, 6))


def test_integers_are_no_positions():
    with pytest.raises(jaxtyping.TypeCheckError):
        rotation_from_axis_angle(torch.zeros(3, dtype=torch.long))


def test_the_fields_of_data_are_checked_too():
    zero = torch.zeros(2, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="eyes"):
        HeadState(torch.zeros(2, 4), zero, zero, zero, eyes=zero, translation=zero)
