"""The command line itself: help, errors, interruption, and commands that cannot be loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields, is_dataclass

import pytest

from partnerface_ns.cli import main as command_line
from partnerface_ns.cli.main import COMMANDS, load_command, main
from partnerface_ns.common.errors import InputError


@pytest.fixture
def add_command(monkeypatch):
    """Makes `partnerface probe` do something."""

    def add(do) -> None:
        @dataclass
        class Probe:
            """Probes."""

            word: str = "nothing"
            """What to say."""

            def __call__(self) -> None:
                do(self.word)

        monkeypatch.setattr(command_line, "load_command", lambda place: Probe)
        monkeypatch.setattr(command_line, "COMMANDS", {"probe": "", "other": ""})

    return add


def test_without_words_help_is_shown(add_command, capsys):
    add_command(lambda word: None)
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 0 and "probe" in capsys.readouterr().out


def test_a_command_is_called_with_its_options(add_command):
    said = []
    add_command(said.append)
    main(["probe", "--word", "yes"])
    assert said == ["yes"]


def test_a_user_error_prints_only_its_message_and_exits_with_1(add_command, capsys):
    error = InputError("folder", "is missing", key="train", expected="a list", actual="nothing")

    def fail(word: str) -> None:
        raise error

    add_command(fail)
    with pytest.raises(SystemExit) as exit_:
        main(["probe"])
    assert exit_.value.code == 1
    out, err = capsys.readouterr()
    assert out == "" and err == f"Error: {error}\n"


def test_an_unwritable_path_prints_only_its_message_and_exits_with_1(add_command, tmp_path, capsys):
    place = tmp_path / "nowhere" / "a.png"
    add_command(lambda word: place.write_text("a"))
    with pytest.raises(SystemExit) as exit_:
        main(["probe"])
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"Error: {place}: No such file or directory\n"


def test_an_error_of_ours_is_not_hidden(add_command):
    def fail(word: str) -> None:
        raise KeyError(word)

    add_command(fail)
    with pytest.raises(KeyError):
        main(["probe"])


def test_an_interruption_is_reported_and_exits_with_130(add_command, capsys):
    def interrupted(word: str) -> None:
        raise KeyboardInterrupt

    add_command(interrupted)
    with pytest.raises(SystemExit) as exit_:
        main(["probe"])
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "\nStopped by Ctrl-C.\n"


def test_a_command_that_cannot_be_loaded_says_why_and_leaves_the_others(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "partnerface_ns.cli.report", None)
    with pytest.raises(SystemExit) as exit_:
        main(["report"])
    assert exit_.value.code == 1
    assert "cannot be loaded here" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--help"])
    assert exit_.value.code == 0


PROGRAM = """
import sys
from dataclasses import dataclass
from partnerface_ns.cli import main as command_line

@dataclass
class Probe:
    '''Probes.'''
    def __call__(self):
        import subprocess
        from rich.console import Console
        {}

command_line.load_command = lambda place: Probe
command_line.COMMANDS = {{"probe": "", "other": ""}}
command_line.main(sys.argv[1:])
"""


def run_unread(body: str, *words: str, unread: str = "stdout") -> tuple[int, str]:
    """Exit code and error output of a command whose output nobody reads."""
    read, write = os.pipe()
    os.close(read)
    streams = {"stdout": write, "stderr": write if unread == "both" else subprocess.PIPE}
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(body), *words], timeout=120, text=True, **streams)
    os.close(write)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('a')", ["probe"]),  # fails when Python flushes at its end
        ("print('a' * 10**6)", ["probe"]),  # fails at once
        ("print('a', flush=True)", ["probe"]),
        ("print('a'); sys.exit(0)", ["probe"]),
        ("Console().print('a')", ["probe"]),  # rich makes an exit of it
        ("pass", ["--help"]),
        ("pass", ["probe", "--help"]),
    ],
)
def test_output_that_nobody_reads_ends_a_command_quietly(body, words):
    assert run_unread(body, *words) == (141, "")


def test_errors_that_nobody_reads_end_a_command_quietly():
    assert run_unread("[print(i, file=sys.stderr, flush=True) for i in range(3)]", "probe", unread="both")[0] == 141


def test_another_broken_pipe_is_not_hidden(add_command):
    def fail(word: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")  # of a program that was started

    add_command(fail)
    with pytest.raises(BrokenPipeError):
        main(["probe"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_documents_itself(name, capsys):
    command = load_command(COMMANDS[name])
    assert is_dataclass(command) and callable(command)
    assert command.__doc__ and not command.__doc__.startswith("Cannot be loaded")
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for field in fields(command):
        option = field.name.replace("_", "-")
        shown = option in text or option.upper() in text or field.default is MISSING  # what must be given is a PATH
        assert shown, f"{name} does not show {option}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_type_of_a_value_alone(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "{None" not in capsys.readouterr().out


@pytest.mark.parametrize(("words", "number"), [([], None), (["--number", "3"], 3)])
def test_an_option_without_a_default_is_read(monkeypatch, words, number):
    numbers = []

    @dataclass
    class Probe:
        """Probes."""

        number: int | None = None
        """A number."""

        def __call__(self) -> None:
            numbers.append(self.number)

    monkeypatch.setattr(command_line, "load_command", lambda place: Probe)
    monkeypatch.setattr(command_line, "COMMANDS", {"probe": "", "other": ""})
    main(["probe", *words])
    assert numbers == [number]
    with pytest.raises(SystemExit, match="2"):
        main(["probe", "--number", "three"])


@pytest.mark.parametrize(
    ("words", "renamed"),
    [
        ("drive RUN --performance talk", "drive RUN --motion talk"),
        ("live RUN --performance=talk", "live RUN --motion=talk"),
        ("drive RUN -- --performance", "drive RUN -- --performance"),  # a file of this name
        ("track --performance OUT", "track --performance OUT"),  # never was an option of this command
        ("drive RUN my--performance.csv", "drive RUN my--performance.csv"),
        ("", ""),
    ],
)
def test_former_names_of_options_are_replaced_where_they_are_options(words, renamed):
    assert command_line._rename_options(words.split()) == renamed.split()


def test_help_comes_without_loading_torch():
    program = "; ".join(
        [
            "import sys, atexit",
            "atexit.register(lambda: print('loaded', sorted({'torch', 'numpy', 'nerfstudio'} & set(sys.modules))))",
            "from partnerface_ns.cli.main import main",
            "main(['--help'])",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS) and "loaded []" in done.stdout
