"""`partnerface export`: write meshes, parts and tracks of a trained avatar for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from partnerface_ns.common.command_lines import command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.driving.player import Player


@dataclass
class Export:
    """Export a trained avatar for other programs.

    mesh: the person's mesh for every frame of SOURCE, as OBJ files. parts: the canonical mesh as PLY, coloured by part
    and by rendered colour. track: the head states of SOURCE as CSV and npz.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCE]")] = None
    """Source of the motion for mesh and track, as for `partnerface drive`."""
    motion: Literal["talk", "range", "visemes"] | None = None
    """Built-in motion, in place of a source."""
    what: Literal["mesh", "parts", "track"] = "parts"
    """What to write, see above."""
    output: Path = Path("export")
    """Folder to write to."""
    transfer: Literal["relative", "absolute"] = "relative"
    """relative: changes of the source's face are added to the avatar's neutral face.
    absolute: head states are used unchanged."""
    fps: float | None = None
    """Frames per second; by default the source's rate. Times do not change.
    For a source without a clock this is also the rate of the source, by default 25, or 60 for a recording."""
    head_model: Path | None = None
    """The avatar's head model file, if it was moved since training."""
    source_head_model: Path | None = None
    """Head model file of a source that does not contain it."""
    device: str = "auto"
    """Device to compute on: auto, cpu, cuda or cuda:N."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import check_source, open_player
        from partnerface_ns.driving.export import check_folder, export_parts

        has_motion = self.source is not None or self.motion is not None
        if self.what != "parts" and not has_motion:
            expected = "RUN SOURCE, or RUN --motion talk"
            raise InputError("export", f"--what {self.what} needs a motion", expected=expected, actual="only RUN")
        if self.what != "parts":
            check_source(self.source, self.motion, self.fps)
        elif has_motion:
            print(f"--what parts shows the neutral face: {self.source or self.motion} is not used.")
        check_folder(self.output)
        player = open_player(self.run, self.head_model, self.device)
        if self.what == "parts":
            export_parts(self.output, player)
        else:
            self._export_motion(player)
        names = sorted(path.name for path in self.output.iterdir())
        print(f"Written to {self.output}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
        if self.what == "track":
            print(f"Next:\n  {command('partnerface', 'drive', self.run, self.output / 'track.npz')}")

    def _export_motion(self, player: Player) -> None:
        """Write the meshes or the track of a motion."""
        from partnerface_ns.cli.avatars import read_motion
        from partnerface_ns.driving.export import export_meshes, export_track
        from partnerface_ns.driving.plan import PlanConfig, make_plan

        model, folder = player.person.model, self.output.parent
        motion = read_motion(self.source, self.motion, model, self.fps, self.source_head_model, folder)
        for line in motion.notes:
            print(line, flush=True)
        plan = make_plan(player, motion, PlanConfig(self.transfer, clamp=False))
        if self.what == "mesh":
            export_meshes(self.output, player, plan.states)
        else:
            export_track(self.output, player, plan.states, plan.fps)
