"""Captures with images of all kinds: they train on what the images show, or a message names what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin.datamanager import FrameDataset
from partnerface_ns.plugin.dataparser import FlameDataParserConfig


def grey16(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.array(image.convert("L")).astype(np.uint16) * 257)


def with_alpha(image: Image.Image, alpha: int) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


READABLE: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "grey": ("PNG", lambda image: image.convert("L")),
    "grey, 16 bits": ("PNG", grey16),
    "palette": ("PNG", lambda image: image.quantize(64)),
    "opaque RGBA": ("PNG", lambda image: with_alpha(image, 255)),
    "JPEG": ("JPEG", lambda image: image),
    "grey JPEG": ("JPEG", lambda image: image.convert("L")),
    "CMYK": ("JPEG", lambda image: image.convert("CMYK")),
}


def converted(subject: Path, root: Path, kind: str, convert: Callable[[Image.Image], Image.Image], one: bool) -> Path:
    """A copy of a capture whose images, or one of them, are of another kind. The content counts, not the suffix."""
    shutil.copytree(subject, root)
    for index, path in enumerate(sorted((root / "images").iterdir())):
        with Image.open(path) as image:
            image.load()
        image.paste((40 * index,) * 3, (0, 0, 8, 8))  # equal images would not be taken for training and test
        change = index == 0 or not one
        (convert(image) if change else image).save(path, kind if change else "PNG", quality=95)
    return root


def brightness(rgb: np.ndarray) -> float:
    return float(np.array(Image.fromarray(rgb).convert("L")).mean())


def training_images(data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Colours and masks as training reads them."""
    dataset = FrameDataset(FlameDataParserConfig(data=data).setup().get_dataparser_outputs("train"))
    return [dataset.image(index) for index in range(len(dataset))]


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("one", [False, True], ids=["all", "one of them"])
def test_every_kind_of_image_shows_what_it_did(subject, tmp_path, kind, one):
    expected = training_images(converted(subject, tmp_path / "before", "PNG", lambda image: image, one=False))
    actual = training_images(converted(subject, tmp_path / "capture", *READABLE[kind], one))
    assert len(expected) == len(actual) == 3
    for before, after in zip(expected, actual, strict=True):
        assert abs(brightness(before[0]) - brightness(after[0])) < 4 and np.array_equal(before[1], after[1])


def test_transparent_images_train_and_a_line_says_that_nobody_is_seen(make_config, start, subject, tmp_path, capsys):
    data = converted(subject, tmp_path / "capture", "PNG", lambda image: with_alpha(image, 0), one=False)
    shutil.rmtree(data / "fg_masks")
    for path in data.glob("transforms_*.json"):
        path.write_text(path.read_text().replace('"fg_mask_path"', '"unused"'))
    trainer = start(make_config(data=data))
    assert "no person is seen" in capsys.readouterr().out
    trainer.train()
    assert all(value.isfinite().all() for value in trainer.pipeline.model.state_dict().values())
    assert (trainer.pipeline.datamanager.train_dataset.image(0)[0] == 255).all(), "white, not black"


@pytest.mark.parametrize("side", [12, 48, 8200])
def test_an_image_of_another_size_is_named_before_training(make_config, subject, tmp_path, side):
    data = converted(subject, tmp_path / "capture", "PNG", lambda image: image.resize((side, side)), one=True)
    with pytest.raises(InputError, match=r"00000_00\.png"):
        make_config(data=data)
    assert not (tmp_path / "out").exists()
