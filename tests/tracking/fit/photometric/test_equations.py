"""The step of the landmarks' offsets."""

from __future__ import annotations

import torch

from partnerface_ns.tracking.fit.photometric.equations import bias_step


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
