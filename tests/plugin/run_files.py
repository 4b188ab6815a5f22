"""A run's files: reading, cutting and adding."""

from __future__ import annotations

import shutil
from pathlib import Path

from partnerface_ns.plugin.checkpoints import list_checkpoints


def newest(run: Path) -> Path:
    return list_checkpoints(run / "nerfstudio_models")[-1]


def drive(run: Path) -> list[str]:
    return ["drive", str(run), "--motion", "talk", "--size", "16", "--max-frames", "1"]


def add_older(run: Path) -> Path:
    return Path(shutil.copy(newest(run), run / "nerfstudio_models" / "step-000000000.ckpt"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def with_text(run: Path, *changes: tuple[str, str]) -> Path:
    path = run / "config.yml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path
