"""Evaluation and rendering of a trained run by ns-eval, ns-render and the viewer."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.render import DatasetRender
from nerfstudio.utils.eval_utils import eval_setup

from partnerface_ns.common.errors import InputError
from partnerface_ns.plugin import pipeline
from partnerface_ns.plugin.image_renderer import OUTPUTS

SIZE = 24
"""Pixels a side of the tiny capture's images."""

METRICS = {"psnr", "ssim", "l1", "psnr_head", "ssim_head", "psnr_mouth", "psnr_eyes", "psnr_outline", "psnr_torso_free"}


@pytest.fixture
def run(make_config, start):
    """The config.yml of a run of three steps."""
    config = make_config(max_num_iterations=3)
    start(config).train()
    return config.get_base_dir() / "config.yml"


@pytest.fixture
def model(make_config, start):
    return start(make_config()).pipeline.model.eval()


def camera_at(model, **kwargs) -> Cameras:
    c = model._head_states.first_frame.camera
    pose = torch.from_numpy(c.T_world_camera[:3]).float()[None]
    return Cameras(pose, c.fl_x, c.fl_y, c.cx, c.cy, SIZE, SIZE, **kwargs)


def test_evaluation_gives_means_and_every_images_values(run, tmp_path, monkeypatch):
    result = tmp_path / "results" / "figures.json"
    monkeypatch.setattr("sys.argv", ["ns-eval", "--load-config", str(run), "--output-path", str(result)])
    ComputePSNR(run, result).main()
    means = json.loads(result.read_text())["results"]
    assert means.keys() >= METRICS
    beside = result.with_name("figures_per_image.csv")
    assert beside.read_text() == (run.parent / "per_image.csv").read_text()
    with beside.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["timestep"]) for row in rows] == [4, 5]
    assert means["psnr"] == pytest.approx(sum(float(row["psnr"]) for row in rows) / 2)
    assert "psnr_std" in means and math.isfinite(means["psnr_std"])


def test_another_capture_of_another_length_drives_the_avatar(run, head, tmp_path, write_subject):
    other = write_subject(tmp_path / "other", head, 2, 5, seed=1)
    DatasetRender(run, output_path=tmp_path / "renders", data=other, image_format="png").main()
    for name in ("gt-rgb", *OUTPUTS):
        assert len(list((tmp_path / "renders" / "test" / name).iterdir())) == 5, name


def test_metrics_use_the_avatars_background(model):
    """A capture on green and an avatar on white, which differ in nothing else."""
    green = torch.tensor([0.0, 0.5, 0.0])
    person, mask = torch.rand(SIZE, SIZE, 3), torch.rand(SIZE, SIZE, 1)
    model._parsed = replace(model._parsed, background=tuple(green.tolist()))
    batch = {"image": mask * person + (1 - mask) * green, "mask": mask, "frame": model._head_states.first_frame}
    outputs = {"rgb": mask * person + (1 - mask) * model.avatar.background, "parts": person, "deformation": person}
    metrics, images = model.get_image_metrics_and_images(outputs, batch)
    assert model.avatar.background.tolist() == [1, 1, 1]
    assert metrics["l1"] < 1e-6 and images["error"].max() < 1e-5


def test_a_capture_tracked_with_another_head_model_is_refused_with_both_names(run, head, tmp_path, write_subject):
    stranger = replace(head, name="stranger", template=head.template * 1.1)
    other = write_subject(tmp_path / "other", stranger, 2, 2)
    with pytest.raises(InputError) as error:
        DatasetRender(run, output_path=tmp_path / "renders", data=other).main()
    assert "stranger" in str(error.value) and head.name in str(error.value)


def test_a_loaded_run_renders_as_the_run_itself(make_config, start):
    config = make_config(max_num_iterations=3)
    trainer = start(config)
    trainer.train()
    trainer.pipeline.eval()
    _, loaded, _, _ = eval_setup(config.get_base_dir() / "config.yml", test_mode="inference")
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[0:1]
    expected = trainer.pipeline.model.get_outputs_for_camera(camera, exact=True)
    reloaded = loaded.model.get_outputs_for_camera(camera, exact=True)
    for name in OUTPUTS:
        assert torch.equal(expected[name], reloaded[name]), name
    fast = loaded.model.get_outputs_for_camera(camera)
    assert not torch.equal(expected["rgb"], fast["rgb"]), "only evaluation renders all samples"
    both = torch.stack([expected["accumulation"].flatten(), fast["accumulation"].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.9
    changed = {name: value + 0.3 for name, value in loaded.model.state_dict().items() if ".planes." in name}
    loaded.model.load_state_dict(changed, strict=False)
    assert not torch.equal(loaded.model.get_outputs_for_camera(camera)["rgb"], fast["rgb"]), (
        "it is baked again after a load"
    )


def test_a_camera_selects_its_head_state(model):
    last = 5
    timestep = lambda **kwargs: model._head_states.select_timestep(camera_at(model, **kwargs))  # noqa: E731
    assert timestep() is None
    assert timestep(metadata={"cam_idx": 2}) == 2
    assert timestep(metadata={"cam_idx": 99}) is None
    assert timestep(times=torch.tensor([[3 / last]]), metadata={"cam_idx": 0}) == 3
    assert timestep(times=torch.tensor([[0.0]]), metadata={"timestep": torch.tensor([[4]])}) == 4

    class Viewer:
        ready = True

        class render_tab_state:
            preview_render = False

    model.face_view.viewer = Viewer
    track = model._parsed.capture.track
    shown_jaw = lambda: model._select_head(camera_at(model, times=torch.tensor([[1.0]]))).states.jaw  # noqa: E731
    assert torch.equal(shown_jaw(), track.jaw[:1]), "the frame slider stands at the first frame"
    Viewer.render_tab_state.preview_render = True
    assert timestep(times=torch.tensor([[1.0]])) == last, "a previewed camera path brings its own time"


def test_images_hold_the_same_outputs_whatever_the_chunks(model):
    outputs = model.get_outputs_for_camera(camera_at(model))
    assert tuple(outputs) == OUTPUTS
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {
        name: (SIZE, SIZE, 1 if name in ("accumulation", "depth") else 3) for name in OUTPUTS
    }
    model.config.eval_num_rays_per_chunk = 100
    for name, output in model.get_outputs_for_camera(camera_at(model)).items():
        torch.testing.assert_close(output, outputs[name], msg=name)


def test_a_camera_that_looks_away_sees_the_background(model):
    camera = camera_at(model)
    camera.camera_to_worlds[..., 2] *= -1
    camera.camera_to_worlds[..., 0] *= -1
    outputs = model.get_outputs_for_camera(camera)
    assert outputs["accumulation"].max() == 0
    assert outputs["rgb"].min() == 1


def test_only_training_frames_of_the_same_capture_have_learned_residuals(model):
    assert model._head_states.residual_timesteps(torch.tensor([0, 2])) is not None
    assert model._head_states.residual_timesteps(torch.tensor([0, 3])) is None, (
        "a frame that is held out for validation"
    )
    assert model._head_states.residual_timesteps(torch.tensor([0, 4])) is None, "a test frame"
    model.capture_digest += 1
    assert model._head_states.residual_timesteps(torch.tensor([0, 2])) is None, "another capture"


def test_colours_without_background_give_the_composited_colours_again(model):
    outputs = {"rgb": torch.tensor([[[0.6, 0.7, 0.8]]]), "accumulation": torch.tensor([[[0.5]]])}
    rgba = model.get_rgba_image(outputs)
    torch.testing.assert_close(rgba[..., :3] * 0.5 + 0.5, outputs["rgb"])
    assert rgba[..., 3] == 0.5


def test_images_without_a_region_do_not_count_in_its_mean():
    values = np.array([20.0, math.nan, 30.0])
    assert pipeline._mean(values) == 25
    assert pipeline._std(values) == pytest.approx(50**0.5)
    assert math.isnan(pipeline._mean(values[1:2])) and pipeline._std(values[1:2]) == 0


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["/bin/ns-eval", "--load-config", "a", "--output-path", "b/c.json"], "b/c.json"),
        (["ns-eval", "--output_path=c.json"], "c.json"),
        (["ns-eval", "--load-config", "a"], "output.json"),
        (["ns-render", "dataset", "--output-path", "d"], None),
    ],
)
def test_the_result_file_of_ns_eval_is_found_in_its_arguments(arguments, result):
    assert pipeline._ns_eval_result(arguments) == (None if result is None else Path(result))
