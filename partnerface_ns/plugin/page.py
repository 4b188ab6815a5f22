"""What a viewer page can do besides the picture: one part alone or without its deformation, the mesh, a clip.

Nothing of it reaches training, evaluation or rendered files: the model asks only for pictures of a page.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.viewer_elements import ViewerCheckbox, ViewerDropdown
from PIL import Image
from torch import Tensor, nn

from partnerface_ns.avatar import SOFT, Avatar
from partnerface_ns.capture.capture import Camera
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.figures import save_clip, to_picture
from partnerface_ns.rendering.overlay import mesh_over_picture
from partnerface_ns.warp.part_assigner import PartWeights

CLIPS_NAME = "clips"
"""Folder in the run folder that holds recorded clips."""
ALL, SOLO, MUTED = "all", "solo", "muted"
_FADED = 0.25
"""Contrast of what is not of the part shown alone."""
_FPS = 25.0
_LONGEST, _MOST = 384, 1000
"""Pixels of a clip's longer side, and pictures after which a recording ends by itself: a few hundred MB of memory."""


class PageView(nn.Module):
    """Controls of one viewer; `muted_part` and `dressed` say what they ask for."""

    def __init__(self, avatar: Avatar) -> None:
        super().__init__()
        self._avatar = lambda: avatar  # a module here would be registered, and saved, a second time
        self._folder: Path | None = None
        self._recorder: ClipRecorder | None = None
        has_parts = avatar.config.deformation == "parts"
        names = [str(part) for part in range(avatar.config.num_parts)] if has_parts else []
        self.a_part = ViewerDropdown("Part", ALL, [ALL, *names], hint="A part to look at")
        self.b_shown = ViewerDropdown(
            "Shown", SOLO, [SOLO, MUTED], hint="solo: the rest is grey; muted: as if this part did not deform"
        )
        self.c_mesh = ViewerCheckbox("Mesh", False, hint="The tracked mesh over the picture")
        self.d_record = ViewerCheckbox("Record", False, cb_hook=self._start_or_stop, hint="A clip of this page")

    def use_folder(self, folder: Path) -> None:
        """Write clips into this run folder."""
        self._folder = folder / CLIPS_NAME

    @property
    def muted_part(self) -> int | None:
        """The part whose deformation a page leaves out."""
        return self._part if self.b_shown.value == MUTED else None

    @property
    def _part(self) -> int | None:
        return None if self.a_part.value == ALL else int(self.a_part.value)

    def dressed(self, outputs: dict[str, Tensor], camera: Cameras, states: HeadState) -> dict[str, Tensor]:
        """A page's picture with what its controls ask for, and record it if a clip is being made.

        Args:
            outputs: images (height, width, channels).
            camera: of the picture, shape (1,).
            states: the head state that it shows, batch axes (1,).
        """
        rgb = outputs["rgb"]
        if self._part is not None and self.b_shown.value == SOLO:
            rgb = alone(rgb, share_of_part(self._avatar(), outputs, self._part))
        if self.c_mesh.value:
            rgb = self._with_mesh(rgb, camera, states)
        if self._recorder is not None:
            self._recorder.add(to_picture(rgb))
        return outputs | {"rgb": rgb}

    def _with_mesh(self, rgb: Tensor, camera: Cameras, states: HeadState) -> Tensor:
        head = self._avatar().skinning.head
        verts = head.pose(states).verts[0].cpu().numpy()
        nothing = np.zeros(rgb.shape[:2], np.uint8)
        faces = head.model.faces.cpu().numpy()
        drawn = mesh_over_picture(to_picture(rgb), nothing, verts, faces, _camera_of(camera), side=max(rgb.shape[:2]))
        return torch.from_numpy(drawn).to(rgb) / 255

    def _start_or_stop(self, element: ViewerCheckbox) -> None:
        recorder, self._recorder = self._recorder, ClipRecorder() if element.value else None
        if recorder is not None and recorder.pictures and self._folder is not None:
            recorder.save(self._folder)


class ClipRecorder:
    """Pictures of one page, as long as each was to be seen."""

    def __init__(self) -> None:
        self.pictures: list[UInt8[np.ndarray, "height width 3"]] = []
        self._times: list[float] = []
        self._page: Any = None

    def add(self, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Keep a picture, in the size of the first; those of other browsers, and what is too much, are left out."""
        # nerfstudio renders each browser in a thread of its own, which knows it.
        page = getattr(threading.current_thread(), "client", None)
        if not self.pictures:
            self._page = page
            height, width = picture.shape[:2]
            scale = _LONGEST / max(height, width)
            self._size = 2 * round(width * scale / 2), 2 * round(height * scale / 2)
        if page is not self._page or len(self.pictures) >= _MOST:
            return
        self.pictures.append(np.array(Image.fromarray(picture).resize(self._size, Image.Resampling.BILINEAR)))
        self._times.append(time.monotonic())

    def save(self, folder: Path) -> Path:
        """Write `clip_000.mp4` or the next free name."""
        folder.mkdir(parents=True, exist_ok=True)
        path = next(p for i in range(10**6) if not (p := folder / f"clip_{i:03d}.mp4").exists())
        times = np.array(self._times)
        moments = np.arange(times[0], max(time.monotonic(), times[0] + 1 / _FPS), 1 / _FPS)
        seen = np.searchsorted(times, moments, side="right") - 1
        save_clip(path, (self.pictures[i] for i in seen), _FPS)
        return path


def alone(rgb: Float[Tensor, "height width 3"], share: Float[Tensor, "height width 1"]) -> Tensor:
    """Colours where `share` is 1, a pale grey of them where it is 0."""
    faded = 1 - _FADED * (1 - rgb.mean(-1, keepdim=True))
    return share * rgb + (1 - share) * faded


@torch.no_grad()
def share_of_part(avatar: Avatar, outputs: dict[str, Tensor], part: int) -> Float[Tensor, "height width 1"]:
    """How much of each pixel belongs to a part: the part's weight at the canonical place that the pixel sees."""
    opacity = outputs["accumulation"]
    lower, upper = avatar.field.get_buffer("lower"), avatar.field.get_buffer("upper")
    points = (lower + outputs["canonical"] / opacity.clamp(min=1e-3) * (upper - lower)).reshape(-1, 3)
    found = avatar.assigner.soft(points) if int(avatar.stage) == SOFT else avatar.assigner.hard(points)
    weight = (found.weight * (found.index == part)).sum(1) * (1 - avatar.skinning.space.torso_share(points))
    return opacity * weight.reshape(opacity.shape)


class MutedPart:
    """Leaves one part's deformation out of an avatar's pictures: set `part` before each."""

    def __init__(self, avatar: Avatar) -> None:
        self.part: int | None = None
        if avatar.config.deformation == "parts":
            avatar.deformation.register_forward_pre_hook(self._without)

    def _without(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.part is None:
            return None
        *rest, parts = arguments
        return *rest, PartWeights(parts.index, parts.weight * (parts.index != self.part))


def _camera_of(camera: Cameras) -> Camera:
    """The capture's kind of camera."""
    T = np.eye(4)
    T[:3] = camera.camera_to_worlds.reshape(3, 4).cpu().numpy()
    sizes = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    fl_x, fl_y, cx, cy, width, height = (float(value.flatten()[0]) for value in sizes)
    return Camera(T, fl_x, fl_y, cx, cy, int(width), int(height))
