"""nerfstudio's optimisers with the step guard of the training loop."""

from __future__ import annotations

from typing import Any, Dict, List

import torch
from nerfstudio.engine.optimizers import Optimizers
from torch import Tensor

from partnerface_ns.training.step_guard import clip_gradients


class GuardedOptimizers(Optimizers):
    """Clips the gradients that nerfstudio computed, and skips a step if they are not finite.

    All GPUs of a distributed run have the same gradients, unlike their losses, so they all take the same decision.
    """

    gradient_norms: Dict[str, Tensor]
    """Gradient norm of each parameter group in the last step."""

    def optimizer_scaler_step_some(self, grad_scaler: Any, param_groups: List[str]) -> None:
        """Step some parameter groups; the gradient scaler must be off."""
        self.gradient_norms = clip_gradients({name: self.parameters[name] for name in param_groups})
        if self.gradient_norms:
            skipped = (~torch.stack(list(self.gradient_norms.values())).isfinite().all()).float()
            for name in param_groups:
                self.optimizers[name].found_inf = skipped  # type: ignore[attr-defined]
        super().optimizer_scaler_step_some(grad_scaler, param_groups)
