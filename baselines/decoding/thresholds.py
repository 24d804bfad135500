"""The threshold rule of the paper (Lachmann et al. 2026), and the best thresholds: on its grid, or overall.

The two largest probabilities are kept. If both are at least α and neither is neutral, the prediction is a blend: 50/50
if they differ by at most β, otherwise 70/30 toward the larger. In all other cases the prediction is the larger one
alone. If probabilities are equal, the lower index counts as larger, so neutral never wins a tie.

Arrays are (N, 6) with emotions in index order, `labels` are (N,) indices into `blemore.labels.LABELS`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blemore.labels import EMOTIONS, PAIRS
from blemore_baselines.dataset import IS_BLEND, N_RELATIONS, SET_OF_LABEL
from blemore_baselines.decoding.arrays import demand_labels, demand_rows
from blemore_baselines.decoding.prefixes import best_prefixes

GRID = np.linspace(0.05, 0.95, 20)  # the published grid, for α and for β

_FIRST_DOMINANT, _EQUAL, _SECOND_DOMINANT = range(N_RELATIONS)  # their order in LABELS
# The first label of a pair, by the indices of its emotions in either order; -1 if they form no blend.
_PAIR_START = np.full((len(EMOTIONS), len(EMOTIONS)), -1)
for _k, (_a, _b) in enumerate(PAIRS):
    _i, _j = EMOTIONS.index(_a), EMOTIONS.index(_b)
    _PAIR_START[_i, _j] = _PAIR_START[_j, _i] = len(EMOTIONS) + N_RELATIONS * _k


class Thresholds(NamedTuple):
    alpha: float
    beta: float


class _TopTwo(NamedTuple):
    """The threshold rule's input per clip: the candidate single emotion, the candidate pair, and two probabilities."""

    single: np.ndarray  # label of the larger one alone
    pair: np.ndarray  # first of the pair's three labels; -1 with neutral
    dominance: np.ndarray  # label offset of "the larger one dominates"
    second: np.ndarray  # the smaller probability; compared with α
    gap: np.ndarray  # the difference to the larger; compared with β


def _top_two(probabilities: np.ndarray) -> _TopTwo:
    order = np.argsort(-probabilities, axis=1, kind="stable")  # stable: the lower index first if equal
    first, second = order[:, 0], order[:, 1]
    rows = np.arange(len(probabilities))
    p1, p2 = probabilities[rows, first], probabilities[rows, second]
    dominance = np.where(first < second, _FIRST_DOMINANT, _SECOND_DOMINANT)
    return _TopTwo(first, _PAIR_START[first, second], dominance, p2, np.abs(p1 - p2))


def decode_thresholds(probabilities: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """The label (N,) of each row of probabilities (N, 6), by the threshold rule.

    Raises ValidationError: wrong shape, or numbers that are not finite.
    """
    top = _top_two(demand_rows(probabilities, len(EMOTIONS), "probabilities"))
    relation = np.where(top.gap <= thresholds.beta, _EQUAL, top.dominance)
    return np.where((top.second >= thresholds.alpha) & (top.pair >= 0), top.pair + relation, top.single)


class Surface(NamedTuple):
    """The figures at each α (A,) and β (B,), in [0, 1]; equal figures are equal to the last bit.

    Without true blends, salience is nan and the score equals presence.
    """

    presence: np.ndarray  # (A,): does not depend on β
    salience: np.ndarray  # (A, B)
    score: np.ndarray  # (A, B)


def surface(probabilities: np.ndarray, labels: np.ndarray, alphas: np.ndarray, betas: np.ndarray) -> Surface:
    """The figures of every α (A,) combined with every β (B,)."""
    top = _top_two(probabilities)
    is_blend = IS_BLEND[labels]
    pair_right = is_blend & (SET_OF_LABEL[top.pair] == SET_OF_LABEL[labels]) & (top.pair >= 0)
    predicts_blend = (top.second >= alphas[:, None]) & (top.pair >= 0)  # (A, N)
    presence = np.where(predicts_blend, pair_right, top.single == labels).sum(axis=1)
    # The relation only matters for clips whose pair is right. Counts stay exact in float64, which has the fast matrix
    # product.
    relation = np.where(top.gap[pair_right] <= betas[:, None], _EQUAL, top.dominance[pair_right])
    relation_right = top.pair[pair_right] + relation == labels[pair_right]  # (B, right pairs)
    salience = predicts_blend[:, pair_right].astype(float) @ relation_right.T.astype(float)
    n, n_blends = len(labels), int(is_blend.sum())
    per_set, per_blend, whole = _parts("score", n, n_blends)
    return Surface(
        presence / n,
        salience / n_blends if n_blends else np.full_like(salience, np.nan),
        (per_set * presence[:, None] + per_blend * salience) / whole,
    )


def _parts(metric: str, n: int, n_blends: int) -> tuple[int, int, int]:
    """What a right set and a right blend add to a figure, and the value that stands for 1, all as integers.

    With a common denominator, equal figures compare equal; sums of two quotients may differ in the last bit.
    """
    if metric == "score" and n_blends:
        return n_blends, n, 2 * n * n_blends
    return {"presence": (1, 0, n), "salience": (0, 1, n_blends), "score": (1, 0, n)}[metric]


def fit_grid(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Thresholds, float]:
    """The thresholds of the published 20×20 grid with the best score, and that score.

    If points are equally good, the first wins: α ascending, then β ascending. Without true blends, the score equals
    presence.

    Raises ValidationError: wrong shape, numbers that are not finite, invalid labels, or no clips.
    """
    probabilities = demand_rows(probabilities, len(EMOTIONS), "probabilities")
    labels = demand_labels(labels, len(probabilities))
    score = surface(probabilities, labels, GRID, GRID).score
    a, b = divmod(int(np.argmax(score)), len(GRID))  # row-major: the first if equal
    return Thresholds(float(GRID[a]), float(GRID[b])), float(score[a, b])


# ---------------------------------------------------------------------- the exact optimum


class Plateau(NamedTuple):
    """An exact optimum of the threshold rule: a stable point in its middle, and its extent.

    thresholds: α in the middle of `alpha`, β in the middle of `beta`
    alpha:      the widest interval (low, high] of optimal α
    beta:       the widest interval [low, high) of optimal β at that α
    score:      the figure at all of these points
    """

    thresholds: Thresholds
    alpha: tuple[float, float]
    beta: tuple[float, float]
    score: float


def fit_exact(
    probabilities: np.ndarray,
    labels: np.ndarray,
    metric: str = "score",
    bounds: tuple[float, float] | None = None,
) -> Plateau:
    """The best thresholds overall: tries every α and β at which a decision changes, in O(N log N).

    metric: the figure to maximise: presence, salience or score
    bounds: for α and β, ends included. None: α in [0, 1], and β in [0, 1] too, or beyond if clips have a gap of 0 or 1,
            whose decisions change only there

    Among equally wide intervals, the one with the highest α and the lowest β wins. If β does not affect the metric, its
    interval is the whole range. Without true blends, the score equals presence, and salience is nan.

    As α is lowered, clips switch to their pair one after the other, in the order of their second probability. Each then
    adds its gap to a line of gaps, with a weight: +1 if 50/50 is right, −1 if the dominance is right. The best β for an
    α is the best prefix of that line (prefixes.py).

    Raises ValidationError: see `fit_grid`.
    """
    probabilities = demand_rows(probabilities, len(EMOTIONS), "probabilities")
    labels = demand_labels(labels, len(probabilities))
    singles_right, clips = _by_second(probabilities, labels)
    per_set, per_blend, whole = _parts(metric, len(labels), int(IS_BLEND[labels].sum()))

    low, high = bounds or (-1.0, 2.0)  # for β; every gap is between them
    below, within = clips.gap <= low, (clips.gap > low) & (clips.gap <= high)
    presence = singles_right + _sums(clips.set_gain)
    salience = _sums(clips.dominance_right + clips.equal_gain * below)
    salience += best_prefixes(clips.gap, clips.equal_gain * within)
    points = per_set * presence + per_blend * salience  # (K + 1,): if the first k clips predict their pair
    # Decisions are the same for all α in (next edge, edge]; clips with equal probabilities switch together.
    edges = _edges(clips.second, *(bounds or (0.0, 1.0)))[::-1]
    figures = points[np.searchsorted(-clips.second, -edges, side="right")]
    best = figures.max()
    alpha_range = widest(figures == best, np.append(edges[1:], edges[-1]), edges)
    alpha = middle(*alpha_range, at_tie=alpha_range[1])

    beta_range = _best_betas(clips, clips.second >= alpha, per_blend, bounds)
    beta = middle(*beta_range, at_tie=beta_range[0])
    return Plateau(Thresholds(alpha, beta), alpha_range, beta_range, float(best / whole) if whole else np.nan)


class _Clips(NamedTuple):
    """The K clips whose decision depends on α, in the order in which they switch to their pair as α is lowered."""

    second: np.ndarray  # compared with α; descending
    gap: np.ndarray  # compared with β
    set_gain: np.ndarray  # −1, 0 or 1: right sets gained by predicting the pair instead of the single emotion
    dominance_right: np.ndarray  # 1 if the blend is right with the larger emotion dominating
    equal_gain: np.ndarray  # −1, 0 or 1: right blends gained by 50/50 instead of 70/30


def _by_second(probabilities: np.ndarray, labels: np.ndarray) -> tuple[int, _Clips]:
    """How many clips are right as single emotions, and the clips that can predict a pair."""
    top = _top_two(probabilities)
    single_right = top.single == labels
    order = np.flatnonzero(top.pair >= 0)
    order = order[np.argsort(-top.second[order], kind="stable")]
    pair, label = top.pair[order], labels[order]
    pair_right = IS_BLEND[label] & (SET_OF_LABEL[pair] == SET_OF_LABEL[label])
    dominance_right, equal_right = (
        (pair_right & (pair + relation == label)).astype(np.int64) for relation in (top.dominance[order], _EQUAL)
    )
    return int(single_right.sum()), _Clips(
        top.second[order],
        top.gap[order],
        pair_right.astype(np.int64) - single_right[order],
        dominance_right,
        equal_right - dominance_right,
    )


def _best_betas(
    clips: _Clips, deciding: np.ndarray, per_blend: int, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """The widest interval of optimal β if the `deciding` clips predict their pair."""
    order = np.argsort(clips.gap[deciding], kind="stable")
    gap, gains = clips.gap[deciding][order], clips.equal_gain[deciding][order]
    low, high = bounds or (-1.0 if (gap <= 0).any() else 0.0, 2.0 if (gap >= 1).any() else 1.0)
    edges = _edges(gap, low, high)  # decisions are the same for all β in [edge, next edge)
    figures = per_blend * _sums(gains)[np.searchsorted(gap, edges, side="right")]
    return widest(figures == figures.max(), edges, np.append(edges[1:], edges[-1]))


def _sums(values: np.ndarray) -> np.ndarray:
    """The sums of the first k values, for k = 0 … K."""
    return np.concatenate([[0], np.cumsum(values)])


def _edges(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Both ends and the distinct values between them, ascending."""
    return np.unique(np.concatenate([[low, high], values[(values > low) & (values < high)]]))


def widest(optimal: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
    """The widest run of adjacent optimal intervals; the first if several are equally wide."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], optimal.astype(np.int8), [0]])))
    runs = [
        (float(min(lows[a], lows[b - 1])), float(max(highs[a], highs[b - 1]))) for a, b in zip(steps[::2], steps[1::2])
    ]
    return max(runs, key=lambda run: run[1] - run[0])


def middle(low: float, high: float, at_tie: float) -> float:
    """The middle of the interval; `at_tie`, the end that belongs to it, if no number lies between the ends."""
    between = (low + high) / 2
    return between if low < between < high else at_tie
