"""The completion volume: its nodes, and how it is blended with the field."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from partnerface_ns.fields.completion import CompletedPoints, Completion


def test_nodes_have_the_values_they_were_filled_with():
    """The values differ along all three axes, so that no two axes are exchanged."""
    completion, index = Completion(), torch.randperm(64**3)[:5000]
    nodes = completion.nodes()
    values = torch.cat([nodes @ torch.tensor([[0.1], [0.2], [0.4]]), nodes, nodes[:, :1] * nodes[:, 1:2]], 1)
    completion.fill(index, values[index])
    assert_close(completion.at(nodes[index]), values[index].T, atol=1e-3, rtol=0)
    others = torch.ones(len(nodes), dtype=torch.bool)
    others[index] = False
    assert completion.at(nodes[others])[0].abs().max() < 1e-3
    completion.fill(index[:10], values[index[:10]])
    assert completion.at(nodes[index[10:]])[0].abs().max() < 1e-3, "earlier values are gone"


def points(share: float, height: float) -> CompletedPoints:
    return CompletedPoints.of(torch.tensor([[share], [height], [0.2], [0.4], [0.6]]))


def test_the_share_blends_field_and_completion():
    field, color = torch.tensor([1.25]), torch.tensor([[0.8, 0.8, 0.8]])
    assert torch.equal(points(0.0, -0.01).complete_log_density(field), field)
    assert torch.equal(points(0.0, -0.01).complete_color(color), color)
    inside = points(1.0, -0.01)
    assert inside.complete_log_density(field) > 5 and points(1.0, 0.01).complete_log_density(field) < -5
    assert_close(inside.complete_color(color), torch.tensor([[0.2, 0.4, 0.6]]))
    half = points(0.5, -0.01)
    assert_close(half.complete_log_density(field), (field + inside.log_density) / 2)
    assert_close(half.complete_color(color), torch.tensor([[0.5, 0.6, 0.7]]))


def test_no_density_appears_where_none_may_be():
    assert points(1.0, -0.01).complete_log_density(torch.tensor([-torch.inf])) == -torch.inf
