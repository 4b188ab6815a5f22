"""The training loop: non-finite batches, and the end of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.training import captured_step
from partnerface_ns.training.loop import FitConfig, fit, run_steps
from partnerface_ns.training.rays import RaySampler, RaySamplerConfig, TrainingImages
from partnerface_ns.training.schedule import ScheduleConfig

SIZE = 32


@pytest.fixture
def images() -> TrainingImages:
    """Three images of the tiny head's size."""
    T = np.eye(4)
    T[2, 3] = 0.8
    camera = Camera(T, 60.0, 60.0, 16.0, 16.0, SIZE, SIZE)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[8:24, 8:24] = 255
    rgb = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    frames = [Frame(t, 0, camera, Path(f"{t:04d}.png"), None) for t in range(3)]
    boxes = np.array([[[12, 18, 20, 22], [10, 10, 22, 15], [6, 6, 26, 26]]] * 3, np.float32)
    return TrainingImages(list(rgb), [mask] * 3, frames, boxes)


@pytest.fixture
def config() -> FitConfig:
    return FitConfig(ScheduleConfig(max_steps=12, warmup_steps=2), RaySamplerConfig(64, 2))


def poison(monkeypatch, at, entry: str = "rgb") -> None:
    """Batches of some steps get a NaN or infinity in a colour, a ray's origin or direction."""
    sample = RaySampler.sample

    def poisoned(sampler: RaySampler, step: int):
        batch = sample(sampler, step)
        if step in at:
            values = getattr(batch.rays if entry in ("origins", "directions") else batch, entry).clone()
            values[0, 3, 0] = float("nan")
            changed = {entry: values}
            return replace(batch, **changed if entry == "rgb" else {"rays": replace(batch.rays, **changed)})
        return batch

    monkeypatch.setattr(RaySampler, "sample", poisoned)


def state(avatar) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in avatar.state_dict().items() if name != "step"}


def test_a_step_that_is_not_finite_changes_neither_parameters_nor_densities(
    make_avatar, avatar_init, images, config, monkeypatch, capsys
):
    poison(monkeypatch, {1, 2})
    avatar = make_avatar()
    avatar.config.sampling.update_every = 1
    states = []
    for _ in run_steps(avatar, images, avatar_init.states, config):
        states.append(state(avatar))
    for name, before in states[0].items():
        if not any(
            part in name for part in ("view_", "grid.reached", "completion", "unseen.")
        ):  # these follow from finite values
            assert torch.equal(before, states[1][name]) and torch.equal(before, states[2][name]), name
    assert all(value.isfinite().all() for value in states[-1].values())
    assert not torch.equal(states[3]["grid.density"], states[2]["grid.density"]), "training goes on"
    assert not torch.equal(states[3]["field.planes.0"], states[2]["field.planes.0"])
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Step 1 is left out (1 so far). Not finite: color") and ".png (timestep " in said[0]
    assert said[-1].startswith("2 training steps were left out")


@pytest.mark.parametrize("update_every", [1, 100])
def test_ten_such_steps_end_training_and_leave_the_avatar_whole(
    make_avatar, avatar_init, images, config, monkeypatch, update_every
):
    poison(monkeypatch, range(1, 100))
    avatar = make_avatar()
    avatar.config.sampling.update_every = update_every
    with pytest.raises(InputError, match=r"training \[step 10\].*\n.*\n.*color.*\.png"):
        fit(avatar, images, avatar_init.states, config)
    assert all(value.isfinite().all() for value in state(avatar).values())


@pytest.mark.parametrize("term", ["color", "geometry", "planes"])
def test_a_loss_that_is_not_finite_ends_training_whatever_the_cause(
    make_avatar, avatar_init, images, config, monkeypatch, term
):
    avatar = make_avatar()
    loss = captured_step.training_loss
    infinite = {term: torch.tensor(float("inf"))}
    monkeypatch.setattr(captured_step, "training_loss", lambda *inputs: loss(*inputs) | infinite)
    with pytest.raises(InputError, match=f"not finite: {term};"):
        fit(avatar, images, avatar_init.states, config)


def test_a_parameter_that_is_not_finite_ends_training(make_avatar, avatar_init, images, config):
    avatar = make_avatar()
    avatar.field.planes[0].data[0, 0, 5:8, 5:8] = float("nan")
    before = avatar.grid.density.clone()
    with pytest.raises(InputError, match="gradient of planes"):
        fit(avatar, images, avatar_init.states, config)
    assert avatar.grid.density.isfinite().all() and avatar.grid.density.shape == before.shape


@pytest.mark.parametrize("entry", ["origins", "directions"])
def test_non_finite_rays_leave_the_avatar_unchanged(
    make_avatar, avatar_init, images, config, monkeypatch, entry, capsys
):
    poison(monkeypatch, {0, 3}, entry)
    avatar = make_avatar()
    avatar.config.sampling.update_every = 2
    fit(avatar, images, avatar_init.states, config)
    assert all(value.isfinite().all() for value in state(avatar).values())


def test_the_same_seed_trains_the_same_avatar(make_avatar, avatar_init, images, config):
    """Bit by bit, with the guard."""
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        avatar = make_avatar()
        assert fit(avatar, images, avatar_init.states, config) == 12
        found.append(state(avatar))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


# -- degenerate but possible ------------------------------------------------------------------------------------------


def trains(avatar, images, states, config) -> list[dict[str, float]]:
    losses: list[dict[str, float]] = []
    fit(avatar, images, states, config, on_step=lambda step, progress, terms: losses.append(terms))
    assert all(np.isfinite(list(terms.values())).all() for terms in losses)
    assert all(value.isfinite().all() for value in state(avatar).values())
    return losses


def test_a_capture_of_one_frame_can_be_trained_on(make_avatar, avatar_init, images, config, capsys):
    alone = replace(avatar_init, states=avatar_init.states[:1], num_timesteps=1)
    one = TrainingImages(images.rgb[:1], images.mask[:1], images.frames[:1], images.boxes[:1])
    losses = trains(make_avatar(alone), one, alone.states, config)
    assert len(losses) == 12 and not capsys.readouterr().err


@pytest.mark.parametrize("schedule", ["hard", "soft"])
def test_images_without_a_person_can_be_trained_on(make_avatar, avatar_init, images, config, schedule, capsys):
    nobody = TrainingImages(images.rgb, [np.zeros_like(mask) for mask in images.mask], images.frames, images.boxes)
    trains(make_avatar(schedule=schedule), nobody, avatar_init.states, config)
    assert not capsys.readouterr().err


def test_a_head_behind_the_camera_can_be_trained_on(make_avatar, avatar_init, images, config, capsys):
    """No ray hits it; every step sees background only."""
    T = np.eye(4)
    T[2, 3] = -0.8
    frames = [replace(frame, camera=replace(frame.camera, T_world_camera=T)) for frame in images.frames]
    behind = TrainingImages(images.rgb, images.mask, frames, np.zeros_like(images.boxes))
    trains(make_avatar(), behind, avatar_init.states, config)
    assert not capsys.readouterr().err
