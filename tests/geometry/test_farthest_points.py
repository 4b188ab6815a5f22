"""Farthest-point sampling against its definition."""

from __future__ import annotations

import torch

from partnerface_ns.geometry.farthest_points import sample_farthest


def test_each_sample_is_the_farthest_from_those_before_it():
    points = torch.randn(50, 3, dtype=torch.float64)
    chosen = sample_farthest(points, 10, first=7).tolist()
    assert chosen[0] == 7
    for num in range(1, 10):
        distance = torch.cdist(points, points[chosen[:num]]).amin(1)
        assert chosen[num] == int(distance.argmax())


def test_all_points_are_chosen_once():
    points = torch.randn(12, 3)
    assert sorted(sample_farthest(points, 12).tolist()) == list(range(12))


def test_important_points_are_sampled_more_densely():
    points = torch.rand(500, 3)
    left = points[:, 0] < 0.5
    chosen = sample_farthest(points, 40, importance=torch.where(left, 3.0, 1.0))
    assert left[chosen].sum() > 25
