"""The whole path in one command: run."""

from __future__ import annotations

import os
import sys

import click

from blemore_baselines.commands.common import talk


@click.command()
def run() -> None:
    """Do everything, from clips or features to a checked submission and a report.

    Without a dataset, it makes a demo dataset and uses that. Finished steps are not repeated, so you can stop it at any
    time and start it again. To start over, delete the output folder.

    \b
    It takes no arguments, but reads these environment variables:
      BLEMORE_DATA      the folder that the dataset was unpacked into; its own
                        features are used if it has any, otherwise its videos
      BLEMORE_ENCODERS  the features to use together, for example "ImageBind
                        WavLM_large"; default: the paper's best pair, else all
      BLEMORE_NORMALISE centre or standardise: give every actor the same mean,
                        or mean and spread, from all their clips; the actors of
                        the test clips are inferred from features
      BLEMORE_OUT       the output folder; default: `output` in the current
                        folder or, for run_all.sh, in the checkout

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
