"""The step of the landmarks' offsets, and the errors of the outline."""

from __future__ import annotations

import torch

from partnerface_ns.tracking.fit.energy import CORRELATED_POINTS, pseudo_huber
from partnerface_ns.tracking.fit.photometric.equations import bias_step, outline_errors


def test_the_step_minimises_the_energy_outside_the_excluded_directions():
    generator = torch.Generator().manual_seed(0)
    num = 6
    factors = torch.randn(num, 3, 3, generator=generator)
    hessian = factors @ factors.mT + torch.eye(3)
    gradient = torch.randn(num, 3, generator=generator)
    excluded = torch.linalg.qr(torch.randn(3 * num, 4, generator=generator))[0]
    step = bias_step(hessian, gradient, excluded)
    torch.testing.assert_close(excluded.mT @ step.flatten(), torch.zeros(4), atol=1e-5, rtol=0)
    # What remains of the gradient is along the excluded directions alone.
    left = ((hessian @ step[..., None])[..., 0] + gradient).flatten()
    torch.testing.assert_close(left - excluded @ (excluded.mT @ left), torch.zeros(3 * num), atol=1e-5, rtol=0)
    assert left.norm() > 0.1


def test_errors_of_the_outline_are_derivatives_of_its_energy():
    generator, focal, sigma = torch.Generator().manual_seed(0), 500.0, 1.5
    verts = torch.randn(1, 5, 3, generator=generator, dtype=torch.float64) * 0.05 - torch.tensor([0.0, 0.0, 1.0])
    verts.requires_grad_()
    pixels = 128 + focal * torch.tensor([1.0, -1.0]) * verts[..., :2] / -verts[..., 2:]
    index = torch.tensor([[3, 0, 1, 1]])
    weights = torch.tensor([[1.0, 0.5, 1.0, 0.0]], dtype=torch.float64)
    angle = torch.tensor([0.3, 2.0, 4.0, 0.0], dtype=torch.float64)
    normals = torch.stack([angle.cos(), angle.sin()], -1)
    beside = pixels[0, index[0]].detach() - torch.tensor([2.0, -8.0, 0.5, 0.0])[:, None] * normals
    outline = torch.cat([beside, normals], -1)[None]
    outline[0, 3] = torch.nan  # without a match
    errors = outline_errors(verts, pixels, outline, index, weights, sigma, focal)
    torch.testing.assert_close(errors.distances[0].detach(), torch.tensor([2.0, -8.0, 0.5, 0.0]).double())
    (of_positions,) = torch.autograd.grad(errors.distances[0, 1], verts, retain_graph=True)
    torch.testing.assert_close(errors.slope[0, 1].detach(), of_positions[0, 0])
    distances = errors.distances.detach().requires_grad_()
    energy = (weights * pseudo_huber((distances / sigma).square())).sum() / CORRELATED_POINTS
    (force,) = torch.autograd.grad(energy, distances)
    torch.testing.assert_close((errors.weights * errors.distances).detach(), force)
    assert not errors.slope[0, 3].any() and errors.weights[0, 3] == 0
