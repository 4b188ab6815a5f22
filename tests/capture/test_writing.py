"""A folder appears complete or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from partnerface_ns.capture import writing
from partnerface_ns.capture.writing import new_folder, publish, require_new
from partnerface_ns.common.errors import InputError


def write(root: Path) -> None:
    with new_folder(root) as folder:
        (folder / "images").mkdir()
        (folder / "images" / "0.png").write_text("x")
        (folder / "transforms.json").write_text("{}")


def names_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


WRITTEN = ["images", "images/0.png", "transforms.json"]


def test_a_new_folder_appears_with_its_parents(tmp_path):
    write(tmp_path / "a" / "b")
    assert names_in(tmp_path / "a" / "b") == WRITTEN and names_in(tmp_path)[:2] == ["a", "a/b"]


def test_after_an_error_no_folder_is_left(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "b"):
        raise RuntimeError("broken")
    assert names_in(tmp_path) == []


def test_an_existing_folder_stays_the_same_folder(tmp_path, monkeypatch):
    # A mount point, or the folder that a user stands in, cannot be replaced.
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".DS_Store").write_text("x")
    before = tmp_path.stat().st_ino
    monkeypatch.chdir(tmp_path)
    write(Path("."))
    assert names_in(Path(".")) == [".DS_Store", *WRITTEN[:2], "lost+found", WRITTEN[2]]
    assert tmp_path.stat().st_ino == before == os.stat(".").st_ino


def test_unfinished_work_is_on_the_file_system_of_the_result(tmp_path, monkeypatch):
    (tmp_path / "mounted").mkdir()
    with new_folder(tmp_path / "mounted") as inside, new_folder(tmp_path / "new") as beside:
        assert inside.parent == tmp_path / "mounted" and beside.parent == tmp_path


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("made")
    write(tmp_path / "link")
    write(tmp_path / "dangling")
    assert names_in(tmp_path / "real") == names_in(tmp_path / "made") == WRITTEN
    assert (tmp_path / "link").is_symlink() and (tmp_path / "dangling").is_symlink()


@pytest.mark.parametrize("name", ["taken", "file"])
def test_existing_content_is_refused_and_kept(tmp_path, name):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=f"{name}: there is something here already"):
        write(tmp_path / name)
    assert names_in(tmp_path) == ["file", "taken", "taken/letter.txt"]


def test_a_place_inside_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be written[\s\S]*file is a file"):
        require_new(tmp_path / "file" / "a" / "b")


def test_a_place_without_permission_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match=r"cannot be written[\s\S]*is not writable"):
        require_new(tmp_path / "a" / "b")


@pytest.mark.parametrize(
    "number, hint", [(errno.ENOSPC, "make room or choose another place"), (errno.EIO, "hint: +choose another place")]
)
def test_a_failed_write_gives_advice(tmp_path, number, hint):
    with pytest.raises(InputError, match=f"{os.strerror(number)}[\\s\\S]*{hint}"), new_folder(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert names_in(tmp_path) == []


def test_a_partial_move_is_undone(tmp_path, monkeypatch):
    finished, root = tmp_path / "finished", tmp_path / "root"
    for name in ("a", "b"):
        (finished / name).mkdir(parents=True)
    root.mkdir()
    rename = os.rename

    def fail_at_b(source: Path, target: Path) -> None:
        if Path(source) == finished / "b":
            raise OSError(errno.EIO, "broken")
        rename(source, target)

    monkeypatch.setattr(writing.os, "rename", fail_at_b)
    with pytest.raises(OSError, match="broken"):
        publish(finished, root)
    assert names_in(finished) == ["a", "b"] and names_in(root) == []
