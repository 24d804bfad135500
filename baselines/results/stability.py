"""How reliable fitted thresholds are: the score of every α and β, and how the optimum varies with folds and actors.

Probabilities are (N, 6), out of fold, all from models with the same recipe and number of epochs; labels, folds and
actors are (N,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blemore.tables import Cell, Table
from blemore_baselines.decoding.accounts import count
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact, surface

ALPHAS = np.linspace(0, 0.5, 126)  # the second of two probabilities is never larger
BETAS = np.linspace(0, 1, 126)
RESAMPLES = 400
NEAR = 0.005  # of the score: at most a few clips in a thousand


class Region(NamedTuple):
    """The region of good thresholds. (The plateau of the exact best score is only as wide as the gap between two clips,
    which is uninformative.)

    thresholds: the exact optimum, with score in [0, 1]
    alpha:      the interval (low, high] around it in which the score stays within NEAR of the best, with β fixed
    beta:       the interval [low, high), with α fixed
    """

    thresholds: Thresholds
    alpha: tuple[float, float]
    beta: tuple[float, float]
    score: float


class Stability(NamedTuple):
    """How the score depends on the thresholds.

    scores:    (ALPHAS, BETAS), in [0, 1]
    pooled:    the optimum over all clips
    folds:     each fold's own optimum
    elsewhere: the pooled optimum's score on each fold; None for a fold without blends
    resampled: (resamples, 2) the optimal α and β for actors drawn with replacement
    """

    scores: np.ndarray
    pooled: Region
    folds: dict[int, Region]
    elsewhere: dict[int, float | None]
    resampled: np.ndarray


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    actors: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Stability:
    """Measures the stability; the same input and seed give the same figures."""
    pooled = region(probabilities, labels)
    own = {int(fold): region(probabilities[folds == fold], labels[folds == fold]) for fold in np.unique(folds)}
    decoded = decode_thresholds(probabilities, pooled.thresholds)
    elsewhere = {fold: count(decoded[folds == fold], labels[folds == fold]).score for fold in own}
    return Stability(
        surface(probabilities, labels, ALPHAS, BETAS).score,
        pooled,
        own,
        elsewhere,
        resample(probabilities, labels, actors, resamples, seed),
    )


def region(probabilities: np.ndarray, labels: np.ndarray) -> Region:
    """The exact optimum, and how far each threshold can be moved from it. Tries every point at which a decision
    changes.
    """
    (alpha, beta), *_, score = fit_exact(probabilities, labels)
    ordered = np.sort(probabilities, axis=1)
    second, lead = np.unique(ordered[:, -2]), np.unique(ordered[:, -1] - ordered[:, -2])

    def fine(alphas: np.ndarray, betas: np.ndarray) -> np.ndarray:
        return surface(probabilities, labels, alphas, betas).score.ravel() >= score - NEAR - 1e-12

    # By the rule's comparisons, decisions are the same for α in (edge, next edge] and β in [edge, next edge).
    edges = np.concatenate([[0.0], second, [1.0]])
    alphas = _around(fine(edges[1:], np.array([beta])), int(np.searchsorted(edges[1:], alpha)), edges)
    edges = np.concatenate([[0.0 if lead[0] > 0 else -1.0], lead, [1.0 if lead[-1] < 1 else 2.0]])
    betas = _around(
        fine(np.array([alpha]), edges[:-1]), int(np.searchsorted(edges[:-1], beta, side="right")) - 1, edges
    )
    return Region(Thresholds(alpha, beta), alphas, betas, score)


def _around(fine: np.ndarray, place: int, edges: np.ndarray) -> tuple[float, float]:
    """The ends of the run of `fine` intervals around the one at `place`. fine: (K,); edges: (K + 1,)."""
    others = np.flatnonzero(~fine)
    first, last = others[others < place].max(initial=-1) + 1, others[others > place].min(initial=len(fine))
    return float(edges[first]), float(edges[last])


def reach(low: float, high: float, digits: int = 3) -> str:
    """An interval, rounded to the fewest digits (at least `digits`) at which its ends differ.

    >>> reach(0.07351, 0.07368), reach(0.05, 0.11)
    ('0.0735 to 0.0737', '0.050 to 0.110')
    """
    ends = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return reach(low, high, digits + 1) if ends[0] == ends[1] and low != high else " to ".join(ends)


def resample(
    probabilities: np.ndarray, labels: np.ndarray, actors: Sequence[str], resamples: int, seed: int
) -> np.ndarray:
    """(resamples, 2): the exact optimum's α and β on actors drawn with replacement, as many as there are."""
    _, owner = np.unique(np.asarray(actors), return_inverse=True)
    clips = [np.flatnonzero(owner == actor) for actor in range(owner.max() + 1)]
    rng = np.random.default_rng(seed)
    samples = (
        np.concatenate([clips[actor] for actor in rng.integers(len(clips), size=len(clips))]) for _ in range(resamples)
    )
    return np.array([fit_exact(probabilities[rows], labels[rows]).thresholds for rows in samples])


def table(stability: Stability) -> Table:
    """The optimum of all clips and of each fold, how far it can be moved, and the spread over resampled actors."""
    rows: list[list[Cell]] = [["all clips", *_region_cells(stability.pooled), stability.pooled.score]]
    rows += [
        [f"fold {fold}", *_region_cells(region), stability.elsewhere[fold]] for fold, region in stability.folds.items()
    ]
    alpha, beta = (
        [float(value) for value in np.quantile(values, (0.5, 0.025, 0.975))] for values in stability.resampled.T
    )
    rows.append(["resampled actors", *alpha, *beta, None, None])
    return Table(
        f"Best thresholds with their score, and the range of each in which the score falls by at most {NEAR} if the"
        " other is fixed; common: the score at the thresholds of all clips; last row: the median and the middle 95 % of"
        f" {len(stability.resampled):,} resamples of the actors",
        ["clips", "α", "α from", "α to", "β", "β from", "β to", "score", "common score"],
        rows,
    )


def _region_cells(region: Region) -> list[Cell]:
    return [region.thresholds.alpha, *region.alpha, region.thresholds.beta, *region.beta, region.score]
