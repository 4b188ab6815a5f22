"""Kills runs and commands at random times with SIGKILL, and checks what they leave.

python scripts/measure_kills.py --folder NEW_FOLDER --num-kills 30 --video VIDEO

A run is trained on one thread and resumed after every kill from its newest complete checkpoint. Every other kill comes
while a checkpoint is being written. In the end the run is compared bitwise with one that was never killed. Commands
(`drive`, `bench`, `demo`, and `track` if a video is given) are killed and repeated. After every kill, every file under
its final name must be complete. This process imports everything once; the killed ones are its forks.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import torch
import tyro
from nerfstudio.scripts import train
from PIL import Image

from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.cli.main import main as run_partnerface
from partnerface_ns.common.files import require_whole
from partnerface_ns.demo.subject import make_subject
from partnerface_ns.plugin.checkpoints import find_newest_checkpoint, list_checkpoints
from partnerface_ns.plugin.config_file import read_config
from partnerface_ns.plugin.configs import lite
from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig

CLOCKS = ("/pipeline/_model.trained_seconds",)
"""Tensors that hold seconds, which differ from run to run."""


def main(folder: Path, num_kills: int = 30, num_command_kills: int = 5, video: Path | None = None) -> None:
    """Kill training and commands, and print what was found.

    Args:
        folder: a new folder for all runs.
        num_kills: kills of the training run.
        num_command_kills: kills of each command.
        video: a video of a face, for `track`.
    """
    torch.set_num_threads(1)
    random.seed(0)
    folder.mkdir(parents=True)
    make_subject(folder / "subject", frames=10, size=32, seed=0)
    kill_training(folder, num_kills)
    run = tiny_config(folder, "killed").get_base_dir()
    track = ["track", str(video), "--size", "128", "--end", "0.7", "--no-preview"]
    drive = ["drive", str(run), "--motion", "talk", "--size", "32", "--max-frames", "30", "--output"]
    bench = ["bench", "--subjects", str(folder / "subject"), "--variants", "none", "--seconds", "1", "--seeds", "2"]
    commands = {
        "talk.mp4": drive,
        "talk": drive,
        "talk.npz": drive,
        "bench": [*bench, "--num-test", "2", "--jobs", "1", "--output"],
        "demo": ["demo", "--frames", "10", "--size", "32", "--minutes", "0.05", "--device", "cpu", "--output"],
    } | ({"tracked": track} if video is not None else {})
    for name, words in commands.items() if num_command_kills else ():
        kill_command([*words, str(folder / name)], folder / name, num_command_kills)


def kill_training(folder: Path, num_kills: int) -> None:
    """Kill a run again and again, and compare it with one that was never killed."""
    whole, killed = tiny_config(folder, "whole"), tiny_config(folder, "killed")
    began = time.monotonic()
    process = fork(lambda: train.main(whole), folder / "whole.log")
    while not list_checkpoints(whole.get_checkpoint_dir()):
        time.sleep(0.01)
    seconds = time.monotonic() - began
    assert wait(process) == 0
    partial = killed.get_checkpoint_dir().with_name("nerfstudio_models.partial")
    writing, steps, alive = 0, [], 0
    for number in range(num_kills):
        left_behind = changed(partial)
        process = fork(lambda: train.main(resume(killed)), folder / "killed.log")
        if number % 4 == 0:  # before the first step
            time.sleep(random.uniform(0, 1) * seconds)
        else:  # between or within later steps
            wait_for_checkpoints(killed.get_checkpoint_dir(), random.randint(1, 4), process)
            time.sleep(random.uniform(0, 0.3))
        while number % 2 and changed(partial) in (None, left_behind) and is_alive(process):
            time.sleep(0.0002)
        alive += kill(process)
        writing += changed(partial) not in (None, left_behind)
        check_files(killed.get_base_dir())
        newest = newest_step(killed)
        assert newest >= max(steps, default=-1), "a checkpoint was lost"
        steps.append(newest)
    if newest_step(killed) < killed.max_num_iterations - 1:
        assert wait(fork(lambda: train.main(resume(killed)), folder / "killed.log")) == 0
    ends = [find_newest_checkpoint(config.get_checkpoint_dir()).content for config in (whole, killed)]
    print(f"training: {alive} kills, {writing} of them while a checkpoint was written")
    print(f"training: newest step after each kill: {steps}")
    print(
        f"training: resumed and unbroken run: {len(flatten(ends[0]))} values, differing: {differing(*ends)}", flush=True
    )


def wait_for_checkpoints(folder: Path, count: int, process: int) -> None:
    """Wait until a process has written some more checkpoints, or has ended."""
    for _ in range(count):
        newest = list_checkpoints(folder)[-1:]
        while list_checkpoints(folder)[-1:] == newest and is_alive(process):
            time.sleep(0.001)


def changed(folder: Path) -> int | None:
    """When a folder was last changed, nanoseconds; None if there is none."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def tiny_config(folder: Path, name: str) -> PartnerfaceTrainerConfig:
    """`partnerface-lite` with small networks, which saves a checkpoint every two steps."""
    config = lite()
    avatar, data = config.pipeline.model.avatar, config.pipeline.datamanager
    avatar.canonical.resolutions, avatar.space.resolution = (16, 32), 16
    avatar.sampling.num_samples, data.sampler.rays_per_batch = 4, 64
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.max_num_iterations, config.steps_per_save = 300, 2
    data.data, config.output_dir, config.timestamp = folder / "subject", folder / "runs", name
    return config


def resume(config: PartnerfaceTrainerConfig) -> PartnerfaceTrainerConfig:
    """The configuration with the run's own folder to continue from, once it has a checkpoint."""
    config.load_dir = config.get_checkpoint_dir() if list_checkpoints(config.get_checkpoint_dir()) else None
    return config


def newest_step(config: PartnerfaceTrainerConfig) -> int:
    """The last step of the newest checkpoint; -1 without one."""
    folder = config.get_checkpoint_dir()
    return find_newest_checkpoint(folder).step if list_checkpoints(folder) else -1


def flatten(content: Any, name: str = "") -> dict[str, Any]:
    """All values of nested dictionaries and lists, by the path to each."""
    if not isinstance(content, (dict, list, tuple)):
        return {name: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    return {key: leaf for k, value in items for key, leaf in flatten(value, f"{name}/{k}").items()}


def differing(a: Any, b: Any) -> list[str]:
    """Paths of the values that differ, without those that hold seconds."""
    a, b = flatten(a), flatten(b)
    same = lambda x, y: torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y  # noqa: E731
    names = [name for name in a.keys() | b.keys() if name not in a or name not in b or not same(a[name], b[name])]
    return sorted(name for name in names if name not in CLOCKS)


def kill_command(words: list[str], output: Path, num_kills: int) -> None:
    """Kill a command at random times of its run, then let it end, and check its files each time."""
    log = output.with_name(f"{output.name}.log")
    rehearsal = [*words[:-1], str(output.with_name(f"whole {output.name}"))]
    began = time.monotonic()
    assert wait(fork(lambda: run_partnerface(rehearsal), log)) == 0, log
    seconds, kills = time.monotonic() - began, 0
    for _ in range(num_kills):
        process = fork(lambda: run_partnerface(words), log)
        time.sleep(random.uniform(0.1, 0.9) * seconds)
        killed = kill(process)
        check_files(output)
        if not killed:  # it had resumed and ended: `track` refuses a folder that is complete
            break
        kills += 1
    else:
        assert wait(fork(lambda: run_partnerface(words), log)) == 0, log
    print(f"{words[0]} {output.name}: {kills} kills, {check_files(output)} complete files in the end", flush=True)


def check_files(output: Path) -> int:
    """Check every file under its final name, and return their number. Hidden and partial files are left out."""
    paths = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    final = [p for p in paths if not any(x.startswith(".") or x.endswith(".partial") for x in p.parts)]
    for path in final:
        if path.name in CHECKS or path.suffix in CHECKS:
            (CHECKS.get(path.name) or CHECKS[path.suffix])(path)
    return len(final)


def check_archive(path: Path) -> None:
    """Read all arrays of an npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].size for name in arrays.files), path


CHECKS: dict[str, Callable[[Path], Any]] = {
    ".ckpt": require_whole,
    ".pt": require_whole,
    ".npz": check_archive,
    ".json": JsonObject.read,
    ".png": lambda path: Image.open(path).load(),
    ".mp4": lambda path: imageio_ffmpeg.count_frames_and_secs(str(path)),
    "config.yml": read_config,
}
"""How a file is known to be complete, by its name or suffix."""


def fork(work: Callable[[], Any], log: Path) -> int:
    """Do some work in a fork that writes its output to a log; returns the process."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with log.open("a") as file:
                os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
            work()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def wait(process: int) -> int:
    """Wait for the end of a process, and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def is_alive(process: int) -> bool:
    """Whether a process runs; its end is not yet collected."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def kill(process: int) -> bool:
    """Kill a process; returns whether it was alive."""
    alive = is_alive(process)
    os.kill(process, signal.SIGKILL)
    wait(process)
    return alive


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
