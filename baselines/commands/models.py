"""From features to submissions: train, predict, trivial."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from blemore import trivial as trivial_answers
from blemore.cli import OUT_FOLDER, PATH, FilePath
from blemore.errors import some
from blemore.evaluate import read_ids, read_reference
from blemore.io import read_table, to_json, write_atomic
from blemore_baselines.commands.common import (
    EXPECTED,
    decoder_option,
    decoder_options,
    features_option,
    groups_option,
    head_option,
    metadata_option,
    normalise_option,
    preset_option,
    seed_option,
    talk,
    weight_option,
    workers_or_default,
    write_expected,
)
from blemore_baselines.models.recipes import METHODS, TEST_PROTOCOLS

if TYPE_CHECKING:
    import numpy as np

LOGITS = ".logits.csv"  # suffix of a file next to a submission
MOST_SEEDS = 1000


def _seeds(_: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """The numbers in a value such as "0-4" or "0,3,7"; None without a value."""
    if value is None:
        return None
    seeds: list[int] = []
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < first + MOST_SEEDS:
            message = f"{part!r} is not a seed or a range of seeds; expected numbers and ranges such as 0-4 or 0,3,7-9"
            raise click.BadParameter(message, param_hint=parameter.opts[0])
        seeds += range(first, last + 1)
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        message = f"{value!r} has {some([str(seed) for seed in repeated])} more than once; expected each seed once"
        raise click.BadParameter(message, param_hint=parameter.opts[0])
    return seeds


@click.command()
@metadata_option
@features_option
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="aggregate",
    show_default=True,
    help="One row per clip, or every row of a clip as an example.",
)
@head_option
@preset_option
@click.option(
    "--test-protocol",
    type=click.Choice(TEST_PROTOCOLS),
    default="pooled",
    show_default=True,
    help=(
        "The model for new clips. pooled: trained on all of train, with thresholds from all out-of-fold logits;"
        " retrain: with those of the best fold, as in the paper; best-fold: that fold's own model."
    ),
)
@normalise_option
@decoder_option
@weight_option
@seed_option
@click.option(
    "--seeds",
    callback=_seeds,
    metavar="0-4",
    help="Train several seeds in one pass, such as 0-4 or 0,3,7: figures per seed, and one model that pools them all.",
)
@click.option(
    "--out", type=OUT_FOLDER, required=True, metavar="RUN", help="The run folder. An interrupted run resumes."
)
def train(
    metadata: Path,
    features: tuple,
    method: str,
    head: str,
    preset: str,
    test_protocol: str,
    normalise: str,
    decoder: str,
    weight: float | None,
    seed: int,
    seeds: list[int] | None,
    out: Path,
) -> None:
    """Cross-validate over the predefined folds, then train the model for new clips.

    \b
    Examples:
      blemore-baselines train --metadata demo/train_metadata.csv --features logmel.npz --out run
      blemore-baselines train --metadata demo/train_metadata.csv --features logmel.npz --seeds 0-4 --out runs
    """
    options = decoder_options(decoder, weight=weight)
    _demand_pooled(test_protocol, decoder, seeds)
    if seeds and click.get_current_context().get_parameter_source("seed") is not ParameterSource.DEFAULT:
        raise click.UsageError("--seed and --seeds exclude each other")
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_features
    from blemore_baselines.results.text import run_to_text
    from blemore_baselines.train import train as run

    dataset = read_dataset(metadata)
    sources = [read_features(path, dataset.ids, aggregated=method == "aggregate") for path in features]
    metrics = run(
        dataset,
        sources,
        features,
        method=method,
        head=head,
        preset=preset,
        test_protocol=test_protocol,
        normalise=normalise,
        seed=seeds or seed,
        out=out,
        decoder=decoder,
        metadata=metadata,
        **options,
    )
    click.echo(run_to_text(metrics))
    talk(f"The run is in {out}")


def _demand_pooled(test_protocol: str, decoder: str, seeds: list[int] | None) -> None:
    """UsageError: a test protocol other than pooled with several seeds, or with a decoder that has no thresholds."""
    if test_protocol == "pooled":
        return
    if seeds:
        raise click.UsageError(
            f"--seeds goes with --test-protocol pooled; {test_protocol} uses the best fold of a single model"
        )
    if decoder != "thresholds":
        raise click.UsageError(
            f"--decoder {decoder} goes with --test-protocol pooled; {test_protocol} uses the best fold's thresholds"
        )


@click.command()
@click.option(
    "--model",
    type=PATH,
    required=True,
    metavar="RUN",
    help="A run folder, or its model.json and model.safetensors alone.",
)
@click.option(
    "--features",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="For a model that was trained on features: as for `train`.",
)
@click.option("--clips", type=PATH, metavar="DIR", help="For a fine-tuned model: the folder with the clips.")
@click.option("--faces", type=PATH, metavar="DIR", help="With --clips: the clips' aligned faces.")
@click.option("--cache", type=OUT_FOLDER, metavar="DIR", help="With --clips: as for `finetune`.")
@click.option("--ids", type=PATH, required=True, metavar="CSV", help="The clips to predict: test_metadata.csv.")
@groups_option
@click.option(
    "--without-groups", is_flag=True, help="With a model trained with --normalise: do not normalise these clips."
)
@click.option(
    "--out",
    type=FilePath(to_write=True, suffix=".zip", beside=(LOGITS, EXPECTED)),
    required=True,
    metavar="submission.zip",
)
def predict(
    model: Path,
    features: tuple,
    clips: Path | None,
    faces: Path | None,
    cache: Path | None,
    ids: Path,
    groups: Path | None,
    without_groups: bool,
    out: Path,
) -> None:
    """Predict clips with a trained model, and write a checked submission.

    The logits are written next to it, as submission.logits.csv, and to the run folder, where `decode` finds the latest.
    A structured decoder also writes the expected gain per clip, as submission.expected.csv. The seeds of a model are
    pooled as in `decode`; submission.logits.csv then has the mean of their log-probabilities.

    \b
    Examples:
      blemore-baselines predict --model run --features test.npz --ids demo/test_metadata.csv --out run/submission.zip
      blemore-baselines predict --model run --clips test --faces faces/test --ids test_metadata.csv --out submission.zip
    """
    if bool(features) == bool(clips) or not clips and (faces or cache):
        raise click.UsageError(
            "expected --features or, for a fine-tuned model, --clips, with --faces if it was trained on faces"
        )
    if groups and without_groups or clips and (groups or without_groups):
        raise click.UsageError("--groups, --without-groups and --clips exclude each other")
    from blemore_baselines.dataset import read_groups
    from blemore_baselines.predict import decode, write_submission

    names = read_ids(ids)
    actors = read_groups(groups, names) if groups else None
    if without_groups:
        actors = names  # one clip per actor: normalising does not change it
    logits = _logits(model, features, actors, clips, faces, cache, names)
    answers = decode(model, logits)
    write_submission(names, answers.labels, out)
    _write_logits(model, names, logits, out)
    write_expected(out, names, answers)
    overlap = _clips_of_run(model).intersection(names)
    if overlap:
        talk(
            f"note: the model was trained or chosen on {len(overlap):,} of the {len(names):,} clips, so their score"
            " says nothing about new clips"
        )
    click.echo(f"{out}: {len(names)} clips, checked")


def _logits(
    model: Path,
    features: tuple,
    actors: Sequence[str] | None,
    clips: Path | None,
    faces: Path | None,
    cache: Path | None,
    names: Sequence[str],
) -> np.ndarray:
    """Logits (N, 6), or (seeds, N, 6) for several seeds, from features or from the clips themselves."""
    if clips is None:
        from blemore_baselines.predict import predict as run

        return run(model, features, names, actors)[0]
    from blemore_baselines.finetuning.run import Computing
    from blemore_baselines.finetuning.run import predict as run_on_clips

    computing = Computing(cache or model.resolve().parent / "cache", workers=workers_or_default())
    return run_on_clips(model, names, clips, faces, computing)


def _write_logits(model: Path, names: Sequence[str], logits: np.ndarray, out: Path) -> None:
    """Writes them next to the submission and, if they are writable, to the folders of the run or its seeds."""
    from blemore_baselines.decoding.scores import mean_logs
    from blemore_baselines.features import RUN_OOF, RUN_TEST, runs_of, scores_csv

    tables = {out.with_suffix(LOGITS): mean_logs(logits) if logits.ndim == 3 else logits}
    for run, scores in zip(runs_of(model), logits.reshape(-1, *logits.shape[-2:])):
        if (run / RUN_OOF).exists() and os.access(run, os.W_OK):
            tables[run / RUN_TEST] = scores
    for table, scores in tables.items():
        write_atomic(table, scores_csv(names, scores))
        talk(f"{table}: the logits")


def _clips_of_run(model: Path) -> set[str]:
    """The clips that a run was trained on; empty if only the artefact was copied."""
    from blemore_baselines.features import runs_of

    path = runs_of(model)[0] / "labels.csv"
    return {row.get("filename", "") for row in read_table(path)} if path.exists() else set()


@click.command()
@metadata_option
@click.option("--labels", type=PATH, metavar="FILE", help="The labels to score on (default: those of --metadata).")
@click.option(
    "--fit",
    type=click.Choice(["scored", "train"]),
    default="scored",
    show_default=True,
    help="Fit the baselines to the scored labels, as published, or to --metadata.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, figures unrounded.")
@click.option("--ids", type=PATH, metavar="CSV", help="With --out: the clips to submit (default: the scored ones).")
@click.option("--out", type=OUT_FOLDER, metavar="DIR", help="Write each constant answer as a submission.")
def trivial(metadata: Path, labels: Path | None, fit: str, as_json: bool, ids: Path | None, out: Path | None) -> None:
    """The trivial baselines: always the same answer, the floor for every system.

    \b
    Example:
      blemore-baselines trivial --metadata train_metadata.csv
    """
    train = read_reference(metadata).labels
    scored = read_reference(labels).labels if labels else train
    answers = trivial_answers.fit((scored if fit == "scored" else train).values())
    results = trivial_answers.evaluate(answers, scored)
    if out:
        from blemore.labels import LABEL_INDEX
        from blemore_baselines.predict import write_submission

        clips = read_ids(ids) if ids else list(scored)
        for name in results:
            write_submission(clips, [LABEL_INDEX[getattr(answers, name)]] * len(clips), out / f"trivial_{name}.zip")
            talk(f"{out / f'trivial_{name}.zip'}: {len(clips)} clips, checked")
    from blemore_baselines.results.text import trivial_to_dict, trivial_to_text

    if as_json:
        click.echo(to_json(trivial_to_dict(answers, results, fit)), nl=False)
    else:
        click.echo(trivial_to_text(answers, results, fit))
