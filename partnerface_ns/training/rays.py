"""Training rays: which pixels a step sees.

`RaySampler` aims shares of a step's rays at mouth, eyes, head and outline. `region_boxes` finds these regions with the
tracked head. Pixel coordinates are rows and columns; boxes are (left, top, right, bottom) in pixels. The shares are our
choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera, project_points, rays_through_pixels
from partnerface_ns.rendering.metrics import above_neck
from partnerface_ns.rendering.rays import RayBatch, Rays

_NEAR = 0.01
"""Metres before the camera from which on a point is in sight."""


@dataclass
class RaySamplerConfig:
    """Which pixels a training step sees."""

    rays_per_batch: int = 1024
    """Rays of a step."""
    frames_per_batch: int = 4
    """Images that the rays of a step come from; the head is posed once for each."""
    mouth_share: float = 0.1
    """Share of rays aimed at the mouth's box."""
    eyes_share: float = 0.15
    """Share of rays aimed at the eyes' box."""
    outline_share: float = 0.15
    """Share of rays aimed at the person's outline in the head's box, where half of the head's error is."""
    head_share: float = 0.25
    """Share of rays aimed anywhere in the head's box."""
    foreground_share: float = 0.15
    """Share of rays aimed at the person; the rest falls anywhere in the image."""

    def __post_init__(self) -> None:
        shares = {name: value for name, value in vars(self).items() if name.endswith("_share")}
        if min(shares.values()) < 0 or sum(shares.values()) > 1 + 1e-6:
            named = ", ".join(f"{name} {value:g}" for name, value in shares.items())
            raise InputError("sampler", "shares of rays", expected="none below 0, at most 1 together", found=named)


@dataclass(frozen=True)
class TrainingImages:
    """Training images in memory, uint8."""

    rgb: Sequence[np.ndarray]
    """(height, width, 3) each, composited on the background."""
    mask: Sequence[np.ndarray]
    """(height, width) each, person = 255."""
    frames: Sequence[Frame]
    boxes: Float[np.ndarray, "images regions 4"]
    """Boxes of mouth, eyes and head in each image: left, top, right, bottom in pixels; they may reach beyond it."""


class RaySampler:
    """Draws each step's rays; the same seed and step always give the same rays."""

    def __init__(self, config: RaySamplerConfig, images: TrainingImages, seed: int = 0) -> None:
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
        """Rows and columns: mouth, eyes, head, outline, person, anywhere."""
        c, mask = self.config, self.images.mask[index]
        height, width = mask.shape
        whole = np.array([0, 0, width, height], np.float32)
        boxes = self._boxes[index]
        in_sight = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        # Rays aimed at what lies outside the image fall anywhere.
        shares = np.array([c.mouth_share, c.eyes_share, c.head_share, c.outline_share]) * in_sight[[0, 1, 2, 2]]
        *in_boxes, on_outline, on_person = (int(count * share) for share in (*shares, c.foreground_share))
        boxed = [_in_box(rng, box, n, height, width) for box, n in zip(boxes, in_boxes, strict=True)]
        # Rejection keeps the memory small: of several candidates for each ray, those that hit are taken first.
        near_outline = _in_box(rng, boxes[-1], 24 * on_outline, height, width)
        outline = _first(near_outline, beside_outline(mask, near_outline, boxes[-1]), on_outline)
        candidates = _in_box(rng, whole, 4 * on_person, height, width)
        person = _first(candidates, mask[candidates[:, 0], candidates[:, 1]] >= 128, on_person)
        anywhere = _in_box(rng, whole, count - sum(in_boxes) - on_outline - on_person, height, width)
        return np.concatenate([*boxed, outline, person, anywhere])


def _first(pixels: np.ndarray, hits: np.ndarray, count: int) -> np.ndarray:
    """`count` of the pixels, those that hit before those that do not."""
    return pixels[np.argsort(~hits, kind="stable")[:count]]


def beside_outline(mask: np.ndarray, pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether the person ends near each pixel: whether it and places beside it, a hundredth of the box's height off,
    lie partly inside and partly outside.
    """
    reach = max(1, round(float(box[3] - box[1]) / 100))
    steps = reach * np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
    beside = (pixels[:, None] + steps).clip(0, np.array(mask.shape) - 1)
    inside = (mask[beside[..., 0], beside[..., 1]] >= 128).sum(1)
    return (inside > 0) & (inside < len(steps))


def _in_box(rng: np.random.Generator, box: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    left, top, right, bottom = box
    # The image's last edge belongs to its last pixel.
    x = rng.uniform(left, right, count).clip(0, width - 1)
    y = rng.uniform(top, bottom, count).clip(0, height - 1)
    return np.stack([y, x], -1).astype(np.int64)


def region_boxes(
    head: ShapedHead, track: HeadState, frames: Sequence[Frame], margin: float = 0.2
) -> Float[np.ndarray, "images regions 4"]:
    """Boxes of mouth, eyes and head, grown by `margin` of their size: left, top, right, bottom in pixels.

    Args:
        head: the person.
        track: head states, batch axes (timesteps,).
        frames: the images.
        margin: growth to all sides together, as a share of width and height.

    Returns:
        Boxes around what lies before the camera, which may reach beyond the image; zeros where nothing does.

    Raises:
        InputError: a head state poses the head nowhere.
    """
    regions = head.model.regions
    eyes = torch.maximum(regions["eyeballs"], regions["eyelids"])
    picks = [torch.nonzero(mask > 0.5)[:, 0] for mask in (regions["lips"], eyes, above_neck(head.model))]
    boxes = np.empty((len(frames), len(picks), 4), np.float32)
    for start in range(0, len(frames), 64):
        part = frames[start : start + 64]
        verts = head.pose(track[torch.tensor([f.timestep for f in part])]).verts
        for i, frame in enumerate(part):
            if not bool(verts[i].isfinite().all()):
                name = frame.image_path or "capture"
                raise InputError(
                    name, "the head is posed nowhere", key=f"timestep {frame.timestep}", expected="finite head states"
                )
            for region, pick in enumerate(picks):
                boxes[start + i, region] = _box_around(verts[i, pick], frame.camera, margin)
    return boxes


def _box_around(points: Float[Tensor, "points 3"], camera: Camera, margin: float) -> Float[np.ndarray, "4"]:
    """A grown box around those points of the world that lie before the camera; zeros without any."""
    T = torch.from_numpy(camera.T_world_camera).float()
    before = points[(points - T[:3, 3]) @ T[:3, 2] < -_NEAR]
    if len(before) == 0:
        return np.zeros(4, np.float32)
    at = project_points(before, camera.intrinsics, T)
    low, high = at.amin(0), at.amax(0)
    grow = (high - low) * margin / 2
    return torch.cat([low - grow, high + grow]).numpy()
