"""`partnerface export`: meshes, parts and tracks of a trained avatar for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partnerface_ns.common.errors import InputError


@dataclass
class Export:
    """Write out what a trained avatar knows.

    mesh: the person's mesh at every moment of SOURCE, as OBJ files; parts: the canonical mesh as PLY, coloured by part
    and by what the avatar shows; track: the head states of SOURCE as CSV and npz.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder, or an avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional] = None
    """The motion, for mesh and track: what `partnerface drive` takes."""
    performance: Literal["talk", "range", "visemes"] | None = None
    """A built-in performance in place of a source."""
    what: Literal["mesh", "parts", "track"] = "parts"
    """What to write."""
    output: Path = Path("export")
    """Folder to write to."""
    transfer: Literal["relative", "absolute"] = "relative"
    """Whether the motion is added to the avatar's neutral face, or taken as it is."""
    fps: float | None = None
    """WarpFrames a second; by default the source's own, or 25. Times stay as they are; for a source without a clock it
    is the source's rate too."""
    head_model: Path | None = None
    """The avatar's head model file, where it is no longer where training found it."""
    source_head_model: Path | None = None
    """The head model file of a source capture that does not hold its own."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:N."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import motion_for, open_player
        from partnerface_ns.driving.export import check_folder, export_meshes, export_parts, export_track
        from partnerface_ns.driving.plan import PlanConfig, make_plan

        if self.what != "parts" and self.source is None and self.performance is None:
            expected = "RUN SOURCE, or RUN --performance talk"
            raise InputError("export", f"--what {self.what} needs a motion", expected=expected, found="RUN alone")
        if self.what == "parts" and (self.source is not None or self.performance is not None):
            print(f"--what parts shows the neutral face: {self.source or self.performance} is not used.")
        check_folder(self.output)
        player = open_player(self.run, self.head_model, self.device)
        if self.what == "parts":
            export_parts(self.output, player)
        else:
            model, theirs = player.person.model, self.source_head_model
            motion = motion_for(self.source, self.performance, model, self.fps, theirs, self.output.parent)
            for line in motion.notes:
                print(line, flush=True)
            plan = make_plan(player, motion, PlanConfig(self.transfer, clamp=False))
            if self.what == "mesh":
                export_meshes(self.output, player, plan.states)
            else:
                export_track(self.output, player, plan.states, plan.fps)
        names = sorted(path.name for path in self.output.iterdir())
        print(f"Written to {self.output}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
