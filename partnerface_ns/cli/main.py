"""The command `partnerface`: one subcommand a file, each a dataclass that is called once its options are read.

A subcommand's module imports nothing heavy before it is called, so that help appears at once. One that cannot be
imported here (a package is missing) stays in the list and says so; the others work.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from importlib import import_module
from typing import Annotated, TextIO, Union

import tyro

from partnerface_ns.common.errors import InputError

COMMANDS = {
    "demo": "partnerface_ns.cli.demo:Demo",
    "make-subject": "partnerface_ns.cli.make_subject:MakeSubject",
    "track": "partnerface_ns.cli.track:Track",
    "inspect": "partnerface_ns.cli.inspect:Inspect",
    "convert": "partnerface_ns.cli.convert:Convert",
    "head-model": "partnerface_ns.cli.head_model:ShowHeadModel",
    "report": "partnerface_ns.cli.report:Report",
    "drive": "partnerface_ns.cli.drive:Drive",
    "live": "partnerface_ns.cli.live:Live",
    "export": "partnerface_ns.cli.export:Export",
    "bench": "partnerface_ns.cli.bench:Bench",
}
"""Module and class of each subcommand, by its name on the command line."""

USER_MISTAKE, INTERRUPTED, READER_GONE = 1, 130, 141
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `partnerface`.

    Args:
        arguments: the words after the command's name; None takes the process's own.

    Raises:
        SystemExit: with code 1 after a user's mistake, whose message alone is printed, with 130 after Ctrl-C, and with
            141 and no message when nobody reads the output any more.
    """
    try:
        try:
            _run(arguments)
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich has turned it into an exit
                raise SystemExit(READER_GONE) from None
            _flush()
            raise
        _flush()
    except BrokenPipeError:
        if not _silence_unread_output():
            raise  # another pipe: to a program that we started
        raise SystemExit(READER_GONE) from None


def _flush() -> None:
    """Write what is still buffered, while a failure can be handled: Python does it again after `main`."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _silence_unread_output() -> bool:
    """Send output that nobody reads to the null device; whether there was any."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _is_unread(stream)]
    for stream in gone:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    return bool(gone)


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe or socket whose other end is closed."""
    try:
        waiting = select.poll()
        waiting.register(stream.fileno(), 0)  # errors are reported unasked
        return bool(waiting.poll(0))
    except (OSError, ValueError):  # not a file of the system's
        return False


def _run(arguments: Sequence[str] | None) -> None:
    try:
        words = sys.argv[1:] if arguments is None else arguments
        _parse(words or ["--help"])()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None
    except OSError as error:  # readers say what is wrong with their files: this is where something is to be written
        if error.filename is None and error.errno not in _DISK_FULL:
            raise
        print(f"Error: {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        raise SystemExit(USER_MISTAKE) from None
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _parse(arguments: Sequence[str]) -> Callable[[], None]:
    types = [Annotated[load_command(place), tyro.conf.subcommand(name=name)] for name, place in COMMANDS.items()]
    return tyro.cli(
        Union[tuple(types)],  # type: ignore[arg-type]  # noqa: UP007 (made at run time)
        prog="partnerface",
        description="Animatable faces of local parts over a FLAME head, from one video.",
        args=arguments,
    )


def load_command(place: str) -> type:
    """The class at `module:class`, or a stand-in that says why it cannot be imported."""
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        return _unavailable(name, str(error))


def _unavailable(name: str, reason: str) -> type:
    def call(self: object) -> None:
        raise InputError("partnerface", "this command cannot be loaded here", found=reason)

    return make_dataclass(name, [], namespace={"__doc__": f"Cannot be loaded here: {reason}", "__call__": call})
