"""Variants of the method that benchmarks compare. Each differs from the lite preset in what its name states."""

from __future__ import annotations

from collections.abc import Callable

from partnerface_ns.avatar.unseen_surface import UnseenSurfaceConfig
from partnerface_ns.rendering.losses import LossConfig
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.training.presets import Preset, full, lite
from partnerface_ns.warp.inverse_skinning import InverseSkinningConfig
from partnerface_ns.warp.part_assigner import PartAssignerConfig
from partnerface_ns.warp.part_deformation import PartDeformationConfig
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
"""Variants of the parts and their assignment."""
OTHERS: dict[str, Callable[[], Preset]] = {
    "no skinning": lambda: lite(
        deformation="global", everywhere_start=0.0, skinning=InverseSkinningConfig(undo_face=False)
    ),
    "dense": lambda: lite(
        schedule="soft",
        everywhere_start=0.0,
        bfloat16=False,
        assigner=PartAssignerConfig(top_k=8, min_weight=0.0),
        sampling=SamplingConfig(num_samples=64, uniform_fraction=1.0, proposal_fraction=1.0),
    ),
}
"""Architectures of other methods.

- no skinning: a field that moves rigidly with the head, with the expression as an input, as in NerFace.
- dense: every part at every point, in single precision, at 64 uniform samples.

Both deform the whole head from the start. Skinning without a deformation field, as in INSTA, is `none`.
"""
BASES: dict[str, Callable[[], Preset]] = {
    "8 bases": lambda: lite(parts=PartDeformationConfig(num_bases=8)),
    "16 bases": lambda: lite(parts=PartDeformationConfig(num_bases=16)),
    "8 bases on nodes": lambda: lite(parts=PartDeformationConfig(num_bases=8, node_spacing=0.02)),
}
"""Local networks that give bases, whose coefficients are linear in the driving code."""
SAMPLING: dict[str, Callable[[], Preset]] = {
    "16 samples": lambda: lite(sampling=SamplingConfig(num_samples=16)),
    "32 samples": lambda: lite(sampling=SamplingConfig(num_samples=32)),
    "samples by memory alone": lambda: lite(sampling=SamplingConfig(proposal_fraction=1.0)),
    "16 samples by memory alone": lambda: lite(sampling=SamplingConfig(num_samples=16, proposal_fraction=1.0)),
}
"""Variants of the ray sampling: number of samples, and proposals from the occupancy grid only."""
TRACKING: dict[str, Callable[[], Preset]] = {
    "as tracked": lambda: lite(correction=TrackingCorrectionConfig(enabled=False)),
}
"""No correction of the tracking."""
PLANES: dict[str, Callable[[], Preset]] = {
    "free planes": lambda: lite(losses=LossConfig(planes_weight=0.0)),
}
"""No smoothness of the feature planes."""
OUTLINES: dict[str, Callable[[], Preset]] = {
    "clear": lambda: lite(losses=LossConfig(clear_weight=0.01)),
    "clear, 0.03": lambda: lite(losses=LossConfig(clear_weight=0.03)),
}
"""Opacity pushed to 0 or 1 late in training."""
HEIGHT: dict[str, Callable[[], Preset]] = {
    "no height": lambda: lite(losses=LossConfig(height_weight=0.0)),
    "stronger height": lambda: lite(losses=LossConfig(height_weight=1.0)),
}
"""Weights of the term that draws the visible surface to the mesh."""
COMPLETION: dict[str, Callable[[], Preset]] = {
    "no completion": lambda: lite(unseen=UnseenSurfaceConfig(enabled=False)),
}
"""No completion of the surface that no training image shows."""
PRESETS: dict[str, Callable[[], Preset]] = {"full": full}
"""The preset for a GPU."""
QUICK = ("two-stage", "none", "dense")
"""Variants of the quick suite, the method first."""
FULL = ("two-stage", "hard", "soft", "global", "none", "no skinning")
"""Variants of the full suite, the method first."""
VARIANTS = ABLATION | OTHERS | BASES | SAMPLING | TRACKING | PLANES | OUTLINES | HEIGHT | COMPLETION | PRESETS
"""All variants by name. Learning rates are the same for all."""
