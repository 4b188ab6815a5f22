"""The floor of a benchmark: the nearest training image, warped onto the tracked head of a test frame.

The training frame is the one whose posed head differs least from the test frame's, both seen from their cameras. Its
image is warped by the affine map between the projected vertices of the two heads. An avatar that falls below this
floor in any region has a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from partnerface_ns.bench.training_runs import HeldOut, split_frames
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load_with_head_model import load_with_head_model
from partnerface_ns.capture.names import CAPTURES_OWN_SPLIT, SplitName
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.rasterizer import project
from partnerface_ns.rendering.metric_regions import above_neck, metric_regions
from partnerface_ns.rendering.metrics import image_metrics, load_lpips, mean_metrics


@dataclass(frozen=True)
class FloorResult:
    """Metrics of the warped training images of one capture."""

    subject: str
    metrics: dict[str, float]
    """Means over the measured images."""
    held_out: HeldOut
    num_test: int
    """Images measured at most."""
    split: str = CAPTURES_OWN_SPLIT
    """Name of the split, or `CAPTURES_OWN_SPLIT`."""

    @property
    def key(self) -> tuple[object, ...]:
        """Identifies the result."""
        return self.subject, self.held_out, self.num_test, self.split


def measure_floor(
    folder: Path,
    held_out: HeldOut,
    num_test: int,
    head_model: Path | None = None,
    split: SplitName | None = None,
) -> FloorResult:
    """Measure the nearest training images of a capture's held-out frames.

    Args:
        folder: the capture.
        held_out: the frames to measure.
        num_test: images at most, evenly spread over these frames.
        head_model: the head model's file, if the capture does not contain it.
        split: a split by time in place of the capture's own.
    """
    capture, model = load_with_head_model(folder, head_model=head_model, split=split)
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    train, measured = split_frames(capture, held_out)
    seen = [frame for frame in train if frame not in measured]
    heads = np.stack([_head_in_camera(capture, head, frame) for frame in seen])
    background = capture.background or (1.0, 1.0, 1.0)
    lpips, _ = load_lpips()
    rows = []
    for frame in pick_evenly(measured, num_test):
        points = _head_in_camera(capture, head, frame)
        nearest = int(np.square(heads - points).sum((1, 2)).argmin())
        affine = _affine_between(_on_screen(points, frame), _on_screen(heads[nearest], seen[nearest]))
        rgb, mask = load_image(frame, background)
        size = (frame.camera.height, frame.camera.width)
        warped = warp_image(load_image(seen[nearest], background)[0], affine, size, background)
        regions = metric_regions(
            head.surface(capture.track[frame.timestep]), model, frame.camera, torch.from_numpy(mask) > 127
        )
        floor, truth = (torch.from_numpy(image).float() / 255 for image in (warped, rgb))
        rows.append(image_metrics(floor, truth, regions, lpips))
    return FloorResult(capture.name, mean_metrics(rows), held_out, num_test, split or CAPTURES_OWN_SPLIT)


def warp_image(
    rgb: UInt8[np.ndarray, "rows columns 3"],
    affine: Float[np.ndarray, "2 3"],
    shape: tuple[int, int],
    background: tuple[float, float, float],
) -> UInt8[np.ndarray, "height width 3"]:
    """Warp an image by an affine map, bilinear.

    Args:
        rgb: the image to warp.
        affine: maps pixel coordinates (x, y) of the result to those of `rgb`.
        shape: height and width of the result.
        background: colour in [0, 1] of points outside of the image.
    """
    from PIL import Image

    fill = tuple(round(255 * value) for value in background)
    size, data = (shape[1], shape[0]), tuple(affine.ravel().tolist())
    image = Image.fromarray(rgb)
    return np.array(image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=fill))


def _head_in_camera(capture: Capture, head: ShapedHead, frame: Frame) -> Float[np.ndarray, "points 3"]:
    """Posed vertices above the neck, camera frame, metres."""
    verts = head.pose(capture.track[frame.timestep]).verts.detach().cpu()[above_neck(head.model)].double().numpy()
    T_camera_world = np.linalg.inv(frame.camera.T_world_camera)
    return verts @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]


def _on_screen(points_camera: Float[np.ndarray, "points 3"], frame: Frame) -> Float[np.ndarray, "points 2"]:
    return project(points_camera, frame.camera.intrinsics, np.eye(4))[0]


def _affine_between(
    source: Float[np.ndarray, "points 2"], target: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "2 3"]:
    """The affine map from source to target points with the least squared error."""
    design = np.concatenate([source, np.ones((len(source), 1))], -1)
    return np.linalg.lstsq(design, target, rcond=None)[0].T
