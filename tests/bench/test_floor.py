"""The floor: nearest training images warped onto the heads of test frames."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from partnerface_ns.bench.floor import FloorResult, measure_floor, warp_image
from partnerface_ns.bench.results import Results
from partnerface_ns.demo.subject import make_subject

WHITE = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("floor") / "subject"
    make_subject(folder, frames=10, size=32)
    return folder


def test_warping_moves_pixels_and_fills_with_the_background():
    rgb = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    moved = warp_image(rgb, np.array([[1.0, 0, 3], [0, 1.0, -2]]), (12, 16), WHITE)
    assert np.array_equal(moved[2:, :13], rgb[:10, 3:])
    assert (moved[:2] == 255).all() and (moved[:, 13:] == 255).all()


def test_a_test_frame_that_is_a_training_frame_has_no_error(subject, tmp_path):
    copy = tmp_path / "copy"
    make_subject(copy, frames=10, size=32)
    train, test = (json.loads((copy / f"transforms_{name}.json").read_text()) for name in ("train", "test"))
    test["frames"] = [{**train["frames"][2], "timestep_index": test["frames"][0]["timestep_index"]}]
    path = test["frames"][0]["file_path"]
    twin = path.replace(path.rsplit("/", 1)[1], "twin.png")
    pixels = np.asarray(_open(copy / path)).copy()
    pixels[0, 0] ^= 1  # an equal image would be of both splits
    _save(pixels, copy / twin)
    test["frames"][0]["file_path"] = twin
    (copy / "transforms_test.json").write_text(json.dumps(test))
    assert measure_floor(copy, "test", 1).metrics["psnr_head"] > 50
    assert measure_floor(subject, "test", 1).metrics["psnr_head"] < 40


def _open(path):
    from PIL import Image

    return Image.open(path)


def _save(pixels, path):
    from PIL import Image

    Image.fromarray(pixels).save(path)


def test_floors_are_written_read_and_shown(tmp_path):
    floor = FloorResult("person", {"psnr": 12.345, "psnr_head": 20.5, "psnr_mouth": math.nan}, "test", 3)
    Results(floors=[floor]).write(tmp_path)
    again = Results.read(tmp_path)
    assert again.floors[0].metrics["psnr_head"] == 20.5 and math.isnan(again.floors[0].metrics["psnr_mouth"])
    again.add(FloorResult("person", {"psnr": 1.0}, "test", 3))
    assert len(again.floors) == 1 and again.floors[0].metrics["psnr"] == 1.0
