"""Captures with images of all kinds: they train on what the images show, or a message names what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partnerface_ns.common.errors import InputError


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
    """A copy of a capture whose images, or one of them, are of another kind."""
    shutil.copytree(subject, root)
    for path in sorted((root / "images").iterdir())[: 1 if one else None]:
        with Image.open(path) as image:
            image.load()
        convert(image).save(path, kind, quality=95)  # the content counts, not the suffix
    return root


def brightness(rgb: np.ndarray) -> float:
    return float(np.array(Image.fromarray(rgb).convert("L")).mean())


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("one", [False, True], ids=["all", "one of them"])
def test_every_kind_of_image_shows_what_it_did(make_config, start, subject, tmp_path, kind, one):
    data = converted(subject, tmp_path / "capture", *READABLE[kind], one)
    expected, actual = (start(make_config(name, data=root)) for name, root in (("old", subject), ("new", data)))
    for index in range(3):
        before, after = (t.pipeline.datamanager.train_dataset.image(index) for t in (expected, actual))
        assert abs(brightness(before[0]) - brightness(after[0])) < 4 and np.array_equal(before[1], after[1])
    if kind == "grey, 16 bits" and not one:
        actual.train()
        weights = actual.pipeline.model.state_dict().values()
        assert all(value.isfinite().all() for value in weights)


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
