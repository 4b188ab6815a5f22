"""`partnerface make-subject`: a synthetic person's capture, to try everything without footage of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from partnerface_ns.common.command_lines import train_command


@dataclass
class MakeSubject:
    """Film a synthetic person: head states, images and masks in the layout that real captures come in.

    The last 30% of the images, the test split, show expressions and poses that the others do not come near.
    """

    dir: Annotated[Path, tyro.conf.Positional]
    """Folder to write: a new or an empty one."""
    frames: int = 300
    """Images, at least 10; any number shows the same performance."""
    size: int = 256
    """Width and height of the images, pixels, at least 32."""
    seed: int = 0
    """Decides the person, the colours and the performance."""

    def __call__(self) -> None:
        from partnerface_ns.demo.subject import make_subject

        capture = make_subject(self.dir, frames=self.frames, size=self.size, seed=self.seed)
        train, test = len(capture.splits["train"]), len(capture.splits["test"])
        print(f"{self.dir}: {train} images to train on, {test} to test on. Next:")
        print(f"  {train_command(self.dir)}")
