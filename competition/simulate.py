"""Scores a submission on this machine, the way the platform's worker does.

    app/program/   the scoring program, the working directory; read-only
    app/input/res  the extracted submission, and a file `metadata` that the worker adds
    app/input/ref  the reference data
    app/data       the folder of the worker's owner, with the labels that stay on the worker
    app/output/    empty

The command is in the program's metadata.yaml. It is split as a shell would split it, but runs without a shell. The
program's interpreter sees no installed packages, since the platform's images promise none.

The worker takes a submission with a `metadata` or `metadata.yaml` at its root for a program: it runs the program, and
scores what that writes. Here the program runs in a sandbox or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import yaml

from blemore.codabench import WORKER_LABELS
from blemore.errors import Problem, printable
from blemore.io import COMMAND_FILES, read_bytes
from blemore_codabench import sandbox
from blemore_codabench.bundle import Bundle, BundleError
from blemore_codabench.commands import PYTHON, SUBMISSION, command_of, words
from blemore_codabench.keys import whole

BARE = ("-S", "-s", "-E")  # no site-packages, no user's packages, no PYTHON* variables; the script's own folder stays
TIME_LIMIT = 600  # seconds, if the phase sets no limit
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)  # that the worker can read
# The platform's messages for a failed submission.
BAD_ZIP, BAD_EXIT = "Bad or empty zip file", "Child task failed or non-zero return code"
FOR_GOOD = "this kills the worker, so the submission keeps this status for good and counts against the limit"


class Outcome(NamedTuple):
    """The outcome of a submission.

    status:  `Finished`, `Finished without a score`, `Failed`, `Preparing` (for good: the worker died), or `Not run`
             (only the platform would run its command)
    reason:  why there is no score, None if there is one
    scores:  what the server would accept, by leaderboard key; None (n/a) if the program gave nothing usable
    output:  the folder with the program's output, stdout.txt and stderr.txt
    details: what the platform shows of the reason
    """

    status: str
    reason: str | None
    scores: dict[str, float | None]
    exit_code: int | None
    output: Path
    details: str = ""


class End(NamedTuple):
    """The outcome of a submission that never reaches the scoring program."""

    status: str
    reason: str
    details: str = ""


def simulate(
    bundle: Bundle,
    submission: Path,
    output: Path,
    phase: str | None = None,
    python: str = sys.executable,
    worker_labels: Path | None = None,
) -> Outcome:
    """Score one submission's zip with a phase's first task (default: the last phase's).

    Raises FileError: the zip cannot be opened; BundleError: the bundle lacks something.
    """
    entry = _phase(bundle, phase)
    task = next(task for _, task in bundle.entries("tasks") if task.get("index") == entry["tasks"][0])
    reference = bundle.data(task["reference_data"]) if task.get("reference_data") else None
    time_limit = whole(entry.get("execution_time_limit")) or TIME_LIMIT
    raw = read_bytes(submission)
    output.mkdir(parents=True, exist_ok=True)
    for name in ("scores.json", "scores.txt", "detailed_results.html"):  # from an earlier run
        (output / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app"
        end = predict(raw, app / "input" / "res", time_limit)
        if end:
            return Outcome(end.status, end.reason, {}, None, output, end.details)
        if worker_labels:
            _lay_out(app, {WORKER_LABELS: read_bytes(worker_labels)})
        run = execute(app, bundle.data(task["scoring_program"]), reference, output, python, time_limit)
    return judge(run, columns(bundle), output)


def _phase(bundle: Bundle, name: str | None) -> Mapping:
    phases = [phase for _, phase in bundle.phases()]
    if name is None:
        return phases[-1]
    by_name = {str(phase.get("name")): phase for phase in phases}
    if name not in by_name:
        message = f"no phase {name}; the bundle has {', '.join(by_name)}"
        raise BundleError(Problem("no-phase", "phases", message, hint="Name one of these with --phase."))
    return by_name[name]


# ------------------------------------------------------------------------------ the submission


def predict(raw: bytes, folder: Path, time_limit: float = TIME_LIMIT) -> End | None:
    """Put a submission's predictions into a folder as the worker does. Returns an End if it fails here."""
    try:
        extract(raw, folder)
    except zipfile.BadZipFile as error:
        return End("Failed", f"the zip cannot be extracted: {printable(str(error))}", BAD_ZIP)
    except Exception as error:  # the worker handles no other error
        return End("Preparing", f"the zip cannot be extracted ({printable(str(error))}): {FOR_GOOD}")
    name = next((name for name in COMMAND_FILES if (folder / name).exists()), None)
    if name:
        end = _run_submission(folder, name, time_limit)
        if end:
            return end
    if not any(folder.iterdir()):
        return End("Failed", "nothing is in it", BAD_ZIP)
    (folder / "metadata").write_text("elapsedTime: 0.1\nexitCode: 0\n", encoding="utf-8")  # as the worker does
    return None


def extract(raw: bytes, folder: Path) -> None:
    """Extract a zip as the worker does, whatever is in it."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        for entry in archive.infolist():
            if entry.compress_type not in METHODS:  # newer Pythons can read more
                raise NotImplementedError(f"compression method {entry.compress_type}")
            archive.extract(entry, folder)


def _run_submission(folder: Path, name: str, time_limit: float) -> End | None:
    """Replace a submission by the output of its own command."""
    command = _submitted_command(folder / name)
    if command is None:
        return End("Failed", f"because of {name}, the worker takes it for a program, but finds no command", BAD_ZIP)
    places = {key: folder.parent / f"submission_{key}" for key in ("program", "output", "log")}
    folder.rename(places["program"])
    for path in (folder, places["output"], places["log"]):
        path.mkdir()
    try:
        argv = words(command, variables=SUBMISSION)
        exit_code = sandbox.run(argv, places["program"], places["output"], places["log"], time_limit)
    except ValueError as error:
        return End("Failed", f"the command in {name} cannot be split: {printable(str(error))}", BAD_EXIT)
    except sandbox.NoSandbox:
        return End("Not run", f"{name} holds a command, which only the platform runs: this machine has no sandbox")
    if exit_code is None:
        return End("Failed", f"the command in {name} took more than {time_limit} s")
    if exit_code:
        return End("Failed", f"the command in {name} exited with code {exit_code}", BAD_EXIT)
    for path in _regular_files(places["output"]):
        target = folder / path.relative_to(places["output"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    return None if any(folder.iterdir()) else End("Failed", f"the command in {name} wrote nothing", BAD_ZIP)


def _submitted_command(path: Path) -> str | None:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    command = data.get("command") if isinstance(data, dict) else None
    return command if isinstance(command, str) and command.strip() else None


def _regular_files(folder: Path) -> Iterator[Path]:
    """The files in a folder without links, which could lead anywhere on this machine."""
    for place, _, names in os.walk(folder):
        yield from (path for path in (Path(place, name) for name in names) if stat.S_ISREG(path.lstat().st_mode))


# --------------------------------------------------------------------------- the scoring program


class Run(NamedTuple):
    exit_code: int | None  # None: it was stopped at the time limit
    error: str | None = None


def execute(
    app: Path,
    program: Mapping[str, bytes],
    reference: Mapping[str, bytes] | None,
    output: Path,
    python: str,
    time_limit: float = TIME_LIMIT,
) -> Run:
    """Lay out the folders around `app/input/res`, run the program's command, and copy its output to `output`."""
    _lay_out(app / "program", program)
    if reference is not None:
        _lay_out(app / "input" / "ref", reference)
    for folder in ("output", "shared", "ingested_program"):
        (app / folder).mkdir()
    argv = words(command_of(program), app)
    if PYTHON.fullmatch(argv[0]):
        argv[:1] = [python, *BARE]
    _read_only(app)
    path = os.pathsep.join([str(_pythons(app.parent / "bin", python)), os.environ.get("PATH", "")])
    run = _run(argv, app, output, {"PATH": path, "BLEMORE_APP": str(app)}, time_limit)
    shutil.copytree(app / "output", output, dirs_exist_ok=True)
    return run


def _run(argv: list[str], app: Path, output: Path, environment: Mapping[str, str], time_limit: float) -> Run:
    try:
        code = sandbox.capture(argv, output, environment, time_limit, app / "program")
    except OSError as error:
        return Run(None, f"the command cannot be run: {error}")
    return Run(None, f"stopped after {time_limit} s") if code is None else Run(code)


def _lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(Problem("bad-zip", name, "leads out of its folder", hint="Build the bundle again."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _read_only(app: Path) -> None:
    for path in app.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o444)


def _pythons(folder: Path, python: str) -> Path:
    """A folder in which `python` and `python3` are the interpreter, for commands that start it indirectly."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        (folder / name).write_text(f'#!/bin/sh\nexec "{python}" {" ".join(BARE)} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


# ------------------------------------------------------------------------------------ the scores


def columns(bundle: Bundle) -> list[str]:
    """The keys of the leaderboard's columns that a program must give, without those that the server computes."""
    board = bundle.config["leaderboards"][0]
    return [str(column["key"]).strip() for column in board["columns"] if not column.get("computation")]


def judge(run: Run, keys: list[str], output: Path) -> Outcome:
    """The outcome of a run: the server's status, and the scores that it would accept."""
    if run.exit_code is None:
        return Outcome("Failed", run.error, {}, None, output)
    if run.exit_code != 0:
        return Outcome("Failed", f"exit code {run.exit_code}", {}, run.exit_code, output, BAD_EXIT)
    try:
        values = emitted(output)
    except ValueError as error:
        return Outcome("Failed", str(error), {}, 0, output)
    scores = {key: _accepted(values.get(key)) for key in keys}
    absent = [key for key, value in scores.items() if value is None]
    if absent:
        return Outcome("Finished without a score", f"no usable value for {', '.join(absent)}", scores, 0, output)
    return Outcome("Finished", None, scores, 0, output)


def emitted(output: Path) -> dict:
    """What the program put into scores.json, else scores.txt. ValueError: there is neither, or it cannot be read."""
    if (output / "scores.json").is_file():
        data = json.loads((output / "scores.json").read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("scores.json is not an object")
        return data
    if (output / "scores.txt").is_file():
        lines = (output / "scores.txt").read_text(encoding="utf-8").splitlines()
        return {key.strip(): _float(value) for key, colon, value in (line.partition(":") for line in lines) if colon}
    raise ValueError("the program wrote no scores.json")


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _accepted(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e10:  # false for NaN
        return None
    return round(float(value), 10)
