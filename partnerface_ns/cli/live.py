"""`partnerface live`: an avatar that follows a source in real time, in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import viser

    from partnerface_ns.driving.live import Pace
    from partnerface_ns.driving.plan import Plan
    from partnerface_ns.driving.player import Player


@dataclass
class Live:
    """Play a motion in real time on a page, the source's image beside the avatar, over and over.

    What there is no time to render is skipped; the page says how many images a second it shows and how far they are
    behind. A video is tracked first, which takes its time once.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder, or an avatar file."""
    source: Annotated[Path | None, tyro.conf.Positional] = None
    """The motion: what `partnerface drive` takes."""
    performance: Literal["talk", "range", "visemes"] | None = None
    """A built-in performance in place of a source."""
    size: int = 256
    """Longer side of the avatar's images, pixels."""
    host: str = "127.0.0.1"
    """Address that the page is served at; 0.0.0.0 lets other machines see it."""
    port: int = 7007
    """Port that the page is served at."""
    head_model: Path | None = None
    """The avatar's head model file, where it is no longer where training found it."""
    source_head_model: Path | None = None
    """The head model file of a source capture that does not hold its own."""
    device: str = "auto"
    """Where to render: auto, cpu, cuda or cuda:N."""

    def __call__(self) -> None:
        from partnerface_ns.cli.avatars import motion_for, open_player
        from partnerface_ns.cli.page_server import free_address
        from partnerface_ns.driving.plan import PlanConfig, check_ranges, make_plan

        check_ranges(PlanConfig(size=self.size))
        host, port = free_address(self.host, self.port)
        player = open_player(self.run, self.head_model, self.device, fast=True)
        motion = motion_for(self.source, self.performance, player.person.model, None, self.source_head_model, Path())
        beside = motion.images is not None
        for line in motion.notes:
            print(line, flush=True)
        plan = make_plan(player, motion, PlanConfig(size=self.size, side_by_side=beside))
        print(plan.excess)
        serve(player, plan, host, port)


def serve(player: Player, plan: Plan, host: str, port: int) -> None:
    """Play a plan on a page until the program is stopped."""
    from partnerface_ns.cli.page_server import PageServer
    from partnerface_ns.driving.live import play

    server = PageServer(host, port)
    say = one_line_panel(server)
    say("The avatar is being prepared")
    print(f"Open {server.addresses}; Ctrl-C ends it.", flush=True)

    def show(image: np.ndarray, pace: Pace) -> bool:
        say(f"{pace.fps:.1f} images a second, {1000 * pace.latency:.0f} ms late")
        server.show(image)
        return True

    try:
        play(player, plan, show, server.wait_for_page)
    finally:
        server.stop()


def one_line_panel(server: viser.ViserServer) -> Callable[[str], None]:
    """Reduce a page's panel to one line, in the corner or at the foot of a narrow page; returns what sets the line."""
    server.gui.configure_theme(
        control_layout="floating", control_width="large", dark_mode=True, show_share_button=False
    )
    server.gui.add_markdown("", visible=False)  # a page without any control shows viser's connection settings
    return server.gui.set_panel_label
