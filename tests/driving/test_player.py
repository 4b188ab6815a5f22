"""Opening an avatar without its capture, and what it shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import partnerface_ns
import partnerface_ns.avatar.avatar as avatar_module
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.avatar.file_format import AvatarInfo, load_avatar, save_avatar
from partnerface_ns.common.errors import InputError
from partnerface_ns.common.settings import config_from_dict
from partnerface_ns.driving.player import Player, scale_camera
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import rays_through_pixels
from partnerface_ns.rendering.rays import Rays


def test_a_loaded_avatar_renders_like_the_saved_one(avatar_file, player, capture):
    loaded = partnerface_ns.load(avatar_file.parent)
    state = capture.track[3]
    ours, theirs = loaded.render(state=state), player.render(state=state)
    assert list(ours) == ["rgb", "accumulation", "depth", "parts", "deformation", "canonical"]
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert ours["accumulation"].std() > 0.1
    assert torch.equal(loaded.neutral.expression, player.neutral.expression)
    np.testing.assert_array_equal(loaded.camera.T_world_camera, player.camera.T_world_camera)
    assert not list(avatar_file.parent.glob("*.partial*"))


def test_a_fast_player_shows_nearly_the_same(avatar_file, player, capture):
    fast = partnerface_ns.load(avatar_file, fast=True)
    for timestep in (0, 3):
        found, expected = fast.render(state=capture.track[timestep]), player.render(state=capture.track[timestep])
        assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in expected.items()}
        assert (found["rgb"] - expected["rgb"]).abs().mean() < 0.02 < found["rgb"].std()
    assert fast.baked is fast.baked, "made once"


def test_the_file_holds_no_head_model(avatar_file, tiny_head):
    content = torch.load(avatar_file, weights_only=True)
    shapes = {tuple(value.shape) for value in content["state"].values()}
    for array in (tiny_head.faces, tiny_head.expression_dirs, tiny_head.pose_dirs, tiny_head.skinning_weights):
        assert tuple(array.shape) not in shapes


def test_pixels_are_the_avatars_rays(player, capture):
    camera, state = player.camera, capture.track[2]
    image = player.render(camera, state)["rgb"]
    row, column = 9, 6
    center, T = torch.tensor([[column + 0.5, row + 0.5]]), torch.from_numpy(camera.T_world_camera).float()
    origins, directions = rays_through_pixels(center, camera.intrinsics, T)
    rays = Rays(origins[None], directions[None])
    with torch.no_grad():
        expected = player.avatar.render(rays, HeadState.stack([state])).rgb[0, 0]
    assert not torch.allclose(expected, player.avatar.background), "the ray meets the head"
    torch.testing.assert_close(image[row, column], expected, atol=1e-2, rtol=0)


def test_a_batch_is_its_images(player, capture):
    cameras = [player.camera, scale_camera(player.camera, 16)]
    batch = player.render_batch(cameras, capture.track[:2])
    assert batch["rgb"].shape == (2, 16, 16, 3)
    assert torch.equal(batch["rgb"][1], player.render(cameras[1], capture.track[1])["rgb"])


def test_wrong_states_are_refused(player, capture):
    with pytest.raises(InputError, match="not a single head state"):
        player.render(state=capture.track)
    with pytest.raises(InputError, match="not a single head state"):
        player.render(state=HeadState.neutral(9))


def test_a_camera_of_another_size_sees_the_same(camera):
    small = scale_camera(camera, 8)
    assert (small.width, small.height, small.fl_x, small.cx) == (8, 8, 14.0, 4.0)


def test_the_range_of_training_is_known(info, capture):
    seen = capture.states_of("train")
    assert bool((info.lowest.jaw >= seen.jaw.amin(0)).all()) and bool((info.highest.jaw <= seen.jaw.amax(0)).all())
    assert bool((info.highest.expression > info.lowest.expression).all())


def test_another_head_model_is_refused(avatar_file, head_arrays, tmp_path):
    other = tmp_path / "other.npz"
    np.savez(other, **(head_arrays | {"v_template": head_arrays["v_template"] * 1.1}))
    with pytest.raises(InputError, match="trained with another head model"):
        partnerface_ns.load(avatar_file, other)


def test_a_head_model_that_moved_is_named_again(avatar_file, head_file, tmp_path):
    moved = head_file.rename(tmp_path / "moved.npz")
    with pytest.raises(InputError, match=r"tiny_head\.npz"):
        load_avatar(avatar_file)
    assert partnerface_ns.load(avatar_file, moved).render()["rgb"].isfinite().all()


@pytest.mark.parametrize("damage", ["text", "list", "no info", "no state", "config", "cut"])
def test_a_file_that_is_no_avatar_is_refused(avatar_file, damage):
    content = torch.load(avatar_file, weights_only=True)
    if damage == "text":
        avatar_file.write_text("avatar")
    elif damage == "cut":
        avatar_file.write_bytes(avatar_file.read_bytes()[:2000])
    else:
        if damage == "list":
            content = [1, 2]
        elif damage == "config":
            content["config"]["num_parts"] = 7
        else:
            del content[damage.removeprefix("no ")]
        torch.save(content, avatar_file)
    with pytest.raises(InputError) as error:
        load_avatar(avatar_file)
    assert str(avatar_file) in str(error.value)


def test_a_hostile_file_runs_nothing(avatar_file, tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"format": 1, "info": Hostile()}, avatar_file)
    with pytest.raises(InputError):
        load_avatar(avatar_file)
    assert not (tmp_path / "ran").exists()


def test_settings_are_checked():
    source = Path("x.pt")
    read = config_from_dict(AvatarConfig(), {"num_parts": 5, "canonical": {"resolutions": [8, 16]}}, source)
    assert (read.num_parts, read.canonical.resolutions, read.code_noise) == (5, (8, 16), AvatarConfig().code_noise)
    for values, key in (({"canonical": {"colour": 1}}, "canonical.colour"), ({"num_parts": "9"}, "num_parts")):
        with pytest.raises(InputError) as error:
            config_from_dict(AvatarConfig(), values, source)
        assert error.value.key == key


def test_an_opened_avatar_makes_its_skinning_once(avatar_file, monkeypatch):
    made, make = [], avatar_module.InverseSkinning
    monkeypatch.setattr(avatar_module, "InverseSkinning", lambda *args: made.append(1) or make(*args))
    loaded = partnerface_ns.load(avatar_file)
    loaded.render()
    assert len(made) == 1
    avatar = loaded.avatar
    avatar.load_state_dict(avatar.state_dict() | {"identity": avatar.identity + 0.1})
    assert avatar.skinning is not None and len(made) == 2, "another person's is made anew"


def test_a_missing_run_is_reported(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="no avatar here"):
            partnerface_ns.load(place)


def test_importing_the_package_imports_nothing():
    program = "import sys, partnerface_ns; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_loading_needs_no_nerfstudio(avatar_file):
    program = (
        "import sys; sys.modules['nerfstudio'] = sys.modules['viser'] = None\n"
        "import partnerface_ns; print(tuple(partnerface_ns.load(sys.argv[1]).render()['rgb'].shape))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(avatar_file)], capture_output=True, text=True)
    assert done.stdout == "(16, 16, 3)\n", done.stderr


def test_info_and_avatar_of_one_capture_agree(info, avatar):
    assert isinstance(Player(avatar, info).info, AvatarInfo)
    assert info.neutral.batch_shape == ()


def test_a_face_is_made_of_channels(player):
    state = player.face(smile=0.5, jaw=0.1)
    torch.testing.assert_close(state.expression - player.neutral.expression, torch.tensor([0.5, 0, 0, 0]))
    torch.testing.assert_close(state.jaw - player.neutral.jaw, torch.tensor([0.1, 0, 0]))
    skull = [player.head.pose(s).T_world_rest[1] for s in (state, player.neutral)]
    torch.testing.assert_close(*skull, atol=1e-6, rtol=0)
    assert state.batch_shape == () and player.face() is player.neutral
    with pytest.raises(InputError, match="unknown channel"):
        player.face(grin=1.0)


def test_a_failed_save_leaves_the_old_file(avatar, info, tmp_path, monkeypatch):
    path = tmp_path / "avatar.pt"
    save_avatar(path, avatar, info)
    before = path.read_bytes()

    def interrupted(content: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_avatar(path, avatar, info)
    assert path.read_bytes() == before and list(tmp_path.glob("*.partial*")) == []
