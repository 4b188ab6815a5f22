"""`partnerface make-subject`: the capture of a synthetic person, to try every command without a video of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from partnerface_ns.common.command_lines import train_command


@dataclass
class MakeSubject:
    """Write the capture of a synthetic person: head states, images and masks in the layout of real captures.

    The last 30% of the images are the test split. They show expressions and poses that the training split does not.
    """

    dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """New or empty folder to write."""
    frames: int = 300
    """Number of images, at least 10. They are spread over the same motion for any number."""
    size: int = 256
    """Width and height of the images, pixels, at least 32."""
    seed: int = 0
    """Seed of the person, the colours and the motion."""

    def __call__(self) -> None:
        from partnerface_ns.demo.subject import make_subject

        capture = make_subject(self.dir, frames=self.frames, size=self.size, seed=self.seed)
        train, test = len(capture.splits["train"]), len(capture.splits["test"])
        print(f"{train} training images and {test} test images written to {self.dir}. Next:")
        print(f"  {train_command(self.dir)}")
