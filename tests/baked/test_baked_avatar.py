"""Images of a baked avatar against those of the avatar itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from partnerface_ns.avatar.avatar import SOFT, Avatar
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.baked import sparse_image
from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.baked.capacity import Capacity
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.baked.renderer import BakedRenderer, View, quantiles
from partnerface_ns.common import precision
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Intrinsics, rays_through_pixels
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.cuda_graph import CapturedWork

SIDE = 32
SMALL = BakedConfig(resolution=96)


@pytest.fixture
def avatar(make_avatar) -> Avatar:
    """An untrained avatar with colours, whose deformation moves points by millimetres."""
    avatar = make_avatar()
    for planes in avatar.field.planes:
        planes.data.normal_(std=0.7)
    avatar.deformation.networks.output.data.normal_(std=0.2)
    avatar.config.sampling.num_samples, avatar.config.sampling.num_proposals = 48, 64
    avatar.config.sampling.num_probes = 48
    avatar.stage.fill_(SOFT)
    return avatar.eval()


@pytest.fixture
def rays() -> tuple[torch.Tensor, torch.Tensor]:
    return camera_rays()


def camera_rays(focal_length: float = 40.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Origin and directions of a camera half a metre in front of the tiny head."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    T = torch.eye(4)
    T[2, 3] = 0.6
    pixels = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    intrinsics = Intrinsics(focal_length, focal_length, SIDE / 2, SIDE / 2)
    origins, directions = rays_through_pixels(pixels, intrinsics, T)
    return origins[0], directions


def exactly(avatar: Avatar, rays, state: HeadState, timesteps: torch.Tensor | None = None) -> RenderOutput:
    origin, directions = rays
    rays = Rays(origin.expand_as(directions)[None], directions[None])
    with torch.no_grad():
        return avatar.render(rays, state, timesteps).squeeze_frame()


@pytest.mark.parametrize("timestep", range(3))
def test_baked_images_are_close_to_exact_ones(avatar, rays, avatar_init, timestep):
    state = avatar_init.states[timestep : timestep + 1]
    expected = exactly(avatar, rays, state)
    found = BakedAvatar(avatar, SMALL).render(*rays, state)
    assert list(found.channels()) == list(expected.channels())
    seen = expected.accumulation[:, 0] > 0.99
    assert 0.2 < seen.float().mean() < 0.9
    for name in ("rgb", "depth", "parts", "deformation", "canonical"):
        error = (found.channels()[name] - expected.channels()[name])[seen].abs()
        assert error.mean() < 0.2 * expected.channels()[name][seen].std(), name
    assert (found.accumulation - expected.accumulation).abs().mean() < 0.015
    assert (found.depth - expected.depth)[seen].abs().median() < 1.5e-3


def test_expression_and_timestep_change_the_image(avatar, rays, avatar_init):
    baked = BakedAvatar(avatar, SMALL)
    rest, speaking = (baked.render(*rays, avatar_init.states[i : i + 1]).rgb for i in (0, 1))
    assert (rest - speaking).abs().max() > 0.05
    avatar.torso.residual.data.normal_(std=0.3)
    own = baked.render(*rays, avatar_init.states[:1], torch.tensor([0])).rgb
    assert (rest - own).abs().max() > 0.05


@pytest.mark.parametrize("size", [(SIDE, SIDE), None])
def test_smooth_areas_of_an_image_are_interpolated(avatar, rays, avatar_init, size, monkeypatch):
    monkeypatch.setattr(sparse_image, "MIN_SIDE", SIDE)
    state, counted = avatar_init.states[:1], []
    baked = BakedAvatar(avatar, BakedConfig(resolution=96, interpolated_contrast=0.1))
    render = baked._renderer._render_chunk
    baked._renderer._render_chunk = lambda *args: (counted.append(len(args[1])), render(*args))[1]
    found = baked.render(*rays, state, size=size)
    expected = BakedAvatar(avatar, SMALL).render(*rays, state)
    for name, values in expected.channels().items():
        assert found.channels()[name].shape == values.shape
    assert (found.rgb - expected.rgb).abs().max() < 0.1
    assert (sum(counted) < 0.9 * SIDE**2) == (size is not None)


def test_rays_beside_the_head_show_the_background(avatar, rays, avatar_init):
    origin, directions = rays
    away = BakedAvatar(avatar, SMALL).render(
        origin, directions * torch.tensor([1.0, 1.0, -1.0]), avatar_init.states[:1]
    )
    assert_close(away.rgb, avatar.background.expand(len(directions), 3))
    assert not away.accumulation.any()


def test_an_image_that_cuts_the_head_is_right_up_to_its_border(avatar, avatar_init):
    state, rays = avatar_init.states[:1], camera_rays(focal_length=150.0)
    expected = exactly(avatar, rays, state)
    assert expected.accumulation.min() > 0.9, "the head fills the image"
    error = (BakedAvatar(avatar, SMALL).render(*rays, state).rgb - expected.rgb).abs().view(SIDE, SIDE, 3)
    border = torch.cat([error[0], error[-1], error[:, 0], error[:, -1]])
    assert border.mean() < 1.6 * error[4:-4, 4:-4].mean()


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (0.0, 0.0, 0.2)], ids=str)
def test_a_camera_too_near_gets_exact_images(avatar, avatar_init, place):
    directions = F.normalize(torch.randn(300, 3), dim=1)
    rays, state = (torch.tensor(place), directions), avatar_init.states[:1]
    found, expected = (
        BakedAvatar(avatar, SMALL).render(*rays, state).channels(),
        exactly(avatar, rays, state).channels(),
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("place", [(0.0, 0.1, 40.0), (0.3, 0.2, -0.5)], ids=str)
def test_a_camera_anywhere_else_sees_the_head(avatar, avatar_init, place):
    middle = avatar.skinning.skin_frames(avatar_init.states[:1]).verts[0].mean(0)
    towards = middle + 0.05 * torch.randn(400, 3) - torch.tensor(place)
    rays = torch.tensor(place), F.normalize(torch.cat([towards, torch.randn(100, 3)]), dim=1)
    found = BakedAvatar(avatar, SMALL).render(*rays, avatar_init.states[:1])
    expected = exactly(avatar, rays, avatar_init.states[:1])
    assert (found.accumulation - expected.accumulation).abs().mean() < 0.05 < expected.accumulation.mean()
    assert found.rgb.min() >= 0 and found.rgb.max() < 1.001


@pytest.mark.parametrize("changes", [{"deformation": "none"}, {"deformation": "global"}, {"bfloat16": True}], ids=str)
def test_every_kind_of_avatar_can_be_baked(make_avatar, rays, avatar_init, changes, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    avatar = make_avatar(**changes).eval()
    avatar.config.torso.enabled = avatar.config.correction.enabled = False
    found = BakedAvatar(avatar, SMALL).render(*rays, avatar_init.states[1:2])
    expected = exactly(avatar, rays, avatar_init.states[1:2])
    for name, value in expected.channels().items():
        assert found.channels()[name].shape == value.shape
    assert (found.rgb.float() - expected.rgb).abs().mean() < 0.02


@pytest.mark.parametrize(("behind", "any_warped"), [(False, True), (True, False)])
def test_samples_are_warped_where_mouth_or_eyes_are_visible(avatar, rays, avatar_init, behind, any_warped):
    origin, directions = rays
    turned = torch.tensor([-1.0, 1.0, -1.0]) if behind else torch.ones(3)
    state = avatar_init.states[:1]
    view = View(origin * turned, directions * turned, state, avatar.skinning.head.pose(state), None)
    with torch.no_grad():
        taken = Capacity.of(BakedRenderer(avatar, SMALL).render(view).counts)
    assert taken.hit > 100 and (taken.exact > 0) == any_warped


def test_chunks_change_nothing(avatar, rays, avatar_init, monkeypatch):
    baked, state = BakedAvatar(avatar, SMALL), avatar_init.states[1:2]
    whole = baked.render(*rays, state).rgb
    monkeypatch.setattr("partnerface_ns.baked.renderer.RAYS_ON_CPU", 1000)
    assert_close(baked.render(*rays, state).rgb, whole, atol=1e-5, rtol=0)


def test_more_samples_are_more_accurate(avatar, rays, avatar_init):
    state = avatar_init.states[1:2]
    expected = exactly(avatar, rays, state).rgb
    errors = [
        (BakedAvatar(avatar, BakedConfig(96, spacing, samples, colors)).render(*rays, state).rgb - expected)
        .square()
        .mean()
        for spacing, samples, colors in ((0.02, 6, 1), (0.005, 48, 12))
    ]
    assert errors[1] < 0.5 * errors[0]


def test_quantiles_represent_equal_shares():
    points = torch.arange(5.0)[None, :, None].expand(2, 5, 3)
    weights = torch.tensor([[0.0, 0.3, 0.3, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.8]])
    found = quantiles(points, weights, 2)[..., 0]
    assert_close(found, torch.tensor([[1.0, 2.0], [3.75, 4.0]]), atol=1e-5, rtol=0)
    assert_close(quantiles(points, torch.zeros(2, 5), 3).isfinite().all(), torch.tensor(True))


@pytest.mark.parametrize("timestep", range(3))
def test_fixed_shapes_are_as_accurate(avatar, rays, avatar_init, timestep):
    """Results differ slightly, because the lattice is larger."""
    state, baked = avatar_init.states[timestep : timestep + 1], BakedAvatar(avatar, SMALL)
    expected, counted = exactly(avatar, rays, state), baked.render(*rays, state)
    view, images = View(*rays, state, avatar.skinning.head.pose(state), None), BakedRenderer(avatar, SMALL)
    with torch.no_grad():
        taken = Capacity.of(images.render(view).counts)
    with torch.no_grad():
        drawn = images.render(view, taken.with_headroom())
    found = drawn.output
    assert (
        taken.with_headroom().holds(Capacity.of(drawn.counts)) and found.channels().keys() == counted.channels().keys()
    )
    for name in ("rgb", "accumulation"):
        errors = [(getattr(o, name) - getattr(expected, name)).abs().mean() for o in (counted, found)]
        assert errors[1] < 1.2 * errors[0] + 1e-4, name


@pytest.fixture
def graphs(monkeypatch) -> list[CapturedWork]:
    """All captured graphs. Without a GPU the work is called directly, in fixed shapes."""
    made: list[CapturedWork] = []

    class Unrecorded(CapturedWork):
        def __init__(self, work):
            super().__init__(work)
            made.append(self)

        def __call__(self, given):
            return self._work(given)

    monkeypatch.setattr("partnerface_ns.baked.baked_avatar.CapturedWork", Unrecorded)
    return made


def test_the_capacity_soon_fits_an_image(avatar, avatar_init, graphs, monkeypatch):
    """Even if the larger lattice of a graph needs more capacity than the counted image."""
    monkeypatch.setattr("partnerface_ns.baked.capacity._ROWS_HEADROOM", 1.0)
    baked, state = BakedAvatar(avatar, SMALL), avatar_init.states[:1]
    view = View(*camera_rays(), state, avatar.skinning.head.pose(state), None)
    found = []
    for _ in range(8):
        with torch.no_grad():
            baked._replay(view)
        found.append(len(graphs))
    assert found[5] == found[7], "the later images are played"


def test_graphs_are_kept_for_a_few_image_sizes(avatar, avatar_init, graphs):
    made = graphs
    baked, state = BakedAvatar(avatar, SMALL), avatar_init.states[:1]
    origin, directions = camera_rays()
    head = avatar.skinning.head.pose(state)
    for stride, expected in ((1, 1), (2, 2), (1, 2), (3, 3), (4, 4), (1, 4), (2, 5)):
        view = View(origin, directions[::stride], state, head, None)
        with torch.no_grad():
            found = baked._replay(view).rgb
        assert len(made) == expected
        assert (found - baked.render(origin, directions[::stride], state).rgb).abs().mean() < 0.01
    _, closer = camera_rays(160.0)  # eyes and mouth take more of the image than there is room for
    with torch.no_grad():
        found = baked._replay(View(origin, closer, state, head, None)).rgb
    assert len(made) == 6
    assert (found - baked.render(origin, closer, state).rgb).abs().mean() < 0.02
