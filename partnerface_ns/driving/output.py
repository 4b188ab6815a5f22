"""Where driven images go: an MP4, a folder of PNGs with alpha, or one `.npz`. Memory does not grow with length.

Files appear under their names when they are whole. A folder or a clip that was stopped is gone on with: the images of
an unfinished `NAME.mp4` lie in the hidden folder `.NAME.mp4.images` beside it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.common.atomic import atomic_write, write_text
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable
from partnerface_ns.common.progress import progress
from partnerface_ns.driving.plan import Plan, Shown, digest, shown
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.figures import save_clip

_MARK = "drive.json"
"""File in an image folder that says which plan its images are of."""


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written, before anything is rendered.

    Raises:
        InputError: another kind of file, something else is in its place, or nothing can be written there.
    """
    if path.suffix.lower() in (".mp4", ".npz"):
        if path.is_dir():
            raise InputError(path, "is a folder", expected="a file's name")
        if not path.parent.is_dir():
            raise InputError(path.parent, "the folder does not exist")
    elif looks_like_a_file(path):
        raise InputError(path, "an unknown kind of output", expected=".mp4, .npz, or a folder's name")
    elif path.exists() and not path.is_dir():
        raise InputError(path, "is a file", expected="a new folder for images")
    require_writable(path)


def looks_like_a_file(path: Path) -> bool:
    """Whether a name that is not yet there ends like a file's; `v1.2` does not."""
    return not path.exists() and path.suffix != "" and not path.suffix[1:].isdigit()


def write_plan(path: Path, player: Player, plan: Plan) -> None:
    """Render a plan into a file or folder, with a progress bar.

    Args:
        path: ends in `.mp4` or `.npz`, else a folder.
        player: the avatar.
        plan: what to render.

    Raises:
        InputError: as `check_output`, the folder holds something else, or the disk is full.
    """
    check_output(path)
    write = {".mp4": _write_clip, ".npz": _write_npz}.get(path.suffix.lower(), _write_folder)
    try:
        write(path, player, plan)
    except OSError as error:
        hint = "make room or choose another place"
        if write is not _write_npz:
            hint += "; the same command goes on from what is there"
        raise InputError(path, "cannot be written", found=error, hint=hint) from error


def _rendered(player: Player, plan: Plan) -> Generator[Shown, None, None]:
    """All images in order, with a progress bar."""
    images = player.drawn(lambda index: shown(player, plan, index), range(len(plan)))
    return progress(images, "Rendering", len(plan))


def _write_folder(folder: Path, player: Player, plan: Plan) -> None:
    _claim(folder, digest(player, plan), plan.fps)
    _draw_missing(folder, player, plan, lambda image: _rgba(image, player))


def _write_clip(path: Path, player: Player, plan: Plan) -> None:
    """Render images into a hidden folder, then the clip from them."""
    folder = path.with_name(f".{path.name}.images")
    mark = digest(player, plan)
    if folder.is_dir() and not _is_of(folder, mark):
        shutil.rmtree(folder)  # of another avatar, motion or option
    _claim(folder, mark, plan.fps)
    _draw_missing(folder, player, plan, lambda image: image.rgb)
    silent = folder / "silent.mp4"
    images = (np.array(Image.open(folder / f"{index:05d}.png")) for index in range(len(plan)))
    save_clip(silent, progress(images, "Writing the clip", len(plan)), plan.fps)
    _join(silent, plan.sound, plan.sound_start, path)
    shutil.rmtree(folder)


def _join(silent: Path, sound: Path | None, sound_start: float, path: Path) -> None:
    """Copy a clip to its final name, with the sound of a video as long as the clip lasts, if there is any.

    The first `sound_start` seconds of the sound are left out.
    """
    import imageio_ffmpeg

    heard = ["-ss", f"{sound_start:.4f}", "-i", sound, "-map", "1:a:0?", "-c:a", "aac", "-shortest"]
    source = heard if sound is not None else []
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-y",
        "-v",
        "error",
        "-i",
        silent,
        *source,
        "-map",
        "0:v",
        "-c:v",
        "copy",
    ]
    with atomic_write(path) as partial:
        done = subprocess.run([*command, partial], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(done.stderr.strip()[-300:])


def _draw_missing(
    folder: Path, player: Player, plan: Plan, pixels: Callable[[Shown], UInt8[np.ndarray, "height width channels"]]
) -> None:
    """Render the images that are not there yet, in any order, with a progress bar."""
    names = {index: folder / f"{index:05d}.png" for index in range(len(plan))}
    missing = [item for item in names.items() if not item[1].exists()]
    if len(missing) < len(plan):
        print(f"Going on: {len(plan) - len(missing)} of {len(plan)} images are there.")

    def draw(item: tuple[int, Path]) -> None:
        index, path = item
        _save_png(path, pixels(shown(player, plan, index)))

    for _ in progress(player.drawn(draw, missing), "Rendering", len(missing)):
        pass


def _is_of(folder: Path, plan: str) -> bool:
    mark = folder / _MARK
    return mark.is_file() and JsonObject.read(mark).text("plan") == plan


def _claim(folder: Path, plan: str, fps: float) -> None:
    """Make the folder, or recognise it as a stopped one of the same plan."""
    mark = folder / _MARK
    if mark.is_file():
        found = JsonObject.read(mark).text("plan")
        if found != plan:
            raise InputError(
                mark, "the folder holds images of another avatar, motion or option", expected=plan, found=found
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(folder, "is in use", expected="a new or an empty folder, or a stopped one of the same")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(mark, json.dumps({"plan": plan, "fps": fps}) + "\n")


def _rgba(image: Shown, player: Player) -> UInt8[np.ndarray, "height width 4"]:
    """Colours without the avatar's background, and opacity."""
    alpha = image.alpha[..., None].astype(np.float32) / 255
    background = 255 * player.avatar.get_buffer("background").cpu().numpy()
    rgb = (image.rgb - (1 - alpha) * background) / np.maximum(alpha, 1 / 255)
    return np.concatenate([(rgb.clip(0, 255) + 0.5).astype(np.uint8), image.alpha[..., None]], -1)


def _save_png(path: Path, image: UInt8[np.ndarray, "height width channels"]) -> None:
    with atomic_write(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def _write_npz(path: Path, player: Player, plan: Plan) -> None:
    """Colours and opacity of all moments, the head states and the rate; images go to the file one by one."""
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        with archive.open("rgba.npy", "w", force_zip64=True) as stream, closing(_rendered(player, plan)) as images:
            for index, image in enumerate(images):
                rgba = _rgba(image, player)
                if index == 0:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (len(plan), *rgba.shape)}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(rgba.tobytes())
        rest = {f.name: getattr(plan.states, f.name).numpy() for f in fields(HeadState)}
        for name, array in (rest | {"fps": np.array(plan.fps)}).items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
