"""The steadiness prior and the banded solution."""

from __future__ import annotations

import torch

from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.energy import steadiness_energy
from partnerface_ns.tracking.fit.photometric.corrections import Chain, Corrections, solve_chain

NUM, N = 7, 4


def random_chain() -> Chain:
    precision = torch.rand(NUM - 2, N) * torch.tensor([1.0, 1, 0, 1, 1])[:, None]
    return Chain(torch.randn(NUM - 2, N), precision)


def chain_energy(chain: Chain, values: torch.Tensor) -> torch.Tensor:
    second = chain.of_track + values[2:] - 2 * values[1:-1] + values[:-2]
    return 0.5 * (chain.precision * second.square()).sum()


def test_the_gradient_is_that_of_the_energy():
    chain, values = random_chain(), torch.randn(NUM, N, requires_grad=True)
    expected = torch.autograd.grad(chain_energy(chain, values), values)[0]
    torch.testing.assert_close(chain.energy_gradient(values.detach()), expected)


def test_the_reweighted_prior_has_the_gradient_of_the_steadiness_energy():
    values = 20 * torch.randn(NUM, N, requires_grad=True)
    sigmas, everywhere = torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.ones(NUM)
    chain = Chain(torch.zeros(NUM - 2, N), (1 / sigmas.square()).expand(NUM - 2, N))
    expected = torch.autograd.grad(steadiness_energy(values, sigmas, everywhere), values)[0]
    found = chain.reweighted(values.detach()).energy_gradient(values.detach())
    torch.testing.assert_close(found, expected)
    assert found.abs().max() < 0.5 * chain.energy_gradient(values.detach()).abs().max()


def test_the_banded_solution_is_the_dense_one():
    chain, root = random_chain(), torch.randn(NUM, N, N)
    hessian = root @ root.mT + torch.eye(N)
    gradient = torch.randn(NUM, N)
    dense = torch.block_diag(*hessian).double()
    dense += torch.autograd.functional.hessian(
        lambda flat: chain_energy(chain, flat.reshape(NUM, N)), torch.zeros(NUM * N)
    ).double()
    expected = torch.linalg.solve(dense, -gradient.reshape(-1).double()).reshape(NUM, N).float()
    torch.testing.assert_close(solve_chain(hessian, gradient, chain), expected, atol=1e-4, rtol=1e-3)


def test_no_correction_keeps_the_track():
    state = HeadState(*(0.3 * torch.randn(5, size) for size in (6, 3, 3, 3, 6, 3)))
    same = Corrections.zero(state, torch.tensor([0.0, 0.1, 0.05])).states()
    for name in ("expression", "rotation", "neck", "jaw", "eyes", "translation"):
        torch.testing.assert_close(getattr(same, name), getattr(state, name), atol=1e-5, rtol=0)


def test_a_head_that_turns_steadily_has_no_second_differences():
    angle = torch.linspace(-0.4, 0.4, NUM)[:, None]
    zero = torch.zeros(NUM, 3)
    track = HeadState(torch.zeros(NUM, 2), zero, angle * torch.tensor([0.0, 1.0, 0.0]), zero, torch.zeros(NUM, 6), zero)
    chain = Chain.of(track, torch.zeros(3), torch.zeros(3), torch.ones(NUM), torch.ones(13))
    assert chain.of_track.abs().max() < 1e-5
