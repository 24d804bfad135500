"""Ways in which systems are known to fail, measured on out-of-fold predictions.

- *optimism*: the published account chooses epoch and thresholds on the same clips that it reports
- *wrong relation*: the set of emotions is right, but their relation is not. β decides between 50/50 and a dominant
  emotion; a dominant emotion that is taken for the lesser one is wrong at every β. A fold's own β always gains
  relations on the clips that it is chosen on. Only a larger gain than in random deals of the clips is evidence that
  folds differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from blemore.significance import Comparison
from blemore.tables import Cell, Table
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL
from blemore_baselines.decoding.accounts import nested_folds
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact
from blemore_baselines.results.text import METRICS

DEALS = 40
_ALWAYS_EQUAL, _NEVER_EQUAL = 2.0, -1.0  # β above and below every gap


class Relations(NamedTuple):
    """The true blends of a fold with the right set, and their relation.

    blends:    true blends
    right_set: of these, those with the right set
    wrong:     of these, those with the wrong relation
    reversed:  of the wrong ones, those that are wrong at every β
    fixed:     of the wrong ones, those that are right at own_beta
    lost:      right ones that are wrong at own_beta
    beta:      used for the predictions
    own_beta:  the β with the most right relations on these clips, in the middle of its plateau; None without clips
    """

    blends: int
    right_set: int
    wrong: int
    reversed: int
    fixed: int
    lost: int
    beta: float | None
    own_beta: float | None


def relations(probabilities: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> Relations:
    """probabilities: (N, 6) of one fold's clips; thresholds: chosen for it on other clips."""
    predicted = decode_thresholds(probabilities, thresholds)
    blend = IS_BLEND[labels]
    right_set = blend & (SET_OF_LABEL[predicted] == SET_OF_LABEL[labels])
    pairs, truth = probabilities[right_set], labels[right_set]

    def right(beta: float) -> np.ndarray:
        return decode_thresholds(pairs, Thresholds(thresholds.alpha, beta)) == truth

    now = right(thresholds.beta)
    # Every set is right as a pair, so the best score predicts all clips as pairs, with the most right relations.
    own = fit_exact(pairs, truth).thresholds.beta if right_set.any() else None
    then = now if own is None else right(own)
    return Relations(
        blends=int(blend.sum()),
        right_set=int(right_set.sum()),
        wrong=int((~now).sum()),
        reversed=int((~right(_ALWAYS_EQUAL) & ~right(_NEVER_EQUAL)).sum()),
        fixed=int((~now & then).sum()),
        lost=int((now & ~then).sum()),
        beta=thresholds.beta,
        own_beta=own,
    )


def total(by_fold: Mapping[int, Relations]) -> Relations:
    """The counts of all folds; `beta` and `own_beta` are None."""
    counts = {name: sum(getattr(row, name) for row in by_fold.values()) for name in Relations._fields[:6]}
    return Relations(**counts, beta=None, own_beta=None)


def relations_table(by_fold: Mapping[int, Relations]) -> Table:
    """Each fold's relations, and their sum."""
    rows = {**{f"fold {fold}": row for fold, row in by_fold.items()}, "all": total(by_fold)}
    columns = ["fold", "blends", "right set", "wrong relation", "share", "wrong at every β", "fixed by own β"]
    return Table(
        "True blends with the right set, and their relation",
        [*columns, "lost by own β", "β", "own β"],
        [
            [
                name,
                row.blends,
                row.right_set,
                row.wrong,
                row.wrong / row.right_set if row.right_set else None,
                row.reversed,
                row.fixed,
                row.lost,
                *("" if name == "all" else beta for beta in (row.beta, row.own_beta)),
            ]
            for name, row in rows.items()
        ],
    )


class Gain(NamedTuple):
    """How many relations the folds' own β gain (fixed minus lost), and how many by chance.

    dealt: (deals,) the gain if clips are dealt to folds at random; low, high: the middle 95 % of these
    p:     how often a deal gains at least as much, in (0, 1]
    """

    gained: int
    dealt: np.ndarray

    @property
    def low(self) -> float:
        return float(np.quantile(self.dealt, 0.025))

    @property
    def high(self) -> float:
        return float(np.quantile(self.dealt, 0.975))

    @property
    def p(self) -> float:
        return float((self.dealt >= self.gained).sum() + 1) / (len(self.dealt) + 1)


def gains_by_chance(
    probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, deals: int = DEALS, seed: int = 0
) -> np.ndarray:
    """(deals,) the gain by own β (fixed minus lost) if clips are dealt at random to folds of the same sizes.

    probabilities: (epochs, N, 6), out of fold; each deal chooses its epochs, α and β as the nested account does
    """
    rng = np.random.default_rng(seed)
    gains = []
    # Clips are dealt, not actors: keeping actors together would preserve differences between folds.
    for _ in range(deals):
        dealt = rng.permutation(folds)
        gain = 0
        for fold in nested_folds(probabilities, labels, dealt):
            inside = dealt == fold.fold
            counts = relations(probabilities[fold.epoch - 1, inside], labels[inside], fold.thresholds)
            gain += counts.fixed - counts.lost
        gains.append(gain)
    return np.array(gains)


def gain_table(gain: Gain) -> Table:
    return Table(
        f"Relations gained by each fold's own β, and the gain in {len(gain.dealt)} random deals of the clips to folds"
        " of the same sizes: mean, middle 95 %, and how often at least as much",
        ["", "fixed − lost", "by chance", "± std", "from", "to", "p of deals"],
        [["all", gain.gained, float(gain.dealt.mean()), float(gain.dealt.std(ddof=1)), gain.low, gain.high, gain.p]],
    )


def relations_in_words(by_fold: Mapping[int, Relations], gain: Gain) -> list[str]:
    """The conclusions. A gain counts as more than chance if at most 5 % of random deals gain as much (p ≤ 0.05)."""
    every = total(by_fold)
    verdict = (
        "That is more than choosing on few clips explains: the best β differs between folds, because their people or"
        " their models differ."
        if gain.p <= 0.05
        else "Choosing on few clips explains this gain, so it does not show that the best β differs between folds."
    )
    return [
        (
            f"Of {every.right_set:,} true blends with the right set of emotions, {every.wrong:,} have the wrong"
            f" relation. Of these, {every.reversed:,} are wrong at every β: the lesser emotion was taken for the"
            " dominant one."
        ),
        f"Each fold's best β, chosen on the same clips, fixes {every.fixed:,} and loses {every.lost:,}:"
        f" {gain.gained:+,} in total. If clips are dealt at random to folds of the same sizes, so that the best β"
        f" differs only by chance, the gain is {gain.dealt.mean():+.1f} (middle 95 % of {len(gain.dealt)} deals"
        f" {gain.low:+.1f} to {gain.high:+.1f}; p = {gain.p:.3f}). {verdict}".replace("-", "−"),
    ]


def optimism_table(published: Sequence[float | None], nested: Sequence[float | None], comparison: Comparison) -> Table:
    """Both accounts pooled over all clips, in the order of METRICS, and the gap between them with its interval over
    actors.
    """
    rows: list[list[Cell]] = []
    for metric, optimistic, honest in zip(METRICS, published, nested):
        difference = comparison.differences.get(metric)
        gap = difference.estimate[:3] if difference else [None] * 3
        rows.append([METRICS[metric], optimistic, honest, *gap])
    return Table(
        "Both accounts pooled over all clips; the gap with its 95 % interval over actors",
        ["", "published account", "nested", "gap", "low", "high"],
        rows,
    )
