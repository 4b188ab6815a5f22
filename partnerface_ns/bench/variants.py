"""The settings that are compared: the method, and what is left of it when a piece is taken away."""

from __future__ import annotations

from collections.abc import Callable

from partnerface_ns.rendering.losses import LossConfig
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.training.presets import Preset, full, lite
from partnerface_ns.warp.inverse_skinning import InverseSkinningConfig
from partnerface_ns.warp.part_assigner import PartAssignerConfig
from partnerface_ns.warp.tracking_correction import TrackingCorrectionConfig

ABLATION: dict[str, Callable[[], Preset]] = {
    "two-stage": lite,
    "hard": lambda: lite(schedule="hard"),
    "soft": lambda: lite(schedule="soft"),
    "global": lambda: lite(deformation="global"),
    "none": lambda: lite(deformation="none"),
    "two-stage, K=4": lambda: lite(num_parts=4),
    "two-stage, K=16": lambda: lite(num_parts=16),
}
"""What the parts bring."""
OTHERS: dict[str, Callable[[], Preset]] = {
    "no skinning": lambda: lite(deformation="global", skinning=InverseSkinningConfig(undo_face=False)),
    "dense": lambda: lite(
        schedule="soft",
        bfloat16=False,
        assigner=PartAssignerConfig(top_k=8),
        sampling=SamplingConfig(num_samples=64, uniform_fraction=1.0, proposal_fraction=1.0),
    ),
}
"""Built as others are: a field that moves with the head and is told the expression, as NerFace is (skinning without a
deformation field, as INSTA is, is `none`); and every part for every point, in single precision, at 64 even samples."""
SAMPLING: dict[str, Callable[[], Preset]] = {
    "16 samples": lambda: lite(sampling=SamplingConfig(num_samples=16)),
    "32 samples": lambda: lite(sampling=SamplingConfig(num_samples=32)),
    "samples by memory alone": lambda: lite(sampling=SamplingConfig(proposal_fraction=1.0)),
    "16 samples by memory alone": lambda: lite(sampling=SamplingConfig(num_samples=16, proposal_fraction=1.0)),
}
"""What it brings to ask the field where samples should go."""
TRACKING: dict[str, Callable[[], Preset]] = {
    "as tracked": lambda: lite(correction=TrackingCorrectionConfig(enabled=False)),
}
"""What it brings to correct tracking behind the face."""
PLANES: dict[str, Callable[[], Preset]] = {
    "free planes": lambda: lite(losses=LossConfig(planes_weight=0.0)),
}
"""What it brings to keep neighbouring cells of the feature planes alike."""
PRESETS: dict[str, Callable[[], Preset]] = {"full": full}
"""The preset for a GPU; two-stage is the other one."""
QUICK = ("two-stage", "none", "dense")
"""What the quick suite trains, the method first."""
FULL = ("two-stage", "hard", "soft", "global", "none", "no skinning")
"""What the full suite trains, the method first."""
VARIANTS = ABLATION | OTHERS | SAMPLING | TRACKING | PLANES | PRESETS
"""Each variant's settings; all else is the default, learning rates included."""
