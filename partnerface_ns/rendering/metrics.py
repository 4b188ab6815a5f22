"""Image metrics: PSNR, SSIM, mean absolute error and LPIPS of a whole image, and of head, mouth and eyes.

PSNR, SSIM and LPIPS are from torchmetrics, which has no masks. The PSNR of a region is therefore that of its pixels, at
most 100 dB, and the head's SSIM is the mean of the SSIM map over the head's pixels. A region without pixels has NaN.
SSIM is that of Wang et al., 2004, with a Gaussian window of 11 pixels and sigma 1.5. Images are (height, width, 3) in
[0, 1].
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
"""Margin around the head's hull, as a share of its height."""
BOX_GROWTH = 0.2
"""Growth of the boxes of mouth and eyes, as a share of width and height."""
_MAX_PSNR = 100.0
"""Upper limit in dB; the PSNR of equal images is infinite."""
_SSIM_SIGMA, _SSIM_BORDER = 1.5, 5
"""Standard deviation and half the size of the Gaussian window, pixels."""
_MIN_LPIPS_SIDE = 64
"""Smallest side of an image that AlexNet accepts, pixels."""


def metric_regions(
    verts: Float[Tensor, "verts 3"], model: HeadModel, camera: Camera
) -> dict[str, Bool[Tensor, "height width"]]:
    """Pixels of `head`, `mouth` and `eyes` in an image.

    Head is the grown convex hull of the projected vertices above the neck. Mouth is the grown box of the lips, and eyes
    are a grown box for each eye. All regions are empty if any vertex is behind the camera.

    Args:
        verts: posed vertices, world frame, metres.
        model: the head model of the vertices.
        camera: the image's camera.
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
    """Vertices of the head that are no lower than the chin in the rest pose."""
    head, jaw = (model.regions[name].cpu() > 0.5 for name in ("head", "jaw"))
    height = model.template[:, 1].cpu()
    return head & (height >= height[jaw].min()) if jaw.any() else head


def image_metrics(
    rgb: Float[Tensor, "height width 3"],
    truth: Float[Tensor, "height width 3"],
    regions: Mapping[str, Bool[Tensor, "height width"]],
) -> dict[str, float]:
    """PSNR (dB), SSIM and mean absolute error of an image, and of its regions."""
    psnr_of = {name: psnr(rgb[region], truth[region]) for name, region in regions.items()}
    similarity = ssim_map(rgb, truth)
    return {
        "psnr": psnr(rgb.flatten(0, 1), truth.flatten(0, 1)),
        "ssim": float(similarity.mean()),
        "l1": float((rgb - truth).abs().mean()),
        "psnr_head": psnr_of["head"],
        "ssim_head": float(similarity[regions["head"]].mean()) if regions["head"].any() else math.nan,
        "psnr_mouth": psnr_of["mouth"],
        "psnr_eyes": psnr_of["eyes"],
    }


def psnr(rgb: Float[Tensor, "pixels 3"], truth: Float[Tensor, "pixels 3"]) -> float:
    """Peak signal-to-noise ratio of pixels in dB, at most 100; NaN without pixels."""
    from torchmetrics.functional.image import peak_signal_noise_ratio  # importing it takes seconds

    if len(rgb) == 0:
        return math.nan
    return min(float(peak_signal_noise_ratio(rgb.double(), truth.double(), data_range=1.0)), _MAX_PSNR)


def ssim_map(
    rgb: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]
) -> Float[Tensor, "height width"]:
    """Structural similarity around each pixel, mean of the channels.

    Images are mirrored at their border. Those with a side of at most 5 pixels repeat their border pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # importing it takes seconds

    pair = torch.stack([rgb, truth]).permute(0, 3, 1, 2)
    border = 0 if min(rgb.shape[:2]) > _SSIM_BORDER else _SSIM_BORDER
    pair = F.pad(pair, [border] * 4, mode="replicate")
    _, similarity = structural_similarity_index_measure(
        pair[:1], pair[1:], sigma=_SSIM_SIGMA, data_range=1.0, return_full_image=True
    )
    height, width = rgb.shape[:2]
    return similarity[0].mean(0)[border : border + height, border : border + width]


@cache
def load_lpips() -> tuple[
    Callable[[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]], float] | None, str | None
]:
    """Load LPIPS (AlexNet); once in a process.

    The weights are torchvision's, downloaded on first use.

    Returns:
        A function of two images and None; or None and one line with the reason. The LPIPS of an image with a side below
        64 pixels is NaN.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    except (ImportError, OSError, RuntimeError) as error:  # not installed, no network, or a broken download
        return None, f"the network is not available ({' '.join(str(error).split()) or type(error).__name__})"

    @torch.no_grad()
    def lpips(rgb: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]) -> float:
        if min(rgb.shape[:2]) < _MIN_LPIPS_SIDE:
            return math.nan
        return float(network(*(image.clamp(0, 1).permute(2, 0, 1)[None] for image in (rgb, truth))))

    return lpips, None


def _pixel_centers(camera: Camera) -> tuple[Float[Tensor, "width"], Float[Tensor, "height"]]:
    return torch.arange(camera.width).double() + 0.5, torch.arange(camera.height).double() + 0.5


def _in_grown_box(points: Float[Tensor, "points 2"], camera: Camera) -> Bool[Tensor, "height width"]:
    """Pixels in the box of points, grown by `BOX_GROWTH`."""
    if len(points) == 0:
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    low, high = points.amin(0), points.amax(0)
    margin = (high - low) * BOX_GROWTH / 2
    low, high = low - margin, high + margin
    x, y = _pixel_centers(camera)
    return ((y >= low[1]) & (y <= high[1]))[:, None] & ((x >= low[0]) & (x <= high[0]))[None]


def _in_grown_hull(points: Float[Tensor, "points 2"], camera: Camera) -> Bool[Tensor, "height width"]:
    """Pixels in the convex hull of points, grown by `HEAD_GROWTH` of its height."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points.numpy())
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return torch.zeros(camera.height, camera.width, dtype=torch.bool)
    margin = HEAD_GROWTH * float(np.ptp(points[:, 1].numpy()))
    x, y = _pixel_centers(camera)
    inside = torch.ones(camera.height, camera.width, dtype=torch.bool)
    for normal_x, normal_y, offset in np.unique(hull.equations, axis=0).tolist():
        inside &= normal_y * y[:, None] + normal_x * x[None] + offset <= margin
    return inside
