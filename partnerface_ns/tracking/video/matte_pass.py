"""The mattes of the images, and their outlines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from partnerface_ns.common.progress import progress
from partnerface_ns.tracking.video.interfaces import Matting
from partnerface_ns.tracking.video.matte_cleaning import keep_main_person
from partnerface_ns.tracking.video.outline import matte_outline
from partnerface_ns.tracking.video.work_folder import WorkFolder
from partnerface_ns.tracking.video.work_images import image_path, read_alpha, read_image


def cut_mattes(
    frames: Int[np.ndarray, "frames"],
    landmarks: Float[np.ndarray, "all_frames landmarks 3"],
    work: WorkFolder,
    new_matting: Callable[[], Matting],
) -> Float[np.ndarray, "frames points 4"]:
    """Make the mattes of some frames, store them in the work folder, and return their outlines.

    Frames that came with an alpha channel use it as their matte.

    Args:
        frames: indices of the frames.
        landmarks: of all frames, pixels of the images.
        work: holds the images and caches the result.
        new_matting: constructor of the matting model.
    """

    def make() -> dict[str, np.ndarray]:
        matting, outlines = new_matting(), []
        for index in progress(frames.tolist(), "Matting", len(frames)):
            alpha = image_path(work.folder("alphas"), index)
            matte = read_alpha(alpha) if alpha.exists() else matting(read_image(work, index))
            matte = keep_main_person(matte, landmarks[index])
            outlines.append(matte_outline(matte))
            pixels = np.round(matte * 255).astype(np.uint8)
            Image.fromarray(pixels).save(image_path(work.folder("mattes"), index))
        return {"outlines": np.stack(outlines)}

    return work.stage("mattes", make)["outlines"]
