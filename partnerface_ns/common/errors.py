"""The exception type for user data that cannot be used, and short texts for its messages."""

from __future__ import annotations

from functools import partial
from pathlib import Path


class InputError(Exception):
    """User data that cannot be used. The message names file, key, expected and found value.

    The command line prints the message without a traceback and exits with code 1.

    Args:
        source: the file or folder at fault.
        problem: one sentence about the fault.
        key: the entry inside the file, if one is at fault.
        expected: a valid value or its description.
        actual: the value that was found.
        hint: advice for the user.
    """

    def __init__(
        self,
        source: Path | str,
        problem: str,
        *,
        key: str | None = None,
        expected: object = None,
        actual: object = None,
        hint: str | None = None,
    ) -> None:
        self.source, self.problem, self.key = str(source), problem, key
        self.expected, self.actual, self.hint = expected, actual, hint
        where = self.source if key is None else f"{self.source} [{key}]"
        parts = [f"{where}: {problem}"]
        if expected is not None:
            parts.append(f"  expected: {expected}")
        if actual is not None:
            parts.append(f"  found:    {actual}")
        if hint is not None:
            parts.append(f"  hint:     {hint}")
        super().__init__("\n".join(parts))

    def __reduce__(self) -> tuple[partial[InputError], tuple[()]]:
        """Pickles the error for another process; expected and found values become text."""
        details = {"key": self.key, "expected": self.expected, "actual": self.actual, "hint": self.hint}
        texts = {name: str(value) for name, value in details.items() if value is not None}
        return partial(InputError, self.source, self.problem, **texts), ()


def shorten(value: object, length: int = 120) -> str:
    """The value as one printable line of at most `length` characters, for messages."""
    if isinstance(value, (list, dict, tuple, set)):  # their text can be huge or nested without end
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a very large number"
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(value)[: 16 * length].split()))
    return text if len(text) <= length else text[: length - 3] + "..."
