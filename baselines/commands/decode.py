"""The command that turns any model's scores into a submission: decode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore.cli import PATH, FilePath
from blemore.errors import Problem, ValidationError, some
from blemore.evaluate import read_ids
from blemore.io import to_json, write_atomic
from blemore_baselines.commands.common import (
    EXPECTED,
    decoder_option,
    decoder_options,
    groups_option,
    metadata_option,
    normalise_option,
    talk,
    weight_option,
    write_expected,
)
from blemore_baselines.results.pictures import SUFFIXES, write_figure

if TYPE_CHECKING:
    from blemore_baselines.dataset import Dataset
    from blemore_baselines.decoding.decoders import Answers, Decoded
    from blemore_baselines.decoding.scores import Models

RELIABILITY = ".reliability"  # suffix of a figure next to a report


@click.command()
@metadata_option
@click.option(
    "--scores",
    type=PATH,
    required=True,
    multiple=True,
    metavar="OOF",
    help=(
        "Out-of-fold logits or probabilities of the train clips: a table, or a run folder with all its seeds. Several"
        " are fused; each clip uses the models that know it."
    ),
)
@click.option(
    "--test-scores",
    type=PATH,
    multiple=True,
    metavar="TEST",
    help="The same models' scores of the clips to submit, in the same order.",
)
@normalise_option
@groups_option
@decoder_option
@weight_option
@click.option("--ids", type=PATH, metavar="CSV", help="The clips to submit (default: those of --test-scores).")
@click.option(
    "--report",
    type=FilePath(to_write=True, suffix=".json", beside=tuple(f"{RELIABILITY}{suffix}" for suffix in SUFFIXES)),
    metavar="FILE.json",
    help="Write all figures, unrounded; structured: also a reliability diagram.",
)
@click.option(
    "--oof-out",
    type=FilePath(to_write=True, suffix=".zip"),
    metavar="FILE.zip",
    help="Write the nested predictions of the train clips as a submission, for blemore-score and blemore-rank.",
)
@click.option(
    "--out",
    type=FilePath(to_write=True, suffix=".zip", beside=(EXPECTED,)),
    metavar="submission.zip",
    help="Where to write the decoded --test-scores.",
)
def decode(
    metadata: Path,
    scores: tuple,
    test_scores: tuple,
    normalise: str,
    groups: Path | None,
    decoder: str,
    weight: float | None,
    ids: Path | None,
    report: Path | None,
    oof_out: Path | None,
    out: Path | None,
) -> None:
    """Turn any model's scores into valid labels, with honest figures.

    \b
    thresholds:  the published rule, with published and nested figures
    structured:  the label with the highest expected score, compared with thresholds

    \b
    Example:
      blemore-baselines decode --metadata train_metadata.csv --scores oof.csv --test-scores test.csv \\
          --out submission.zip
    """
    _demand_pairs(scores, test_scores, out)
    _demand_groups(normalise, groups, out)
    options = decoder_options(decoder, weight=weight)
    from blemore_baselines.dataset import read_dataset, read_groups
    from blemore_baselines.decoding import transductive
    from blemore_baselines.decoding.scores import read_models
    from blemore_baselines.predict import write_submission
    from blemore_baselines.results.text import decoder_to_text

    dataset = read_dataset(metadata)
    train = read_models(scores, dataset.ids)
    test = _read_test(test_scores, ids, dataset.ids, metadata) if out else None
    actors = read_groups(groups, test.ids) if test and groups else None
    _print_models(scores, *filter(None, (train, test)))
    decoded = transductive.fit(decoder, dataset, train, normalise, **options)
    _warn_in_sample(dataset, train, test, decoded)
    rows = _submit(test, decoded.apply(test, actors), out) if test and out else []
    if oof_out:
        write_submission(dataset.ids, decoded.nested, oof_out)
        talk(f"{oof_out}: the nested predictions of the train clips")
    if report:
        _write_report(report, decoded.figures, rows)
    click.echo(decoder_to_text(decoder, decoded.figures))
    if test:
        click.echo(f"\n{out}: {len(test.ids)} clips, checked")


def _demand_pairs(scores: tuple, test_scores: tuple, out: Path | None) -> None:
    from blemore_baselines.features import runs_of

    if bool(test_scores) != bool(out):
        raise click.UsageError("--test-scores and --out go together")
    models, tests = (sum(len(runs_of(path)) for path in paths) for paths in (scores, test_scores))
    if test_scores and models != tests:
        raise click.UsageError(f"{models} --scores but {tests} --test-scores; expected one of each per model and seed")


def _demand_groups(normalise: str, groups: Path | None, out: Path | None) -> None:
    if normalise == "none" and groups:
        raise click.UsageError("--groups goes with --normalise centre or standardise")
    if bool(groups) != bool(out) and normalise != "none":
        raise click.UsageError(
            f"--normalise {normalise}: --groups and --test-scores go together (the actors of train clips are in"
            " --metadata)"
        )


def _read_test(paths: tuple, ids: Path | None, train_ids: list[str], metadata: Path) -> Models:
    from blemore_baselines.decoding.scores import read_models

    test = read_models(paths, read_ids(ids) if ids else None, test=True)
    _demand_new_clips(test, train_ids, metadata)
    return test


def _demand_new_clips(test: Models, ids: list[str], metadata: Path) -> None:
    """ValidationError: the decoder is fitted on some of these clips, so they are not new."""
    overlap = sorted(set(test.ids).intersection(ids))
    if overlap:
        message = (
            f"{len(overlap):,} of {len(test.ids):,} clips are also in {metadata}: {some(overlap)}; expected clips that"
            " the decoder is not fitted on"
        )
        hint = "Give the scores of the test clips. For figures on the train clips, leave --test-scores out."
        raise ValidationError(Problem("train-clips", ", ".join(map(str, test.paths)), message, hint=hint))


def _print_models(scores: tuple, *partitions: Models) -> None:
    """Prints which paths have several seeds, and which clips a model lacks."""
    from blemore_baselines.features import runs_of

    for path in scores:
        seeds = runs_of(path)
        if seeds != [path]:
            talk(f"{path}: {len(seeds)} seeds, fused as separate models: {some([run.name for run in seeds])}")
    for models in partitions:
        for path, missing in zip(models.paths, models.missing):
            if missing:
                talk(
                    f"{path}: {len(missing):,} of {len(models.ids):,} clips are missing, so only the other models"
                    f" decide them: {some(missing)}"
                )


def _warn_in_sample(dataset: Dataset, train: Models, test: Models | None, decoded: Decoded) -> None:
    """A warning for each sign that --scores are not out of fold."""
    from blemore_baselines.decoding.in_sample import relations_too_good, surer, surer_than_new, too_good

    ratios = surer_than_new(train, dataset.actors, test) if test else []
    for path, ratio in zip(train.paths, ratios):
        if ratio is not None:
            talk(f"warning: {path}: {surer(ratio)}.")
    share = relations_too_good(dataset, decoded.nested)
    if share is not None:
        talk(f"warning: --scores: {too_good(share)}.")


def _submit(test: Models, answers: Answers, out: Path) -> list[dict]:
    """Writes the submission. Returns the report's entries on each model's scores of its clips."""
    from blemore_baselines.predict import write_submission

    write_submission(test.ids, answers.labels, out)
    write_expected(out, test.ids, answers)
    rows = [{"path": str(path), "missing": missing} for path, missing in zip(test.paths, test.missing)]
    if answers.excess is None:
        return rows
    return [{**row, "excess_spread": excess} for row, excess in zip(rows, answers.excess.tolist())]


def _write_report(report: Path, figures: dict, test: list[dict]) -> None:
    """Writes the figures as JSON and, if the decoder has a posterior, a reliability diagram next to them."""
    figures = {**figures, "test": test} if test else figures
    write_atomic(report, to_json(figures))
    if "calibration" in figures:
        from blemore_baselines.results.plots import reliability

        drawing, name = reliability(figures["calibration"]), f"{report.stem}{RELIABILITY}"
        paths = write_figure(report.parent, name, drawing, figures["nested"]["signature"])
        talk(f"{' and '.join(map(str, paths))}: the reliability of the posterior")
