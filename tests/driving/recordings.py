"""A recording of ARKit's blendshapes as tests write it: 3 s, 30 rows a second, a turning head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from partnerface_ns.driving.rig import arkit_names

FPS, NUM = 30, 90
NAMES = [name[0].upper() + name[1:] for name in arkit_names()]
HEAD = ["HeadYaw", "HeadPitch", "HeadRoll"]
TIMES = np.arange(NUM) / FPS


def weights(times: np.ndarray = TIMES) -> np.ndarray:
    """The 52 blendshapes, (times, 52), 0 to 0.6."""
    i = np.arange(len(NAMES))
    return 0.3 * (1 - np.cos(2 * np.pi * (0.3 + 0.02 * i) * np.asarray(times)[:, None])) * (0.2 + 0.8 * (i % 5) / 4)


def turns(times: np.ndarray = TIMES) -> np.ndarray:
    """Yaw, pitch and roll, (times, 3), radians."""
    t = np.asarray(times)
    return np.stack([0.3 * np.sin(2.1 * t), 0.15 * np.sin(1.3 * t), 0.1 * np.sin(0.9 * t)], 1)


def timecode(t: float) -> str:
    second, frame = divmod(round(t * FPS), FPS)
    return f"10:{second // 60:02d}:{second % 60:02d}:{frame:02d}.000"


def rows(times: np.ndarray = TIMES, weight: float = 1.0, turn: float = 1.0) -> list[list[str]]:
    """Cells of every row: 52 weights and 3 angles."""
    values = np.concatenate([weight * weights(times), turn * turns(times)], 1)
    return [[f"{value:.6f}" for value in row] for row in values]


def text(
    clock: str | None = "Timecode",
    cells: Sequence[str] | None = None,
    body: Sequence[Sequence[str]] | None = None,
    names: Sequence[str] = (*NAMES, *HEAD),
    separator: str = ",",
    cell: Callable[[str], str] = str,
) -> str:
    """A table of the recording: a clock's column before the names, a line a row."""
    body = rows() if body is None else body
    cells = [timecode(t) for t in TIMES] if cells is None else cells
    first = [] if clock is None else [clock]
    lines = [[*first, *names]]
    lines += [[*([cells[i]] if first else []), *(cell(value) for value in row)] for i, row in enumerate(body)]
    return "\n".join(separator.join(line) for line in lines) + "\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
