"""The command group `blemore-baselines`. Results go to stdout, progress and talk to stderr.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import click

from blemore.cli import Group
from blemore.errors import NOT_INSTALLED, some
from blemore.version import VERSION
from blemore_baselines.commands import analyse, clips, data, models, results

# What the extra `baselines` in setup.cfg installs, by the names under which Python imports it.
PACKAGES = "av cv2 matplotlib numpy pandas safetensors soundfile soxr torch tqdm transformers".split()


class Baselines(Group):
    """Ends every command, `--help` included, with what to install where packages are missing; imports nothing to see."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            message = f"blemore-baselines needs packages that are not installed ({some(missing)})"
            click.echo(f"{message}: in the kit's folder, run pip install '.[baselines]'", err=True)
            sys.exit(NOT_INSTALLED)
        return super().parse_args(ctx, args)


@click.group(cls=Baselines, goes_on=("demo", "extract", "train", "reproduce"))
@click.version_option(VERSION, prog_name="blemore-baselines")
def main() -> None:
    """The BLEMORE baselines: from clips to features, models and submissions.

    \b
    The path, with a small generated dataset:
      blemore-baselines demo --out demo
      blemore-baselines extract --encoder logmel --metadata demo/train_metadata.csv --clips demo/train --out features/train
      blemore-baselines extract --encoder logmel --metadata demo/test_metadata.csv --clips demo/test --out features/test
      blemore-baselines train --metadata demo/train_metadata.csv --features features/train/logmel --out run
      blemore-baselines predict --model run --features features/test/logmel --ids demo/test_metadata.csv --out submission.zip
    """


COMMANDS = (
    clips.demo,
    clips.encoders,
    clips.extract,
    clips.aggregate,
    models.train,
    models.predict,
    models.decode,
    models.trivial,
    results.report,
    results.reproduce,
    analyse.analyse,
    data.data,
    data.template,
)
for _command in COMMANDS:
    main.add_command(_command)
