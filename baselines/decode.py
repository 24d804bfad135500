"""From six scores a clip to valid labels, and the honest accounts of how well that works.

Conventions: arrays are (N, 6) with emotions in index order, `labels` are (N,) indices into
`blemore.labels.LABELS`, `folds` are (N,) numbers. All functions are pure and usable on their own, on
any model's scores.

Two accounts of the same predictions:
- *published*: a fold's epoch, α and β are those that are best on that very fold. Optimistic, since it
  selects and reports on the same clips, but it is what the paper's tables hold.
- *nested*: a fold's epoch, α and β come from the other folds' out-of-fold scores. Pooled over all
  clips into one presence, one salience and their mean: what can be expected of clips not seen.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.labels import EMOTIONS
from blemore.metrics import Counts
from blemore_baselines.arrays import demand_rows
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL
from blemore_baselines.thresholds import Thresholds, decode_thresholds, fit_exact, fit_grid

__all__ = [
    "Thresholds", "accuracies", "average", "choose", "count", "decode_thresholds", "figures", "fit_exact", "fit_grid",
    "log_softmax", "nested_folds", "predict_folds", "published_folds", "softmax", "to_log_probabilities", "to_probabilities",
]

FLOOR = 1e-12  # a probability of zero has no logarithm


class Fold(NamedTuple):
    """One fold's result, and the choice that was made for it. `epoch` counts from 1."""

    fold: int
    epoch: int
    thresholds: Thresholds
    counts: Counts


# ------------------------------------------------------------------------- scores


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, float64."""
    shifted = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, float64; exact where the softmax would round to zero."""
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def to_probabilities(scores: np.ndarray, where: str = "scores") -> np.ndarray:
    """Probabilities (N, 6) from probabilities or logits.

    If every row lies in [0, 1] and sums to 1 ± 1e-3, the scores are probabilities and stay as they
    are; if no row does, they are logits and go through the softmax.

    Raises ValidationError: the shape is wrong, a value is not finite, some rows are the one and some the other, or
    all are neither: percentages, or numbers in [0, 1] that do not sum to 1.
    """
    scores = np.asarray(scores)
    return scores.astype(np.float64) if _are_probabilities(scores, where) else softmax(scores)


def to_log_probabilities(scores: np.ndarray, where: str = "scores") -> np.ndarray:
    """Log-probabilities (N, 6) from probabilities or logits, told apart and refused as `to_probabilities` does.

    Logits keep all they tell, however sharp; a probability of zero has no logarithm and counts as 1e-12.
    """
    scores = np.asarray(scores)
    return np.log(np.maximum(scores.astype(np.float64), FLOOR)) if _are_probabilities(scores, where) else log_softmax(scores)


def _are_probabilities(scores: np.ndarray, where: str) -> bool:
    """Whether all rows are; False: all are logits."""
    demand_rows(scores, len(EMOTIONS), where)
    are = ((scores >= 0) & (scores <= 1)).all(axis=1) & (np.abs(scores.sum(axis=1) - 1) <= 1e-3)
    if are.all():
        return True
    if not are.any():
        _refuse_shares(scores, where)
        return False
    raise ValidationError(Problem(
        "mixed-scores", where,
        f"{are.sum():,} of {len(scores):,} rows are probabilities (in [0, 1], sum 1), the others are not; expected all or none",
        hint="Are some rows rounded or not normalised? Give logits throughout, or probabilities that sum to 1 within 0.001.",
    ))


def _refuse_shares(scores: np.ndarray, where: str) -> None:
    """What the softmax would turn into other probabilities without a word: logits do not lie so, or may be shifted out of it."""
    expected = "expected logits, or probabilities that sum to 1"
    if (scores >= 0).all() and abs(np.median(scores.sum(axis=1)) - 100) <= 3:  # each of six may be rounded by a half
        raise ValidationError(Problem("percentages", where, f"no value is negative, and rows sum to about 100; {expected}",
                                      hint="These look like percentages: divide by 100."))
    if ((scores >= 0) & (scores <= 1)).all() and np.ptp(scores, axis=1).any():  # rows of equal numbers mean the same either way
        raise ValidationError(Problem(
            "not-normalised", where, f"all values lie in [0, 1], but no row sums to 1; {expected}",
            hint="Are they sigmoid outputs? Give the logits, or divide each row by its sum. If these are logits, subtract 2 from all: the softmax stays as it is.",
        ))


def average(scores: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Late fusion: the mean (N, 6) of several models' probabilities for the same clips. `names` are for messages."""
    return np.mean([to_probabilities(one, str(name)) for one, name in zip(scores, names)], axis=0)


# --------------------------------------------------------------- the two accounts


def count(predicted: np.ndarray, labels: np.ndarray) -> Counts:
    """The metrics' summed record for predicted and true label indices (N,); equal to `blemore.metrics.count`."""
    blend = IS_BLEND[labels]
    right_set = SET_OF_LABEL[predicted] == SET_OF_LABEL[labels]
    right = int((blend & (predicted == labels)).sum())
    return Counts(len(labels), int(right_set.sum()), int(blend.sum()), right, right)


def published_folds(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> list[Fold]:
    """Each fold at its own best epoch, α and β. probabilities: (epochs, N, 6), out of fold."""
    return [_judge(probabilities, labels, folds, fold, own=True) for fold in np.unique(folds)]


def nested_folds(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> list[Fold]:
    """Each fold at the epoch, α and β that are best on the other folds. probabilities: (epochs, N, 6), out of fold."""
    return [_judge(probabilities, labels, folds, fold, own=False) for fold in np.unique(folds)]


def predict_folds(probabilities: np.ndarray, folds: np.ndarray, chosen: Sequence[Fold]) -> np.ndarray:
    """Labels (N,): each fold's clips at the epoch, α and β that were chosen for it. probabilities: (epochs, N, 6)."""
    predicted = np.zeros(len(folds), dtype=int)
    for fold in chosen:
        inside = folds == fold.fold
        predicted[inside] = decode_thresholds(probabilities[fold.epoch - 1, inside], fold.thresholds)
    return predicted


def _judge(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, fold: int, own: bool) -> Fold:
    inside = folds == fold
    chosen_on = inside if own else ~inside
    epoch, thresholds = choose(probabilities[:, chosen_on], labels[chosen_on])
    predicted = decode_thresholds(probabilities[epoch, inside], thresholds)
    return Fold(int(fold), epoch + 1, thresholds, count(predicted, labels[inside]))


def choose(probabilities: np.ndarray, labels: np.ndarray) -> tuple[int, Thresholds]:
    """The epoch (from 0) and thresholds with the best score over (epochs, N, 6); of equal epochs the earliest."""
    fits = [fit_grid(epoch, labels) for epoch in probabilities]
    best = int(np.argmax([score for _, score in fits]))
    return best, fits[best][0]


def figures(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> dict:
    """Both accounts as one object for JSON. probabilities: (epochs, N, 6), out of fold; figures are unrounded."""
    published = published_folds(probabilities, labels, folds)
    nested = nested_folds(probabilities, labels, folds)
    pooled = Counts(*np.sum([fold.counts for fold in nested], axis=0).tolist())
    return {
        "published": {**_over_folds(published), "folds": [_to_dict(fold) for fold in published]},
        "nested": {**accuracies(pooled), **_over_folds(nested), "folds": [_to_dict(fold) for fold in nested]},
    }


def accuracies(counts: Counts) -> dict:
    """A summed record's figures, unrounded, for JSON."""
    return {
        "acc_presence": counts.acc_presence, "acc_salience": counts.acc_salience, "score": counts.score,
        "n": counts.n, "n_blends": counts.n_blends,
    }


def _to_dict(fold: Fold) -> dict:
    return {"fold": fold.fold, "epoch": fold.epoch, "alpha": fold.thresholds.alpha, "beta": fold.thresholds.beta, **accuracies(fold.counts)}


def _over_folds(folds: Sequence[Fold]) -> dict:
    """Mean and sample standard deviation over folds; None where a fold has no blend."""
    over = {}
    for name in ("acc_presence", "acc_salience", "score"):
        values: list[Optional[float]] = [getattr(fold.counts, name) for fold in folds]
        known = None not in values
        over[name] = {"mean": float(np.mean(values)) if known else None, "std": float(np.std(values, ddof=1)) if known and len(values) > 1 else None}
    return {"over_folds": over}
