"""How far fitted thresholds can be trusted: the score of every α and β, and how the optimum moves with folds and actors.

Probabilities are (N, 6), out of fold, all by models of the same recipe and number of epochs; labels, folds
and actors are (N,).
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from blemore_baselines.decode import count
from blemore_baselines.tables import Table
from blemore_baselines.thresholds import Plateau, decode_thresholds, fit_exact, surface

ALPHAS = np.linspace(0, 0.5, 126)  # the second of two probabilities is never larger
BETAS = np.linspace(0, 1, 126)
RESAMPLES = 400


class Stability(NamedTuple):
    """scores:    (ALPHAS, BETAS), in [0, 1]
    pooled:    the exact optimum over all clips
    folds:     each fold's own exact optimum
    elsewhere: for each fold, the score that the pooled optimum gives on it; None in a fold without blends
    resampled: (resamples, 2) the optimal α and β for actors drawn with replacement
    """

    scores: np.ndarray
    pooled: Plateau
    folds: dict[int, Plateau]
    elsewhere: dict[int, float | None]
    resampled: np.ndarray


def measure(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, actors: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> Stability:
    """The same input and seed give the same figures."""
    pooled = fit_exact(probabilities, labels)
    own = {int(fold): fit_exact(probabilities[folds == fold], labels[folds == fold]) for fold in np.unique(folds)}
    decoded = decode_thresholds(probabilities, pooled.thresholds)
    elsewhere = {fold: count(decoded[folds == fold], labels[folds == fold]).score for fold in own}
    return Stability(
        surface(probabilities, labels, ALPHAS, BETAS).score, pooled, own, elsewhere, resample(probabilities, labels, actors, resamples, seed),
    )


def resample(probabilities: np.ndarray, labels: np.ndarray, actors: Sequence[str], resamples: int, seed: int) -> np.ndarray:
    """(resamples, 2): the exact optimum's α and β for as many actors as there are, drawn with replacement."""
    _, owner = np.unique(np.asarray(actors), return_inverse=True)
    clips = [np.flatnonzero(owner == actor) for actor in range(owner.max() + 1)]
    rng = np.random.default_rng(seed)
    drawn = (np.concatenate([clips[actor] for actor in rng.integers(len(clips), size=len(clips))]) for _ in range(resamples))
    return np.array([fit_exact(probabilities[rows], labels[rows]).thresholds for rows in drawn])


def table(stability: Stability) -> Table:
    """The plateau of all clips and of each fold, and the spread over resampled actors."""
    row = lambda name, found, elsewhere: [  # noqa: E731
        name, found.thresholds.alpha, *found.alpha, found.thresholds.beta, *found.beta, found.score, elsewhere,
    ]
    rows = [row("all clips", stability.pooled, stability.pooled.score)]
    rows += [row(f"fold {fold}", found, stability.elsewhere[fold]) for fold, found in stability.folds.items()]
    alpha, beta = ([float(value) for value in np.quantile(drawn, (0.5, 0.025, 0.975))] for drawn in stability.resampled.T)
    rows.append(["resampled actors", *alpha, *beta, None, None])
    return Table(
        f"Best thresholds, their plateau and score; common: the score at the thresholds of all clips; last, of {len(stability.resampled):,} resamples of the actors, the median and the middle 95 %",
        ["clips", "α", "α from", "α to", "β", "β from", "β to", "score", "common score"], rows,
    )
