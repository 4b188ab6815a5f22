"""Timing an avatar's images, and what fast ones cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from partnerface_ns.baked.baked_avatar import BakedAvatar
from partnerface_ns.baked.config import BakedConfig
from partnerface_ns.bench import rendering
from partnerface_ns.bench.rendering import Quality, Speed, measure_quality, time_images
from partnerface_ns.bench.tables import COLUMNS, rendering_table
from partnerface_ns.cli.main import main
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.driving.player import Player
from partnerface_ns.flame.open_head import load_open_head


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "subject"
    make_subject(folder, frames=10, size=32)
    return folder


@pytest.fixture
def player(make_avatar, subject):
    """An untrained avatar of the demo person, without a file."""
    from partnerface_ns.avatar.file_format import AvatarInfo
    from partnerface_ns.avatar.init import AvatarInit
    from partnerface_ns.capture.load import load_capture

    capture, model = load_capture(subject), load_open_head()
    return Player(make_avatar(AvatarInit.of(capture, model)), AvatarInfo.of(capture, model, "open-head"))


def test_both_ways_are_timed_and_measured(player, subject, monkeypatch):
    monkeypatch.setattr("partnerface_ns.bench.rendering._REPEATS", 1)
    (speed,) = time_images(player, [32])
    assert speed.size == 32 and speed.exact > 0 and speed.fast > 0 and speed.sequence > 0
    found = measure_quality(player, subject, 2)
    assert found.exact.keys() == found.fast.keys() >= set(COLUMNS) - {"lpips_head"}
    assert 0 < abs(found.exact["psnr"] - found.fast["psnr"]) < 3, "both show the person, in two ways"


@pytest.mark.parametrize("of_avatar", [(0.0, 0.0, 0.0), (0.2, 0.9, 0.4)])
@pytest.mark.parametrize("of_capture", [(1.0, 1.0, 1.0), None])
def test_truth_and_images_have_one_background(player, subject, monkeypatch, of_avatar, of_capture):
    """Where an avatar has another background than its capture, and a capture none of its own."""
    player.baked = BakedAvatar(player.avatar, BakedConfig(resolution=32))
    load, measure, compared = rendering.load_capture, rendering.image_metrics, []
    capture = replace(load(subject), background=of_capture)
    if of_capture is None:  # images with a mask, composited on what they are asked for
        frames = tuple(replace(frame, composited=False) for frame in capture.frames)
        capture = replace(capture, frames=frames)
    monkeypatch.setattr(rendering, "load_capture", lambda folder, head_model: capture)
    noted = lambda *given: compared.append(given[:2]) or measure(*given)  # noqa: E731
    monkeypatch.setattr(rendering, "image_metrics", noted)
    player.avatar.background.copy_(torch.tensor(of_avatar))
    measure_quality(player, subject, 1)
    assert len(compared) == 2
    for ours, truth in compared:
        assert torch.allclose(ours[0, 0], torch.tensor(of_capture or of_avatar), atol=0.01), "a corner is empty"
        assert torch.allclose(truth[0, 0], ours[0, 0], atol=0.01)


def test_a_sequence_is_timed_as_drive_draws_it(player, monkeypatch):
    """Several at once, and seconds an image, not of all."""
    monkeypatch.setattr("partnerface_ns.bench.rendering._REPEATS", 1)
    monkeypatch.setattr(Player, "num_parallel", 3)
    player.baked = BakedAvatar(player.avatar, BakedConfig(resolution=32))
    drawn = []

    def in_a_second(player, plan, frame):
        drawn.append(frame)

    monkeypatch.setattr("partnerface_ns.bench.rendering.render_frame", in_a_second)
    monkeypatch.setattr("partnerface_ns.common.clock.time.perf_counter", lambda: float(len(drawn)))
    (speed,) = time_images(player, [16])
    assert len(drawn) == len(set(drawn)) == 2 * 4 * 3
    assert speed.sequence == 1


def test_the_table_holds_speed_and_quality():
    measured = Quality(dict.fromkeys(COLUMNS, 20.0), dict.fromkeys(COLUMNS, 19.5))
    table = rendering_table([Speed(128, 1.0, 0.1, 0.08), Speed(256, 3.0, 0.25, 0.15)], measured)
    assert "| 128 | 1.00 | 0.100 | 10.0 | 0.080 |" in table and "| 256 | 3.00 | 0.250 | 12.0 | 0.150 |" in table
    assert "| exact | 20.000" in table and "| fast | 19.500" in table
    assert "| exact |" not in rendering_table([Speed(128, 1.0, 0.1, 0.08)], None)


def test_one_avatar_has_one_capture(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--output", str(tmp_path), "--avatar", str(tmp_path), "--subjects", "a", "b"])
    assert "takes one capture" in capsys.readouterr().err
