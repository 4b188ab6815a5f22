"""Runs of several processes: they divide the rays of a step, and train and save one avatar."""

from __future__ import annotations

import os

import pytest
import torch
from nerfstudio.utils.eval_utils import eval_setup
from plugin.conftest import _start, tiny
from plugin.two_processes import train_in_two_processes

from partnerface_ns.plugin.configs import lite
from partnerface_ns.training.rays import RaySampler

STEPS = 40


def config_of(subject, folder, name, **changes):
    config = tiny(lite())
    config.pipeline.datamanager.data, config.output_dir, config.timestamp = subject, folder, name
    config.pipeline.model.avatar.space.resolution, config.max_num_iterations = 16, STEPS
    for key, value in changes.items():
        setattr(config, key, value)
    config.set_timestamp()
    config.save_config()
    return config


@pytest.fixture(scope="module")
def runs(subject, tmp_path_factory):
    """Runs of two processes, one limited by steps and one by minutes, and what each process has in the end."""
    folder = tmp_path_factory.mktemp("runs")
    steps = config_of(subject, folder, "two")
    minutes = config_of(subject, folder, "minutes", max_train_minutes=0.02, max_num_iterations=10 * STEPS)
    return (steps, minutes), train_in_two_processes(folder, steps, minutes)


def test_both_processes_have_the_same_weights(runs):
    """Statistics of the last step and what follows from them differ. The first process saves its own and passes them
    on."""
    own = ("trained_seconds", "view_mean", "view_square", "grid.reached", "completion.volume")
    for first, second in runs[1]:
        assert first["last_step"] == second["last_step"]
        differing = [name for name, value in first["state"].items() if not torch.equal(value, second["state"][name])]
        assert [name for name in differing if not name.endswith(own)] == []


def test_tensors_on_the_cpu_are_not_sent(runs):
    """On GPUs, the processes can only send tensors on GPUs. The avatar keeps three counters on the CPU."""
    on_cpu = {"avatar.stage", "avatar.step", "avatar.unseen.interval"}
    assert all(on_cpu < set(result["not_shared"]) for results in runs[1] for result in results)


def test_minutes_are_those_of_the_first_process(runs):
    """A step takes 0.02 seconds there, and twice as long in the second process."""
    _, (_, (first, _)) = runs
    assert first["last_step"] + 1 == pytest.approx(60 * 0.02 / 0.02, abs=1)


def test_they_divide_the_rays_of_a_step(runs, make_config, start):
    (config, _), ((first, second), _) = runs
    alone = start(make_config(max_num_iterations=STEPS))
    alone.pipeline.datamanager.load_images()
    images, seed = alone.pipeline.datamanager._sampler.images, config.machine.seed
    sampler = RaySampler(config.pipeline.datamanager.sampler, images, seed)
    whole = sampler.sample(STEPS - 1).pixels
    divided = torch.stack([first["pixels"], second["pixels"]], 2).flatten(1, 2)
    assert first["pixels"].shape[1] == whole.shape[1] // 2 and torch.equal(divided, whole)


def test_one_checkpoint_is_written_as_by_one_process(runs, make_config, start):
    (config, _), ((first, _), _) = runs
    folder = config.get_checkpoint_dir()
    assert os.listdir(folder) == [f"step-{STEPS - 1:09d}.ckpt"]
    _, pipeline, _, _ = eval_setup(config.get_base_dir() / "config.yml")
    loaded = pipeline.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in first["state"].items())
    resumed = make_config("alone", load_dir=folder, max_num_iterations=STEPS + 1)
    resumed.pipeline.model.avatar.space.resolution = 16
    alone = start(resumed)
    alone.train()
    assert alone.last_step == STEPS


def psnr(config) -> float:
    _, pipeline, _, _ = eval_setup(config.get_base_dir() / "config.yml")
    rows = pipeline.evaluate()
    return sum(row["psnr"] for row in rows) / len(rows)


def test_the_figures_are_those_of_one_process_within_its_spread(runs, subject, tmp_path):
    (config, _), _ = runs
    alone = []
    for seed in range(3):
        single = config_of(subject, tmp_path, f"seed {seed}")
        single.machine.seed = single.pipeline.datamanager.seed = seed
        _start(single).train()
        alone.append(psnr(single))
    print(f"one process: {alone}, two: {psnr(config)}")
    spread = max(alone) - min(alone)
    assert min(alone) - spread <= psnr(config) <= max(alone) + spread
