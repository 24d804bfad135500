"""What several commands share: common options, and messages to stderr."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore.cli import PATH
from blemore.errors import printable
from blemore.io import write_atomic
from blemore_baselines.decoding.decoders import DECODERS
from blemore_baselines.models.recipes import HEADS, NORMALISATIONS, PRESETS

if TYPE_CHECKING:
    from blemore_baselines.decoding.decoders import Answers

EXPECTED = ".expected.csv"  # suffix of a file next to a submission


def talk(text: str) -> None:
    """Prints a message to stderr; only results go to stdout."""
    click.echo(text, err=True)


def table(rows: Sequence[Sequence]) -> str:
    """The rows as text with aligned columns; the last column is not padded."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*cells))[:-1]] + [0]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def workers_or_default(workers: int | None = None) -> int:
    """How many clips to decode at once: the given number, or the number of cores, at most 8."""
    from blemore_baselines.engines import available_cores

    return workers or min(8, available_cores())


def agrees(question: str) -> bool:
    """Asks whether the user agrees to a licence. UsageError: there is no terminal to ask at."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("there is no terminal to ask at; give --yes to agree to the licence") from None


metadata_option = click.option(
    "--metadata", type=PATH, required=True, metavar="CSV", help="The dataset's train_metadata.csv."
)
clips_option = click.option(
    "--metadata", type=PATH, required=True, metavar="CSV", help="The clips: train_metadata.csv or test_metadata.csv."
)
clips_folder_option = click.option(
    "--clips",
    type=PATH,
    required=True,
    metavar="DIR",
    help="The folder with the clips' files; subfolders are searched too.",
)
features_option = click.option(
    "--features",
    type=PATH,
    required=True,
    multiple=True,
    metavar="PATH",
    help="An aggregated .npz, a CSV table, or a folder with a file per clip. Several are fused.",
)
preset_option = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="published",
    show_default=True,
    help=(
        "published: the paper's protocol; fast: equally good nested figures with the MLP heads, in at most a twentieth"
        " of the time."
    ),
)
head_option = click.option("--head", type=click.Choice(list(HEADS)), default="mlp512", show_default=True)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)


def _number(_: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuses NaN, which click accepts in any range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not in the range 0<=x<=1.", param_hint=parameter.opts[0])
    return value


decoder_option = click.option("--decoder", type=click.Choice(list(DECODERS)), default="thresholds", show_default=True)
weight_option = click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    callback=_number,
    metavar="W",
    help="structured: the weight of ACC_presence in the score to maximise.  [default: 0.5]",
)


def decoder_options(decoder: str, **values: float | None) -> dict[str, float]:
    """The options that were given. UsageError: the decoder does not have one of them."""
    options = {name: value for name, value in values.items() if value is not None}
    for name in options:
        if name not in DECODERS[decoder].options:
            owners = [owner for owner in DECODERS if name in DECODERS[owner].options]
            raise click.UsageError(f"--{name} goes with --decoder {' or '.join(owners)}")
    return options


def write_expected(out: Path, clips: Sequence[str], answers: Answers) -> None:
    """Writes each clip's expected gain next to the submission, if the decoder provides it; prints which scores were
    divided.
    """
    excess = [] if answers.excess is None else answers.excess.tolist()
    for number, factor in enumerate(excess, start=1):
        if factor > 1:
            model = f"model {number}" if len(excess) > 1 else "the model"
            talk(f"{model}: scores are spread {factor:.3f} times as wide as out of fold, so they were divided by that")
    if answers.expected is not None:
        from blemore_baselines.predict import expected_csv

        write_atomic(out.with_suffix(EXPECTED), expected_csv(clips, answers.labels, answers.expected))
        talk(f"{out.with_suffix(EXPECTED)}: the expected gain per clip")


normalise_option = click.option(
    "--normalise",
    type=click.Choice(NORMALISATIONS),
    default="none",
    show_default=True,
    help="Give every actor the same mean, or mean and spread, from all their clips but no labels (transductive).",
)
groups_option = click.option(
    "--groups", type=PATH, metavar="CSV", help="With --normalise: the actor in each new clip (filename,actor)."
)
