"""The canonical field: its start, its range, what density sees, and its gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from partnerface_ns.fields.canonical_field import CanonicalField, CanonicalFieldConfig, Geometry

LOWER, UPPER = torch.tensor([-0.2, -0.25, -0.15]), torch.tensor([0.2, 0.2, 0.2])
NUM_KNOWN, NUM_AMBIENT = 2, 2


@pytest.fixture
def config() -> CanonicalFieldConfig:
    return CanonicalFieldConfig(resolutions=(8, 16), num_channels=2, hidden=8)


@pytest.fixture
def field(config) -> CanonicalField:
    return CanonicalField(config, LOWER, UPPER, NUM_KNOWN, NUM_AMBIENT)


def stir(field: CanonicalField) -> CanonicalField:
    """Parameters as large as after training."""
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return field


def inside(num: int) -> torch.Tensor:
    return LOWER + (0.02 + 0.96 * torch.rand(num, 3)) * (UPPER - LOWER)


def geometry_at(field: CanonicalField, points: torch.Tensor, prior: torch.Tensor) -> Geometry:
    return field.geometry(points, points.new_zeros(len(points), NUM_KNOWN), prior)


def color_at(field: CanonicalField, points: torch.Tensor, directions: torch.Tensor, ambient: torch.Tensor):
    return field.color(geometry_at(field, points, torch.zeros(len(points))).features, directions, ambient)


def some_directions(num: int) -> torch.Tensor:
    return F.normalize(torch.randn(num, 3), dim=1)


def test_density_begins_as_expected(field):
    prior = torch.linspace(-5, 6, 40)
    geometry = geometry_at(field, inside(40), prior)
    assert_close(geometry.density, prior.exp())
    assert not geometry.correction.any()


def test_where_nothing_is_expected_there_is_nothing_whatever_was_learned(field):
    geometry = geometry_at(stir(field), inside(20), torch.full((20,), -torch.inf))
    assert not geometry.density.any()
    assert geometry.correction.any()


def test_nothing_lies_outside_the_box(field):
    outside = inside(30)
    outside[:15, 0], outside[15:, 2] = UPPER[0] + 0.01, LOWER[2] - 0.01
    assert not geometry_at(stir(field), outside, torch.full((30,), 5.0)).density.any()


def test_density_is_learned_on_a_logarithmic_scale_and_stays_finite(field):
    points = inside(50)
    low, high = (geometry_at(stir_same(field), points, torch.full((50,), p)).density for p in (0.0, 1.0))
    assert_close(high / low, torch.full((50,), math.e), rtol=1e-4, atol=0)
    assert geometry_at(field, points, torch.full((50,), 500.0)).density.isfinite().all()


def stir_same(field: CanonicalField) -> CanonicalField:
    torch.manual_seed(1)
    return stir(field)


def test_colour_is_in_its_range(field):
    stir(field)
    with torch.no_grad():
        weight = field.color_network[-1].weight
        weight.copy_(50 * weight.abs() * torch.tensor([[1.0], [-1.0], [1.0]]))
    rgb = color_at(field, inside(200), some_directions(200), torch.randn(200, NUM_AMBIENT))
    assert ((rgb >= 0) & (rgb <= 1)).all()
    assert rgb.min() < 0.05 and rgb.max() > 0.95


def test_density_and_colour_see_all_planes(field):
    points, directions, ambient = inside(30), some_directions(30), torch.randn(30, NUM_AMBIENT)
    stir(field)
    for plane in field.planes:
        geometry, rgb = geometry_at(field, points, torch.zeros(30)), color_at(field, points, directions, ambient)
        with torch.no_grad():
            plane.add_(0.5)
        assert not torch.allclose(geometry_at(field, points, torch.zeros(30)).density, geometry.density)
        assert not torch.allclose(color_at(field, points, directions, ambient), rgb)


def test_density_sees_the_place_and_what_is_known_of_it_where_planes_say_nothing(field):
    stir(field)
    with torch.no_grad():
        for plane in field.planes:
            plane.zero_()
    points, known, prior = inside(20), torch.randn(20, NUM_KNOWN), torch.zeros(20)
    density = field.geometry(points, known, prior).density
    assert not torch.allclose(field.geometry(points, known + 0.5, prior).density, density)
    assert not torch.allclose(field.geometry(points.flip(0), known, prior).density, density)


def turned(*angles: float) -> torch.Tensor:
    """Directions from the front, turned about the vertical, radians."""
    return torch.tensor([[math.sin(a), 0.0, -math.cos(a)] for a in angles])


def test_colour_ignores_views_beyond_those_of_training(field):
    stir(field).eval()
    points, ambient = inside(1).expand(4, 3), torch.zeros(4, NUM_AMBIENT)
    shown = lambda: color_at(field, points, turned(0.1, 0.4, 0.6, 1.0), ambient)  # noqa: E731
    before = shown()
    assert (before[1:] - before[:-1]).abs().amax(1).min() > 1e-4, "anywhere, as long as nothing was seen"
    for _ in range(1500):
        spread = turned(*(0.1 * torch.randn(16)).tolist(), 1.2)
        field.update_view_statistics(spread, torch.tensor([[1.0]] * 16 + [[0.0]]))
    after = shown()
    assert_close(after[0], before[0])
    assert_close(after[1], after[2])
    assert_close(after[1], after[3])
    assert (after[1] - after[0]).abs().max() > 1e-4
    assert_close(color_at(field.train(), points, turned(0.1, 0.4, 0.6, 1.0), ambient), before)
    stored = {name: value for name, value in field.state_dict().items() if not name.startswith("view_")}
    older = CanonicalField(field.config, LOWER, UPPER, NUM_KNOWN, NUM_AMBIENT)
    older.load_state_dict(stored)
    assert_close(color_at(older.eval(), points, turned(0.1, 0.4, 0.6, 1.0), ambient), before)


def test_colour_depends_on_the_view_and_the_ambient_coordinates(field, config):
    points, directions, ambient = inside(20), some_directions(20), torch.randn(20, NUM_AMBIENT)
    stir(field)
    rgb = color_at(field, points, directions, ambient)
    assert not torch.allclose(color_at(field, points, -directions, ambient), rgb)
    assert not torch.allclose(color_at(field, points, directions, ambient + 1), rgb)
    config.view_dependent = False
    matte = stir(CanonicalField(config, LOWER, UPPER, NUM_KNOWN, NUM_AMBIENT))
    assert torch.equal(color_at(matte, points, directions, ambient), color_at(matte, points, -directions, ambient))


def test_features_are_bilinear_in_the_contracted_planes(field):
    """At a cell's corner, and between two corners."""
    plane = torch.rand(3, 2, 8, 8)
    axis = torch.linspace(-1, 1, 8)
    target = torch.tensor([axis[2], (axis[3] + axis[4]) / 2, axis[5]])
    point = unspaced(field, target)[None]
    assert_close(field.contract(point)[0], target, atol=1e-5, rtol=0)
    with torch.no_grad():
        field.planes[0].copy_(plane)
    field.config.symmetry = 0.0
    features = field.features(field.contract(point))[:6, 0]
    xy = (plane[0, :, 3, 2] + plane[0, :, 4, 2]) / 2
    yz = (plane[1, :, 5, 3] + plane[1, :, 5, 4]) / 2
    xz = plane[2, :, 5, 2]
    assert_close(features, torch.cat([xy, yz, xz]), atol=1e-4, rtol=0)


def unspaced(field: CanonicalField, target: torch.Tensor) -> torch.Tensor:
    """The point whose contracted coordinates are given, by bisection."""
    low, high = LOWER.clone(), UPPER.clone()
    for _ in range(60):
        half = (low + high) / 2
        below = field.contract(half[None])[0] < target
        low, high = torch.where(below, half, low), torch.where(below, high, half)
    return half


def test_the_contraction_is_monotone_and_finer_at_the_centre(field):
    line = torch.lerp(LOWER, UPPER, torch.linspace(0, 1, 101)[:, None])
    contracted = field.contract(line)
    assert_close(contracted[[0, -1]], torch.tensor([[-1.0] * 3, [1.0] * 3]))
    steps = contracted.diff(dim=0)
    assert (steps > 0).all()
    assert (steps[50] > 1.2 * steps[0]).all()


def test_cells_are_smallest_at_the_focus_and_mirrored_in_x(config):
    focus = torch.tensor([0.05, 0.06, 0.1])
    field = CanonicalField(config, LOWER, UPPER, NUM_KNOWN, NUM_AMBIENT, focus)
    share = torch.linspace(0, 1, 401)[:, None]
    line = LOWER + share * (UPPER - LOWER)
    contracted = field.contract(line)
    assert_close(contracted[[0, -1]], torch.tensor([[-1.0] * 3, [1.0] * 3]))
    assert_close(field.uncontract(contracted), line, atol=1e-5, rtol=0)
    widest = line[contracted.diff(dim=0).argmax(0), range(3)]
    center = (LOWER + UPPER) / 2
    assert_close(widest, torch.tensor([center[0], focus[1], focus[2]]), atol=0.005, rtol=0)
    mirrored = torch.tensor([[center[0] + 0.03, 0.0, 0.0], [center[0] - 0.03, 0.0, 0.0]])
    assert_close(field.contract(mirrored)[0, 0], -field.contract(mirrored)[1, 0])


def test_cells_of_an_older_field_are_smallest_at_the_centre_of_its_box(config):
    older = CanonicalField(config, LOWER - 0.1, UPPER, NUM_KNOWN, NUM_AMBIENT)
    state = {name: value for name, value in older.state_dict().items() if name != "focus"}
    field = CanonicalField(config, LOWER, UPPER, NUM_KNOWN, NUM_AMBIENT, torch.tensor([0.0, 0.06, 0.1]))
    field.load_state_dict(state)
    points = inside(20)
    assert_close(field.contract(points), older.contract(points))


def test_coarse_features_of_the_mirrored_point_are_added(config):
    """A coarse feature appears, weaker, at the mirrored point; a fine one does not."""
    config.symmetry = 0.25
    lower, upper = torch.tensor([-0.2, -0.25, -0.15]), torch.tensor([0.2, 0.2, 0.2])
    field = CanonicalField(config, lower, upper, NUM_KNOWN, NUM_AMBIENT)
    points = inside(40)
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0])
    with torch.no_grad():
        field.planes[0].zero_()
        field.planes[0][[0, 2], :, :, 4:] = 1.0  # the side of positive x
    right = (points[:, 0] > 0.06)[:, None]
    here, there = (geometry_at(field, p, torch.zeros(40)).features for p in (points, mirrored))
    of_x = torch.tensor([0, 1, 4, 5])
    assert_close(here[of_x][:, right[:, 0]], torch.ones(4, int(right.sum())))
    assert_close(there[of_x][:, right[:, 0]], torch.full((4, int(right.sum())), 0.25))
    config.symmetry = 0.0
    alone = CanonicalField(config, lower, upper, NUM_KNOWN, NUM_AMBIENT)
    with torch.no_grad():
        alone.planes[0].copy_(field.planes[0])
    assert not geometry_at(alone, mirrored[right[:, 0]], torch.zeros(int(right.sum()))).features[of_x].any()


def test_all_parameters_have_finite_gradients(field):
    points = torch.cat([inside(40), UPPER[None] + 1, LOWER[None]]).requires_grad_()
    prior = torch.cat([torch.zeros(40), torch.full((2,), -torch.inf)])
    stir(field)
    geometry = geometry_at(field, points, prior)
    rgb = field.color(geometry.features, some_directions(42), torch.randn(42, NUM_AMBIENT))
    (geometry.density.sum() + rgb.sum()).backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert points.grad.isfinite().all() and points.grad[:40].any()


def test_density_has_right_gradients(field):
    stir(field).double()
    points = inside(20).double().requires_grad_()
    density = lambda x: geometry_at(field, x, torch.zeros(20, dtype=torch.float64)).density  # noqa: E731
    (gradient,) = torch.autograd.grad(density(points).sum(), points)
    step = 1e-4 * F.normalize(torch.randn_like(points), dim=1)
    with torch.no_grad():
        # Single precision inside, and planes have kinks. A few points lie at a kink; the others agree roughly.
        difference = (density(points + step) - density(points - step)) / 2
    assert difference.abs().median() > 1e-5
    assert torch.isclose((gradient * step).sum(1), difference, rtol=0.2, atol=2e-6).sum() > 15


def test_a_field_without_ambient_coordinates(config):
    field = CanonicalField(config, LOWER, UPPER, NUM_KNOWN, 0)
    rgb = color_at(field, inside(4), some_directions(4), torch.zeros(4, 0))
    assert rgb.shape == (4, 3)


def test_a_nan_position_gives_nan_and_no_crash(field):
    """Otherwise the backward pass on a CPU writes outside the planes."""
    points = inside(600)
    points[::7] = math.nan
    geometry = geometry_at(stir(field), points, torch.zeros(600))
    assert geometry.density[::7].isnan().all() and geometry.density[1::7].isfinite().all()
    geometry.density.sum().backward()
    assert not all(parameter.grad.isfinite().all() for parameter in field.density_network.parameters())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_views_of_a_non_finite_step_are_ignored(field, bad):
    mean, square = field.view_mean.clone(), field.view_square.clone()
    weights = torch.ones(5, 1)
    weights[2] = bad
    field.update_view_statistics(some_directions(5), weights)
    assert torch.equal(field.view_mean, mean) and torch.equal(field.view_square, square)
    field.update_view_statistics(some_directions(5), torch.ones(5, 1))
    assert not torch.equal(field.view_mean, mean)


def test_roughness_is_that_of_neighbouring_cells(field):
    for planes in field.planes:
        planes.data.fill_(0.7)
    assert field.roughness() == 0
    coarse = field.planes[0]
    coarse.data[0, 0, 2, 3] += 2.0
    num, side = coarse.shape[0] * coarse.shape[1], coarse.shape[-1]
    expected = 4 * 4.0 / (num * (side - 1) * side)
    mean = torch.stack([field.roughness() for _ in range(8000)]).mean()
    assert_close(mean, torch.tensor(expected), rtol=0.15, atol=0)
