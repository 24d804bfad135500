"""The whole path in one command: run."""

from __future__ import annotations

import os
import sys

import click

from blemore_baselines.commands.common import talk


@click.command()
def run() -> None:
    """Do everything, from clips or features to a checked submission and a report.

    Without a dataset it works on the demo, which it makes first. What is done is not done again: stop it when you like
    and start it again. Delete the output folder to start afresh.

    \b
    It takes no arguments, but these variables:
      BLEMORE_DATA      the folder that the dataset was unpacked into: its own
                        features are used, if it has any, else its videos
      BLEMORE_ENCODERS  the features to use together, "ImageBind WavLM_large"
                        for example; without it the paper's best pair, else all
      BLEMORE_NORMALISE centre or standardise: bring every actor to the same
                        mean, or mean and spread, from all their clips; who is
                        in the test clips is found out by their features
      BLEMORE_OUT       the output folder; without it `output` in the current
                        folder or, from run_all.sh, in that of the checkout

    \b
    Example:
      blemore-baselines run
    """
    from blemore_baselines import pipeline

    data, encoders, normalise, out = (
        os.environ.get(f"BLEMORE_{name}", "") for name in ("DATA", "ENCODERS", "NORMALISE", "OUT")
    )
    try:
        click.echo(pipeline.run(data, encoders.split(), normalise or "none", out or "output", talk))
    except pipeline.PipelineError as error:
        talk(str(error))
        sys.exit(1)
