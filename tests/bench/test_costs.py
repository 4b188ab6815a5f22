"""What a training step costs, in floating-point operations: a ratio that no machine changes."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.bench.variants import VARIANTS
from partnerface_ns.capture.load import load_capture
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.rendering.rays import rays_of_image
from partnerface_ns.training.objective import training_loss


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("costs") / "subject"
    make_subject(folder, frames=10, size=32)
    return load_capture(folder)


def operations(capture, variant: str) -> int:
    """Of the networks, forward and backward, for one image."""
    torch.manual_seed(0)
    avatar = Avatar(VARIANTS[variant]().avatar, AvatarInit.of(capture, load_open_head())).train()
    avatar.set_progress(1.0)
    frame = capture.frames_of("train")[0]
    timesteps = torch.tensor([frame.timestep])
    rays = rays_of_image(frame.camera, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        rendered = avatar.render(rays, capture.track[timesteps], timesteps)
        terms = training_loss(avatar, rendered, torch.zeros_like(rendered.rgb), torch.ones_like(rendered.accumulation))
        sum(terms.values()).backward()
    return counter.get_total_flops()


def test_a_step_is_three_times_cheaper_than_with_dense_parts_and_even_samples(capture):
    ours = operations(capture, "two-stage")
    assert operations(capture, "dense") > 3 * ours
    assert operations(capture, "hard") < ours < operations(capture, "soft") * 1.01
