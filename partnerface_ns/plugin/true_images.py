"""The true image beside the avatar: a page image whose left half shows the video's image of a frame."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from PIL import Image
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.images import load_image


class TrueImages:
    """Images of a capture for pages. A timestep of several cameras is shown by the first of them."""

    def __init__(self, capture: Capture, background: tuple[float, float, float]) -> None:
        """
        Args:
            capture: the capture.
            background: colour on which the capture's images are composited, in [0, 1].
        """
        self._background = background
        self._frames = {frame.timestep: frame for frame in reversed(capture.frames) if frame.image_path is not None}

    def pane(
        self, timestep: int, height: int, width: int, background: Float[Tensor, "3"]
    ) -> Float[Tensor, "height width 3"]:
        """The image of a timestep at a height, its middle cropped or padded to a width.

        A page has the vertical field of view of the capture's camera, so both halves show the head at one scale.

        Args:
            timestep: the frame of the track. One without an image, or whose file was removed, shows the background.
            height: pixels.
            width: pixels.
            background: colour behind the person, in [0, 1]. Outside the mask it replaces the image's own background.
        """
        background = background.cpu()
        pane = background.expand(height, width, 3).clone()
        frame = self._frames.get(timestep)
        if frame is None or frame.image_path is None or not frame.image_path.exists():
            return pane
        rgb, mask = load_image(frame, self._background)
        shown = round(rgb.shape[1] * height / rgb.shape[0])
        pixels, cover = _resize(rgb, shown, height), _resize(mask, shown, height)[..., None]
        change = background - torch.tensor(self._background)
        pixels = (pixels + (1 - cover) * change).clamp(0, 1)
        left, start = max(0, (width - shown) // 2), max(0, (shown - width) // 2)
        columns = min(width, shown)
        pane[:, left : left + columns] = pixels[:, start : start + columns]
        return pane


def _resize(image: np.ndarray, width: int, height: int) -> Tensor:
    """Resize a uint8 image; values in [0, 1]."""
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized)) / 255


def right_half(camera: Cameras) -> Cameras:
    """The camera of the right half of a page's image, shape (1,): half as wide, with the same view in its middle."""
    width = int(camera.width) - int(camera.width) // 2
    return Cameras(
        camera.camera_to_worlds,
        camera.fx,
        camera.fy,
        torch.full_like(camera.cx, width / 2),
        camera.cy,
        torch.full_like(camera.width, width),
        camera.height,
        camera_type=camera.camera_type,
        times=camera.times,
        metadata=camera.metadata,
    )


def put_beside(outputs: dict[str, Tensor], pane: Float[Tensor, "height left 3"]) -> dict[str, Tensor]:
    """Outputs (height, width, channels) with the pane on their left. Outputs of one channel get zeros there."""
    panes = {3: pane, 1: torch.zeros_like(pane[..., :1])}
    return {name: torch.cat([panes[values.shape[-1]].to(values), values], 1) for name, values in outputs.items()}
