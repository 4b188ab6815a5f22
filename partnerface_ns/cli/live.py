"""`partnerface live`: an avatar that follows a motion in real time, in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass
class Live:
    """Play a motion in real time on a web page, repeatedly, with the source's image beside the avatar.

    Frames that cannot be rendered in time are skipped. The page shows the rate and the latency, and has controls for
    motion, time, size and view. A video is tracked first; later calls reuse the result.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCE]")] = None
    """Source of the motion, as for `partnerface drive`."""
    motion: Literal["talk", "range", "visemes"] | None = None
    """Built-in motion, in place of a source."""
    size: int = 256
    """Longer side of the avatar's images, pixels."""
    host: str = "127.0.0.1"
    """Address of the page; 0.0.0.0 makes it visible to other machines."""
    port: int = 7007
    """Port of the page; if it is in use, the next free one is taken."""
    head_model: Path | None = None
    """The avatar's head model file, if it was moved since training."""
    source_head_model: Path | None = None
    """Head model file of a source that does not contain it."""
    device: str = "auto"
    """Device to render on: auto, cpu, cuda or cuda:N."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import check_source, open_player, read_motion
        from partnerface_ns.cli.live_page import serve
        from partnerface_ns.cli.page_server import free_address
        from partnerface_ns.driving.plan import PlanConfig, check_ranges, make_plan

        check_ranges(PlanConfig(size=self.size))
        check_source(self.source, self.motion, None)
        host, port = free_address(self.host, self.port)
        player = open_player(self.run, self.head_model, self.device, fast=True)
        motion = read_motion(self.source, self.motion, player.person.model, None, self.source_head_model, Path())
        for line in motion.notes:
            print(line, flush=True)
        plan = make_plan(player, motion, PlanConfig(size=self.size, side_by_side=motion.images is not None))
        print(plan.excess)
        name = self.motion if self.source is None else self.source.name
        serve(player, str(name), plan, self.size, host, port)
