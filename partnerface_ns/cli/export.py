"""`partnerface export`: write meshes, parts and tracks of a trained avatar for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from partnerface_ns.common.command_lines import command
from partnerface_ns.common.errors import InputError

if TYPE_CHECKING:
    from partnerface_ns.driving.plan import Plan
    from partnerface_ns.driving.player import Player

_WRITTEN = {
    "mesh": "one OBJ file per frame",
    "parts": "parts.ply, colors.ply",
    "track": "track.csv, track.npz, neutral.csv",
    "glb": "head.glb",
    "page": "head.html",
}
"""The files of each kind of export."""


@dataclass
class Export:
    """Export a trained avatar for other programs.

    mesh: the person's mesh for every frame of SOURCE, as OBJ files. parts: the canonical mesh as PLY, coloured by part
    and by rendered colour. track: the head states of SOURCE as CSV and npz. glb: a rigged, textured head for engines,
    with ARKit's blendshapes, and SOURCE as an animation. page: the same head as one HTML file with sliders.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCE]")] = None
    """Source of the motion, as for `partnerface drive`. Required for mesh and track."""
    motion: Literal["talk", "range", "visemes"] | None = None
    """Built-in motion, in place of a source."""
    what: Literal["mesh", "parts", "track", "glb", "page"] = "parts"
    """What to write, see above."""
    texture_size: int = 2048
    """Side of the texture of glb and page, 16 to 8192 texels."""
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
        from partnerface_ns.driving.export import (
            check_folder,
            export_head,
            export_meshes,
            export_parts,
            export_track,
        )

        has_motion = self.source is not None or self.motion is not None
        if not 16 <= self.texture_size <= 8192:
            raise InputError("--texture-size", "out of range", expected="16 to 8192", actual=self.texture_size)
        if self.what in ("mesh", "track") and not has_motion:
            expected = "RUN SOURCE, or RUN --motion talk"
            raise InputError("export", f"--what {self.what} needs a motion", expected=expected, actual="only RUN")
        moves = has_motion and self.what != "parts"
        for option, value in (("--fps", self.fps), ("--source-head-model", self.source_head_model)):
            if value is not None and not moves:
                expected = "mesh, track, glb or page with SOURCE or --motion"
                raise InputError(option, "describes a motion, and this export has none", expected=expected)
        if self.what == "parts" and has_motion:
            print(f"--what parts shows the neutral face: {self.source or self.motion} is not used.")
        elif has_motion:
            check_source(self.source, self.motion, self.fps, self.source_head_model)
        check_folder(self.output)
        player = open_player(self.run, self.head_model, self.device)
        if self.what == "parts":
            export_parts(self.output, player)
        elif self.what in ("glb", "page"):
            plans = [self._plan(player)] if has_motion else []
            name = self.motion or (self.source.stem if self.source else "")
            animations = [(plan.states, plan.fps, name) for plan in plans]
            export_head(self.output, player, self.texture_size, self.what == "page", animations)
        else:
            plan = self._plan(player)
            if self.what == "mesh":
                export_meshes(self.output, player, plan.states)
            else:
                export_track(self.output, player, plan.states, plan.fps)
        print(f"Written to {self.output}: {_WRITTEN[self.what]}")
        if self.what == "page":
            print(f"Next: open {(self.output / 'head.html').resolve().as_uri()} in a browser.")
        elif self.what == "track":
            print(f"Next:\n  {command('partnerface', 'drive', self.run, self.output / 'track.npz')}")

    def _plan(self, player: Player) -> Plan:
        """The motion, retargeted to the avatar."""
        from partnerface_ns.cli.avatars import read_motion
        from partnerface_ns.driving.plan import PlanConfig, make_plan

        model, folder = player.person.model, self.output.parent
        motion = read_motion(self.source, self.motion, model, self.fps, self.source_head_model, folder)
        for line in motion.notes:
            print(line, flush=True)
        return make_plan(player, motion, PlanConfig(self.transfer, clamp=False))
