"""Write a reader for a new capture layout: python read_new_layout.py FOLDER OUT.

This layout is an example. `expression.csv` has a row of coefficients per frame. `pose.csv` has global rotation and jaw
(rotation vectors, radians) and translation (metres) in each row. Images `0001.png` and so on have alpha and one camera.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from partnerface_ns.capture.capture import Capture, Frame, HeadModelRef
from partnerface_ns.capture.splits import split_at_share
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.state import HeadState
from partnerface_ns.geometry.camera import Camera


def read_capture(folder: Path) -> Capture:
    """Read the layout. Units, axes and orders are converted here, so that no other code has to."""
    expression = torch.from_numpy(np.loadtxt(folder / "expression.csv", np.float32, delimiter=",", ndmin=2))
    rotation, jaw, translation = torch.from_numpy(
        np.loadtxt(folder / "pose.csv", np.float32, delimiter=",", ndmin=2)
    ).split(3, dim=1)
    num, model = len(expression), load_open_head()
    track = HeadState(expression, rotation, torch.zeros(num, 3), jaw, torch.zeros(num, 6), translation)
    T_world_camera = np.eye(4)
    T_world_camera[2, 3] = 1.0  # one metre in front of the head, looking down -z
    camera = Camera(T_world_camera, fl_x=160.0, fl_y=160.0, cx=32.0, cy=32.0, width=64, height=64)
    frames = tuple(Frame(t, 0, camera, folder / f"{t + 1:04d}.png", None) for t in range(num))
    reference = HeadModelRef(model.name, model.fingerprint)
    identity = torch.zeros(model.num_identity)
    return Capture(folder, folder.name, reference, identity, None, track, frames, split_at_share(num))


if __name__ == "__main__":
    from partnerface_ns.capture.images import load_image
    from partnerface_ns.capture.vhap_writer import write_vhap

    capture = read_capture(Path(sys.argv[1]))
    images = (load_image(frame, (1.0, 1.0, 1.0)) for frame in capture.frames)
    write_vhap(Path(sys.argv[2]), capture, load_open_head(), images)
    print(f"{len(capture.frames)} frames in {sys.argv[2]}, which ns-train reads")
