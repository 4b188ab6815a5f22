"""Images of which only some pixels are rendered."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.avatar.render_output import Inspection, RenderOutput
from partnerface_ns.baked import sparse_image
from partnerface_ns.baked.sparse_image import MIN_SIDE, render_sparsely


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sparse_image, "MIN_SIDE", 32)


class Scene:
    """A scene whose colour is a function of the pixel; it counts the rays that it renders."""

    def __init__(self, color):
        self.color, self.rendered = color, 0

    def __call__(self, directions):
        self.rendered += len(directions)
        color = self.color(directions[:, 0], directions[:, 1])[:, None]
        three = color.expand(-1, 3)
        return RenderOutput(three, color, 2 * color, Inspection(three, three, three))


def pixels(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)], -1).float()


def render_both(color, size=(64, 48), contrast=0.05):
    scene = Scene(color)
    sparse = render_sparsely(scene, pixels(*size), contrast)
    return sparse, Scene(color)(pixels(*size).flatten(0, 1)), scene.rendered


@pytest.mark.parametrize("size", [(64, 48), (63, 49)])
def test_a_smooth_image_is_interpolated_from_a_quarter_of_its_pixels(size):
    sparse, full, rendered = render_both(lambda y, x: 0.2 + 0.004 * y + 0.006 * x, size)
    height, width = size
    assert rendered == ((height + 1) // 2) * ((width + 1) // 2)
    for name, values in full.channels().items():
        inner = slice(0, -1)  # the last row and column may have a neighbour on one side only
        found = sparse.channels()[name].view(height, width, -1)[inner, inner]
        torch.testing.assert_close(found, values.view(height, width, -1)[inner, inner], atol=1e-5, rtol=0)


def test_pixels_at_edges_are_rendered():
    sparse, full, rendered = render_both(lambda y, x: ((y - 30) ** 2 + (x - 22) ** 2 < 200).float())
    for name, values in full.channels().items():
        torch.testing.assert_close(sparse.channels()[name], values, atol=1e-6, rtol=0)
    assert rendered < 0.7 * 64 * 48


def test_a_line_between_the_coarse_pixels_is_seen_beside_other_contrast():
    """A line of one pixel at an odd column, 3 pixels from an edge: eyelashes and lips lie so."""
    sparse, full, _ = render_both(lambda y, x: ((x == 21) | (x > 23)).float())
    torch.testing.assert_close(sparse.rgb, full.rgb, atol=1e-6, rtol=0)


def test_without_a_contrast_every_pixel_is_rendered_once():
    sparse, full, rendered = render_both(lambda y, x: (x * y) % 7 / 7, contrast=0.0)
    assert rendered == 64 * 48
    assert torch.equal(sparse.rgb, full.rgb)


def test_contrast_decides_what_is_interpolated():
    waves = lambda y, x: 0.5 + 0.04 * torch.sin(x / 2)  # noqa: E731
    assert render_both(waves, contrast=0.02)[2] > 2 * render_both(waves, contrast=0.2)[2]


def test_every_pixel_of_a_small_image_is_rendered(monkeypatch):
    monkeypatch.setattr(sparse_image, "MIN_SIDE", MIN_SIDE)
    assert render_both(lambda y, x: 0.01 * x)[2] == 64 * 48
