"""Every command of the pages is parsed by the program that it names, or listed here with the reason why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_PARSED = {
    ".ci/run": "takes no arguments",
    "mkdocs": "run by .ci/run",
    "cyclonedx-py": "a command of another package, for releases",
    "python -m build": "builds the package for a release",
    "pre-commit": "optional; installs hooks into a checkout",
    "pyright": "run by .ci/run",
    "pytest": "run by .ci/run",
    "pip": "installs packages; run by .ci/run",
    "python3 -m venv": "creates an environment; run by .ci/run",
    "source": "a command of the shell",
    "apt-get": "installs system packages",
    "python vhap/": "a command of VHAP",
    "python tracker.py": "a command of metrical-tracker",
    "./generate.sh": "a command of INSTA",
}
"""First words of commands that no test parses, each with the reason."""
PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )?(?:partnerface|ns-\w+|pip|python3?|pytest|apt-get|\./generate\.sh) ")


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of bash blocks, lines of indented blocks and code spans that name a program and at least two words more."""
    text = page.read_text(encoding="utf8")
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (line for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE) if PROGRAM.match(line))
    for span in re.findall(r"`([^`]+)`", text):
        if PROGRAM.match(span) and len(span.split()) > 2 and "..." not in span:
            yield " ".join(span.split())


def commands_of(page: Path) -> Iterator[tuple[str, ...]]:
    """Words of each command of a page, without comments and with the values of variables."""
    variables: dict[str, str] = {}
    for line in shell_lines(page):
        for is_separator, group in groupby(shlex.split(line, comments=True), lambda word: word == "&&"):
            words = [] if is_separator else list(group)
            while words and (assignment := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
                variables[assignment[1]] = assignment[2]
                words = words[1:]
            if words:
                words = [variables.get(word[1:], word) if word.startswith("$") else word for word in words]
                yield (words[0].removeprefix(".venv/bin/"), *words[1:])


COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


def reason_not_to_parse(command: tuple[str, ...]) -> str | None:
    line = " ".join(command)
    return next((reason for start, reason in NOT_PARSED.items() if line.startswith(start)), None)


def test_commands_are_found():
    programs = {command[0] for command in COMMANDS}
    assert {"partnerface", "ns-train", "ns-eval", "ns-render", "ns-viewer", "python"} <= programs


def test_every_reason_is_used():
    lines = [" ".join(command) for command in COMMANDS]
    unused = [start for start in NOT_PARSED if not any(line.startswith(start) for line in lines)]
    assert not unused


PARSED_COMMANDS = [command for command in COMMANDS if reason_not_to_parse(command) is None]


@pytest.fixture(scope="module")
def errors() -> dict[tuple[str, ...], str | None]:
    """The error of each command, or None; all are parsed in one process, because programs take seconds to import."""
    return dict(zip(PARSED_COMMANDS, parse(PARSED_COMMANDS), strict=True))


def parse(commands: list[tuple[str, ...]]) -> list[str | None]:
    """What command_parser.py says of each command."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("command_parser.py"))],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("command", PARSED_COMMANDS, ids=" ".join)
def test_the_program_accepts_the_command(command, errors):
    assert errors[command] is None, errors[command]


def test_an_unknown_option_is_an_error():
    errors = parse([("partnerface", "report", "RUN", "--no-such-option"), ("partnerface", "no-such-command")])
    assert all(error is not None and "exit 2" in error for error in errors)
