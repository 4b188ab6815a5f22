"""Measures `partnerface live --video VIDEO --real-time` without a page, against the track of `partnerface track`.

The video is played once for each size. The table has the share of the frames that were shown, the delay from the
arrival of a frame to its finished image, and the work for a frame. The head of each tracked frame is compared with the
offline track of the same video. The landmarks on the head model's surface give a distance, in pixels of a square image
of 512. The mouth's opening (the distance between the inner lips) and the jaw's angle give correlations.

    partnerface track VIDEO TRACKED
    python scripts/measure_live.py RUN VIDEO TRACKED --sizes 128 256
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from partnerface_ns.capture.load import load_capture
from partnerface_ns.cli.avatars import open_player
from partnerface_ns.common.json_file import read_json, write_json
from partnerface_ns.driving.live_avatar import LiveAvatar, RgbImage, follow_live
from partnerface_ns.driving.live_pace import AdaptiveSize, LivePace, Pace
from partnerface_ns.driving.live_source import LiveFrames, TrackedFace
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.tracking.fit.embedding import landmark_embedding
from partnerface_ns.tracking.realtime.sources import CameraFrame, play_video
from partnerface_ns.tracking.realtime.tracker import RealtimeTracker, TrackedFrame

_REFERENCE = 512
_LIPS = (13, 14)
"""Landmarks in the middle of the upper and the lower lip, inside."""


@dataclass
class Measure:
    """Play a video as a camera and compare; prints a table."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, or avatar file, whose head model the offline track has."""
    video: Annotated[Path, tyro.conf.Positional]
    """The video."""
    tracked: Annotated[Path, tyro.conf.Positional]
    """Capture of `partnerface track` from the video's beginning."""
    sizes: tuple[int, ...] = (128, 256)
    """Longer sides of the avatar's images, pixels."""
    max_delay: float | None = None
    """Delay above which the size is reduced, seconds; by default each size is fixed."""
    output: Path | None = None
    """JSON file for the figures."""


class RecordingTracker(RealtimeTracker):
    """Keeps the head state of each frame by its index."""

    def __init__(self, model: HeadModel) -> None:
        super().__init__(model)
        self.states: dict[int, HeadState] = {}
        self.shape = (0, 0)

    def __call__(self, frame: CameraFrame) -> TrackedFrame:
        tracked = super().__call__(frame)
        self.shape = frame.rgb.shape[:2]
        if tracked.state is not None:
            self.states[frame.index] = tracked.state
        return tracked


class Nobody:
    """A screen that takes the images and shows them to nobody."""

    def is_watched(self) -> bool:
        return True

    def show(self, image: RgbImage) -> None:
        pass

    def tell(self, line: str) -> None:
        pass


@dataclass(frozen=True)
class OfflineTrack:
    """The offline track, in pixels of a square image of 512 from the principal point."""

    indices: list[int]
    """The frames of the video."""
    landmarks: Float[Tensor, "frames landmarks 2"]
    jaw: Float[Tensor, "frames"]
    """Radians."""
    scale: float
    """Pixels of the square image for one pixel of the video, whose longer side is 1."""

    @staticmethod
    def read(folder: Path, model: HeadModel) -> OfflineTrack:
        capture, report = load_capture(folder), read_json(folder / "tracking.json")
        left_out = {int(index) for index in report["left_out"]}
        indices = [i for i in range(len(report["frame_times"])) if i not in left_out]
        head = ShapedHead.of(model, capture.identity, capture.static_offset)
        camera = capture.frames[0].camera
        points = landmarks_of(model, head.pose(capture.track).verts)
        focal = camera.fl_x * _REFERENCE / camera.width
        return OfflineTrack(
            indices, project(points, focal), capture.track.jaw[:, 0], focal / float(report["focal_length"])
        )


def landmarks_of(model: HeadModel, verts: Float[Tensor, "frames verts 3"]) -> Float[Tensor, "frames landmarks 3"]:
    embedding = landmark_embedding(model)
    weights = torch.from_numpy(embedding.weights).float()
    return torch.einsum("lk,flkc->flc", weights, verts[:, torch.from_numpy(embedding.vertices)])


def project(points: Float[Tensor, "frames points 3"], focal: float) -> Float[Tensor, "frames points 2"]:
    return focal * points[..., :2] / -points[..., 2:] * torch.tensor([1.0, -1.0])


def compare(tracker: RecordingTracker, offline: OfflineTrack) -> dict[str, float]:
    """The differences of the frames that both trackers have."""
    calibration = tracker.calibration
    assert calibration is not None, "the video ended before the person was measured"
    common = [(row, index) for row, index in enumerate(offline.indices) if index in tracker.states]
    rows = [row for row, _ in common]
    states = HeadState.stack([tracker.states[index] for _, index in common])
    pixels = calibration.person.pixels(states) * offline.scale / max(tracker.shape)
    distance = (pixels - offline.landmarks[rows]).norm(dim=-1)
    return {
        "frames": len(common),
        "landmarks_px": float(distance.median()),
        "landmarks_px_95": float(np.quantile(distance.numpy(), 0.95)),
        "mouth_correlation": correlation(opening(pixels), opening(offline.landmarks[rows])),
        "jaw_correlation": correlation(states.jaw[:, 0], offline.jaw[rows]),
        "focal_length": calibration.person.focal / max(tracker.shape),
    }


def opening(landmarks: Float[Tensor, "frames landmarks 2"]) -> Float[Tensor, "frames"]:
    return (landmarks[:, _LIPS[0]] - landmarks[:, _LIPS[1]]).norm(dim=-1)


def correlation(a: Float[Tensor, "frames"], b: Float[Tensor, "frames"]) -> float:
    return float(np.corrcoef(a.numpy(), b.numpy())[0, 1])


def play(player: Player, video: Path, size: AdaptiveSize) -> tuple[Pace, RecordingTracker]:
    """Play the video once."""
    avatar, pace, tracker = LiveAvatar(player), LivePace(), RecordingTracker(player.person.model)
    avatar.render(None, size.size)
    with LiveFrames(play_video(video), TrackedFace(tracker), reserve_core=True) as frames:
        follow_live(avatar, frames, size, Nobody(), pace)
    total = pace.total()
    assert total is not None, "no frame was shown"
    return total, tracker


def main(options: Measure) -> None:
    player = open_player(options.run, device="cpu", fast=True)
    offline = OfflineTrack.read(options.tracked, player.person.model)
    rows = []
    for size in options.sizes:
        load = os.getloadavg()[0]
        pace, tracker = play(player, options.video, AdaptiveSize(size, options.max_delay or float("inf")))
        difference = compare(tracker, offline)
        print(f"\nSize {size}, load before {load:.1f}, {torch.get_num_threads()} threads\n{pace.summary()}")
        print(
            f"Against the offline track, {difference['frames']} frames: landmarks {difference['landmarks_px']:.2f} px "
            f"(95%: {difference['landmarks_px_95']:.2f}), correlation of the mouth's opening "
            f"{difference['mouth_correlation']:.3f}, of the jaw's angle {difference['jaw_correlation']:.3f}, "
            f"focal length {difference['focal_length']:.2f}",
            flush=True,
        )
        rows.append({"size": size, "load": load, "share": pace.share, **vars(pace), **difference})
    if options.output is not None:
        write_json(options.output, rows)


if __name__ == "__main__":
    main(tyro.cli(Measure))
