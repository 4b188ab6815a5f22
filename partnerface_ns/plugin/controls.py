"""The viewer's sliders: expression, jaw, gaze and head rotation, used instead of the tracked motion.

A slider is a channel of `driving/rig.py`, which is zero at the person's measured neutral face. Expressions can be saved
by name in the run folder's `expressions.json`, with the channels of keyframes. All browsers of a viewer share the
sliders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import ViewerText
from torch import Tensor

from partnerface_ns.avatar.file_format import AvatarInfo
from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.common.atomic import write_text
from partnerface_ns.driving.motion import motion_of_channels
from partnerface_ns.driving.retarget import retarget
from partnerface_ns.driving.rig import Rig
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.neutral import direction_sizes
from partnerface_ns.flame.open_head import load_open_head
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.plugin.elements import ControlFolder, PageButton, PageDropdown, PageSlider

SAVED_NAME = "expressions.json"
"""File in the run folder that holds the saved expressions."""
TRACKED, SLIDERS = "tracked", "sliders"
UNNAMED = "-"
"""Entry of the dropdown while no named expression is shown. It makes every named expression selectable."""
PRESETS: Mapping[str, Mapping[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.4, "smile": 1.0},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.8, "jaw": 0.18},
}
"""Channels of each preset. Channels that a head does not have are ignored."""
_NUM_EXPRESSIONS = 12
_ALWAYS = ("mouthSmile", "cheekSquint", "browInnerUp", "browOuterUp", "eyeWide", "eyeBlink")
"""Expressions that always get a slider, even if they move few vertices."""
_POSES = {"jaw": (0.0, 0.4), "gaze_yaw": (-0.5, 0.5), "gaze_pitch": (-0.35, 0.35)}
_TURNS = {"yaw": (-0.6, 0.6), "pitch": (-0.4, 0.4), "roll": (-0.4, 0.4)}
"""Ranges of the sliders, radians."""


class HeadControls(ControlFolder):
    """Sliders for one person."""

    def __init__(self, model: HeadModel, info: AvatarInfo, verts_rest: Callable[[], Float[Tensor, "verts 3"]]) -> None:
        """
        Args:
            model: the head model, on the CPU.
            info: gives the neutral state and the ranges of training.
            verts_rest: returns the person's rest vertices in metres. A checkpoint may change them.
        """
        super().__init__()
        self._model, self._info, self._verts_rest = model, info, verts_rest
        self._rig = Rig(model)
        self._saved_path: Path | None = None
        self._presets = {name: dict(channels) for name, channels in PRESETS.items()}
        self.motion = PageDropdown(
            "Motion",
            TRACKED,
            [TRACKED, SLIDERS],
            hint="The tracked video's motion, or the sliders",
            cb_hook=self._on_motion,
        )
        self.expression = PageDropdown("Expression", UNNAMED, self._names, cb_hook=self._on_expression)
        self.reset = PageButton("Reset", cb_hook=lambda _: self.set_channels({}, "neutral"))
        ranges = dict.fromkeys(strongest_expressions(model), (0.0, 1.0)) | _POSES | _TURNS
        self._sliders = {
            name: ChannelSlider(name, ends, self._training_range(name), self._on_slider)
            for name, ends in ranges.items()
        }
        self.save_name = ViewerText("Name", "mine", hint="Name under which the sliders are saved")
        self.save_button = PageButton("Save this expression", cb_hook=lambda _: self.save(self.save_name.value))
        before, after = [self.motion, self.expression, self.reset], [self.save_name, self.save_button]
        self.show_in_order([*before, *self._sliders.values(), *after])

    @property
    def _names(self) -> list[str]:
        return [UNNAMED, *self._presets]

    @property
    def channels(self) -> dict[str, float]:
        """Values of the sliders that are not at rest."""
        return {name: float(slider.value) for name, slider in self._sliders.items() if slider.value}

    @property
    def shown_channels(self) -> tuple[tuple[str, float], ...] | None:
        """The sliders' channels; None while the tracked motion is shown."""
        return tuple(self.channels.items()) if self.motion.value == SLIDERS else None

    def state(self, channels: tuple[tuple[str, float], ...]) -> HeadState:
        """The head state of channels, batch axes (1,), on the CPU."""
        values = {name: np.array([value]) for name, value in channels} or {"jaw": np.zeros(1)}
        motion = motion_of_channels(values, 1.0, self._rig, Path("viewer"))
        head = ShapedHead(self._model, self._verts_rest().cpu())
        return retarget(motion, head, self._info.neutral)[0]

    def set_channels(self, channels: Mapping[str, float], name: str = UNNAMED) -> None:
        """Move all sliders.

        Args:
            channels: values by name. Other sliders go to rest, and channels without a slider are ignored.
            name: the expression's name in the dropdown.
        """
        for channel, slider in self._sliders.items():
            slider.value = min(slider.max, max(slider.min, float(channels.get(channel, 0.0))))
        self.motion.value = SLIDERS
        self._show_name(name)

    def _show_name(self, name: str) -> None:
        if self.expression.value != name:
            self.expression.value = name

    def use_folder(self, folder: Path) -> None:
        """Save expressions in this run folder, and offer those saved there before.

        Raises:
            InputError: the file of saved expressions cannot be read.
        """
        self._saved_path = folder / SAVED_NAME
        if self._saved_path.is_file():
            saved = JsonObject.read(self._saved_path)
            for name in saved.values:
                channels = saved.child(name)
                self._presets[name] = {channel: channels.number(channel) for channel in channels.values}
            self.expression.set_options(self._names)

    def save(self, name: str) -> None:
        """Save the sliders' values under a name, in the run folder if there is one.

        A preset's name gets a number, so that the preset stays.
        """
        name = name.strip() or "mine"
        name = f"{name} 2" if name in (*PRESETS, UNNAMED) else name
        self.save_name.value = name
        self._presets[name] = self.channels
        self.expression.set_options(self._names)
        if self.shown_channels is not None:
            self._show_name(name)
        if self._saved_path is not None:
            saved = {key: value for key, value in self._presets.items() if key not in PRESETS}
            write_text(self._saved_path, json.dumps(saved, indent=2) + "\n")

    def show_tracked(self) -> None:
        """Show the tracked motion again."""
        if self.motion.value != TRACKED:
            self.motion.value = TRACKED
            self._show_name(UNNAMED)

    def _on_expression(self, dropdown: Any) -> None:
        if dropdown.page is not None and dropdown.value != UNNAMED:
            self.set_channels(self._presets[dropdown.value], dropdown.value)

    def _on_slider(self, slider: Any) -> None:
        if slider.page is not None:
            self.motion.value = SLIDERS
            self._show_name(UNNAMED)

    def _on_motion(self, dropdown: Any) -> None:
        if dropdown.value == TRACKED:
            self._show_name(UNNAMED)

    def _training_range(self, name: str) -> tuple[float, float] | None:
        """Range of a channel in training, relative to the neutral face; None if the head model does not name it."""
        info = self._info
        names = self._model.expression_names
        index = [names.index(side) for side in (name, f"{name}Left", f"{name}Right") if side in names]
        if name == "jaw":
            ends = ((end.jaw - info.neutral.jaw)[0] for end in (info.lowest, info.highest))
        elif index:
            ends = ((end.expression - info.neutral.expression)[index].mean() for end in (info.lowest, info.highest))
        else:
            return None
        low, high = (round(float(end), 2) + 0.0 for end in ends)  # + 0.0 turns -0.0 into 0.0
        return low, high


class ChannelSlider(PageSlider):
    """A slider of a channel. It starts at the neutral 0 and marks the range of training."""

    def __init__(
        self,
        name: str,
        ends: tuple[float, float],
        training_range: tuple[float, float] | None,
        on_change: Callable[[Any], None],
    ) -> None:
        """
        Args:
            name: the channel.
            ends: lowest and highest value.
            training_range: range of the channel in training; None if unknown.
            on_change: called when the slider moves.
        """
        hint = "0 is this person's neutral face"
        if training_range is not None:
            low, high = training_range
            hint = f"Training saw {low:.2f} to {high:.2f}; {hint}"
            self.marks = tuple(sorted({min(ends[1], max(ends[0], end)) for end in training_range}))
        super().__init__(name, 0.0, *ends, 0.01, cb_hook=on_change, hint=hint)


def strongest_expressions(model: HeadModel, count: int = _NUM_EXPRESSIONS) -> list[str]:
    """Names of the expressions that move the face most, with both sides as one.

    A head model without expression names gets those of ARKit.
    """
    unnamed = all(name.startswith("expr_") for name in model.expression_names)
    named = load_open_head() if unnamed else model
    sizes: dict[str, float] = {}
    for name, size in zip(named.expression_names, direction_sizes(named).tolist(), strict=True):
        both = _both_sides(name, named.expression_names)
        sizes[both] = sizes.get(both, 0.0) + size
    ranked = sorted(sizes, key=lambda name: (name not in _ALWAYS, -sizes[name]))
    return sorted(ranked[:count])


def _both_sides(name: str, names: tuple[str, ...]) -> str:
    """The name without its side, if the expression exists for both sides of the face.

    `mouthLeft` and `mouthRight` move the whole mouth, so they stay separate.
    """
    base = name.removesuffix("Left").removesuffix("Right")
    is_pair = base != "mouth" and {f"{base}Left", f"{base}Right"} <= set(names)
    return base if is_pair else name
