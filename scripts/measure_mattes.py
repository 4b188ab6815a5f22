"""Measures the mattes of `partnerface track` on a synthetic person whose true alpha is known.

The script renders the demo person over three textured backgrounds (planks, leaves, bricks) with a fixed camera and
sensor noise. It runs the stages of `track` up to the mattes, and compares alpha and foreground colours with the truth.
The errors are means over the band around the true outline, `_BAND` of the head's height to both sides.

    python scripts/measure_mattes.py --output measured --seed 7 --frames 60
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from partnerface_ns.demo.subject import DemoSubject
from partnerface_ns.tracking.video.decode.reading import Selection
from partnerface_ns.tracking.video.face_pass import find_faces
from partnerface_ns.tracking.video.face_topology import CHIN
from partnerface_ns.tracking.video.image_pass import ImageMeasurements, cut_images
from partnerface_ns.tracking.video.matte_pass import cut_mattes
from partnerface_ns.tracking.video.vision_models import VisionModels
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import read_foreground, read_matte

_BAND = 0.02
"""Half the width of the band around the true outline, as a share of the head's height."""
_FPS = 30
_TAKES_SECONDS = 20
_NOISE = 2.0
"""Standard deviation of the sensor noise, on a scale of 255."""
_SUPERSAMPLING = 2
"""The person is rendered at this many times the size, so that true alpha has many levels."""


@dataclass
class Measure:
    """Render, cut mattes and compare; prints a table."""

    output: Path
    """Folder for frames and figures. Persons that it already contains are not rendered again."""
    seed: int = 7
    """Determines the person, the motion, the backgrounds and the noise."""
    start: int = 150
    """First frame, of 600."""
    frames: int = 60
    """Number of frames."""
    step: int = 1
    """Every how many of the 30 frames a second are used. With more than one, the flicker contains the motion."""
    size: int = 256
    """Side of the frames, pixels."""


@dataclass(frozen=True)
class Person:
    """The true foreground over time."""

    colours: UInt8[np.ndarray, "frames rows columns 3"]
    alpha: Float[np.ndarray, "frames rows columns"]


def render_person(options: Measure) -> Person:
    """Render the person with fine alpha, or read what an earlier run rendered."""
    stored = (
        options.output / f"person-{options.seed}-{options.start}-{options.step}-{options.frames}-{options.size}.npz"
    )
    if not stored.is_file():
        subject = DemoSubject.create(options.seed, _FPS * _TAKES_SECONDS, _SUPERSAMPLING * options.size)
        size = (options.size, options.size)
        colours, alpha = [], []
        for timestep in options.start + options.step * np.arange(options.frames):
            rgb, mask = subject.image(int(timestep))
            share = cv2.resize(mask.astype(np.float32) / 255, size, interpolation=cv2.INTER_AREA)
            on_white = cv2.resize(rgb.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            foreground = 255 + (on_white - 255) / np.maximum(share, 1e-3)[..., None]
            colours.append(np.clip(np.round(foreground), 0, 255).astype(np.uint8))
            alpha.append(share)
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez(stored, colours=np.stack(colours), alpha=np.stack(alpha))
    with np.load(stored) as arrays:
        return Person(arrays["colours"], arrays["alpha"])


# -- backgrounds -----------------------------------------------------------------------------------------------------


def _noise(generator: np.random.Generator, size: int, cells: tuple[int, int]) -> Float[np.ndarray, "size size"]:
    """Smooth noise about 0 with this many cells down and across."""
    return cv2.resize(generator.normal(0, 1, cells), (size, size), interpolation=cv2.INTER_CUBIC)


def planks(generator: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Light wooden planks with grain."""
    grain = sum(_noise(generator, size, (n, 4)) / k for k, n in enumerate((6, 24, 80), 1))
    plank = np.arange(size) * 7 // size
    tone = generator.normal(0, 14, 7)[plank][:, None] + 14 * grain - 60 * (np.diff(plank, prepend=0) > 0)[:, None]
    return np.array([205.0, 175.0, 135.0]) + tone[..., None] * np.array([1.0, 0.95, 0.8])


def leaves(generator: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Dark foliage: many overlapping ellipses of several scales."""
    image = np.full((size, size, 3), 40.0, dtype=np.float32)
    for _ in range(1500):
        radius = size * float(np.exp(generator.uniform(np.log(0.008), np.log(0.05))))
        colour = generator.uniform(0.3, 1.3) * np.array([55.0, 95.0, 40.0]) + generator.normal(0, 8, 3)
        centre = tuple(map(int, generator.integers(0, size, 2)))
        axes = (round(radius) + 1, round(radius / 2) + 1)
        cv2.ellipse(image, centre, axes, float(generator.uniform(0, 180)), 0, 360, colour.tolist(), -1, cv2.LINE_AA)
    return image


def bricks(generator: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Red bricks with light joints, coloured like skin and lips in places."""
    high, wide = size / 16, size / 6
    y, x = np.mgrid[:size, :size]
    row = (y / high).astype(int)
    shifted = x + (row % 2) * wide / 2
    column = (shifted / wide).astype(int)
    tone = generator.normal(0, 18, (row.max() + 1, column.max() + 1))[row, column] + 9 * _noise(
        generator, size, (90, 90)
    )
    image = np.array([150.0, 85.0, 65.0]) + tone[..., None] * np.array([1.0, 0.7, 0.6])
    joint = ((y % high) < 0.12 * high) | ((shifted % wide) < 0.05 * wide)
    return np.where(joint[..., None], 185.0 + 6 * _noise(generator, size, (60, 60))[..., None], image)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "planks": planks,
    "leaves": leaves,
    "bricks": bricks,
}


def write_footage(person: Person, background: Float[np.ndarray, "size size 3"], folder: Path, seed: int) -> None:
    """Write the person over a background, with noise, as an image folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, 2])
    for index, (colours, alpha) in enumerate(zip(person.colours, person.alpha, strict=True)):
        mixed = alpha[..., None] * colours + (1 - alpha[..., None]) * background
        noisy = np.clip(np.round(mixed + generator.normal(0, _NOISE, mixed.shape)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index:04d}.png", compress_level=1)


# -- measurement -----------------------------------------------------------------------------------------------------


def band_of(alpha: Float[np.ndarray, "rows columns"], width: float) -> Bool[np.ndarray, "rows columns"]:
    """Pixels within a distance of the outline of a matte, pixels; without the image's border."""
    person = (alpha > 0.5).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(mask, cv2.DIST_L2, 5) for mask in (person, 1 - person))
    band = np.maximum(inside, outside) <= width + 0.5
    band[:2], band[-2:], band[:, :2], band[:, -2:] = False, False, False, False
    return band


def compare(person: Person, images: ImageMeasurements, work: WorkFolder, size: int) -> dict[str, float]:
    """Mean errors of alpha, its change in time and the colours."""
    rows: dict[str, list[float]] = {"alpha": [], "flicker": [], "foreground": [], "on white": []}
    before: tuple[np.ndarray, np.ndarray] | None = None
    for index, (colours, alpha) in enumerate(zip(person.colours, person.alpha, strict=True)):
        mask = np.round(255 * alpha).astype(np.uint8)
        true = images.crop.cut(np.dstack([colours, mask]), index, size).astype(np.float32)
        truth, true_colours = true[..., 3] / 255, true[..., :3]
        matte = read_matte(work, index).astype(np.float32) / 255
        ours = read_foreground(work, index).astype(np.float32)
        top = np.nonzero((truth > 0.5).any(1))[0][0]
        band = band_of(truth, _BAND * float(images.landmarks[index, CHIN, 1] - top))
        rows["alpha"].append(np.abs(matte - truth)[band].mean())
        mixed = band & (truth > 0.05) & (truth < 0.95)
        rows["foreground"].append(np.abs(ours - true_colours)[mixed].mean())
        white = np.abs(matte[..., None] * (ours - 255) - truth[..., None] * (true_colours - 255))
        rows["on white"].append(white[band].mean())
        if before is not None:
            rows["flicker"].append(np.abs((matte - before[0]) - (truth - before[1]))[band].mean())
        before = matte, truth
    return {name: float(np.mean(values)) for name, values in rows.items()}


def main(options: Measure) -> None:
    person = render_person(options)
    models, figures = VisionModels(), {}
    for number, (name, make) in enumerate(BACKGROUNDS.items()):
        footage, stages = options.output / name, options.output / f".{name}"
        background = np.clip(make(np.random.default_rng([options.seed, 1, number]), options.size), 0, 255)
        write_footage(person, background, footage, options.seed)
        shutil.rmtree(stages, ignore_errors=True)
        work = WorkFolder(stages, footage, {})
        faces = find_faces(footage, Selection(), work, models.faces, models.matting)
        images = cut_images(footage, Selection(), options.size, faces, work, models.landmarks)
        start = time.perf_counter()
        cut_mattes(np.arange(options.frames), images, work, models.matting)
        seconds = (time.perf_counter() - start) / options.frames
        figures[name] = compare(person, images, work, options.size) | {"seconds": seconds}
    columns = list(next(iter(figures.values())))
    figures["mean"] = {key: float(np.mean([row[key] for row in figures.values()])) for key in columns}
    (options.output / "mattes.json").write_text(json.dumps(figures, indent=1), encoding="utf8")
    print(f"{'':10}" + "".join(f"{key:>12}" for key in columns))
    for name, row in figures.items():
        print(f"{name:10}" + "".join(f"{row[key]:12.4f}" for key in columns))


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
