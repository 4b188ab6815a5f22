"""How far hair and clothes reach from the mesh, measured in the mattes of training frames.

Density beyond this reach is zero. A short reach keeps the space around short hair free of fog, and a long one keeps
long hair. The measurement is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from torch import Tensor

from partnerface_ns.capture.capture import Capture, Frame
from partnerface_ns.capture.images import load_image
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.geometry.mesh_border import border_vertices

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
"""Number of foreground pixels that a region must have to be measured."""
_NO_MATTE = 0.99
"""A mask with a larger share of foreground is no matte."""


def measure_reach(capture: Capture, model: HeadModel, frames: Sequence[Frame]) -> Float[Tensor, "3"]:
    """Reach of density from the face, from the rest of the head and the neck, and from the torso, metres.

    A foreground pixel belongs to the region of its nearest projected vertex. Its distance to this vertex, at the
    vertex's depth, is the reach that the pixel needs. Pixels nearest to the mesh's border are left out, because the
    body continues there.

    Args:
        capture: gives the person and the track.
        model: the capture's head model.
        frames: frames to measure; up to 16 images are read. Those without an image or a matte are left out. So are
            unreadable ones, which training reports.

    Returns:
        NaN for a region that no frame measures.
    """
    head = ShapedHead.of(model, capture.identity, capture.static_offset)
    inner = torch.ones(len(model.template), dtype=torch.bool)
    inner[torch.from_numpy(border_vertices(model.faces.cpu().numpy()))] = False
    face, torso = (model.regions[name].cpu() > 0.5 for name in ("face", "torso"))
    regions = torch.stack([face & ~torso, ~face & ~torso, torso]) & inner
    reaches = [torch.full((3,), torch.nan)]
    for frame in _spread(frames):
        reaches.append(_measure_frame(head, capture, frame, regions))
    return (torch.stack(reaches).nanquantile(_SHARE_OF_FRAMES, dim=0) + _MARGIN).clamp(_SHORTEST, _LONGEST)


def _spread(frames: Sequence[Frame]) -> list[Frame]:
    index = np.linspace(0, len(frames) - 1, min(_NUM_FRAMES, len(frames))).round().astype(int)
    return [frames[i] for i in index]


def _measure_frame(
    head: ShapedHead, capture: Capture, frame: Frame, regions: Bool[Tensor, "3 verts"]
) -> Float[Tensor, "3"]:
    """Reach that one frame's foreground needs, metres; NaN where it shows nothing of a region."""
    unknown = torch.full((3,), torch.nan)
    camera, T_world_camera = frame.camera, torch.from_numpy(frame.camera.T_world_camera)
    verts = head.surface(capture.track[frame.timestep]).double()
    in_camera = (verts - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    visible = (in_camera[:, 2] < 0).nonzero()[:, 0]
    pixels = _foreground(frame)
    if pixels is None or not len(visible):
        return unknown
    depth = -in_camera[visible, 2]
    tangents = in_camera[visible, :2] / depth[:, None]
    wanted = (pixels - [camera.cx, camera.cy]) / [camera.fl_x, -camera.fl_y]
    distance, nearest = (torch.from_numpy(values) for values in KDTree(tangents.numpy()).query(wanted))
    distance *= depth[nearest]
    of_regions = [distance[region[visible[nearest]]] for region in regions]
    reach = [d.quantile(_SHARE_OF_PIXELS) if len(d) >= _MIN_PIXELS else torch.tensor(torch.nan) for d in of_regions]
    return torch.stack(reach).float()


def _foreground(frame: Frame) -> Float[np.ndarray, "pixels 2"] | None:
    """Coordinates (x, y) of evenly spread foreground pixels; None if there is no readable matte."""
    if frame.image_path is None:
        return None
    try:
        mask = load_image(frame, (0.0, 0.0, 0.0))[1]
    except InputError:
        return None
    step = -(-max(mask.shape) // _MAX_SIDE)
    seen = mask[step // 2 :: step, step // 2 :: step] > 127
    if not seen.any() or seen.mean() > _NO_MATTE:
        return None
    return np.argwhere(seen)[:, ::-1] * step + step // 2 + 0.5
