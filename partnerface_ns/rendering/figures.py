"""Figures: sheets of labelled images, error images, part colours over a face, image and clip files.

An image is uint8 (height, width, 3). Files are written atomically.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from partnerface_ns.common.atomic import atomic_write

WHITE_ERROR = 0.25
"""Mean absolute error of a pixel, for colours in [0, 1], that an error image shows as white."""
_GAP, _LABEL, _TEXT_SIZE = 4, 20, 13
"""Gap between images, height of a line of text and font size, pixels."""
_BACKGROUND, _TEXT = (255, 255, 255), (40, 40, 40)


def to_image(image: Float[Tensor, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """Convert colours in [0, 1] to bytes."""
    return (image.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()


def show_error(
    rgb: Float[Tensor, "height width 3"], truth: Float[Tensor, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Mean absolute error of each pixel, from black over red and yellow to white at `WHITE_ERROR`."""
    level = 3 * ((rgb - truth).abs().mean(-1, keepdim=True) / WHITE_ERROR).clamp(0, 1)
    return to_image((level - level.new_tensor([0.0, 1.0, 2.0])).clamp(0, 1))


def tint_gray(
    rgb: Float[Tensor, "height width 3"],
    tint: Float[Tensor, "height width 3"],
    accumulation: Float[Tensor, "height width 1"],
    share: float = 0.6,
) -> UInt8[np.ndarray, "height width 3"]:
    """Blend a grey image with colours that were rendered over black.

    Args:
        rgb: the image, in [0, 1].
        tint: colours in [0, 1], multiplied by their opacity.
        accumulation: opacity of the colours.
        share: weight of the colours.
    """
    gray = rgb.mean(-1, keepdim=True)
    return to_image(gray * (1 - share * accumulation) + share * tint)


def arrange_sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "height width 3"]]],
    columns: Sequence[str],
    captions: Sequence[str] = (),
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Arrange images of one size in rows, with a name above each column and a caption above each row.

    Args:
        rows: at least one row, all of the same length.
        columns: names of the columns; empty for none.
        captions: captions of the rows; empty for none.
    """
    height, width = rows[0][0].shape[:2]
    header, row_height = (_LABEL if columns else 0), height + _GAP + (_LABEL if captions else 0)
    canvas = Image.new(
        "RGB", (len(rows[0]) * (width + _GAP) - _GAP, header + len(rows) * row_height - _GAP), _BACKGROUND
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=_TEXT_SIZE)
    for c, name in enumerate(columns):
        draw.text((c * (width + _GAP) + 2, 2), name, fill=_TEXT, font=font)
    for r, images in enumerate(rows):
        top = header + r * row_height
        if captions:
            draw.text((2, top + 2), captions[r], fill=_TEXT, font=font)
            top += _LABEL
        for c, image in enumerate(images):
            canvas.paste(Image.fromarray(image), (c * (width + _GAP), top))
    return np.array(canvas)


def save_image(path: Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a PNG; missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        Image.fromarray(image).save(partial, format="PNG", optimize=True)


def save_clip(path: Path, images: Iterable[UInt8[np.ndarray, "height width 3"]], fps: float) -> None:
    """Write images of one size as an MP4 (H.264). An odd last row or column is cut off, because H.264 needs even sides.

    Args:
        path: a name that ends in `.mp4`.
        images: at least one image.
        fps: frames per second.
    """
    import imageio_ffmpeg

    with atomic_write(path) as partial:
        writer = None
        try:
            for image in images:
                even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
                if writer is None:
                    size = (even.shape[1], even.shape[0])
                    writer = imageio_ffmpeg.write_frames(
                        str(partial),
                        size,
                        fps=fps,  # type: ignore[arg-type]  # a float works too
                        quality=8,
                        macro_block_size=2,
                        ffmpeg_log_level="error",
                    )
                    writer.send(None)
                writer.send(np.ascontiguousarray(even))
        finally:
            if writer is not None:
                writer.close()
        assert writer is not None, "no images"
