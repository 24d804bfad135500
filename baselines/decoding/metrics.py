"""The challenge's figures on arrays, for use in training loops.

    >>> import numpy as np
    >>> from blemore_baselines.decoding import metrics
    >>> targets = np.array([[0.7, 0, 0, 0.3, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0.5, 0.5, 0, 0, 0]])
    >>> metrics.evaluate(np.log(targets + 0.01), targets)
    Figures(presence=1.0, salience=1.0, score=1.0, thresholds=Thresholds(alpha=0.05, beta=0.05))
    >>> metrics.to_labels(targets)
    array([12,  4, 19])

Thresholds fitted on the clips that they are evaluated on make every figure optimistic. That is good enough to monitor
training. For results to report, choose the thresholds on other clips, as `decode` does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blemore.errors import Problem, ValidationError, some
from blemore.labels import EMOTIONS
from blemore_baselines.dataset import TARGETS
from blemore_baselines.decoding.accounts import count
from blemore_baselines.decoding.arrays import demand_labels, demand_rows
from blemore_baselines.decoding.scores import to_probabilities
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_grid

ROUNDING = 1e-3  # largest deviation of a soft target from its label's


class Figures(NamedTuple):
    """ACC_presence, ACC_salience and their mean, each in [0, 1], and the thresholds that gave them.

    Without blends, salience and score are None.
    """

    presence: float
    salience: float | None
    score: float | None
    thresholds: Thresholds


def evaluate(scores: np.ndarray, truth: np.ndarray, thresholds: Thresholds | None = None) -> Figures:
    """The figures of logits or probabilities (N, 6), emotions in index order, decoded by the threshold rule.

    truth:      labels (N,), indices into `blemore.labels.LABELS`, or soft targets (N, 6)
    thresholds: α and β; None takes the best of the published grid on these same clips

    Raises ValidationError: scores that are neither logits nor probabilities (see `to_probabilities`), or a truth with
    invalid labels or another number of clips.
    """
    probabilities = to_probabilities(scores)
    truth = np.asarray(truth)
    labels = demand_labels(to_labels(truth) if truth.ndim == 2 else truth, len(probabilities))
    if thresholds is None:
        thresholds, _ = fit_grid(probabilities, labels)
    counts = count(decode_thresholds(probabilities, thresholds), labels)
    return Figures(counts.presence / counts.n, counts.acc_salience, counts.score, thresholds)


def to_labels(targets: np.ndarray) -> np.ndarray:
    """The label (N,), an index into `blemore.labels.LABELS`, of each soft target (N, 6) such as 0.7 and 0.3.

    Raises ValidationError: wrong shape, numbers that are not finite, or a row that matches no label.
    """
    targets = demand_rows(targets, len(EMOTIONS), "targets").astype(np.float64)
    labels = (targets @ TARGETS.T - (TARGETS**2).sum(axis=1) / 2).argmax(axis=1)  # the nearest
    away = np.abs(targets - TARGETS[labels]).max(axis=1) > ROUNDING
    if away.any():
        rows = [str(row) for row in np.flatnonzero(away)]
        message = (
            f"rows {some(rows)} match no label; row {rows[0]} is {targets[away][0].round(4).tolist()}; expected 1 for a"
            " single emotion, or 0.5 and 0.5 or 0.7 and 0.3 for two emotions other than neutral"
        )
        percent = np.abs(targets.sum(axis=1) - 100).max() < 1
        hint = "These look like percentages: divide by 100." if percent else None
        raise ValidationError(Problem("bad-target", "targets", message, hint=hint))
    return labels


def to_targets(labels: np.ndarray) -> np.ndarray:
    """The soft target (N, 6) float32 of each label (N,).

    Raises ValidationError: not indices into `blemore.labels.LABELS`.
    """
    return TARGETS[demand_labels(labels, len(np.asarray(labels)))]
