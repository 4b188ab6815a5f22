"""`partnerface drive`: render an avatar that follows a motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partnerface_ns.common.command_lines import command


@dataclass
class Drive:
    """Drive a trained avatar with a capture, a video, a recording of blendshapes, keyframes or a built-in motion.

    If interrupted, the same command resumes a clip or a folder of images.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCE]")] = None
    """Source of the motion. One of these:
    - a capture folder of any layout
    - a video, which is tracked first and whose sound is kept
    - a recording of ARKit's blendshapes: a table, JSON, or the folder of a Live Link Face take
    - keyframes: a table with a column time, or JSON
    - head states over time: an .npz, or track.csv of an export"""
    motion: Literal["talk", "range", "visemes"] | None = None
    """Built-in motion, in place of a source."""
    output: Path = Path("driven.mp4")
    """Clip (.mp4), .npz, or folder of PNGs with alpha."""
    transfer: Literal["relative", "absolute"] = "relative"
    """relative: changes of the source's face are added to the avatar's neutral face.
    absolute: head states are used unchanged."""
    camera: Literal["captured", "fixed", "orbit"] = "captured"
    """captured: the source's camera.
    fixed: the avatar's training camera.
    orbit: that camera, swinging around the face."""
    side_by_side: bool = False
    """Show the source's image on the left."""
    size: int | None = None
    """Longer side of the images, pixels; by default the camera's own."""
    fps: float | None = None
    """Images per second; by default the source's rate. Times do not change.
    For a source without a clock this is also the rate of the source, by default 25, or 60 for a recording."""
    smoothing: float = 0.0
    """Standard deviation of a Gaussian over time, seconds; 0.05 smooths a noisy track."""
    exact: bool = False
    """Render without baking, as evaluation does: slower, and more accurate (docs/benchmarks.md)."""
    clamp: bool = True
    """Keep the face close to the range of training."""
    max_frames: int | None = None
    """Largest number of frames to render; by default all."""
    head_model: Path | None = None
    """The avatar's head model file, if it was moved since training."""
    source_head_model: Path | None = None
    """Head model file of a source that does not contain it."""
    device: str = "auto"
    """Device to render on: auto, cpu, cuda or cuda:N."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import check_source, open_player, read_motion
        from partnerface_ns.driving.output import check_output, write_plan
        from partnerface_ns.driving.plan import PlanConfig, check_ranges, make_plan

        config = PlanConfig(
            self.transfer, self.camera, self.size, self.smoothing, self.clamp, self.side_by_side, self.max_frames
        )
        check_ranges(config)
        check_source(self.source, self.motion, self.fps, self.source_head_model)
        check_output(self.output)
        player = open_player(self.run, self.head_model, self.device, fast=not self.exact)
        model, folder = player.person.model, self.output.parent
        motion = read_motion(self.source, self.motion, model, self.fps, self.source_head_model, folder)
        for line in motion.notes:
            print(line, flush=True)
        plan = make_plan(player, motion, config)
        print(plan.excess)
        write_plan(self.output, player, plan)
        print(f"{len(plan)} images at {plan.fps:g} fps written to {self.output}. To see it in a browser:")
        source = ("--motion", self.motion) if self.source is None else (self.source,)
        print(f"  {command('partnerface', 'live', self.run, *source)}")
