"""Sliders of the viewer: one for each channel of `driving/rig.py`, in folders by region of the face.

A channel of both sides (`mouthSmile`) has three sliders: one for both sides, and one for each. Either the first or the
other two are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any

from partnerface_ns.driving.rig import arkit_names
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import direction_sizes
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.plugin.elements import PageSlider

HEAD = "Head"
_REGIONS = {
    "Mouth": "mouth",
    "Jaw and tongue": "jaw|tongue",
    "Eyes": "eye(?!Look)",
    "Gaze of each eye": "eyeLook",
    "Brows": "brow",
    "Cheeks and nose": "cheek|nose",
    "Other": "",
}
"""Folders of expressions: a name belongs to the first whose pattern it begins with."""
_JOINTS = {
    "yaw": ("Turn left", -0.6, 0.6),
    "pitch": ("Turn down", -0.4, 0.4),
    "roll": ("Left side up", -0.4, 0.4),
    "jaw": ("Open jaw", 0.0, 0.4),
    "gaze_yaw": ("Look left", -0.5, 0.5),
    "gaze_pitch": ("Look down", -0.35, 0.35),
}
"""Channels in radians: label, lowest and highest value."""


class ChannelSlider(PageSlider):
    """A slider of a channel. It starts at the neutral 0 and marks the range of training."""

    def __init__(
        self, name: str, training_range: tuple[float, float] | None, on_change: Callable[[Any], None], visible: bool
    ) -> None:
        """
        Args:
            name: the channel.
            training_range: range of the channel in training; None if unknown.
            on_change: called when a person moves the slider.
            visible: whether the slider is shown at first.
        """
        label, low, high = _JOINTS.get(name, (readable(name), 0.0, 1.0))
        hint = f"{name}: 0 is this person's neutral face"
        if training_range is not None:
            hint += f"; training saw {training_range[0]:.2f} to {training_range[1]:.2f}"
            self.marks = tuple(sorted({min(high, max(low, end)) for end in training_range}))
        super().__init__(label, 0.0, low, high, 0.01, visible=visible, cb_hook=on_change, hint=hint)


def channels_by_folder(model: HeadModel) -> dict[str, dict[str, tuple[str, ...]]]:
    """Channels of each folder: names for both sides of the face, with the names of each side if there are any.

    Expressions that move the face most come first. A head model without expression names gets those of ARKit.
    """
    unnamed = all(name.startswith("expr_") for name in model.expression_names)
    named = load_open_head() if unnamed else model
    joints = (name for name in arkit_names() if name.startswith(("jaw", "eyeLook")) and name != "jawOpen")
    sizes = dict.fromkeys(joints, 0.0)
    sizes |= zip(named.expression_names, direction_sizes(named).tolist(), strict=True)
    folders: dict[str, dict[str, tuple[str, ...]]] = {HEAD: dict.fromkeys(_JOINTS, ())}
    folders |= {folder: {} for folder in _REGIONS}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        both, sides = _join_sides(name, sizes)
        folders[next(folder for folder, pattern in _REGIONS.items() if re.match(pattern, both))][both] = sides
    return {folder: names for folder, names in folders.items() if names}


def _join_sides(name: str, names: Container[str]) -> tuple[str, tuple[str, ...]]:
    """The name without its side and the names of both sides, if the expression exists for both; else the name alone.

    `mouthLeft` and `mouthRight` move the whole mouth, and `jawLeft` and `jawRight` the jaw, so they stay separate.
    """
    base = name.removesuffix("Left").removesuffix("Right")
    is_pair = base not in ("mouth", "jaw") and all(side in names for side in sides_of(base))
    return (base, sides_of(base)) if is_pair else (name, ())


def sides_of(name: str) -> tuple[str, str]:
    """Names of the two sides of an expression."""
    return f"{name}Left", f"{name}Right"


def readable(name: str) -> str:
    """A label without the region: "Smile left" of `mouthSmileLeft`, but "Mouth left" of `mouthLeft`."""
    words = re.sub("([A-Z])", r" \1", name).lower().split()
    if len(words) > 1 and words[1:] not in (["left"], ["right"]) and words[0] not in ("jaw", "tongue"):
        words = words[1:]
    return " ".join(words).capitalize()
