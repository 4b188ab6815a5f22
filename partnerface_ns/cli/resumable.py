"""The folder of a long command that can be stopped and repeated. A record in it holds the options and what is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerface_ns.common.errors import InputError
from partnerface_ns.common.files import require_writable
from partnerface_ns.common.json_file import write_json

if TYPE_CHECKING:
    from partnerface_ns.capture.json_object import JsonObject


@dataclass(frozen=True)
class ResumableFolder:
    """The folder of one command, with the record `COMMAND.json`."""

    folder: Path
    command: str
    """The command's name, for the record and for messages."""

    @property
    def record_path(self) -> Path:
        return self.folder / f"{self.command}.json"

    def claim(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            InputError: the folder holds something else, or is not writable.
        """
        from partnerface_ns.capture.writing import is_free

        taken = self.folder.exists() and (not self.folder.is_dir() or not is_free(self.folder))
        if taken and not self.record_path.is_file():
            expected = f"a new or empty folder, or that of a stopped {self.command}"
            raise InputError(self.folder, "is in use", expected=expected)
        require_writable(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self) -> JsonObject | None:
        """The record; None if there is none yet."""
        from partnerface_ns.capture.json_object import JsonObject

        return JsonObject.read(self.record_path) if self.record_path.is_file() else None

    def write(self, record: Mapping[str, Any]) -> None:
        """Replace the record."""
        write_json(self.record_path, record)

    def require_same_options(self, recorded: object, options: Mapping[str, Any]) -> None:
        """Check that the folder belongs to these options.

        Raises:
            InputError: the recorded options are others.
        """
        if recorded != options:
            raise InputError(
                self.record_path,
                f"the folder holds a {self.command} with other options",
                key="options",
                expected=_command_line(options),
                actual=_command_line(recorded),
                hint="repeat the options of the folder, or choose another folder",
            )

    @contextmanager
    def announce_stop(self) -> Iterator[None]:
        """Print, after Ctrl-C, that the same command resumes.

        Raises:
            KeyboardInterrupt: in place of the exit by which the trainer ends after Ctrl-C.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, SystemExit) and stop.code != 130:
                raise
            print(f"\nFinished parts are in {self.folder}; the same command continues from there.")
            raise KeyboardInterrupt from None


def _command_line(options: object) -> str:
    """Options as written on the command line, without those that are not set."""
    pairs = options.items() if isinstance(options, Mapping) else ()
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in pairs if value is not None)
