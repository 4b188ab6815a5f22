"""The terms of the energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partnerface_ns.tracking.fit import energy
from partnerface_ns.tracking.video.face_topology import IRIS_LEFT, LIPS


@pytest.mark.parametrize("function", [energy.geman_mcclure, energy.pseudo_huber])
def test_robust_functions_are_the_square_near_zero(function):
    small = torch.tensor([0.0, 1e-3])
    torch.testing.assert_close(function(small), 0.5 * small, rtol=1e-3, atol=1e-7)


def test_far_residuals_are_bounded_or_linear():
    far = torch.tensor([1e6, 4e6])
    near_limit, limit = energy.geman_mcclure(far)
    assert limit == pytest.approx(float(near_limit), rel=1e-3)
    once, twice = energy.pseudo_huber(far)
    assert twice == pytest.approx(2 * float(once), rel=1e-2)


def test_lips_have_smaller_sigmas_than_the_outline_of_the_face():
    sigmas = energy.landmark_sigmas(np.zeros(478))
    assert sigmas[list(LIPS)].max() < sigmas[234] and sigmas[IRIS_LEFT].max() < sigmas[234]
    assert (energy.landmark_sigmas(np.full(478, 9.0)) > sigmas).all()


def test_steadiness_is_zero_for_even_motion_and_across_gaps():
    even = torch.arange(6.0)[:, None] * torch.tensor([0.3, -0.2])
    everywhere = torch.tensor([0.0, 1, 1, 1, 1, 0])
    assert energy.steadiness_energy(even, 0.1, everywhere) < 1e-8
    jump = even.clone()
    jump[3:] += 1
    assert energy.steadiness_energy(jump, 0.1, everywhere) > 10
    assert energy.steadiness_energy(jump, 0.1, torch.tensor([0.0, 1, 0, 0, 1, 0])) < 1e-8


def test_steadiness_is_half_the_square_near_zero_and_linear_for_a_sudden_turn():
    everywhere = torch.tensor([0.0, 1, 0])

    def cost(second_difference: float) -> float:
        return float(energy.steadiness_energy(torch.tensor([[0.0], [0.0], [second_difference]]), 0.1, everywhere))

    assert cost(0.02) == pytest.approx(0.5 * 0.2**2, rel=1e-2)
    assert cost(20.0) == pytest.approx(2 * cost(10.0), rel=0.1)


def test_bounds_cost_nothing_inside():
    assert energy.bounds_energy(torch.tensor([[0.0, 0.5, 1.0]]), 0.0, 1.0, 0.1) == 0
    assert energy.bounds_energy(torch.tensor([[-0.1, 1.2]]), 0.0, 1.0, 0.1) == pytest.approx(0.5 * (1 + 4))
