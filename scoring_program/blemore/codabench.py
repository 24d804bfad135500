"""The platform's interface: reads the input folder and writes the output folder.

    input/res/                    the submission's files: exactly one JSON, see `blemore.io.pick_json`
    data/blemore/labels.json      the labels, on an organiser's own worker
    input/ref/labels.json         the labels, if they are not on the worker
    input/ref/settings.json       optional, see `Settings`; labels with a different hash are refused
    output/scores.json            exactly `SCORE_KEYS`; written last, and only if everything went well
    output/detailed_results.html

These folders are in /app. For trials, the environment variable BLEMORE_APP names another place.

Participants can read everything that this prints or writes. So a page of hidden labels shows only the
three totals (`blemore.page`). If the labels are wrong, only the kinds of problems are named. An unexpected error
is reported by its place, without its text.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore import page, significance
from blemore.errors import BlemoreError, FileError, Problem, ReferenceLabelsError, ValidationError, origin, show, some
from blemore.evaluate import Report, evaluate
from blemore.io import MAX_JSON_BYTES, MAX_NESTING, parse_json, pick_json, read_bytes, to_json, write_atomic
from blemore.report import hidden_text, problems_to_text, to_text
from blemore.validate import Reference, validate_labels

SCORE_KEYS = ("score", "acc_presence", "acc_salience")  # the leaderboard's columns, in their order
APP = "/app"  # where the worker lays everything out
WORKER_LABELS = "data/blemore/labels.json"  # in APP


class Settings(NamedTuple):
    """What the bundle decides. By default the labels are hidden, and any labels are accepted.

    report:             how much the page shows, see `blemore.page`; anything but `full` means hidden labels
    labels_sha256:      the hash of the labels' file, if they are public
    labels_hmac_sha256: the same, keyed with the `secret` in the file, if they are hidden
    """

    report: str = "aggregate"
    labels_sha256: str | None = None
    labels_hmac_sha256: str | None = None

    @property
    def hidden(self) -> bool:
        return self.report != "full"


class Results(NamedTuple):
    """What participants see of a scored submission."""

    text: str
    page: str
    scores: dict[str, float | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one submission. Returns the exit code (see errors.py)."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # show characters that the terminal lacks as their codes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return run(options.input, options.output, options.worker_labels)
    except BlemoreError as error:  # the output folder itself cannot be written
        print(problems_to_text(error.problems), file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    app = Path(os.environ.get("BLEMORE_APP") or APP)
    parser = argparse.ArgumentParser(
        prog="score.py", description="Score a BLEMORE submission the way the platform does."
    )
    for option, default, metavar, purpose in (
        ("--input", "input", "DIR", "holds res/ and ref/"),
        ("--output", "output", "DIR", "gets scores.json and detailed_results.html"),
        ("--worker-labels", WORKER_LABELS, "FILE", "labels that take precedence over those in ref/"),
    ):
        parser.add_argument(option, type=Path, default=app / default, metavar=metavar, help=f"{purpose} (%(default)s)")
    return parser


def run(source: Path, output: Path, worker_labels: Path = Path(APP) / WORKER_LABELS) -> int:
    """Score the submission in `source`, write to `output`, print the figures or the problems. Returns the exit code."""
    _remove(output / "scores.json")  # from an earlier run: a failure must not leave a score behind
    try:
        settings = read_settings(source / "ref")
        reference = read_labels(source / "ref" / "labels.json", worker_labels, settings)
        predictions, where = read_submission(source / "res")
        text, html, scores = results(evaluate(predictions, reference, where=where), settings.report)
        write_atomic(output / "detailed_results.html", html)
    except BlemoreError as error:
        return _fail(error.problems, error.exit_code, output)
    except Exception as error:  # a bug in this program; the error's text could contain a label
        return _fail([_unexpected(error)], ReferenceLabelsError.exit_code, output)
    print(text, flush=True)
    write_atomic(output / "scores.json", to_json(scores))
    return 0


def results(report: Report, level: str) -> Results:
    """What is shown at a level of `blemore.page`. The leaderboard shows the scores at any level."""
    scores = {key: getattr(report.counts, key) for key in SCORE_KEYS}
    if level == "full":
        intervals = significance.intervals(report)
        return Results(to_text(report, intervals).lstrip("\n"), page.scored(report, intervals, level=level), scores)
    text = "Scored." if level == "none" else hidden_text(report)
    return Results(text, page.scored(report, level=level), scores)


def _fail(problems: Sequence[Problem], exit_code: int, output: Path) -> int:
    organiser = exit_code == ReferenceLabelsError.exit_code
    if organiser:
        print("The submission is not at fault: the organisers must fix their side.", file=sys.stderr)
    print(problems_to_text(problems), file=sys.stderr, flush=True)
    write_atomic(output / "detailed_results.html", page.failed(problems, organiser))
    return exit_code


def _unexpected(error: Exception) -> Problem:
    hint = "This is a bug in the scoring program: please report this line."
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
                hint="Make the output folder writable.",
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
                "no such folder; expected one with the submission's extracted files",
                hint="Is --input right?",
            )
        )
    name = pick_json(_files(folder), "submission")
    return parse_json(read_bytes(folder / name, MAX_JSON_BYTES), name), name


def _files(folder: Path) -> Iterator[str]:
    """Relative paths of the regular files, down to the depth that a submission's JSON may have.

    Links are skipped: they could lead to the labels.
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
        raw = read_bytes(path, MAX_JSON_BYTES)
    except BlemoreError as error:
        raise ReferenceLabelsError(error.problems) from None
    return parse_settings(raw)


def parse_settings(raw: bytes) -> Settings:
    """Settings from their file's content. ReferenceLabelsError: they are wrong."""
    try:
        data = parse_json(raw, "settings.json")
    except ValidationError as error:
        raise ReferenceLabelsError(error.problems) from None
    if not isinstance(data, dict):
        raise ReferenceLabelsError(_wrong_settings("$", "no object", f"an object with {', '.join(Settings._fields)}"))
    unknown = sorted(data.keys() - set(Settings._fields))
    if unknown:
        fields = f"{', '.join(Settings._fields)}, all optional"
        raise ReferenceLabelsError(_wrong_settings("$", f"unknown keys {some(unknown)}", fields))
    settings = Settings(**data)
    if settings.report not in page.LEVELS:
        levels = f"one of {', '.join(page.LEVELS)}"
        raise ReferenceLabelsError(_wrong_settings("$.report", show(settings.report), levels))
    return settings


def _wrong_settings(place: str, value: str, expected: str) -> Problem:
    message = f"found {value}; expected {expected}"
    hint = "Build the bundle again with blemore-codabench build."
    return Problem("settings", f"settings.json: {place}", message, hint=hint)


def read_labels(shipped: Path, on_worker: Path, settings: Settings) -> Reference:
    """The labels on the worker, else those in the bundle: the first of the two that match the hash in the settings.

    Raises ReferenceLabelsError: there are none, or see `parse_labels`.
    """
    candidates = [raw for raw in map(_read_if_there, (on_worker, shipped)) if raw is not None]
    if not candidates:
        raise ReferenceLabelsError(
            Problem(
                "no-labels",
                "labels",
                f"found neither {on_worker} nor labels.json in the reference data",
                hint="Build the bundle again, or put its labels.json on the worker.",
            )
        )
    return parse_labels(candidates, settings)


def parse_labels(candidates: Sequence[bytes], settings: Settings) -> Reference:
    """The labels of the first of several files that matches the hash in the settings.

    Raises ReferenceLabelsError: no file matches, the labels are wrong, or none of them is a blend.
    """
    raw = next((raw for raw in candidates if _has_hash(raw, settings)), None)
    if raw is None:
        raise ReferenceLabelsError(
            Problem(
                "other-labels",
                "labels",
                "not those that the bundle was built with: their SHA-256 (keyed if they are hidden) differs",
                hint="Put the labels.json of this bundle on the worker, or build the bundle again.",
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
                "no blend among them, so acc_salience and score are undefined",
                hint="Build the bundle again with labels that include blends.",
            )
        )
    return reference


def _read_if_there(path: Path) -> bytes | None:
    """A file of labels; None if it does not exist. ReferenceLabelsError: it exists but cannot be read."""
    try:
        return read_bytes(path, MAX_JSON_BYTES)
    except FileError as error:
        if isinstance(error.__context__, (FileNotFoundError, NotADirectoryError)):
            return None
        hint = "The worker reads it as another user: give the file mode 0644 and its folder mode 0755."
        raise ReferenceLabelsError([problem._replace(hint=hint) for problem in error.problems]) from None
    except ValidationError as error:
        raise ReferenceLabelsError(error.problems) from None


def _has_hash(raw: bytes, settings: Settings) -> bool:
    if settings.labels_hmac_sha256 is not None:
        return hmac_of(raw) == settings.labels_hmac_sha256
    return settings.labels_sha256 in (None, hashlib.sha256(raw).hexdigest())


def hmac_of(raw: bytes) -> str | None:
    """The HMAC-SHA-256 of a labels file, keyed with the secret in it; None if it has none."""
    try:
        data = parse_json(raw, "labels")
    except ValidationError:
        return None
    secret = data.get("secret") if isinstance(data, dict) else None
    if not isinstance(secret, str):
        return None
    return hmac.new(secret.encode("utf-8", "surrogatepass"), raw, hashlib.sha256).hexdigest()


def _kinds(problems: Sequence[Problem]) -> Problem:
    """A problem that says the labels are wrong without revealing any of them."""
    kinds = ", ".join(f"{count:,} {code}" for code, count in Counter(problem.code for problem in problems).items())
    return Problem(
        "bad-labels",
        "labels",
        f"invalid ({kinds})",
        hint="blemore-codabench build lists every problem in the labels.",
    )
