"""What of a capture an avatar is told before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from partnerface_ns.avatar.init import Subject
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


def test_a_capture_gives_the_person_only_its_training_moments(tiny_subject, tmp_path):
    capture = capture_of(tmp_path, tiny_subject.states, (0, 2), None)
    subject = Subject.of(capture, tiny_subject.model, background=(0.0, 1.0, 0.0))
    assert torch.equal(subject.states.jaw, tiny_subject.states.jaw[[0, 2]])
    assert subject.num_timesteps == 3
    assert subject.static_offset.shape == tiny_subject.model.template.shape and not subject.static_offset.any()
    assert subject.background == (0.0, 1.0, 0.0)


def test_a_capture_that_only_drives_gives_all_its_moments_and_its_own_background(tiny_subject, tmp_path):
    capture = capture_of(tmp_path, tiny_subject.states, (), (1.0, 0.0, 0.0))
    subject = Subject.of(capture, tiny_subject.model)
    assert len(subject.states) == 3
    assert subject.background == (1.0, 0.0, 0.0)
