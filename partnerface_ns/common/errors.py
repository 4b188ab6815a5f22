"""The one exception type for data that a user gave and that cannot be used."""

from __future__ import annotations

from functools import partial
from pathlib import Path


class InputError(Exception):
    """Input that cannot be used; its message says where, what was expected and what was found.

    The command line prints the message alone (no traceback) and exits with code 1.

    Args:
        source: the file or folder at fault.
        problem: one sentence on what is wrong.
        key: the entry inside the file, if one is at fault.
        expected: what would have been right.
        found: what is there instead.
        hint: what the user can do about it.
    """

    def __init__(
        self,
        source: Path | str,
        problem: str,
        *,
        key: str | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.source, self.problem, self.key = str(source), problem, key
        self.expected, self.found, self.hint = expected, found, hint
        where = self.source if key is None else f"{self.source} [{key}]"
        parts = [f"{where}: {problem}"]
        if expected is not None:
            parts.append(f"  expected: {expected}")
        if found is not None:
            parts.append(f"  found:    {found}")
        if hint is not None:
            parts.append(f"  hint:     {hint}")
        super().__init__("\n".join(parts))

    def __reduce__(self) -> tuple[partial[InputError], tuple[()]]:
        """As another process gets it; what was expected and found goes as it is shown."""
        details = {"key": self.key, "expected": self.expected, "found": self.found, "hint": self.hint}
        told = {name: str(value) for name, value in details.items() if value is not None}
        return partial(InputError, self.source, self.problem, **told), ()
