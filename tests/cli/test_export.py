"""`partnerface export` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from driving.conftest import avatar, avatar_file, camera, capture, info  # noqa: F401

from partnerface_ns.cli.main import main


def test_each_kind_is_written(avatar_file, tmp_path, capsys):  # noqa: F811
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keyframes": [{"time": 0, "smile": 0}, {"time": 0.04, "smile": 5.0}]}))
    run = [str(avatar_file.parent), "--device", "cpu", "--output"]
    main(["export", *run, str(tmp_path / "parts")])
    assert (tmp_path / "parts" / "parts.ply").is_file()
    main(["export", *run, str(tmp_path / "mesh"), "--what", "mesh", str(keys)])
    assert len(list((tmp_path / "mesh").glob("*.obj"))) == 2
    main(["export", *run, str(tmp_path / "track"), "--what", "track", str(keys)])
    with np.load(tmp_path / "track" / "track.npz") as file:
        moved = file["expression"][1] - file["expression"][0]
    np.testing.assert_allclose(moved, [5, 0, 0, 0], atol=1e-5)
    assert "track.csv" in capsys.readouterr().out


def test_a_head_for_engines_and_a_page_are_written(avatar_file, tmp_path, capsys):  # noqa: F811
    run = [
        "export",
        str(avatar_file.parent),
        "--device",
        "cpu",
        "--texture-size",
        "16",
        "--output",
        str(tmp_path / "out"),
    ]
    main([*run, "--what", "glb", "--motion", "talk"])
    content = (tmp_path / "out" / "head.glb").read_bytes()
    assert content[:4] == b"glTF" and b'"name":"talk"' in content and b"mouthSmileLeft" in content
    main([*run, "--what", "page"])
    page = (tmp_path / "out" / "head.html").read_text(encoding="utf8")
    assert page.startswith("<!doctype html>") and len(page) < 15e6 and "Three.js Authors" in page
    assert "has its own licence" in (tmp_path / "out" / "LICENSE_OF_THE_MESH.txt").read_text()
    assert b"has its own licence" in content
    assert "head.html" in capsys.readouterr().out


def test_a_texture_size_out_of_range_is_refused_before_the_avatar_is_opened(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "no run"), "--what", "glb", "--texture-size", "8"])
    assert capsys.readouterr().err.startswith("Error: --texture-size: out of range")


@pytest.mark.parametrize("options", [["--fps", "25"], ["--fps", "25", "--motion", "talk", "--what", "parts"]])
def test_options_of_a_motion_are_refused_without_one(tmp_path, options, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "no run"), *options])
    assert capsys.readouterr().err.startswith("Error: --fps: describes a motion")


def test_user_errors_are_reported(avatar_file, tmp_path, capsys):  # noqa: F811
    for arguments in (["--what", "mesh"], ["--output", str(avatar_file)]):
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(avatar_file), *arguments])
        assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert "--what mesh needs a motion" in told and "is a file" in told


@pytest.fixture
def meshes(avatar_file, tmp_path):  # noqa: F811
    """Exports a number of meshes; gives the folder."""

    def export(number: int) -> Path:
        keys = tmp_path / "keys.json"
        keys.write_text(json.dumps({"keyframes": [{"time": 0, "jaw": 0}, {"time": (number - 1) / 10, "jaw": 0.1}]}))
        folder = tmp_path / "meshes"
        main(["export", str(avatar_file), str(keys), "--fps", "10", "--what", "mesh", "--output", str(folder)])
        return folder

    return export


def test_fewer_meshes_leave_none_of_an_earlier_export(meshes):
    (meshes(5) / "parts.ply").touch()
    assert sorted(path.name for path in meshes(2).iterdir()) == [
        "00000.obj",
        "00001.obj",
        "LICENSE_OF_THE_MESH.txt",
        "parts.ply",
    ]


@pytest.mark.parametrize("output", ["notes", "mesh.ply", "thesis.txt", "thesis.txt/below"])
def test_an_unusable_folder_is_refused_before_the_avatar_is_opened(tmp_path, capsys, output):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("not to be touched")
    (tmp_path / "thesis.txt").write_text("nor this")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(tmp_path / "no run"), "--output", str(tmp_path / output)])
    told = capsys.readouterr().err
    assert (exit_.value.code == 1 and "thesis.txt" in told + output) or "mesh.ply" in told
    assert "no avatar" not in told and sorted(tmp_path.rglob("*")) == before


def test_an_unused_motion_is_reported(avatar_file, tmp_path, capsys):  # noqa: F811
    main(["export", str(avatar_file), "--motion", "talk", "--output", str(tmp_path / "v1.2")])
    assert "talk is not used" in capsys.readouterr().out and (tmp_path / "v1.2" / "parts.ply").is_file()


@pytest.mark.parametrize(("option", "value"), [("--size", "0"), ("--max-frames", "0"), ("--smoothing", "-1")])
def test_numbers_out_of_range_are_refused_before_the_avatar_is_opened(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit):
        main(["drive", str(tmp_path / "no run"), "--motion", "talk", option, value])
    assert capsys.readouterr().err.startswith(f"Error: {option}: out of range")
