"""What mediapipe 0.10.9 says of two images of a synthetic person.

The images are wider than high and the head is tilted. `mediapipe_0_10_9.npz` has, in pixels: box, key points and score
of `FaceDetection` with the short and the full range model in the first image; landmarks of one
`FaceMesh(refine_landmarks=True)` that saw the first and then the second image, and of another one that saw the first
image from row 60 and column 100 on; the mask of `SelfieSegmentation` in the first image, times 255.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def mediapipe_says() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "mediapipe_0_10_9.npz", allow_pickle=False) as archive:
        return dict(archive)
