"""The capture of the synthetic person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partnerface_ns.cli.main import main
from partnerface_ns.common.errors import InputError
from partnerface_ns.demo.subject import DemoSubject, make_subject
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.warp.torso import TorsoMotion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("captures") / "subject"
    make_subject(root, frames=12, size=32, seed=1)
    return root


@pytest.fixture(scope="module")
def filmed() -> DemoSubject:
    """The person in `folder`."""
    return DemoSubject.create(1, 12, 32)


def pixels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("images/*.png"))]


def test_the_capture_round_trips(folder, filmed):
    capture = make_subject(folder.with_name("again"), frames=12, size=32, seed=1)
    subject = filmed
    for name, value in subject.performance.track.tensors().items():
        assert torch.equal(getattr(capture.track, name), value)
    assert torch.equal(capture.identity, subject.identity)
    assert {name: len(frames) for name, frames in capture.splits.items()} == {"train": 9, "val": 0, "test": 3}
    assert capture.frames[capture.splits["test"][0]].timestep == 9
    assert capture.head_model.fingerprint == load_open_head().fingerprint
    assert capture.background == (1.0, 1.0, 1.0)
    camera = capture.frames[0].camera
    np.testing.assert_allclose(camera.T_world_camera, subject.camera.T_world_camera)
    assert (camera.width, camera.height, camera.cx) == (32, 32, 16)
    # and equal seeds give equal images
    assert all(np.array_equal(a, b) for a, b in zip(pixels(folder), pixels(folder.with_name("again")), strict=True))


def test_the_head_states_contain_the_torso_that_moves_the_shoulders(filmed):
    capture = filmed.capture(Path("person"))
    torso = TorsoMotion(capture.track, filmed.head.model.joint_regressor[0] @ filmed.head.verts_rest, 12)
    for timestep, T_world_torso in enumerate(torso(capture.track, None)):
        np.testing.assert_allclose(T_world_torso, filmed.pose(timestep).T_world_torso, atol=1e-5)


def test_images_are_those_of_their_timesteps(folder, filmed):
    for timestep in (0, 11):
        rgb, mask = filmed.image(timestep)
        assert np.array_equal(np.asarray(Image.open(folder / f"images/{timestep:05d}_00.png")), rgb)
        assert np.array_equal(np.asarray(Image.open(folder / f"fg_masks/{timestep:05d}_00.png")), mask)


def test_the_person_depends_on_the_seed_alone(person, filmed):
    same = DemoSubject.create(0, 12, 32)
    assert torch.equal(same.identity, person.identity)
    assert not torch.equal(filmed.identity, person.identity)
    tone, same_tone, other_tone = (s.scene.materials[0].tone for s in (person, same, filmed))
    assert np.array_equal(tone, same_tone) and not np.array_equal(tone, other_tone)


def test_the_head_stays_in_the_image(person, filmed):
    for subject, timestep in [(person, t) for t in range(0, 40, 3)] + [(filmed, t) for t in range(12)]:
        _, mask = subject.image(timestep)
        assert (mask[0] == 0).all() and (mask[: len(mask) // 2, [0, -1]] == 0).all()
        assert (mask[-1] > 0).mean() > 0.5  # the shoulders fill the lower edge


@pytest.mark.parametrize(
    ("options", "words"),
    [({"frames": 9}, ("--frames", "at least 10", "9")), ({"size": 16}, ("--size", "at least 32", "16"))],
)
def test_too_few_frames_or_pixels_are_refused(tmp_path, options, words):
    with pytest.raises(InputError) as error:
        make_subject(tmp_path / "subject", **options)
    assert all(word in str(error.value) for word in words)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(DemoSubject, "create", lambda *_: pytest.fail("a person was made"))
    (tmp_path / "note.txt").write_text("keep me")
    with pytest.raises(InputError, match="something here already"):
        make_subject(tmp_path, frames=12, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_command_names_the_next_command(tmp_path, capsys):
    folder = tmp_path / "a subject"
    main(["make-subject", str(folder), "--frames", "10", "--size", "32", "--seed", "4"])
    said = capsys.readouterr().out
    assert "7 training images and 3 test images" in said
    assert f"ns-train partnerface-lite --data '{folder}' --max-train-minutes 10" in said
    assert (folder / "transforms_test.json").is_file()


def test_the_command_reports_a_mistake_and_exits_with_1(tmp_path, capsys):
    (tmp_path / "note.txt").write_text("keep me")
    with pytest.raises(SystemExit) as exit_:
        main(["make-subject", str(tmp_path)])
    assert exit_.value.code == 1 and str(tmp_path) in capsys.readouterr().err
