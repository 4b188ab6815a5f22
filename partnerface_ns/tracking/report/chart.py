"""The chart of a track's errors over time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.tracking.report.quality import TrackErrors
from partnerface_ns.tracking.video.face_topology import EYE_LEFT, EYE_RIGHT, LIPS


def draw_quality(errors: TrackErrors, times: Float[np.ndarray, "frames"], path: Path) -> None:
    """Draw the errors over time as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), sharex=True, constrained_layout=True)
    groups = {"all landmarks": slice(None), "lips": list(LIPS), "eyes": [*EYE_LEFT, *EYE_RIGHT]}
    for name, index in groups.items():
        top.plot(times, errors.landmarks[:, index].median(-1).values, label=name, linewidth=1)
    worst = errors.landmarks.mean(-1).topk(min(3, len(times))).indices.numpy()
    top.plot(times[worst], errors.landmarks.mean(-1)[worst], "kv", label="worst frames (mean)")
    top.set_ylabel("landmark error, px at 512")
    measured = np.isfinite(errors.silhouette.numpy())
    bottom.plot(times[measured], errors.silhouette.numpy()[measured], color="tab:brown", linewidth=1)
    bottom.set_ylabel("silhouette error, px at 512")
    bottom.set_xlabel("seconds")
    for axis in (top, bottom):
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    top.legend(fontsize=8)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.png")
    figure.savefig(partial, dpi=100)
    plt.close(figure)
    os.replace(partial, path)
