"""nerfstudio's optimisers, behind the same guard as the training loop outside nerfstudio."""

from __future__ import annotations

from typing import Any, Dict, List

import torch
from nerfstudio.engine.optimizers import Optimizers
from torch import Tensor

from partnerface_ns.training.step_guard import clip_gradients


class GuardedOptimizers(Optimizers):
    """Clips gradients that nerfstudio computed, and leaves out a step whose gradients are not finite.

    They are the same on all GPUs that train together, unlike each one's loss; so is what is decided.
    """

    gradient_norms: Dict[str, Tensor]
    """Of the last step, by parameter group."""

    def optimizer_scaler_step_some(self, grad_scaler: Any, param_groups: List[str]) -> None:
        """As nerfstudio's own; the scaler must be off."""
        self.gradient_norms = clip_gradients({name: self.parameters[name] for name in param_groups})
        if self.gradient_norms:
            left_out = (~torch.stack(list(self.gradient_norms.values())).isfinite().all()).float()
            for name in param_groups:
                self.optimizers[name].found_inf = left_out  # type: ignore[attr-defined]
        super().optimizer_scaler_step_some(grad_scaler, param_groups)
