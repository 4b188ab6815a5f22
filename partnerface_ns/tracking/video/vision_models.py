"""The choice of models that look at images, with MediaPipe's networks as defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from partnerface_ns.tracking.video.detection import BlazeFaceDetector
from partnerface_ns.tracking.video.interfaces import FaceDetector, LandmarkDetector, Matting
from partnerface_ns.tracking.video.landmarks import FaceMeshDetector
from partnerface_ns.tracking.video.networks.selfie_segmenter import SelfieSegmenter


@dataclass(frozen=True)
class VisionModels:
    """Constructors of the models; the pipeline calls each once for every pass over the video."""

    faces: Callable[[], FaceDetector] = BlazeFaceDetector
    landmarks: Callable[[], LandmarkDetector] = FaceMeshDetector
    matting: Callable[[], Matting] = SelfieSegmenter

    def names(self) -> dict[str, str]:
        """The name of each model's constructor. An interrupted run is not resumed with other models."""
        constructors = {f"{field.name}_model": getattr(self, field.name) for field in fields(self)}
        return {key: getattr(value, "__qualname__", repr(value)) for key, value in constructors.items()}
