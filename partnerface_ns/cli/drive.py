"""`partnerface drive`: an avatar moved by something else than the video it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partnerface_ns.common.command_lines import command


@dataclass
class Drive:
    """Drive a trained avatar by a capture, a recording of blendshapes, keyframes or a built-in performance.

    Stopped and called again, a clip or a folder of images is gone on with.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder, or an avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional] = None
    """A capture folder of any layout, a video (it is tracked first; a clip keeps its sound), a recording of ARKit's
    blendshapes (a table, JSON, or a folder of a Live Link Face take), keyframes (a table with a column time, or JSON),
    or head states over time (.npz, or track.csv of an export)."""
    performance: Literal["talk", "range", "visemes"] | None = None
    """A built-in performance in place of a source."""
    output: Path = Path("driven.mp4")
    """An .mp4, an .npz, or a folder for PNGs with alpha."""
    transfer: Literal["relative", "absolute"] = "relative"
    """relative: what the source's face adds to its own neutral is added to the avatar's; absolute: head states as they
    are."""
    camera: Literal["captured", "fixed", "orbit"] = "captured"
    """captured: as the source was filmed; fixed: the avatar's training camera; orbit: swinging around the face."""
    side_by_side: bool = False
    """Show the source's image at the left."""
    size: int | None = None
    """Longer side of the images, pixels; by default the camera's own."""
    fps: float | None = None
    """Images a second; by default the source's own, or 25. Times stay as they are; for a source without a clock it is
    the source's rate too."""
    smoothing: float = 0.0
    """Seconds over which the motion is smoothed; 0.05 calms a shaky track."""
    exact: bool = False
    """Follow every sample, as evaluation does: many times as slow, and hardly to be told apart."""
    clamp: bool = True
    """Keep the face softly near what training saw."""
    max_frames: int | None = None
    """Render at most this many moments."""
    head_model: Path | None = None
    """The avatar's head model file, where it is no longer where training found it."""
    source_head_model: Path | None = None
    """The head model file of a source capture that does not hold its own."""
    device: str = "auto"
    """Where to render: auto, cpu, cuda or cuda:N."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import motion_for, open_player
        from partnerface_ns.driving.output import check_output, write_plan
        from partnerface_ns.driving.plan import PlanConfig, check_ranges, make_plan

        config = PlanConfig(
            self.transfer, self.camera, self.size, self.smoothing, self.clamp, self.side_by_side, self.max_frames
        )
        check_ranges(config)
        check_output(self.output)
        player = open_player(self.run, self.head_model, self.device, fast=not self.exact)
        beside = self.output.parent
        model, theirs = player.person.model, self.source_head_model
        motion = motion_for(self.source, self.performance, model, self.fps, theirs, beside)
        for line in motion.notes:
            print(line, flush=True)
        plan = make_plan(player, motion, config)
        print(plan.excess)
        write_plan(self.output, player, plan)
        print(f"{len(plan)} images, {plan.fps:g} a second, in {self.output}. In the browser:")
        driven_by = ("--performance", self.performance) if self.source is None else (self.source,)
        print(f"  {command('partnerface', 'live', self.run, *driven_by)}")
