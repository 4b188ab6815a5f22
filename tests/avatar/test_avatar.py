"""The avatar on the tiny head: rendering, training and state dict."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.avatar import shading
from partnerface_ns.avatar.avatar import HARD, SOFT, Avatar
from partnerface_ns.avatar.file_format import check_same_head_model
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.common import precision
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import head_model_from_arrays
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import rotation_from_axis_angle
from partnerface_ns.rendering.losses import LossConfig
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.training.captured_step import backward
from partnerface_ns.training.objective import mouth_brightness, training_loss
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.warp.canonical_space import CanonicalSpaceConfig
from partnerface_ns.warp.displacement_grid import DisplacementGridConfig

KINDS = ("parts", "global", "none")


def front_rays(num_frames: int = 1, side: int = 8, half: float = 0.2) -> Rays:
    """Parallel rays from the front over a square around the head, `side` times `side` for each frame."""
    y, x = torch.meshgrid(torch.linspace(half, -half, side), torch.linspace(-half, half, side), indexing="ij")
    origins = torch.stack([x.flatten(), y.flatten(), torch.full((side * side,), 0.8)], -1)
    directions = torch.tensor([[0.0, 0.0, -1.0]]).repeat(side * side, 1)
    return Rays(origins.expand(num_frames, -1, -1), directions.expand(num_frames, -1, -1))


def picked(rays: Rays, index: torch.Tensor) -> Rays:
    return Rays(rays.origins[:, index], rays.directions[:, index])


def stirred(avatar: Avatar) -> Avatar:
    """Randomise the parameters, so that deformation and torso have an effect."""
    for parameter in avatar.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return avatar


@torch.no_grad()
def seen(avatar: Avatar, rays: Rays, states: HeadState, timesteps: torch.Tensor | None = None) -> dict:
    return avatar.eval().render(rays, states, timesteps).channels()


def train_step(avatar: Avatar, states: HeadState, mask: bool = True) -> dict[str, torch.Tensor]:
    """Loss terms of the two frames against a grey image, with gradients of their sum."""
    avatar.train().zero_grad()
    rendered = avatar.render(front_rays(2), states[:2], torch.arange(2))
    grey, foreground = torch.full_like(rendered.rgb, 0.5), torch.ones_like(rendered.accumulation)
    terms = training_loss(avatar, rendered, grey, foreground if mask else None)
    torch.stack(list(terms.values())).sum().backward()
    avatar.end_step()
    return terms


def learns(parameters) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in parameters)


# -- rendering ------------------------------------------------------------------------------------------------------


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


# -- training -------------------------------------------------------------------------------------------------------


def test_loss_terms_are_those_of_the_method(make_avatar, avatar_init):
    terms = {kind: set(train_step(make_avatar(deformation=kind), avatar_init.states)) for kind in KINDS}
    assert terms["none"] == {
        *("color", "mask", "geometry", "planes", "torso", "correction", "unseen_density", "unseen_color")
    }
    assert terms["parts"] == terms["global"] == {*terms["none"], "offset", "elsewhere", "ambient"}
    assert set(train_step(make_avatar(schedule="soft"), avatar_init.states)) == {*terms["parts"], "smoothness"}
    assert "mask" not in train_step(make_avatar(), avatar_init.states, mask=False)


def test_opacity_is_made_clear_late_in_training_if_its_weight_is_set(make_avatar, avatar_init):
    for weight, progress in ((0.0, 0.9), (0.1, 0.5), (0.1, 0.7)):
        avatar = make_avatar(losses=LossConfig(clear_weight=weight))
        avatar.set_progress(progress)
        assert ("clear" in train_step(avatar, avatar_init.states)) == (weight > 0 and progress > 0.6)


def with_mouth(init: AvatarInit) -> AvatarInit:
    """A person whose head model has something inside its mouth: the eyeballs."""
    regions = init.model.regions
    return replace(init, model=replace(init.model, regions=regions | {"inside_mouth": regions["eyeballs"]}))


def test_every_weight_scales_its_term(make_avatar, avatar_init):
    avatar = stirred(make_avatar(with_mouth(avatar_init), schedule="soft"))
    for name, value in {"log_density": 9.0, "color": 1.0, "density_share": 1.0, "color_share": 1.0}.items():
        getattr(avatar.unseen, name).fill_(value)
    rendered = avatar.train().render(front_rays(), avatar_init.states[:1], torch.zeros(1, dtype=torch.long))
    target, mask = torch.zeros(1, 64, 3), torch.ones(1, 64, 1)

    def loss() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)  # the inside of the mouth is looked at in random places
        return training_loss(avatar, rendered, target, mask)

    before = loss()
    losses = avatar.config.losses
    weighed = ("mask", "geometry", "planes", "offset", "elsewhere", "ambient", "smoothness", "mouth")
    for term in weighed:
        setattr(losses, f"{term}_weight", 3 * getattr(losses, f"{term}_weight"))
    avatar.config.torso.residual_weight *= 3
    avatar.config.correction.residual_weight *= 3
    avatar.config.unseen.density_weight *= 3
    avatar.config.unseen.color_weight *= 3
    after = loss()
    assert_close(after.pop("color"), before.pop("color"))
    assert before.keys() == {*weighed, "torso", "correction", "unseen_density", "unseen_color"}
    for name in before:
        assert before[name] > 0, name
        assert_close(after[name], 3 * before[name])


def test_unseen_points_inside_the_mouth_become_dark(make_avatar, avatar_init):
    avatar = make_avatar(with_mouth(avatar_init)).train()
    at = avatar.skinning.verts_in_mouth
    assert len(at)

    def color() -> torch.Tensor:
        features = avatar.field.features(avatar.field.contract(at))
        return avatar.field.color(features, torch.zeros(len(at), 3), torch.zeros(len(at), avatar.field.num_ambient))

    optimizer = torch.optim.Adam(avatar.field.parameters(), 1e-2)
    assert color().mean() > 0.3
    for _ in range(60):
        optimizer.zero_grad()
        rendered = avatar.render(front_rays(side=2), avatar_init.states[:1])
        training_loss(avatar, rendered, torch.ones(1, 4, 3), None)["mouth"].backward()
        optimizer.step()
    assert color().mean() < 0.1
    avatar.config.losses.mouth_weight = 0
    assert "mouth" not in training_loss(
        avatar, avatar.render(front_rays(), avatar_init.states[:1]), torch.ones(1, 64, 3), None
    )


def test_the_mouth_term_looks_between_the_walls_and_leaves_out_surface_that_rays_reach(
    make_avatar, avatar_init, monkeypatch
):
    avatar = make_avatar(with_mouth(avatar_init)).train()
    field, space, looked_at = avatar.field, avatar.skinning.space, []
    features = field.features
    monkeypatch.setattr(field, "features", lambda contracted: looked_at.append(contracted) or features(contracted))
    assert mouth_brightness(avatar) > 0.1
    from_walls = torch.cdist(field.uncontract(looked_at[0]), avatar.skinning.verts_in_mouth).amin(1)
    assert (from_walls > 0.005).float().mean() > 0.2
    avatar.grid.reached.fill_(1.0)
    assert mouth_brightness(avatar) == 0, "between the tiny head's eyes there is skin everywhere"
    monkeypatch.setattr(space, "distance_and_clearance", lambda points: torch.full((2, len(points)), 0.01))
    assert mouth_brightness(avatar) > 0.1, "free space is dark even if rays pass it"


def test_evaluated_rays_have_only_the_colour_term(make_avatar, avatar_init):
    avatar = make_avatar()
    with torch.no_grad():
        rendered = avatar.eval().render(front_rays(), avatar_init.states[:1])
    assert set(training_loss(avatar, rendered, torch.zeros(1, 64, 3), torch.ones(1, 64, 1))) == {"color"}


@pytest.mark.parametrize("deformation", KINDS)
def test_every_trained_parameter_is_in_one_group_and_all_groups_train(make_avatar, avatar_init, deformation):
    avatar = stirred(make_avatar(deformation=deformation, schedule="soft"))
    train_step(avatar, avatar_init.states)
    groups = param_groups(avatar)
    grouped = [p for parameters in groups.values() for p in parameters]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in avatar.parameters()}
    for name, parameters in groups.items():
        assert learns(parameters), name
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in parameters), name


def test_the_assigner_trains_in_the_second_stage_only(make_avatar, avatar_init):
    avatar = stirred(make_avatar())
    assert int(avatar.stage) == HARD
    train_step(avatar, avatar_init.states)
    assert not learns(avatar.assigner.parameters()) and learns(avatar.deformation.parameters())
    avatar.set_progress(0.6)
    assert int(avatar.stage) == SOFT
    train_step(avatar, avatar_init.states)
    assert learns(avatar.assigner.parameters()) and learns(avatar.deformation.parameters())


@pytest.mark.parametrize(
    ("schedule", "stages"),
    [("two-stage", [HARD, HARD, SOFT, SOFT]), ("hard", [HARD] * 4), ("soft", [SOFT] * 4)],
)
def test_the_stage_follows_from_schedule_and_progress_alone(make_avatar, schedule, stages):
    avatar = make_avatar(schedule=schedule)
    reached = []
    for progress in (0.0, 0.49, 0.5, 1.0):
        avatar.set_progress(progress)
        reached.append(int(avatar.stage))
    assert reached == stages
    avatar.set_progress(0.0)
    assert int(avatar.stage) == stages[0], "also backward, as a run that is begun again"
    assert ("assigner" in param_groups(avatar)) == (schedule != "hard")


@pytest.mark.parametrize("motion", ["torso", "correction"])
def test_a_motion_that_is_switched_off_does_not_learn(make_avatar, avatar_init, motion):
    config = getattr(make_avatar().config, motion)
    avatar = make_avatar(**{motion: replace(config, enabled=False)})
    assert motion not in param_groups(avatar)
    assert motion not in train_step(avatar, avatar_init.states)
    assert not learns(getattr(avatar, motion).parameters())


def test_the_deformation_starts_as_the_identity_and_leaves_the_torso_alone(make_avatar, avatar_init):
    avatar = make_avatar()
    assert not seen(avatar, front_rays(), avatar_init.states[:1])["deformation"].any()
    avatar.deformation.networks.output.data.normal_()
    low = front_rays(side=6, half=0.03)
    chest = Rays(low.origins - torch.tensor([0.0, 0.27, 0.0]), low.directions)
    outputs = seen(avatar, chest, avatar_init.states[:1])
    assert outputs["accumulation"].max() > 0.9
    assert not outputs["deformation"].any()
    assert seen(avatar, low, avatar_init.states[:1])["deformation"].max() > 0.1


def test_the_code_has_noise_in_training_only(make_avatar, avatar_init, monkeypatch):
    """All other randomness is switched off."""
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.full(size, 0.4))
    monkeypatch.setattr(torch, "randint", lambda high, size, device=None: torch.arange(size[0]) % high)

    def two_images(code_noise: float, training: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        avatar = stirred(make_avatar(code_noise=code_noise)).train(training)
        frames = avatar.warp.pose_frames(avatar_init.states[:1])
        return [avatar.render_frames(front_rays(), frames).rgb for _ in range(2)]

    for code_noise, training in ((0.0, True), (5.0, False)):
        first, second = two_images(code_noise, training)
        assert torch.equal(first, second), "nothing is drawn at random"
    first, second = two_images(5.0, True)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.equal(two_images(5.0, False)[0], two_images(0.0, False)[0]), "a trained avatar knows no noise"


def test_the_occupancy_grid_is_updated_every_few_steps(make_avatar, avatar_init):
    avatar = make_avatar()
    avatar.config.sampling.update_every = 3
    remembered = []
    for _ in range(5):
        train_step(avatar, avatar_init.states)
        remembered.append(avatar.grid.density.clone())
    changes = [not torch.equal(a, b) for a, b in pairwise(remembered)]
    assert changes == [False, False, True, False]
    seen(avatar, front_rays(), avatar_init.states[:1])
    assert torch.equal(avatar.grid.density, remembered[-1]) and int(avatar.step) == 5


def test_both_precisions_render_about_the_same(make_avatar, avatar_init, monkeypatch):
    torch.manual_seed(3)
    asked = []
    monkeypatch.setattr(precision, "supports_bfloat16", lambda device: asked.append(device.type) or True)
    fine = make_avatar()
    coarse = make_avatar(bfloat16=True)
    coarse.load_state_dict(fine.state_dict())
    a, b = (seen(avatar, front_rays(), avatar_init.states[:1])["rgb"] for avatar in (fine, coarse))
    assert_close(a, b, atol=0.03, rtol=0)
    assert not torch.equal(a, b) and set(asked) == {"cpu"}
    train_step(coarse, avatar_init.states)
    assert learns(coarse.field.parameters())


def test_bfloat16_is_off_without_hardware_support(make_avatar, avatar_init, monkeypatch):
    torch.manual_seed(3)
    fine = make_avatar()
    coarse = make_avatar(bfloat16=True)
    coarse.load_state_dict(fine.state_dict())
    monkeypatch.setattr(precision, "supports_bfloat16", lambda device: False)
    a, b = (seen(avatar, front_rays(), avatar_init.states[:1])["rgb"] for avatar in (fine, coarse))
    assert torch.equal(a, b)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_an_autocast_around_the_avatar_changes_nothing(make_avatar, avatar_init, monkeypatch, bfloat16):
    monkeypatch.setattr(precision, "supports_bfloat16", lambda device: True)
    avatar = stirred(make_avatar(schedule="soft", bfloat16=bfloat16))
    start, found = {name: value.clone() for name, value in avatar.state_dict().items()}, []
    for outer in (False, True):
        avatar.load_state_dict(start)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=outer):
            rendered = avatar.train().render(front_rays(), avatar_init.states[:1], torch.zeros(1, dtype=torch.long))
            result = backward(avatar, rendered, torch.full((1, 64, 3), 0.5), torch.ones(1, 64, 1))
            image = seen(avatar, front_rays(), avatar_init.states[1:2])
        gradients = {name: p.grad.clone() for name, p in avatar.named_parameters() if p.grad is not None}
        found.append((result.terms, gradients, image, avatar.grid.density.clone()))
        avatar.zero_grad()
    (terms, gradients, image, density), (terms_within, gradients_within, image_within, density_within) = found
    assert gradients.keys() == gradients_within.keys() and torch.equal(density, density_within)
    for ours, within in ((terms, terms_within), (gradients, gradients_within), (image, image_within)):
        for name, value in ours.items():
            assert torch.equal(value, within[name]), name


# -- state ----------------------------------------------------------------------------------------------------------


def test_a_state_dict_of_another_person_renders_that_person(make_avatar, avatar_init):
    avatar = stirred(make_avatar())
    avatar.set_progress(1.0)
    train_step(avatar, avatar_init.states)
    stranger = replace(avatar_init, identity=torch.ones(3), states=avatar_init.states[:1], num_timesteps=7)
    other = make_avatar(stranger)
    states = avatar_init.states
    assert not torch.allclose(
        seen(other, front_rays(3), states)["rgb"], seen(avatar, front_rays(3), states)["rgb"], atol=0.01
    )
    other.load_state_dict(avatar.state_dict())
    for timesteps in (None, torch.arange(3)):
        expected, found = (seen(a, front_rays(3), states, timesteps) for a in (avatar, other))
        for name in expected:
            assert_close(found[name], expected[name])
    assert int(other.stage) == SOFT and int(other.step) == 1


def test_resumed_training_equals_unbroken_training(make_avatar, avatar_init):
    def steps(avatar: Avatar, seeds) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            train_step(avatar, avatar_init.states)
            with torch.no_grad():
                for parameter in avatar.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad

    unbroken, broken = make_avatar(), make_avatar()
    broken.load_state_dict(unbroken.state_dict())
    steps(unbroken, range(4))
    steps(broken, range(2))
    resumed = make_avatar()
    resumed.load_state_dict(broken.state_dict())
    steps(resumed, range(2, 4))
    expected, found = unbroken.state_dict(), resumed.state_dict()
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_no_array_of_the_head_model_is_in_the_state(make_avatar, tiny_head):
    stored = make_avatar().state_dict()
    arrays = [
        tiny_head.template,
        tiny_head.faces,
        tiny_head.identity_dirs,
        tiny_head.expression_dirs,
        tiny_head.pose_dirs,
    ]
    arrays += [tiny_head.joint_regressor, tiny_head.skinning_weights, *tiny_head.regions.values()]
    for name, value in stored.items():
        assert not any(
            value.numel() == a.numel() and torch.equal(value.flatten().double(), a.flatten().double())
            for a in arrays
            if a.any()
        ), name
        if value.ndim and value.shape[0] == tiny_head.num_verts:
            assert name == "static_offset"


def test_another_head_model_is_refused_by_name(make_avatar, head_arrays, avatar_init, tmp_path):
    state = make_avatar().state_dict()
    check_same_head_model("run", state, avatar_init.model)
    head_arrays["v_template"] = head_arrays["v_template"] + 0.01
    head_arrays["name"] = np.array("other head")
    other_head = head_model_from_arrays(head_arrays, tmp_path / "other.npz")
    with pytest.raises(InputError) as refused:
        check_same_head_model(tmp_path / "run", state, other_head)
    for part in (str(tmp_path / "run"), avatar_init.model.fingerprint, other_head.fingerprint, "other head"):
        assert part in str(refused.value)
