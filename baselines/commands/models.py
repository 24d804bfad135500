"""From features or scores to submissions: train, predict, decode, trivial."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore import trivial as trivial_answers
from blemore.cli import OUT_FOLDER, PATH, FilePath
from blemore.errors import Problem, ValidationError, some
from blemore.evaluate import read_ids, read_reference
from blemore.io import read_table, to_json, write_atomic
from blemore_baselines.commands.common import (
    features_option,
    head_option,
    metadata_option,
    preset_option,
    seed_option,
    talk,
)
from blemore_baselines.decoding.decoders import DECODERS
from blemore_baselines.models.recipes import METHODS, TEST_PROTOCOLS

if TYPE_CHECKING:
    import numpy as np

    from blemore_baselines.decoding.decoders import Answers
    from blemore_baselines.decoding.scores import Models

LOGITS, EXPECTED, RELIABILITY = ".logits.csv", ".expected.csv", ".reliability.png"  # beside a submission or a report


def _number(_: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuses NaN, which click takes to be in any range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not in the range 0<=x<=1.", param_hint=parameter.opts[0])
    return value


decoder_option = click.option("--decoder", type=click.Choice(list(DECODERS)), default="thresholds", show_default=True)
weight_option = click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    callback=_number,
    metavar="W",
    help="structured: the part of ACC_presence in what is aimed at.  [default: 0.5]",
)


def decoder_options(decoder: str, **values: float | None) -> dict[str, float]:
    """The options that were given, for the decoder; it must have them."""
    options = {name: value for name, value in values.items() if value is not None}
    for name in options:
        if name not in DECODERS[decoder].options:
            owners = [owner for owner in DECODERS if name in DECODERS[owner].options]
            raise click.UsageError(f"--{name} goes with --decoder {' or '.join(owners)}")
    return options


@click.command()
@metadata_option
@features_option
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="aggregate",
    show_default=True,
    help="One row a clip, or each of its rows an example.",
)
@head_option
@preset_option
@click.option(
    "--test-protocol",
    type=click.Choice(TEST_PROTOCOLS),
    default="pooled",
    show_default=True,
    help=(
        "The model for new clips. pooled: trained on all of train, thresholds of all out-of-fold logits; retrain: with"
        " those of the best fold, as in the paper; best-fold: that fold's own model."
    ),
)
@decoder_option
@weight_option
@seed_option
@click.option(
    "--out", type=OUT_FOLDER, required=True, metavar="RUN", help="The run folder; a run that was stopped goes on."
)
def train(
    metadata: Path,
    features: tuple,
    method: str,
    head: str,
    preset: str,
    test_protocol: str,
    decoder: str,
    weight: float | None,
    seed: int,
    out: Path,
) -> None:
    """Cross-validate over the predefined folds, then train the model for new clips.

    \b
    Example:
      blemore-baselines train --metadata demo/train_metadata.csv --features logmel.npz --out run
    """
    options = decoder_options(decoder, weight=weight)
    if decoder != "thresholds" and test_protocol != "pooled":
        raise click.UsageError(f"--decoder {decoder} goes with --test-protocol pooled; the others are about thresholds")
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
        seed=seed,
        out=out,
        decoder=decoder,
        **options,
    )
    click.echo(run_to_text(metrics))
    talk(f"The run is in {out}")


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
    help="As for `train`, where the model was trained on features.",
)
@click.option("--clips", type=PATH, metavar="DIR", help="The folder of the clips, where the model was fine-tuned.")
@click.option("--faces", type=PATH, metavar="DIR", help="With --clips: the clips' aligned faces.")
@click.option("--cache", type=OUT_FOLDER, metavar="DIR", help="With --clips: as for `finetune`.")
@click.option("--ids", type=PATH, required=True, metavar="CSV", help="The clips to predict: test_metadata.csv.")
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
    out: Path,
) -> None:
    """Predict clips with a trained model: a submission that has passed the check.

    The logits go beside it, as submission.logits.csv, and into the run folder, where `decode` finds the last ones; with
    a structured decoder also what each clip is expected to gain, as submission.expected.csv.

    \b
    Examples:
      blemore-baselines predict --model run --features test.npz --ids demo/test_metadata.csv --out run/submission.zip
      blemore-baselines predict --model run --clips test --faces faces/test --ids test_metadata.csv --out submission.zip
    """
    if bool(features) == bool(clips) or not clips and (faces or cache):
        raise click.UsageError("expected --features, or of a fine-tuned model --clips, with --faces if it saw faces")
    from blemore_baselines.features import RUN_OOF, RUN_TEST, scores_csv
    from blemore_baselines.predict import decode, write_submission

    names = read_ids(ids)
    logits = _logits(model, features, clips, faces, cache, names)
    answers = decode(model, logits)
    write_submission(names, answers.labels, out)
    is_run = (model / RUN_OOF).exists() and os.access(model, os.W_OK)
    for table in (out.with_suffix(LOGITS), *([model / RUN_TEST] if is_run else [])):
        write_atomic(table, scores_csv(names, logits))
        talk(f"{table}: the logits")
    _write_expected(out, names, answers)
    overlap = _clips_of_run(model).intersection(names)
    if overlap:
        talk(
            f"note: the model was trained or chosen on {len(overlap):,} of the {len(names):,} clips: a score on them"
            " says nothing about new ones"
        )
    click.echo(f"{out}: {len(names)} clips, checked")


def _logits(
    model: Path, features: tuple, clips: Path | None, faces: Path | None, cache: Path | None, names: Sequence[str]
) -> np.ndarray:
    """(N, 6), from features or from the clips themselves."""
    if clips is None:
        from blemore_baselines.predict import predict as run

        return run(model, features, names)[0]
    from blemore_baselines.engines import available_cores
    from blemore_baselines.finetuning.run import Computing
    from blemore_baselines.finetuning.run import predict as run_on_clips

    computing = Computing(cache or model.resolve().parent / "cache", workers=min(8, available_cores()))
    return run_on_clips(model, names, clips, faces, computing)


def _write_expected(out: Path, clips: Sequence[str], answers: Answers) -> None:
    """Beside the submission what each clip is expected to gain, where the decoder knows it."""
    if answers.expected is not None:
        from blemore_baselines.predict import expected_csv

        write_atomic(out.with_suffix(EXPECTED), expected_csv(clips, answers.labels, answers.expected))
        talk(f"{out.with_suffix(EXPECTED)}: what each clip is expected to gain")


def _clips_of_run(model: Path) -> set[str]:
    """The clips that a run was trained on; none known where the model's two files stand alone."""
    path = model / "labels.csv"
    return {row.get("filename", "") for row in read_table(path)} if path.exists() else set()


@click.command()
@metadata_option
@click.option(
    "--scores",
    type=PATH,
    required=True,
    multiple=True,
    metavar="OOF",
    help=(
        "Out-of-fold logits or probabilities of the train clips: a table or a run folder. Several are fused, each clip"
        " from the models that know it."
    ),
)
@click.option(
    "--test-scores",
    type=PATH,
    multiple=True,
    metavar="TEST",
    help="The same models' scores of the clips to submit, in the same order.",
)
@decoder_option
@weight_option
@click.option(
    "--ids", type=PATH, metavar="CSV", help="The clips that a submission must hold (default: those of --test-scores)."
)
@click.option(
    "--report",
    type=FilePath(to_write=True, suffix=".json", beside=(RELIABILITY,)),
    metavar="FILE.json",
    help="Write all figures, unrounded; structured: a diagram of reliability beside them.",
)
@click.option(
    "--out",
    type=FilePath(to_write=True, suffix=".zip", beside=(EXPECTED,)),
    metavar="submission.zip",
    help="Where the decoded --test-scores go.",
)
def decode(
    metadata: Path,
    scores: tuple,
    test_scores: tuple,
    decoder: str,
    weight: float | None,
    ids: Path | None,
    report: Path | None,
    out: Path | None,
) -> None:
    """Turn any model's scores into valid labels, with figures that can be trusted.

    \b
    thresholds:  the published rule, with published and nested figures
    structured:  the label with the highest expected score, beside thresholds

    \b
    Example:
      blemore-baselines decode --metadata train_metadata.csv --scores oof.csv --test-scores test.csv \\
          --out submission.zip
    """
    _demand_pairs(scores, test_scores, out)
    options = decoder_options(decoder, weight=weight)
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.decoding import decoders
    from blemore_baselines.decoding.scores import read_models
    from blemore_baselines.results.text import decoder_to_text

    dataset = read_dataset(metadata)
    train = read_models(scores, dataset.ids)
    test = _read_test(test_scores, ids, dataset.ids, metadata) if out else None
    for models in filter(None, (train, test)):
        _tell_missing(models)
    decoded = decoders.fit(decoder, dataset, train, **options)
    figures = decoded.figures
    if test and out:
        _submit(test, decoded.apply(test), out)
        rows = [{"path": str(path), "missing": missing} for path, missing in zip(test.paths, test.missing)]
        figures = {**figures, "test": rows}
    if report:
        _write_report(report, figures)
    click.echo(decoder_to_text(decoder, figures))
    if test:
        click.echo(f"\n{out}: {len(test.ids)} clips, checked")


def _demand_pairs(scores: tuple, test_scores: tuple, out: Path | None) -> None:
    if bool(test_scores) != bool(out):
        raise click.UsageError("--test-scores and --out go together")
    if test_scores and len(test_scores) != len(scores):
        raise click.UsageError(
            f"{len(scores)} --scores but {len(test_scores)} --test-scores: expected one for each model"
        )


def _read_test(paths: tuple, ids: Path | None, train_ids: list[str], metadata: Path) -> Models:
    from blemore_baselines.decoding.scores import read_models

    test = read_models(paths, read_ids(ids) if ids else None, test=True)
    _demand_new_clips(test, train_ids, metadata)
    return test


def _demand_new_clips(test: Models, ids: list[str], metadata: Path) -> None:
    """ValidationError: the decoder is fitted on some of the clips, so that they are no new ones."""
    overlap = sorted(set(test.ids).intersection(ids))
    if overlap:
        message = (
            f"{len(overlap):,} of {len(test.ids):,} clips are in {metadata}, too: {some(overlap)}; expected clips that"
            " the decoder is not fitted on"
        )
        hint = "Give the scores of the test clips; figures of the train clips are told without --test-scores."
        raise ValidationError(Problem("train-clips", ", ".join(map(str, test.paths)), message, hint=hint))


def _tell_missing(models: Models) -> None:
    for path, missing in zip(models.paths, models.missing):
        if missing:
            talk(
                f"{path}: {len(missing):,} of {len(models.ids):,} clips are missing, and come from the other models"
                f" alone: {some(missing)}"
            )


def _submit(test: Models, answers: Answers, out: Path) -> None:
    from blemore_baselines.predict import write_submission

    write_submission(test.ids, answers.labels, out)
    _write_expected(out, test.ids, answers)


def _write_report(report: Path, figures: dict) -> None:
    """The figures as JSON, and a diagram of reliability beside them where the decoder has a posterior."""
    write_atomic(report, to_json(figures))
    if "calibration" in figures:
        from blemore_baselines.results.plots import reliability

        write_atomic(report.with_suffix(RELIABILITY), reliability(figures["calibration"]))
        talk(f"{report.with_suffix(RELIABILITY)}: how far the posterior can be believed")


@click.command()
@metadata_option
@click.option("--labels", type=PATH, metavar="FILE", help="The labels that are scored (default: those of --metadata).")
@click.option(
    "--fit",
    type=click.Choice(["scored", "train"]),
    default="scored",
    show_default=True,
    help="Most frequent in what is scored, as published, or in --metadata.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, figures unrounded.")
@click.option(
    "--ids", type=PATH, metavar="CSV", help="With --out: the clips to submit (default: those that are scored)."
)
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
