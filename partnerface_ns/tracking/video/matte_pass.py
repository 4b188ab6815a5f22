"""The mattes of the images, their foreground colours and their outlines.

1. The matting model says roughly where the person is, in the image and once more in the part around the head.
2. All frames together give the background of a fixed camera.
3. Each frame is refined by the colours on both sides of the outline.
4. Each matte is averaged with those of the frames before and after where the image hardly changes.

Frames are processed in parallel. The results do not depend on the number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from partnerface_ns.common.progress import progress
from partnerface_ns.common.threads import map_threaded
from partnerface_ns.tracking.video.background_plate import BackgroundPlate
from partnerface_ns.tracking.video.colour_matting import explainable
from partnerface_ns.tracking.video.face_topology import CHIN, FOREHEAD
from partnerface_ns.tracking.video.image_pass import ImageMeasurements
from partnerface_ns.tracking.video.interfaces import Matting
from partnerface_ns.tracking.video.matte_cleaning import keep_main_person
from partnerface_ns.tracking.video.matte_refinement import refine_matte
from partnerface_ns.tracking.video.outline import matte_outline
from partnerface_ns.tracking.video.rough_matte import find_person, follow_edges, surely_background
from partnerface_ns.tracking.video.steady_mattes import steady_matte
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import (
    image_path,
    read_channel,
    read_foreground,
    read_image,
    write_image,
)

Result = TypeVar("Result")

_PLATE_FRAMES = 100
"""Largest number of frames that the background is collected from; they are evenly spread."""
_REACH = 1
"""Frames before and after each that its matte is averaged with."""
_CLEARANCE = 0.06
"""Distance from the person at which a pixel surely shows the background, face heights."""
_ROUGH, _FINE, _MATTES, _FOREGROUNDS, _ALPHAS = "rough", "fine", "mattes", "foregrounds", "alphas"
"""Folders of the work folder."""


def cut_mattes(
    frames: Int[np.ndarray, "frames"],
    images: ImageMeasurements,
    work: WorkFolder,
    new_matting: Callable[[], Matting],
    num_workers: int | None = None,
) -> Float[np.ndarray, "frames points 4"]:
    """Make the mattes of some frames, store them in the work folder, and return their outlines.

    Frames that came with an alpha channel use it as their matte, and keep their colours.

    Args:
        frames: indices of the frames.
        images: measurements in all frames.
        work: holds the images and caches the result.
        new_matting: constructor of the matting model.
        num_workers: number of threads; None starts one for each core.
    """

    def make() -> dict[str, np.ndarray]:
        run = _MattePass(frames, images, work, num_workers or os.cpu_count() or 1)
        plate = run.collect_background(new_matting)
        run.map("Cutting out the person", lambda index: run.refine(index, plate), frames.tolist())
        return {"outlines": np.stack(run.map("Steadying the mattes", run.finish, range(len(frames))))}

    return work.stage("mattes", make)["outlines"]


@dataclass(frozen=True)
class _MattePass:
    """The steps; each stores its images in a folder of the work folder."""

    frames: Int[np.ndarray, "frames"]
    images: ImageMeasurements
    work: WorkFolder
    num_workers: int

    def map(self, title: str, step: Callable[[int], Result], items: Iterable[int]) -> list[Result]:
        """The results of a step for all frames, computed in parallel."""
        return list(progress(map_threaded(step, items, self.num_workers), title, len(self.frames)))

    def collect_background(self, new_matting: Callable[[], Matting]) -> BackgroundPlate:
        """Make and store the rough mattes, and collect the background."""
        size = len(read_image(self.work, int(self.frames[0])))
        plate = BackgroundPlate(self.images.crop.corners * self.images.crop.scale(size), size)
        stride = -(-len(self.frames) // _PLATE_FRAMES)

        def sharpen(seen: tuple[int, np.ndarray, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray]:
            index, rgb, person = seen
            rough = follow_edges(rgb, person)
            write_image(self.path(_ROUGH, index), rough)
            return index, rgb, rough

        steps = map_threaded(sharpen, self.find_people(new_matting), self.num_workers)
        for number, (index, rgb, rough) in enumerate(progress(steps, "Finding the person", len(self.frames))):
            if number % stride == 0:
                clearance = _CLEARANCE * self.face_height(index)
                plate.add(index, rgb, surely_background(rough, clearance))
        return plate

    def find_people(self, new_matting: Callable[[], Matting]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield index, image and the matting model's output of each frame; the model sees the frames in order."""
        matting = new_matting()
        for index in self.frames.tolist():
            rgb, alpha = read_image(self.work, index), self.alpha(index)
            yield index, rgb, find_person(matting, rgb, self.images.landmarks[index]) if alpha is None else alpha

    def refine(self, index: int, plate: BackgroundPlate) -> None:
        """Store alpha and foreground colours of one frame."""
        rgb, alpha = read_image(self.work, index), self.alpha(index)
        foreground = rgb
        if alpha is None:
            rough = read_channel(self.path(_ROUGH, index))
            fine = refine_matte(rgb, rough, self.face_height(index), plate.background(index))
            alpha, foreground = fine.alpha, fine.foreground
        write_image(self.path(_FINE, index), keep_main_person(alpha, self.images.landmarks[index]))
        write_image(self.path(_FOREGROUNDS, index), foreground)

    def finish(self, position: int) -> Float[np.ndarray, "points 4"]:
        """Store the final matte of one frame, and return its outline."""
        index = int(self.frames[position])
        matte = read_channel(self.path(_FINE, index))
        if self.alpha(index) is None:
            near = range(max(0, position - _REACH), min(len(self.frames), position + _REACH + 1))
            others = [int(self.frames[k]) for k in near if k != position]
            neighbours = ((read_image(self.work, k), read_channel(self.path(_FINE, k))) for k in others)
            rgb, foreground = read_image(self.work, index), read_foreground(self.work, index)
            matte = steady_matte(rgb, matte, neighbours)
            write_image(self.path(_FOREGROUNDS, index), explainable(foreground / 255, matte, rgb / 255))
        write_image(self.path(_MATTES, index), matte)
        return matte_outline(matte)

    def alpha(self, index: int) -> Float[np.ndarray, "rows columns"] | None:
        """The alpha channel that a frame came with."""
        path = self.path(_ALPHAS, index)
        return read_channel(path) if path.exists() else None

    def path(self, folder: str, index: int) -> Path:
        """The file of a frame in a folder."""
        return image_path(self.work.folder(folder), index)

    def face_height(self, index: int) -> float:
        """Distance from forehead to chin, pixels."""
        points = self.images.landmarks[index, :, :2]
        return float(np.linalg.norm(points[FOREHEAD] - points[CHIN]))
