"""High dynamic range and wide gamuts as BT.709: known light levels, matrices, the tone curve, the baked table."""

from __future__ import annotations

import numpy as np
import pytest

from partnerface_ns.tracking.video.decode.colour import GAMMA, Conversion, conversion_from_tags

PQ, HLG, BT709, BT2020, DISPLAY_P3 = 16, 18, 1, 9, 12


def grey(conversion: Conversion, signal: float) -> float:
    (value,) = set(np.round(conversion(np.full((1, 3), signal)).ravel(), 6))
    return value


@pytest.mark.parametrize("transfer, white", [(HLG, 0.75), (PQ, 0.5807)])
def test_diffuse_white_is_one_and_half_as_much_light_is_half(transfer, white):
    # BT.2408: diffuse white of 203 nits lies at 75% of HLG and at 58% of PQ.
    conversion = conversion_from_tags(transfer, BT2020)
    np.testing.assert_allclose(conversion.to_light(np.full(3, white)), 1, atol=0.01)
    assert 0.95 < grey(conversion, white) < 1, "white is nearly white, brighter light keeps a little room"


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_greys_increase_to_the_peak_and_dark_ones_are_unchanged(transfer):
    conversion = conversion_from_tags(transfer, BT2020)
    signals = np.linspace(0, 1, 200)
    shown = np.array([grey(conversion, s) for s in signals])
    assert (np.diff(shown) >= 0).all() and shown[0] == 0 and shown[-1] == 1
    light = conversion.to_light(signals[:, None].repeat(3, 1))[:, 0]
    dark = light < 0.8
    np.testing.assert_allclose(shown[dark], light[dark] ** (1 / GAMMA), atol=1e-3)


def test_bt2020_goes_to_bt709_by_the_published_matrix():
    # ITU-R BT.2087: linear BT.2020 to linear BT.709.
    published = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
    light = np.array([0.3, 0.25, 0.2])
    shown = conversion_from_tags(BT709, BT2020)(light ** (1 / GAMMA))
    np.testing.assert_allclose(shown**GAMMA, published @ light, atol=2e-4)


def test_srgb_red_in_display_p3_becomes_pure_red():
    # The red of sRGB has the Display P3 coordinates (234, 51, 35).
    shown = conversion_from_tags(BT709, DISPLAY_P3)(np.array([234, 51, 35]) / 255)
    np.testing.assert_allclose(shown, [1, 0, 0], atol=0.05)


def test_compression_preserves_the_hue():
    conversion = conversion_from_tags(PQ, BT709)
    bright = conversion.to_light(np.array([0.75, 0.7, 0.65]))
    shown = conversion(np.array([0.75, 0.7, 0.65])) ** GAMMA
    np.testing.assert_allclose(shown / shown.max(), bright / bright.max(), atol=1e-6)


@pytest.mark.parametrize("transfer, primaries", [(1, 1), (2, 2), (6, 6), (13, 1), (6, 5)])
def test_standard_colours_are_left_alone(transfer, primaries):
    assert conversion_from_tags(transfer, primaries) is None


def test_untagged_primaries_of_high_range_are_bt2020():
    assert conversion_from_tags(HLG, 2).primaries == conversion_from_tags(HLG, BT2020).primaries


def test_the_table_holds_the_conversion_red_fastest():
    conversion = conversion_from_tags(HLG, BT2020)
    size, *lines = conversion.table().splitlines()
    num = int(size.split()[1])
    table = np.array([line.split() for line in lines], dtype=float).reshape(num, num, num, 3)
    for blue, green, red in ((0, 0, 0), (3, 20, 40), (num - 1, 5, 30)):
        expected = conversion(np.array([[red, green, blue]]) / (num - 1))[0]
        np.testing.assert_allclose(table[blue, green, red], expected, atol=1e-5)
