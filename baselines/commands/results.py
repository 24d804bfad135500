"""What came of it: report."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from blemore.cli import PATH
from blemore.evaluate import read_reference


@click.command()
@click.option("--run", "folder", type=PATH, required=True, metavar="RUN", help="A finished run folder.")
@click.option("--submission", type=PATH, metavar="ZIP", help="With --labels: score it too.")
@click.option("--labels", type=PATH, metavar="FILE", help="Labels of the submission's clips, where they are known.")
def report(folder: Path, submission: Optional[Path], labels: Optional[Path]) -> None:
    """Write RUN/report.html: figures, learning curves, thresholds, errors.

    Example: blemore-baselines report --run run
    """
    if bool(submission) != bool(labels):
        raise click.UsageError("--submission and --labels go together")
    from blemore_baselines.report import write_report

    scored = None
    if submission:
        from blemore.evaluate import evaluate
        from blemore.io import read_json

        data, where = read_json(submission)
        scored = evaluate(data, read_reference(labels), where=where)
    click.echo(write_report(folder, scored))
