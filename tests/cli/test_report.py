"""The report of a run."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from partnerface_ns.cli.main import main
from partnerface_ns.cli.report import figures_table, worst_and_median

SIZE = 24
"""Pixels a side of the tiny capture's images."""


def rows_with(psnr_head, psnr=None) -> list[dict[str, str]]:
    psnr = psnr_head if psnr is None else psnr
    pairs = enumerate(zip(psnr_head, psnr, strict=True))
    return [{"image": f"{i}.png", "timestep": str(i), "psnr": str(p), "psnr_head": str(h)} for i, (h, p) in pairs]


def test_the_worst_and_the_middle_are_chosen_by_psnr_of_the_head():
    worst, median = worst_and_median(rows_with([30, 21, 29, 25, 22, 24, 28, 23, 27, 26]))
    assert worst == [1, 4, 7, 5, 3]
    assert median == [5, 3, 9]


def test_images_without_a_head_are_never_the_worst():
    worst, _ = worst_and_median(rows_with([30, "nan", "", 20]))
    assert worst[:2] == [3, 0]
    worst, median = worst_and_median(rows_with(["nan"] * 3, [30, 10, 20]))
    assert worst == [1, 2, 0] and sorted(median) == [0, 1, 2]


def test_the_table_holds_every_metric():
    text = figures_table(rows_with([20.0, 30.0, "nan", 40.0], [1, 2, 3, 4]), [0], [1])
    assert "| psnr_head | 30 | 20 | 30 | 40 |" in text
    assert "| psnr | 2.5 | 1 | 2.5 | 4 |" in text
    assert "timestep" not in text
    assert "Worst by psnr_head: 0.png: psnr_head 20.00 dB, psnr 1.00 dB" in text


@pytest.fixture
def run(make_config, start):
    config = make_config(max_num_iterations=2)
    start(config).train()
    return config.get_base_dir()


def test_a_run_is_shown_and_evaluated_once(run, capsys):
    main(["report", str(run)])
    assert "2 test images" in capsys.readouterr().out
    assert sorted(p.name for p in (run / "report").iterdir()) == ["figures.md", "median.png", "orbit.png", "worst.png"]
    image = np.array(Image.open(run / "report" / "worst.png"))
    assert image.shape == (20 + 2 * (SIZE + 4 + 20) - 4, 4 * (SIZE + 4) - 4, 3)
    with (run / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    worst = min(rows, key=lambda row: float(row["psnr_head"]))
    assert f"Worst by psnr_head: {worst['image']}" in (run / "report" / "figures.md").read_text()
    truth = image[40 : 40 + SIZE, :SIZE]
    assert truth[SIZE // 2, SIZE // 2, 0] == 200, "the capture's image stands under its name"

    evaluated = (run / "per_image.csv").stat().st_mtime_ns
    main(["report", str(run / "config.yml")])
    assert (run / "per_image.csv").stat().st_mtime_ns == evaluated, "figures of these weights are used again"


def test_fewer_images_are_evaluated_and_the_runs_figures_stay(run, capsys):
    main(["report", str(run), "--num-images", "1"])
    out = capsys.readouterr().out
    assert "Evaluating 1 of 2 test images" in out and "1 of 2 test images" in out
    assert not (run / "per_image.csv").exists(), "an evaluation of some images is not the run's"
    assert (run / "report" / "figures.md").read_text().startswith("# 1 test image")
    main(["report", str(run)])
    rows = (run / "per_image.csv").read_text()
    main(["report", str(run), "--num-images", "1"])
    assert (run / "per_image.csv").read_text() == rows
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(run), "--num-images", "0"])
    assert exit_.value.code == 1 and "--num-images" in capsys.readouterr().err


def test_a_refit_is_written_beside_the_figures_and_never_in_them(run):
    main(["report", str(run), "--refit", "--num-images", "1"])
    figures, losses = (run / "report" / "figures.md").read_text().split("## Where the loss is: 2 images of each kind")
    assert "refitted" not in figures.lower() and "They are no result." in losses
    (head,) = [line for line in losses.splitlines() if line.startswith("| psnr_head |")]
    training, held_out, refitted = map(float, head.split("|")[2:5])
    assert refitted > held_out - 0.2 and training != held_out
    with Image.open(run / "report" / "orbit.png") as orbit:
        assert orbit.width == 3 * (256 + 4) - 4 and orbit.height > 3 * 256


def test_a_path_without_a_run_is_refused(tmp_path, make_config, capsys):
    stopped = make_config().get_base_dir()
    places = {tmp_path / "nowhere": "not a run", tmp_path: "not a run", stopped: "there is no complete checkpoint"}
    for place, problem in places.items():
        with pytest.raises(SystemExit) as exit_:
            main(["report", str(place)])
        assert exit_.value.code == 1
        told = capsys.readouterr().err
        assert told.startswith(f"Error: {place}") and f": {problem}" in told
