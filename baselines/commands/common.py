"""What several commands share: options that mean the same everywhere, and where talk goes."""

from __future__ import annotations

from collections.abc import Sequence

import click

from blemore.cli import PATH
from blemore.errors import printable
from blemore_baselines.models.recipes import HEADS, PRESETS


def talk(text: str) -> None:
    """For people: results alone go to stdout."""
    click.echo(text, err=True)


def table(rows: Sequence[Sequence]) -> str:
    """Columns side by side, the last one as wide as it comes."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*cells))[:-1]] + [0]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


metadata_option = click.option(
    "--metadata", type=PATH, required=True, metavar="CSV", help="The dataset's train_metadata.csv."
)
clips_option = click.option(
    "--metadata", type=PATH, required=True, metavar="CSV", help="Whose clips: train_metadata.csv or test_metadata.csv."
)
features_option = click.option(
    "--features",
    type=PATH,
    required=True,
    multiple=True,
    metavar="PATH",
    help="An aggregated .npz, a CSV table, or a folder with a file a clip. Several are fused.",
)
preset_option = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="published",
    show_default=True,
    help=(
        "published: the paper's protocol; fast: with the MLP heads as good on nested figures, in a twentieth of the"
        " time or less."
    ),
)
head_option = click.option("--head", type=click.Choice(list(HEADS)), default="mlp512", show_default=True)
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
