"""What the benchmark's tests share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from partnerface_ns.training.presets import Preset, lite


@pytest.fixture
def small_preset() -> Callable[..., Preset]:
    """A preset that is made and trained in no time; takes what `lite` takes."""
    return _small


def _small(**changes: object) -> Preset:
    preset = lite(**changes)
    config = preset.avatar
    config.canonical.resolutions, config.canonical.num_channels, config.canonical.hidden = (16, 16), 2, 8
    config.parts.hidden = config.assigner.hidden = 8
    config.sampling.grid_resolution, config.sampling.num_samples = 16, 4
    config.sampling.update_every, config.everywhere_start = 1, 0.0  # so that few steps contain every piece
    config.displacement.shape, config.space.resolution = (16, 16, 16), 16
    return preset
