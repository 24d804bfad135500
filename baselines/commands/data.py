"""The commands for the dataset and the submission template: data get, data check, template."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore.cli import OUT_FOLDER, PATH
from blemore.errors import printable
from blemore.evaluate import read_ids
from blemore_baselines.commands.common import agrees, table, talk

if TYPE_CHECKING:
    from blemore_baselines.download import Remote
    from blemore_baselines.survey.check import Survey
    from blemore_baselines.survey.record import Record


@click.group()
def data() -> None:
    """Get the dataset, and check the folder that it was unpacked into.

    \b
    Example:
      blemore-baselines data get --out DATA
      blemore-baselines data check demo
    """


@data.command()
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DATA", help="Where to fetch and unpack the files.")
@click.option(
    "--only",
    type=click.Choice(["train", "test", "features"]),
    help="Fetch only this part, judged by file names, and files that belong to no part, such as metadata.",
)
@click.option(
    "--record",
    "number",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="The number of another record on Zenodo.  [default: the current one]",
)
@click.option("--yes", is_flag=True, help="Fetch without asking, and agree to the licence.")
def get(out: Path, only: str | None, number: int | None, yes: bool) -> None:
    """Fetch the dataset from its record on Zenodo, unpack it, and check what is there.

    Lists the files and their sizes, and asks first. An interrupted download resumes where it stopped. Every file must
    have the MD5 that the record states. A restricted record needs an access token in ZENODO_TOKEN.

    \b
    Example:
      blemore-baselines data get --out DATA --only features
    """
    from blemore_baselines.survey import record as records
    from blemore_baselines.survey.check import survey
    from blemore_baselines.survey.unpack import is_archive, is_other_archive, unpack

    record = records.read_record(number or records.CURRENT)
    files = records.choose(record.files, only)
    talk(_listing(record, files, out))
    records.demand_room(files, out)
    is_complete = all((out / remote.path).exists() for remote in files)
    if not (yes or is_complete or agrees("Fetch them, and agree to that licence?")):
        talk("nothing was fetched")
        sys.exit(1)
    paths = records.fetch_all(record, files, out)
    outcome = unpack([path for path in paths if is_archive(path)], out)
    talk(f"{outcome.written:,} files unpacked, {outcome.there:,} there already")
    for path in filter(is_other_archive, paths):
        talk(f"{path}: not a zip file; unpack it by hand")
    _print_report(
        survey(out, ("train", "test") if only is None else [part for part in ("train", "test") if part == only])
    )


def _listing(record: Record, files: Sequence[Remote], out: Path) -> str:
    """A record's files, and what will be done with each."""
    from blemore_baselines.survey.record import part_of, size_text, state

    rows = [("file", "size", "part", "")]
    for remote in record.files:
        plan = state(remote, out) if remote in files else "will be skipped"
        rows.append((remote.path, size_text(remote.size or 0), part_of(remote.path) or "–", plan))
    total = size_text(sum(remote.size or 0 for remote in files))
    licence = printable(record.licence) or "not stated"
    return (
        f"{record.page}: {printable(record.title)}\nlicence: {licence}; the page has its text and the terms of access\n"
        f"\n{table(rows)}\n\n{total} in total, to {out}"
    )


@data.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--figures", type=OUT_FOLDER, metavar="OUT", help="Draw durations and labels, as PNG and PDF, into this folder."
)
def check(folder: Path, figures: Path | None) -> None:
    """Print what is in DIR, what is missing, and what differs from the challenge's dataset.

    Reads the metadata, the header of every video and all pre-extracted features. The exit code is 1 if anything is
    wrong.

    \b
    Example:
      blemore-baselines data check demo --figures figures
    """
    from blemore_baselines.survey.check import survey, write_figures

    outcome = survey(folder)
    for path in write_figures(outcome, figures) if figures else ():
        talk(f"{path} drawn")
    _print_report(outcome)


def _print_report(outcome: Survey) -> None:
    from blemore_baselines.survey.check import report

    click.echo(report(outcome))
    if outcome.problems:
        sys.exit(1)


@click.command()
@click.option("--ids", type=PATH, metavar="CSV", help="The clips: test_metadata.csv.  [default: the challenge's 594]")
@click.option(
    "--out", type=OUT_FOLDER, required=True, metavar="DIR", help="Where to write the JSON, the zip and a README."
)
def template(ids: Path | None, out: Path) -> None:
    """Write the submission template (a placeholder for every test clip) and a page of common mistakes.

    \b
    Example:
      blemore-baselines template --out submission_template
    """
    from blemore_baselines.template import OFFICIAL_IDS, write_template

    for path in write_template(read_ids(ids) if ids else OFFICIAL_IDS, out):
        click.echo(path)
