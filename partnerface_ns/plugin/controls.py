"""The viewer's face controls: sliders for expressions, jaw, gaze and head rotation, used instead of the tracked motion.

A slider is a channel of `driving/rig.py`, which is zero at the person's measured neutral face. Expressions can be saved
by name in the run folder's `expressions.json`, with the channels of keyframes. All browsers of a viewer share the
sliders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.viewer.viewer_elements import ViewerText
from torch import Tensor

from partnerface_ns.avatar.file_format import AvatarInfo
from partnerface_ns.driving.motion import motion_of_channels
from partnerface_ns.driving.retarget import retarget
from partnerface_ns.driving.rig import Rig
from partnerface_ns.flame.head_model import HeadModel
from partnerface_ns.flame.posing import ShapedHead
from partnerface_ns.flame.state import HeadState
from partnerface_ns.plugin.elements import ControlFolder, PageButton, PageCheckbox, PageDropdown, PageFolder
from partnerface_ns.plugin.expressions import UNNAMED, Expressions
from partnerface_ns.plugin.sliders import HEAD, ChannelSlider, channels_by_folder, sides_of

TRACKED, SLIDERS = "tracked", "sliders"


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
        self._expressions = Expressions()
        self.motion = PageDropdown(
            "Motion",
            TRACKED,
            [TRACKED, SLIDERS],
            hint="The tracked video's motion, or the sliders",
            cb_hook=self._on_motion,
        )
        self.expression = PageDropdown("Expression", UNNAMED, self._names, cb_hook=self._on_expression)
        self.reset = PageButton("Reset", cb_hook=lambda _: self.set_channels({}, "neutral"))
        self.apart = PageCheckbox(
            "Left and right apart",
            False,
            hint="A slider for each side of the face. Left is the person's left",
            cb_hook=lambda checkbox: self._set_apart(checkbox.value),
        )
        folders = self._create_sliders()
        self.save_name = ViewerText("Name", "mine", hint="Name under which the sliders are saved")
        self.save_button = PageButton("Save this expression", cb_hook=lambda _: self.save(self.save_name.value))
        self.delete_button = PageButton("Delete this expression", cb_hook=lambda _: self.delete(), visible=False)
        before = [self.motion, self.expression, self.reset, self.apart]
        self.show_in_order([*before, *folders, self.save_name, self.save_button, self.delete_button])

    def _create_sliders(self) -> list[PageFolder]:
        """Create all sliders, and the folders that hold them."""
        self._sliders: dict[str, ChannelSlider] = {}
        self._pairs: dict[str, tuple[str, ...]] = {}
        folders = []
        for title, names in channels_by_folder(self._model).items():
            before = len(self._sliders)
            for name, sides in names.items():
                self._add_slider(name)
                for side in sides:
                    self._add_slider(side, visible=False)
            self._pairs |= {name: sides for name, sides in names.items() if sides}
            folders.append(PageFolder(title, list(self._sliders.values())[before:], is_open=title == HEAD))
        return folders

    def _add_slider(self, name: str, visible: bool = True) -> None:
        self._sliders[name] = ChannelSlider(name, self._training_range(name), self._on_slider, visible)

    @property
    def _names(self) -> list[str]:
        """Entries of the dropdown. The first is shown while the sliders match no name: each can be selected."""
        return [UNNAMED, *self._expressions.names]

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
        """Move all sliders. Values for one side of the face show the sliders of each side.

        Args:
            channels: values by name. Other sliders go to rest, and channels without a slider are ignored.
            name: the expression's name in the dropdown.
        """
        if any(side in channels for sides in self._pairs.values() for side in sides):
            self._show_sides(True)
        self._move_sliders(channels)
        self.motion.value = SLIDERS
        self._show_name(name)

    def _move_sliders(self, channels: Mapping[str, float]) -> None:
        values = dict(channels)
        if self.apart.value:
            for both, sides in self._pairs.items():
                common = values.pop(both, 0.0)
                values |= {side: values.get(side, 0.0) + common for side in sides}
        for channel, slider in self._sliders.items():
            value = min(slider.max, max(slider.min, float(values.get(channel, 0.0))))
            if slider.value != value:
                slider.value = value

    def _set_apart(self, apart: bool) -> None:
        """Show the sliders of each side with the same face, or those of both sides with the mean of the sides."""
        channels = self.channels
        if not apart:
            for both, sides in self._pairs.items():
                channels[both] = sum(channels.pop(side, 0.0) for side in sides) / 2
        self._show_sides(apart)
        self._move_sliders(channels)
        if not apart:
            self._show_name(UNNAMED)

    def _show_sides(self, apart: bool) -> None:
        self.apart.value = apart
        for both, sides in self._pairs.items():
            self._sliders[both].show(not apart)
            for side in sides:
                self._sliders[side].show(apart)

    # -- named expressions ---------------------------------------------------------------------------------------

    def use_folder(self, folder: Path) -> None:
        """Save expressions in this run folder, and offer those saved there before.

        Raises:
            InputError: the file of saved expressions cannot be read.
        """
        self._expressions.use_folder(folder)
        self.expression.set_options(self._names)

    def save(self, name: str) -> None:
        """Save the sliders' values under a name, in the run folder if there is one."""
        self.save_name.value = name = self._expressions.save(name, self.channels)
        self.expression.set_options(self._names)
        if self.shown_channels is not None:
            self._show_name(name)

    def delete(self) -> None:
        """Delete the saved expression that the dropdown shows. The sliders stay."""
        name = self.expression.value
        if self._expressions.is_saved(name):
            self._show_name(UNNAMED)
            self._expressions.delete(name)
            self.expression.set_options(self._names)

    def _show_name(self, name: str) -> None:
        if self.expression.value != name:
            self.expression.value = name
        self.delete_button.show(self._expressions.is_saved(name))

    def show_tracked(self) -> None:
        """Show the tracked motion again."""
        if self.motion.value != TRACKED:
            self.motion.value = TRACKED
            self._show_name(UNNAMED)

    # -- changes by a person -------------------------------------------------------------------------------------

    def _on_expression(self, dropdown: Any) -> None:
        if dropdown.value == UNNAMED:
            self._show_name(UNNAMED)
        else:
            self.set_channels(self._expressions[dropdown.value], dropdown.value)

    def _on_slider(self, _: Any) -> None:
        self.motion.value = SLIDERS
        self._show_name(UNNAMED)

    def _on_motion(self, dropdown: Any) -> None:
        if dropdown.value == TRACKED:
            self._show_name(UNNAMED)

    def _training_range(self, name: str) -> tuple[float, float] | None:
        """Range of a channel in training, relative to the neutral face; None if the head model does not name it."""
        info = self._info
        names = self._model.expression_names
        index = [names.index(side) for side in (name, *sides_of(name)) if side in names]
        if name == "jaw":
            ends = ((end.jaw - info.neutral.jaw)[0] for end in (info.lowest, info.highest))
        elif index:
            ends = ((end.expression - info.neutral.expression)[index].mean() for end in (info.lowest, info.highest))
        else:
            return None
        low, high = (round(float(end), 2) + 0.0 for end in ends)  # + 0.0 turns -0.0 into 0.0
        return low, high
