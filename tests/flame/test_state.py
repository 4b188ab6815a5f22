"""Head states with any batch axes."""

from __future__ import annotations

from dataclasses import replace

import torch

from partnerface_ns.flame.state import HeadState


def numbered(*batch: int) -> HeadState:
    """A state with distinct values."""
    state, start, filled = HeadState.neutral(4, batch), 0, []
    for value in state.tensors().values():
        shape = value.shape
        filled.append(torch.arange(start, start + shape.numel()).reshape(shape).float())
        start += shape.numel()
    return HeadState(*filled)


def with_torso(state: HeadState) -> HeadState:
    return replace(state, torso=torch.randn(*state.batch_shape, 6))


def test_a_neutral_state_is_zero(batch):
    state = HeadState.neutral(4, batch)
    assert state.batch_shape == batch
    sizes = {name: value.shape[-1] for name, value in state.tensors().items()}
    assert sizes == {"expression": 4, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
    assert not any(value.any() for value in state.tensors().values())
    assert state.torso is None


def test_the_full_pose_is_in_flames_order(batch):
    state = numbered(*batch)
    full = state.full_pose
    assert full.shape == (*batch, 15)
    for part, name in zip(full.split([3, 3, 3, 6], -1), ("rotation", "neck", "jaw", "eyes"), strict=True):
        assert torch.equal(part, getattr(state, name))


def test_stacked_states_can_be_indexed():
    first, second = numbered(), HeadState.neutral(4)
    both = HeadState.stack([first, second])
    assert len(both) == 2
    for index, expected in enumerate((first, second)):
        for name, value in expected.tensors().items():
            assert torch.equal(getattr(both[index], name), value)
    assert both[torch.tensor([1, 1, 0])].batch_shape == (3,)
    assert both[:1].batch_shape == (1,)


def test_a_state_moves_between_devices():
    moved = with_torso(numbered(2)).to("meta")
    assert {value.device.type for value in moved.tensors().values()} == {"meta"}
    assert moved.torso is not None


def test_a_known_torso_is_stacked_and_indexed_like_the_other_fields():
    first, second = with_torso(numbered()), with_torso(HeadState.neutral(4))
    both = HeadState.stack([first, second])
    assert both.torso.shape == (2, 6)
    assert torch.equal(both[0].torso, first.torso)
    assert "torso" in both.tensors() and "torso" not in numbered().tensors()
