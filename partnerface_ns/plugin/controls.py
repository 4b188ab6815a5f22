"""The viewer's sliders: named expressions, jaw, gaze and head turn in place of the tracked motion.

A slider is a channel of `driving/rig.py`, zero at the person's measured neutral face. Expressions can be saved by
name: they lie in the run folder's `expressions.json`, in the channels of keyframes. nerfstudio finds the elements by a
scan of this module's public attributes and shows them in the order of their names. Sliders are shared by all browsers
of a viewer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import ViewerText
from torch import Tensor, nn

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
from partnerface_ns.plugin.elements import PageButton, PageDropdown, PageSlider

SAVED_NAME = "expressions.json"
"""File in the run folder that holds the saved expressions."""
TRACKED, SLIDERS = "tracked", "sliders"
UNNAMED = "-"
"""What the dropdown says where the page shows no named expression, so that each of them can be chosen."""
PRESETS: Mapping[str, Mapping[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.4, "smile": 1.0},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.8, "jaw": 0.18},
}
"""Channels that a head does not have are left out."""
_NUM_EXPRESSIONS = 12
_ALWAYS = ("mouthSmile", "cheekSquint", "browInnerUp", "browOuterUp", "eyeWide", "eyeBlink")
"""Expressions that get a slider however little they move."""
_POSES = {"jaw": (0.0, 0.4), "gaze_yaw": (-0.5, 0.5), "gaze_pitch": (-0.35, 0.35)}
_TURNS = {"yaw": (-0.6, 0.6), "pitch": (-0.4, 0.4), "roll": (-0.4, 0.4)}
"""Ranges of the sliders, radians."""


class HeadControls(nn.Module):
    """Sliders for one person."""

    def __init__(self, model: HeadModel, info: AvatarInfo, verts_rest: Callable[[], Float[Tensor, "verts 3"]]) -> None:
        """
        Args:
            model: the head model, on the CPU.
            info: gives the neutral state and what training saw.
            verts_rest: gives the person's rest vertices, metres, which a checkpoint may change.
        """
        super().__init__()
        self._model, self._info, self._verts_rest = model, info, verts_rest
        self._rig = Rig(model)
        self._saved_path: Path | None = None
        self._presets = {name: dict(channels) for name, channels in PRESETS.items()}
        self._sliders: dict[str, PageSlider] = {}
        self.a_motion = PageDropdown(
            "Motion",
            TRACKED,
            [TRACKED, SLIDERS],
            hint="The tracked video's motion, or the sliders",
            cb_hook=self._motion_chosen,
        )
        self.b_preset = PageDropdown("Expression", UNNAMED, self._options, cb_hook=self._show_preset)
        self.c_reset = PageButton("Reset", cb_hook=lambda _: self.set_channels({}, "neutral"))
        for place, name in enumerate(strongest_expressions(model)):
            self._add(f"d_{place:02d}", name, (0.0, 1.0))
        for place, (name, ends) in enumerate((_POSES | _TURNS).items()):
            self._add(f"e_{place:02d}", name, ends)
        self.f_name = ViewerText("Name", "mine", hint="Under which the sliders are saved")
        self.g_save = PageButton("Save this expression", cb_hook=lambda _: self.save(self.f_name.value))

    def _add(self, attribute: str, name: str, ends: tuple[float, float]) -> None:
        slider = SeenSlider(name, ends, self._seen(name), self._slider_moved)
        setattr(self, attribute, slider)
        self._sliders[name] = slider

    @property
    def _options(self) -> list[str]:
        return [UNNAMED, *self._presets]

    @property
    def channels(self) -> dict[str, float]:
        """What the sliders say, without those at rest."""
        return {name: float(slider.value) for name, slider in self._sliders.items() if slider.value}

    @property
    def asked(self) -> tuple[tuple[str, float], ...] | None:
        """The sliders' channels; None while the tracked motion is shown."""
        return tuple(self.channels.items()) if self.a_motion.value == SLIDERS else None

    def state(self, channels: tuple[tuple[str, float], ...]) -> HeadState:
        """The head state of some channels, batch axes (1,), on the CPU."""
        values = {name: np.array([value]) for name, value in channels} or {"jaw": np.zeros(1)}
        motion = motion_of_channels(values, 1.0, self._rig, Path("viewer"))
        head = ShapedHead(self._model, self._verts_rest().cpu())
        return retarget(motion, head, self._info.neutral)[0]

    def set_channels(self, channels: Mapping[str, float], name: str = UNNAMED) -> None:
        """Move the sliders: what is not given, or has no slider, goes to rest.

        Args:
            channels: values by name.
            name: of this expression, which the dropdown says.
        """
        for channel, slider in self._sliders.items():
            slider.value = min(slider.max, max(slider.min, float(channels.get(channel, 0.0))))
        self.a_motion.value = SLIDERS
        self._say(name)

    def _say(self, name: str) -> None:
        if self.b_preset.value != name:
            self.b_preset.value = name

    def use_folder(self, folder: Path) -> None:
        """Save expressions in this run folder, and offer those that lie there.

        Raises:
            InputError: its file of saved expressions cannot be read.
        """
        self._saved_path = folder / SAVED_NAME
        if self._saved_path.is_file():
            saved = JsonObject.read(self._saved_path)
            for name in saved.values:
                record = saved.child(name)
                self._presets[name] = {channel: record.number(channel) for channel in record.values}
            self.b_preset.set_options(self._options)

    def save(self, name: str) -> None:
        """Keep what the sliders say under a name, in the run folder where there is one.

        The presets' names stay theirs: a number is added to them.
        """
        name = name.strip() or "mine"
        name = f"{name} 2" if name in (*PRESETS, UNNAMED) else name
        self.f_name.value = name
        self._presets[name] = self.channels
        self.b_preset.set_options(self._options)
        if self.asked is not None:
            self._say(name)
        if self._saved_path is not None:
            saved = {key: value for key, value in self._presets.items() if key not in PRESETS}
            write_text(self._saved_path, json.dumps(saved, indent=2) + "\n")

    def _show_preset(self, element: Any) -> None:
        if element.page is not None and element.value != UNNAMED:
            self.set_channels(self._presets[element.value], element.value)

    def _slider_moved(self, element: Any) -> None:
        if element.page is not None:
            self.a_motion.value = SLIDERS
            self._say(UNNAMED)

    def _motion_chosen(self, element: Any) -> None:
        if element.value == TRACKED:
            self._say(UNNAMED)

    def show_tracked(self) -> None:
        """Show the tracked motion again: someone asked for one of its frames."""
        if self.a_motion.value != TRACKED:
            self.a_motion.value = TRACKED
            self._say(UNNAMED)

    def _seen(self, name: str) -> tuple[float, float] | None:
        """What training saw of a channel, from the neutral face on, as far as the head model names it."""
        info = self._info
        names = self._model.expression_names
        index = [names.index(side) for side in (name, f"{name}Left", f"{name}Right") if side in names]
        if name == "jaw":
            ends = ((end.jaw - info.neutral.jaw)[0] for end in (info.lowest, info.highest))
        elif index:
            ends = ((end.expression - info.neutral.expression)[index].mean() for end in (info.lowest, info.highest))
        else:
            return None
        low, high = (round(float(end), 2) + 0.0 for end in ends)  # no minus before a zero
        return low, high


class SeenSlider(PageSlider):
    """A slider from a neutral 0 that marks what training saw."""

    def __init__(
        self,
        name: str,
        ends: tuple[float, float],
        seen: tuple[float, float] | None,
        moved: Callable[[Any], None],
    ) -> None:
        """
        Args:
            ends: of the slider.
            seen: range of training, where it is known.
            moved: called when the slider moves.
        """
        hint = "0 is this person's neutral face"
        if seen is not None:
            hint = f"Training saw {seen[0]:.2f} to {seen[1]:.2f}; {hint}"
            self.marks = tuple(sorted({min(ends[1], max(ends[0], end)) for end in seen}))
        super().__init__(name, 0.0, *ends, 0.01, cb_hook=moved, hint=hint)


def strongest_expressions(model: HeadModel, count: int = _NUM_EXPRESSIONS) -> list[str]:
    """Names of the expressions that move the face most, both sides in one; ARKit's where there are no names."""
    unnamed = all(name.startswith("expr_") for name in model.expression_names)
    named = load_open_head() if unnamed else model
    sizes: dict[str, float] = {}
    for name, size in zip(named.expression_names, direction_sizes(named).tolist(), strict=True):
        both = _both_sides(name, named.expression_names)
        sizes[both] = sizes.get(both, 0.0) + size
    ranked = sorted(sizes, key=lambda name: (name not in _ALWAYS, -sizes[name]))
    return sorted(ranked[:count])


def _both_sides(name: str, names: tuple[str, ...]) -> str:
    """The name without its side, if there is one for each side that moves that side of the face."""
    base = name.removesuffix("Left").removesuffix("Right")
    one_face_each = base != "mouth" and {f"{base}Left", f"{base}Right"} <= set(names)
    return base if one_face_each else name
