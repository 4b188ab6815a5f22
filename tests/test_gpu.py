"""Images, training and driving on a GPU equal those on a CPU. Skipped without a GPU."""

from __future__ import annotations

import pytest
import torch

from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.capture.load import load_capture
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.rendering.rays import RayBatch, rays_of_image
from partnerface_ns.training.captured_step import CapturedStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "subject"
    make_subject(folder, frames=10, size=48)
    return load_capture(folder)


@pytest.fixture
def avatar(make_avatar, capture):
    """An avatar of the demo person with random networks."""
    made = make_avatar(AvatarInit.of(capture, load_open_head()))
    for name, parameter in made.named_parameters():
        if not name.endswith("residual"):
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("stage", [1, 2])
def test_images_are_the_same(avatar, capture, stage):
    avatar.eval().stage.fill_(stage)
    frame = capture.frames[3]
    images = []
    for device in ("cpu", "cuda"):
        avatar.to(device)
        state = capture.track[torch.tensor([frame.timestep])].to(device)
        with torch.no_grad():
            images.append(avatar.render(rays_of_image(frame.camera, torch.device(device)), state).channels())
    for name, ours in images[0].items():
        difference = (ours - images[1][name].cpu()).abs()
        assert difference.mean() < 1e-3 and difference.quantile(0.999) < 0.05, name


def test_baked_images_are_the_same(avatar, capture):
    """The first images are rendered directly, the others from a CUDA graph; returned images do not change later."""
    shown: dict[str, list] = {"cpu": [], "cuda": []}
    for device, images in shown.items():
        baked = BakedAvatar(avatar.to(device), BakedConfig(resolution=64))
        for frame in capture.frames[:8]:
            rays = rays_of_image(frame.camera, torch.device(device))
            state = capture.track[torch.tensor([frame.timestep])].to(device)
            images.append(baked.render(rays.origins[0, 0], rays.directions[0], state).rgb)
    for ours, theirs in zip(*shown.values(), strict=True):
        assert (ours - theirs.cpu()).abs().mean() < 5e-3
    assert (shown["cpu"][0] - shown["cpu"][-1]).abs().mean() > 1e-2, "the images do differ"


def test_gradients_are_the_same(avatar, capture):
    """In evaluation mode, because training draws random positions along rays on each device."""
    frame = capture.frames[3]
    gradients = []
    for device in ("cpu", "cuda"):
        avatar.to(device).eval().stage.fill_(2)
        avatar.zero_grad()
        state = capture.track[torch.tensor([frame.timestep])].to(device)
        rgb = avatar.render(rays_of_image(frame.camera, torch.device(device)), state).rgb
        rgb.square().mean().backward()
        gradients.append({name: p.grad.cpu().clone() for name, p in avatar.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and "assigner.log_border" in gradients[0]
    for name, ours in gradients[0].items():
        assert (ours - gradients[1][name]).norm() <= 0.02 * ours.norm() + 1e-7, name


def test_training_lowers_the_loss(make_avatar, capture):
    from partnerface_ns.capture.images import load_image
    from partnerface_ns.flame.posing import ShapedHead
    from partnerface_ns.training.loop import FitConfig, fit
    from partnerface_ns.training.rays import TrainingImages
    from partnerface_ns.training.region_boxes import region_boxes
    from partnerface_ns.training.schedule import ScheduleConfig

    model, frames = load_open_head(), capture.frames_of("train")
    images = [load_image(frame, (1.0, 1.0, 1.0)) for frame in frames]
    boxes = region_boxes(ShapedHead.of(model, capture.identity, capture.static_offset), capture.track, frames)
    train = TrainingImages([rgb for rgb, _ in images], [mask for _, mask in images], frames, boxes)
    losses: list[float] = []
    fit(
        make_avatar(AvatarInit.of(capture, model)).cuda(),
        train,
        capture.track,
        FitConfig(ScheduleConfig(max_steps=300, warmup_steps=5)),
        on_step=lambda step, progress, terms: losses.append(terms["color"]),
    )
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_replayed_step_has_the_gradients_of_a_plain_one(avatar, capture):
    """The first batches are computed directly, the others are replayed; two different batches alternate."""
    frames = capture.frames_of("train")
    batches = []
    for i, frame in enumerate(frames[:2]):
        rays = rays_of_image(frame.camera, torch.device("cpu"))
        num, timesteps = rays.origins.shape[1], torch.tensor([frame.timestep])
        pixels = torch.zeros(1, num, 2, dtype=torch.long)
        batches.append(
            RayBatch(rays, torch.tensor([i]), timesteps, pixels, torch.rand(1, num, 3), torch.ones(1, num, 1))
        )
    avatar.cuda().train().stage.fill_(2)
    avatar.config.sampling.update_every = 10**6
    step = CapturedStep(avatar, capture.track)
    results: dict[int, list] = {0: [], 1: []}
    for turn in range(10):
        which = turn % 2
        torch.manual_seed(7)
        terms = step(batches[which]).terms
        gradients = {name: p.grad.clone() for name, p in avatar.named_parameters() if p.grad is not None}
        avatar.zero_grad(set_to_none=True)
        if turn > 1:  # the first step updates the occupancy grid
            results[which].append(({name: float(term) for name, term in terms.items()}, gradients))
    for (plain, gradients), *replayed in results.values():
        for terms, others in replayed:
            assert terms == pytest.approx(plain, rel=1e-3) and others.keys() == gradients.keys()
            for name, ours in gradients.items():
                assert (ours - others[name]).norm() <= 0.02 * ours.norm() + 1e-7, name
    assert results[0][0][0] != pytest.approx(results[1][0][0], rel=1e-3), "the batches do differ"
