"""The state dict of the avatar on the tiny head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from avatar.small_scene import front_rays, seen, stirred, train_step
from torch.testing import assert_close

from partnerface_ns.avatar.avatar import SOFT, Avatar
from partnerface_ns.avatar.file_format import check_same_head_model
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import head_model_from_arrays


def test_a_state_dict_of_another_person_renders_that_person(make_avatar, avatar_init):
    avatar = stirred(make_avatar())
    avatar.set_progress(1.0)
    train_step(avatar, avatar_init.states)
    stranger = replace(avatar_init, identity=torch.ones(3), states=avatar_init.states[:1], num_timesteps=7)
    other = make_avatar(stranger)
    states = avatar_init.states
    assert not torch.allclose(
        seen(other, front_rays(3), states)["rgb"], seen(avatar, front_rays(3), states)["rgb"], atol=0.01
    )
    other.load_state_dict(avatar.state_dict())
    for timesteps in (None, torch.arange(3)):
        expected, found = (seen(a, front_rays(3), states, timesteps) for a in (avatar, other))
        for name in expected:
            assert_close(found[name], expected[name])
    assert int(other.stage) == SOFT and int(other.step) == 1


def test_resumed_training_equals_unbroken_training(make_avatar, avatar_init):
    def steps(avatar: Avatar, seeds) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            train_step(avatar, avatar_init.states)
            with torch.no_grad():
                for parameter in avatar.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.01 * parameter.grad

    unbroken, broken = make_avatar(), make_avatar()
    broken.load_state_dict(unbroken.state_dict())
    steps(unbroken, range(4))
    steps(broken, range(2))
    resumed = make_avatar()
    resumed.load_state_dict(broken.state_dict())
    steps(resumed, range(2, 4))
    expected, found = unbroken.state_dict(), resumed.state_dict()
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def test_no_array_of_the_head_model_is_in_the_state(make_avatar, tiny_head):
    stored = make_avatar().state_dict()
    arrays = [
        tiny_head.template,
        tiny_head.faces,
        tiny_head.identity_dirs,
        tiny_head.expression_dirs,
        tiny_head.pose_dirs,
    ]
    arrays += [tiny_head.joint_regressor, tiny_head.skinning_weights, *tiny_head.regions.values()]
    for name, value in stored.items():
        assert not any(
            value.numel() == a.numel() and torch.equal(value.flatten().double(), a.flatten().double())
            for a in arrays
            if a.any()
        ), name
        if value.ndim and value.shape[0] == tiny_head.num_verts:
            assert name == "static_offset"


def test_another_head_model_is_refused_by_name(make_avatar, head_arrays, avatar_init, tmp_path):
    state = make_avatar().state_dict()
    check_same_head_model("run", state, avatar_init.model)
    head_arrays["v_template"] = head_arrays["v_template"] + 0.01
    head_arrays["name"] = np.array("other head")
    other_head = head_model_from_arrays(head_arrays, tmp_path / "other.npz")
    with pytest.raises(InputError) as refused:
        check_same_head_model(tmp_path / "run", state, other_head)
    for part in (str(tmp_path / "run"), avatar_init.model.fingerprint, other_head.fingerprint, "other head"):
        assert part in str(refused.value)


def test_a_field_has_its_smallest_cells_at_the_face(make_avatar):
    avatar = make_avatar()
    face = avatar.skinning.canonical.verts[avatar.head.model.regions["face"] > 0.5].mean(0)
    assert_close(avatar.field.focus[1:], face[1:])
