"""Training terms, parameters and stages of the avatar on the tiny head."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from avatar.small_scene import KINDS, front_rays, learns, seen, stirred, train_step, with_mouth
from torch.testing import assert_close

from partnerface_ns.avatar.avatar import HARD, MOUTH, SOFT
from partnerface_ns.common import precision
from partnerface_ns.rendering.losses import LossConfig
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.captured_step import backward
from partnerface_ns.training.objective import mouth_brightness, training_loss
from partnerface_ns.training.optimiser_groups import param_groups
from partnerface_ns.warp.inverse_skinning import CanonicalPoints


def test_loss_terms_are_those_of_the_method(make_avatar, avatar_init):
    terms = {kind: set(train_step(make_avatar(deformation=kind), avatar_init.states)) for kind in KINDS}
    assert terms["none"] == {"color", "mask", "geometry", "planes", "height", "torso", "correction"}
    assert terms["parts"] == terms["global"] == {*terms["none"], "offset", "elsewhere", "ambient"}
    assert set(train_step(make_avatar(schedule="soft"), avatar_init.states)) == {*terms["parts"], "smoothness"}
    assert "mask" not in train_step(make_avatar(), avatar_init.states, mask=False)


def test_opacity_is_made_clear_late_in_training_if_its_weight_is_set(make_avatar, avatar_init):
    for weight, progress in ((0.0, 0.9), (0.1, 0.5), (0.1, 0.7)):
        avatar = make_avatar(losses=LossConfig(clear_weight=weight))
        avatar.set_progress(progress)
        assert ("clear" in train_step(avatar, avatar_init.states)) == (weight > 0 and progress > 0.6)


def test_every_weight_scales_its_term(make_avatar, avatar_init):
    avatar = stirred(make_avatar(with_mouth(avatar_init), schedule="soft"))
    rendered = avatar.train().render(front_rays(), avatar_init.states[:1], torch.zeros(1, dtype=torch.long))
    target, mask = torch.zeros(1, 64, 3), torch.ones(1, 64, 1)

    def loss() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)  # the inside of the mouth is looked at in random places
        return training_loss(avatar, rendered, target, mask)

    before = loss()
    losses = avatar.config.losses
    weighed = ("mask", "geometry", "planes", "height", "offset", "elsewhere", "ambient", "smoothness", "mouth")
    for term in weighed:
        setattr(losses, f"{term}_weight", 3 * getattr(losses, f"{term}_weight"))
    avatar.config.torso.residual_weight *= 3
    avatar.config.correction.residual_weight *= 3
    after = loss()
    assert_close(after.pop("color"), before.pop("color"))
    assert before.keys() == {*weighed, "torso", "correction"}
    for name in before:
        assert before[name] > 0, name
        assert_close(after[name], 3 * before[name])


def test_hair_in_front_of_the_head_moves_to_it_without_becoming_transparent(make_avatar, avatar_init):
    avatar = make_avatar(deformation="none").train()
    avatar.field.density_network[-1].bias.data.fill_(2.0)
    optimizer = torch.optim.Adam(avatar.field.density_network.parameters(), lr=0.03)
    seen_heights, opacities = [], []
    for _ in range(20):
        rendered = avatar.render(front_rays(), avatar_init.states[:1], torch.zeros(1, dtype=torch.long))
        assert rendered.samples is not None
        middle = (front_rays().origins[..., :2].abs() < 0.06).all(-1)
        seen_heights.append(float(rendered.samples.height[middle].mean()))
        opacities.append(float(rendered.accumulation[middle].mean()))
        optimizer.zero_grad()
        training_loss(avatar, rendered, rendered.rgb.detach(), None)["height"].backward()
        optimizer.step()
    assert seen_heights[-1] < 0.5 * seen_heights[0]
    assert min(opacities) > 0.95


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


@pytest.mark.parametrize(
    ("changes", "stage"),
    [({}, HARD), ({"schedule": "hard"}, HARD), ({"schedule": "soft"}, SOFT), ({"deformation": "global"}, HARD)],
)
def test_the_deformation_begins_at_the_mouth(make_avatar, avatar_init, changes, stage):
    avatar = make_avatar(everywhere_start=0.25, **changes)
    avatar.deformation.networks.output.data.normal_()
    skinning = avatar.skinning
    lips = skinning.canonical.verts[skinning.head.model.regions["lips"] > 0.5].mean(0)
    points = lips + torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.045, 0.0], [0.0, 0.06, 0.0]])
    canonical = CanonicalPoints(points, torch.zeros(3))

    def offsets() -> torch.Tensor:
        return avatar.warp.deform(canonical, torch.zeros(3, dtype=torch.long), avatar_init.states[:1]).offset

    avatar.eval()
    avatar.set_progress(0.24)
    at_first, first_stage = offsets(), int(avatar.stage)
    avatar.set_progress(0.25)
    assert first_stage == MOUTH and int(avatar.stage) == stage
    avatar.stage.fill_(HARD)  # the assignment of the first stage
    everywhere = offsets()
    assert everywhere.norm(dim=-1).min() > 0
    assert_close(at_first, everywhere * torch.tensor([[1.0], [0.5], [0.0]]))


def test_only_random_points_receive_the_whole_deformation_in_every_stage(make_avatar, avatar_init):
    avatar = make_avatar(everywhere_start=0.5, stage2_start=0.9, code_noise=0.0)
    avatar.deformation.networks.output.data.normal_()
    samples = {}
    for stage, progress in ((MOUTH, 0.0), (HARD, 0.5)):
        torch.manual_seed(1)
        avatar.set_progress(progress)
        rendered = avatar.train().render(front_rays(), avatar_init.states[:1], torch.zeros(1, dtype=torch.long))
        assert rendered.samples is not None
        samples[stage] = rendered.samples
    assert samples[MOUTH].random_offset.any()
    assert_close(samples[MOUTH].random_offset, samples[HARD].random_offset)
    far = avatar.skinning.mouth_share(samples[MOUTH].undeformed) == 0
    assert far.any() and samples[HARD].deformed.offset[far].any()
    assert not samples[MOUTH].deformed.offset[far].any()


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
        avatar = stirred(make_avatar(code_noise=code_noise, view_noise=0.0)).train(training)
        frames = avatar.warp.pose_frames(avatar_init.states[:1])
        return [avatar.render_frames(front_rays(), frames).rgb for _ in range(2)]

    for code_noise, training in ((0.0, True), (5.0, False)):
        first, second = two_images(code_noise, training)
        assert torch.equal(first, second), "nothing is drawn at random"
    first, second = two_images(5.0, True)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.equal(two_images(5.0, False)[0], two_images(0.0, False)[0]), "a trained avatar knows no noise"


def test_colours_see_noisy_view_directions_in_training_and_away_from_the_mouth_only(
    make_avatar, avatar_init, monkeypatch
):
    avatar = make_avatar(view_noise=0.1)
    avatar.step.fill_(2000)
    field, color, known, seen_from, at, features = avatar.field, avatar.field.color, [], [], [], []

    def spy(*inputs: torch.Tensor) -> torch.Tensor:
        features.append(inputs[0])
        seen_from.append(inputs[1])
        return color(*inputs)

    monkeypatch.setattr(field, "color", spy)
    monkeypatch.setattr(field, "update_view_statistics", lambda directions, weights: known.append(directions))
    rays, states = front_rays(side=24, half=0.05), avatar_init.states[:1]

    def deviation(training: bool, view_noise: float, mouth_share: float) -> torch.Tensor:
        """Root mean square of the noise along an axis, radians."""
        avatar.config.view_noise = view_noise
        share = lambda points: at.append(points) or torch.full((len(points),), mouth_share)  # noqa: E731
        monkeypatch.setattr(avatar.skinning, "mouth_share", share)
        with torch.no_grad():
            avatar.train(training).render(rays, states)
        exact = known[0][0]  # the rays are parallel
        assert_close(seen_from[-1].norm(dim=-1), torch.ones(len(seen_from[-1])))
        return torch.linalg.cross(seen_from[-1], exact.expand_as(seen_from[-1])).square().sum(-1).mean().div(2).sqrt()

    assert 0.08 < deviation(True, 0.1, mouth_share=0.0) < 0.12
    assert_close(known[0], known[0][:1].expand_as(known[0]), msg="the statistics are those of the rays")
    assert_close(field.features(field.contract(at[-1])), features[-1], msg="the share is that of the coloured points")
    assert 0.04 < deviation(True, 0.1, mouth_share=0.5) < 0.06
    for training, view_noise, mouth_share in ((True, 0.1, 1.0), (True, 0.0, 0.0), (False, 0.1, 0.0)):
        assert deviation(training, view_noise, mouth_share) < 1e-6
    avatar.step.fill_(1999)
    assert deviation(True, 0.1, mouth_share=0.0) < 1e-6, "noise begins later"


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
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: asked.append(device.type) or True)
    fine = make_avatar()
    coarse = make_avatar(bfloat16=True)
    coarse.load_state_dict(fine.state_dict())
    a, b = (seen(avatar, front_rays(), avatar_init.states[:1])["rgb"] for avatar in (fine, coarse))
    assert_close(a, b, atol=0.03, rtol=0)
    assert not torch.equal(a, b) and set(asked) == {"cpu"}
    train_step(coarse, avatar_init.states)
    assert learns(coarse.field.parameters())


def test_bfloat16_is_off_where_it_is_slow(make_avatar, avatar_init, monkeypatch):
    torch.manual_seed(3)
    fine = make_avatar()
    coarse = make_avatar(bfloat16=True)
    coarse.load_state_dict(fine.state_dict())
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    a, b = (seen(avatar, front_rays(), avatar_init.states[:1])["rgb"] for avatar in (fine, coarse))
    assert torch.equal(a, b)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_an_autocast_around_the_avatar_changes_nothing(make_avatar, avatar_init, monkeypatch, bfloat16):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
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
