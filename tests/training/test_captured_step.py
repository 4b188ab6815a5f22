"""The captured training step on a CPU, without a CUDA graph; `tests/test_gpu.py` tests the graph."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from partnerface_ns.rendering.rays import RayBatch, Rays
from partnerface_ns.training import captured_step
from partnerface_ns.training.captured_step import CapturedStep
from partnerface_ns.training.loop import PlainStep


@pytest.fixture(autouse=True)
def unrecorded(monkeypatch):
    """Work in the shapes of a recording, which gives gradients back and leaves none with their parameters; nothing is
    drawn at random.
    """

    def plainly(work):
        def run(given):
            result, gradients = work(given)
            for parameter, _ in gradients:
                parameter.grad = None
            return result, gradients

        return run

    monkeypatch.setattr(captured_step, "CapturedWork", plainly)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 1 << 31))
    monkeypatch.setattr(torch, "rand", lambda *size, device=None: torch.full(size, 0.4))
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.3))
    monkeypatch.setattr(torch, "randint", lambda high, size, device=None: torch.arange(size[0]) % high)


@pytest.fixture
def batch():
    aims = torch.linspace(-0.1, 0.1, 40)[:, None] * torch.tensor([1.0, 0.7, 0.0])
    origins = torch.tensor([0.0, 0.0, 0.8]).expand(2, 40, 3)
    rays = Rays(origins, torch.nn.functional.normalize(aims - origins, dim=-1))
    pixels, rgb = torch.zeros(2, 40, 2, dtype=torch.long), torch.linspace(0, 1, 240).view(2, 40, 3)
    return RayBatch(rays, torch.tensor([0, 1]), torch.tensor([0, 2]), pixels, rgb, torch.ones(2, 40, 1))


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_a_step_is_that_of_the_plain_loop(make_avatar, avatar_init, batch, progress):
    avatar = make_avatar().train()
    avatar.set_progress(progress)
    torch.nn.init.normal_(avatar.deformation.networks.output, std=0.1)
    avatar.step.fill_(1)  # after the first, density is remembered
    results, gradients = [], []
    for kind in (PlainStep, CapturedStep):
        results.append(kind(avatar, avatar_init.states)(batch))
        gradients.append({name: p.grad.clone() for name, p in avatar.named_parameters() if p.grad is not None})
    plain, recorded = results
    assert recorded.squared_error.tolist() == pytest.approx(plain.squared_error.tolist(), rel=1e-3)
    assert plain.squared_error[0] != plain.squared_error[1], "one for each frame"
    assert recorded.terms.keys() == plain.terms.keys() and gradients[0].keys() == gradients[1].keys()
    assert recorded.gradient_norms.keys() == plain.gradient_norms.keys() and recorded.finite
    assert float(recorded.terms["color"]) == pytest.approx(float(plain.terms["color"]), rel=1e-3)
    # Grids of displacement are kept in half precision.
    for name in ("field.planes.1", "deformation.networks.output", "torso.residual"):
        difference = (gradients[0][name] - gradients[1][name]).norm()
        assert difference <= 0.02 * gradients[0][name].norm(), name
    assert int(avatar.step) == 3, "both counted"


def test_gradients_are_restored_after_an_optimiser_set_them_to_none(make_avatar, avatar_init, batch):
    avatar = make_avatar().train()
    step = CapturedStep(avatar, avatar_init.states)
    for _ in range(2):
        avatar.zero_grad(set_to_none=True)
        step(batch)
        assert avatar.field.planes[0].grad is not None


@pytest.mark.parametrize(("frames_that_fit", "posed_again"), [(2, 0), (1.5, 1), (0, 2)])
def test_posed_frames_take_a_share_of_the_memory_that_is_free(
    make_avatar, avatar_init, batch, monkeypatch, frames_that_fit, posed_again
):
    avatar, posed = make_avatar().train(), []
    pose = avatar.skinning.pose
    one = pose(avatar_init.states[:1])
    bytes_of_one = sum(value.numel() * (2 if name == "displacement" else 4) for name, value in vars(one).items())
    monkeypatch.setattr(avatar.skinning, "pose", lambda states: posed.append(len(states)) or pose(states))
    asked = []
    free = lambda device: asked.append(device) or int(8 * frames_that_fit * bytes_of_one)  # noqa: E731
    step = CapturedStep(avatar, avatar_init.states, free)
    step(batch)
    assert posed == [1, 1], "each timestep once"
    step(replace(batch, timesteps=torch.tensor([2, 0])))
    assert posed == [1] * (2 + posed_again) and asked == [torch.device("cpu")]


def test_a_graph_is_captured_again_when_noise_on_view_directions_begins(make_avatar, avatar_init, batch, monkeypatch):
    captured, work = [], captured_step.CapturedWork
    monkeypatch.setattr(captured_step, "CapturedWork", lambda gradients: captured.append(1) or work(gradients))
    avatar = make_avatar(view_noise=0.1).train()
    avatar.step.fill_(1998)
    step = CapturedStep(avatar, avatar_init.states)
    for _ in range(4):
        step(batch)
    assert len(captured) == 2, "before step 2000 and from it on"


def test_an_avatar_is_freed_with_its_step(make_avatar, avatar_init, batch):
    avatar = make_avatar().train()
    CapturedStep(avatar, avatar_init.states)(batch)
    gone = weakref.ref(avatar)
    del avatar
    gc.collect()
    assert gone() is None
