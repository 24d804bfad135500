"""Each fold as a pseudo-test of thresholds chosen on the other folds, and the resulting loss; see thresholds.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact, fit_grid
from blemore_baselines.studies.intervals import FIGURES, outcomes

WAYS = {  # how the thresholds of a pseudo-test were chosen
    "grid": "the published grid, on all other folds together",
    "exact": "the exact optimum, on all other folds together",
    "best fold": "the published grid, on the best of the other folds only, as for the paper's test",
}


class Transfer(NamedTuple):
    """Each clip's outcome (N, 4) and the thresholds by fold, for the fold's own best and the transferred thresholds."""

    own: np.ndarray
    transferred: np.ndarray
    own_thresholds: Mapping[int, Thresholds]
    thresholds: Mapping[int, Thresholds]

    def losses(self) -> dict[str, float]:
        """The mismatch over all clips, by figure."""
        return {
            name: float(of(self.own.sum(axis=0)) - of(self.transferred.sum(axis=0))) for name, of in FIGURES.items()
        }


def transfer(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> dict[str, Transfer]:
    """Each fold as a pseudo-test of the others, in each of WAYS. probabilities: (N, 6), out of fold."""
    numbers = np.unique(folds).tolist()
    inside = {fold: (probabilities[folds == fold], labels[folds == fold]) for fold in numbers}
    others = {fold: (probabilities[folds != fold], labels[folds != fold]) for fold in numbers}
    grid = {fold: fit_grid(*clips) for fold, clips in inside.items()}
    own = {fold: thresholds for fold, (thresholds, _) in grid.items()}
    best_other = {
        fold: max((other for other in numbers if other != fold), key=lambda other: grid[other][1]) for fold in numbers
    }
    pairs = {
        "grid": (own, {fold: fit_grid(*clips)[0] for fold, clips in others.items()}),
        "exact": (
            {fold: fit_exact(*clips).thresholds for fold, clips in inside.items()},
            {fold: fit_exact(*clips).thresholds for fold, clips in others.items()},
        ),
        "best fold": (own, {fold: own[other] for fold, other in best_other.items()}),
    }

    def judge(thresholds: Mapping[int, Thresholds]) -> np.ndarray:
        predicted = np.zeros(len(labels), dtype=int)
        for fold in numbers:
            predicted[folds == fold] = decode_thresholds(inside[fold][0], thresholds[fold])
        return outcomes(predicted, labels)

    return {way: Transfer(judge(best), judge(moved), best, moved) for way, (best, moved) in pairs.items()}


class Split(NamedTuple):
    """A figure of one pseudo-test; see thresholds.py."""

    validation: float
    own: float
    transferred: float
    drop: float
    mismatch: float
    rest: float


def split_drop(transfer: Transfer, folds: np.ndarray, name: str) -> dict[int, Split]:
    """Each fold's figure and how it drops."""
    numbers = np.unique(folds).tolist()
    own, transferred = (
        {fold: float(FIGURES[name](records[folds == fold].sum(axis=0))) for fold in numbers}
        for records in (transfer.own, transfer.transferred)
    )
    split = {}
    for fold, best in own.items():
        validation = float(np.mean([value for other, value in own.items() if other != fold]))
        after = transferred[fold]
        split[fold] = Split(validation, best, after, validation - after, best - after, validation - best)
    return split


def by_chance(dataset: Dataset, probabilities: np.ndarray, seed: int, deals: int) -> dict[str, dict[str, np.ndarray]]:
    """The mismatch if clips are dealt at random to folds of the same sizes: way → figure → (deals,)."""
    rng = np.random.default_rng(seed)
    losses = []
    for _ in tqdm(range(deals), desc="random deals", unit="deal", disable=None):
        by_way = transfer(probabilities, dataset.labels, rng.permutation(dataset.folds))
        losses.append({way: result.losses() for way, result in by_way.items()})
    return {way: {name: np.array([loss[way][name] for loss in losses]) for name in FIGURES} for way in WAYS}


class Beyond(NamedTuple):
    """The loss by chance (mean of random deals), the loss beyond it, and how often a deal loses as much, in (0, 1]."""

    by_chance: float
    beyond: float
    p_deals: float


def beyond_chance(loss: float, dealt: np.ndarray) -> Beyond:
    """A loss compared with those of random deals (deals,)."""
    rounding = 1e-12
    return Beyond(
        float(dealt.mean()), loss - float(dealt.mean()), float((dealt >= loss - rounding).sum() + 1) / (len(dealt) + 1)
    )
