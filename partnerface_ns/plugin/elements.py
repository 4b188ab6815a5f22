"""Controls of a viewer page that know which page used them.

nerfstudio's own elements drop viser's event. Its client tells a person's change from the program's, and one page from
another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nerfstudio.viewer.viewer_elements import ViewerButton, ViewerCheckbox, ViewerDropdown, ViewerElement, ViewerSlider
from viser import ClientHandle, ViserServer


class FromPage(ViewerElement):
    """Keeps the page of the newest event; it stands before the element's own class."""

    page: ClientHandle | None = None
    """The page that changed the element last; None where the program did."""
    hurry: Callable[[], None] = staticmethod(lambda: None)
    """Called before a person's change is followed, which waits for images that are being rendered."""

    def install(self, viser_server: ViserServer) -> None:
        # One callback alone: viser may leave out one of several when the program sets a value.
        self._create_gui_handle(viser_server)
        handle: Any = self.gui_handle
        (handle.on_click if isinstance(self, ViewerButton) else handle.on_update)(self._changed)

    def _changed(self, event: Any) -> None:
        self.page = event.client
        if self.page is not None:
            self.hurry()
        self.cb_hook(self)


class PageButton(FromPage, ViewerButton):
    """A button."""


class PageCheckbox(FromPage, ViewerCheckbox):
    """A checkbox."""


class PageDropdown(FromPage, ViewerDropdown):
    """A dropdown."""


class PageSlider(FromPage, ViewerSlider):
    """A slider whose ends are labelled as they are; viser itself labels them with whole numbers only."""

    marks: tuple[float, ...] = ()
    """Values that are marked between the ends."""

    def _create_gui_handle(self, viser_server: ViserServer) -> None:
        ends = tuple((end, f"{end:g}") for end in (self.min, self.max))
        between = tuple(mark for mark in self.marks if self.min < mark < self.max)
        self.gui_handle = viser_server.gui.add_slider(
            self.name, self.min, self.max, self.step, self.default_value, marks=(*ends, *between), hint=self.hint
        )
