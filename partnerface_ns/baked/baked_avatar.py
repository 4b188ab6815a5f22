"""An avatar prepared for driving: images of one head state from one camera, many times as fast.

`Avatar.render` follows every sample of every ray through skinning, deformation and field. Here

1. density is computed once, on a fine volume over the canonical head, and read (`baked.py`);
2. canonical places and ambient coordinates are computed on a lattice around what the camera sees, coarse first, fine
   where there is something in sight (`scene.py`), then interpolated; rays at mouth and eyes, where lips part and lids
   slide, take their samples through skinning themselves, look twice, and read the deformation from a volume over these;
3. colour is computed at a few places of a ray, the quantiles of what it sees (`image.py`).

What that costs in quality is measured by `partnerface bench` (docs/benchmarks.md). Metrics, and `ns-eval`, use
`Avatar.render`, and so do cameras nearer than a lattice can see around.
"""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from partnerface_ns.avatar.avatar import Avatar
from partnerface_ns.avatar.render_output import RenderOutput
from partnerface_ns.baked.capacity import Capacity
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.baked.image import RAYS_ON_GPU, Drawn, Painter, View
from partnerface_ns.baked.scene import one_frame
from partnerface_ns.flame.state import HeadState
from partnerface_ns.rendering.rays import Rays
from partnerface_ns.training.cuda_graph import CapturedWork

_NUM_RECORDINGS = 3
"""Recordings that are kept: a viewer shows smaller images while something moves."""
_CLOSE = 0.15
"""Metres to the surface within which a camera looks wider than a lattice reaches."""


class _Recording(NamedTuple):
    """Work on images that need no more than a certain room."""

    room: Capacity
    work: CapturedWork[View, Drawn]


class BakedAvatar:
    """Renders an avatar that is no longer trained."""

    def __init__(self, avatar: Avatar, config: BakedConfig | None = None) -> None:
        """Compute the density volume, which takes seconds; the avatar must not change afterwards."""
        self._avatar = avatar.eval()
        self._painter = Painter(avatar, config or BakedConfig())
        self._recordings: dict[tuple[int, bool], _Recording] = {}
        self._playing = Lock()

    @torch.no_grad()
    def render(
        self,
        origin: Float[Tensor, "3"],
        directions: Float[Tensor, "rays 3"],
        state: HeadState,
        timesteps: Int[Tensor, "1"] | None = None,
        recorded: bool = True,
    ) -> RenderOutput:
        """Render rays from one place.

        Args:
            origin: world frame, metres.
            directions: world frame, unit length.
            state: one head state, batch axes (1,).
            timesteps: as for `Avatar.render`.
            recorded: whether a GPU may play a recording, which knows nothing of what was changed in the avatar since.

        Returns:
            As `Avatar.render` in evaluation; `inspection.canonical` is the place after deformation.
        """
        head = self._avatar.skinning.head.pose(state)
        if (head.verts[0] - origin).norm(dim=1).min() < _CLOSE:
            rays = Rays(origin.expand_as(directions), directions, one_frame(directions))
            return self._avatar.render(rays, state, timesteps)
        view = View(origin, directions, state, head, timesteps)
        playable = directions.is_cuda and len(directions) <= RAYS_ON_GPU
        return self._played(view) if recorded and playable else self._painter.draw(view).output

    def _played(self, view: View) -> RenderOutput:
        """The same on a GPU, where the work on one image is recorded and played for others of its size."""
        kind = (len(view.directions), view.timesteps is None)
        with self._playing:
            recording, room = self._recordings.pop(kind, None), None
            if recording is not None:
                drawn = recording.work(view)
                needs = Capacity.of(drawn.counts)
                if not recording.room.holds(needs):
                    # What it needed there: a lattice with more cells may hold more than the plain one will say.
                    recording, room = None, recording.room.or_more(needs.grown())
            if recording is None:
                drawn = self._painter.draw(view)
                recording = self._recording(Capacity.of(drawn.counts).grown(), room)
            self._recordings[kind] = recording  # the last is the newest
            if len(self._recordings) > _NUM_RECORDINGS:
                self._recordings.pop(next(iter(self._recordings)))
            return drawn.output.clone()

    def _recording(self, room: Capacity, before: Capacity | None) -> _Recording:
        """For images that take so much room; `before` is what the last recording of the kind had and lacked."""
        room = room if before is None else room.or_more(before)
        return _Recording(room, CapturedWork(lambda view: self._painter.draw(view, room)))
