"""Measures the error of `partnerface track` on a video of a synthetic person.

Seed 41 was used to choose weights of the photometric fit, seed 171 settings of its shoulders, and seeds 61 to 65
weights of both fits. Seeds from 1000 were used for the landmarks of the open head.

The script renders a person, tracks the video, and compares the result with the true head states. The tracker gets only
the video file. The video has the natural speed of the motion: fewer frames are farther apart. `--fast` plays it at 25
frames per second instead. A second video shows one frame with sensor noise, to measure the jitter of a still head.

    python scripts/measure_tracker.py --seed 42 --frames 300 --output measured

With `--turn` the person turns to one side, up to a profile, and back. The table then has the error of the yaw at
several true yaws, and the number of frames that are kept. An error is positive where the tracked head is turned too
far.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from partnerface_ns.capture.capture import Capture
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.vhap_writer import write_vhap
from partnerface_ns.demo.performance import SECONDS
from partnerface_ns.demo.subject import DemoSubject, make_subject
from partnerface_ns.flame.joints import Joint
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.rigid import move_points, rigid_about, transform_points
from partnerface_ns.tracking.options import TrackingOptions
from partnerface_ns.tracking.pipeline import track_video
from partnerface_ns.tracking.report.preview import write_film
from partnerface_ns.tracking.video.decode.reading import Selection

_FPS = 25
_STILL_FRAMES = 60
_NOISE = 2.0
"""Standard deviation of the noise in the still video, on a scale of 255."""
_REFERENCE = 512
_LARGEST_TURN, _YAWS, _YAW_RANGE = 92.0, (0, 30, 45, 60, 75, 90), 7.5
"""Largest yaw of a turn, yaws whose errors are stated, and half the range of each, degrees."""


@dataclass
class Measure:
    """Render, track and compare; prints a table."""

    output: Path
    """Folder for videos, tracks and figures. A person that it already contains is not rendered again."""
    seed: int = 42
    """Determines the person and the motion."""
    frames: int = 300
    """Number of frames."""
    size: int = 512
    """Side of the frames, pixels."""
    focal_known: bool = False
    """Pass the true focal length to the tracker."""
    fast: bool = False
    """Film with 25 frames per second, so that few frames show unnaturally fast motion."""
    turn: bool = False
    """Let the head turn to a profile and back."""
    photometric: bool = True
    """Align the images with each other."""


@dataclass
class CameraTrack:
    """A person's track in the frame of the camera (x right, y up, z backwards)."""

    verts: Float[Tensor, "frames verts 3"]
    """Metres."""
    skull: Rotation
    """Rotations of the skull."""
    gaze: Float[np.ndarray, "frames 2 3"]
    """Unit directions of both eyes, frame of the skull."""
    torso_rotations: Rotation
    """Rotations of the torso, or of the root joint if the torso's pose is not known."""
    torso_centre: Float[Tensor, "frames 1 3"]
    """Mean vertex of the torso, metres."""
    jaw: Float[np.ndarray, "frames"]
    """Opening, degrees."""

    @staticmethod
    def from_capture(capture: Capture, timesteps: Int[Tensor, "frames"]) -> CameraTrack:
        """The track of some frames of a capture."""
        model = load_open_head()
        head = ShapedHead.of(model, capture.identity, capture.static_offset)
        state: HeadState = capture.track[timesteps]
        posed = head.pose(state)
        T_camera_world = torch.from_numpy(np.linalg.inv(capture.frames[0].camera.T_world_camera)).float()
        to_camera = Rotation.from_matrix(T_camera_world[:3, :3].numpy())
        bust = model.regions["torso"] > 0.5
        torso = torch.cat([state.rotation, state.translation], -1) if state.torso is None else state.torso
        T_world_torso = rigid_about((model.joint_regressor @ head.verts_rest)[Joint.ROOT], torso[:, :3], torso[:, 3:])
        chest = transform_points(T_camera_world @ T_world_torso, head.verts_rest[bust].mean(0).expand(len(torso), 3))
        eyes = [Rotation.from_rotvec(state.eyes[:, 3 * i : 3 * i + 3].numpy()).apply([0.0, 0.0, 1.0]) for i in (0, 1)]
        return CameraTrack(
            torch.stack([move_points(T_camera_world, verts) for verts in posed.verts]),
            to_camera * Rotation.from_rotvec(state.rotation.numpy()) * Rotation.from_rotvec(state.neck.numpy()),
            np.stack(eyes, 1),
            to_camera * Rotation.from_rotvec(torso[:, :3].numpy()),
            chest[:, None],
            np.degrees(state.jaw[:, 0].numpy()),
        )

    def project(self, focal: float, region: Bool[Tensor, "verts"]) -> Float[Tensor, "frames region 2"]:
        """Project a region's vertices to pixels at 512, relative to the middle of the frame."""
        return self._project(focal, self.verts[:, region])

    def project_torso(self, focal: float) -> Float[Tensor, "frames 2"]:
        """Project the torso's mean vertex to pixels at 512, relative to the middle of the frame."""
        return self._project(focal, self.torso_centre)[:, 0]

    def _project(self, focal: float, verts: Float[Tensor, "frames points 3"]) -> Float[Tensor, "frames points 2"]:
        return focal * _REFERENCE * verts[..., :2] / -verts[..., 2:]


def main(options: Measure) -> None:
    folder = options.output / f"truth-{options.seed}-{options.frames}-{options.size}{'-turn' * options.turn}"
    if not folder.is_dir() and options.turn:
        _make_turning_subject(folder, options)
    elif not folder.is_dir():
        make_subject(folder, frames=options.frames, size=options.size, seed=options.seed)
    truth = load_capture(folder)
    paths = [frame.image_path for frame in truth.frames if frame.image_path is not None]
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    focal = truth.frames[0].camera.fl_x / options.size
    known_focal = focal if options.focal_known else None
    fps = _FPS if options.fast else max(1, round(options.frames / SECONDS))
    tracked, report = _track(images, options, "moving", known_focal, fps)
    kept = np.setdiff1d(np.arange(report["frames_total"]), [int(index) for index in report["left_out"]])
    ours = CameraTrack.from_capture(tracked, torch.arange(len(kept)))
    theirs = CameraTrack.from_capture(truth, torch.from_numpy(kept))
    figures = {f"{key} (tracking.json)": report[key] for key in report if key.endswith(("_mean", "_median"))}
    figures |= {"frames_tracked": report["frames_tracked"], "focal_length": (report["focal_length"], focal)}
    figures |= _differences(ours, theirs, report["focal_length"], focal)
    if options.turn:
        figures |= _yaw_errors(ours, theirs)
    else:
        figures["jitter of a still head, px at 512"] = _still_jitter(images[0], options, known_focal)
    (options.output / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf8")
    for name, value in figures.items():
        print(f"{name:55}", value if isinstance(value, int | tuple) else round(value, 3))


def _track(
    images: list[np.ndarray], options: Measure, name: str, focal: float | None, fps: int
) -> tuple[Capture, dict]:
    write_film(iter(images), options.output / f"{name}.mp4", fps)
    folder = options.output / name
    shutil.rmtree(folder, ignore_errors=True)
    settings = TrackingOptions(options.size, Selection(), focal, photometric=options.photometric)
    report = track_video(options.output / f"{name}.mp4", folder, load_open_head(), settings)
    return load_capture(folder), report


def _still_jitter(image: UInt8[np.ndarray, "rows columns 3"], options: Measure, focal: float | None) -> float:
    """Standard deviation of the tracked face in a video that repeats one image with noise, pixels at 512."""
    generator = np.random.default_rng(options.seed)
    noise = (generator.normal(0, _NOISE, image.shape) for _ in range(_STILL_FRAMES))
    still = [np.clip(image + values, 0, 255).astype(np.uint8) for values in noise]
    capture, report = _track(still, options, "still", focal, _FPS)
    track = CameraTrack.from_capture(capture, torch.arange(report["frames_tracked"]))
    pixels = track.project(report["focal_length"], _face())
    return float((pixels - pixels.mean(0)).square().sum(-1).mean().sqrt())


def _differences(ours: CameraTrack, theirs: CameraTrack, our_focal: float, focal: float) -> dict[str, float]:
    """Medians and 90% quantiles of the differences between two tracks."""
    turned = theirs.skull.inv() * ours.skull
    centres = ours.verts[:, _face()].mean(1), theirs.verts[:, _face()].mean(1)
    # A longer focal length shows the same head from a larger distance, and a face hardly determines it.
    scale = torch.tensor([1.0, 1.0, focal / our_focal])
    translation = 100 * (centres[0] * scale - centres[1]).norm(dim=-1) / centres[1].norm(dim=-1)
    gaze = np.degrees(np.arccos((ours.gaze * theirs.gaze).sum(-1).clip(-1, 1))).max(-1)
    lips = load_open_head().regions["lips"] > 0.5
    lip_errors = (ours.project(our_focal, lips) - theirs.project(focal, lips)).norm(dim=-1).mean(-1)
    turned_torso = theirs.torso_rotations.inv() * ours.torso_rotations
    chest = ours.project_torso(our_focal) - theirs.project_torso(focal)
    rows = {
        "rotation, degrees": np.degrees(turned.magnitude()),
        "rotation without its mean, degrees": np.degrees((turned.mean().inv() * turned).magnitude()),
        "translation, % of the distance": translation.numpy(),
        "jaw, degrees": np.abs(ours.jaw - theirs.jaw),
        "gaze, degrees, the worse eye": gaze,
        "lips reprojected, px at 512": lip_errors.numpy(),
        "shoulders' rotation without its mean, degrees": np.degrees(
            (turned_torso.mean().inv() * turned_torso).magnitude()
        ),
        "shoulders without their mean error, px at 512": (chest - chest.mean(0)).norm(dim=-1).numpy(),
    }
    medians = {f"{name}: median": float(np.median(row)) for name, row in rows.items()}
    return medians | {f"{name}: 90%": float(np.quantile(row, 0.9)) for name, row in rows.items()}


def _make_turning_subject(folder: Path, options: Measure) -> None:
    """Write a capture of a person whose head turns to its left, and back."""
    subject = DemoSubject.create(options.seed, options.frames, options.size)
    track = subject.performance.track
    yaw = np.radians(_LARGEST_TURN) * np.sin(np.linspace(0, np.pi, options.frames)) ** 2
    turn = Rotation.from_rotvec(yaw[:, None] * [0.0, 1.0, 0.0])
    neck = torch.from_numpy(turn.as_rotvec()).float()
    still = replace(track, rotation=torch.zeros_like(track.rotation), neck=neck)
    subject = replace(subject, performance=replace(subject.performance, track=still))
    write_vhap(folder, subject.capture(folder), subject.head.model, subject.images())


def _yaw_errors(ours: CameraTrack, theirs: CameraTrack) -> dict[str, float]:
    """Median error and number of frames near each of some true yaws, degrees."""
    forward = (track.skull.apply([0.0, 0.0, 1.0]) for track in (ours, theirs))
    tracked, true = (np.degrees(np.arctan2(vector[:, 0], vector[:, 2])) for vector in forward)
    result: dict[str, float] = {}
    for yaw in _YAWS:
        near = np.abs(true - yaw) < _YAW_RANGE
        result[f"yaw error at {yaw} degrees"] = float(np.median((tracked - true)[near])) if near.any() else float("nan")
        result[f"frames at {yaw} degrees"] = int(near.sum())
    return result


def _face() -> Bool[Tensor, "verts"]:
    """Mask of the face's vertices."""
    return load_open_head().regions["face"] > 0.5


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
