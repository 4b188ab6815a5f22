"""The avatar on the tiny head renders rays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from avatar.small_scene import KINDS, front_rays, picked, seen, stirred
from torch.testing import assert_close

from partnerface_ns.avatar import shading
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.warp.canonical_space import CanonicalSpaceConfig
from partnerface_ns.warp.displacement_grid import DisplacementGridConfig


@pytest.mark.parametrize("deformation", KINDS)
def test_an_evaluation_gives_images_in_their_ranges(make_avatar, avatar_init, deformation):
    avatar = stirred(make_avatar(deformation=deformation))
    outputs = seen(avatar, front_rays(2), avatar_init.states[::2])
    channels = {"rgb": 3, "accumulation": 1, "depth": 1, "parts": 3, "deformation": 3, "canonical": 3}
    assert {name: value.shape for name, value in outputs.items()} == {n: (2, 64, c) for n, c in channels.items()}
    for name, value in outputs.items():
        assert value.isfinite().all(), name
        if name != "depth":
            assert value.min() >= 0 and value.max() <= 1 + 1e-5, name
    assert bool(outputs["deformation"].any()) == (deformation != "none")


def test_a_head_is_opaque_from_the_start_at_the_depth_of_its_skin(make_avatar):
    """The open head's forehead, nose and cheeks; the tiny head is too coarse for them."""
    model = load_open_head()
    states = HeadState.neutral(model.num_expr, (1,))
    init = AvatarInit(model, torch.zeros(40), torch.zeros_like(model.template), states, 1, (0.0, 0.0, 0.0))
    space = CanonicalSpaceConfig(resolution=48)
    avatar = make_avatar(init, space=space, displacement=DisplacementGridConfig(), sampling=SamplingConfig())
    y, x = torch.meshgrid(torch.linspace(0.1, 0.0, 6), torch.linspace(-0.03, 0.03, 5), indexing="ij")
    origins = torch.stack([x.flatten(), y.flatten(), torch.full((30,), 0.5)], -1)
    rays = Rays(origins[None], torch.tensor([0.0, 0.0, -1.0]).expand(1, 30, 3))
    outputs = seen(avatar, rays, states)
    assert outputs["accumulation"].min() > 0.95
    triangles = model.template[model.faces].mean(1)
    beside = torch.cdist(origins[:, :2], triangles[:, :2]) > 0.004
    skin = 0.5 - triangles[:, 2].expand(30, -1).masked_fill(beside, -1.0).amax(1)
    assert_close(outputs["depth"][0, :, 0], skin, atol=0.012, rtol=0)


def test_nothing_is_far_from_the_head(make_avatar, avatar_init):
    far = front_rays(side=2)
    far = Rays(far.origins + torch.tensor([0.5, 0.5, 0.0]), far.directions)
    beside = seen(make_avatar(), far, avatar_init.states[:1])
    assert not beside["accumulation"].any()
    assert torch.equal(beside["rgb"], torch.tensor(avatar_init.background).expand(1, 4, 3))


@pytest.mark.parametrize("deformation", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_rays_that_all_miss_see_the_background(make_avatar, avatar_init, deformation, training):
    avatar = make_avatar(deformation=deformation, schedule="soft").train(training)
    away = Rays(torch.tensor([[[3.0, 0.0, 0.8]]]), torch.tensor([[[0.0, 0.0, -1.0]]]))
    outputs = avatar.render(away, avatar_init.states[:1])
    assert torch.equal(outputs.rgb, torch.tensor([[avatar_init.background]]))
    assert outputs.depth == 0


def test_the_background_fills_the_transparent_share(make_avatar, avatar_init):
    avatar = make_avatar()
    light = seen(avatar, front_rays(), avatar_init.states[:1])
    avatar.background.zero_()
    dark = seen(avatar, front_rays(), avatar_init.states[:1])
    through = (1 - light["accumulation"]) * torch.tensor(avatar_init.background)
    assert_close(light["rgb"] - dark["rgb"], through, atol=1e-5, rtol=0)


@pytest.mark.parametrize("deformation", KINDS)
def test_rays_do_not_touch_each_other(make_avatar, avatar_init, deformation):
    """Chunks, shuffled rays and single frames give the same pixels as all rays together."""
    avatar = stirred(make_avatar(deformation=deformation, schedule="soft"))
    rays = front_rays(3)
    together = seen(avatar, rays, avatar_init.states, torch.arange(3))
    chunks = [seen(avatar, picked(rays, i), avatar_init.states, torch.arange(3)) for i in torch.arange(64).split(20)]
    alone = [seen(avatar, front_rays(), avatar_init.states[i : i + 1], torch.tensor([i])) for i in range(3)]
    shuffle = torch.randperm(64)
    shuffled = seen(avatar, picked(rays, shuffle), avatar_init.states, torch.arange(3))
    with torch.no_grad():
        split = avatar.render(rays, avatar_init.states, torch.arange(3), rays_at_once=50).channels()
    for name, value in together.items():
        assert_close(torch.cat([chunk[name] for chunk in chunks], 1), value, atol=1e-4, rtol=0)
        assert_close(torch.cat([frame[name] for frame in alone]), value, atol=1e-4, rtol=0)
        assert_close(shuffled[name], value[:, shuffle], atol=1e-4, rtol=0)
        assert_close(split[name], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("deformation", KINDS)
def test_samples_rendered_front_to_back_give_the_pixels_of_all_at_once(
    make_avatar, avatar_init, deformation, monkeypatch
):
    avatar, rays = stirred(make_avatar(deformation=deformation)), front_rays(2, side=16)
    num_points = []
    geometry = avatar.field.geometry
    monkeypatch.setattr(
        avatar.field, "geometry", lambda points, *x: num_points.append(len(points)) or geometry(points, *x)
    )
    images, points = [], []
    for at_once in (2, 1000):
        monkeypatch.setattr(shading, "_SAMPLES_AT_ONCE", at_once)
        num_points.clear()
        images.append(seen(avatar, rays, avatar_init.states[:2]))
        points.append(sum(num_points))
    assert points[0] < points[1]  # nothing behind opaque samples was computed
    for name, image in images[0].items():
        assert_close(image, images[1][name], atol=2e-3, rtol=0, msg=name)


def test_chunks_on_threads_give_the_pixels_of_one_thread(make_avatar, avatar_init):
    avatar, rays = stirred(make_avatar()), front_rays(2)
    alone, num_threads = seen(avatar, rays, avatar_init.states[:2]), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.no_grad():
            images = avatar.render(rays, avatar_init.states[:2], rays_at_once=30).channels()
    finally:
        torch.set_num_threads(num_threads)
    for name, image in images.items():
        assert not image.requires_grad
        assert_close(image, alone[name], atol=1e-5, rtol=1e-5)


def test_head_and_camera_moved_together_see_the_same(make_avatar, avatar_init):
    """With predictions from the head's pose switched off."""
    config = make_avatar().config
    still = {name: replace(getattr(config, name), enabled=False) for name in ("torso", "correction")}
    avatar = stirred(make_avatar(**still))
    state, rays = HeadState.neutral(4, (1,)), front_rays()
    turn = rotation_from_axis_angle(torch.tensor([0.3, 0.8, -0.2]))
    root = (avatar_init.model.joint_regressor @ avatar_init.model.template)[0]
    shift = torch.tensor([0.5, -0.2, 0.1])
    moved = replace(state, rotation=torch.tensor([[0.3, 0.8, -0.2]]), translation=(turn @ root + shift - root)[None])
    other = Rays(rays.origins @ turn.T + shift, rays.directions @ turn.T)
    before, after = seen(avatar, rays, state), seen(avatar, other, moved)
    assert (before["accumulation"] > 0.5).sum() > 10
    # Boxes around the head differ, and with them the probes.
    assert (before["rgb"] - after["rgb"]).abs().mean() < 0.03
    assert (before["accumulation"] - after["accumulation"]).abs().mean() < 0.03


def test_the_torsos_residual_is_added_for_given_timesteps(make_avatar, avatar_init):
    avatar = make_avatar()
    avatar.torso.residual.data[1] = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0, 0.0])
    rays = front_rays(side=12, half=0.3)
    rays = Rays(rays.origins - torch.tensor([0.0, 0.1, 0.0]), rays.directions)
    state = avatar_init.states[1:2]
    known, unknown = seen(avatar, rays, state, torch.tensor([1])), seen(avatar, rays, state)
    other = seen(avatar, rays, state, torch.tensor([0]))
    assert_close(other["rgb"], unknown["rgb"])
    assert (known["accumulation"] - unknown["accumulation"]).abs().max() > 0.5
