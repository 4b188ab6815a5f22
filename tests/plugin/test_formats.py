"""Every layout trains for two steps and is evaluated."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from format_writers.layouts import LAYOUTS
from format_writers.truth import flame_like_arrays, make_truth
from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin.dataparser import FlameDataParserConfig


@pytest.fixture(scope="module")
def truth():
    return make_truth(6)


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "flame.npz"
    np.savez(path, **flame_like_arrays())
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_trains_and_is_evaluated(layout, truth, flame, make_config, start, tmp_path):
    data = LAYOUTS[layout](tmp_path / "person", truth)
    config = make_config(data=data, head_model=flame, max_num_iterations=2)
    config.pipeline.datamanager.dataparser.downscale_factor = 2.0
    trainer = start(config)
    trainer.train()
    assert trainer.last_step == 1
    means = trainer.pipeline.get_average_eval_image_metrics()
    assert math.isfinite(means["psnr_head"]) and math.isfinite(means["psnr_mouth"])
    with (config.get_base_dir() / "per_image.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(trainer.pipeline.datamanager.eval_dataset) > 0


def test_the_layout_can_be_named_and_remarks_are_printed(truth, flame, tmp_path, capsys):
    data = LAYOUTS["metrical-tracker"](tmp_path / "person", truth)
    FlameDataParserConfig(data=data, head_model=flame).setup().parse_capture()
    said = capsys.readouterr().out
    assert "there are no masks" in said and "cannot be told" in said
    with pytest.raises(InputError, match="transforms_train"):
        FlameDataParserConfig(data=data, head_model=flame, format="vhap").setup().parse_capture()


def test_without_a_head_model_the_error_says_how_to_give_one(truth, tmp_path):
    data = LAYOUTS["imavatar"](tmp_path / "person", truth)
    with pytest.raises(InputError, match="--head-model FILE"):
        FlameDataParserConfig(data=data).setup().parse_capture()
