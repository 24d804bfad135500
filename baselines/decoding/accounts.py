"""How well thresholds do on out-of-fold scores: the published figures and the honest ones.

Conventions: arrays are (N, 6) with emotions in index order, `labels` are (N,) indices into
`blemore.labels.LABELS`, `folds` are (N,) numbers. All functions are pure and work on any model's scores.

Two accounts of the same predictions:
- *published*: each fold uses the epoch, α and β that are best on that same fold. This is optimistic, because it selects
  and reports on the same clips, but the paper's tables report it.
- *nested*: each fold's α and β come from the other folds' out-of-fold scores. So does its epoch, unless the number of
  epochs is fixed. Results are pooled over all clips into one presence, one salience and their mean. This is what to
  expect on new clips from a model whose choices are all made in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from blemore.evaluate import Report
from blemore.labels import LABELS, Prediction
from blemore.metrics import Counts
from blemore.report import intervals_to_dict
from blemore.significance import intervals
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL, Dataset
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_grid

METRICS = ("acc_presence", "acc_salience", "score")


class Fold(NamedTuple):
    """One fold's result and the choices behind it. `epoch` counts from 1."""

    fold: int
    epoch: int
    thresholds: Thresholds
    counts: Counts


def count(predicted: np.ndarray, labels: np.ndarray) -> Counts:
    """The metrics' counts for predicted and true label indices (N,); equal to `blemore.metrics.count`."""
    blend = IS_BLEND[labels]
    right_set = SET_OF_LABEL[predicted] == SET_OF_LABEL[labels]
    right = int((blend & (predicted == labels)).sum())
    return Counts(len(labels), int(right_set.sum()), int(blend.sum()), right, right)


def scored(dataset: Dataset, predicted: np.ndarray) -> Report:
    """The report on the label indices (N,) predicted for the dataset's clips."""
    predictions = {clip: Prediction(LABELS[label], LABELS[label]) for clip, label in zip(dataset.ids, predicted)}
    labels = {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}
    actors = dict(zip(dataset.ids, dataset.actors))
    return Report(count(predicted, dataset.labels), predictions, labels, groups=actors)


def published_folds(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> list[Fold]:
    """Each fold at its own best epoch, α and β. probabilities: (epochs, N, 6), out of fold."""
    return [_judge(probabilities, labels, folds == fold, folds == fold, int(fold)) for fold in np.unique(folds)]


def nested_folds(
    probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, epoch: int | None = None
) -> list[Fold]:
    """Each fold at the epoch, α and β that are best on the other folds. probabilities: (epochs, N, 6), out of fold.

    epoch: a fixed epoch (from 1); only α and β are then chosen
    """
    return [_judge(probabilities, labels, folds != fold, folds == fold, int(fold), epoch) for fold in np.unique(folds)]


def _judge(
    probabilities: np.ndarray,
    labels: np.ndarray,
    choose_on: np.ndarray,
    inside: np.ndarray,
    fold: int,
    epoch: int | None = None,
) -> Fold:
    """The result on the clips of the mask `inside` (N,), with the choices that are best on `choose_on` (N,)."""
    first = 1 if epoch is None else epoch
    candidates = probabilities[first - 1 : epoch]
    place, thresholds = choose(candidates[:, choose_on], labels[choose_on])
    predicted = decode_thresholds(candidates[place, inside], thresholds)
    return Fold(fold, first + place, thresholds, count(predicted, labels[inside]))


def choose(probabilities: np.ndarray, labels: np.ndarray) -> tuple[int, Thresholds]:
    """The epoch (from 0) and thresholds with the best score over (epochs, N, 6); the earliest of equal epochs."""
    fits = [fit_grid(epoch, labels) for epoch in probabilities]
    best = int(np.argmax([score for _, score in fits]))
    return best, fits[best][0]


def predict_folds(probabilities: np.ndarray, folds: np.ndarray, choices: Sequence[Fold]) -> np.ndarray:
    """Labels (N,): each fold's clips at the epoch, α and β of its choice. probabilities: (epochs, N, 6)."""
    return _predict(probabilities, folds, [(choice.fold, choice.epoch, choice.thresholds) for choice in choices])


def predict_account(probabilities: np.ndarray, folds: np.ndarray, account: Mapping) -> np.ndarray:
    """Like `predict_folds`, from one account of `figures` as stored in JSON."""
    rows = account["folds"]
    choices = [(row["fold"], row["epoch"], Thresholds(row["alpha"], row["beta"])) for row in rows]
    return _predict(probabilities, folds, choices)


def _predict(
    probabilities: np.ndarray, folds: np.ndarray, choices: Iterable[tuple[int, int, Thresholds]]
) -> np.ndarray:
    predicted = np.zeros(len(folds), dtype=int)
    for fold, epoch, thresholds in choices:
        inside = folds == fold
        predicted[inside] = decode_thresholds(probabilities[epoch - 1, inside], thresholds)
    return predicted


def figures(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, epoch: int | None = None) -> dict:
    """Both accounts as one object for JSON. probabilities: (epochs, N, 6), out of fold; figures are unrounded.

    epoch: the nested account's epoch (from 1), if it is fixed
    """
    published = published_folds(probabilities, labels, folds)
    nested = nested_folds(probabilities, labels, folds, epoch)
    pooled = Counts(*np.sum([fold.counts for fold in nested], axis=0).tolist())
    return {
        "published": {**_over_folds(published), "folds": [_to_dict(fold) for fold in published]},
        "nested": {**accuracies(pooled), **_over_folds(nested), "folds": [_to_dict(fold) for fold in nested]},
    }


def figures_with_intervals(dataset: Dataset, probabilities: np.ndarray, epoch: int | None = None) -> dict:
    """`figures` of a dataset's clips; the nested account also has its intervals over actors (`ci`, as
    `blemore.report.intervals_to_dict` gives them).
    """
    accounts = figures(probabilities, dataset.labels, dataset.folds, epoch)
    predicted = predict_account(probabilities, dataset.folds, accounts["nested"])
    accounts["nested"]["ci"] = intervals_to_dict(intervals(scored(dataset, predicted)))
    return accounts


def accuracies(counts: Counts) -> dict:
    """The unrounded figures of some counts, for JSON."""
    return {
        "acc_presence": counts.acc_presence,
        "acc_salience": counts.acc_salience,
        "score": counts.score,
        "n": counts.n,
        "n_blends": counts.n_blends,
    }


def _to_dict(fold: Fold) -> dict:
    return {
        "fold": fold.fold,
        "epoch": fold.epoch,
        "alpha": fold.thresholds.alpha,
        "beta": fold.thresholds.beta,
        **accuracies(fold.counts),
    }


def _over_folds(folds: Sequence[Fold]) -> dict:
    return {"over_folds": mean_and_std([accuracies(fold.counts) for fold in folds])}


def mean_and_std(rows: Sequence[Mapping]) -> dict:
    """The mean and sample standard deviation of each metric over several `accuracies`; None if one of them has no
    blend.
    """
    over = {}
    for name in METRICS:
        values: list = [row[name] for row in rows]
        complete = None not in values
        over[name] = {
            "mean": float(np.mean(values)) if complete else None,
            "std": float(np.std(values, ddof=1)) if complete and len(values) > 1 else None,
        }
    return over
