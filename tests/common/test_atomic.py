"""Files appear complete or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from partnerface_ns.common.atomic import atomic_write, write_text


@pytest.mark.parametrize("durable", [False, True])
def test_the_file_appears_at_the_end(tmp_path, durable):
    path = tmp_path / "clip.mp4"
    with atomic_write(path, durable=durable) as partial:
        partial.write_text("new")
        assert partial.suffix == ".mp4" and partial.parent == tmp_path and not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"] and path.read_text() == "new"


def test_after_an_error_the_old_file_stays_and_nothing_is_left(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


def test_an_error_of_a_full_disk_names_the_file(tmp_path):
    """The system names no file when a write fails."""
    with pytest.raises(OSError, match="No space left") as error, atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.filename == str(tmp_path / "a.txt") and not list(tmp_path.iterdir())
