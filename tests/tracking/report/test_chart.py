"""The chart of a track's errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partnerface_ns.tracking.fit.photometric.alignment import PhotometricResiduals
from partnerface_ns.tracking.report.chart import draw_quality
from partnerface_ns.tracking.report.quality import TrackErrors

RESIDUALS = PhotometricResiduals(*torch.rand(5, 20))


@pytest.mark.parametrize("images", [None, RESIDUALS], ids=["landmarks only", "with images"])
def test_chart(tmp_path, images):
    errors = TrackErrors(torch.rand(20, 478), torch.rand(20), 0.1, images)
    draw_quality(errors, np.arange(20) / 25, tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 5000 and len(list(tmp_path.iterdir())) == 1
