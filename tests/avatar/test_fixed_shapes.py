"""Fixed shapes: the same results, and shapes that do not depend on values."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.geometry.rows import Rows, run_lengths
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.objective import training_loss

NUM_FRAMES, PER_FRAME = 3, 40


@pytest.fixture(params=["hard", "soft", "global", "none"])
def avatar(request, make_avatar):
    """An avatar with random networks."""
    kind = {"schedule": request.param} if request.param in ("hard", "soft") else {"deformation": request.param}
    avatar = make_avatar(**kind)
    for name, parameter in avatar.named_parameters():
        if "log_border" not in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    avatar.config.sampling.update_every = 10**6
    return avatar


@pytest.fixture
def rays():
    """Rays of three frames; some miss the person and some hit the torso."""
    origins = torch.tensor([0.0, 0.0, 0.8]).expand(NUM_FRAMES, PER_FRAME, 3)
    aims = (torch.rand(NUM_FRAMES, PER_FRAME, 3) - torch.tensor([0.5, 0.7, 0.5])) * torch.tensor([0.6, 0.8, 0.0])
    return Rays(origins, torch.nn.functional.normalize(aims - origins, dim=-1))


def losses_and_gradients(avatar, rays, states, fixed_shapes=False):
    avatar.zero_grad()
    timesteps = torch.arange(NUM_FRAMES)
    rendered = avatar.render_frames(rays, avatar.warp.pose_frames(states, timesteps), timesteps, fixed_shapes)
    terms = training_loss(avatar, rendered, torch.full_like(rendered.rgb, 0.3), torch.ones_like(rendered.accumulation))
    sum(terms.values()).backward()
    return terms, {name: p.grad for name, p in avatar.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("training", [False, True])
def test_results_are_the_same(avatar, rays, avatar_init, monkeypatch, training):
    if training:  # what is drawn at random depends on how much is drawn
        monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.full(size, 0.4))
        monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.3))
        monkeypatch.setattr(torch, "randint", lambda high, size, device=None: torch.arange(size[0]) % high)
    avatar.train(training)
    terms, gradients = losses_and_gradients(avatar, rays, avatar_init.states)
    fixed_terms, fixed_gradients = losses_and_gradients(avatar, rays, avatar_init.states, fixed_shapes=True)
    assert terms.keys() == fixed_terms.keys()
    for name in terms:
        torch.testing.assert_close(fixed_terms[name], terms[name], rtol=1e-4, atol=1e-7, msg=name)
    assert gradients.keys() == fixed_gradients.keys()
    for name in gradients:
        difference = (fixed_gradients[name] - gradients[name]).norm()
        assert difference <= 1e-3 * gradients[name].norm() + 1e-8, name


def test_no_shape_depends_on_values(avatar, rays, avatar_init):
    """Shapes of all tensors that autograd saves are the same for rays at the face and beside it."""
    away = Rays(rays.origins, rays.directions * torch.tensor([1.0, 1.0, -1.0]))
    seen = []
    for given in (rays, away):
        shapes: list[torch.Size] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=shapes: s.append(t.shape) or t, lambda t: t):
            losses_and_gradients(avatar.train(), given, avatar_init.states, fixed_shapes=True)
        seen.append(shapes)
    assert seen[0] == seen[1] and len(seen[0]) > 20


@pytest.mark.parametrize(
    ("fixed", "capacity", "computed"), [(False, None, 2), (True, None, 4), (True, 3, 3), (True, 2, 2)]
)
def test_rows_are_gathered_and_scattered(fixed, capacity, computed):
    holds, values = torch.tensor([True, False, True, False]), torch.arange(8.0).view(4, 2)
    expected = torch.tensor([[0.0, -1.0], [2.0, 3.0], [-4.0, -5.0], [6.0, 7.0]])
    rows = Rows(holds, fixed, capacity)
    assert len(rows.gather(values)) == len(rows.index) == computed
    assert torch.equal(rows.scatter(values, -rows.gather(values)), expected)


def test_runs_are_counted_or_equal():
    assert run_lengths(torch.tensor([0, 0, 0, 2]), 3) == [3, 0, 1]
    assert run_lengths(torch.zeros(6, dtype=torch.long), 3, fixed=True) == [2, 2, 2]
