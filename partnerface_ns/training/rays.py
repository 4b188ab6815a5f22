"""Training rays: the pixels of each step.

`RaySampler` aims shares of a step's rays at mouth, eyes, head and outline. Pixel coordinates are rows and columns;
boxes are (left, top, right, bottom) in pixels. The shares are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.camera import rays_through_pixels
from partnerface_ns.rendering.rays import RayBatch, Rays


@dataclass
class RaySamplerConfig:
    """Number and distribution of a step's rays."""

    rays_per_batch: int = 512
    """Number of rays in a step."""
    frames_per_batch: int = 2
    """Number of images that a step's rays come from. The head is posed once for each."""
    mouth_share: float = 0.1
    """Share of rays aimed at the mouth's box."""
    eyes_share: float = 0.15
    """Share of rays aimed at the eyes' box."""
    outline_share: float = 0.15
    """Share of rays aimed at the person's outline in the head's box, where half of the head's error lies."""
    head_share: float = 0.25
    """Share of rays aimed anywhere in the head's box."""
    foreground_share: float = 0.15
    """Share of rays aimed at the person. All remaining rays fall anywhere in the image."""

    def __post_init__(self) -> None:
        shares = {name: value for name, value in vars(self).items() if name.endswith("_share")}
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-6:
            named = ", ".join(f"{name} {value:g}" for name, value in shares.items())
            raise InputError(
                "sampler",
                "the shares of rays are invalid",
                expected="shares of at least 0 with a sum of at most 1",
                actual=named,
            )


@dataclass(frozen=True)
class TrainingImages:
    """Training images in memory, uint8."""

    rgb: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    """Colours of each image over the background."""
    mask: Sequence[UInt8[np.ndarray, "_ _"]]
    """Foreground of each image; the person is 255."""
    frames: Sequence[Frame]
    """Camera and timestep of each image."""
    boxes: Float[np.ndarray, "images regions 4"]
    """Boxes of mouth, eyes and head in each image, from `region_boxes.py`."""


class RaySampler:
    """Draws the rays of each step. The same seed and step always give the same rays."""

    def __init__(self, config: RaySamplerConfig, images: TrainingImages, seed: int = 0) -> None:
        """
        Args:
            config: number and distribution of rays.
            images: the training images.
            seed: seed of all random choices.
        """
        self.config, self.images, self.seed = config, images, seed
        sides = np.array([mask.shape[::-1] * 2 for mask in images.mask], np.float32)
        self._boxes = np.clip(images.boxes, 0, sides[:, None])

    def sample(self, step: int) -> RayBatch:
        """The rays of a step, equally many of each frame."""
        rng = np.random.default_rng((self.seed, step))
        num_images = len(self.images.rgb)
        num_frames = min(self.config.frames_per_batch, num_images)
        chosen = sorted(rng.choice(num_images, num_frames, replace=False).tolist())
        per_frame = self.config.rays_per_batch // num_frames
        pixels = np.stack([self._pixels(rng, i, per_frame) for i in chosen])
        origins, directions = zip(*(self._rays(i, p) for i, p in zip(chosen, pixels, strict=True)), strict=True)
        rgb = np.stack([self.images.rgb[i][p[:, 0], p[:, 1]] for i, p in zip(chosen, pixels, strict=True)])
        mask = np.stack([self.images.mask[i][p[:, 0], p[:, 1]] for i, p in zip(chosen, pixels, strict=True)])
        return RayBatch(
            rays=Rays(torch.stack(origins), torch.stack(directions)),
            image_index=torch.tensor(chosen),
            timesteps=torch.tensor([self.images.frames[i].timestep for i in chosen]),
            pixels=torch.from_numpy(pixels),
            rgb=torch.from_numpy(rgb).float() / 255,
            mask=torch.from_numpy(mask)[..., None].float() / 255,
        )

    def _rays(self, index: int, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        camera = self.images.frames[index].camera
        centers = torch.from_numpy(pixels[:, ::-1].copy()).float() + 0.5
        return rays_through_pixels(centers, camera.intrinsics, torch.from_numpy(camera.T_world_camera).float())

    def _pixels(self, rng: np.random.Generator, index: int, count: int) -> np.ndarray:
        """Rows and columns of pixels, in the order mouth, eyes, head, outline, person, anywhere."""
        c, mask = self.config, self.images.mask[index]
        height, width = mask.shape
        whole = np.array([0, 0, width, height], np.float32)
        boxes = self._boxes[index]
        visible = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        # Rays aimed at a box outside the image fall anywhere.
        shares = np.array([c.mouth_share, c.eyes_share, c.head_share, c.outline_share]) * visible[[0, 1, 2, 2]]
        *in_boxes, on_outline, on_person = (int(count * share) for share in (*shares, c.foreground_share))
        boxed = [_in_box(rng, box, n, height, width) for box, n in zip(boxes, in_boxes, strict=True)]
        # Rejection sampling: of several candidates for each ray, those that satisfy the condition are taken first.
        near_outline = _in_box(rng, boxes[-1], 24 * on_outline, height, width)
        outline = _take_hits(near_outline, is_near_outline(mask, near_outline, boxes[-1]), on_outline)
        candidates = _in_box(rng, whole, 4 * on_person, height, width)
        person = _take_hits(candidates, mask[candidates[:, 0], candidates[:, 1]] >= 128, on_person)
        anywhere = _in_box(rng, whole, count - sum(in_boxes) - on_outline - on_person, height, width)
        return np.concatenate([*boxed, outline, person, anywhere])


def _take_hits(pixels: np.ndarray, hits: np.ndarray, count: int) -> np.ndarray:
    """The first `count` pixels, hits before all others."""
    return pixels[np.argsort(~hits, kind="stable")[:count]]


def is_near_outline(
    mask: UInt8[np.ndarray, "height width"], pixels: Int[np.ndarray, "pixels 2"], box: Float[np.ndarray, "4"]
) -> Bool[np.ndarray, "pixels"]:
    """Whether the person's outline passes near each pixel.

    The pixel and four pixels around it, at a hundredth of the box's height, must lie partly inside and partly outside.

    Args:
        mask: foreground; the person is 255.
        pixels: rows and columns.
        box: the head's box: left, top, right, bottom in pixels.
    """
    reach = max(1, round(float(box[3] - box[1]) / 100))
    steps = reach * np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
    around = (pixels[:, None] + steps).clip(0, np.array(mask.shape) - 1)
    inside = (mask[around[..., 0], around[..., 1]] >= 128).sum(1)
    return (inside > 0) & (inside < len(steps))


def _in_box(rng: np.random.Generator, box: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """Random pixels in a box, as rows and columns."""
    left, top, right, bottom = box
    # A coordinate on the image's right or lower edge belongs to the last pixel.
    x = rng.uniform(left, right, count).clip(0, width - 1)
    y = rng.uniform(top, bottom, count).clip(0, height - 1)
    return np.stack([y, x], -1).astype(np.int64)
