"""A benchmark's folder: what is written comes back, and the page in docs/ is what its figures make."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from partnerface_ns.bench.machine import describe_machine, peak_memory, reset_peak_memory
from partnerface_ns.bench.rendering import Quality, RenderingResult, Speed
from partnerface_ns.bench.results import Results
from partnerface_ns.bench.scaling import StepCost, StepTimes
from partnerface_ns.bench.tables import COLUMNS
from partnerface_ns.bench.training_runs import RunResult
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.json_file import read_json

DOCS = Path(__file__).parents[2] / "docs"
METRICS = dict.fromkeys(COLUMNS, 20.5)
RUN = RunResult("demo", "two-stage", 0, 500, 120.0, METRICS, METRICS, 1.5, device="cpu (one)")
DRIVEN = RenderingResult("demo", "first", "cpu (one)", [Speed(128, 1.0, 0.1, 0.08)], Quality(METRICS, METRICS), 8)
STEPS = StepTimes("demo", "cpu (one)", [StepCost("frames", 100, 12.5, 1.0)], {"parts": 1.0})


def test_results_survive_writing_and_reading(tmp_path):
    results = Results([RUN, replace(RUN, seconds=60.0)], [DRIVEN, replace(DRIVEN, subject="b", quality=None)], [STEPS])
    results.write(tmp_path)
    assert Results.read(tmp_path) == results
    assert [run.seconds for run in results.runs] == [60.0, 120.0], "rows are in order"
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md", "bench.png"}


def test_nan_metrics_are_null_in_the_file(tmp_path):
    unseen = METRICS | {"psnr_mouth": float("nan")}
    driven = replace(DRIVEN, quality=Quality(unseen, METRICS))
    Results([replace(RUN, metrics=unseen)], [driven]).write(tmp_path)
    assert read_json(tmp_path / "bench.json")["runs"][0]["metrics"]["psnr_mouth"] is None
    again = Results.read(tmp_path)
    assert math.isnan(again.runs[0].metrics["psnr_mouth"]) and math.isnan(
        again.renderings[0].quality.exact["psnr_mouth"]
    )


def test_no_folder_holds_nothing(tmp_path):
    assert Results.read(tmp_path / "none") == Results()


def test_the_page_has_a_section_for_each_kind_of_result():
    everything = Results([RUN], [DRIVEN], [STEPS]).report()
    titles = [line for line in everything.splitlines() if line.startswith("#")]
    assert [title.split(" ")[0] for title in titles] == ["#", "##", "###", "##", "###", "##", "###"]
    assert "Ran on: cpu (one)." in everything and "12.5" in everything and "| 128 | 1.00 | 0.100 |" in everything
    assert "bench.png" not in everything and "bench.png" in Results([RUN, replace(RUN, seconds=60.0)]).report()
    assert "Cost of a training step" not in Results([RUN]).report() and "Rendering speed" not in Results([RUN]).report()


def test_a_refit_is_read_back_and_stays_out_of_the_table_of_results(tmp_path):
    fitted = {name: value + 1.25 for name, value in METRICS.items()}
    results = Results([replace(RUN, refitted=fitted, split="last")])
    results.write(tmp_path)
    assert Results.read(tmp_path).runs == results.runs
    before, losses = results.report().split("### Where the loss is")
    assert f"{fitted['psnr_head']:.2f}" in losses and f"{fitted['psnr_head']:.2f}" not in before


def test_a_run_is_kept_until_another_takes_its_place():
    results = Results([RUN, replace(RUN, seed=1)])
    results.add(replace(RUN, steps=600, device="cpu (two)"))
    assert [(run.seed, run.steps) for run in results.runs] == [(1, 500), (0, 600)]
    results.add(replace(RUN, device="cuda (three)"))
    assert len(results.runs) == 3


def test_a_timing_replaces_only_one_of_the_same_machine():
    results = Results(renderings=[DRIVEN, replace(DRIVEN, device="cuda (two)")], steps=[STEPS])
    again = replace(DRIVEN, quality=None)
    results.add(again)
    results.add(replace(DRIVEN, avatar="second"))
    assert results.renderings == [replace(DRIVEN, device="cuda (two)"), again, replace(DRIVEN, avatar="second")]
    results.add(replace(STEPS, subject="b"))
    assert len(results.steps) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{"subject": "a"}], "driven": [], "steps": []}'])
def test_a_foreign_file_is_named(tmp_path, text):
    (tmp_path / "bench.json").write_text(text)
    with pytest.raises(InputError, match=r"bench\.json: not written by this version of the benchmark"):
        Results.read(tmp_path)


def test_a_variant_that_is_gone_is_named(tmp_path):
    Results([RUN]).write(tmp_path)
    path = tmp_path / "bench.json"
    path.write_text(path.read_text().replace("two-stage", "three-stage"))
    with pytest.raises(InputError, match="three-stage"):
        Results.read(tmp_path)


def test_memory_is_counted_from_when_it_was_forgotten():
    taken = torch.ones(1 << 26)
    with_it = peak_memory()
    del taken
    reset_peak_memory()
    assert with_it - peak_memory() > 200 << 20


def test_the_machine_is_named(monkeypatch):
    for is_fast, networks in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("partnerface_ns.bench.machine.has_fast_bfloat16", lambda _, value=is_fast: value)
        assert describe_machine("cpu").startswith("cpu (") and f"cores, {networks}, PyTorch 2." in describe_machine(
            "cpu"
        )


def test_the_page_in_docs_equals_the_report_of_its_figures():
    assert (DOCS / "benchmarks.md").read_text(encoding="utf8") == Results.read(DOCS).report()
