"""Parse commands with the programs that they name: a JSON list of commands in, a JSON list of errors out.

Runs in a process of its own, because programs change the interpreter. A program ends once its arguments are parsed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import io
import json
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

import tyro


class Parsed(Exception):
    """The arguments were accepted."""


def stop_after(parse: Callable) -> Callable:
    """`parse`, which raises `Parsed` instead of returning, and calls no function that tyro would call."""

    def parse_and_stop(target: object, *args: object, **kwargs: object) -> None:
        if inspect.isfunction(target):
            target = functools.wraps(target)(lambda *_, **__: None)
        parse(target, *args, **kwargs)
        raise Parsed

    return parse_and_stop


def error_of(command: Sequence[str]) -> str | None:
    """Why a program does not accept a command; None if it does."""
    program, *arguments = command
    sys.argv = arguments if program == "python" else [program, *arguments]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            if program == "python":
                runpy.run_path(arguments[0], run_name="__main__")
            else:
                (script,) = entry_points(group="console_scripts", name=program)
                script.load()()
    except Parsed:
        return None
    except SystemExit as error:
        return f"exit {error.code}\n{printed.getvalue()}"
    except Exception:
        return traceback.format_exc()
    return "the program parses no arguments with tyro or argparse"


def main() -> None:
    tyro.cli = stop_after(tyro.cli)
    argparse.ArgumentParser.parse_args = stop_after(argparse.ArgumentParser.parse_args)
    print(json.dumps([error_of(command) for command in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
