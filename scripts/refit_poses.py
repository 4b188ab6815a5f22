"""Share of an avatar's test error that comes from the tracked head pose.

    python scripts/refit_poses.py --avatar RUN/avatar.pt --folder FOLDER

Fits one rigid motion of the whole head for each test frame to that frame's own pixels, and prints the metrics before
and after. The fit uses the truth, so its metrics measure the cost of tracking errors, not generalisation.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.file_format import load_avatar
from partnerface_ns.bench.training_runs import measure
from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.head_models import resolve_head_model
from partnerface_ns.capture.images import load_image
from partnerface_ns.capture.load import load_capture
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.sequences import pick_evenly
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import rays_through_pixels
from partnerface_ns.rendering.metric_regions import metric_regions
from partnerface_ns.rendering.rays import Rays

STEPS, RAYS, RATE = 60, 1500, 4e-3


def refit(avatar: Avatar, capture: Capture, model: HeadModel, head: ShapedHead, frame: Frame) -> torch.Tensor:
    """Fit the motion of the whole head in a frame, and set it in the avatar. Returns its twist, (1, 6)."""
    rgb, mask = load_image(frame, tuple(avatar.get_buffer("background").tolist()))
    truth, camera = torch.from_numpy(rgb).float() / 255, frame.camera
    verts, foreground = head.pose(capture.track[frame.timestep]).verts, torch.from_numpy(mask) > 127
    region = metric_regions(verts, model, camera, foreground)["head"]
    rows, columns = region.nonzero(as_tuple=True)
    T = torch.from_numpy(camera.T_world_camera).float()
    state = capture.track[torch.tensor([frame.timestep])]
    twist = torch.zeros(1, 6, requires_grad=True)
    avatar.correction.forward = lambda states, timesteps: avatar.correction.motion(twist)
    optimizer = torch.optim.Adam([twist], lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        pick = torch.randint(len(rows), (RAYS,))
        centers = torch.stack([columns[pick], rows[pick]], -1) + 0.5
        origins, directions = rays_through_pixels(centers, camera.intrinsics, T)
        seen = avatar.render(Rays(origins[None], directions[None]), state).rgb[0]
        optimizer.zero_grad()
        (seen - truth[rows[pick], columns[pick]]).square().mean().backward()
        optimizer.step()
    return twist.detach()


def main(avatar: Path, folder: Path, num_frames: int = 5) -> None:
    """Compare test frames as tracked with the same frames refitted.

    Args:
        avatar: the run's avatar.pt.
        folder: the training capture.
        num_frames: number of test frames, even over time.
    """
    torch.manual_seed(0)
    loaded, capture = load_avatar(avatar)[0], load_capture(folder)
    model = resolve_head_model(capture, None)
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    frames = pick_evenly(capture.frames_of("test"), num_frames)
    tracked = [measure(loaded, capture, head, [frame])[0] for frame in frames]
    loaded.correction.config = replace(loaded.correction.config, inner=-1.0, outer=0.0)
    refitted = []
    for frame, before in zip(frames, tracked, strict=True):
        twist = refit(loaded, capture, model, head, frame)[0].numpy()
        refitted.append(measure(loaded, capture, head, [frame])[0])
        moved = f"{np.degrees(twist[:3]).round(1)} degrees, {(100 * twist[3:]).round(1)} mm"
        print(f"timestep {frame.timestep}: {before['psnr_head']:.2f} -> {refitted[-1]['psnr_head']:.2f} dB, {moved}")
    for name in ("psnr_head", "psnr_mouth", "psnr_eyes"):
        mean = [np.mean([row[name] for row in rows]) for rows in (tracked, refitted)]
        print(f"{name}: {mean[0]:.2f} as tracked, {mean[1]:.2f} refitted")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except InputError as error:
        raise SystemExit(f"Error: {error}") from None
