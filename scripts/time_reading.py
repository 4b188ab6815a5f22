"""Seconds and memory that a long capture of each layout takes to be read.

Writes a synthetic person of a few frames, again and again, in every layout, and reads each in a process of its own.

    PYTHONPATH=tests python scripts/time_reading.py --num-frames 3000 --size 512
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from format_writers.layouts import LAYOUTS
from format_writers.truth import Truth, flame_like_arrays, make_truth
from partnerface_ns.capture.load import load_capture
from partnerface_ns.flame.state import HeadState

_MOMENTS = 8


@dataclass
class TimeReading:
    """Time reading captures."""

    num_frames: int = 3000
    """Frames of each capture."""
    size: int = 512
    """Pixels a side."""
    layouts: tuple[str, ...] = tuple(name for name in LAYOUTS if name != "insta-meshes")
    """Layouts that are written and read."""

    def __call__(self) -> None:
        person = _long(self.num_frames, self.size)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(folder / "flame.npz", **flame_like_arrays())
            for layout in self.layouts:
                LAYOUTS[layout](folder / layout, person)
                again = [sys.executable, __file__, str(folder / layout), str(folder / "flame.npz")]
                said = json.loads(subprocess.run(again, check=True, stdout=subprocess.PIPE).stdout)
                line = "{:<20}{frames} frames{seconds:8.1f} s{before:8.0f} MiB before{peak:8.0f} MiB at most"
                print(line.format(layout, **said), flush=True)


def _long(num_frames: int, size: int) -> Truth:
    """The few frames again and again, in larger images."""
    few = make_truth(_MOMENTS)
    order = [t % _MOMENTS for t in range(num_frames)]
    larger = [[np.array(Image.fromarray(p).resize((size, size))) for p in images] for images in (few.rgb, few.mask)]
    scale = size / few.size
    return replace(
        few,
        track=HeadState.stack([few.track[t] for t in order]),
        focal=tuple(scale * f for f in few.focal),
        center=tuple(scale * c for c in few.center),
        rgb=tuple(larger[0][t] for t in order),
        mask=tuple(larger[1][t] for t in order),
    )


def _read(root: Path, head: Path) -> None:
    before, start = _peak_mib(), time.perf_counter()
    capture = load_capture(root, head_model=head)
    seconds = time.perf_counter() - start
    print(json.dumps({"frames": len(capture.frames), "seconds": seconds, "before": before, "peak": _peak_mib()}))


def _peak_mib() -> float:
    """Most memory that this process has held, in MiB; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    _read(*map(Path, sys.argv[1:])) if len(sys.argv) == 3 else tyro.cli(TimeReading)()
