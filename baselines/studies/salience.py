"""Salience as a quantity: are there better training objectives than soft labels?

The heads of objectives.py have the same trunk, and are trained on the same folds with the same seed, batches and
optimiser. In addition to the metrics, the study reports the error of the predicted share of the first emotion of a true
blend. Always predicting 50 has an RMSE of 16.3 if the three saliences are equally frequent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from blemore.labels import PAIRS
from blemore.metrics import Counts
from blemore.tables import Cell, Table
from blemore_baselines.dataset import IS_BLEND, PAIR_OF_LABEL, RELATION_OF_LABEL, Dataset
from blemore_baselines.decoding.accounts import accuracies, count
from blemore_baselines.features import Features
from blemore_baselines.models.heads import perceptron
from blemore_baselines.models.recipes import HEADS, Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.intervals import (
    COLUMNS,
    Estimate,
    cells,
    compare,
    draw,
    estimate,
    estimate_figures,
    in_words,
    outcomes,
)
from blemore_baselines.studies.objectives import OBJECTIVES, SHARES
from blemore_baselines.studies.study import check_folds
from blemore_baselines.studies.training import ONE_TRAINING, out_of_fold

BASELINE, *OTHERS = OBJECTIVES
INTERVAL = ("low", "high", "p")


class Result(NamedTuple):
    """A head's nested predictions.

    labels: (N,)
    epochs: fold → the epoch (from 1) that its labels were decoded at
    shares: (blends,) predicted for the true blends' first emotions, in [0, 1]
    """

    labels: np.ndarray
    epochs: Mapping[str, int]
    shares: np.ndarray


def salience(dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int, signature: str) -> Study:
    """Trains the head for each objective, and compares them.

    features: aggregated, of the dataset's clips, in its order

    Raises ValidationError: a fold without blends.
    """
    check_folds(dataset, 2)
    results = {name: _run(name, dataset, features, recipe, head, seed) for name in OBJECTIVES}
    blend = IS_BLEND[dataset.labels]
    true, actors = SHARES[RELATION_OF_LABEL[dataset.labels[blend]]], np.array(dataset.actors)[blend].tolist()
    always_50 = np.full(len(true), 0.5)
    counts = {name: count(result.labels, dataset.labels) for name, result in results.items()}
    records = {name: outcomes(result.labels, dataset.labels) for name, result in results.items()}
    wrong = {name: errors(result.shares, true) for name, result in results.items()}
    reached = {name: estimate_figures(rows, dataset.actors) for name, rows in records.items()}
    gains = {name: compare(records[name], records[BASELINE], dataset.actors) for name in OTHERS}
    nearer = {name: compare_rmse(result.shares, always_50, true, actors) for name, result in results.items()}
    constant = errors(always_50, true)
    values = {
        "heads": {
            name: {**accuracies(counts[name]), **wrong[name]._asdict(), "epochs": result.epochs}
            for name, result in results.items()
        },
        "always_50": constant._asdict(),
        "gained": {name: gain._asdict() for name, gain in gains.items()},
        "rmse_over_always_50": {name: distance._asdict() for name, distance in nearer.items()},
    }
    return Study(
        "salience",
        "Salience as a quantity",
        {
            "heads": _heads_table(head, reached, gains),
            "errors": _errors_table(head, results, nearer, true, actors, always_50),
        },
        {"shares": _draw_shares(results, true, wrong), "gained": _draw_gains(gains, nearer)},
        _findings(counts[BASELINE], gains, nearer, constant, len(true)),
        values,
        signature,
    )


class Errors(NamedTuple):
    rmse: float
    mae: float


def errors(predicted: np.ndarray, true: np.ndarray) -> Errors:
    """The errors of shares in [0, 1], in percentage points."""
    wrong = 100 * (predicted - true)
    return Errors(float(np.sqrt((wrong**2).mean())), float(np.abs(wrong).mean()))


def estimate_errors(predicted: np.ndarray, true: np.ndarray, actors: Sequence[str]) -> tuple[Estimate, Estimate]:
    """RMSE and MAE of shares in [0, 1], in percentage points, over actors."""
    wrong = 100 * np.abs(predicted - true)
    sums = np.stack([np.ones(len(true)), wrong**2, wrong], axis=1)
    return (
        estimate(sums, actors, lambda total: np.sqrt(total[..., 1] / total[..., 0]), (0, 100)),
        estimate(sums, actors, lambda total: total[..., 2] / total[..., 0], (0, 100)),
    )


def compare_rmse(predicted: np.ndarray, baseline: np.ndarray, true: np.ndarray, actors: Sequence[str]) -> Estimate:
    """The difference of the RMSE to a baseline's, in percentage points."""
    squares = np.stack([np.ones(len(true)), (100 * (predicted - true)) ** 2, (100 * (baseline - true)) ** 2], axis=1)
    return estimate(
        squares,
        actors,
        lambda sums: np.sqrt(sums[..., 1] / sums[..., 0]) - np.sqrt(sums[..., 2] / sums[..., 0]),
        (-100, 100),
    )


def _run(name: str, dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int) -> Result:
    objective, blends = OBJECTIVES[name], np.flatnonzero(IS_BLEND[dataset.labels])

    def build(widths: Sequence[int]) -> nn.Module:
        return perceptron(sum(widths), HEADS[head], objective.outputs)

    outputs = out_of_fold(dataset, [features], recipe, build, objective.loss, seed, name)
    decoded = objective.decode(outputs, dataset)
    shares = objective.shares(outputs[decoded.epochs[blends], blends], PAIR_OF_LABEL[dataset.labels[blends]])
    epochs = {str(fold): int(decoded.epochs[dataset.folds == fold][0]) + 1 for fold in np.unique(dataset.folds)}
    return Result(decoded.labels, epochs, shares)


def _heads_table(head: str, reached: Mapping[str, Mapping[str, Estimate]], gains: Mapping[str, Estimate]) -> Table:
    return Table(
        f"Training objectives for {head}, nested; score gained over {BASELINE}, intervals over actors",
        ("head", *COLUMNS, "gained", *INTERVAL),
        [[name, *cells(by_figure), *gains.get(name, [None] * 4)[:4]] for name, by_figure in reached.items()],
    )


def _errors_table(
    head: str,
    results: Mapping[str, Result],
    nearer: Mapping[str, Estimate],
    true: np.ndarray,
    actors: Sequence[str],
    always_50: np.ndarray,
) -> Table:
    shares = {name: result.shares for name, result in results.items()} | {"always 50": always_50}
    rows: list[list[Cell]] = []
    for name, predicted in shares.items():
        spread = (cell for error in estimate_errors(predicted, true, actors) for cell in error[:3])
        rows.append([name, *spread, *nearer.get(name, [None] * 4)[:4]])
    return Table(
        f"Training objectives for {head}, nested: errors of the first emotion's share in {len(true):,} blends, in"
        " percentage points, and RMSE minus that of always predicting 50; intervals over actors",
        ("head", "RMSE", "low", "high", "MAE", "low", "high", "above always 50", *INTERVAL),
        rows,
    )


def _findings(
    baseline: Counts, gains: Mapping[str, Estimate], nearer: Mapping[str, Estimate], constant: Errors, blends: int
) -> list[str]:
    return [
        f"Score gained over {BASELINE} ({baseline.score:.3f}): "
        + "; ".join(f"{name} {in_words(gain)}" for name, gain in gains.items())
        + ".",
        f"RMSE of the share minus that of always predicting 50 ({constant.rmse:.1f}); lower is better: "
        + "; ".join(f"{name} {in_words(distance)}" for name, distance in nearer.items())
        + ".",
        (
            f"The multi-task head learns each pair's relation only from that pair's clips, {blends / len(PAIRS):.0f} on"
            " average in all folds; the other heads share strength between pairs."
        ),
        ONE_TRAINING,
    ]


def _draw_shares(results: Mapping[str, Result], true: np.ndarray, wrong: Mapping[str, Errors]) -> plots.Picture:
    """The distribution of predicted shares for each true share."""
    canvas, axes = plots.figure(10, 3.4, columns=len(results), sharey=True)
    for axis, (name, result) in zip(axes[0], results.items()):
        for k, share in enumerate(sorted(SHARES)):
            _draw_share(axis, k, share, np.sort(100 * result.shares[true == share]))
        axis.set_xticks(range(len(SHARES)), [f"{100 * share:.0f}" for share in sorted(SHARES)])
        axis.set_title(f"{name}\nRMSE {wrong[name].rmse:.1f}, MAE {wrong[name].mae:.1f}", fontsize=10)
        axis.set(xlabel="true share, %", ylim=(0, 100))
    axes[0, 0].set_ylabel("predicted share of the\nfirst emotion, %")
    canvas.suptitle(
        "True blends, sorted by prediction; bars: means; dashed: true shares", x=0.01, ha="left", fontsize=10
    )
    return plots.picture(canvas)


def _draw_share(axis: plots.Axes, place: int, share: float, predicted: np.ndarray) -> None:
    """Draws the sorted predictions, in percent, for clips of one true share."""
    if len(predicted):
        places = place + np.linspace(-0.28, 0.28, len(predicted))
        axis.scatter(places, predicted, s=4, color=plots.COLOURS[place], alpha=0.6, linewidths=0)
        axis.hlines(np.mean(predicted), place - 0.32, place + 0.32, color="black", linewidth=2)
    axis.hlines(100 * share, place - 0.4, place + 0.4, color="0.5", linestyles="dashed", linewidth=1)


def _draw_gains(gains: Mapping[str, Estimate], nearer: Mapping[str, Estimate]) -> plots.Picture:
    canvas, axes = plots.figure(9, 2.6, columns=2)
    draw(axes[0, 0], list(gains), list(gains.values()), plots.COLOURS[0])
    axes[0, 0].set(xlabel=f"score gained over {BASELINE}")
    draw(axes[0, 1], list(nearer), list(nearer.values()), plots.COLOURS[1])
    axes[0, 1].set(xlabel="RMSE minus that of always predicting 50 (points; left is better)")
    return plots.picture(canvas)
