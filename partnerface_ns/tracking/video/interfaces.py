"""Interfaces of the models that look at images: face detector, landmark detector and matting.

To use a better model, write one class with the methods of its interface in a new file, and pass the class to the
pipeline:

    track_video(video, folder, head_model, options, models=VisionModels(matting=MyMatting))

The pipeline creates one object for each pass over the video and calls it in order of time, from one thread. The matting
model sees each image, then the part around its head. Images are uint8 RGB; pixel coordinates are x right and y down.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

Box: TypeAlias = Float[np.ndarray, "4"]
"""A face from brows to chin: left, top, width, height in pixels."""


@runtime_checkable
class FaceDetector(Protocol):
    """Finds all faces in a frame."""

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> list[Box]:
        """Return the boxes of all faces, largest first; an empty list if there is no face."""
        ...


class FaceLandmarks(NamedTuple):
    """The landmarks of one face."""

    points: Float[np.ndarray, "landmarks 3"]
    """x, y and depth in pixels (smaller depth is nearer), in the order of MediaPipe's 478 landmarks."""
    disagreement: float
    """Uncertainty of the detection, pixels; 0 if it is not known."""


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds the 478 landmarks of MediaPipe's face mesh in a square image of one face."""

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> FaceLandmarks | None:
        """Return the landmarks, or None if there is no face."""
        ...


@runtime_checkable
class Matting(Protocol):
    """Separates people from the background."""

    def __call__(self, rgb: UInt8[np.ndarray, "rows columns 3"], /) -> Float[np.ndarray, "rows columns"]:
        """Return the matte in [0, 1], float32, 1 on people.

        Its edges need not be exact: the pipeline refines them from the colours of the video.
        """
        ...
