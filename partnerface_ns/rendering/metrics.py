"""Image metrics: PSNR, SSIM, mean absolute error and LPIPS of a whole image and of its regions.

PSNR, SSIM and LPIPS are from torchmetrics, which has no masks. The PSNR of a region is therefore that of its pixels, at
most 100 dB, and the head's SSIM is the mean of the SSIM map over the head's pixels. A region without pixels has NaN.
SSIM is that of Wang et al., 2004, with a Gaussian window of 11 pixels and sigma 1.5. Images are (height, width, 3) in
[0, 1].

Published head avatars are often measured without the torso. The *torso-free* metrics are of the whole image, after the
torso's pixels became white in truth and result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

REGIONS_WITH_PSNR = ("head", "mouth", "eyes", "outline")
"""Regions whose PSNR is reported."""
ImageDistance: TypeAlias = Callable[[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]], float]
_MAX_PSNR = 100.0
"""Upper limit in dB; the PSNR of equal images is infinite."""
_SSIM_SIGMA, _SSIM_BORDER = 1.5, 5
"""Standard deviation and half the size of the Gaussian window, pixels."""
_MIN_LPIPS_SIDE = 64
"""Smallest side of an image that AlexNet accepts, pixels."""


def image_metrics(
    rgb: Float[Tensor, "height width 3"],
    truth: Float[Tensor, "height width 3"],
    regions: Mapping[str, Bool[Tensor, "height width"]],
    lpips: ImageDistance | None = None,
) -> dict[str, float]:
    """PSNR (dB), SSIM, mean absolute error and LPIPS of an image and of its regions.

    The head's LPIPS is that of the head's bounding box.

    Args:
        rgb: the rendered image.
        truth: the true image.
        regions: from `metric_regions`.
        lpips: from `load_lpips`; None leaves LPIPS out.
    """
    head = regions["head"]
    similarity = ssim_map(rgb, truth)
    torso_free = [torch.where(regions["torso"][..., None], torch.ones_like(image), image) for image in (rgb, truth)]
    metrics = {
        "psnr": psnr(rgb.flatten(0, 1), truth.flatten(0, 1)),
        "ssim": float(similarity.mean()),
        "l1": float((rgb - truth).abs().mean()),
        **{f"psnr_{name}": psnr(rgb[regions[name]], truth[regions[name]]) for name in REGIONS_WITH_PSNR},
        "ssim_head": float(similarity[head].mean()) if head.any() else math.nan,
        "psnr_torso_free": psnr(*(image.flatten(0, 1) for image in torso_free)),
        "ssim_torso_free": float(ssim_map(*torso_free).mean()),
    }
    if lpips is not None:
        box = _bounding_box(head)
        metrics["lpips"] = lpips(rgb, truth)
        metrics["lpips_head"] = lpips(rgb[box], truth[box])
        metrics["lpips_torso_free"] = lpips(*torso_free)
    return metrics


def mean_metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the images that have it; NaN if none has."""
    values = {name: [row[name] for row in rows if not math.isnan(row[name])] for name in rows[0]}
    return {name: sum(finite) / len(finite) if finite else math.nan for name, finite in values.items()}


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
def load_lpips() -> tuple[ImageDistance | None, str | None]:
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


def _bounding_box(region: Bool[Tensor, "height width"]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a region; an empty box for an empty region."""
    rows, columns = (region.any(axis).nonzero()[:, 0] for axis in (1, 0))
    if len(rows) == 0:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
