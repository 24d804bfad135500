"""The command group `blemore-baselines`. Results go to stdout, progress and messages to stderr.

Each command imports what it needs only when it runs, so `--help` is fast.
"""

from __future__ import annotations

import click

from blemore.cli import Group
from blemore.version import VERSION
from blemore_baselines.commands import (
    actors,
    analyse,
    clips,
    data,
    decode,
    finetuning,
    models,
    pipeline,
    results,
    weights,
)


@click.group(cls=Group, resumable=("run", "demo", "faces", "extract", "train", "finetune", "reproduce"))
@click.version_option(VERSION, prog_name="blemore-baselines")
def main() -> None:
    """The BLEMORE baselines: from clips to features, models and submissions.

    \b
    The whole path, on a small generated dataset (`blemore-baselines run` does it in one go):
      blemore-baselines demo --out demo
      blemore-baselines extract --encoder logmel --metadata demo/train_metadata.csv --clips demo/train --out train
      blemore-baselines extract --encoder logmel --metadata demo/test_metadata.csv --clips demo/test --out test
      blemore-baselines train --metadata demo/train_metadata.csv --features train/logmel --out run
      blemore-baselines predict --model run --features test/logmel --ids demo/test_metadata.csv --out submission.zip
    """


COMMANDS: tuple[click.Command, ...] = (
    pipeline.run,
    clips.demo,
    clips.encoders,
    weights.weights,
    finetuning.faces,
    clips.extract,
    clips.aggregate,
    actors.actors,
    models.train,
    finetuning.finetune,
    models.predict,
    decode.decode,
    models.trivial,
    results.report,
    results.reproduce,
    analyse.analyse,
    data.data,
    data.template,
)
for _command in COMMANDS:
    main.add_command(_command)
