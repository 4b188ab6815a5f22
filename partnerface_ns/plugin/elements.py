"""Viewer controls that know which page changed them, and folders of controls.

nerfstudio's elements drop viser's event. The event holds the page on which a person changed a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerDropdown,
    ViewerElement,
    ViewerRGB,
    ViewerSlider,
)
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
    """A control whose hook is called for changes by persons only. Subclasses name it before nerfstudio's element.

    Changes by the program neither call the hook nor render the page again.
    """

    page: ClientHandle | None = None
    """The page on which a person changed the element last."""
    before_change: Callable[[], None] = staticmethod(lambda: None)
    """Called before a person's change is handled, because its handling waits for images that are being rendered."""
    folder: PageFolder | None = None
    """The folder that calls the element's hook."""

    def install(self, viser_server: ViserServer) -> None:
        """Create the control with a single callback. Of several, viser may skip one when the program sets a value."""
        self._create_gui_handle(viser_server)
        handle: Any = self.gui_handle
        (handle.on_click if isinstance(self, ViewerButton) else handle.on_update)(self._handle_event)

    def show(self, visible: bool) -> None:
        """Show or hide the control, also before it is created."""
        self.visible = visible
        if self.gui_handle is not None:
            self.gui_handle.visible = visible

    def _handle_event(self, event: Any) -> None:
        if event.client is None:
            return
        self.page = event.client
        self.before_change()
        (self if self.folder is None else self.folder).cb_hook(self)


class PageButton(PageElement, ViewerButton):
    """A button."""


class PageCheckbox(PageElement, ViewerCheckbox):
    """A checkbox."""


class PageDropdown(PageElement, ViewerDropdown):
    """A dropdown."""


class PageColor(PageElement, ViewerRGB):
    """A colour, red, green and blue from 0 to 255."""


class PageSlider(PageElement, ViewerSlider):
    """A slider with its ends as labels. viser's own labels are whole numbers."""

    marks: tuple[float, ...] = ()
    """Values that are marked between the ends."""

    def _create_gui_handle(self, viser_server: ViserServer) -> None:
        ends = tuple((end, f"{end:g}") for end in (self.min, self.max))
        between = tuple(mark for mark in self.marks if self.min < mark < self.max)
        self.gui_handle = viser_server.gui.add_slider(
            self.name,
            self.min,
            self.max,
            self.step,
            self.default_value,
            marks=(*ends, *between),
            visible=self.visible,
            hint=self.hint,
        )


class PageFolder(ViewerElement):
    """A folder that a page can open and close. nerfstudio sees one control, whose hook any control in it calls."""

    def __init__(self, name: str, elements: Iterable[PageElement], is_open: bool = False) -> None:
        """
        Args:
            name: the title.
            elements: the controls in the folder.
            is_open: whether the folder is open on a new page.
        """
        super().__init__(name, cb_hook=lambda element: element.cb_hook(element))
        self._elements, self._is_open = tuple(elements), is_open
        for element in self._elements:
            element.folder = self

    def __iter__(self) -> Iterator[PageElement]:
        return iter(self._elements)

    def install(self, viser_server: ViserServer) -> None:
        """Create the folder and its controls."""
        with viser_server.gui.add_folder(self.name, expand_by_default=self._is_open):
            for element in self._elements:
                element.install(viser_server)
