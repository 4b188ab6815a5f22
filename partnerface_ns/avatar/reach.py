"""How far glasses, hair and clothes reach from the mesh, measured in the mattes of training frames.

Density beyond this reach is zero. A short reach leaves less free space in which rays of few training views leave fog,
and a smaller canonical box. A long one keeps long hair. The measurement is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.camera import project_points

_NUM_FRAMES = 16
"""Frames that are measured, evenly spread."""
_MAX_SIDE = 256
"""Rows and columns of each matte that are measured, at most."""
_SHARE_OF_PIXELS, _SHARE_OF_FRAMES = 0.998, 0.8
"""Quantiles of the distances in a frame and over frames. Specks and hands in a few frames lie above them."""
_MARGIN = 0.02
"""Added to what the mattes show, metres. Glasses and a fringe in front of the face change no silhouette."""
_SHORTEST, _LONGEST = 0.03, 0.12
"""Limits of a reach, metres."""
_MIN_PIXELS = 50
"""Fewer foreground pixels of a region than this do not measure it."""
_NO_MATTE = 0.99
"""A mask with a larger share of foreground is no matte."""


def measure_reach(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> Float[Tensor, "3"]:
    """Reach of density from the face, from the rest of the head and the neck, and from the torso, metres.

    A foreground pixel belongs to the region of its nearest projected vertex. Its distance to this vertex, at the
    vertex's depth, is the reach that the pixel needs.

    Args:
        capture: gives the person and the track.
        model: the capture's head model.
        frames: frames to measure. Those without an image, or with an unreadable one or without a matte, are left out.

    Returns:
        NaN for a region that no frame measures.
    """
    shaped = ShapedHead.of(model, capture.identity, capture.static_offset)
    measured = [_measure_frame(shaped, capture, frame) for frame in _spread(frames)]
    needed = torch.stack([torch.full((3,), torch.nan), *measured]).nanquantile(_SHARE_OF_FRAMES, dim=0)
    return (needed + _MARGIN).clamp(_SHORTEST, _LONGEST)


def _spread(frames: Sequence[Frame]) -> list[Frame]:
    index = np.linspace(0, len(frames) - 1, min(_NUM_FRAMES, len(frames))).round().astype(int)
    return [frames[i] for i in index]


def _measure_frame(shaped: ShapedHead, capture: Capture, frame: Frame) -> Float[Tensor, "3"]:
    """Reach that one frame's foreground needs, metres; NaN where it shows nothing of a region."""
    unknown = torch.full((3,), torch.nan)
    if frame.image_path is None:
        return unknown
    try:
        mask = load_image(frame, (0.0, 0.0, 0.0))[1]
    except InputError:
        return unknown
    step = -(-max(mask.shape) // _MAX_SIDE)
    rows, columns = np.nonzero(mask[step // 2 :: step, step // 2 :: step] > 127)
    if len(rows) > _NO_MATTE * mask.size / step**2:
        return unknown
    camera, verts = frame.camera, shaped.surface(capture.track[frame.timestep]).double()
    T = torch.from_numpy(camera.T_world_camera)
    depth = -((verts - T[:3, 3]) @ T[:3, 2]).numpy()
    projected = project_points(verts, camera.intrinsics, T).numpy()
    pixels = np.stack([columns, rows], 1) * step + step // 2 + 0.5
    distance, nearest = KDTree(projected[depth > 0]).query(pixels)
    nearest = np.flatnonzero(depth > 0)[nearest]
    distance = torch.from_numpy(distance * depth[nearest] / camera.fl_x)
    face, torso = (shaped.model.regions[name][torch.from_numpy(nearest)] > 0.5 for name in ("face", "torso"))
    regions = [distance[face & ~torso], distance[~face & ~torso], distance[torso]]
    return torch.stack(
        [region.quantile(_SHARE_OF_PIXELS).float() if len(region) > _MIN_PIXELS else unknown[0] for region in regions]
    )
