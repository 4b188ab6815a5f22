"""Text tables in any encoding, with any separator, quoting and decimal mark.

This module reads names and cells; `clock.py`, `blendshape_names.py` and `units.py` interpret them.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from partnerface_ns.common.errors import InputError, shorten

_SEPARATORS = ",;\t|"
_COMMENTS = ("#", "//", "%")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Encodings by the first bytes of a file. UTF-32 comes first, because its marks begin with those of UTF-16."""
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_CELL_UNITS = {"%": 0.01, "°": math.pi / 180}
"""Factors of the units that may follow a number in its cell."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?\s?[%°]?", re.IGNORECASE)
_NO_VALUE = {"", "-", "--", "na", "n/a", "#n/a", "none", "null", "#num!", "#value!"}
_NAN = re.compile(r"[+-]?(1\.#)?(nan|ind|qnan)(\(.*\))?", re.IGNORECASE)
_MAX_TITLES = 10
"""Lines that are searched for the header at most."""


@dataclass(frozen=True)
class Table:
    """Named columns of text cells."""

    source: Path
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """One cell per name; an empty cell holds no value."""
    places: tuple[str, ...]
    """Where each row is in the file, such as `line 3`."""
    short: tuple[int, ...] = ()
    """Indices of rows that had fewer cells than the header."""
    notes: tuple[str, ...] = ()
    """Messages for the user about how the table was read."""
    comments: tuple[str, ...] = ()
    """The lines before the first row."""

    def cells(self, index: int) -> list[str]:
        """The cells of a column."""
        return [row[index] for row in self.rows]

    def numbers(self, index: int) -> Float[np.ndarray, "rows"]:
        """The numbers of a column, NaN where there is no value.

        Raises:
            InputError: a cell is not a number.
        """
        return np.array([self.number(row, index) for row in range(len(self.rows))], dtype=np.float64)

    def number(self, row: int, index: int) -> float:
        """One cell as a number, NaN where there is no value."""
        cell = self.rows[row][index]
        try:
            return to_number(cell)
        except ValueError:
            key = f"{self.places[row]}, {self.names[index]}"
            raise InputError(self.source, "wrong value", key=key, expected="a number", actual=shorten(cell)) from None


def to_number(cell: str) -> float:
    """The number in a cell; NaN where there is no value. A decimal comma counts as a point. `60%` is 0.6, `180°` is pi.

    Raises:
        ValueError: the cell is not a finite number.
    """
    text = cell.strip()
    if text.lower() in _NO_VALUE or _NAN.fullmatch(text):
        return float("nan")
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    unit = _CELL_UNITS.get(text[-1])
    value = float(text if unit is None else text[:-1])
    if not np.isfinite(value):
        raise ValueError(cell)
    return value if unit is None else value * unit


def decode(content: bytes) -> str:
    """Decode UTF-8, UTF-16 or UTF-32, else Windows' western code page.

    Raises:
        ValueError: the bytes are not text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    start = content[:4096]
    if start.count(0) > len(start) / 4:  # in UTF-16 every second byte of a header is zero
        return content.decode("utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be", "replace")
    if 0 in start:
        raise ValueError("the file is not text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def read_table(source: Path, text: str) -> Table:
    """Read the table in a text.

    Lines before the header that begin with `#`, `//`, `%` or `sep=`, and titles of one cell, are skipped. The separator
    is the most frequent one of the header. An incomplete last line is left out.

    Raises:
        InputError: there are no rows, or a row has more cells than the header.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names, start, separator = _header(lines)
    try:
        numbered_rows = list(_numbered_rows(lines, start, separator))
    except csv.Error as error:
        raise InputError(source, "not a readable table", actual=shorten(error)) from error
    notes = []
    if numbered_rows and lines[-1] and len(numbered_rows[-1][1]) < len(names):
        notes.append(f"line {numbered_rows[-1][0]} is incomplete and is left out")
        numbered_rows.pop()
    if not numbered_rows:
        content = f"only a header of {len(names)} columns" if names else "nothing"
        raise InputError(source, "there are no rows", expected="a header and at least one row", actual=content)
    if any(_DECIMAL_COMMA.fullmatch(cell.strip()) for _, row in numbered_rows for cell in row):
        notes.append("commas in numbers are read as decimal points")
    rows = tuple(_pad_row(source, line, row, len(names), separator) for line, row in numbered_rows)
    short = tuple(i for i, (_, row) in enumerate(numbered_rows) if len(row) < len(names))
    places = tuple(f"line {line}" for line, _ in numbered_rows)
    return Table(source, tuple(names), rows, places, short, tuple(notes), tuple(lines[:start]))


def _header(lines: Sequence[str]) -> tuple[list[str], int, str]:
    """Column names, the index of the first line after them, and the separator."""
    declared: str | None = None
    comment: str | None = None
    heads: list[int] = []
    for index, line in enumerate(lines):
        declaration = _SEP_LINE.fullmatch(line.strip(" \ufeff"))
        if declaration:
            declared = declaration[1]
        elif line.lstrip().startswith(_COMMENTS):
            comment = line if not heads else comment
        elif line.strip():
            heads.append(index)
        if len(heads) == _MAX_TITLES:
            break
    if not heads:
        return [], len(lines), ","
    separated = [i for i in heads if declared is not None or _separator(lines[i]) in _SEPARATORS]
    first = next((i for i in separated if len(_split(lines[i], declared or _separator(lines[i]))) > 1), heads[0])
    separator = declared or _separator(lines[first])
    names = _split(lines[first], separator)
    if comment is not None and all(_is_number(name) for name in names):  # numpy writes its header as a comment
        commented = _split(comment.lstrip("#/% "), separator)
        if len(commented) == len(names):
            return _strip(commented), first, separator
    return _strip(names), first + 1, separator


def _separator(line: str) -> str:
    """The most frequent separator outside quotes; a blank if there is none."""
    outside = re.sub(r'"[^"]*"', "", line)
    best = max(_SEPARATORS, key=outside.count)
    return best if outside.count(best) else " "


def _split(line: str, separator: str) -> list[str]:
    if separator == " " and '"' not in line:
        return line.split()
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _strip(names: list[str]) -> list[str]:
    """Names without surrounding blanks and quotes, and without empty names at the end."""
    names = [name.strip().strip("'\"").strip() for name in names]
    while names and not names[-1]:
        names.pop()
    return names


def _numbered_rows(lines: Sequence[str], start: int, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is neither empty nor a comment."""
    if separator == " ":
        numbered = ((start + i + 1, line.split()) for i, line in enumerate(lines[start:]))
    else:
        reader = csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=separator, skipinitialspace=True)
        numbered = ((start + reader.line_num, row) for row in reader)
    for line, row in numbered:
        if any(cell.strip() for cell in row) and not row[0].lstrip().startswith(_COMMENTS):
            yield line, row


def _pad_row(source: Path, line: int, row: list[str], count: int, separator: str) -> tuple[str, ...]:
    """A row with `count` cells: empty cells are added or removed at its end."""
    if any(cell.strip() for cell in row[count:]):
        hint = "a decimal comma needs quotes, or semicolons between the columns" if separator == "," else None
        problem = "a row has another length" if count > 1 else "not a table: the first line has a single column"
        raise InputError(source, problem, key=f"line {line}", expected=count, actual=f"{len(row)} cells", hint=hint)
    return tuple(cell.strip() for cell in row[:count]) + ("",) * (count - len(row))


def _is_number(cell: str) -> bool:
    try:
        to_number(cell)
    except ValueError:
        return False
    return True
