"""Writing of rendered sequences: an MP4, a folder of PNGs with alpha, or one `.npz`. Memory does not grow with length.

A file appears under its name when it is complete. An interrupted folder or clip is resumed: the images of an unfinished
`NAME.mp4` are kept in the hidden folder `.NAME.mp4.images` beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.common.atomic import atomic_write
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable
from partnerface_ns.common.json_file import write_json
from partnerface_ns.common.progress import progress
from partnerface_ns.driving.plan import Plan, RenderedFrame, digest, render_frame
from partnerface_ns.driving.player import Player
from partnerface_ns.rendering.figures import save_clip

_MARK = "drive.json"
"""File in an image folder that identifies the plan of its images."""


def check_output(path: Path) -> None:
    """Check that an output can be written.

    Raises:
        InputError: the kind of file is unknown, something else is in its place, or the place is not writable.
    """
    if path.suffix.lower() in (".mp4", ".npz"):
        if path.is_dir():
            raise InputError(path, "is a folder", expected="a file's name")
        if not path.parent.is_dir():
            raise InputError(path.parent, "the folder does not exist", expected="an existing folder for the output")
    elif looks_like_a_file(path):
        raise InputError(path, "unknown kind of output", expected=".mp4, .npz, or a folder's name", actual=path.suffix)
    elif path.exists() and not path.is_dir():
        raise InputError(path, "is a file", expected="a new folder for images")
    require_writable(path)


def looks_like_a_file(path: Path) -> bool:
    """Whether a new path has a file's suffix; `v1.2` has none."""
    return not path.exists() and path.suffix != "" and not path.suffix[1:].isdigit()


def write_plan(path: Path, player: Player, plan: Plan) -> None:
    """Render a plan into a file or folder, with a progress bar.

    Args:
        path: a clip (`.mp4`), an `.npz`, or a folder for images.
        player: the avatar.
        plan: the frames to render.

    Raises:
        InputError: `check_output` refuses the path, the folder holds other images, or writing fails.
    """
    check_output(path)
    write = {".mp4": _write_clip, ".npz": _write_npz}.get(path.suffix.lower(), _write_folder)
    try:
        write(path, player, plan)
    except OSError as error:
        hint = "free some space or choose another --output"
        if write is not _write_npz:
            hint += "; the same command resumes from the finished images"
        raise InputError(path, "cannot be written", actual=error, hint=hint) from error


def _render_all(player: Player, plan: Plan) -> Generator[RenderedFrame, None, None]:
    """All frames in order, with a progress bar."""
    images = player.map_images(lambda index: render_frame(player, plan, index), range(len(plan)))
    return progress(images, "Rendering", len(plan))


def _write_folder(folder: Path, player: Player, plan: Plan) -> None:
    _claim(folder, digest(player, plan), plan.fps)
    _render_missing(folder, player, plan, lambda image: _rgba(image, player))


def _write_clip(path: Path, player: Player, plan: Plan) -> None:
    """Render images into a hidden folder, then encode the clip."""
    folder = path.with_name(f".{path.name}.images")
    plan_digest = digest(player, plan)
    if folder.is_dir() and not _belongs_to(folder, plan_digest):
        shutil.rmtree(folder)  # images of another avatar, motion or option
    _claim(folder, plan_digest, plan.fps)
    _render_missing(folder, player, plan, lambda image: image.rgb)
    silent = folder / "silent.mp4"
    images = (np.array(Image.open(folder / f"{index:05d}.png")) for index in range(len(plan)))
    save_clip(silent, progress(images, "Writing the clip", len(plan)), plan.fps)
    _add_sound(silent, plan.sound, plan.sound_start, path)
    shutil.rmtree(folder)


def _add_sound(silent: Path, sound: Path | None, sound_start: float, path: Path) -> None:
    """Copy a silent clip to its final path and add the sound of a video from `sound_start` seconds on, if any."""
    import imageio_ffmpeg

    with_sound = ["-ss", f"{sound_start:.4f}", "-i", sound, "-map", "1:a:0?", "-c:a", "aac", "-shortest"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", silent]
    command += with_sound if sound is not None else []
    with atomic_write(path) as partial:
        done = subprocess.run([*command, "-map", "0:v", "-c:v", "copy", partial], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(done.stderr.strip()[-300:])


def _render_missing(
    folder: Path,
    player: Player,
    plan: Plan,
    to_pixels: Callable[[RenderedFrame], UInt8[np.ndarray, "height width channels"]],
) -> None:
    """Render the images that are not in the folder yet, with a progress bar.

    Args:
        folder: the folder of images.
        player: the avatar.
        plan: the frames to render.
        to_pixels: the pixels that are saved.
    """
    names = {index: folder / f"{index:05d}.png" for index in range(len(plan))}
    missing = [item for item in names.items() if not item[1].exists()]
    if len(missing) < len(plan):
        print(f"Resuming: {len(plan) - len(missing)} of {len(plan)} images are finished.")

    def render(item: tuple[int, Path]) -> None:
        index, path = item
        _save_png(path, to_pixels(render_frame(player, plan, index)))

    for _ in progress(player.map_images(render, missing), "Rendering", len(missing)):
        pass


def _belongs_to(folder: Path, plan_digest: str) -> bool:
    """Whether a folder holds images of this plan."""
    mark = folder / _MARK
    return mark.is_file() and JsonObject.read(mark).text("plan") == plan_digest


def _claim(folder: Path, plan_digest: str, fps: float) -> None:
    """Create the folder, or accept one with images of the same plan.

    Raises:
        InputError: the folder holds something else.
    """
    mark = folder / _MARK
    if mark.is_file():
        present = JsonObject.read(mark).text("plan")
        if present != plan_digest:
            problem = "the folder holds images of another avatar, motion or option"
            raise InputError(mark, problem, key="plan", expected=plan_digest, actual=present)
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(folder, "is in use", expected="a new or empty folder, or an interrupted one of this command")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(mark, {"plan": plan_digest, "fps": fps})


def _rgba(image: RenderedFrame, player: Player) -> UInt8[np.ndarray, "height width 4"]:
    """Colours without the avatar's background, with opacity."""
    alpha = image.alpha[..., None].astype(np.float32) / 255
    background = 255 * player.avatar.get_buffer("background").cpu().numpy()
    rgb = (image.rgb - (1 - alpha) * background) / np.maximum(alpha, 1 / 255)
    return np.concatenate([(rgb.clip(0, 255) + 0.5).astype(np.uint8), image.alpha[..., None]], -1)


def _save_png(path: Path, image: UInt8[np.ndarray, "height width channels"]) -> None:
    with atomic_write(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def _write_npz(path: Path, player: Player, plan: Plan) -> None:
    """Write colours and opacity of all frames, the head states and the rate. Images are written one at a time."""
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        with (
            archive.open("rgba.npy", "w", force_zip64=True) as stream,
            closing(_render_all(player, plan)) as images,
        ):
            for index, image in enumerate(images):
                rgba = _rgba(image, player)
                if index == 0:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (len(plan), *rgba.shape)}
                    np.lib.format.write_array_header_1_0(stream, header)
                stream.write(rgba.tobytes())
        arrays = {name: value.numpy() for name, value in plan.states.tensors().items()}
        for name, array in (arrays | {"fps": np.array(plan.fps)}).items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
