"""The completion: what training does not see, in evaluation only."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.avatar import unseen_surface
from partnerface_ns.avatar.unseen_surface import ContinuedSurface, UnseenSurfaceConfig, continue_surface, shell_faces
from partnerface_ns.rendering.rays import Rays
from tests.avatar.small_scene import front_rays, with_mouth

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


def near_seen_scalp(avatar, height):
    """A point above a vertex of the scalp that faces the cameras, metres."""
    verts, unseen = avatar.skinning.canonical.verts, avatar.unseen
    scalp = torch.zeros(len(verts), dtype=torch.bool)
    scalp[unseen.faces.flatten()] = True
    scalp &= avatar.skinning.head.model.regions["torso"] < 0.5
    foremost = verts[:, 2].where(scalp, -torch.inf).argmax()
    return verts[foremost][None] * (1 + height / verts[foremost].norm())


def test_air_above_a_seen_surface_is_cleared_only_where_it_is_hidden(avatar):
    """Fog that rays pass is part of the images. Under the fog, the seen surface keeps its density and colour."""
    above, below = near_seen_scalp(avatar, 0.03), near_seen_scalp(avatar, -0.025)
    foggy = avatar.density(above)
    assert avatar.eval().density(above) == foggy > 1
    avatar.train().grid.reached.masked_fill_(avatar.grid.reached > 0, 0.2)  # few rays pass, but nothing is hidden
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    assert avatar.eval().density(above) == foggy

    def hide(point):
        cells = avatar.grid.cell_centers(avatar.grid.resolution, avatar.grid.lower, avatar.grid.upper)
        avatar.grid.reached[(cells - point).norm(dim=1) < 0.018] = 0

    avatar.train().grid.reached.fill_(1)
    hide(above)
    hide(below)
    solid = avatar.density(below)
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    values = avatar.field.completion.at(avatar.field.contract(torch.cat([above, below])))
    assert values[0, 0] > 0.7 and values[0, 1] < 0.4
    assert avatar.eval().density(above) < 1 < solid


def test_air_beyond_the_border_of_the_mesh_is_as_trained(avatar):
    """The mesh ends at the shoulders; the person's clothes may go on."""
    behind = torch.tensor([[0.0, 0.03, -0.14]])
    foggy = avatar.density(behind)
    avatar.unseen.border.fill_(True)
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
    surface = continue_surface(avatar.field, avatar.skinning, avatar.grid, faces, avatar.unseen.component)
    lowest = verts[:, 1].where(surface.known, torch.inf).argmin()
    assert surface.known.sum() > surface.seen.sum() > 0
    assert surface.color[lowest, 0] > 0.6
    assert_close(surface.height[surface.known], torch.full((int(surface.known.sum()),), 0.002), atol=1e-4, rtol=0)


def test_each_component_continues_its_own_surface(avatar, monkeypatch):
    verts = avatar.skinning.canonical.verts
    on_torso = avatar.skinning.head.model.regions["torso"] > 0.5
    shell = torch.zeros(len(verts), dtype=torch.bool)
    shell[avatar.unseen.faces.flatten()] = True
    assert (on_torso & shell).any() and (~on_torso & shell).any()
    colors = torch.where(on_torso[:, None], RED, BLUE)
    seen = shell & (verts[:, 2] > 0)
    measured = torch.full((len(verts),), 0.002)
    monkeypatch.setattr(unseen_surface, "_measure_surface", lambda *_: (measured[shell], colors[shell], seen[shell]))
    component = avatar.unseen.component
    surface = continue_surface(avatar.field, avatar.skinning, avatar.grid, avatar.unseen.faces, component)
    continued = surface.known & ~surface.seen
    assert (continued & on_torso).any() and (continued & ~on_torso).any()
    assert_close(surface.color[continued], colors[continued], atol=0.01, rtol=0)


def test_nothing_is_completed_if_nothing_was_seen(make_avatar):
    avatar = make_avatar().train()
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    assert not avatar.field.completion.volume[0].any()


def test_another_person_has_other_nodes(avatar):
    before = avatar.field.completion.volume.clone()
    avatar.identity.add_(2.0)
    avatar.load_state_dict(avatar.state_dict())
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    kept = avatar.field.completion.volume.clone()
    avatar.unseen._near = None
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)
    assert torch.equal(avatar.field.completion.volume, kept)
    assert not torch.equal(kept, before)


def test_the_completion_is_filled_a_few_times_and_late(avatar, monkeypatch):
    filled: list[float] = []
    monkeypatch.setattr(avatar.unseen, "complete", lambda *_: filled.append(progress))
    for progress in torch.linspace(0, 0.999, 500).tolist():
        avatar.unseen.end_step(progress, avatar.field, avatar.skinning, avatar.grid)
    assert len(filled) == 7 and filled[0] > 0.2 and filled[-1] > 0.95


def test_what_rays_reached_is_forgotten_slowly(avatar):
    avatar.unseen.interval.fill_(6)
    avatar.grid.reached.fill_(1.0)
    avatar.unseen.end_step(0.5, avatar.field, avatar.skinning, avatar.grid)
    assert 0.8 < avatar.grid.reached.max() < 1


def test_the_nearest_vertices_are_found_once(avatar, monkeypatch):
    monkeypatch.setattr(unseen_surface, "VertexIndex", None)
    avatar.unseen.complete(avatar.field, avatar.skinning, avatar.grid)


def test_hidden_points_below_the_inside_of_the_mouth_are_black(make_avatar, avatar_init, monkeypatch):
    """All other hidden nodes are red. The tiny head is small, so half of its mouth's nodes count as near to skin."""
    avatar = make_avatar(with_mouth(avatar_init)).train()
    field, skinning = avatar.field, avatar.skinning
    verts, every = skinning.canonical.verts, torch.ones(len(skinning.canonical.verts), dtype=torch.bool)
    red = ContinuedSurface(torch.full((len(verts),), 0.01), RED.expand(len(verts), 3), ~every, every)
    monkeypatch.setattr(unseen_surface, "continue_surface", lambda *_: red)
    cells = avatar.grid.cell_centers(avatar.grid.resolution, avatar.grid.lower, avatar.grid.upper)
    avatar.grid.mark_reached(cells[cells[:, 0] > 0], torch.ones(int((cells[:, 0] > 0).sum())))
    nodes = field.uncontract(field.completion.nodes())
    distance, hidden = skinning.space.distance_and_clearance(nodes)[0], avatar.grid.is_hidden(nodes)
    from_mouth = torch.cdist(nodes, skinning.verts_in_mouth).amin(1)
    from_skin = torch.cdist(nodes, verts[skinning.head.model.regions["inside_mouth"] <= 0.5]).amin(1)
    near_mouth = from_mouth < 0.02
    nearest = from_skin[near_mouth & (from_mouth < from_skin)].median() + 1e-5  # at no node
    monkeypatch.setattr(unseen_surface, "_FROM_SKIN", float(nearest))
    avatar.unseen.complete(field, skinning, avatar.grid)
    share, height, *color = field.completion.volume.view(5, -1)
    below = near_mouth & (from_skin > nearest) & (distance > -0.03) & (distance < -0.002)
    assert (below & ~hidden).any() and not share[below & ~hidden].any()
    elsewhere = ~below & (share > 0)
    assert elsewhere.any()
    assert_close(torch.stack(color, -1)[elsewhere], RED.expand(int(elsewhere.sum()), 3))
    black = below & hidden
    assert black.any() and share[black].eq(1).all() and not torch.stack(color)[:, black].any()
    assert_close(height[black], distance[black])


def test_a_head_without_a_mouth_has_no_black_points(avatar):
    share, _, *color = avatar.field.completion.volume.view(5, -1)
    assert (share > 0).any() and torch.stack(color)[:, share > 0].all()
