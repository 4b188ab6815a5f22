"""`partnerface drive` from the command line."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from driving.conftest import avatar, avatar_file, camera, capture, info  # noqa: F401

from partnerface_ns.cli.main import main


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(
        json.dumps({"keyframes": [{"time": 0, "smile": 0, "jaw": 0}, {"time": 0.08, "smile": 9.0, "jaw": 0.2}]})
    )
    return file


def run(*arguments: object) -> None:
    main(["drive", *(str(a) for a in arguments), "--device", "cpu"])


def error_of(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 1
    return capsys.readouterr().err


def test_keyframes_drive_an_avatar(avatar_file, keys, tmp_path, capsys):  # noqa: F811
    output = tmp_path / "out.npz"
    run(avatar_file.parent, keys, "--output", output, "--size", "16", "--camera", "orbit")
    told = capsys.readouterr().out
    assert "67% of the frames exceed the range of training, most of all smile" in told and "3 images" in told
    with np.load(output) as file:
        smile = file["expression"][:, 0]
        assert smile[0] < smile[1] <= smile[2] < 5.0, "clamped softly"
    run(avatar_file, keys, "--output", tmp_path / "free.npz", "--size", "16", "--no-clamp", "--max-frames", "2")
    with np.load(tmp_path / "free.npz") as file:
        assert file["rgba"].shape == (2, 16, 16, 4)


def test_a_built_in_motion_needs_no_source(avatar_file, tmp_path):  # noqa: F811
    for option in (["--motion", "visemes"], ["--performance", "visemes"], ["--performance=visemes"]):
        output = tmp_path / "".join(option)
        run(avatar_file, "--output", output, *option, "--max-frames", "2", "--fps", "10", "--size", "16")
        assert sorted(p.name for p in output.iterdir()) == ["00000.png", "00001.png", "drive.json"]


def test_user_errors_are_reported(avatar_file, keys, tmp_path, capsys):  # noqa: F811
    output = ["--output", tmp_path / "out.mp4"]
    assert "needs one source" in error_of(capsys, avatar_file, *output)
    assert "needs one source" in error_of(capsys, avatar_file, keys, "--motion", "talk", *output)
    assert "no avatar here" in error_of(capsys, tmp_path / "nothing", keys, *output)
    assert "--fps" in error_of(capsys, avatar_file, keys, "--fps", "0", *output)
    assert "unknown kind" in error_of(capsys, avatar_file, keys, "--output", tmp_path / "out.gif")
    main_device = ["drive", str(avatar_file), str(keys), "--output", str(tmp_path / "o.mp4"), "--device", "cuda:9"]
    with pytest.raises(SystemExit):
        main(main_device)
    assert "--device: cannot be used here" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (command, *case)
        for command in ("drive", "live", "export --what track")
        for case in (
            ("missing.csv", "missing.csv: the motion does not exist"),
            ("empty.csv", "empty.csv: the file is empty"),
            ("", "needs one source|needs a motion"),
            ("keys.json --motion talk", "needs one source"),
            ("keys.json --fps 0", "--fps: out of range"),
        )
        if (command, case[0]) != ("live", "keys.json --fps 0")  # live has no such option
    ],
)
def test_options_of_the_motion_are_checked_before_the_avatar_is_opened(
    keys, tmp_path, monkeypatch, capsys, command, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SystemExit, match="1"):
        main([*command.split()[:1], "no-run", *command.split()[1:], *words.split()])
    assert re.search(message, capsys.readouterr().err)


def test_a_run_of_before_avatar_files_gets_one(make_config, start, tmp_path):
    config = make_config(max_num_iterations=2)
    start(config).train()
    folder = config.get_base_dir()
    (folder / "avatar.pt").unlink()
    arguments = ["--motion", "visemes", "--max-frames", "1", "--size", "16"]
    run(folder / "config.yml", "--output", tmp_path / "out.npz", *arguments)
    assert (folder / "avatar.pt").is_file() and (tmp_path / "out.npz").is_file()
