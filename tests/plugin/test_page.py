"""What a viewer page can do besides the picture."""

from __future__ import annotations

from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from partnerface_ns.plugin.page import ClipRecorder, alone, share_of_part


@pytest.fixture
def model(make_config, start):
    model = start(make_config()).pipeline.model.eval()
    torch.nn.init.normal_(model.avatar.deformation.networks.output, std=0.5)
    model.face_view._viewer = SimpleNamespace(ready=False)
    return model


@pytest.fixture
def look(model):
    """Renders what a page shows."""
    camera = model.kwargs["metadata"]["recording"].capture.frames[0].camera
    pose = torch.from_numpy(camera.T_world_camera[:3]).float()[None]
    sides = (camera.fl_x, camera.fl_y, camera.cx, camera.cy, camera.width, camera.height)
    return lambda: model.get_outputs_for_camera(Cameras(pose, *sides))


def test_the_shares_of_all_parts_are_the_head(model, look):
    outputs = look()
    shares = [share_of_part(model.avatar, outputs, part) for part in range(4)]
    opacity = outputs["accumulation"]
    assert bool((sum(shares) <= opacity + 1e-4).all())
    assert sum(shares).sum() > 0.3 * opacity.sum(), "the torso has no part"
    assert all(share.max() <= 1 for share in shares)


def test_a_part_alone_leaves_the_rest_grey(model, look):
    rgb = look()["rgb"]
    model.page_view.a_part.value = "1"
    solo = look()["rgb"]
    share = share_of_part(model.avatar, look(), 1)[..., 0]
    saturation = solo.amax(-1) - solo.amin(-1)
    assert saturation[share < 1e-3].max() < 1e-3
    torch.testing.assert_close(alone(rgb, torch.ones_like(rgb[..., :1])), rgb)


def test_a_muted_part_does_not_deform_and_only_on_a_page(model, look):
    before = look()
    model.page_view.a_part.value, model.page_view.b_shown.value = "1", "muted"
    muted = look()
    share = share_of_part(model.avatar, before, 1)[..., 0]
    lower = muted["deformation"].mean(-1) - before["deformation"].mean(-1)
    assert lower[share > 0.7].mean() < -0.01
    assert lower[share == 0].abs().mean() < -0.1 * lower[share > 0.7].mean(), "little of the others"
    model.face_view._viewer = None
    file = look()["deformation"]
    model.page_view.a_part.value = "all"
    assert torch.equal(look()["deformation"], file), "files are rendered whole"


def test_the_mesh_lies_over_the_picture(model, look):
    rgb = look()["rgb"]
    model.page_view.c_mesh.value = True
    changed = (look()["rgb"] - rgb).abs().amax(-1) > 0.05
    assert 0.05 < changed.float().mean() < 0.95 and not changed[0].any()


def test_a_clip_holds_each_picture_as_long_as_it_was_seen(tmp_path, monkeypatch):
    now = [10.0]
    monkeypatch.setattr("partnerface_ns.plugin.page.time", SimpleNamespace(monotonic=lambda: now[0]))
    recorder = ClipRecorder()
    for gray, until in ((50, 11.0), (200, 13.0)):
        recorder.add(np.full((20, 30, 3), gray, np.uint8))
        now[0] = until
    path = recorder.save(tmp_path / "clips")
    assert path.name == "clip_000.mp4" and recorder.save(tmp_path / "clips").name == "clip_001.mp4"
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert count == 75 and seconds == pytest.approx(3.0)


def test_what_a_page_records_is_written_into_the_run(model, look, tmp_path):
    page = model.page_view
    page.use_folder(tmp_path)
    page.d_record.value = True
    page.d_record.cb_hook(page.d_record)
    look()
    page.d_record.value = False
    page.d_record.cb_hook(page.d_record)
    assert [p.name for p in (tmp_path / "clips").iterdir()] == ["clip_000.mp4"]
    look()
    assert page._recorder is None
