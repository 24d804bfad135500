"""What the programs have in common: help with examples, and how they tell what went wrong."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from blemore import cli, rank_cli
from blemore.errors import BROKEN_PIPE, BUG, INTERRUPTED
from blemore_baselines.cli import main as blemore_baselines
from blemore_codabench.cli import main as blemore_codabench

PROGRAMS = {
    "blemore-score": cli.main,
    "blemore-rank": rank_cli.main,
    "blemore-baselines": blemore_baselines,
    "blemore-codabench": blemore_codabench,
}
MODULES = {
    "blemore-score": "blemore.cli",
    "blemore-rank": "blemore.rank_cli",
    "blemore-baselines": "blemore_baselines.cli",
    "blemore-codabench": "blemore_codabench.cli",
}
# Of each program: a mistake, and its exit code.
MISTAKES = {
    "blemore-score": (["nowhere.zip", "nowhere.csv"], 3),
    "blemore-rank": (["nowhere.zip", "nowhere.csv"], 3),
    "blemore-baselines": (["trivial", "--metadata", "nowhere.csv"], 3),
    "blemore-codabench": (["check", "nowhere.zip"], 3),
}
by_program = pytest.mark.parametrize("program", PROGRAMS)


def commands(name, command):
    """All that can be called, with their full names: programs, groups and their commands."""
    yield name, command
    for part, inner in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {part}", inner)


COMMANDS = [found for name, command in PROGRAMS.items() for found in commands(name, command)]
by_command = pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])


def run(program, *arguments):
    return CliRunner().invoke(PROGRAMS[program], list(map(str, arguments)), prog_name=program)


def process(program, *arguments, **options):
    code = f"from {MODULES[program]} import main; main(prog_name={program!r})"
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"
    }  # buffers fail at the very end, too
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        text=True,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


# -------------------------------------------------------------------------------------- help


@by_command
def test_help_has_an_example_whose_options_exist(name, command):
    program, *inner = name.split()
    shown = run(program, *inner, "--help")
    assert shown.exit_code == 0
    assert re.search(rf"^ +(Examples?: +)?{name}\b", shown.output, re.M), shown.output
    if not isinstance(command, click.Group):
        examples = " ".join(re.findall(rf"{name} .*", command.help))
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", examples)) <= known


@by_command
def test_every_option_says_what_it_means(name, command):
    for option in command.params:
        if isinstance(option, click.Option):
            told = option.help or isinstance(option.type, click.Choice) or option.metavar
            assert told or option.show_default, f"{name} {option.opts[0]}"


# ------------------------------------------------------------------------ what went wrong


@by_program
def test_a_mistake_is_told_in_words(program):
    arguments, code = MISTAKES[program]
    told = run(program, *arguments)
    assert (told.exit_code, told.stdout) == (code, "")
    assert "cannot be opened" in told.stderr and "Traceback" not in told.stderr


@by_program
def test_debug_shows_the_traceback_of_a_mistake(program):
    arguments, code = MISTAKES[program]
    told, plain = run(program, "--debug", *arguments), run(program, *arguments)
    assert (told.exit_code, told.stdout) == (code, "")
    assert told.stderr.startswith("Traceback (most recent call last):\n") and told.stderr.endswith(plain.stderr)


@pytest.fixture
def raised(monkeypatch):
    """Has blemore-score raise an error of choice in its midst."""

    def choose(error):
        def read_reference(*_):
            raise error

        monkeypatch.setattr(cli, "read_reference", read_reference)

    return choose


def test_a_defect_is_one_line_that_says_so(raised):
    raised(KeyError("\x1b[31m secret"))
    told = run("blemore-score", "p.json", "l.json")
    assert (told.exit_code, told.stdout) == (BUG, "") and len(told.stderr.splitlines()) == 1
    assert (
        "bug in the kit, KeyError at test_programs.py: line" in told.stderr and "blemore-score --debug" in told.stderr
    )
    assert "secret" not in told.stderr
    told = run("blemore-score", "--debug", "p.json", "l.json")
    assert (
        told.exit_code == BUG and "Traceback" in told.stderr and "secret" in told.stderr and "\x1b" not in told.stderr
    )


def test_an_error_of_the_system_is_no_defect(raised):
    raised(OSError(28, "No space left on device", "/some/file"))
    told = run("blemore-score", "p.json", "l.json")
    assert (told.exit_code, told.stdout, told.stderr) == (3, "", "/some/file: No space left on device\n")


def test_usage_is_left_to_click(raised):
    raised(click.UsageError("not so"))
    told = run("blemore-score", "p.json", "l.json")
    assert told.exit_code == 2 and told.stderr.startswith("Usage: ") and "not so" in told.stderr


@pytest.mark.parametrize(("name", "further"), [("extract", True), ("aggregate", False)])
def test_an_interrupt_is_one_line(monkeypatch, name, further):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    command = blemore_baselines.commands[name]
    monkeypatch.setattr(command, "invoke", stopped)
    required = [part for option in command.params if option.required for part in (option.opts[0], f"{option.name}.npz")]
    told = run("blemore-baselines", name, *required)
    assert (told.exit_code, told.stdout) == (INTERRUPTED, "")
    assert told.stderr == "\nStopped." + (" The same command goes on from here." if further else "") + "\n"


def test_commands_that_go_on_exist():
    assert set(blemore_baselines.goes_on) <= set(blemore_baselines.commands)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_extraction_leaves_quietly_and_goes_on(tmp_path, workers, long):
    """As the keyboard does it: the signal goes to the command and to its workers."""
    if workers > 1 and not long:
        pytest.skip("several processes: with --long")
    from blemore_baselines.demo.generator import _make_clip, plan

    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    _make_clip(clips / "clip_000.mov", plan()[0][0])
    for number in range(1, 60):
        (clips / f"clip_{number:03}.mov").symlink_to("clip_000.mov")
    arguments = ["extract", "--clips", clips, "--encoder", "logmel", "--out", out, "--workers", workers]
    running = process("blemore-baselines", *arguments, stdout=subprocess.PIPE, start_new_session=True)
    while not list(out.rglob("*.npy")) and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    error = running.communicate(timeout=60)[1]
    assert running.returncode == INTERRUPTED, error
    assert "Traceback" not in error and error.endswith("\nStopped. The same command goes on from here.\n"), error
    done = len(list(out.rglob("*.npy")))
    assert 0 < done < 60
    again = process("blemore-baselines", *arguments, stdout=subprocess.PIPE)
    assert f"{60 - done} clips encoded, {done} there already, 0 failed" in again.communicate(timeout=60)[0]


# ----------------------------------------------------------------------- where output goes


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "s.json"
    path.write_text('{"a": [{"emotion": "sad", "salience": 100}]}')
    return path


def test_a_reader_that_has_had_enough(submission):
    """As `blemore-score … | head`, in which `head` is done before the first line comes."""
    reader, writer = os.pipe()
    os.close(reader)
    running = process("blemore-score", "--check", submission, stdout=writer)
    os.close(writer)
    assert (running.communicate(timeout=60)[1], running.returncode) == ("", BROKEN_PIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_onto_a_full_disk(submission):
    for arguments in (["--check", submission], ["--help"]):
        with open("/dev/full", "w") as full:
            running = process("blemore-score", *arguments, stdout=full)
        assert (running.communicate(timeout=60)[1], running.returncode) == ("writing: No space left on device\n", 3)


# Nothing here is coloured; a library that one day colours by itself must be told not to.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@by_program
def test_nothing_is_coloured_on_a_terminal_that_wants_none(program):
    arguments, _ = MISTAKES[program]
    for call in (["--help"], arguments, ["--no-such-option"]):
        ours, theirs = pty.openpty()
        running = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {MODULES[program]} import main; main()", *call],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"},
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # how Linux tells the end
            pass
        os.close(ours)
        running.wait(timeout=60)
        assert shown and not COLOUR.search(shown.decode()), shown


@by_program
def test_nothing_is_coloured_in_a_pipe(program):
    arguments, _ = MISTAKES[program]
    for call in (["--help"], arguments, ["--no-such-option"]):
        out, error = process(program, *call, stdout=subprocess.PIPE).communicate(timeout=60)
        assert (out or error) and "\x1b" not in out + error
