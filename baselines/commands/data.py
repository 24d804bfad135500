"""The dataset's folder and its test clips: data check, template."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from blemore.cli import OUT_FOLDER, PATH
from blemore.evaluate import read_ids
from blemore_baselines.commands.common import talk


@click.group()
def data() -> None:
    """Look at the folder that the dataset was unpacked into.

    \b
    Example:
      blemore-baselines data check demo
    """


@data.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--figures", type=OUT_FOLDER, metavar="OUT", help="Draw durations and labels, as PNG and PDF in this folder."
)
def check(folder: Path, figures: Path | None) -> None:
    """Tell what is in DIR, what is missing, and what differs from the challenge's dataset.

    Reads the metadata, the header of every video and all pre-extracted features; ends with 1 if something is wrong.

    \b
    Example:
      blemore-baselines data check demo --figures figures
    """
    from blemore_baselines.survey.check import report, survey, write_figures

    outcome = survey(folder)
    for path in write_figures(outcome, figures) if figures else ():
        talk(f"{path} drawn")
    click.echo(report(outcome))
    if outcome.problems:
        sys.exit(1)


@click.command()
@click.option("--ids", type=PATH, metavar="CSV", help="Whose clips: test_metadata.csv.  [default: the challenge's 594]")
@click.option("--out", type=OUT_FOLDER, required=True, metavar="DIR", help="The JSON, the zip and a README go there.")
def template(ids: Path | None, out: Path) -> None:
    """Write the submission template: every test clip with a placeholder, and a page of common mistakes.

    \b
    Example:
      blemore-baselines template --out submission_template
    """
    from blemore_baselines.template import OFFICIAL_IDS, write_template

    for path in write_template(read_ids(ids) if ids else OFFICIAL_IDS, out):
        click.echo(path)
