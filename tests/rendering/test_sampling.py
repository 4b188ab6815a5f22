"""Ray sampling: inverse transform sampling, boxes, probes and the occupancy grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.rendering.occupancy import OccupancyGrid
from partnerface_ns.rendering.sampling import (
    SamplingConfig,
    along,
    box_interval,
    interpolate_even,
    invert_piecewise_linear,
    midpoints,
    probe_edges,
    propose,
    refine,
)

# -- inverting a distribution ---------------------------------------------------------------------------------------


def test_inverse_equals_numpys_interpolation():
    x = torch.rand(6, 9).cumsum(1)
    y = torch.nn.functional.pad((torch.rand(6, 8) + 0.01).cumsum(1), (1, 0))
    targets = torch.rand(6, 20) * y[:, -1:]
    found = invert_piecewise_linear(x, y, targets)
    for row, xs, ys, ts in zip(found, x, y, targets, strict=True):
        assert_close(
            row.double(), torch.from_numpy(np.interp(ts.double(), ys.double(), xs.double())), atol=1e-5, rtol=0
        )


def test_inverse_of_values_beyond_the_ends_is_an_end():
    x, y = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.0, 0.5, 1.0]])
    assert_close(
        invert_piecewise_linear(x, y, torch.tensor([[-1.0, 0.0, 1.0, 9.0]])), torch.tensor([[1.0, 1.0, 4.0, 4.0]])
    )


def test_inverse_where_the_function_is_flat_is_finite_and_on_the_flat():
    x, y = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.5, 0.5, 1.0]])
    found = float(invert_piecewise_linear(x, y, torch.tensor([[0.5]])))
    assert 1 <= found <= 2


# -- intervals ------------------------------------------------------------------------------------------------------


def probes(rays: int, num: int = 20) -> torch.Tensor:
    """Even edges from 1 m to 2 m."""
    return torch.linspace(1, 2, num + 1).expand(rays, -1)


@pytest.mark.parametrize("jitter", [False, True])
def test_intervals_ascend_within_the_probes_and_empty_rays_are_left_out(jitter):
    density = 100 * torch.rand(8, 20)
    density[torch.rand(8, 20) < 0.6] = 0
    density[[2, 5]] = 0
    density[3], density[3, 7] = 0, 5.0
    config = SamplingConfig(num_proposals=6)
    edges, ray = propose(probes(8), density, config, jitter)
    assert ray.tolist() == [0, 1, 3, 4, 6, 7]
    assert edges.shape == (6, 7)
    assert (edges.diff(dim=1) >= 0).all()
    assert ((edges >= 1) & (edges <= 2)).all()
    inside = (edges[2] >= 1 + 7 / 20 - 1e-6) & (edges[2] <= 1 + 8 / 20 + 1e-6)
    assert inside.all(), "the one occupied probe gets all"


def test_rays_that_are_all_empty_give_no_intervals():
    edges, ray = propose(probes(3), torch.zeros(3, 20), SamplingConfig(num_proposals=4), jitter=True)
    assert edges.shape == (0, 5) and len(ray) == 0


def test_intervals_gather_at_the_first_surface_and_some_stay_elsewhere():
    density = torch.zeros(1, 20)
    density[0, 5], density[0, 15] = 1e4, 1e4
    edges, _ = propose(probes(1), density, SamplingConfig(num_proposals=400, uniform_fraction=0.2), jitter=False)
    at_first = ((edges >= 1.25) & (edges <= 1.3)).float().mean()
    at_second = ((edges >= 1.75) & (edges <= 1.8)).float().mean()
    assert at_first + at_second > 0.99
    assert 0.08 < at_second < 0.3
    assert at_first > 0.6


def test_a_surface_behind_the_first_dense_probe_gets_samples():
    """The grid is coarse, so no probe hides the next one."""
    density = torch.zeros(1, 20)
    density[0, 5:7] = 1e4
    edges, _ = propose(probes(1), density, SamplingConfig(num_proposals=200, uniform_fraction=0.0), jitter=False)
    assert ((edges > 1.3) & (edges <= 1.35)).float().mean() > 0.03


def test_samples_are_the_same_in_evaluation_and_differ_in_training():
    density = torch.rand(4, 20)
    draw = lambda jitter: propose(probes(4), density, SamplingConfig(), jitter).edges  # noqa: E731
    assert torch.equal(draw(False), draw(False))
    assert not torch.equal(draw(True), draw(True))


def test_half_of_the_samples_gather_where_the_field_is_dense_and_half_stay_with_the_proposals():
    config = SamplingConfig(num_proposals=200, num_samples=400, proposal_fraction=0.5)
    proposed = propose(probes(1), torch.full((1, 20), 1.0), config, jitter=False)
    at = midpoints(proposed.edges)
    dense = (at > 1.6) & (at < 1.61)
    edges, ray = refine(proposed, torch.where(dense, 1e4, 1e-6), config, jitter=False)
    assert ray.tolist() == [0] and edges.shape == (1, 401)
    near = ((edges > 1.59) & (edges < 1.62)).float().mean()
    assert 0.45 < near < 0.6
    assert 0.2 < (edges < 1.5).float().mean() < 0.35, "the other half spreads as the proposals do"


def test_refined_samples_belong_to_the_rays_of_the_proposals():
    density = torch.rand(5, 20)
    density[[0, 3]] = 0
    proposed = propose(probes(5), density, SamplingConfig(), jitter=False)
    at_field = torch.ones(3, 32)
    at_field[1] = 0
    assert refine(proposed, at_field, SamplingConfig(), jitter=False).ray.tolist() == [1, 4]


def test_interpolation_between_even_knots_equals_numpys():
    values, at = torch.rand(4, 9, 3), 3 * torch.rand(4, 30) - 0.5
    first, step = torch.rand(4), 0.1 + 0.2 * torch.rand(4)
    found = interpolate_even(values, first, step, at)
    for row, v, f, d, t in zip(found, values, first, step, at, strict=True):
        knots = f + d * torch.arange(9)
        expected = np.stack([np.interp(t.numpy(), knots.numpy(), v[:, c].numpy()) for c in range(3)], -1)
        assert_close(row, torch.from_numpy(expected).float(), atol=1e-4, rtol=0)


# -- boxes and probes -----------------------------------------------------------------------------------------------


def test_a_box_is_entered_and_left_where_small_steps_say():
    origins = 2 * torch.rand(60, 3) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(60, 3), dim=1)
    lower, upper = torch.tensor([0.0, 0.1, 0.2]).expand(60, 3), torch.tensor([1.0, 0.8, 0.9]).expand(60, 3)
    near, far = box_interval(origins, directions, lower, upper)
    t = torch.linspace(0, 6, 6001)
    points = origins[:, None] + t[:, None] * directions[:, None]
    inside = ((points > lower[:, None]) & (points < upper[:, None])).all(-1)
    assert 5 < inside.any(1).sum() < 55
    for hit, n, f in zip(inside, near, far, strict=True):
        if hit.any():
            assert_close(torch.stack([n, f]), torch.stack([t[hit].min(), t[hit].max()]), atol=0.002, rtol=0)
        else:
            assert f - n < 0.002


def test_rays_along_an_axis_and_from_within_are_no_exception():
    origins = torch.tensor([[0.5, 0.5, -1.0], [0.5, 0.5, 0.5], [2.0, 0.5, -1.0]])
    directions = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    near, far = box_interval(origins, directions, torch.zeros(3, 3), torch.ones(3, 3))
    assert_close(near[:2], torch.tensor([1.0, 0.0]))
    assert_close(far[:2], torch.tensor([2.0, 0.5]))
    assert near[2] == far[2], "it passes by"


def test_a_box_behind_the_camera_is_missed():
    near, far = box_interval(
        torch.tensor([[0.5, 0.5, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3), torch.ones(1, 3)
    )
    assert near == far == 0


def test_probes_are_even_and_jitter_moves_them_by_less_than_one():
    near, far = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 4.0, 4.0])
    edges = probe_edges(near, far, 4, jitter=False)
    assert_close(edges[1], torch.tensor([2.0, 2.5, 3.0, 3.5, 4.0]))
    assert not edges[2].diff().any()
    shifted = probe_edges(near, far, 4, jitter=True)
    assert_close(shifted.diff(dim=1), edges.diff(dim=1))
    assert ((shifted - edges).abs() <= (far - near)[:, None] / 8 + 1e-6).all()
    assert (shifted - edges)[:2].abs().min() > 0


def test_points_lie_along_rays():
    origins, directions, distances = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 4)
    points = along(origins, directions, distances)
    for r in range(5):
        for s in range(4):
            assert_close(points[r, s], origins[r] + distances[r, s] * directions[r])


# -- remembered density ---------------------------------------------------------------------------------------------

SIDE = 8
CELL = 0.1
"""Metres; the box is from 0 to 0.8, 0.9 and 1.0 m."""
LOWER, UPPER = torch.zeros(3), torch.tensor([0.8, 0.9, 1.0])


def grid_of(*cells: tuple[int, int, int]) -> OccupancyGrid:
    possible = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.bool)
    for cell in cells:
        possible[cell] = True
    return OccupancyGrid(SIDE, LOWER, UPPER, possible.flatten())


def middle(*cell: int) -> torch.Tensor:
    return LOWER + (torch.tensor(cell) + 0.5) * (UPPER - LOWER) / SIDE


def index_of(x: int, y: int, z: int) -> torch.Tensor:
    return torch.tensor([(x * SIDE + y) * SIDE + z])


def test_possible_cells_are_expected_to_be_full_and_others_empty():
    grid = grid_of((1, 2, 3), (7, 0, 0))
    assert grid.probe(middle(1, 2, 3)) > 0 and grid.probe(middle(7, 0, 0)) > 0
    assert grid.probe(middle(3, 2, 1)) == 0
    assert not grid.probe(torch.tensor([[-0.01, 0.2, 0.2], [0.2, 0.95, 0.2], [0.2, 0.2, 5.0]])).any()


def test_a_probe_reads_the_cell_that_it_lies_in(batch):
    grid = grid_of((1, 2, 3))
    grid.dilated.copy_(torch.rand(SIDE**3) + 1)
    points = torch.rand(*batch, 3) * UPPER
    found = grid.probe(points)
    assert found.shape == batch
    for value, point in zip(found.reshape(-1), points.reshape(-1, 3), strict=True):
        x, y, z = (math.floor(float(p) / float(u) * SIDE) for p, u in zip(point, UPPER, strict=True))
        assert value == grid.dilated[index_of(x, y, z)]


def test_drawn_points_lie_in_their_cells_which_are_possible_ones():
    cells = [(1, 2, 3), (4, 4, 4), (7, 0, 6)]
    grid = grid_of(*cells)
    index, points = grid.draw(150)
    assert len(index) == 150
    assert set(index.tolist()) == {int(index_of(*c)) for c in cells}
    corner = (points / UPPER * SIDE).floor().long()
    assert torch.equal((corner[:, 0] * SIDE + corner[:, 1]) * SIDE + corner[:, 2], index)


def test_new_density_is_dilated_by_one_cell_and_decays():
    config = SamplingConfig(decay=0.5, empty_below=1.0)
    grid = grid_of((4, 4, 4))
    grid.density.zero_()
    grid.update(index_of(4, 4, 4), torch.tensor([16.0]), config)
    full = grid.dilated.reshape(SIDE, SIDE, SIDE)
    assert (full[3:6, 3:6, 3:6] == 16).all()
    assert full.sum() == 27 * 16
    nothing = torch.zeros(0, dtype=torch.long)
    grid.update(nothing, torch.zeros(0), config)
    assert grid.probe(middle(5, 5, 5)) == 8
    for _ in range(3):
        grid.update(nothing, torch.zeros(0), config)
    assert grid.probe(middle(4, 4, 4)) == 1
    grid.update(nothing, torch.zeros(0), config)
    assert grid.probe(middle(4, 4, 4)) == 0, "below what counts as empty"


def test_the_larger_of_old_and_new_density_is_kept():
    config = SamplingConfig(decay=0.5)
    grid = grid_of((4, 4, 4))
    grid.density.fill_(40.0)
    cell = index_of(4, 4, 4)
    grid.update(cell.repeat(2), torch.tensor([3.0, 7.0]), config)
    assert grid.density[cell] == 20
    grid.update(cell.repeat(3), torch.tensor([3.0, 70.0, 5.0]), config)
    assert grid.density[cell] == 70


@pytest.mark.parametrize(
    ("density", "counts"), [([9.0, 80.0], False), ([9.0, math.nan], None), ([math.inf, 80.0], True)]
)
def test_a_disabled_or_non_finite_update_changes_nothing(density, counts):
    grid, nothing = grid_of((4, 4, 4)), torch.zeros(0, dtype=torch.long)
    grid.update(nothing, torch.zeros(0), SamplingConfig())
    before = {name: value.clone() for name, value in grid.state_dict().items()}
    index, counts = index_of(4, 4, 4).repeat(2), None if counts is None else torch.tensor(counts)
    grid.update(index, torch.tensor(density), SamplingConfig(), counts)
    assert torch.equal(grid.density, before["density"]) and torch.equal(grid.dilated, before["dilated"])
    grid.update(index, torch.tensor([9.0, 80.0]), SamplingConfig(), torch.tensor(True))
    assert grid.density[index[0]] == 80


def test_surroundings_contain_occupied_cells_and_are_limited():
    big = 32
    possible = torch.zeros(big, big, big, dtype=torch.bool)
    possible[16, 16, 16] = True
    grid = OccupancyGrid(big, torch.zeros(3), torch.ones(3), possible.flatten())
    at = lambda *cell: (torch.tensor(cell) + 0.5) / big  # noqa: E731
    line = torch.stack([at(16 + d, 16, 16) for d in range(-16, 16)])
    near = grid.near_occupied(line)
    assert near[16 - 8 : 16 + 9].all()
    assert not near[:4].any() and not near[-3:].any()
    nothing = torch.zeros(0, dtype=torch.long)
    for _ in range(80):
        grid.update(nothing, torch.zeros(0), SamplingConfig())
    assert not grid.near_occupied(line).any()
    assert not grid.near_occupied(torch.tensor([[2.0, 0.5, 0.5]])).any()


def test_density_is_in_the_state_dict():
    grid, other = grid_of((4, 4, 4)), grid_of((4, 4, 4))
    grid.update(index_of(4, 4, 4), torch.tensor([99.0]), SamplingConfig())
    other.load_state_dict(grid.state_dict())
    points = torch.rand(100, 3)
    assert torch.equal(other.probe(points), grid.probe(points))
    assert not list(grid.parameters())
