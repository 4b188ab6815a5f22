"""The completion: what training does not see, in evaluation only."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.avatar import unseen_surface
from partnerface_ns.avatar.unseen_surface import UnseenSurfaceConfig, continue_surface, shell_faces
from partnerface_ns.geometry.normals import vertex_normals
from partnerface_ns.rendering.rays import Rays
from tests.avatar.small_scene import front_rays

RED, BLUE = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])


def paint(avatar, color):
    """Give all points of the field one colour."""
    output = avatar.field.color_network[-1]
    output.weight.data.zero_()
    output.bias.data.copy_(color.logit())


@pytest.fixture
def avatar(make_avatar):
    """A red person whose front was seen, within foggy air. It was painted blue after its completion."""
    avatar = make_avatar().train()
    paint(avatar, RED)
    avatar.field.density_network[-1].bias.data.fill_(2.0)
    avatar.field.view_square.fill_(0.01)  # cameras in front
    cells = avatar.grid.cell_centers(avatar.grid.resolution, avatar.grid.lower, avatar.grid.upper)
    avatar.grid.mark_reached(cells[cells[:, 2] > 0], torch.ones(int((cells[:, 2] > 0).sum())))
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    paint(avatar, BLUE)
    return avatar


def behind_rays() -> Rays:
    front = front_rays()
    turn = torch.tensor([-1.0, 1.0, -1.0])
    return Rays(front.origins * turn, front.directions * turn)


def colors_of_skull(avatar, rays, states):
    """Colours of the pixels that show the middle of the back of the head, or of the front."""
    output = avatar.render(rays, states[:1], torch.zeros(1, dtype=torch.long))
    middle = (rays.origins[0, :, :2].abs() < 0.04).all(-1)
    assert output.accumulation[0, middle].min() > 0.9
    return output.rgb[0, middle]


def test_the_back_continues_what_the_front_showed(avatar, avatar_init):
    avatar.eval()
    avatar.background.zero_()
    with torch.no_grad():
        assert_close(colors_of_skull(avatar, front_rays(), avatar_init.states).mean(0), BLUE, atol=0.1, rtol=0)
        assert_close(colors_of_skull(avatar, behind_rays(), avatar_init.states).mean(0), RED, atol=0.1, rtol=0)


def test_training_does_not_see_it(avatar, avatar_init):
    avatar.background.zero_()
    back = colors_of_skull(avatar, behind_rays(), avatar_init.states)
    assert_close(back.detach().mean(0), BLUE, atol=0.1, rtol=0)


def test_hidden_air_is_free_of_fog_and_seen_air_is_as_trained(avatar):
    behind, in_front = torch.tensor([[0.0, 0.03, -0.14]]), torch.tensor([[0.0, 0.03, 0.14]])
    foggy = avatar.density(torch.cat([behind, in_front]))
    clear = avatar.eval().density(torch.cat([behind, in_front]))
    assert foggy.min() > 5
    assert clear[0] < 0.1 and clear[1] == foggy[1]


def test_air_beyond_the_border_of_the_mesh_is_as_trained(avatar):
    """The mesh ends at the shoulders; the person's clothes may go on."""
    behind = torch.tensor([[0.0, 0.03, -0.14]])
    foggy = avatar.density(behind)
    avatar.unseen._border.fill_(True)
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    assert avatar.eval().density(behind) == foggy


def test_the_completed_surface_gets_samples(avatar):
    """The field itself may be empty there."""
    avatar.field.density_network[-1].bias.data.fill_(-20.0)
    avatar.config.sampling.update_fraction = 8.0
    avatar.grid.density.zero_()
    avatar.end_step()
    at_back = avatar.skinning.canonical.verts[avatar.skinning.canonical.verts[:, 2].argmin()]
    assert avatar.grid.probe(at_back[None]) > 1
    assert avatar.grid.probe(torch.tensor([[0.0, 0.03, 0.14]])) == 0


def test_a_completion_can_be_left_out(make_avatar):
    filled = {}
    for enabled in (True, False):
        avatar = make_avatar(unseen=UnseenSurfaceConfig(enabled=enabled)).train()
        avatar.grid.reached.fill_(1.0)
        for progress in (0.3, 0.4, 0.5):
            avatar.unseen.end_step(progress, avatar.field, avatar.skinning, avatar.grid)
        filled[enabled] = bool(avatar.field.completion.volume.any())
    assert filled == {True: True, False: False}


def test_far_from_what_is_seen_the_surface_is_typical_by_area(avatar, monkeypatch):
    """Vertices are unevenly dense: most of the seen ones are small and blue, most of the seen area is red."""
    model, verts = avatar.skinning.head.model, avatar.skinning.canonical.verts
    faces = shell_faces(model)
    shell = torch.zeros(len(verts), dtype=torch.bool)
    shell[faces.flatten()] = True
    seen_verts = (shell & (verts[:, 2] > 0) & (verts[:, 1] > 0)).nonzero()[:, 0]
    few = seen_verts[: len(seen_verts) // 2 - 1]
    assert len(few) > 1
    size = torch.full((len(verts),), 1.0)
    size[few] = 100.0
    colors = BLUE.expand(len(verts), 3).clone()
    colors[few] = RED
    measured = torch.full((len(verts),), 0.002)
    seen = torch.zeros_like(shell)
    seen[seen_verts] = True
    monkeypatch.setattr(unseen_surface, "areas_of_verts", lambda *_: size)
    monkeypatch.setattr(unseen_surface, "_measure_surface", lambda *_: (measured[shell], colors[shell], seen[shell]))
    surface = continue_surface(avatar.field, avatar.skinning, avatar.grid, vertex_normals(verts, model.faces), faces)
    lowest = verts[:, 1].where(surface.known, torch.inf).argmin()
    assert surface.known.sum() > surface.seen.sum() > 0
    assert surface.color[lowest, 0] > 0.6
    assert_close(surface.height[surface.known], torch.full((int(surface.known.sum()),), 0.002), atol=1e-4, rtol=0)


def test_the_nearest_vertices_are_found_once(avatar, monkeypatch):
    monkeypatch.setattr(unseen_surface, "VertexIndex", None)
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
