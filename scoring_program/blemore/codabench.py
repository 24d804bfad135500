"""The platform's way in and out: finds the files under the input folder, writes the output folder.

    input/res/               the submission's files: exactly one JSON, see `blemore.io.pick_json`
    input/ref/labels.json    the labels; those at /app/data/blemore/labels.json, on an organiser's own worker, come
    first input/ref/settings.json  optional: {"report": "full|aggregate|none", "labels_sha256": "…"}; other labels are
    refused output/scores.json       exactly `SCORE_KEYS`; written last, and only if everything went well
    output/detailed_results.html

Participants can read everything that this prints or writes. So of the labels nothing is told: if they
are wrong, only the kinds of problems are, and an unexpected error gives its place without its text.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore import page, significance
from blemore.errors import BlemoreError, FileError, Problem, ReferenceLabelsError, ValidationError, origin, show, some
from blemore.evaluate import evaluate
from blemore.io import MAX_JSON_BYTES, MAX_NESTING, parse_json, pick_json, read_bytes, to_json, write_atomic
from blemore.report import problems_to_text, to_text
from blemore.validate import Reference, validate_labels

SCORE_KEYS = ("score", "acc_presence", "acc_salience")  # the leaderboard's columns, in their order
WORKER_LABELS = "/app/data/blemore/labels.json"


class Settings(NamedTuple):
    """What the bundle decides: how much the page shows, and which labels are the right ones (None: any)."""

    report: str = "aggregate"
    labels_sha256: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one submission; the exit code, see errors.py."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a character that the terminal lacks shows as its code
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return run(options.input, options.output, options.worker_labels)
    except BlemoreError as error:  # the output folder itself cannot be written
        print(problems_to_text(error.problems), file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="score.py", description="Score a BLEMORE submission the way the platform does."
    )
    parser.add_argument(
        "--input", type=Path, default=Path("/app/input"), metavar="DIR", help="holds res/ and ref/ (%(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("/app/output"),
        metavar="DIR",
        help="gets scores.json and detailed_results.html (%(default)s)",
    )
    on_worker = Path(os.environ.get("BLEMORE_WORKER_LABELS") or WORKER_LABELS)
    parser.add_argument(
        "--worker-labels",
        type=Path,
        default=on_worker,
        metavar="FILE",
        help="labels that are preferred to those in ref/ (%(default)s)",
    )
    return parser


def run(source: Path, output: Path, worker_labels: Path = Path(WORKER_LABELS)) -> int:
    """Score what lies in `source`, write to `output`, print the figures or every problem; the exit code."""
    _remove(output / "scores.json")  # of an earlier run: no failure may leave a score behind
    try:
        settings = read_settings(source / "ref")
        reference = read_labels(source / "ref" / "labels.json", worker_labels, settings.labels_sha256)
        predictions, where = read_submission(source / "res")
        report = evaluate(predictions, reference, where=where)
        scores = {key: getattr(report.counts, key) for key in SCORE_KEYS}
        bootstrap = significance.bootstrap(report)
        write_atomic(output / "detailed_results.html", page.scored(report, bootstrap, settings.report))
    except BlemoreError as error:
        return _fail(error.problems, error.exit_code, output)
    except Exception as error:  # a defect of this program; its text could hold a label
        return _fail([_unexpected(error)], ReferenceLabelsError.exit_code, output)
    print("Scored." if settings.report == "none" else to_text(report, bootstrap).lstrip("\n"), flush=True)
    write_atomic(output / "scores.json", to_json(scores))
    return 0


def _fail(problems: Sequence[Problem], exit_code: int, output: Path) -> int:
    organiser = exit_code == ReferenceLabelsError.exit_code
    if organiser:
        print("No fault of the submission: the organisers' side must be mended.", file=sys.stderr)
    print(problems_to_text(problems), file=sys.stderr, flush=True)
    write_atomic(output / "detailed_results.html", page.failed(problems, organiser))
    return exit_code


def _unexpected(error: Exception) -> Problem:
    hint = "A defect of the scoring program: please report this line."
    return Problem("internal", "scoring program", f"{type(error).__name__} at {origin(error)}", hint=hint)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileError(
            Problem(
                "cannot-write",
                str(path),
                f"cannot be removed: {error.strerror}",
                hint="The output folder must be writable.",
            )
        ) from None


# ------------------------------------------------------------------------------- the submission


def read_submission(folder: Path) -> tuple[object, str]:
    """The parsed JSON of a submission's folder and its name inside it."""
    if not folder.is_dir():
        raise FileError(
            Problem(
                "cannot-open",
                str(folder),
                "no such folder; expected the submission's extracted files in it",
                hint="Is --input right?",
            )
        )
    name = pick_json(_files(folder), "submission")
    return parse_json(read_bytes(folder / name, MAX_JSON_BYTES), name), name


def _files(folder: Path) -> Iterator[str]:
    """Relative paths of the regular files, as deep as a submission's JSON may lie.

    No links: they could lead to the labels.
    """
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        if len(inside.parts) >= MAX_NESTING:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            if stat.S_ISREG(os.lstat(os.path.join(place, name)).st_mode):
                yield (inside / name).as_posix()


# ----------------------------------------------------------------------- labels and settings


def read_settings(folder: Path) -> Settings:
    """The bundle's settings. ReferenceLabelsError: they are wrong."""
    path = folder / "settings.json"
    if not path.exists():
        return Settings()
    try:
        data = parse_json(read_bytes(path, MAX_JSON_BYTES), "settings.json")
    except BlemoreError as error:
        raise ReferenceLabelsError(error.problems) from None
    if not isinstance(data, dict) or not data.keys() <= set(Settings._fields):
        found = (
            f"unknown keys {some(sorted(data.keys() - set(Settings._fields)))}"
            if isinstance(data, dict)
            else "no object"
        )
        raise ReferenceLabelsError(
            Problem(
                "settings",
                "settings.json",
                f"found {found}; expected {' and '.join(Settings._fields)}, both optional",
                hint="Make the bundle anew with blemore-codabench build.",
            )
        )
    settings = Settings(**data)
    if settings.report not in page.LEVELS:
        message = f"found {show(settings.report)}; expected one of {', '.join(page.LEVELS)}"
        raise ReferenceLabelsError(
            Problem(
                "settings",
                "settings.json: $.report",
                message,
                hint="Make the bundle anew with blemore-codabench build --report.",
            )
        )
    return settings


def read_labels(shipped: Path, on_worker: Path, sha256: str | None) -> Reference:
    """The labels on the worker, else those shipped with the bundle; with `sha256`, the first of the two that has it.

    Raises ReferenceLabelsError: there are none, others than the bundle was made for, wrong ones, or none with a blend.
    """
    found = {}
    for path in (on_worker, shipped):
        if path.exists():
            try:
                found[path] = read_bytes(path, MAX_JSON_BYTES)
            except BlemoreError as error:
                raise ReferenceLabelsError(error.problems) from None
    if not found:
        raise ReferenceLabelsError(
            Problem(
                "no-labels",
                "labels",
                f"neither {on_worker} nor labels.json in the reference data is there",
                hint="Build the bundle again, or put its labels.json on the worker.",
            )
        )
    raw = next((raw for raw in found.values() if sha256 in (None, hashlib.sha256(raw).hexdigest())), None)
    if raw is None:
        raise ReferenceLabelsError(
            Problem(
                "other-labels",
                "labels",
                "their SHA-256 is not the one that the bundle was built with",
                hint="Put the labels.json that was written beside the bundle on the worker, or build the bundle again.",
            )
        )
    try:
        reference = validate_labels(parse_json(raw, "labels"), "labels")
    except ValidationError as error:
        raise ReferenceLabelsError(_kinds(error.problems)) from None
    if not any(label.is_blend for label in reference.labels.values()):
        raise ReferenceLabelsError(
            Problem(
                "no-blends",
                "labels",
                "no blend among them: acc_salience and score are undefined",
                hint="Build the bundle again, with labels that hold blends.",
            )
        )
    return reference


def _kinds(problems: Sequence[Problem]) -> Problem:
    """That the labels are wrong, without a word on what they are."""
    kinds = ", ".join(f"{count:,} {code}" for code, count in Counter(problem.code for problem in problems).items())
    return Problem(
        "bad-labels",
        "labels",
        f"they are invalid ({kinds})",
        hint="blemore-codabench build names every problem of the labels.",
    )
