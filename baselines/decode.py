"""From six scores a clip to valid labels, and the honest accounts of how well that works.

Conventions: arrays are (N, 6) with emotions in index order, `labels` are (N,) indices into
`blemore.labels.LABELS`, `folds` are (N,) numbers. All functions are pure and usable on their own, on
any model's scores.

The threshold rule (Lachmann et al. 2026): the two largest probabilities are kept. Both at least α and
neither neutral: a blend, 50/50 where they differ by at most β, else 70/30 toward the larger. Every
other case: the larger one alone. Of equal probabilities the lower index counts as larger, so neutral
never wins a tie.

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
from blemore.labels import BLEND_SALIENCES, EMOTIONS, LABELS, NEUTRAL, PAIRS
from blemore.metrics import Counts

GRID = np.linspace(0.05, 0.95, 20)  # the published grid, for α and for β

_NEUTRAL = EMOTIONS.index(NEUTRAL)
_N_RELATIONS = len(BLEND_SALIENCES)
_FIRST_DOMINANT, _EQUAL, _SECOND_DOMINANT = range(_N_RELATIONS)  # their order in LABELS
# The first label of a pair, by the indices of its emotions in either order; -1 where there is no blend.
_PAIR_START = np.full((len(EMOTIONS), len(EMOTIONS)), -1)
for _k, (_a, _b) in enumerate(PAIRS):
    _i, _j = EMOTIONS.index(_a), EMOTIONS.index(_b)
    _PAIR_START[_i, _j] = _PAIR_START[_j, _i] = len(EMOTIONS) + _N_RELATIONS * _k

_SETS = list(dict.fromkeys(label.emotions for label in LABELS))
_SET = np.array([_SETS.index(label.emotions) for label in LABELS])  # (36,): which set of emotions a label has


class Thresholds(NamedTuple):
    alpha: float
    beta: float


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


def to_probabilities(scores: np.ndarray, where: str = "scores") -> np.ndarray:
    """Probabilities (N, 6) from probabilities or logits.

    If every row lies in [0, 1] and sums to 1 ± 1e-3, the scores are probabilities and stay as they
    are; if no row does, they are logits and go through the softmax.

    Raises ValidationError: the shape is wrong, a value is not finite, or some rows are the one and some the other.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] != len(EMOTIONS):
        raise ValidationError(Problem("wrong-shape", where, f"shape {scores.shape}; expected (clips, {len(EMOTIONS)})"))
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise ValidationError(Problem("not-finite", where, f"{bad:,} of {len(scores):,} rows hold NaN or Infinity; expected finite numbers"))
    are = ((scores >= 0) & (scores <= 1)).all(axis=1) & (np.abs(scores.sum(axis=1) - 1) <= 1e-3)
    if are.all():
        return scores.astype(np.float64)
    if not are.any():
        return softmax(scores)
    raise ValidationError(Problem(
        "mixed-scores", where,
        f"{are.sum():,} of {len(scores):,} rows are probabilities (in [0, 1], sum 1), the others are not; expected all or none",
        hint="Are some rows rounded or not normalised? Give logits throughout, or probabilities that sum to 1 within 0.001.",
    ))


def average(scores: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Late fusion: the mean (N, 6) of several models' probabilities for the same clips. `names` are for messages."""
    return np.mean([to_probabilities(one, str(name)) for one, name in zip(scores, names)], axis=0)


# -------------------------------------------------------------------- thresholds


class _TopTwo(NamedTuple):
    """What the threshold rule looks at, a clip each: the single it would predict, the pair, and their probabilities."""

    single: np.ndarray  # label of the larger one alone
    pair: np.ndarray  # first of the pair's three labels; -1 with neutral
    dominance: np.ndarray  # label offset of "the larger one dominates"
    second: np.ndarray  # the smaller probability: compared with α
    gap: np.ndarray  # their difference: compared with β


def _top_two(probabilities: np.ndarray) -> _TopTwo:
    order = np.argsort(-probabilities, axis=1, kind="stable")  # stable: of equals the lower index first
    first, second = order[:, 0], order[:, 1]
    rows = np.arange(len(probabilities))
    p1, p2 = probabilities[rows, first], probabilities[rows, second]
    dominance = np.where(first < second, _FIRST_DOMINANT, _SECOND_DOMINANT)
    return _TopTwo(first, _PAIR_START[first, second], dominance, p2, np.abs(p1 - p2))


def decode_thresholds(probabilities: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """The label (N,) of each row of probabilities (N, 6), by the threshold rule."""
    top = _top_two(probabilities)
    relation = np.where(top.gap <= thresholds.beta, _EQUAL, top.dominance)
    return np.where((top.second >= thresholds.alpha) & (top.pair >= 0), top.pair + relation, top.single)


def fit_grid(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Thresholds, float]:
    """The thresholds of the published 20×20 grid with the best score, and that score.

    Of equal points the first wins, α ascending, then β ascending. Without true blends the score is
    the presence alone.
    """
    top = _top_two(probabilities)
    is_blend = labels >= len(EMOTIONS)
    pair_right = is_blend & (_SET[top.pair] == _SET[labels]) & (top.pair >= 0)
    predicts_blend = (top.second >= GRID[:, None]) & (top.pair >= 0)  # (α, N)
    presence = np.where(predicts_blend, pair_right, top.single == labels).sum(axis=1)  # (α,)
    relation = np.where(top.gap <= GRID[:, None], _EQUAL, top.dominance)  # (β, N)
    relation_right = (top.pair + relation == labels) & pair_right
    # Counts stay exact in float64, whose matrix product is the fast one.
    salience = predicts_blend.astype(float) @ relation_right.T.astype(float)  # (α, β)
    # Over the common denominator, where equal scores are equal: a sum of two quotients differs in its last bit.
    n, n_blends = len(labels), int(is_blend.sum())
    points = presence[:, None] * n_blends + salience * n if n_blends else np.broadcast_to(presence[:, None], salience.shape)
    score = points / (2 * n * n_blends if n_blends else n)
    best = int(np.argmax(score))  # row-major: the first of equals
    a, b = divmod(best, len(GRID))
    return Thresholds(float(GRID[a]), float(GRID[b])), float(score[a, b])


def count(predicted: np.ndarray, labels: np.ndarray) -> Counts:
    """The metrics' summed record for predicted and true label indices (N,); equal to `blemore.metrics.count`."""
    blend = labels >= len(EMOTIONS)
    right_set = _SET[predicted] == _SET[labels]
    right = int((blend & (predicted == labels)).sum())
    return Counts(len(labels), int(right_set.sum()), int(blend.sum()), right, right)


# --------------------------------------------------------------- the two accounts


def published_folds(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> list[Fold]:
    """Each fold at its own best epoch, α and β. probabilities: (epochs, N, 6), out of fold."""
    return [_judge(probabilities, labels, folds, fold, own=True) for fold in np.unique(folds)]


def nested_folds(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> list[Fold]:
    """Each fold at the epoch, α and β that are best on the other folds. probabilities: (epochs, N, 6), out of fold."""
    return [_judge(probabilities, labels, folds, fold, own=False) for fold in np.unique(folds)]


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
        "nested": {**_accuracies(pooled), **_over_folds(nested), "folds": [_to_dict(fold) for fold in nested]},
    }


def _accuracies(counts: Counts) -> dict:
    return {
        "acc_presence": counts.acc_presence, "acc_salience": counts.acc_salience, "score": counts.score,
        "n": counts.n, "n_blends": counts.n_blends,
    }


def _to_dict(fold: Fold) -> dict:
    return {"fold": fold.fold, "epoch": fold.epoch, "alpha": fold.thresholds.alpha, "beta": fold.thresholds.beta, **_accuracies(fold.counts)}


def _over_folds(folds: Sequence[Fold]) -> dict:
    """Mean and sample standard deviation over folds; None where a fold has no blend."""
    over = {}
    for name in ("acc_presence", "acc_salience", "score"):
        values: list[Optional[float]] = [getattr(fold.counts, name) for fold in folds]
        known = None not in values
        over[name] = {"mean": float(np.mean(values)) if known else None, "std": float(np.std(values, ddof=1)) if known and len(values) > 1 else None}
    return {"over_folds": over}
