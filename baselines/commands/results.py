"""The commands for results: report, reproduce."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemore.cli import OUT_FOLDER, PATH
from blemore.errors import Problem, ValidationError
from blemore.evaluate import evaluate, read_reference
from blemore.io import read_json
from blemore_baselines.commands.common import metadata_option, preset_option, seed_option, talk
from blemore_baselines.models.recipes import TEST_PROTOCOLS

if TYPE_CHECKING:
    from blemore_baselines.results.run import Run


@click.command()
@click.argument("folder", type=OUT_FOLDER, metavar="RUN")
@click.option(
    "--scores",
    type=PATH,
    multiple=True,
    metavar="OOF",
    help="Instead of a run: any model's out-of-fold scores. The page is written to the folder RUN.",
)
@click.option("--metadata", type=PATH, metavar="CSV", help="With --scores: the dataset's train_metadata.csv.")
@click.option(
    "--features",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="The features given to train, to draw their principal components.",
)
@click.option(
    "--analysis", type=PATH, metavar="DIR", help="Where `analyse` wrote the run's studies.  [default: RUN/analysis]"
)
@click.option("--submission", type=PATH, metavar="ZIP", help="With --labels: score it too.")
@click.option("--labels", type=PATH, metavar="FILE", help="Labels of the submission's clips.")
def report(
    folder: Path,
    scores: tuple,
    metadata: Path | None,
    features: tuple,
    analysis: Path | None,
    submission: Path | None,
    labels: Path | None,
) -> None:
    """Write RUN/report.html: results, known failures, folds, thresholds, errors, studies.

    Its tables are written to RUN/tables as CSV and LaTeX, its figures to RUN/figures.

    \b
    Examples:
      blemore-baselines report run --features logmel.npz
      blemore-baselines report my_report --metadata train_metadata.csv --scores oof.csv
    """
    if bool(submission) != bool(labels):
        raise click.UsageError("--submission and --labels go together")
    if bool(scores) != bool(metadata) or scores and features:
        raise click.UsageError("--scores and --metadata go together, without --features")
    from blemore_baselines.results.report import write_report

    result = None
    if submission and labels:
        data, where = read_json(submission)
        result = evaluate(data, read_reference(labels), where=where)
    run = _run_of_scores(folder, scores, metadata) if metadata else folder
    click.echo(write_report(run, result, features, analysis))


def _run_of_scores(folder: Path, scores: tuple, metadata: Path) -> Run:
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.decoding.scores import read_models
    from blemore_baselines.results.scores import run_of_scores

    if (folder / "config.json").exists():
        message = "holds a run; expected another folder for the page of --scores"
        hint = "Name another folder, or leave --scores out."
        raise ValidationError(Problem("other-run", str(folder), message, hint=hint))
    dataset = read_dataset(metadata)
    return run_of_scores(dataset, read_models(scores, dataset.ids), folder)


@click.command()
@click.option(
    "--features-root",
    "root",
    type=PATH,
    required=True,
    metavar="DIR",
    help="The folder with the features, in the dataset's own subfolders or in train/ and test/.",
)
@metadata_option
@click.option(
    "--test",
    type=PATH,
    metavar="CSV",
    help="Also predict these clips (test_metadata.csv), and score them if it holds labels.",
)
@preset_option
@click.option(
    "--test-protocol",
    type=click.Choice(TEST_PROTOCOLS[1:]),
    default="retrain",
    show_default=True,
    help=(
        "The model for --test. retrain: trained on all of train, with the thresholds of the best fold, as in the paper;"
        " best-fold: that fold's own model."
    ),
)
@seed_option
@click.option(
    "--out",
    type=OUT_FOLDER,
    required=True,
    metavar="DIR",
    help="Where to write tables, a figure, and a folder per row. An interrupted call resumes.",
)
def reproduce(
    root: Path, metadata: Path, test: Path | None, preset: str, test_protocol: str, seed: int, out: Path
) -> None:
    """Rebuild the paper's tables: every row whose features are found, next to the published figures.

    Rows with invalid features are refused and the others continue; the exit code is then 1.

    \b
    Example:
      blemore-baselines reproduce --features-root DATASET --metadata train_metadata.csv \
--test test_metadata.csv --out paper
    """
    from blemore_baselines.paper.reproduce import reproduce as run

    outcome = run(root, metadata, out, preset=preset, seed=seed, test=test, test_protocol=test_protocol)
    click.echo(outcome.text, nl=False)
    talk(f"Tables, figure and rows are in {out}")
    if any(row.bad for row in outcome.not_run):
        sys.exit(1)
