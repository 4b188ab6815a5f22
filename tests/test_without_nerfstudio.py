"""The avatar trains in a process that cannot import nerfstudio."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
for name in ("nerfstudio", "nerfacc", "viser"):
    sys.modules[name] = None  # importing it raises

import numpy as np
import torch
from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.capture.capture import Frame
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.flame.head_model import load_head_model
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.training.rays import TrainingImages
from partnerface_ns.training.region_boxes import region_boxes
from partnerface_ns.training.loop import FitConfig, fit

try:
    import nerfstudio
except ImportError:
    pass
else:
    raise SystemExit("nerfstudio could be imported")

torch.manual_seed(0)
torch.set_num_threads(1)
model = load_head_model(sys.argv[1])
track = HeadState.neutral(model.num_expr, (3,))
track.expression.normal_(0, 0.3)
init = AvatarInit(model, torch.zeros(model.num_identity), torch.zeros_like(model.template), track, 3, (1.0, 1.0, 1.0))

config = AvatarConfig(num_parts=3)
config.canonical.resolutions, config.canonical.num_channels, config.canonical.hidden = (16,), 2, 8
config.sampling.grid_resolution = config.sampling.num_probes = 16
avatar = Avatar(config, init)

T = np.eye(4)
T[2, 3] = 1.0
frames = [Frame(t, 0, Camera(T, 50.0, 50.0, 16.0, 16.0, 32, 32), None, None) for t in range(3)]
image = np.full((32, 32, 3), 90, np.uint8)
boxes = region_boxes(ShapedHead.of(model, init.identity), track, frames)
images = TrainingImages([image] * 3, [np.full((32, 32), 255, np.uint8)] * 3, frames, boxes)

fit_config = FitConfig()
fit_config.schedule.max_steps, fit_config.sampler.rays_per_batch = 2, 64
before = {name: value.clone() for name, value in avatar.named_parameters()}
losses = []
steps = fit(avatar, images, track, fit_config, lambda step, progress, terms: losses.append(terms["color"]))
assert steps == len(losses) == 2 and all(np.isfinite(losses)), losses
assert any(not torch.equal(value, before[name]) for name, value in avatar.named_parameters())

avatar.eval()
rays = Rays(torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[[0.0, 0.0, -1.0]]]))
with torch.no_grad():
    assert avatar.render(rays, track[:1]).rgb.isfinite().all()
print("trained")
"""


def test_a_training_step_needs_no_nerfstudio(head_file):
    command = [sys.executable, "-c", PROGRAM, str(head_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == "trained\n", done.stderr
