"""Scores a submission the way the platform's worker does, here.

    program/   the scoring program, the working directory; read-only
    input/res  the submission, extracted as it is, and a file `metadata` that the worker writes beside it
    input/ref  the reference data
    output/    empty

The command stands in the program's metadata.yaml. It is split at spaces, without a shell. The program
runs in an interpreter that sees no installed package, since the platform's images promise none.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from blemore.errors import Problem, printable
from blemore.io import read_bytes
from blemore_codabench.bundle import LARGEST, MOST_FILES, Bundle, BundleError, parse_yaml

BARE = ("-S", "-s", "-E")  # no site-packages, no user's packages, no PYTHON* variables; the script's own folder stays
UNREADABLE = (
    zipfile.BadZipFile,
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)  # zipfile's
TIME_LIMIT = 600  # seconds, the default queue's


class Outcome(NamedTuple):
    """What a participant would see.

    status:  `Finished`, `Finished without a score` or `Failed`
    reason:  why there is no score, None if there is one
    scores:  what the server would accept, by leaderboard key; n/a (None) where the program gave nothing usable
    output:  the folder with what the program wrote, and its stdout.txt and stderr.txt
    """

    status: str
    reason: str | None
    scores: dict[str, float | None]
    exit_code: int | None
    output: Path


def simulate(
    bundle: Bundle,
    submission: Path,
    output: Path,
    phase: str | None = None,
    python: str = sys.executable,
    worker_labels: Path | None = None,
) -> Outcome:
    """Score one submission's zip with a phase's first task (default: the last phase's).

    Raises FileError: the zip cannot be opened; BundleError: the bundle lacks what is needed.
    """
    task = _task(bundle, phase)
    reference = bundle.data(task["reference_data"]) if task.get("reference_data") else None
    raw = read_bytes(submission)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        try:
            extract(raw, Path(root) / "input" / "res")
        except UNREADABLE as error:
            return Outcome("Failed", f"the zip cannot be extracted: {printable(str(error))}", {}, None, output)
        run = execute(Path(root), bundle.data(task["scoring_program"]), reference, output, python, worker_labels)
    return judge(run, columns(bundle), output)


def _task(bundle: Bundle, phase: str | None) -> Mapping:
    phases = bundle.config["phases"]
    names = [str(entry.get("name")) for entry in phases]
    if phase is not None and phase not in names:
        raise BundleError(
            Problem(
                "no-phase",
                "phases",
                f"no phase {phase}; the bundle has {', '.join(names)}",
                hint="Name one of these with --phase.",
            )
        )
    index = phases[names.index(phase) if phase is not None else -1]["tasks"][0]
    return next(task for task in bundle.config["tasks"] if task["index"] == index)


def extract(raw: bytes, folder: Path) -> None:
    """Extract a submission as the worker does, with whatever it holds; then write the worker's own file beside it."""
    if raw.count(b"PK\x01\x02") > MOST_FILES:  # each entry's first bytes; a list of millions would take gigabytes
        raise ValueError(f"more than {MOST_FILES:,} files")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
            raise ValueError(f"more than {LARGEST / 2**20:,.0f} MiB when extracted")
        folder.mkdir(parents=True)
        archive.extractall(folder)
    (folder / "metadata").write_text("elapsedTime: 0.1\nexitCode: 0\n", encoding="utf-8")


class _Run(NamedTuple):
    exit_code: int | None  # None: it was stopped at the time limit
    error: str | None = None


def execute(
    root: Path,
    program: Mapping[str, bytes],
    reference: Mapping[str, bytes] | None,
    output: Path,
    python: str,
    worker_labels: Path | None = None,
) -> _Run:
    """Lay the folders out around `root/input/res`, run the program's command, put what it wrote into `output`."""
    _lay_out(root / "program", program)
    if reference is not None:
        _lay_out(root / "input" / "ref", reference)
    command = _command(program, root, output, python)
    _read_only(root)
    # Labels of a worker of one's own stand at a fixed place there; here they must be named, or not be there.
    environment = {"PATH": os.environ.get("PATH", ""), "BLEMORE_WORKER_LABELS": str(worker_labels or root / "none")}
    with open(output / "stdout.txt", "wb") as out, open(output / "stderr.txt", "wb") as err:
        try:
            done = subprocess.run(
                command,
                cwd=root / "program",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=TIME_LIMIT,
            )
        except subprocess.TimeoutExpired:
            return _Run(None, f"stopped after {TIME_LIMIT} s")
        except OSError as error:
            return _Run(None, f"the command cannot be run: {error}")
    return _Run(done.returncode)


def _lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(Problem("bad-zip", name, "leads out of its folder", hint="Build the bundle again."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _read_only(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o444)


def command_of(program: Mapping[str, bytes]) -> str:
    """The command in the program's metadata. BundleError: there is none."""
    name = next((name for name in ("metadata.yaml", "metadata") if name in program), None)
    if name is None:
        hint = "Zip the content of the folder, not the folder itself."
        raise BundleError(Problem("no-command", "scoring program", "no metadata.yaml at its root", hint=hint))
    command = parse_yaml(program[name], f"scoring program: {name}").get("command")
    if not isinstance(command, str) or not command.split():
        raise BundleError(
            Problem(
                "no-command", f"scoring program: {name}", "no command; expected e.g. command: python3 $program/score.py"
            )
        )
    return command


def _command(program: Mapping[str, bytes], root: Path, output: Path, python: str) -> list[str]:
    places = {"$input": str(root / "input"), "$output": str(output.resolve()), "$program": str(root / "program")}
    words = command_of(program).split()
    for variable, place in places.items():
        words = [word.replace(variable, place) for word in words]
    if Path(words[0]).name.startswith("python"):
        words[:1] = [python, *BARE]
    return words


def columns(bundle: Bundle) -> list[str]:
    """The keys of the leaderboard's columns that a program must give: those that the server computes are left out."""
    board = bundle.config["leaderboards"][0]
    return [column["key"] for column in board["columns"] if not column.get("computation")]


def judge(run: _Run, keys: list[str], output: Path) -> Outcome:
    """The status that the server would give, and the scores that it would accept."""
    if run.exit_code is None:
        return Outcome("Failed", run.error, {}, None, output)
    if run.exit_code != 0:
        return Outcome("Failed", f"exit code {run.exit_code}", {}, run.exit_code, output)
    try:
        given = emitted(output)
    except ValueError as error:
        return Outcome("Failed", str(error), {}, 0, output)
    scores = {key: _accepted(given.get(key)) for key in keys}
    absent = [key for key, value in scores.items() if value is None]
    if absent:
        return Outcome("Finished without a score", f"no usable value for {', '.join(absent)}", scores, 0, output)
    return Outcome("Finished", None, scores, 0, output)


def emitted(output: Path) -> dict:
    """What the program put into scores.json, else scores.txt. ValueError: neither is there, or it cannot be read."""
    if (output / "scores.json").is_file():
        data = json.loads((output / "scores.json").read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("scores.json holds no object")
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
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e10  # no NaN either
    return round(float(value), 10) if usable else None
