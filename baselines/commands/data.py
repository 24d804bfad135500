"""The dataset's folder and its test clips: data check, template."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from blemore.cli import PATH
from blemore.evaluate import read_ids


@click.command()
@click.option("--ids", type=PATH, metavar="CSV", help="Whose clips: test_metadata.csv.  [default: the challenge's 594]")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="The JSON, the zip and a README go there.")
def template(ids: Optional[Path], out: Path) -> None:
    """Write the submission template: every test clip with a placeholder, and a page of common mistakes.

    Example: blemore-baselines template --out submission_template
    """
    from blemore_baselines.template import OFFICIAL_IDS, write_template

    for path in write_template(read_ids(ids) if ids else OFFICIAL_IDS, out):
        click.echo(path)
