"""Settings of an avatar. Each component's settings are documented beside the component."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from partnerface_ns.avatar.unseen_surface import UnseenSurfaceConfig
from partnerface_ns.fields.canonical_field import CanonicalFieldConfig
from partnerface_ns.rendering.losses import LossConfig
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.warp.canonical_space import CanonicalSpaceConfig
from partnerface_ns.warp.displacement_grid import DisplacementGridConfig
from partnerface_ns.warp.inverse_skinning import InverseSkinningConfig
from partnerface_ns.warp.part_assigner import PartAssignerConfig
from partnerface_ns.warp.part_deformation import PartDeformationConfig
from partnerface_ns.warp.torso import TorsoConfig
from partnerface_ns.warp.tracking_correction import TrackingCorrectionConfig


@dataclass
class AvatarConfig:
    """Settings of an avatar and its components."""

    ABSENT: ClassVar[dict[str, float]] = {"everywhere_start": 0.0, "view_noise": 0.0}
    """Values of settings that older avatars do not store."""

    deformation: Literal["parts", "global", "none"] = "parts"
    """parts: K local networks; global: one network with as many parameters; none: inverse skinning only."""
    schedule: Literal["two-stage", "hard", "soft"] = "two-stage"
    """Part assignment after `everywhere_start`. two-stage: hard, then soft from `stage2_start` on. hard, soft: only
    this one."""
    everywhere_start: float = 0.5
    """Training progress, 0 to 1, at which the deformation begins everywhere; before, at the mouth only."""
    num_parts: int = 8
    """K, the number of parts; the method's paper does not publish its own."""
    stage2_start: float = 0.65
    """Training progress, 0 to 1, at which the soft stage begins."""
    code_noise: float = 0.5
    """Standard deviation of noise on the normalised driving code in training, against overfitting to frames."""
    view_noise: float = 0.2
    """Standard deviation along each axis of noise on the unit view directions of rays, from the 2000th step of training
    on. It fades out towards the mouth. A view direction in the head's frame tells frames apart, so in long runs colours
    overfit to it."""
    bfloat16: bool = True
    """Whether the networks compute in bfloat16 on GPUs that multiply it and on CPUs with AMX. Others use float32."""
    skinning: InverseSkinningConfig = field(default_factory=InverseSkinningConfig)
    """Inverse skinning."""
    displacement: DisplacementGridConfig = field(default_factory=DisplacementGridConfig)
    """Displacement grids of the face's motion."""
    space: CanonicalSpaceConfig = field(default_factory=CanonicalSpaceConfig)
    """Region of the canonical space where density may be."""
    torso: TorsoConfig = field(default_factory=TorsoConfig)
    """Torso bone."""
    correction: TrackingCorrectionConfig = field(default_factory=TrackingCorrectionConfig)
    """Tracking correction."""
    assigner: PartAssignerConfig = field(default_factory=PartAssignerConfig)
    """Soft assignment of points to parts."""
    parts: PartDeformationConfig = field(default_factory=PartDeformationConfig)
    """The local deformation networks."""
    canonical: CanonicalFieldConfig = field(default_factory=CanonicalFieldConfig)
    """The canonical radiance field."""
    unseen: UnseenSurfaceConfig = field(default_factory=UnseenSurfaceConfig)
    """Completion of the surface that no training image shows."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Samples along a ray."""
    losses: LossConfig = field(default_factory=LossConfig)
    """Weights of the training losses."""
