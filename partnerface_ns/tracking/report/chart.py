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

    num_rows = 2 if errors.images is None else 3
    figure, axes = plt.subplots(num_rows, 1, figsize=(10, 3 * num_rows), sharex=True, constrained_layout=True)
    top, bottom = axes[:2]
    groups = {"all landmarks": slice(None), "lips": list(LIPS), "eyes": [*EYE_LEFT, *EYE_RIGHT]}
    for name, index in groups.items():
        top.plot(times, errors.landmarks[:, index].median(-1).values, label=name, linewidth=1)
    worst = errors.landmarks.mean(-1).topk(min(3, len(times))).indices.numpy()
    top.plot(times[worst], errors.landmarks.mean(-1)[worst], "kv", label="worst frames (mean)")
    top.set_ylabel("landmark error, px at 512")
    measured = np.isfinite(errors.silhouette.numpy())
    bottom.plot(times[measured], errors.silhouette.numpy()[measured], color="tab:brown", linewidth=1)
    bottom.set_ylabel("silhouette error, px at 512")
    if errors.images is not None:
        axes[2].plot(times, errors.images.before, label="before the photometric fit", linewidth=1)
        axes[2].plot(times, errors.images.after, label="after it", linewidth=1)
        axes[2].set_ylabel("image residual, of 255")
        axes[2].legend(fontsize=8)
    axes[-1].set_xlabel("seconds")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    top.legend(fontsize=8)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.png")
    figure.savefig(partial, dpi=100)
    plt.close(figure)
    os.replace(partial, path)
