"""Train one run for each capture: python train_many.py RUNS CAPTURE [CAPTURE ...] [--options="OPTIONS OF ns-train"].

Start this command on as many machines as you like, with the same arguments and a common file system. Each takes the
next capture that no other process trains on, continues interrupted runs, and skips complete ones.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

SKIP_REASONS = ("another command is writing here", "already holds a run", "nothing is left to train")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", type=Path)
parser.add_argument("captures", type=Path, nargs="+")
parser.add_argument("--options", default="", help="options of ns-train, in one string")
given = parser.parse_args()

failed = []
for capture in given.captures:
    run = given.runs / capture.name / "partnerface-lite" / "run"  # a fixed name: the same command finds it again
    command = ["ns-train", "partnerface-lite", "--data", str(capture), "--vis", "tensorboard"]
    command += ["--output-dir", str(given.runs), "--experiment-name", capture.name, "--timestamp", "run"]
    if any((run / "nerfstudio_models").glob("step-*.ckpt")):
        command += ["--load-dir", str(run)]
    command += shlex.split(given.options)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    skipped = any(reason in done.stderr for reason in SKIP_REASONS)
    state = "trained" if done.returncode == 0 else "skipped" if skipped else "failed"
    print(f"{capture.name}: {state}", flush=True)
    if state == "failed":
        failed.append(capture.name)
        print(done.stderr, file=sys.stderr)
sys.exit(len(failed))
