"""The commands that look at captures and head models: inspect, convert, head-model."""

from __future__ import annotations

import pickle
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from format_writers.flame_pickle import flame_content, hostile_opcodes
from format_writers.layouts import LAYOUTS
from format_writers.truth import flame_like_arrays, make_truth
from format_writers.vhap import write_vhap_tracks
from partnerface_ns.capture.convention_fixes import CONVENTION_FIXES
from partnerface_ns.capture.load import load_capture
from partnerface_ns.capture.names import WrittenFormat
from partnerface_ns.cli.convert import Convert
from partnerface_ns.cli.head_model import ShowHeadModel
from partnerface_ns.cli.inspect import Inspect
from partnerface_ns.cli.main import main
from partnerface_ns.common.errors import InputError
from partnerface_ns.flame.head_model import load_head_model


@pytest.fixture(scope="module")
def truth():
    return make_truth(12)


@pytest.fixture(scope="module")
def head_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "generic_model.pkl"
    path.write_bytes(pickle.dumps(flame_content(flame_like_arrays(), chumpy=False)))
    return path


@pytest.fixture(scope="module")
def folders(truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures")
    return {name: write(folder / name, truth) for name, write in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inspect_describes_a_capture_and_its_verdict(folders, head_path, tmp_path, capsys, layout):
    image = tmp_path / "inspect.png"
    Inspect(folders[layout], head_path, output=image)()
    said = capsys.readouterr().out
    assert f"layout      {layout.removesuffix('-meshes')}" in said
    assert "64 x 64" in said and "head model  FLAME 2020" in said and "turn left" in said
    verdict = "cannot be decided" if layout == "metrical-tracker" else "the head lies where the images show it"
    assert f"verdict     {verdict}" in said
    assert "likely" not in said and "fix" not in said
    assert f"ns-train partnerface-lite --data {folders[layout]} --max-train-minutes 10 --head-model {head_path}" in said
    with Image.open(image) as image:
        assert image.width > 5 * 300 and np.ptp(np.asarray(image.convert("L"))) > 100


def test_inspect_of_tracks_without_images_proposes_to_drive_by_them(truth, head_path, tmp_path, capsys):
    tracks = write_vhap_tracks(tmp_path / "tracks", truth)
    Inspect(tracks, head_path, output=tmp_path / "inspect.png")()
    said = capsys.readouterr().out
    assert f"partnerface drive RUN {tracks} --source-head-model {head_path}" in said and "ns-train" not in said


def test_inspect_names_the_mistake_and_the_command_that_fixes_it(folders, truth, head_path, tmp_path, capsys):
    capture = load_capture(folders["vhap"])
    wrong = tmp_path / "wrong"
    Convert(folders["vhap"], wrong, head_model=head_path, fix="camera-axes")()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        Inspect(wrong, head_path, output=tmp_path / "a.png")()
    said = capsys.readouterr().out
    assert "likely      the camera's axes" in said and f"partnerface convert {wrong} OUT --fix camera-axes" in said
    Convert(wrong, tmp_path / "right", head_model=head_path, fix="camera-axes")()
    again = load_capture(tmp_path / "right")
    for frame, expected in zip(again.frames, capture.frames, strict=True):
        np.testing.assert_allclose(frame.camera.T_world_camera, expected.camera.T_world_camera, atol=1e-12)
    assert set(CONVENTION_FIXES) == {"camera-axes", "camera-inverse", "scale-down", "scale-up"}


def test_inspect_lists_broken_images(truth, head_path, tmp_path, capsys):
    root = LAYOUTS["vhap"](tmp_path / "a", truth)
    path = root / "images" / "00003_00.png"
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 8
    content[at : at + 30] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(InputError, match="1 of 12 are broken; the first are named above"):
        Inspect(root, head_path, output=tmp_path / "a.png")()
    assert "broken" in capsys.readouterr().out


def test_inspect_without_a_head_model_describes_the_capture_first(folders, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["inspect", str(folders["imavatar"]), "--output", str(tmp_path / "a.png")])
    said = capsys.readouterr()
    assert "layout      imavatar" in said.out and "tracked     with FLAME 2020" in said.out
    assert "--head-model FILE" in said.err and "Traceback" not in said.err


@pytest.mark.parametrize("to", get_args(WrittenFormat))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_convert_writes_and_measures(folders, head_path, tmp_path, capsys, layout, to):
    command = ["convert", str(folders[layout]), str(tmp_path / "out"), "--to", to, "--head-model", str(head_path)]
    main(command)
    said = capsys.readouterr().out
    assert "12 frames" in said and "vertices are off by 0.00" in said
    assert load_capture(tmp_path / "out").format == to
    with pytest.raises(SystemExit, match="1"):
        main(command)


def test_convert_leaves_torn_frames_out(truth, head_path, tmp_path, capsys):
    folder = LAYOUTS["vhap"](tmp_path / "torn", truth)
    path = folder / "flame_param" / "00002.npz"
    with np.load(path) as stored:
        np.savez(path, **{**stored, "expr": np.full_like(stored["expr"], 9e4)})
    main(["convert", str(folder), str(tmp_path / "out"), "--head-model", str(head_path)])
    said = capsys.readouterr().out
    assert "11 frames written" in said and "Warning: the head is torn in 1 of 12 frames" in said
    assert "vertices are off by 0.00" in said
    assert len(load_capture(tmp_path / "out").frames) == 11


def test_convert_says_when_the_result_cannot_be_measured(subject, tmp_path, capsys):
    main(["convert", str(subject), str(tmp_path / "out"), "--to", "insta"])
    assert "cannot be read again with this head model" in capsys.readouterr().out
    assert (tmp_path / "out" / "meshes" / "00000.obj").is_file()
    with pytest.raises(SystemExit, match="1"):
        main(["convert", str(subject), str(tmp_path / "im"), "--to", "imavatar"])


def test_head_model_describes_and_writes_a_plain_copy(head_path, tmp_path, capsys):
    ShowHeadModel(head_path, tmp_path / "flame.npz")()
    said = capsys.readouterr().out
    assert "FLAME 2020" in said and "5023" in said and "300 identity, 100 expression" in said
    assert "non-commercial" in said
    copy, original = load_head_model(tmp_path / "flame.npz"), load_head_model(head_path)
    assert copy.fingerprint == original.fingerprint and copy.name == "FLAME 2020"
    for name in ("pose_dirs", "joint_regressor", "skinning_weights", "faces", "expression_dirs"):
        np.testing.assert_allclose(getattr(copy, name), getattr(original, name), atol=1e-7, err_msg=name)
    for name, mask in original.regions.items():
        np.testing.assert_allclose(copy.regions[name], mask, atol=1 / 255, err_msg=name)
    with pytest.raises(InputError, match=r"\.npz"):
        ShowHeadModel(head_path, tmp_path / "flame.pkl")()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flame.npz"]


def test_the_open_head_is_described(capsys):
    main(["head-model", "open-head"])
    assert "CC0" in capsys.readouterr().out


def test_a_hostile_head_model_is_one_line_and_exit_code_1(tmp_path, capsys):
    for name, content in hostile_opcodes(str(tmp_path / "made")).items():
        (tmp_path / "hostile.pkl").write_bytes(content)
        with pytest.raises(SystemExit, match="1"):
            main(["head-model", str(tmp_path / "hostile.pkl")])
        said = capsys.readouterr().err
        assert "refused" in said and "Traceback" not in said, name
    assert not (tmp_path / "made").exists()
