"""`partnerface drive`: an avatar moved by something else than the video it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from partnerface_ns.errors import SubjectError

if TYPE_CHECKING:
    from partnerface_ns.driving.motion import Motion
    from partnerface_ns.flame.head_model import HeadModel


@dataclass
class Drive:
    """Drive a trained avatar by a capture, a recording of blendshapes, keyframes or a built-in performance.

    Stopped and called again, a clip or a folder of pictures is gone on with.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder, or an avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional] = None
    """A capture folder of any layout, a video (it is tracked first; a clip keeps its sound), a Live Link Face CSV, or
    keyframes (.json, or .csv with a column time)."""
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
    """Show the source's picture at the left."""
    size: int | None = None
    """Longer side of the pictures, pixels; by default the camera's own."""
    fps: float | None = None
    """Pictures a second; by default the source's own, or 25."""
    smoothing: float = 0.0
    """Seconds over which the motion is smoothed; 0.05 calms a shaky track."""
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
        from partnerface_ns.cli.avatars import open_player
        from partnerface_ns.driving.output import check_output, write_plan
        from partnerface_ns.driving.plan import PlanConfig, make_plan

        check_output(self.output)
        player = open_player(self.run, self.head_model, self.device)
        motion = self._motion(player.person.model)
        config = PlanConfig(
            self.transfer, self.camera, self.size, self.smoothing, self.clamp, self.side_by_side, self.max_frames
        )
        plan = make_plan(player, motion, config)
        for line in (*motion.notes, str(plan.excess)):
            print(line)
        write_plan(self.output, player, plan)
        print(f"{len(plan)} pictures, {plan.fps:g} a second, in {self.output}")

    def _motion(self, model: HeadModel) -> Motion:
        from partnerface_ns.driving.motion import load_motion, performance
        from partnerface_ns.driving.video import VIDEO_SUFFIXES, motion_of_video

        if (self.source is None) == (self.performance is None):
            raise SubjectError("drive", "needs one motion", expected="SOURCE or --performance, not both or neither")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise SubjectError("--fps", "out of range", expected="above 0, at most 1000", found=self.fps)
        if self.source is not None and self.source.suffix.lower() in VIDEO_SUFFIXES:
            motion = motion_of_video(self.source, self.output.parent, model)
            return motion if self.fps is None else replace(motion, fps=self.fps, sound=None)
        if self.source is not None:
            return load_motion(self.source, model, self.fps, self.source_head_model)
        assert self.performance is not None
        return performance(self.performance, model, self.fps)
