"""What the programs have in common: help with examples, and how they report what went wrong."""

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
    """Everything that can be called, with its full name: programs, groups and their commands."""
    yield name, command
    for part, inner in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {part}", inner)


COMMANDS = [entry for name, command in PROGRAMS.items() for entry in commands(name, command)]
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
    result = run(program, *inner, "--help")
    assert result.exit_code == 0
    assert re.search(rf"^ +(Examples?: +)?{name}\b", result.output, re.M), result.output
    if not isinstance(command, click.Group):
        examples = " ".join(re.findall(rf"{name} .*", command.help))
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z-]*", examples)) <= options


@by_command
def test_every_option_says_what_it_means(name, command):
    for option in command.params:
        if isinstance(option, click.Option):
            explanation = option.help or isinstance(option.type, click.Choice) or option.metavar
            assert explanation or option.show_default, f"{name} {option.opts[0]}"


# ------------------------------------------------------------------------ what went wrong


@by_program
def test_a_mistake_is_reported_in_words(program):
    arguments, code = MISTAKES[program]
    result = run(program, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert "cannot be opened" in result.stderr and "Traceback" not in result.stderr


@by_program
def test_debug_shows_the_traceback_of_a_mistake(program):
    arguments, code = MISTAKES[program]
    result, plain = run(program, "--debug", *arguments), run(program, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Traceback (most recent call last):\n") and result.stderr.endswith(plain.stderr)


@pytest.fixture
def fail_with(monkeypatch):
    """Makes blemore-score raise the given error while it runs."""

    def choose(error):
        def read_reference(*_):
            raise error

        monkeypatch.setattr(cli, "read_reference", read_reference)

    return choose


def test_a_defect_is_one_line_that_says_so(fail_with):
    fail_with(KeyError("\x1b[31m secret"))
    result = run("blemore-score", "p.json", "l.json")
    assert (result.exit_code, result.stdout) == (BUG, "") and len(result.stderr.splitlines()) == 1
    assert (
        "bug in the kit, KeyError at test_programs.py: line" in result.stderr
        and "blemore-score --debug" in result.stderr
    )
    assert "secret" not in result.stderr
    result = run("blemore-score", "--debug", "p.json", "l.json")
    assert (
        result.exit_code == BUG
        and "Traceback" in result.stderr
        and "secret" in result.stderr
        and "\x1b" not in result.stderr
    )


def test_an_error_of_the_system_is_no_defect(fail_with):
    fail_with(OSError(28, "No space left on device", "/some/file"))
    result = run("blemore-score", "p.json", "l.json")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "/some/file: No space left on device\n")


def test_usage_is_left_to_click(fail_with):
    fail_with(click.UsageError("not so"))
    result = run("blemore-score", "p.json", "l.json")
    assert result.exit_code == 2 and result.stderr.startswith("Usage: ") and "not so" in result.stderr


@pytest.mark.parametrize(("name", "further"), [("extract", True), ("aggregate", False)])
def test_an_interrupt_is_one_line(monkeypatch, name, further):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    command = blemore_baselines.commands[name]
    monkeypatch.setattr(command, "invoke", stopped)
    required = [part for option in command.params if option.required for part in (option.opts[0], f"{option.name}.npz")]
    result = run("blemore-baselines", name, *required)
    assert (result.exit_code, result.stdout) == (INTERRUPTED, "")
    assert result.stderr == "\nStopped." + (" Run the same command again to continue." if further else "") + "\n"


def test_resumable_commands_exist():
    assert set(blemore_baselines.resumable) <= set(blemore_baselines.commands)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_extraction_stops_quietly_and_resumes(tmp_path, workers, long):
    """As with Ctrl-C: the signal goes to the command and to its workers."""
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
    assert "Traceback" not in error and error.endswith("\nStopped. Run the same command again to continue.\n"), error
    n_clips = len(list(out.rglob("*.npy")))
    assert 0 < n_clips < 60
    again = process("blemore-baselines", *arguments, stdout=subprocess.PIPE)
    assert f"{60 - n_clips} clips encoded, {n_clips} there already, 0 failed" in again.communicate(timeout=60)[0]


# ----------------------------------------------------------------------- where output goes


@pytest.fixture
def submission(tmp_path):
    path = tmp_path / "s.json"
    path.write_text('{"a": [{"emotion": "sad", "salience": 100}]}')
    return path


def test_a_reader_that_stops_early(submission):
    """As in `blemore-score … | head`, where `head` has finished before the first line comes."""
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
def test_nothing_is_coloured_on_a_terminal_that_wants_no_colour(program):
    arguments, _ = MISTAKES[program]
    for call in (["--help"], arguments, ["--no-such-option"]):
        reader, terminal = pty.openpty()
        running = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {MODULES[program]} import main; main()", *call],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"},
        )
        os.close(terminal)
        output = b""
        try:
            while part := os.read(reader, 65536):
                output += part
        except OSError:  # how Linux reports the end
            pass
        os.close(reader)
        running.wait(timeout=60)
        assert output and not COLOUR.search(output.decode()), output


@by_program
def test_nothing_is_coloured_in_a_pipe(program):
    arguments, _ = MISTAKES[program]
    for call in (["--help"], arguments, ["--no-such-option"]):
        out, error = process(program, *call, stdout=subprocess.PIPE).communicate(timeout=60)
        assert (out or error) and "\x1b" not in out + error
