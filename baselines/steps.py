"""Commands that are run only if they are not done yet: the steps of `pipeline`.

A step's marker, in the output's folder `.done`, is removed before its command starts and written after the command
succeeds, so leftovers of a killed command are never taken for a result. A step is done if its output exists, no input
is newer than its marker, and the marker holds its command.

Up to version 0.1.0 a bash script wrote the markers, with `printf '%q '`. The script and this module can read each
other's markers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from blemore.errors import INTERRUPTED
from blemore.io import write_atomic

MODULES = {"blemore-baselines": "blemore_baselines.cli", "blemore-score": "blemore.cli"}  # by program
PATIENCE = 10  # seconds for an interrupted command to end by itself


class Step(NamedTuple):
    """A command and its output.

    output:  the file that it writes last
    inputs:  if one is newer, the step is run again; they need not exist
    command: a program of MODULES and its arguments
    keep:    the output is what the command prints
    """

    title: str
    output: Path
    inputs: tuple[Path, ...]
    command: tuple[str, ...]
    keep: bool = False


def perform(step: Step, title: str, out: Path, say: Callable[[str], None]) -> bool:
    """Runs a step unless it is done. Returns whether its command succeeded.

    out: the output folder, which contains the step's output
    say: shows the title and, if a step with `keep` fails, what its command printed
    """
    marker = out / ".done" / step.output.relative_to(out).as_posix().replace("/", ",")
    words = ["keep", str(step.output), *step.command] if step.keep else list(step.command)
    if _is_done(step, marker, words):
        say(f"{title}: done already")
        return True
    say(title)
    step.output.parent.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    code, text = execute(step.command, capture=step.keep)
    if code:
        if text:
            say(text.removesuffix("\n"))
        return False
    if step.keep:
        write_atomic(step.output, text)
    write_atomic(marker, f"{quote(words)}\n".encode("utf-8", "surrogateescape"))
    return True


def _is_done(step: Step, marker: Path, words: list[str]) -> bool:
    try:
        since = marker.stat().st_mtime_ns
        command = split(marker.read_text("utf-8", "surrogateescape"))
    except (OSError, ValueError):  # the marker is missing or incomplete
        return False
    newer = any(path.exists() and path.stat().st_mtime_ns > since for path in step.inputs)
    return command == words and step.output.exists() and not newer


def execute(command: tuple[str, ...], capture: bool) -> tuple[int, str]:
    """Runs one of the kit's commands in a process of its own, with this Python. Returns its exit code and, if captured,
    what it printed.

    Raises KeyboardInterrupt: this process or the command was interrupted.
    """
    program, *arguments = command
    code = f"from {MODULES[program]} import main; main(prog_name={program!r})"
    python = [sys.executable, "-P", "-c", code, *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"} if capture else None
    with subprocess.Popen(python, stdout=subprocess.PIPE if capture else None, env=environment) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:  # from a terminal, which also interrupts the command
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.terminate()  # no effect if it has ended
            raise
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    return process.returncode, (output or b"").decode("utf-8", "replace")


def quote(words: Iterable[str]) -> str:
    r"""Words as bash's `printf '%q '` writes them, if all their characters are printable.

    >>> quote(["a b", "it's", "été"])
    "a\\ b it\\'s été "
    """
    special = r"""[\s|&;<>()$`\\"'*?\[\]!{},^]|^[~#]|(?<=[:=])~"""
    return "".join(re.sub(special, r"\\\g<0>", word) + " " for word in words)


def split(text: str) -> list[str]:
    r"""The words that bash's `printf '%q '` wrote: unprintable characters are octal bytes within $'…'.

    >>> split(r"a\ b it\'s $'\303\251t\303\251' ")
    ['a b', "it's", 'été']

    Raises ValueError: the text was cut off.
    """
    return shlex.split(re.sub(r"\$'((?:[^'\\]|\\.)*)'", _plain, text))


def _plain(match: re.Match[str]) -> str:
    raw = match[1].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
    return quote([raw.decode("utf-8", "surrogateescape")])
