"""The command `blemore-score`, and the error reporting that all of the kit's commands share.

Results go to stdout, everything else to stderr; errors.py defines the exit codes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from blemore import page, report, significance
from blemore.errors import (
    BROKEN_PIPE,
    BUG,
    INTERRUPTED,
    BlemoreError,
    FileError,
    Problem,
    ValidationError,
    origin,
    printable,
    some,
)
from blemore.evaluate import Report, evaluate, read_ids, read_reference, restrict
from blemore.evaluate import check as run_check
from blemore.io import MAX_JSON_BYTES, command_file, read_json, to_json, write_atomic, zip_names
from blemore.validate import Reference
from blemore.version import VERSION


class FilePath(click.Path):
    """A path that a command reads or, with `to_write`, a file that it writes. No other option may name that file.

    suffix: the required ending of the file's name
    beside: the suffixes of further files that are written next to it, each in place of the name's own suffix
    """

    def __init__(self, to_write: bool = False, suffix: str = "", beside: tuple[str, ...] = ()):
        super().__init__(path_type=Path)
        self.to_write, self.suffix, self.beside = to_write, suffix, beside

    def convert(self, value: Any, param: click.Parameter, ctx: click.Context) -> Path:
        path = Path(super().convert(value, param, ctx))
        if not path.name.lower().endswith(self.suffix):
            self.fail(f"{printable(str(path))}; expected a name that ends in {self.suffix}", param, ctx)
        uses = ctx.meta.setdefault(f"{__name__}.named", {})  # by file: the option that names it, and whether it writes
        for place in (path, *map(path.with_suffix, self.beside)):
            other, other_writes = uses.setdefault(os.path.realpath(place), (param, self.to_write))
            if other is not param and (other_writes or self.to_write):
                writer, reader = (param, other) if self.to_write else (other, param)
                claim = (
                    f"{writer.get_error_hint(ctx)} would overwrite {printable(str(place))}, which"
                    f" {reader.get_error_hint(ctx)} names as well"
                )
                raise click.UsageError(f"{claim}; expected a different file", ctx)
        return path


PATH = FilePath()
OUT_FOLDER = click.Path(path_type=Path, file_okay=False)


class Program(click.Command):
    """A command that reports errors in plain words and exits with their exit code; `Group` has subcommands like that.

    `--debug` shows the traceback first. `resumable`: the subcommands that continue where they were stopped.
    """

    def __init__(self, *arguments: Any, resumable: tuple[str, ...] = (), **options: Any):
        super().__init__(*arguments, **{"context_settings": {"help_option_names": ["-h", "--help"]}, **options})
        self.resumable = resumable
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Show the traceback of any error.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> Any:
        if hasattr(sys.stdout, "reconfigure"):  # show characters that the terminal lacks as their codes
            sys.stdout.reconfigure(errors="backslashreplace")
        with problems_told(ctx):  # --help and --version print here
            _demand_current_folder()
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with problems_told(ctx):
            return super().invoke(ctx)


class Group(Program, click.Group):
    """A group of subcommands. `--debug` comes before the subcommand's name."""


def _demand_current_folder() -> None:
    """FileError: the current folder is gone, without which libraries fail in confusing ways."""
    try:
        os.getcwd()
    except OSError:
        problem = Problem("cannot-open", ".", "the current folder no longer exists", hint="Change to another: cd ~")
        raise FileError(problem) from None


def _remember(ctx: click.Context, _: click.Parameter, debug: bool) -> None:
    ctx.meta["debug"] = debug


@contextlib.contextmanager
def problems_told(ctx: click.Context) -> Iterator[None]:
    """Turn errors into lines on stderr (with --json: one JSON object on stdout) and an exit code."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise  # click's own
    except BlemoreError as error:
        _show_traceback(ctx)
        if ctx.params.get("as_json"):
            click.echo(to_json(report.problems_to_dict(error.problems)), nl=False)
        else:
            click.echo(report.problems_to_text(error.problems), err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of stdout has gone away
        _let_go_of_stdout()
        sys.exit(BROKEN_PIPE)
    except OSError as error:  # a full disk, in a library or under stdout itself
        _let_go_of_stdout()
        _show_traceback(ctx)
        click.echo(printable(f"{error.filename or 'writing'}: {error.strerror or error}"), err=True)
        sys.exit(FileError.exit_code)
    except KeyboardInterrupt:
        _show_traceback(ctx)
        click.echo("\nStopped." + (" Run the same command again to continue." if _is_resumable(ctx) else ""), err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        _show_traceback(ctx)
        message = (
            f"This is a bug in the kit, {type(error).__name__} at {origin(error)}: please report this line and the"
            f" command. {ctx.command_path} --debug … shows the traceback."
        )
        click.echo(printable(message), err=True)
        sys.exit(BUG)


def _show_traceback(ctx: click.Context) -> None:
    if ctx.meta.get("debug"):
        click.echo("\n".join(map(printable, traceback.format_exc().splitlines())), err=True)


def _is_resumable(ctx: click.Context) -> bool:
    return isinstance(ctx.command, Program) and ctx.invoked_subcommand in ctx.command.resumable


def _let_go_of_stdout() -> None:
    """Discard what is still buffered; Python would fail again when it flushes that at exit."""
    with contextlib.suppress(OSError, ValueError):  # stdout may have no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command(cls=Program)
@click.argument("preds", type=PATH)
@click.argument("labels", type=PATH, required=False)
@click.option("--check", is_flag=True, help="Only check PREDS, without labels.")
@click.option(
    "--ids",
    type=PATH,
    metavar="FILE",
    help="With --check: the clips that PREDS must contain (test_metadata.csv, or a JSON of clips).",
)
@click.option(
    "--fold",
    "folds",
    type=int,
    multiple=True,
    metavar="K",
    help="Score only fold K (LABELS: train_metadata.csv). Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with unrounded figures.")
@click.option(
    "--per-clip",
    type=FilePath(to_write=True),
    metavar="FILE.csv",
    help="Write the truth, prediction and kind of error for every clip.",
)
@click.option(
    "--html",
    type=FilePath(to_write=True),
    metavar="FILE.html",
    help="Write a page with figures, intervals and confusions.",
)
@click.option("--ci", is_flag=True, help="Add 95 % intervals (jackknife over actors).")
@click.option(
    "--against",
    "others",
    type=PATH,
    multiple=True,
    metavar="OTHER",
    help="Compare with the submission OTHER, paired over actors. Repeatable.",
)
@click.option(
    "--max-mib",
    type=click.IntRange(1),
    default=MAX_JSON_BYTES // 2**20,
    show_default=True,
    metavar="N",
    help="Refuse JSON files larger than N MiB.",
)
@click.version_option(VERSION, prog_name="blemore-score")
def main(
    preds: Path,
    labels: Path | None,
    check: bool,
    ids: Path | None,
    folds: tuple[int, ...],
    as_json: bool,
    per_clip: Path | None,
    html: Path | None,
    ci: bool,
    others: tuple[Path, ...],
    max_mib: int,
) -> None:
    """Score the predictions PREDS against LABELS.

    PREDS is a submission: JSON, or a zip with one JSON in it. LABELS is a labels JSON or the dataset's
    metadata CSV.

    \b
    Examples:
      blemore-score submission.zip train_metadata.csv --fold 0
      blemore-score submission.zip train_metadata.csv --ci --against other.zip --against another.zip
      blemore-score --check submission.zip --ids test_metadata.csv

    Exit codes: 0 fine, 1 PREDS is invalid, 2 usage, 3 a file cannot be opened, 4 LABELS are invalid.
    """
    if check and (labels or folds or per_clip or html or ci or others):
        raise click.UsageError("--check takes only PREDS: no LABELS, and no option that needs them")
    if not check and labels is None:
        raise click.UsageError(
            "LABELS are missing; to check PREDS without labels: blemore-score --check PREDS --ids test_metadata.csv"
        )
    if not check and ids:
        raise click.UsageError("--ids needs --check; without it, LABELS name the clips")
    for path in (preds, *others):
        demand_file(path, "Name one submission in it, or rank them all: blemore-rank FOLDER LABELS.")
    for path in filter(None, (labels, ids)):
        demand_file(path, "Name a file in it: labels or clips as JSON, or the dataset's metadata as CSV.")
    max_bytes = max_mib * 2**20
    if check or labels is None:
        check_only(preds, ids, as_json, max_bytes)
    else:
        reference = read_reference(labels, max_bytes)
        demand_folds(reference, folds)
        _demand_each_once(others)
        score(reference, preds, others, folds, as_json, per_clip, html, ci, max_bytes)


def check_only(preds: Path, ids: Path | None, as_json: bool, max_bytes: int) -> None:
    expected = read_ids(ids) if ids else None
    labels = {clip: entry.label for clip, entry in run_check(preds, expected, max_bytes).items()}
    command = command_file(zip_names(preds))
    if command:
        click.echo(
            f"Warning: because of {command} in the zip, the platform takes it for a program. It runs the command in"
            f" that file, or fails if there is none, and never reads the JSON. Remove {command}.",
            err=True,
        )
    if as_json:
        click.echo(
            to_json({"valid": True, "n": len(labels), "n_blends": sum(label.is_blend for label in labels.values())}),
            nl=False,
        )
        return
    click.echo(f"valid: {printable(str(preds))}\n{report.composition(labels)}")
    if expected is None:
        click.echo("Not checked: whether every clip is there. To check that, add --ids test_metadata.csv.", err=True)


def demand_file(path: Path, hint: str) -> None:
    """FileError: it is a folder."""
    if path.is_dir():
        raise FileError(Problem("cannot-open", str(path), "a folder; expected a file", hint=hint))


def demand_folds(reference: Reference, folds: tuple[int, ...]) -> None:
    """UsageError: a fold does not exist, which is a mistake in the call, not in a file."""
    try:
        restrict(reference, folds)
    except ValidationError as error:
        raise click.UsageError(error.problems[0].message, click.get_current_context()) from None


def _demand_each_once(others: tuple[Path, ...]) -> None:
    """UsageError: a file is named twice. Each comparison counts when p-values are corrected."""
    duplicates = [str(path) for path, times in Counter(map(os.path.realpath, others)).items() if times > 1]
    if duplicates:
        raise click.UsageError(f"--against names {some(duplicates)} more than once", click.get_current_context())


def score(
    reference: Reference,
    preds: Path,
    others: Sequence[Path],
    folds: tuple[int, ...],
    as_json: bool,
    per_clip: Path | None,
    html: Path | None,
    ci: bool,
    max_bytes: int,
) -> None:
    """Score, compare, write the files and print."""
    result, *rivals = evaluate_all([preds, *others], reference, folds, max_bytes)
    comparisons = significance.corrected([significance.compare(result, rival) for rival in rivals])
    by_name = {str(path): comparison for path, comparison in zip(others, comparisons)}
    intervals = significance.intervals(result) if ci or html else None
    if per_clip:
        write_atomic(per_clip, report.per_clip_csv(result))
    if html and intervals:
        write_atomic(html, page.scored(result, intervals, by_name))
    parts = (result, intervals if ci else None, by_name)
    click.echo(to_json(report.to_dict(*parts)) if as_json else report.to_text(*parts).lstrip("\n"), nl=not as_json)


def evaluate_all(paths: Sequence[Path], reference: Reference, folds: Iterable[int], max_bytes: int) -> list[Report]:
    """The reports of several submissions. ValidationError: with the problems of every invalid one."""
    reports, problems = [], []
    for path in paths:
        try:
            data, where = read_json(path, max_bytes)
            reports.append(evaluate(data, reference, folds, where))
        except ValidationError as error:
            problems += error.problems
    if problems:
        raise ValidationError(problems)
    return reports
