"""The command of a program, as the worker reads it from the program's metadata."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from blemore.errors import Problem, show
from blemore.io import COMMAND_FILES
from blemore_codabench.bundle import BundleError, parse_yaml

APP = "/app"
# In the worker's order. The last three come from earlier versions of the platform.
SCORING = {
    "$input": "input",
    "$output": "output",
    "$program": "program",
    "$ingestion_program": "program",
    "$hidden": "input/ref",
    "$shared": "shared",
    "$submission_program": "ingested_program",
    "$tmp": "output",
    "$predictions": "input/res",
}
SUBMISSION = {**SCORING, "$predictions": "output"}  # a participant's program writes the predictions
PYTHON = re.compile(r"python(3(\.\d+)?)?")
_SHELL = re.compile(r"&&|\|\||[|<>;`]|\$\(")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def command_of(program: Mapping[str, bytes]) -> str:
    """The command in a scoring program's metadata. BundleError: there is none."""
    name = next((name for name in COMMAND_FILES if name in program), None)
    if name is None:
        hint = "Zip the content of the folder, not the folder itself."
        raise BundleError(Problem("no-command", "scoring program", "no metadata.yaml at its root", hint=hint))
    where = f"scoring program: {name}"
    command = parse_yaml(program[name], where).get("command")
    if not isinstance(command, str) or not command.split():
        hint = "Write e.g. command: python3 $program/score.py --input $input --output $output."
        raise BundleError(Problem("no-command", where, "no command; expected one", hint=hint))
    try:
        shlex.split(command)
    except ValueError as error:
        message = f"the command {show(command, 100)} cannot be split: {str(error).lower()}"
        raise BundleError(Problem("no-command", where, message, hint="Close each quotation mark.")) from None
    return command


def words(command: str, app: str | Path = APP, variables: Mapping[str, str] = SCORING) -> list[str]:
    """A command's words, its variables and /app replaced by the folders in `app`. ValueError: an open quote."""
    return [_fill(word, str(app), variables) for word in shlex.split(command)]


def _fill(word: str, app: str, variables: Mapping[str, str]) -> str:
    for variable, folder in variables.items():
        word = word.replace(variable, f"{APP}/{folder}")
    return re.sub(rf"(?<![\w/.-]){APP}(?=/|\s|$)", lambda _: app, word)


def uses_shell(command: str) -> bool:
    """Whether a command has, outside quotes, syntax that only a shell understands."""
    return bool(_SHELL.search(_QUOTED.sub("", command)))


def absent_files(command: str, program: Mapping[str, bytes]) -> Iterator[str]:
    """Files and folders that a command names in its program's folder, but that do not exist."""
    for place in re.findall(rf"{APP}/program/([^\s'\"]+)", " ".join(words(command))):
        name = place.rstrip("/")
        if name not in program and not any(path.startswith(f"{name}/") for path in program):
            yield place
