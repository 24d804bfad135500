"""The command `blemore-score`. Results go to stdout, everything else to stderr; exit codes stand in errors.py."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Iterator, Optional

import click

from blemore import page, report, significance
from blemore.errors import BlemoreError, ValidationError, printable
from blemore.evaluate import check as run_check
from blemore.evaluate import evaluate, read_ids, read_reference, restrict
from blemore.io import MAX_JSON_BYTES, read_json, to_json, write_atomic
from blemore.validate import Reference
from blemore.version import VERSION

PATH = click.Path(path_type=Path)


@contextlib.contextmanager
def problems_told(as_json: bool = False) -> Iterator[None]:
    """Turn a user's mistake into every problem on stderr (or one JSON object on stdout) and an exit code."""
    try:
        yield
    except BlemoreError as error:
        if as_json:
            click.echo(to_json(report.problems_to_dict(error.problems)), nl=False)
        else:
            click.echo(report.problems_to_text(error.problems), err=True)
        sys.exit(error.exit_code)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("preds", type=PATH)
@click.argument("labels", type=PATH, required=False)
@click.option("--check", is_flag=True, help="Only check PREDS, without labels.")
@click.option("--ids", type=PATH, metavar="FILE", help="With --check: the clips that PREDS must hold (test_metadata.csv, or a JSON of clips).")
@click.option("--fold", "folds", type=int, multiple=True, metavar="K", help="Score fold K alone (LABELS: train_metadata.csv). Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, figures unrounded.")
@click.option("--per-clip", type=PATH, metavar="FILE.csv", help="Write truth, prediction and kind of error of every clip.")
@click.option("--html", type=PATH, metavar="FILE.html", help="Write a page with figures, intervals and confusions.")
@click.option("--ci", is_flag=True, help="Add 95 % intervals, by a bootstrap over actors.")
@click.option("--against", type=PATH, metavar="OTHER", help="Compare with the submission OTHER, paired over actors.")
@click.option("--max-mib", type=click.IntRange(1), default=MAX_JSON_BYTES // 2**20, show_default=True, metavar="N", help="Refuse a larger JSON.")
@click.version_option(VERSION, prog_name="blemore-score")
def main(
    preds: Path, labels: Optional[Path], check: bool, ids: Optional[Path], folds: tuple, as_json: bool, per_clip: Optional[Path],
    html: Optional[Path], ci: bool, against: Optional[Path], max_mib: int,
) -> None:
    """Score the predictions PREDS against LABELS.

    PREDS is a submission: JSON, or a zip with one JSON in it. LABELS is a labels JSON or the dataset's
    metadata CSV.

    \b
    Examples:
      blemore-score submission.zip train_metadata.csv --fold 0
      blemore-score submission.zip train_metadata.csv --ci --against other.zip
      blemore-score --check submission.zip --ids test_metadata.csv

    Exit codes: 0 fine, 1 PREDS is invalid, 2 usage, 3 a file cannot be opened, 4 LABELS are invalid.
    """
    if check and (labels or folds or per_clip or html or ci or against):
        raise click.UsageError("--check takes PREDS alone: no LABELS, and none of the options that need them")
    if not check and labels is None:
        raise click.UsageError("LABELS are missing; to check PREDS without labels: blemore-score --check PREDS --ids test_metadata.csv")
    if not check and ids:
        raise click.UsageError("--ids goes with --check; with LABELS, they name the clips")
    if hasattr(sys.stdout, "reconfigure"):  # a character that the terminal lacks shows as its code
        sys.stdout.reconfigure(errors="backslashreplace")
    max_bytes = max_mib * 2**20
    with problems_told(as_json):
        if check:
            check_only(preds, ids, as_json, max_bytes)
        else:
            reference = read_reference(labels, max_bytes)
            _demand_folds(reference, folds)
            score(reference, preds, against, folds, as_json, per_clip, html, ci, max_bytes)


def check_only(preds: Path, ids: Optional[Path], as_json: bool, max_bytes: int) -> None:
    known = read_ids(ids) if ids else None
    parsed = {clip: entry.label for clip, entry in run_check(preds, known, max_bytes).items()}
    if as_json:
        click.echo(to_json({"valid": True, "n": len(parsed), "n_blends": sum(label.is_blend for label in parsed.values())}), nl=False)
        return
    click.echo(f"valid: {printable(str(preds))}\n{report.composition(parsed)}")
    if known is None:
        click.echo("Not checked: whether every clip is there. Name them with --ids test_metadata.csv.", err=True)


def _demand_folds(reference: Reference, folds: tuple) -> None:
    """A fold that is not there is a mistake in the call, not in a file."""
    try:
        restrict(reference, folds)
    except ValidationError as error:
        raise click.UsageError(error.problems[0].message, click.get_current_context()) from None


def score(
    reference: Reference, preds: Path, against: Optional[Path], folds: tuple, as_json: bool, per_clip: Optional[Path], html: Optional[Path],
    ci: bool, max_bytes: int,
) -> None:
    result, *other = [
        evaluate(data, reference, folds, where)
        for data, where in (read_json(path, max_bytes) for path in (preds, against) if path)
    ]
    bootstrap = significance.bootstrap(result) if ci or html else None
    comparison = significance.compare(result, *other) if other else None
    if per_clip:
        write_atomic(per_clip, report.per_clip_csv(result))
    if html:
        write_atomic(html, page.scored(result, bootstrap))
    shown = (result, bootstrap if ci else None, comparison)
    click.echo(to_json(report.to_dict(*shown)) if as_json else report.to_text(*shown).lstrip("\n"), nl=not as_json)
