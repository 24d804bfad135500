"""Commands: finetune, which trains encoders end to end, and faces, which aligns the faces that some of them use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from blemore.cli import OUT_FOLDER, PATH
from blemore.evaluate import read_ids
from blemore_baselines.commands.common import (
    clips_folder_option,
    decoder_option,
    decoder_options,
    metadata_option,
    seed_option,
    table,
    talk,
    weight_option,
    workers_or_default,
)
from blemore_baselines.finetuning import RECIPES


def _folds(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[int]:
    """The numbers of folds; −1 for `final`."""
    try:
        return [-1 if value == "final" else abs(int(value)) for value in values]
    except ValueError:
        raise click.BadParameter("expected the number of a fold, or final", param_hint=parameter.opts[0]) from None


at_once_option = click.option(
    "--at-once",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    metavar="N",
    help="Clips per device at once. The batch keeps its size: gradients are accumulated.",
)
cache_option = click.option(
    "--cache", type=OUT_FOLDER, metavar="DIR", help="The folder for decoded clips.  [default: cache, next to RUN]"
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Clips decoded at once.  [default: the number of cores, at most 8]",
)


@click.command()
@metadata_option
@clips_folder_option
@click.option("--faces", type=PATH, metavar="DIR", help="Use aligned faces instead of the clips' own frames.")
@click.option(
    "--encoder",
    required=True,
    metavar="NAME",
    help="hicmae, videomaev2-base, hubert, wavlm, hf-video:ID or hf-audio:ID.",
)
@click.option("--weights", metavar="PATH", help="A local file or folder, or a hub id.  [default: the encoder's own]")
@click.option(
    "--recipe",
    "recipe_name",
    type=click.Choice(RECIPES),
    default="reference",
    show_default=True,
    help="published: hicmae as the challenge fine-tuned it; last-layer: only the last layer of a speech model.",
)
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Overrides the recipe.")
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", help="Clips on all devices; the rate scales with it."
)
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), metavar="RATE", help="The peak for 256 clips per batch."
)
@click.option(
    "--folds",
    multiple=True,
    callback=_folds,
    metavar="K",
    help="Train only fold K, or `final`. Repeatable.  [default: all]",
)
@decoder_option
@weight_option
@seed_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Precision of the training; auto: bf16 on GPUs that support it.",
)
@at_once_option
@workers_option
@cache_option
@click.option(
    "--out", type=OUT_FOLDER, required=True, metavar="RUN", help="The run folder. A stopped run is continued."
)
def finetune(
    metadata: Path,
    encoder: str,
    recipe_name: str,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    decoder: str,
    weight: float | None,
    precision: str,
    at_once: int,
    workers: int | None,
    cache: Path | None,
    out: Path,
    **inputs: Any,
) -> None:
    """Train an encoder end to end: once per predefined fold, then on all of train.

    The run folder is like that of `train`: decode, report and predict read it. For several GPUs or machines, use
    `accelerate launch -m blemore_baselines finetune …`.

    \b
    Example:
      blemore-baselines finetune --encoder hicmae --metadata train_metadata.csv --clips train --faces faces/train \\
          --weights checkpoint-99.pth --recipe published --out run
    """
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.finetuning import family_class
    from blemore_baselines.finetuning.run import Computing
    from blemore_baselines.finetuning.run import finetune as run
    from blemore_baselines.results.text import run_to_text

    recipes = family_class(encoder).recipes
    if recipe_name not in recipes:
        raise click.UsageError(f"--recipe {recipe_name}: {encoder} has {', '.join(recipes)}")
    recipe = recipes[recipe_name].changed(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    computing = Computing(cache or out.parent / "cache", at_once, workers_or_default(workers), precision)
    inputs |= {"decoder": decoder, **decoder_options(decoder, weight=weight)}
    metrics = run(read_dataset(metadata), encoder, out=out, recipe=recipe, computing=computing, **inputs)
    if int(os.environ.get("RANK", "0")):  # only the first process prints
        return
    if metrics:
        click.echo(run_to_text(metrics))
        talk(f"The run is in {out}")
    else:
        click.echo(f"{out}: some folds are not trained yet; run the same command without --folds to train them")


@click.command()
@clips_folder_option
@click.option(
    "--metadata",
    type=PATH,
    metavar="CSV",
    help="The clips: train_metadata.csv or test_metadata.csv.  [default: all in DIR]",
)
@workers_option
@click.option("--out", type=OUT_FOLDER, required=True, metavar="FACES", help="Pictures go to FACES/<clip>/.")
def faces(clips: Path, metadata: Path | None, workers: int | None, out: Path) -> None:
    """Align the faces of clips with OpenFace 2, which must be installed. A stopped run can be continued.

    The exit code is 1 if clips failed.

    \b
    Example:
      blemore-baselines faces --clips train --metadata train_metadata.csv --out faces/train
    """
    from blemore_baselines.extraction.store import FAILURES
    from blemore_baselines.finetuning.faces import TABLE, align

    outcome = align(read_ids(metadata) if metadata else None, clips, out, workers_or_default(workers))
    bridged = [row for row in outcome.aligned if row.lost]
    if bridged:
        worst = sorted(bridged, key=lambda row: row.lost / row.frames, reverse=True)[:20]
        talk(table([("clip", "frames", "without a face", "in a row"), *worst]))
        talk(f"{len(bridged)} clips have frames without a face, which got a neighbour's; {out / TABLE} lists them")
    if outcome.failures:
        talk(table([("clip", "failure", "what was found"), *outcome.failures[:20]]))
        talk(f"{out / FAILURES} lists all failures; run the same command to try them again")
    counts = f"{len(outcome.aligned)} clips aligned, {len(outcome.skipped)} already done"
    click.echo(f"{out}: {counts}, {len(outcome.failures)} failed")
    if outcome.failures:
        sys.exit(1)
