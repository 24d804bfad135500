"""Structured decoding: the label with the highest expected score, under a posterior over the 36 labels.

The metric counts whole labels, but thresholds on six probabilities ignore how likely a whole label is. Given P(set)
over the 16 sets of emotions and the posterior P over the 36 labels (posterior.py), the decoder chooses the label y with
the largest expected gain in score,

    w · P(set of y) + (1 − w) · P(y) / s    for a blend;    w · P(set of y)    for a single emotion,

with s the share of blends and w = 1/2 for the leaderboard's mean of ACC_presence and ACC_salience. Over N clips, the
first term counts 1/N for a right set, the second 1/(sN) for a right blend. The score is a sum over clips, so under that
posterior no other decision has a higher expected score.

How hard the posterior's corrections are pulled to zero is chosen by cross-validated log loss over whole folds, so no
actor is on both sides.

Arrays are as in posterior.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from blemore.errors import Problem, ValidationError
from blemore.labels import EMOTIONS, LABELS
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL
from blemore_baselines.decoding.arrays import demand_labels, demand_range, demand_rows
from blemore_baselines.decoding.calibration import calibration
from blemore_baselines.decoding.posterior import CHUNK, Model, by_model, fit, posterior, set_probabilities

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the pull to zero


def decide(posterior: np.ndarray, share: float | np.ndarray, weight: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The labels (N,) with the highest expected score, and the expected score of each clip (N,); the mean of the latter
    is the overall score to expect.

    share:  of blends among the clips to be scored, in (0, 1]; one number, or one per clip (N,)
    weight: of ACC_presence in the score, in [0, 1]; ACC_salience has 1 − weight

    If several labels have the same expected score, the most likely wins, then the first. (At weight 1 all relations of
    a pair have the same.)

    Raises ValidationError: the posterior has the wrong shape or is not finite; a share or the weight is out of range.
    """
    posterior = demand_rows(posterior, len(LABELS), "posterior")
    demand_range(share, "share", 0, 1, open_below=True)
    demand_range(weight, "weight", 0, 1)
    if np.shape(share) not in ((), (len(posterior),)):
        expected_shape = f"expected one number, or one per clip ({len(posterior):,})"
        raise ValidationError(Problem("wrong-shape", "share", f"shape {np.shape(share)}; {expected_shape}"))
    best, expected = np.empty(len(posterior), dtype=int), np.empty(len(posterior))
    per_blend = np.broadcast_to((1 - weight) / np.asarray(share, dtype=float), len(posterior))
    for start in range(0, len(posterior), CHUNK):
        part = posterior[start : start + CHUNK]
        gain = weight * set_probabilities(part)[:, SET_OF_LABEL]
        gain[:, len(EMOTIONS) :] += per_blend[start : start + CHUNK, None] * part[:, len(EMOTIONS) :]
        best_gain = expected[start : start + CHUNK] = gain.max(axis=1)
        best[start : start + CHUNK] = np.where(gain == best_gain[:, None], part, -1).argmax(axis=1)
    return best, expected


class CrossValidated(NamedTuple):
    """Each clip's posterior from a model that saw nothing of its fold, not even to choose the strength; and the model
    for new clips.

    posterior: (N, 36); shares, strengths: by fold; final: fitted on all clips
    """

    posterior: np.ndarray
    shares: dict[int, float]
    strengths: dict[int, float]
    final: Model

    def share_of(self, folds: np.ndarray) -> np.ndarray:
        """The share of blends (N,) used in the decisions for each clip's fold."""
        return np.array([self.shares[int(fold)] for fold in folds])


def cross_validate(logs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> CrossValidated:
    """Nested cross-validation over `folds` (N,): each fold's temperatures and strength come only from the other folds.

    Raises ValidationError: see `fit` and `demand_folds`.
    """
    logs = by_model(logs)
    labels = demand_labels(labels, logs.shape[1])
    demand_folds(labels, folds)
    names = [int(fold) for fold in np.unique(folds)]
    n_fits = len(STRENGTHS) * len(names) * (len(names) - 1) // 2 + len(names) + 1
    with tqdm(total=n_fits, desc="structured decoder", unit="fit", disable=None) as progress:

        def fit_on(inside: np.ndarray, strength: float, start: Model | None = None) -> Model:
            progress.update()
            return fit(logs[:, inside], labels[inside], strength, start)

        losses = _losses(logs, labels, folds, fit_on)
        strengths = {fold: STRENGTHS[int(losses[fold].argmin())] for fold in names}
        posteriors, shares = np.zeros((len(labels), len(LABELS))), {}
        for fold in names:
            model = fit_on(folds != fold, strengths[fold])
            posteriors[folds == fold], shares[fold] = posterior(model, logs[:, folds == fold]), model.share
        strength = STRENGTHS[int(np.sum(list(losses.values()), axis=0).argmin())]
        final = fit_on(np.ones(len(labels), dtype=bool), strength)
    return CrossValidated(posteriors, shares, strengths, final)


def _losses(
    logs: np.ndarray, labels: np.ndarray, folds: np.ndarray, fit_on: Callable[..., Model]
) -> dict[int, np.ndarray]:
    """For each fold, the log loss of each of STRENGTHS, summed over the clips of the other folds.

    A model fitted without folds f and g is evaluated on g for f's choice and on f for g's choice, so one fit per
    unordered pair of folds is enough.
    """
    losses = {int(fold): np.zeros(len(STRENGTHS)) for fold in np.unique(folds)}
    for pair in combinations(losses, 2):
        model = None
        for k, strength in enumerate(STRENGTHS):
            model = fit_on(~np.isin(folds, pair), strength, start=model)
            for chooser, other in (pair, pair[::-1]):
                inside = folds == other
                loss = calibration(posterior(model, logs[:, inside]), labels[inside])["log_loss"]
                losses[chooser][k] += inside.sum() * loss
    return losses


def demand_folds(labels: np.ndarray, folds: np.ndarray) -> None:
    """ValidationError: not one fold (N,) per label, or blends in fewer than three folds. Relations are learned with any
    two folds left out.
    """
    if np.shape(folds) != np.shape(labels):
        message = f"shape {np.shape(folds)} for {len(labels):,} labels; expected one each"
        raise ValidationError(Problem("wrong-shape", "folds", message))
    n_folds, with_blends = len(np.unique(folds)), len(np.unique(folds[IS_BLEND[labels]]))
    if with_blends < 3:
        message = (
            f"{n_folds} folds, {with_blends} of them with blends; expected blends in at least 3 folds, because"
            " structured decoding is fitted, tuned and judged on different ones"
        )
        hint = "Use --decoder thresholds, which works with fewer."
        raise ValidationError(Problem("few-folds", "folds", message, hint=hint))


def decide_out_of_fold(result: CrossValidated, folds: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """Each clip's label (N,), decided with the share of blends from its fold's model."""
    return decide(result.posterior, result.share_of(folds), weight)[0]
