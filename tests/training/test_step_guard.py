"""Steps that are not finite are left out, reported and counted; gradients are clipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from partnerface_ns.capture.capture import Frame
from partnerface_ns.common.errors import InputError
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.training import step_guard
from partnerface_ns.training.step_guard import MAX_GRADIENT_NORM, MAX_LEFT_OUT, StepGuard, StepResult, clip_gradients

NAN, INF = float("nan"), float("inf")
CAMERA = Camera(np.eye(4), 80.0, 80.0, 32.0, 32.0, 64, 64)
FRAMES = [Frame(7, 0, CAMERA, Path("somewhere/0007.png"), None), Frame(9, 0, CAMERA, None, None)]


def result(color: float = 0.1, planes: float = 0.2, errors: tuple[float, float] = (0.1, 0.1)) -> StepResult:
    terms = {"color": torch.tensor(color), "mask": torch.tensor(0.1)}
    return StepResult(terms, torch.tensor(errors), {"planes": torch.tensor(planes), "field": torch.tensor(0.2)})


class Run:
    """Two parameters with given gradients, each with its optimiser."""

    def __init__(self) -> None:
        self.parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
        self.optimizers = [torch.optim.Adam([p], 0.1, eps=1e-15, fused=True) for p in self.parameters]
        self.said: list[str] = []
        self.guard = StepGuard("run", self.optimizers, self.said.append)

    def step(self, number: int, taken: StepResult, gradient: float = 0.5) -> None:
        for parameter in self.parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        self.guard.admit(number, taken, FRAMES)
        for optimizer in self.optimizers:
            optimizer.step()

    def state(self) -> list[torch.Tensor]:
        moments = (state[key] for o in self.optimizers for state in o.state.values() for key in sorted(state))
        return [*(p.detach().clone() for p in self.parameters), *(m.clone() for m in moments)]


@pytest.mark.parametrize(
    "bad", [result(color=NAN), result(color=INF), result(planes=NAN), result(planes=INF)], ids=lambda r: str(r.finite)
)
@pytest.mark.parametrize("gradient", [0.5, NAN, -INF])
def test_optimisers_skip_a_non_finite_step(bad, gradient):
    with_it, without = Run(), Run()
    for run in (with_it, without):
        run.step(0, result())
    before = with_it.state()
    with_it.step(1, bad, gradient)
    assert all(torch.equal(a, b) for a, b in zip(before, with_it.state(), strict=True))
    for run in (with_it, without):
        run.step(2, result(), 0.25)
    assert all(torch.equal(a, b) for a, b in zip(with_it.state(), without.state(), strict=True))
    assert not torch.equal(before[0], with_it.state()[0]), "good steps are taken"


def test_a_non_finite_first_step_is_left_out():
    run = Run()
    run.step(0, result(color=NAN), NAN)
    assert all(value.isfinite().all() for value in run.state()) and torch.equal(run.state()[0], torch.ones(3))


def test_a_report_names_step_image_timestep_and_what_is_wrong():
    run = Run()
    run.step(3, result(color=NAN, errors=(NAN, 0.1)))
    run.step(4, result(planes=INF))
    first, second = run.said
    assert first == "Step 3 is left out (1 so far). Not finite: color; 0007.png (timestep 7)"
    assert second.endswith("Not finite: gradient of planes; 0007.png (timestep 7), image (timestep 9)")


def test_reports_become_rarer_and_the_end_gives_their_number():
    run = Run()
    for number in range(20):
        run.step(number, result(color=NAN if number % 2 else 0.1))
    assert [line.split()[1] for line in run.said] == ["1", "3", "7", "15"]
    run.guard.end()
    assert run.said[-1].startswith("10 training steps were left out")


def test_a_training_without_such_steps_reports_nothing():
    run = Run()
    run.step(0, result())
    run.guard.end()
    assert not run.said


def test_ten_in_a_row_end_training_with_one_error():
    run = Run()
    for number in range(MAX_LEFT_OUT - 1):
        run.step(number, result(color=NAN))
    run.step(9, result())
    for number in range(10, 10 + MAX_LEFT_OUT - 1):
        run.step(number, result(color=NAN))
    with pytest.raises(InputError, match=r"run \[step 19\]: the last 10.*\n.*\n.*color; 0007\.png \(timestep 7\)"):
        run.step(19, result(color=NAN))


def test_steps_are_left_out_before_the_host_reads_them(monkeypatch):
    """As on a GPU, which the host does not wait for."""
    run = Run()
    monkeypatch.setattr(run.guard, "_read_every", step_guard._READ_EVERY)
    for number in range(15):
        run.step(number, result(color=NAN if number >= 5 else 0.1))
        if number == 4:
            before = run.state()
    assert not run.said and all(torch.equal(a, b) for a, b in zip(before, run.state(), strict=True))
    with pytest.raises(InputError, match="step 14"):
        run.guard.end()


def test_bad_steps_in_a_row_are_counted_across_reads(monkeypatch):
    run = Run()
    monkeypatch.setattr(run.guard, "_read_every", 4)
    with pytest.raises(InputError, match=r"step 15"):  # the last of its reading
        for number in range(20):
            run.step(number, result(color=NAN if number >= 6 else 0.1))


def parameters(*gradients: float | None) -> dict[str, list[nn.Parameter]]:
    groups = {f"group {i}": [nn.Parameter(torch.zeros(2))] for i in range(len(gradients))}
    for (parameter,), gradient in zip(groups.values(), gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor([gradient, 0.0])
    return groups


def test_large_gradients_are_scaled_down_together():
    groups = parameters(30 * MAX_GRADIENT_NORM, None, 40 * MAX_GRADIENT_NORM)
    norms = clip_gradients(groups)
    assert norms.keys() == {"group 0", "group 2"}
    assert_close(torch.stack(list(norms.values())) / MAX_GRADIENT_NORM, torch.tensor([30.0, 40.0]))
    clipped = torch.stack([groups[name][0].grad[0] for name in norms])
    assert_close(clipped / MAX_GRADIENT_NORM, torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("norm", [0.0, 1e-12, 0.1, 0.999])
def test_smaller_gradients_do_not_change(norm):
    groups = parameters(norm * MAX_GRADIENT_NORM, 1e-3 * norm)
    before = [p.grad.clone() for (p,) in groups.values()]
    clip_gradients(groups)
    assert all(torch.equal(p.grad, b) for (p,), b in zip(groups.values(), before, strict=True))


def test_no_gradients_have_no_norms():
    assert clip_gradients(parameters(None)) == {}
