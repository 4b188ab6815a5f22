"""Every global name that a function uses exists. Linters cannot check this: shapes in annotations look like names."""

from __future__ import annotations

import builtins
import dis
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import partnerface_ns

PACKAGE = Path(partnerface_ns.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def global_names(code: CodeType) -> Iterator[str]:
    """Names that a code object and all functions in it read from the module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def unknown_names(source: str, known: set[str]) -> set[str]:
    return set(global_names(compile(source, "module", "exec"))) - known - set(dir(builtins))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_global_names_exist(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    known = set(vars(importlib.import_module(name))) | {"__class__"}
    assert unknown_names(path.read_text(encoding="utf-8"), known) == set()


def test_an_unknown_name_is_found():
    source = "from __future__ import annotations\nA = 1\ndef f(x: frames) -> rays:\n    return lambda: A + x + _LOST\n"
    assert unknown_names(source, {"A", "f"}) == {"_LOST"}
