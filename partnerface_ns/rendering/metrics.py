"""How close a rendered image is to the truth: over the whole image, the head, the mouth and the eyes.

Images are (height, width, 3) in [0, 1]. PSNR is that of the mean squared error over a region's pixels, at most
100 dB; a region without a pixel in the image has NaN. SSIM is that of Wang et al., 2004, with a Gaussian window of
11 pixels and sigma 1.5; the head's is the mean of its map over the head's pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.geometry.camera import Camera, project_points

HEAD_GROWTH = 0.05
"""The head's hull is grown to all sides by this share of its height."""
BOX_GROWTH = 0.2
"""Boxes of mouth and eyes are wider and higher by this share."""
_WINDOW, _SIGMA = 11, 1.5
_MIN_SQUARED_ERROR = 1e-10
_MIN_LPIPS_SIDE = 64


def metric_regions(
    verts: Float[Tensor, "verts 3"], model: HeadModel, camera: Camera
) -> dict[str, Bool[Tensor, "height width"]]:
    """The pixels of `head`, `mouth` and `eyes` in an image.

    Head is the convex hull of the projected vertices above the neck (no lower than the chin in the rest pose), mouth
    the box of the lips, eyes a box for each of them. Regions are empty where a vertex is not in front of the camera.

    Args:
        verts: posed vertices, world frame.
        model: their head model.
        camera: of the image.
    """
    verts = verts.detach().cpu()
    T = torch.from_numpy(camera.T_world_camera).to(verts.dtype)
    in_front = bool((((verts - T[:3, 3]) @ T[:3, 2]) < 0).all())
    empty = torch.zeros(camera.height, camera.width, dtype=torch.bool)
    if not in_front:
        return {name: empty for name in ("head", "mouth", "eyes")}
    points = project_points(verts, camera.intrinsics, T).double()
    eyes = torch.maximum(model.regions["eyeballs"], model.regions["eyelids"]).cpu() > 0.5
    left = model.template[:, 0].cpu() > 0
    return {
        "head": _in_grown_hull(points[above_neck(model)], camera),
        "mouth": _in_grown_box(points[model.regions["lips"].cpu() > 0.5], camera),
        "eyes": _in_grown_box(points[eyes & left], camera) | _in_grown_box(points[eyes & ~left], camera),
    }


def above_neck(model: HeadModel) -> Bool[Tensor, "verts"]:
    """Vertices of the head without the neck: no lower than the chin in the rest pose."""
    head, jaw = (model.regions[name].cpu() > 0.5 for name in ("head", "jaw"))
    height = model.template[:, 1].cpu()
    return head & (height >= height[jaw].min()) if jaw.any() else head


def image_metrics(
    rgb: Float[Tensor, "height width 3"],
    truth: Float[Tensor, "height width 3"],
    regions: Mapping[str, Bool[Tensor, "height width"]],
) -> dict[str, float]:
    """PSNR (dB), SSIM and mean absolute error of an image, and of its regions."""
    squared_error = (rgb - truth).square().mean(-1)
    similarity = ssim_map(rgb, truth)
    return {
        "psnr": psnr(squared_error.flatten()),
        "ssim": float(similarity.mean()),
        "l1": float((rgb - truth).abs().mean()),
        "psnr_head": psnr(squared_error[regions["head"]]),
        "ssim_head": float(similarity[regions["head"]].mean()) if regions["head"].any() else math.nan,
        "psnr_mouth": psnr(squared_error[regions["mouth"]]),
        "psnr_eyes": psnr(squared_error[regions["eyes"]]),
    }


def psnr(squared_error: Float[Tensor, "pixels"]) -> float:
    """Peak signal to noise ratio in dB of pixels' squared errors; NaN without pixels."""
    if squared_error.numel() == 0:
        return math.nan
    return -10 * math.log10(max(float(squared_error.double().mean()), _MIN_SQUARED_ERROR))


def ssim_map(
    rgb: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """Structural similarity around each pixel, mean of the channels; the image is mirrored at its border."""
    x, y = rgb.permute(2, 0, 1)[:, None].double(), truth.permute(2, 0, 1)[:, None].double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x.square(), _blurred(y * y) - mean_y.square()
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    contrast = (2 * covariance + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (luminance * contrast).mean(0)[0].to(rgb.dtype)


@cache
def load_lpips() -> tuple[
    Callable[[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]], float] | None, str | None
]:
    """LPIPS (AlexNet) of two images, or one line that says why there is none; tried once in a process.

    Its weights are torchvision's, downloaded on first use. Images below 64 pixels a side have NaN.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    except (ImportError, OSError, RuntimeError) as error:  # not installed; no network; a broken download
        return None, f"its network cannot be had ({' '.join(str(error).split()) or type(error).__name__})"

    @torch.no_grad()
    def lpips(rgb: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]) -> float:
        if min(rgb.shape[:2]) < _MIN_LPIPS_SIDE:
            return math.nan
        return float(network(*(image.clamp(0, 1).permute(2, 0, 1)[None] for image in (rgb, truth))))

    return lpips, None


def _blurred(planes: Float[Tensor, "channels 1 height width"]) -> Float[Tensor, "channels 1 height width"]:
    offsets = torch.arange(_WINDOW, dtype=planes.dtype, device=planes.device) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _SIGMA).square())
    kernel = kernel / kernel.sum()
    border = _WINDOW // 2
    mirror = min(planes.shape[-2:]) > border  # smaller images have too few pixels to mirror
    padded = F.pad(planes, [border] * 4, mode="reflect" if mirror else "replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])


def _pixel_centers(camera: Camera) -> tuple[Float[Tensor, "width"], Float[Tensor, "height"]]:
    return torch.arange(camera.width).double() + 0.5, torch.arange(camera.height).double() + 0.5


def _in_grown_box(points: Float[Tensor, "points 2"], camera: Camera) -> Bool[Tensor, "height width"]:
    if len(points) == 0:
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    low, high = points.amin(0), points.amax(0)
    grow = (high - low) * BOX_GROWTH / 2
    low, high = low - grow, high + grow
    x, y = _pixel_centers(camera)
    return ((y >= low[1]) & (y <= high[1]))[:, None] & ((x >= low[0]) & (x <= high[0]))[None]


def _in_grown_hull(points: Float[Tensor, "points 2"], camera: Camera) -> Bool[Tensor, "height width"]:
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points.numpy())
    except (QhullError, ValueError):  # too few points, or all on a line
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    growth = HEAD_GROWTH * float(np.ptp(points[:, 1].numpy()))
    x, y = _pixel_centers(camera)
    inside = torch.ones(camera.height, camera.width, dtype=torch.bool)
    for normal_x, normal_y, offset in np.unique(hull.equations, axis=0).tolist():
        inside &= normal_y * y[:, None] + normal_x * x[None] + offset <= growth
    return inside
