"""The group `analyse`: a command a study."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import click

from blemore.cli import PATH
from blemore_baselines.commands.common import features_option, metadata_option, talk

preset_option = click.option("--preset", type=click.Choice(["published", "fast"]), default="fast", show_default=True, help="As in train.")
head_option = click.option("--head", type=click.Choice(["linear", "mlp256", "mlp512"]), default="mlp512", show_default=True)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
out_option = click.option("--out", type=PATH, required=True, metavar="DIR", help="Where the study's JSON, tables and figures go.")


def training_options(command: Callable) -> Callable:
    """What a study needs to train: --preset, --head, --seed, --out."""
    for option in (out_option, seed_option, head_option, preset_option):
        command = option(command)
    return command


@click.group()
def analyse() -> None:
    """Run one of the experiments that the paper leaves open.

    Each tells what it found, with intervals over actors, and writes DIR/STUDY.json, tables (CSV, LaTeX) and figures.

    Example: blemore-baselines analyse identity
    """


def _finish(study, out: Path) -> None:
    """Write a study, and tell it."""
    from blemore_baselines.analyse.study import told, write

    write(study, out)
    click.echo(told(study))
    talk(f"Tables and figures are in {out}")


def _read(metadata: Path, paths: Sequence[Path]) -> tuple:
    """The dataset, and the aggregated features of its clips from each path."""
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_features

    dataset = read_dataset(metadata)
    return dataset, [read_features(path, dataset.ids) for path in paths]


def _signature(dataset, sources: Sequence, **settings: object) -> str:
    from blemore_baselines.analyse.study import signature

    return signature(dataset, [source.X for source in sources], **settings)
