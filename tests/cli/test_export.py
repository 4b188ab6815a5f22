"""`partnerface export` from the command line."""

from __future__ import annotations

import json

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


def test_mistakes_are_told(avatar_file, tmp_path, capsys):  # noqa: F811
    for arguments in (["--what", "mesh"], ["--output", str(avatar_file)]):
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(avatar_file), *arguments])
        assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert "--what mesh needs a motion" in told and "is a file" in told
