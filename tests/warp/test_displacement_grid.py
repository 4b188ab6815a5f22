"""Surface samples and the displacement grid."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.warp.displacement_grid import DisplacementGrid, DisplacementGridConfig, sample_surface


@pytest.fixture
def verts(tiny_shaped) -> torch.Tensor:
    return tiny_shaped.verts_rest


@pytest.fixture
def grid(tiny_shaped, verts) -> DisplacementGrid:
    return DisplacementGrid(DisplacementGridConfig(shape=(16, 32, 16)), verts, tiny_shaped.model)


def on_head(grid: DisplacementGrid, verts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Splatted surface samples, and the layer of each."""
    return torch.einsum("sk,skc->sc", grid._barycentric, verts[grid._triangles]), grid._layer


def of_layer(read: torch.Tensor, layer: torch.Tensor) -> torch.Tensor:
    return read[layer, torch.arange(read.shape[1])]


@pytest.mark.parametrize("spacing", [0.004, 0.02, 1.0])
def test_samples_lie_in_their_triangles_and_share_their_area(tiny_head, spacing):
    samples = sample_surface(tiny_head.template, tiny_head.faces, spacing)
    assert (samples.barycentric >= 0).all()
    assert_close(samples.barycentric.sum(1), torch.ones(len(samples.barycentric)))
    a, b, c = tiny_head.template[tiny_head.faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    for face, expected in zip(tiny_head.faces, area, strict=True):
        inside = (samples.triangle == face).all(1)
        assert inside.any()
        assert_close(samples.area[inside].sum(), expected)


def test_samples_are_spread_evenly():
    """No point of a large triangle is farther from a sample than about the spacing."""
    verts = torch.tensor([[0.0, 0.0, 0.0], [0.02, 0.0, 0.0], [0.0, 0.02, 0.0]])
    samples = sample_surface(verts, torch.tensor([[0, 1, 2]]), 0.003)
    at = torch.einsum("sk,skc->sc", samples.barycentric, verts[samples.triangle])
    anywhere = torch.rand(2000, 3).log().neg()
    anywhere = (anywhere / anywhere.sum(1, keepdim=True)) @ verts
    assert torch.cdist(anywhere, at).amin(1).max() < 0.0045
    assert_close(at.mean(0), verts.mean(0), atol=1e-3, rtol=0)


def test_the_canonical_surface_has_no_displacement(grid, verts):
    assert not grid.splat(verts[None]).any()


def test_a_shift_of_the_whole_surface_is_undone_on_it(grid, verts):
    shift = torch.tensor([0.004, -0.003, 0.002])
    field = grid.splat((verts + shift)[None])[0]
    points, layer = on_head(grid, verts + shift)
    read = of_layer(grid.read(field, points), layer)
    assert ((read + shift).norm(dim=1) < 0.1 * shift.norm()).all(), "stillness takes a little of it"


def test_a_turn_is_undone_on_the_surface(grid, verts):
    turned = verts @ rotation_from_axis_angle(torch.tensor([0.05, 0.1, 0.0])).T
    field = grid.splat(turned[None])[0]
    (points, layer), (expected, _) = on_head(grid, turned), on_head(grid, verts)
    off = (points + of_layer(grid.read(field, points), layer) - expected).norm(dim=1)
    assert off.mean() < 0.1 * (points - expected).norm(dim=1).mean()


def test_each_layer_follows_its_own_surface(grid, tiny_head, verts):
    """The jaw opens and the rest stays; both layers are right where they touch."""
    shift = 0.02 * (tiny_head.skinning_weights[:, 2] > 0.5).float()[:, None] * torch.tensor([0.0, -1.0, 0.0])
    field = grid.splat((verts + shift)[None])[0]
    points, layer = on_head(grid, verts + shift)
    corners = shift[grid._triangles]
    pure = (corners == corners[:, :1]).all(-1).all(-1)
    moved = corners[:, 0, 1] < 0
    read = grid.read(field, points)
    assert (pure & moved & (layer == 1)).sum() > 20 and (pure & ~moved & (layer == 0)).sum() > 20
    assert ((read[1] + corners[:, 0])[pure & moved & (layer == 1)].norm(dim=1).mean()) < 0.004
    assert read[0][pure & ~moved & (layer == 0)].norm(dim=1).mean() < 0.002


def test_the_field_fades_away_from_the_surface_and_ends_at_the_grid(open_skinning):
    """In front of the chin of an opening mouth the field never grows outward; without `stillness` it fades less."""
    head, canonical = open_skinning.head, open_skinning.canonical.verts
    state = HeadState.neutral(head.model.num_expr)
    state.jaw[0] = 0.35
    verts = head.pose(state).verts
    chin = (head.model.regions["face"] * (canonical - verts).norm(dim=1)).argmax()
    line = verts[chin] + torch.tensor([0.0, 0.0, 1.0]) * torch.tensor([0.0, 0.01, 0.02, 0.04, 0.5])[:, None]
    size = {}
    for stillness in (0.0, 0.02):
        grid = DisplacementGrid(DisplacementGridConfig(stillness=stillness), canonical, head.model)
        size[stillness] = grid.read(grid.splat(verts[None])[0], line)[1].norm(dim=1)
    assert (size[0.02].diff() < 0).all()
    assert size[0.02][0] > 0.9 * (canonical - verts)[chin].norm()
    assert size[0.02][3] < 0.3 * size[0.02][0]
    assert (size[0.02][1:4] < 0.8 * size[0.0][1:4]).all()
    assert size[0.02][4] == 0


def test_frames_do_not_touch_each_other(grid, verts):
    surfaces = verts + 0.01 * torch.randn(3, *verts.shape)
    together = grid.splat(surfaces)
    for field, surface in zip(together, surfaces, strict=True):
        assert_close(field, grid.splat(surface[None])[0])


def test_a_surface_outside_the_grid_is_clamped_to_it(grid, verts):
    assert grid.splat((verts + 1.0)[None]).isfinite().all()


def test_cells_are_finer_at_the_face(grid, tiny_head, verts):
    face = verts[tiny_head.regions["face"] > 0.5].mean(0)
    step = torch.tensor([[0.0, 0.001, 0.0]])
    cells = lambda p: float((grid._normalize(p + step) - grid._normalize(p))[0, 1])  # noqa: E731
    assert cells(face[None]) > 1.3 * cells(face[None] + torch.tensor([[0.0, 0.1, 0.0]]))
