"""How far `partnerface track` is from the truth, on the film of a synthetic person that nothing was tuned on.

Films a person, tracks the film, and compares with the head states that the person was posed with. The tracker gets a
video file and nothing else. A second film shows one moment with sensor noise, for the trembling of a still head.

    python scripts/measure_tracker.py --seed 41 --frames 300 --output measured
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from scipy.spatial.transform import Rotation

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.load import load_capture
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import move_points
from partnerface_ns.tracking.options import TrackingOptions
from partnerface_ns.tracking.pipeline import track_video
from partnerface_ns.tracking.report.preview import write_film
from partnerface_ns.tracking.video.decode.reading import Selection

_FPS = 25
_STILL_FRAMES = 60
_NOISE = 2.0
"""Deviation of the still film's noise, of 255."""
_REFERENCE = 512


@dataclass
class Measure:
    """Film, track and compare; prints a table."""

    output: Path
    """Folder for films, tracks and figures; people that were filmed into it before are not filmed again."""
    seed: int = 41
    """Decides who the person is and what they do."""
    frames: int = 300
    """Images of the film."""
    size: int = 512
    """Pixels a side of the film."""
    focal_known: bool = False
    """Tell the tracker the focal length."""


@dataclass
class Seen:
    """A person's track as one camera sees it, camera frame (x right, y up, z backwards)."""

    verts: torch.Tensor
    """(frames, verts, 3), metres."""
    skull: Rotation
    gaze: np.ndarray
    """(frames, 2, 3): unit directions of both eyes, frame of the skull."""
    jaw: np.ndarray
    """Opening, degrees."""

    @staticmethod
    def of(capture: Capture, timesteps: torch.Tensor) -> Seen:
        model = load_open_head()
        head = ShapedHead.of(model, capture.identity, capture.static_offset)
        state: HeadState = capture.track[timesteps]
        posed = head.pose(state)
        T_camera_world = torch.from_numpy(np.linalg.inv(capture.frames[0].camera.T_world_camera)).float()
        to_camera = Rotation.from_matrix(T_camera_world[:3, :3].numpy())
        eyes = [Rotation.from_rotvec(state.eyes[:, 3 * i : 3 * i + 3].numpy()).apply([0.0, 0.0, 1.0]) for i in (0, 1)]
        return Seen(
            torch.stack([move_points(T_camera_world, verts) for verts in posed.verts]),
            to_camera * Rotation.from_rotvec(state.rotation.numpy()) * Rotation.from_rotvec(state.neck.numpy()),
            np.stack(eyes, 1),
            np.degrees(state.jaw[:, 0].numpy()),
        )

    def in_image(self, focal: float, region: torch.Tensor) -> torch.Tensor:
        """Where a region's vertices appear, pixels at 512 from the middle of the film's frame."""
        picked = self.verts[:, region]
        return focal * _REFERENCE * picked[..., :2] / -picked[..., 2:]


def main(options: Measure) -> None:
    folder = options.output / f"truth-{options.seed}-{options.frames}-{options.size}"
    if not folder.is_dir():
        make_subject(folder, frames=options.frames, size=options.size, seed=options.seed)
    truth = load_capture(folder)
    film = [np.asarray(Image.open(frame.image_path).convert("RGB")) for frame in truth.frames]
    focal = truth.frames[0].camera.fl_x / options.size
    known = focal if options.focal_known else None
    tracked, report = _tracked(film, options, "moving", known)
    kept = np.setdiff1d(np.arange(report["frames_total"]), [int(index) for index in report["left_out"]])
    ours, theirs = Seen.of(tracked, torch.arange(len(kept))), Seen.of(truth, torch.from_numpy(kept))
    figures = {f"{key} (tracking.json)": report[key] for key in report if key.endswith(("_mean", "_median"))}
    figures |= {"frames_tracked": report["frames_tracked"], "focal_length": (report["focal_length"], focal)}
    figures |= _differences(ours, theirs, report["focal_length"], focal)

    noise = np.random.default_rng(options.seed)
    still = [
        np.clip(film[0] + noise.normal(0, _NOISE, film[0].shape), 0, 255).astype(np.uint8) for _ in range(_STILL_FRAMES)
    ]
    held, report = _tracked(still, options, "still", known)
    at = Seen.of(held, torch.arange(report["frames_tracked"])).in_image(report["focal_length"], _face())
    figures["trembling of a still head, px at 512"] = float((at - at.mean(0)).square().sum(-1).mean().sqrt())
    (options.output / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf8")
    for name, value in figures.items():
        print(f"{name:45}", value if isinstance(value, int | tuple) else round(value, 3))


def _tracked(film: list[np.ndarray], options: Measure, name: str, focal: float | None) -> tuple[Capture, dict]:
    write_film(iter(film), options.output / f"{name}.mp4", _FPS)
    folder = options.output / name
    shutil.rmtree(folder, ignore_errors=True)
    settings = TrackingOptions(options.size, Selection(), focal)
    report = track_video(options.output / f"{name}.mp4", folder, load_open_head(), settings)
    return load_capture(folder), report


def _differences(ours: Seen, theirs: Seen, our_focal: float, focal: float) -> dict[str, float]:
    """Medians, and nine tenths of the frames, of what the two differ by."""
    rotation = np.degrees((ours.skull * theirs.skull.inv()).magnitude())
    place = ours.verts[:, _face()].mean(1), theirs.verts[:, _face()].mean(1)
    # A face says little of the focal length: one that is longer shows the same head from farther away.
    scale = torch.tensor([1.0, 1.0, focal / our_focal])
    translation = 100 * (place[0] * scale - place[1]).norm(dim=-1) / place[1].norm(dim=-1)
    gaze = np.degrees(np.arccos((ours.gaze * theirs.gaze).sum(-1).clip(-1, 1))).max(-1)
    lips = load_open_head().regions["lips"] > 0.5
    away = (ours.in_image(our_focal, lips) - theirs.in_image(focal, lips)).norm(dim=-1).mean(-1)
    rows = {
        "rotation, degrees": rotation,
        "translation, % of the distance": translation.numpy(),
        "jaw, degrees": np.abs(ours.jaw - theirs.jaw),
        "gaze, degrees, the worse eye": gaze,
        "lips reprojected, px at 512": away.numpy(),
    }
    medians = {f"{name}: median": float(np.median(row)) for name, row in rows.items()}
    return medians | {f"{name}: 90%": float(np.quantile(row, 0.9)) for name, row in rows.items()}


def _face() -> torch.Tensor:
    return load_open_head().regions["face"] > 0.5


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
