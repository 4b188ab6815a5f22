"""Folders of a phone's takes."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import pytest
from driving.recordings import NUM, rows, text, write

from partnerface_ns.common.errors import InputError
from partnerface_ns.driving.load import load_motion
from partnerface_ns.flame.open_head import load_open_head


@pytest.fixture
def take(tmp_path):
    folder = tmp_path / "20240601_MySlate_3"
    folder.mkdir()
    write(folder / "MySlate_3_iPhone.csv", text())
    write(folder / "MySlate_3_iPhone_raw.csv", text(body=rows(weight=0.8)))
    write(folder / "MySlate_3_iPhone_neutral.csv", text(body=rows()[:1]))
    write(folder / "frame_log.csv", "V,0,10:00:00:00,1\n" * NUM)
    write(folder / "take.json", "{}")
    return folder


def test_the_takes_own_recording_is_read_and_named(take):
    write(take / "MySlate_3_iPhone.mov", b"no video")
    motion = load_motion(take, load_open_head())
    assert len(motion) == NUM and motion.sound is None
    assert motion.notes[0] == "MySlate_3_iPhone.csv of the take is read without sound, because no video here has any"


def test_the_sound_is_from_the_takes_video(take):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=d=1"]
    subprocess.run([*command, take / "MySlate_3_iPhone.mov"], check=True)
    assert load_motion(take, load_open_head()).sound == take / "MySlate_3_iPhone.mov"


def test_of_two_recordings_one_is_to_be_named(take):
    write(take / "b.csv", text())
    with pytest.raises(InputError, match=r"MySlate_3_iPhone\.csv, b\.csv"):
        load_motion(take, load_open_head())


def test_a_folder_of_nothing_is_refused_as_a_capture(tmp_path):
    with pytest.raises(InputError, match="no capture layout"):
        load_motion(tmp_path, load_open_head())
