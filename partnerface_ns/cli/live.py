"""`partnerface live`: an avatar that follows a motion in real time, in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partnerface_ns.common.errors import InputError


@dataclass
class Live:
    """Play a motion in real time on a web page, repeatedly, with the source's image beside the avatar.

    Frames that cannot be rendered in time are skipped. The page shows the rate and the latency, and has controls for
    motion, time, size and view. A video is tracked first; later calls reuse the result.

    With --camera, --video FILE --real-time or --livelink, the avatar follows a live source instead. In front of a
    camera, look straight and keep still for the first two seconds. A summary is printed at the end.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, or avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCE]")] = None
    """Source of the motion, as for `partnerface drive`."""
    motion: Literal["talk", "range", "visemes"] | None = None
    """Built-in motion, in place of a source."""
    camera: int | None = None
    """Index of a camera, 0 for the first: the avatar follows the face in front of it."""
    video: Path | None = None
    """Video file; the same as SOURCE."""
    real_time: bool = False
    """Play the video once as if it were a camera, and track each frame when it arrives."""
    livelink: int | None = None
    """UDP port that the app Live Link Face sends to; its default is 11111."""
    max_delay: float | None = None
    """Longest delay of a live source, seconds; 0.3 if not given. Above it the avatar's images become smaller, down to
    half the size."""
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
        from partnerface_ns.cli.live_input import check_live_options, choose_live_input, play_live
        from partnerface_ns.cli.live_page import serve
        from partnerface_ns.cli.page_server import PageServer, free_address
        from partnerface_ns.driving.plan import PlanConfig, check_ranges, make_plan

        check_ranges(PlanConfig(size=self.size))
        if self.video is not None:
            if self.source is not None:
                raise InputError("live", "needs one source", expected="SOURCE or --video", actual="both")
            self.source = self.video
        live = choose_live_input(self.camera, self.livelink, self.source, self.motion, self.real_time)
        check_live_options(live, self.max_delay, self.source_head_model)
        if live is not None:
            host, port = free_address(self.host, self.port)
            open_avatar = partial(open_player, self.run, self.head_model, self.device, fast=True)
            return play_live(live, open_avatar, self.size, self.max_delay, lambda: PageServer(host, port))
        check_source(self.source, self.motion, None, self.source_head_model)
        host, port = free_address(self.host, self.port)
        player = open_player(self.run, self.head_model, self.device, fast=True)
        motion = read_motion(self.source, self.motion, player.person.model, None, self.source_head_model, Path())
        for line in motion.notes:
            print(line, flush=True)
        plan = make_plan(player, motion, PlanConfig(size=self.size, side_by_side=motion.images is not None))
        print(plan.excess)
        name = self.motion if self.source is None else self.source.name
        serve(player, str(name), plan, self.size, host, port)
