"""Ways in which systems are known to fail, measured on out-of-fold predictions.

- *optimism*: the published account chooses epoch and thresholds on the very clips that it reports
- *wrong relation*: the set of emotions is right and their relation is not. β decides between 50/50 and a
  dominant emotion, so part of that is the fault of a β that came from other clips; a dominant emotion that is
  taken for the lesser one is wrong at every β
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import numpy as np

from blemore.labels import EMOTIONS
from blemore.significance import Comparison
from blemore_baselines.accounts import METRICS
from blemore_baselines.dataset import SET_OF_LABEL
from blemore_baselines.tables import Table
from blemore_baselines.thresholds import Thresholds, decode_thresholds, fit_exact

_ALWAYS_EQUAL, _NEVER_EQUAL = 2.0, -1.0  # β beyond every gap, and below


class Relations(NamedTuple):
    """The true blends of a fold whose set is right, and their relation.

    blends: true blends; right_set: of these; wrong: of these, with another relation
    reversed: of the wrong ones, those that are wrong at every β
    mended:   of the wrong ones, those that are right at own_beta
    lost:     right ones that own_beta makes wrong
    beta:     what the predictions were made with
    own_beta: the one with the most right relations on these very clips, the middle of its plateau; None without clips
    """

    blends: int
    right_set: int
    wrong: int
    reversed: int
    mended: int
    lost: int
    beta: float
    own_beta: Optional[float]


def relations(probabilities: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> Relations:
    """probabilities: (N, 6) of one fold's clips; thresholds: those that were chosen for it elsewhere."""
    predicted = decode_thresholds(probabilities, thresholds)
    blend = labels >= len(EMOTIONS)
    its = blend & (SET_OF_LABEL[predicted] == SET_OF_LABEL[labels])
    decided, truth = probabilities[its], labels[its]
    right = lambda beta: decode_thresholds(decided, Thresholds(thresholds.alpha, beta)) == truth  # noqa: E731
    now = right(thresholds.beta)
    # Where every set is right as a pair, the best score has all of them decided as pairs, and the most right relations.
    own = fit_exact(decided, truth).thresholds.beta if its.any() else None
    then = now if own is None else right(own)
    never = ~right(_ALWAYS_EQUAL) & ~right(_NEVER_EQUAL)
    numbers = (blend, its, ~now, never, ~now & then, now & ~then)
    return Relations(*(int(which.sum()) for which in numbers), thresholds.beta, own)


def relations_table(by_fold: dict[int, Relations]) -> Table:
    """Each fold's relations, and their sum."""
    total = Relations(*(sum(column) for column in list(zip(*by_fold.values()))[:6]), None, None)
    named = [*((f"fold {fold}", its) for fold, its in by_fold.items()), ("all", total)]
    return Table(
        "True blends whose set was found, and their relation",
        ["fold", "blends", "right set", "wrong relation", "share", "wrong at every β", "mended by own β", "lost by own β", "β", "own β"],
        [[name, its.blends, its.right_set, its.wrong, its.wrong / its.right_set if its.right_set else None, *its[3:6],
          *("" if name == "all" else beta for beta in its[6:])] for name, its in named],
    )


def optimism_table(published: Sequence[Optional[float]], nested: Sequence[Optional[float]], comparison: Comparison) -> Table:
    """Both accounts pooled over all clips, in the order of METRICS, and the gap between them with its interval over actors."""
    rows = []
    for metric, ours, honest in zip(METRICS, published, nested):
        found = comparison.differences.get(metric)
        interval = found and found.interval
        rows.append([METRICS[metric], ours, honest, found and found.delta, interval and interval.low, interval and interval.high])
    return Table(
        "Both accounts pooled over all clips; the gap with its 95 % interval over actors", ["", "published account", "nested", "gap", "from", "to"], rows,
    )
