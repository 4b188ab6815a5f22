"""Part weights: sums, the hard rule, top-k against the dense sum, gradients, and seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from partnerface_ns.common.settings import config_from_dict
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.warp.part_assigner import PartAssigner, PartAssignerConfig, PartWeights, seed_parts

NUM_PARTS = 5
SCALE = 0.15


@pytest.fixture
def seeds() -> torch.Tensor:
    return 0.1 * torch.randn(NUM_PARTS, 3)


@pytest.fixture
def points() -> torch.Tensor:
    return 0.1 * torch.randn(60, 3)


def assigner(seeds: torch.Tensor, trained: bool = True, **config: object) -> PartAssigner:
    made = PartAssigner(PartAssignerConfig(**config), seeds, SCALE)
    if trained:  # its network says something
        torch.nn.init.normal_(made.network[-1].weight)
    return made


def dense(weights: PartWeights, num_parts: int = NUM_PARTS) -> torch.Tensor:
    """Weights of all parts, (points, parts)."""
    return torch.zeros(len(weights.index), num_parts).scatter(1, weights.index, weights.weight)


@pytest.mark.parametrize("top_k", [1, 2, NUM_PARTS, 100])
def test_weights_are_positive_sum_to_one_and_go_to_different_parts(seeds, points, top_k):
    weights = assigner(seeds, top_k=top_k).soft(points)
    assert weights.index.shape == (60, min(top_k, NUM_PARTS))
    assert (weights.weight >= 0).all()
    assert_close(weights.weight.sum(1), torch.ones(60))
    assert all(len(set(row)) == len(row) for row in weights.index.tolist())


def test_all_parts_are_the_dense_softmax(seeds, points):
    made = assigner(seeds, top_k=NUM_PARTS, min_weight=0.0)
    assert_close(dense(made.soft(points)), made.logits(points).softmax(1))


def test_fewer_parts_are_the_largest_of_them_scaled(seeds, points):
    made = assigner(seeds, top_k=2, min_weight=0.0)
    weights = made.soft(points)
    for found, index, all_weights in zip(weights.weight, weights.index, made.logits(points).softmax(1), strict=True):
        largest = sorted(range(NUM_PARTS), key=lambda k: -float(all_weights[k]))[:2]
        assert index.tolist() == largest
        assert_close(found, all_weights[largest] / all_weights[largest].sum())


def test_small_weights_become_zero_without_a_jump(seeds, points):
    made, exact = (assigner(seeds, trained=False, border=0.1, top_k=2, min_weight=w) for w in (0.2, 0.0))
    weights, before = made.soft(points).weight, exact.soft(points).weight
    assert_close(weights, (before - 0.2).clamp(min=0) / (before - 0.2).clamp(min=0).sum(1, keepdim=True))
    assert (weights == 0).any() and ((weights > 0) & (weights < 0.1)).any()


def test_equal_weights_of_many_parts_stay_finite(points):
    same = torch.zeros(16, 3)
    weights = assigner(same, trained=False, top_k=16).soft(points).weight
    assert_close(weights, torch.full((len(points), 16), 1 / 16))


def test_avatars_without_the_setting_keep_small_weights():
    stored = config_from_dict(PartAssignerConfig(), {"top_k": 3}, Path("avatar.pt"))
    assert stored == PartAssignerConfig(top_k=3, min_weight=0.0)


def test_the_hard_stage_takes_the_nearest_seed_and_trains_nothing(seeds, points):
    weights = assigner(seeds).hard(points.requires_grad_())
    for point, index in zip(points, weights.index[:, 0].tolist(), strict=True):
        assert index == min(range(NUM_PARTS), key=lambda k: float((seeds[k] - point).norm()))
    assert torch.equal(weights.weight, torch.ones(60, 1))
    assert not weights.weight.requires_grad


def test_the_soft_stage_begins_as_a_smoothed_hard_one(seeds, points):
    """The largest weight is the nearest seed's, and the wider the border the smoother."""
    sharp, smooth = (assigner(seeds, trained=False, border=b, min_weight=0.0) for b in (0.01, 0.1))
    hard = sharp.hard(points).index[:, 0]
    for made in (sharp, smooth):
        assert torch.equal(made.soft(points).index[:, 0], hard)
    apart = torch.cdist(points, seeds).topk(2, largest=False).values.diff(dim=1)[:, 0] > 1e-3
    assert (sharp.soft(points).weight[apart, 0] > smooth.soft(points).weight[apart, 0]).all()


def test_the_soft_weights_train_everything(seeds, points):
    made = assigner(seeds, top_k=3)
    values = torch.randn(NUM_PARTS)
    weights = made.soft(points)
    (values[weights.index] * weights.weight).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_pull_of_the_seeds_has_right_gradients(seeds, points):
    """While the network is zero; the weights are in double precision then."""
    made = assigner(seeds, trained=False, top_k=2).double()
    made.seeds = made.seeds.double()
    assert torch.autograd.gradcheck(made.logits, points[:5].double().requires_grad_())
    assert torch.autograd.gradcheck(lambda x: made.soft(x).weight, points[:5].double().requires_grad_())


def test_roughness_is_zero_for_one_part_and_grows_with_sharpness(seeds, points):
    all_of_them = torch.ones(len(points), dtype=torch.bool)
    assert assigner(seeds[:1]).roughness(points, all_of_them) == 0
    sharp, smooth = (
        assigner(seeds, trained=False, border=border).roughness(points, all_of_them) for border in (0.005, 0.2)
    )
    assert sharp > 5 * smooth > 0


def test_roughness_is_that_of_the_included_points(seeds, points, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.7))
    made, counted = assigner(seeds), torch.arange(len(points)) % 3 == 0
    alone = made.roughness(points[counted], torch.ones(int(counted.sum()), dtype=torch.bool))
    assert float(made.roughness(points, counted)) == pytest.approx(float(alone), rel=1e-5)
    assert made.roughness(points, torch.zeros_like(counted)) == 0


def test_seeds_are_not_trained_and_travel_with_the_state(seeds):
    made = assigner(seeds)
    assert "seeds" in made.state_dict() and "seeds" not in dict(made.named_parameters())
    seeds.zero_()
    assert made.seeds.any(), "a copy"


# -- seeds ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_head() -> ShapedHead:
    model = load_open_head()
    return ShapedHead.of(model, torch.zeros(model.num_identity))


@pytest.mark.parametrize("num_parts", [1, 4, 8, 16])
def test_seeds_lie_on_different_parts_of_the_face_and_are_always_the_same(open_head, num_parts):
    model, verts = open_head.model, open_head.verts_rest
    seeds = seed_parts(model, verts, num_parts)
    assert seeds.shape == (num_parts, 3)
    assert torch.equal(seeds, seed_parts(model, verts.clone(), num_parts))
    on_head = verts[model.regions["head"] > 0.5]
    owner = torch.cdist(on_head, seeds).argmin(1)
    shares = torch.bincount(owner, minlength=num_parts) / len(on_head)
    assert (shares > 0.2 / num_parts**1.5).all(), "no part is next to nothing"
    assert ((seeds > on_head.amin(0)) & (seeds < on_head.amax(0))).all()
    if num_parts > 1:
        apart = torch.cdist(seeds, seeds) + torch.eye(num_parts)
        assert apart.min() > 0.02


@pytest.mark.parametrize("num_parts", [8, 16])
def test_mouth_and_each_eye_have_parts_of_their_own(open_head, num_parts):
    model, verts = open_head.model, open_head.verts_rest
    seeds = seed_parts(model, verts, num_parts)
    lids, lips = model.regions["eyelids"] > 0.5, model.regions["lips"] > 0.5
    places = [verts[lips].mean(0), verts[lids & (verts[:, 0] > 0)].mean(0), verts[lids & (verts[:, 0] < 0)].mean(0)]
    nearest = [int((seeds - place).norm(dim=1).argmin()) for place in places]
    assert len(set(nearest)) == 3
    crown = verts[verts[:, 1].argmax()]
    assert int((seeds - crown).norm(dim=1).argmin()) not in nearest


def test_any_number_of_parts_on_any_head(tiny_head):
    for num_parts in (1, 3, 16):
        seeds = seed_parts(tiny_head, tiny_head.template, num_parts)
        assert seeds.shape == (num_parts, 3) and seeds.isfinite().all()
