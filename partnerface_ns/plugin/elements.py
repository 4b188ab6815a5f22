"""Viewer controls that know which page changed them, and folders that keep the order of their controls.

nerfstudio's elements drop viser's event. The event holds the page on which a person changed a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerCheckbox, ViewerDropdown, ViewerElement, ViewerSlider
from torch import nn
from viser import ClientHandle, ViserServer


class ControlFolder(nn.Module):
    """Controls that a viewer shows in one folder."""

    def show_in_order(self, elements: Iterable[ViewerElement]) -> None:
        """Set the order of the controls on the page.

        nerfstudio searches a module's public attributes in alphabetical order and takes an element where it finds it
        first. These names come before all others, because upper case sorts before lower case.
        """
        for index, element in enumerate(elements):
            setattr(self, f"CONTROL_{index:02d}", element)


class PageElement(ViewerElement):
    """Keeps the page of the newest event. It comes before the element's own class among the bases."""

    page: ClientHandle | None = None
    """The page on which a person changed the element last; None if the program did."""
    before_change: Callable[[], None] = staticmethod(lambda: None)
    """Called before a person's change is handled, which waits for images that are being rendered."""

    def install(self, viser_server: ViserServer) -> None:
        """Create the control with a single callback. Of several, viser may skip one when the program sets a value."""
        self._create_gui_handle(viser_server)
        handle: Any = self.gui_handle
        (handle.on_click if isinstance(self, ViewerButton) else handle.on_update)(self._handle_event)

    def _handle_event(self, event: Any) -> None:
        self.page = event.client
        if self.page is not None:
            self.before_change()
        self.cb_hook(self)


class PageButton(PageElement, ViewerButton):
    """A button."""


class PageCheckbox(PageElement, ViewerCheckbox):
    """A checkbox."""


class PageDropdown(PageElement, ViewerDropdown):
    """A dropdown."""


class PageSlider(PageElement, ViewerSlider):
    """A slider with its ends as labels. viser's own labels are whole numbers."""

    marks: tuple[float, ...] = ()
    """Values that are marked between the ends."""

    def _create_gui_handle(self, viser_server: ViserServer) -> None:
        ends = tuple((end, f"{end:g}") for end in (self.min, self.max))
        between = tuple(mark for mark in self.marks if self.min < mark < self.max)
        self.gui_handle = viser_server.gui.add_slider(
            self.name, self.min, self.max, self.step, self.default_value, marks=(*ends, *between), hint=self.hint
        )
