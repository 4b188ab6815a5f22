"""Tables of text as programs write them: any encoding, separator, quotes and decimal mark.

This module reads names and cells. What they mean is decided elsewhere (`clock.py`, `blendshape_names.py`, `units.py`).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.common.errors import InputError, shorten

_SEPARATORS = ",;\t|"
_COMMENTS = ("#", "//", "%")
_MARKED = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Encodings by the first bytes of a file; those of UTF-32 begin with those of UTF-16."""
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?%?", re.IGNORECASE)
_NO_VALUE = {"", "-", "--", "na", "n/a", "#n/a", "none", "null", "#num!", "#value!"}
_NAN = re.compile(r"[+-]?(1\.#)?(nan|ind|qnan)(\(.*\))?", re.IGNORECASE)
_TITLES = 10
"""Lines at most that are searched for the header."""


@dataclass(frozen=True)
class Table:
    """Named columns of text cells."""

    source: Path
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """One cell a name; an empty cell holds no value."""
    places: tuple[str, ...]
    """Where each row stands in the file: `line 3`."""
    short: tuple[int, ...] = ()
    """Indices of rows that had fewer cells than the header."""
    notes: tuple[str, ...] = ()
    """What a user should know about the reading, one line each."""
    comments: tuple[str, ...] = ()
    """Lines before the header that are none of the table."""

    def cells(self, index: int) -> list[str]:
        """The cells of a column."""
        return [row[index] for row in self.rows]

    def numbers(self, index: int) -> Float[np.ndarray, "rows"]:
        """The numbers of a column, NaN where there is no value.

        Raises:
            InputError: a cell is no number; names its line and column.
        """
        return np.array([self.number(row, index) for row in range(len(self.rows))], dtype=np.float64)

    def number(self, row: int, index: int) -> float:
        """One cell as a number, NaN where there is no value."""
        cell = self.rows[row][index]
        try:
            return to_number(cell)
        except ValueError:
            key = f"{self.places[row]}, {self.names[index]}"
            raise InputError(self.source, "wrong value", key=key, expected="a number", found=shorten(cell)) from None


def to_number(cell: str) -> float:
    """A cell as a number: a decimal comma counts as a point, `60%` is 0.6, and NaN means that there is no value.

    Raises:
        ValueError: it is no number, or not a finite one.
    """
    text = cell.strip()
    if text.lower() in _NO_VALUE or _NAN.fullmatch(text):
        return float("nan")
    share = 0.01 if text.endswith("%") else 1.0
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    value = float(text.removesuffix("%"))
    if not np.isfinite(value):
        raise ValueError(cell)
    return value * share


def decode(content: bytes) -> str:
    """Text from bytes of UTF-8, UTF-16 or UTF-32, else of Windows' western code page.

    Raises:
        ValueError: the bytes are no text.
    """
    for mark, encoding in _MARKED:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    start = content[:4096]
    if start.count(0) > len(start) / 4:  # every letter of a table's header has a zero byte beside it in UTF-16
        return content.decode("utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be", "replace")
    if 0 in start:
        raise ValueError("the file is no text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_table(source: Path, text: str) -> Table:
    """The table in a text.

    Lines before the header that begin with `#`, `//`, `%` or `sep=`, and titles of one cell, are none of the table. The
    separator is the most frequent one of the header. A last line that breaks off is left out.

    Raises:
        InputError: there are no rows, or one has more cells than the header.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names, start, separator = _header(lines)
    try:
        found = list(_rows(lines, start, separator))
    except csv.Error as error:
        raise InputError(source, "not a table that can be read", found=shorten(error)) from error
    notes = []
    if found and lines[-1] and len(found[-1][1]) < len(names):
        notes.append(f"line {found[-1][0]} breaks off and is left out")
        found.pop()
    if not found:
        what = f"a header of {len(names)} columns alone" if names else "nothing"
        raise InputError(source, "there are no rows", expected="a header and at least one row", found=what)
    if any(_DECIMAL_COMMA.fullmatch(cell.strip()) for _, row in found for cell in row):
        notes.append("commas in numbers are read as decimal points")
    rows = tuple(_fitted(source, line, row, len(names), separator) for line, row in found)
    short = tuple(i for i, (_, row) in enumerate(found) if len(row) < len(names))
    places = tuple(f"line {line}" for line, _ in found)
    return Table(source, tuple(names), rows, places, short, tuple(notes), tuple(lines[:start]))


def _header(lines: Sequence[str]) -> tuple[list[str], int, str]:
    """Column names, the index of the first line after them, and the separator."""
    separator, comment, heads = None, None, []
    for index, line in enumerate(lines):
        marked = _SEP_LINE.fullmatch(line.strip(" \ufeff"))
        if marked:
            separator = marked[1]
        elif line.lstrip().startswith(_COMMENTS):
            comment = line if not heads else comment
        elif line.strip():
            heads.append(index)
        if len(heads) == _TITLES:
            break
    if not heads:
        return [], len(lines), ","
    separated = [i for i in heads if separator is not None or _separator(lines[i]) in _SEPARATORS]
    first = next((i for i in separated if len(_split(lines[i], separator or _separator(lines[i]))) > 1), heads[0])
    separator = separator or _separator(lines[first])
    names = _split(lines[first], separator)
    if comment is not None and all(_is_number(name) for name in names):  # numpy writes its header as a comment
        commented = _split(comment.lstrip("#/% "), separator)
        if len(commented) == len(names):
            return _stripped(commented), first, separator
    return _stripped(names), first + 1, separator


def _separator(line: str) -> str:
    """The most frequent separator outside of quotes; a blank where there is none."""
    outside = re.sub(r'"[^"]*"', "", line)
    best = max(_SEPARATORS, key=outside.count)
    return best if outside.count(best) else " "


def _split(line: str, separator: str) -> list[str]:
    if separator == " " and '"' not in line:
        return line.split()
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _stripped(names: list[str]) -> list[str]:
    """Names without blanks and quotes around them; empty ones at the end are none."""
    names = [name.strip().strip("'\"").strip() for name in names]
    while names and not names[-1]:
        names.pop()
    return names


def _rows(lines: Sequence[str], start: int, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is neither empty nor a comment."""
    if separator == " ":
        numbered = ((start + i + 1, line.split()) for i, line in enumerate(lines[start:]))
    else:
        reader = csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=separator, skipinitialspace=True)
        numbered = ((start + reader.line_num, row) for row in reader)
    for line, row in numbered:
        if any(cell.strip() for cell in row) and not row[0].lstrip().startswith(_COMMENTS):
            yield line, row


def _fitted(source: Path, line: int, row: list[str], count: int, separator: str) -> tuple[str, ...]:
    """A row with as many cells as there are names: empty cells are added, or taken away at its end."""
    if any(cell.strip() for cell in row[count:]):
        hint = "a decimal comma needs quotes, or semicolons between the columns" if separator == "," else None
        problem = "a row of another length" if count > 1 else "not a table: its first line has a single column"
        raise InputError(source, problem, key=f"line {line}", expected=count, found=f"{len(row)} cells", hint=hint)
    return tuple(cell.strip() for cell in row[:count]) + ("",) * (count - len(row))


def _is_number(cell: str) -> bool:
    try:
        to_number(cell)
    except ValueError:
        return False
    return True
