"""The threshold rule of the paper (Lachmann et al. 2026), and the best thresholds: of its grid, or of all.

The two largest probabilities are kept. Both at least α and neither neutral: a blend, 50/50 where they
differ by at most β, else 70/30 toward the larger. Every other case: the larger one alone. Of equal
probabilities the lower index counts as larger, so neutral never wins a tie.

Arrays are (N, 6) with emotions in index order, `labels` are (N,) indices into `blemore.labels.LABELS`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blemore.labels import EMOTIONS, PAIRS
from blemore_baselines.dataset import IS_BLEND, N_RELATIONS, SET_OF_LABEL
from blemore_baselines.decoding.arrays import demand_labels, demand_rows

GRID = np.linspace(0.05, 0.95, 20)  # the published grid, for α and for β

_FIRST_DOMINANT, _EQUAL, _SECOND_DOMINANT = range(N_RELATIONS)  # their order in LABELS
# The first label of a pair, by the indices of its emotions in either order; -1 where there is no blend.
_PAIR_START = np.full((len(EMOTIONS), len(EMOTIONS)), -1)
for _k, (_a, _b) in enumerate(PAIRS):
    _i, _j = EMOTIONS.index(_a), EMOTIONS.index(_b)
    _PAIR_START[_i, _j] = _PAIR_START[_j, _i] = len(EMOTIONS) + N_RELATIONS * _k


class Thresholds(NamedTuple):
    alpha: float
    beta: float


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
    """The label (N,) of each row of probabilities (N, 6), by the threshold rule.

    Raises ValidationError: another shape, or numbers that are not finite.
    """
    top = _top_two(demand_rows(probabilities, len(EMOTIONS), "probabilities"))
    relation = np.where(top.gap <= thresholds.beta, _EQUAL, top.dominance)
    return np.where((top.second >= thresholds.alpha) & (top.pair >= 0), top.pair + relation, top.single)


class Surface(NamedTuple):
    """The figures at each α (A,) and β (B,), in [0, 1]; equal figures are equal to the last bit.

    Without true blends salience is nan, and the score is the presence alone.
    """

    presence: np.ndarray  # (A,): β has no part in it
    salience: np.ndarray  # (A, B)
    score: np.ndarray  # (A, B)


def surface(probabilities: np.ndarray, labels: np.ndarray, alphas: np.ndarray, betas: np.ndarray) -> Surface:
    """What every α (A,) with every β (B,) comes to."""
    top = _top_two(probabilities)
    is_blend = IS_BLEND[labels]
    pair_right = is_blend & (SET_OF_LABEL[top.pair] == SET_OF_LABEL[labels]) & (top.pair >= 0)
    predicts_blend = (top.second >= alphas[:, None]) & (top.pair >= 0)  # (A, N)
    presence = np.where(predicts_blend, pair_right, top.single == labels).sum(axis=1)
    # The relation is asked of those clips alone whose pair is right. Counts stay exact in float64, whose matrix product
    # is the fast one.
    relation = np.where(top.gap[pair_right] <= betas[:, None], _EQUAL, top.dominance[pair_right])
    relation_right = top.pair[pair_right] + relation == labels[pair_right]  # (B, right pairs)
    salience = predicts_blend[:, pair_right].astype(float) @ relation_right.T.astype(float)
    n, n_blends = len(labels), int(is_blend.sum())
    if not n_blends:
        return Surface(
            presence / n, np.full_like(salience, np.nan), np.repeat(presence[:, None] / n, len(betas), axis=1)
        )
    # Over the common denominator, where equal scores are equal: a sum of two quotients differs in its last bit.
    return Surface(
        presence / n, salience / n_blends, (presence[:, None] * n_blends + salience * n) / (2 * n * n_blends)
    )


def fit_grid(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Thresholds, float]:
    """The thresholds of the published 20×20 grid with the best score, and that score.

    Of equal points the first wins, α ascending, then β ascending. Without true blends the score is
    the presence alone.

    Raises ValidationError: another shape, numbers that are not finite, labels that are none, or no clips.
    """
    probabilities = demand_rows(probabilities, len(EMOTIONS), "probabilities")
    labels = demand_labels(labels, len(probabilities))
    score = surface(probabilities, labels, GRID, GRID).score
    a, b = divmod(int(np.argmax(score)), len(GRID))  # row-major: the first of equals
    return Thresholds(float(GRID[a]), float(GRID[b])), float(score[a, b])


# ---------------------------------------------------------------------- the exact optimum


class Plateau(NamedTuple):
    """An exact optimum of the threshold rule: a stable point in the middle of it, and how far it reaches.

    thresholds: α in the middle of `alpha`, β in the middle of `beta`
    alpha:      the widest interval (low, high] of optimal α
    beta:       the widest interval [low, high) of β that are optimal at that α
    score:      the figure that decoding at any of these points gives
    """

    thresholds: Thresholds
    alpha: tuple[float, float]
    beta: tuple[float, float]
    score: float


def fit_exact(probabilities: np.ndarray, labels: np.ndarray) -> Plateau:
    """The best thresholds of all, not of a grid: every α and β at which a decision changes is tried, in O(N log N).

    Lowering α lets the clips decide for their pair one after the other, in the order of their second
    probability. Each then adds its gap to a line of gaps, with a weight: +1 where 50/50 is right, −1
    where the dominance is. The best β for an α is the best prefix of that line, and a tree over the
    line keeps it through all insertions.

    Without true blends the score is the presence alone. Raises ValidationError as `fit_grid`.
    """
    probabilities = demand_rows(probabilities, len(EMOTIONS), "probabilities")
    labels = demand_labels(labels, len(probabilities))
    top = _top_two(probabilities)
    n, is_blend = len(labels), IS_BLEND[labels]
    n_blends = int(is_blend.sum())
    single_right = top.single == labels
    clips = np.flatnonzero(top.pair >= 0)  # the others never change
    clips = clips[np.argsort(-top.second[clips], kind="stable")]
    second, gap = top.second[clips], top.gap[clips]
    pair_right = (SET_OF_LABEL[top.pair] == SET_OF_LABEL[labels])[clips] & is_blend[clips]
    dominance_right = pair_right & ((top.pair + top.dominance) == labels)[clips]
    equal_gain = (pair_right & ((top.pair + _EQUAL) == labels)[clips]).astype(np.int64) - dominance_right

    # State k: the first k clips decide for their pair.
    from_zero = lambda values: np.concatenate([[0], np.cumsum(values, dtype=np.int64)])  # noqa: E731
    presence = single_right.sum() + from_zero(pair_right.astype(np.int64) - single_right[clips])
    salience = from_zero(dominance_right) + _best_prefixes(gap, equal_gain)
    points = presence * max(n_blends, 1) + salience * n if n_blends else presence
    # The states that an α can bring about: equal probabilities decide together. α in (lows, highs].
    states = (
        np.concatenate([[0], 1 + np.flatnonzero(np.append(second[1:] != second[:-1], True))])
        if len(clips)
        else np.array([0])
    )
    edges = np.concatenate([[1.0], second[states[1:] - 1], [0.0]])
    best = points[states].max()
    low, high = widest(points[states] == best, edges[1:], edges[:-1])
    alpha = middle(low, high, at_tie=high)

    deciding = second >= alpha
    line, start = np.unique(gap[deciding], return_inverse=True)
    prefix = from_zero(np.bincount(start, weights=equal_gain[deciding], minlength=len(line)).astype(np.int64))
    lowest = 0.0 if not len(line) or line[0] > 0 else -1.0
    beta_edges = np.concatenate([[lowest], line, [1.0 if not len(line) or line[-1] < 1 else 2.0]])
    beta_low, beta_high = widest(prefix == prefix.max(), beta_edges[:-1], beta_edges[1:])
    thresholds = Thresholds(float(alpha), float(middle(beta_low, beta_high, at_tie=beta_low)))
    return Plateau(
        thresholds,
        (float(low), float(high)),
        (float(beta_low), float(beta_high)),
        float(best / (2 * n * n_blends if n_blends else n)),
    )


def widest(optimal: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
    """The widest run of neighbouring optimal intervals; of equally wide ones the first."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], optimal.astype(np.int8), [0]])))
    runs = [(min(lows[a], lows[b - 1]), max(highs[a], highs[b - 1])) for a, b in zip(edges[::2], edges[1::2])]
    return max(runs, key=lambda run: run[1] - run[0])


def middle(low: float, high: float, at_tie: float) -> float:
    """The middle, or the end that belongs to the interval where no number lies between its ends."""
    between = (low + high) / 2
    return between if low < between < high else at_tie


def _best_prefixes(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The largest sum over any prefix of the line of places, after each of k = 0 … N insertions of weights: (N + 1,).

    Equal places enter a prefix together; the empty prefix has the sum 0. A tree over the distinct
    places, a level at a time from its leaves: of each node the sum and the best prefix after each
    insertion into it, which follow from those of its two children at the same moment.
    """
    if not len(places):
        return np.zeros(1, dtype=np.int64)
    line, leaf = np.unique(places, return_inverse=True)
    depth = max(int(len(line) - 1).bit_length(), 0)
    # At each level, insertions stand by node, in a node by time; splitting them stably gives the level below.
    orders = [np.arange(len(leaf))]
    for level in reversed(range(depth)):
        order = orders[-1]
        orders.append(order[np.argsort(leaf[order] >> level, kind="stable")])
    order = orders.pop()
    node = leaf[order]
    first = np.concatenate([[True], node[1:] != node[:-1]])
    total = _cumulative(weights[order], first)
    best = np.maximum(total, 0)
    for level in range(1, depth + 1):
        # What each child has come to by its latest insertion, at each insertion into the parent.
        place = np.empty(len(leaf), dtype=np.int64)
        place[order] = np.arange(len(leaf))
        order = orders.pop()
        below = place[order]
        is_right = (leaf[order] >> (level - 1)) & 1 == 1
        node = leaf[order] >> level
        first = np.concatenate([[True], node[1:] != node[:-1]])
        left = _latest(below, ~is_right, first)
        right = _latest(below, is_right, first)
        left_total, left_best = (np.where(left >= 0, values[left], 0) for values in (total, best))
        right_total, right_best = (np.where(right >= 0, values[right], 0) for values in (total, best))
        total, best = left_total + right_total, np.maximum(left_best, left_total + right_best)
    return np.concatenate([[0], best])


def _cumulative(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Running sums that start anew wherever `first` is true."""
    sums = np.cumsum(values)
    before = np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))
    return sums - (sums - values)[before]


def _latest(values: np.ndarray, mine: np.ndarray, first: np.ndarray) -> np.ndarray:
    """At each position the last of `values` that is `mine`, since `first` was true last; −1 if there is none."""
    positions = np.arange(len(values))
    latest = np.maximum.accumulate(np.where(mine, positions, -1))
    start = np.maximum.accumulate(np.where(first, positions, 0))
    return np.where(latest >= start, values[latest], -1)
