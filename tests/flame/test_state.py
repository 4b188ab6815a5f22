"""Head states with any batch axes."""

from __future__ import annotations

from dataclasses import fields

import torch

from partnerface_ns.flame.state import HeadState


def numbered(*batch: int) -> HeadState:
    """A state with distinct values."""
    state, start, filled = HeadState.neutral(4, batch), 0, []
    for field in fields(HeadState):
        shape = getattr(state, field.name).shape
        filled.append(torch.arange(start, start + shape.numel()).reshape(shape).float())
        start += shape.numel()
    return HeadState(*filled)


def test_a_neutral_state_is_zero(batch):
    state = HeadState.neutral(4, batch)
    assert state.batch_shape == batch
    sizes = {f.name: getattr(state, f.name).shape[-1] for f in fields(state)}
    assert sizes == {"expression": 4, "rotation": 3, "neck": 3, "jaw": 3, "eyes": 6, "translation": 3}
    assert not any(getattr(state, f.name).any() for f in fields(state))


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
        for field in fields(HeadState):
            assert torch.equal(getattr(both[index], field.name), getattr(expected, field.name))
    assert both[torch.tensor([1, 1, 0])].batch_shape == (3,)
    assert both[:1].batch_shape == (1,)


def test_a_state_moves_between_devices():
    moved = numbered(2).to("meta")
    assert {getattr(moved, f.name).device.type for f in fields(moved)} == {"meta"}
