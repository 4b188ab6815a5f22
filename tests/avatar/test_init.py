"""What an avatar takes from a capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from partnerface_ns.avatar.init import AvatarInit
from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera


def capture_of(
    root: Path, states: HeadState, train: tuple[int, ...], background: tuple[float, float, float] | None
) -> Capture:
    camera = Camera(np.eye(4), 50.0, 50.0, 8.0, 8.0, 16, 16)
    frames = tuple(Frame(t, 0, camera, None, None) for t in range(3))
    splits = {"train": train, "val": (), "test": tuple(i for i in range(3) if i not in train)}
    return Capture(root, "x", HeadModelRef(), torch.ones(3), None, states, frames, splits, background=background)


def test_an_avatar_takes_only_the_training_states_of_a_capture(avatar_init, tmp_path):
    capture = capture_of(tmp_path, avatar_init.states, (0, 2), None)
    init = AvatarInit.of(capture, avatar_init.model, background=(0.0, 1.0, 0.0))
    assert torch.equal(init.states.jaw, avatar_init.states.jaw[[0, 2]])
    assert init.num_timesteps == 3
    assert init.static_offset.shape == avatar_init.model.template.shape and not init.static_offset.any()
    assert init.background == (0.0, 1.0, 0.0)


def test_a_capture_without_splits_gives_all_states_and_its_own_background(avatar_init, tmp_path):
    capture = capture_of(tmp_path, avatar_init.states, (), (1.0, 0.0, 0.0))
    init = AvatarInit.of(capture, avatar_init.model)
    assert len(init.states) == 3
    assert init.background == (1.0, 0.0, 0.0)
