"""The command `partnerface`: each subcommand is a dataclass of options that is called after parsing.

A subcommand's module imports heavy packages only when it is called, so that help appears at once. A subcommand whose
module cannot be imported, because a package is missing, stays in the list and reports the reason.
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

from partnerface_ns.cli.optional_values import optional_values
from partnerface_ns.common.errors import InputError

COMMANDS = {
    "create": "partnerface_ns.cli.create:Create",
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

USER_ERROR, INTERRUPTED, READER_GONE = 1, 130, 141
"""Exit codes."""
_RENAMED_OPTIONS = {name: {"--performance": "--motion"} for name in ("drive", "live", "export")}
"""For each command the former names of its options, which are still accepted."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `partnerface`.

    Args:
        arguments: the arguments after the command's name; None takes those of the process.

    Raises:
        SystemExit: with code 1 after a user error, of which only the message is printed; with 130 after Ctrl-C; with
            141 and no message when the reader of the output has closed it.
    """
    try:
        try:
            _run(arguments)
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich turns it into an exit
                raise SystemExit(READER_GONE) from None
            _flush()
            raise
        _flush()
    except BrokenPipeError:
        if not _silence_unread_output():
            raise  # the pipe of a program that this one started
        raise SystemExit(READER_GONE) from None


def _flush() -> None:
    """Flush the output here, where a failure can be handled; Python would flush it after `main`."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _silence_unread_output() -> bool:
    """Redirect output streams without a reader to the null device; returns whether there was one."""
    unread = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _is_unread(stream)]
    for stream in unread:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    return bool(unread)


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe or socket whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # poll always reports errors
        return bool(poll.poll(0))
    except (OSError, ValueError):  # the stream has no file descriptor
        return False


def _run(arguments: Sequence[str] | None) -> None:
    try:
        words = sys.argv[1:] if arguments is None else arguments
        _parse(_rename_options(words) or ["--help"])()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except OSError as error:  # reading raises InputError, so this is an error of writing
        if error.filename is None and error.errno not in _DISK_FULL:
            raise
        print(f"Error: {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _rename_options(arguments: Sequence[str]) -> list[str]:
    """The arguments with former names of options replaced. Words after `--` are not options."""
    names = _RENAMED_OPTIONS.get(arguments[0], {}) if arguments else {}
    num_options = arguments.index("--") if "--" in arguments else len(arguments)
    parts = [word.partition("=") for word in arguments[:num_options]]
    renamed = [f"{names.get(option, option)}{equals}{value}" for option, equals, value in parts]
    return [*renamed, *arguments[num_options:]]


def _parse(arguments: Sequence[str]) -> Callable[[], None]:
    """The command of the arguments. The list of all commands shows only the first sentence of each."""
    types = []
    for name, place in COMMANDS.items():
        command = load_command(place)
        summary = None if name in arguments[:1] else (command.__doc__ or "").partition("\n\n")[0]
        types.append(Annotated[command, tyro.conf.subcommand(name=name, description=summary)])
    with optional_values():
        return tyro.cli(
            Union[tuple(types)],  # type: ignore[arg-type]  # noqa: UP007 (made at run time)
            prog="partnerface",
            description="Animatable face avatars of local deformation parts over a FLAME head, from one video.",
            args=arguments,
        )


def load_command(place: str) -> type:
    """The class at `module:class`, or a stand-in that reports why it cannot be imported."""
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        return _unavailable(name, str(error))


def _unavailable(name: str, reason: str) -> type:
    def call(self: object) -> None:
        raise InputError("partnerface", "this command cannot be loaded here", expected="its packages", actual=reason)

    return make_dataclass(name, [], namespace={"__doc__": f"Cannot be loaded here: {reason}", "__call__": call})
