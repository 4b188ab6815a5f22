"""Images with interpolated smooth areas.

Every second pixel of every second row is rendered, and all pixels in areas of contrast. The others are interpolated:
skin, hair and clothes are mostly smooth over two pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from partnerface_ns.avatar.render_output import Inspection, RenderOutput

MIN_SIDE = 160
"""Images with a shorter side below this are rendered whole, because two passes take longer than one. Pixels."""

RenderRays = Callable[[Float[Tensor, "rays 3"]], RenderOutput]
"""Renders rays with the given directions."""


def render_sparsely(
    render: RenderRays, directions: Float[Tensor, "height width 3"], largest_contrast: float
) -> RenderOutput:
    """Render an image, and interpolate its smooth areas.

    Args:
        render: renders rays with the given directions.
        directions: world frame, unit length, of all pixels.
        largest_contrast: difference of colour or opacity between neighbours of the coarse image, 0 to 1. Pixels
            between neighbours that differ more are rendered.

    Returns:
        All pixels, row by row. Depth and inspection colours are interpolated like the colour. At the border of nearly
        transparent areas, whose depth is 0 on one side, an interpolated depth has no meaning.
    """
    height, width = directions.shape[:2]
    if min(height, width) < MIN_SIDE or largest_contrast <= 0:
        return render(directions.flatten(0, 1))
    coarse = render(directions[::2, ::2].flatten(0, 1))
    rows, columns = (height + 1) // 2, (width + 1) // 2
    image = _to_image(coarse, rows, columns)
    visible = torch.cat([coarse.rgb, coarse.accumulation], -1).T.view(1, 4, rows, columns)
    rough = find_rough(visible, largest_contrast)[:height, :width]
    rough[::2, ::2] = False  # these are rendered already
    pixels = _interpolate(image)[:, :height, :width].flatten(1).T.contiguous()
    index = rough.flatten().nonzero()[:, 0]
    if len(index):
        pixels[index] = _to_rows(render(directions.flatten(0, 1)[index]))
    return _from_rows(pixels)


def find_rough(
    coarse: Float[Tensor, "1 channels rows columns"], largest_contrast: float
) -> Bool[Tensor, "fine_rows fine_columns"]:
    """Mask of the full-size pixels that must be rendered: the coarse image has more contrast at or next to them.

    Args:
        coarse: every second pixel of every second row. A value that is not a number counts as contrast.
        largest_contrast: see `render_sparsely`.
    """
    padded = F.pad(coarse, (0, 1, 0, 1), mode="replicate")
    contrast = F.max_pool2d(padded, 2, stride=1) + F.max_pool2d(-padded, 2, stride=1)
    rough = (~(contrast <= largest_contrast)).any(1, keepdim=True).float()
    rough = F.max_pool2d(rough, 3, stride=1, padding=1)  # a thin line may lie beside the contrast
    return F.interpolate(rough, scale_factor=2)[0, 0] > 0


def _interpolate(coarse: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels fine_rows fine_columns"]:
    """Bilinear upsampling to (2 rows + 1, 2 columns + 1) pixels. Coarse pixel (i, j) becomes pixel (2i, 2j)."""
    padded = F.pad(coarse[None], (0, 1, 0, 1), mode="replicate")
    size = (2 * coarse.shape[1] + 1, 2 * coarse.shape[2] + 1)
    return F.interpolate(padded, size, mode="bilinear", align_corners=True)[0]


def _to_rows(output: RenderOutput) -> Float[Tensor, "rays channels"]:
    return torch.cat(list(output.channels().values()), -1).float()


def _to_image(output: RenderOutput, rows: int, columns: int) -> Float[Tensor, "channels rows columns"]:
    return _to_rows(output).T.reshape(-1, rows, columns)


def _from_rows(pixels: Float[Tensor, "rays 14"]) -> RenderOutput:
    channels = (channel.contiguous() for channel in pixels.split([3, 1, 1, 3, 3, 3], 1))
    rgb, accumulation, depth, *inspected = channels
    return RenderOutput(rgb, accumulation, depth, Inspection(*inspected))
