"""A run leaves an avatar that shows what its checkpoint shows, without nerfstudio."""

from __future__ import annotations

import torch

import partnerface_ns
from partnerface_ns.capture.load import load_capture
from partnerface_ns.flame.open_head import OPEN_HEAD_NAME


def test_a_run_leaves_an_avatar(make_config, start, subject):
    config = make_config(max_num_iterations=2)
    trainer = start(config)
    trainer.train()
    player = partnerface_ns.load(config.get_base_dir())
    assert player.info.head_model == OPEN_HEAD_NAME
    capture = load_capture(subject)
    evaluated = trainer.pipeline.datamanager.eval_dataset
    frame = evaluated.frames[0]
    trainer.pipeline.eval()
    expected = trainer.pipeline.model.get_outputs_for_camera(evaluated.cameras[:1], exact=True)
    shown = player.render(frame.camera, capture.track[frame.timestep])
    assert expected["accumulation"].std() > 0.005
    torch.testing.assert_close(shown["accumulation"], expected["accumulation"], atol=1e-3, rtol=0)
    torch.testing.assert_close(shown["rgb"], expected["rgb"], atol=1e-3, rtol=0)
