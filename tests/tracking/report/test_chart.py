"""The chart of a track's errors."""

from __future__ import annotations

import numpy as np
import torch

from partnerface_ns.tracking.report.chart import draw_quality
from partnerface_ns.tracking.report.quality import TrackErrors


def test_chart(tmp_path):
    errors = TrackErrors(torch.rand(20, 478), torch.rand(20), 0.1)
    draw_quality(errors, np.arange(20) / 25, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 5000 and len(list(tmp_path.iterdir())) == 1
