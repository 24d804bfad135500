"""The command `blemore-rank`: ranks any number of submissions, and says what can be concluded from the ranking."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from blemore.cli import PATH, FilePath, Program, demand_file, demand_folds
from blemore.errors import FileError, Problem, ReferenceLabelsError, ValidationError, printable, some
from blemore.evaluate import Report, evaluate, read_reference, restrict
from blemore.io import read_json, read_table, to_json, write_atomic
from blemore.rank_page import rank_page
from blemore.rank_report import LeftOut, pairs_to_csv, rank_to_csv, rank_to_dict, rank_to_latex, rank_to_text
from blemore.ranking import rank
from blemore.report import NO_BLENDS, problems_to_text
from blemore.validate import Reference
from blemore.version import VERSION

SUFFIXES = (".json", ".zip")  # of submissions in a folder


@click.command(cls=Program)
@click.argument("submissions", type=PATH, nargs=-1, required=True, metavar="FOLDER-OR-FILES…")
@click.argument("labels", type=PATH)
@click.option(
    "--names",
    type=PATH,
    metavar="FILE.csv",
    help="A table of names to show, with the columns file and name. Default: the files' names.",
)
@click.option(
    "--fold",
    "folds",
    type=int,
    multiple=True,
    metavar="K",
    help="Rank only on fold K (LABELS: train_metadata.csv). Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with unrounded figures.")
@click.option(
    "--csv",
    "csv_file",
    type=FilePath(to_write=True, suffix=".csv", beside=(".pairs.csv",)),
    metavar="FILE.csv",
    help="Write the unrounded ranking to FILE.csv and all pairs to FILE.pairs.csv.",
)
@click.option(
    "--latex", type=FilePath(to_write=True), metavar="FILE.tex", help="Write the ranking as a table for a paper."
)
@click.option(
    "--html", type=FilePath(to_write=True), metavar="FILE.html", help="Write a page with the stability of ranks."
)
@click.version_option(VERSION, prog_name="blemore-rank")
def main(
    submissions: tuple[Path, ...],
    labels: Path,
    names: Path | None,
    folds: tuple[int, ...],
    as_json: bool,
    csv_file: Path | None,
    latex: Path | None,
    html: Path | None,
) -> None:
    """Rank submissions by their score on LABELS, and say which can be told apart.

    FOLDER-OR-FILES are submissions, or folders with submissions (.json and .zip, also in subfolders). LABELS is a
    labels JSON or the dataset's metadata CSV.

    \b
    Examples:
      blemore-rank submissions/ labels.json
      blemore-rank submissions/ labels.json --names names.csv --latex ranking.tex --html ranking.html
      blemore-rank one.zip two.zip train_metadata.csv --fold 0

    Invalid submissions are listed with their problems and left out.

    Exit codes: 0 fine, 1 some submissions are invalid, 2 usage, 3 a file cannot be opened, 4 LABELS are invalid.
    """
    demand_file(labels, "The last argument must be the file with the labels: labels.json, or train_metadata.csv.")
    reference = read_reference(labels)
    demand_folds(reference, folds)
    _demand_blends(reference, folds, labels)
    files = list(_files(submissions, except_for=[labels, *([names] if names else [])]))
    by_name = name_files(files, read_names(names) if names else {}, names)
    reports, left_out = _evaluate(by_name, reference, folds)
    if left_out:
        click.echo(problems_to_text([problem for submission in left_out for problem in submission.problems]), err=True)
        click.echo(f"\nLeft out, since they are invalid: {len(left_out):,} of {len(by_name):,}.", err=True)
    ranking = rank(reports)
    for path, content in (
        (csv_file, rank_to_csv(ranking)),
        (csv_file and csv_file.with_suffix(".pairs.csv"), pairs_to_csv(ranking)),
        (latex, rank_to_latex(ranking, left_out)),
        (html, rank_page(ranking, left_out)),
    ):
        if path:
            write_atomic(path, content)
    places = {name: str(path) for name, path in by_name.items()}
    click.echo(to_json(rank_to_dict(ranking, left_out, places)) if as_json else rank_to_text(ranking, left_out))
    if left_out:
        sys.exit(ValidationError.exit_code)


def _demand_blends(reference: Reference, folds: Iterable[int], path: Path) -> None:
    if not any(label.is_blend for label in restrict(reference, folds)[0].labels.values()):
        message = f"{NO_BLENDS}; expected blends, without which there is no score to rank by"
        raise ReferenceLabelsError(Problem("no-blends", str(path), message))


def _evaluate(
    by_name: Mapping[str, Path], reference: Reference, folds: Iterable[int]
) -> tuple[dict[str, Report], list[LeftOut]]:
    """The reports of the valid submissions, and the invalid submissions.

    Raises ValidationError: every submission is invalid; FileError: with every file that cannot be opened.
    """
    reports, left_out, unreadable = {}, [], []
    on_terminal, last = sys.stderr.isatty(), len(by_name)
    for number, (name, path) in enumerate(by_name.items(), 1):
        if on_terminal:
            click.echo(f"\r{number:,} of {last:,} submissions", nl=number == last, err=True)
        try:
            data, where = read_json(path)
            reports[name] = evaluate(data, reference, folds, where)
        except ValidationError as error:
            left_out.append(LeftOut(name, str(path), error.problems))
        except FileError as error:
            unreadable += error.problems
    if unreadable:
        raise FileError(unreadable)
    if not reports:
        raise ValidationError([problem for submission in left_out for problem in submission.problems])
    return reports, left_out


# ------------------------------------------------------------------------------ files and names


def _files(paths: Sequence[Path], except_for: Sequence[Path]) -> Iterator[Path]:
    """Each submission once: files in the order given, those of a folder in the order of their names.

    Raises ValidationError: a folder has no submission in it.
    """
    places = {os.path.realpath(path) for path in except_for}
    for path in paths:
        inside = list(_in_folder(path)) if path.is_dir() else [path]
        others = [candidate for candidate in inside if os.path.realpath(candidate) not in places]
        if path.is_dir() and not inside:
            message = f"no submission in it; expected files that end in {' or '.join(SUFFIXES)}"
            raise ValidationError(Problem("no-submissions", str(path), message, hint="Is it the right folder?"))
        places.update(map(os.path.realpath, others))
        yield from others


def _in_folder(folder: Path) -> Iterator[Path]:
    """The submissions in a folder and its subfolders. Other files are listed on stderr, unless they are hidden."""
    others = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(place) / name
            if path.suffix.lower() in SUFFIXES:
                yield path
            else:
                others.append(str(path.relative_to(folder)))
    if others:
        note = f"Ignored in {folder}, since the names end in neither .json nor .zip: {some(others)}"
        click.echo(printable(note), err=True)


def read_names(path: Path) -> dict[str, str]:
    """The names in a table, by file. ValidationError: a column or cell is missing, or a file or name is repeated."""
    rows = read_table(path)
    if not rows or not {"file", "name"} <= set(rows[0]):
        raise ValidationError(Problem("bad-names", str(path), "expected rows with the columns file and name"))
    problems = []
    for row in rows:
        if not row["file"] or not row["name"]:
            problems.append(Problem("bad-names", f"{path}: line {row['']}", "a cell is empty; expected file and name"))
    for column in ("file", "name"):
        duplicates = [text for text, times in Counter(row[column] for row in rows).items() if text and times > 1]
        if duplicates:
            message = f"more than one row with the {column} {some(duplicates)}; expected each once"
            problems.append(Problem("bad-names", str(path), message))
    if problems:
        raise ValidationError(problems)
    return {row["file"]: row["name"] for row in rows}


def name_files(files: Sequence[Path], names: Mapping[str, str], where: Path | None = None) -> dict[str, Path]:
    """The files by the names that they are shown with.

    A row of `names` gives a file's path, or only its name if no other file has that name. A file without a row is named
    by its stem or, if another file has the same stem, by its path below the folder that all files share.

    Raises ValidationError: a row matches no file or several, or two files get the same name.
    """
    by_name: dict[str, Path] = {}
    problems, rows = [], {}
    for file, name in names.items():
        matches = [path for path in files if file in (path.name, str(path), os.path.normpath(path))]
        if len(matches) == 1:
            rows[matches[0]] = name
        else:
            message = f"{len(matches)} submissions are called {printable(file)}; expected one"
            hint = "Write the path as you give it to the command." if matches else "Is it spelt like the file?"
            problems.append(Problem("bad-names", str(where), message, hint=hint))
    for path, own in zip(files, _own_names(files)):
        name = rows.get(path, own)
        if name in by_name:
            message = f"{printable(name)} is also the name of {by_name[name]}; expected different names"
            problems.append(Problem("bad-names", str(path), message, hint="Give names with --names."))
        by_name[name] = path
    if problems:
        raise ValidationError(problems)
    return by_name


def _own_names(files: Sequence[Path]) -> list[str]:
    """Stems or, if these are not unique, paths below the shared folder, with the suffix if necessary."""
    absolute = [Path(os.path.abspath(path)) for path in files]
    shared = os.path.commonpath([path.parent for path in absolute]) if absolute else "."
    forms = [
        [path.stem for path in absolute],
        [path.relative_to(shared).with_suffix("").as_posix() for path in absolute],
        [path.relative_to(shared).as_posix() for path in absolute],
    ]
    counts = [Counter(form) for form in forms]
    return [next((name for name, count in zip(names, counts) if count[name] == 1), names[-1]) for names in zip(*forms)]
