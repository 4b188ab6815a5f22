"""Avatar files open with what they were trained with, and so do those of earlier versions with old names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.file_format import AvatarInfo, load_avatar, save_avatar
from partnerface_ns.common.settings import config_from_dict
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera
from partnerface_ns.rendering.rays import rays_of_image
from partnerface_ns.rendering.sampling import SamplingConfig
from partnerface_ns.warp.canonical_space import CanonicalSpaceConfig

OLD_SETTINGS = ("forget", "explore", "spread", "refresh_every", "refresh_share")


@pytest.fixture
def info(head_file, avatar_init) -> AvatarInfo:
    T = np.eye(4)
    T[2, 3] = 0.6
    neutral = avatar_init.states[0]
    return AvatarInfo(str(head_file), Camera(T, 30.0, 30.0, 8.0, 8.0, 16, 16), neutral, neutral, neutral)


def render(avatar, info: AvatarInfo, states: HeadState) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return avatar.render(rays_of_image(info.camera, torch.device("cpu")), states[:1]).channels()


def test_a_file_with_old_names_renders_the_same(make_avatar, avatar_init, info, tmp_path):
    avatar = make_avatar(space=CanonicalSpaceConfig(0.04, 0.06, 0.05, resolution=24, mouth_steepness=1.0)).eval()
    avatar.field.focus.copy_((avatar.field.lower + avatar.field.upper) / 2)  # as it was
    sampling = avatar.config.sampling
    sampling.decay, sampling.uniform_fraction, sampling.proposal_fraction = 0.8, 0.2, 0.4
    sampling.update_every, sampling.update_fraction = 3, 0.5
    avatar.end_step()
    save_avatar(tmp_path / "new.pt", avatar, info)
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    settings, state = content["config"]["sampling"], content["state"]
    assert tuple(SamplingConfig.RENAMED) == OLD_SETTINGS
    for old, new in SamplingConfig.RENAMED.items():
        settings[old] = settings.pop(new)
    state["grid.widened"] = state.pop("grid.dilated")
    for name in ("unseen.interval", "field.completion.volume", "grid.reached"):  # there was no completion
        del state[name]
    del state["reach"], state["field.focus"]
    del content["config"]["unseen"], content["config"]["space"]["mouth_steepness"]
    torch.save(content, tmp_path / "old.pt")

    loaded, _ = load_avatar(tmp_path / "old.pt")
    assert loaded.config == avatar.config
    assert torch.equal(loaded.grid.dilated, avatar.grid.dilated)
    expected, rendered = render(avatar, info, avatar_init.states), render(loaded, info, avatar_init.states)
    assert expected["accumulation"].max() > 0.5
    assert all(torch.equal(rendered[name], expected[name]) for name in expected)


def test_a_file_with_a_trained_completion_renders_the_same(make_avatar, avatar_init, info, tmp_path):
    """It lies in the weights. The file also has the points at which it was trained, and its weights in the loss."""
    avatar = make_avatar().eval()
    save_avatar(tmp_path / "new.pt", avatar, info)
    content = torch.load(tmp_path / "new.pt", weights_only=True)
    del content["state"]["field.completion.volume"]
    points = {"points": (9, 3), "log_density": 9, "color": (9, 3), "density_share": 9, "color_share": 9}
    content["state"] |= {f"unseen.{name}": torch.ones(shape) for name, shape in points.items()}
    content["config"]["unseen"] = {"color_weight": 1.0, "density_weight": 1e-3}
    torch.save(content, tmp_path / "old.pt")

    loaded, _ = load_avatar(tmp_path / "old.pt")
    assert loaded.config == avatar.config
    expected, rendered = render(avatar, info, avatar_init.states), render(loaded, info, avatar_init.states)
    assert all(torch.equal(rendered[name], expected[name]) for name in expected)


def test_parts_of_an_older_run_train_everywhere_from_the_start():
    stored = config_from_dict(AvatarConfig(), {"stage2_start": 0.3}, Path("avatar.pt"))
    assert stored.everywhere_start == 0 and stored.stage2_start == 0.3


def test_parts_of_an_older_run_keep_their_rectifiers():
    stored = config_from_dict(AvatarConfig(), {"parts": {"hidden": 32}}, Path("avatar.pt"))
    assert stored.parts.slope == 0 and stored.parts.hidden == 32


def test_a_read_avatar_keeps_the_skinning_it_was_built_with(make_avatar, avatar_init, info, tmp_path, monkeypatch):
    """Building it takes seconds."""
    own = replace(avatar_init, reach=torch.tensor([0.03, 0.05, 0.035]))
    save_avatar(tmp_path / "avatar.pt", make_avatar(own).eval(), info)
    loaded, _ = load_avatar(tmp_path / "avatar.pt")
    monkeypatch.setattr("partnerface_ns.avatar.avatar.InverseSkinning", None)
    assert loaded.skinning.space.padding == pytest.approx(0.05)
