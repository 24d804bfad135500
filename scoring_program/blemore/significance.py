"""How far a score, or a difference of two scores, can be trusted: the inference of the whole kit.

The clips of one actor resemble each other, so the actor is the unit of inference. Each actor in turn is left out and
the figure is computed from the pooled counts of the others. The spread of these values gives the jackknife's standard
error s of the figure (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 11.2). With A actors:

    interval = figure ± t(A − 1) · s        p = P(|T(A − 1)| > |difference| / s)

Both come from Student's t with A − 1 degrees of freedom and the same s, so p is below 0.05 exactly if the 95 %
interval of a difference excludes zero. An interval is cut to the range of the figure. benchmarks/README.md has the
simulated coverage and type I error.

- Two submissions are compared on the same labels: s belongs to their difference, not to either score.
- Actors without blends do not count toward acc_salience: A is then the number of actors with blends.
- Nothing can be inferred if s is 0 (all actors alike, or two submissions that differ nowhere), if there is only one
  actor, or if one actor has all the blends. Then there is no interval and no p, and the estimate says why.
- If the actors are not known, each clip counts as an actor, which makes intervals too narrow.
- Several comparisons of one figure are one family: their p-values are also given corrected by Holm (1979, A simple
  sequentially rejective multiple test procedure). Intervals are never corrected.
- The sign-flip test (Fisher's randomisation test) checks p and assumes nothing about distributions. If neither
  submission were better, the two could be exchanged for any of the actors. It is never corrected.

Needs only the standard library. The same input gives the same result on every machine.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from operator import getitem
from typing import NamedTuple

from blemore.evaluate import Report
from blemore.labels import parse_filename
from blemore.metrics import Counts, outcome, total
from blemore.signature import digest_predictions

FIGURES = ("acc_presence", "acc_salience", "score")
METHOD = "jackknife-t"
LEVEL = 0.95
FEW_UNITS = 6  # the fewest actors in the simulations
EXACT_UNITS = 12  # if more actors than this differ, FLIPS sign flips are drawn; otherwise all are counted
FLIPS = 1999
SEED = 0
ROUNDING = 1e-12  # smaller differences come from the order of summation


class Interval(NamedTuple):
    """Bounds of a figure, within its range."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A figure and what can be inferred about it.

    low, high: the interval at LEVEL; None if there is a `reason`
    p:         of the hypothesis that the figure is zero, in (0, 1]; None if there is a `reason`
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    reason: str | None = None

    @property
    def interval(self) -> Interval | None:
        return None if self.low is None or self.high is None else Interval(self.low, self.high)

    @property
    def beyond(self) -> int:
        """1 or −1 if the interval is above or below zero; 0 if it is within chance."""
        return int(self.low is not None and self.low > 0) - int(self.high is not None and self.high < 0)


class Intervals(NamedTuple):
    """Estimates by figure, and what they are based on. Undefined figures are left out."""

    estimates: dict[str, Estimate]
    unit: str  # "actor", or "clip" if the actors are not known
    units: int
    without_blends: int  # of the units

    @property
    def intervals(self) -> dict[str, Interval]:
        """Intervals by figure; figures without one are left out."""
        return {figure: estimate.interval for figure, estimate in self.estimates.items() if estimate.interval}

    @property
    def note(self) -> str | None:
        """What a reader must know about these intervals, None if nothing."""
        return _note(self.unit, self.units, self.without_blends)


class SignFlip(NamedTuple):
    """The sign-flip test: p in (0, 1], and the number of flips; `seed` is None if all flips were counted."""

    p: float
    flips: int
    seed: int | None


class Difference(NamedTuple):
    """First minus second submission.

    p_holm:    the estimate's p, corrected for all comparisons in its family (see `corrected`)
    sign_flip: None if no actor differs
    """

    estimate: Estimate
    p_holm: float | None
    sign_flip: SignFlip | None


class Comparison(NamedTuple):
    """Differences by figure, and what they are based on.

    against: the hash of the second submission's predictions, as in its own signature
    """

    differences: dict[str, Difference]
    unit: str
    units: int
    without_blends: int
    against: str = ""

    @property
    def note(self) -> str | None:
        """What a reader must know about these differences, None if nothing."""
        return _note(self.unit, self.units, self.without_blends)


class Pooled(NamedTuple):
    """A figure over all units, and with each unit that counts toward it left out in turn (None if undefined)."""

    value: float
    left_out: Sequence[float | None]


class Records(NamedTuple):
    """One submission's summed records by unit, in the order of the units' names, and their figures."""

    unit: str
    by_unit: dict[str, Counts]
    figures: dict[str, Pooled]

    @property
    def without_blends(self) -> int:
        return sum(not counts.n_blends for counts in self.by_unit.values())


# ------------------------------------------------------------------------------------ submissions


def records(report: Report) -> Records:
    """What the inference needs from a report, collected once for any number of comparisons."""
    unit, group = actors(report)
    gathered: dict[str, list[Counts]] = {}
    for clip, truth in report.labels.items():
        gathered.setdefault(group[clip], []).append(outcome(report.predictions[clip], truth))
    by_unit = {name: total(gathered[name]) for name in sorted(gathered)}
    pooled = total(by_unit.values())
    rests = {name: Counts(*(whole - part for whole, part in zip(pooled, by_unit[name]))) for name in by_unit}
    figures = {}
    for figure in FIGURES:
        value = getattr(pooled, figure)
        if value is not None:
            members = [name for name in by_unit if by_unit[name].n_blends or figure != "acc_salience"]
            figures[figure] = Pooled(value, [getattr(rests[name], figure) for name in members])
    return Records(unit, by_unit, figures)


def actors(report: Report) -> tuple[str, Mapping[str, str]]:
    """Each clip's actor: from the reference's groups, else from train-style ids; otherwise each clip is a unit."""
    if all(clip in report.groups for clip in report.labels):
        return "actor", report.groups
    try:
        return "actor", {clip: parse_filename(clip).actor for clip in report.labels}
    except ValueError:
        return "clip", {clip: clip for clip in report.labels}


def intervals(report: Report) -> Intervals:
    """The 95 % intervals of the pooled figures."""
    return intervals_of(records(report))


def intervals_of(records: Records) -> Intervals:
    """The same, from records."""
    estimates = {figure: infer(pooled.value, pooled.left_out, (0, 1)) for figure, pooled in records.figures.items()}
    return Intervals(estimates, records.unit, len(records.by_unit), records.without_blends)


def compare(first: Report, second: Report) -> Comparison:
    """Two submissions on the same labels, paired over actors; a family of one comparison for each figure.

    Raises ValueError: the two were not scored on the same labels.
    """
    if first.labels != second.labels:
        raise ValueError("the two submissions were scored on different labels")
    return contrast(records(first), records(second))._replace(against=digest_predictions(second.predictions))


def contrast(first: Records, second: Records) -> Comparison:
    """The comparison of two submissions from their records on the same labels."""
    pairs = [(first.by_unit[name], second.by_unit[name]) for name in first.by_unit]
    flips = _sign_flips(pairs)
    differences = {}
    for figure, minuend in first.figures.items():
        subtrahend = second.figures[figure]
        left_out = [None if a is None or b is None else a - b for a, b in zip(minuend.left_out, subtrahend.left_out)]
        estimate = infer(minuend.value - subtrahend.value, left_out, (-1, 1))
        differences[figure] = Difference(estimate, estimate.p, flips[figure])
    return Comparison(differences, first.unit, len(first.by_unit), first.without_blends)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with `p_holm`, for which all comparisons of one figure are a family."""
    differences = [dict(comparison.differences) for comparison in comparisons]
    for figure in {figure for by_figure in differences for figure in by_figure}:
        adjusted = holm([by_figure[figure].estimate.p for by_figure in differences])
        for by_figure, p in zip(differences, adjusted):
            by_figure[figure] = by_figure[figure]._replace(p_holm=p)
    return [comparison._replace(differences=by_figure) for comparison, by_figure in zip(comparisons, differences)]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the same order; None means no test and does not count.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - place)))
        adjusted[index] = highest
    return adjusted


def _note(unit: str, units: int, without_blends: int) -> str | None:
    parts = []
    if unit == "clip":
        parts.append("the actors are not known, so each clip counts as one: the true intervals are wider")
    elif 1 < units < FEW_UNITS:
        parts.append(f"with so few actors ({units}), intervals and p-values are rough")
    if without_blends and unit == "actor":
        parts.append(f"{without_blends} of them have no blends and do not count toward ACC_salience")
    return "; ".join(parts) or None


# ---------------------------------------------------------------------------------- the inference


def infer(value: float, left_out: Sequence[float | None], within: tuple[float, float]) -> Estimate:
    """The jackknife interval of a figure, and the p-value of the hypothesis that the figure is zero.

    value:    the figure of all units
    left_out: the figure with each unit left out, None (or NaN) if it is then undefined
    within:   the figure's range
    """
    units = len(left_out)
    values = [replicate for replicate in left_out if replicate is not None and math.isfinite(replicate)]
    if units < 2:
        return Estimate(value, reason="a single actor")
    if len(values) < units:
        return Estimate(value, reason="undefined without one of the actors")
    mean = math.fsum(values) / units
    deviation = math.sqrt((units - 1) / units * math.fsum((replicate - mean) ** 2 for replicate in values))
    value = 0.0 if abs(value) < ROUNDING else value
    if deviation < ROUNDING:
        return Estimate(value, reason="no difference" if value == 0 else "the same for every actor")
    reach = t_quantile((1 + LEVEL) / 2, units - 1) * deviation
    p = t_tails(abs(value) / deviation, units - 1)
    low, high = map(float, within)
    return Estimate(value, max(low, value - reach), min(high, value + reach), p)


def _sign_flips(pairs: Sequence[tuple[Counts, Counts]]) -> dict[str, SignFlip | None]:
    """By figure. On the same labels, a difference of figures is a sum over actors, here in whole numbers."""
    n, n_blends = sum(a.n for a, _ in pairs), sum(a.n_blends for a, _ in pairs)
    presence = [a.presence - b.presence for a, b in pairs]
    salience = [a.salience - b.salience for a, b in pairs]
    score = [n_blends * a + n * b for a, b in zip(presence, salience)]
    return {figure: sign_flip(parts) for figure, parts in zip(FIGURES, (presence, salience, score))}


def sign_flip(parts: Sequence[int]) -> SignFlip | None:
    """The two-sided sign-flip test of a sum of parts, one for each actor; None if all parts are 0.

    p is the share of sign flips whose sum is at least as far from 0. Up to EXACT_UNITS parts other than 0,
    all 2^A flips are counted. Beyond that, FLIPS are drawn and p = (c + 1) / (FLIPS + 1), which counts the observed one
    (Phipson and Smyth 2010, Permutation p-values should never be zero).

    >>> sign_flip([1, 1, 1, 0])
    SignFlip(p=0.25, flips=8, seed=None)
    """
    sizes = [abs(part) for part in parts if part]
    observed = abs(sum(parts))
    if not sizes:
        return None
    if len(sizes) > EXACT_UNITS:
        sums = _drawn_sums(sizes)
        return SignFlip((sum(abs(subtotal) >= observed for subtotal in sums) + 1) / (FLIPS + 1), FLIPS, SEED)
    half = sizes[:1]  # the first sign stays: the other half are these sums, negated
    for size in sizes[1:]:
        half = [subtotal + size for subtotal in half] + [subtotal - size for subtotal in half]
    return SignFlip(sum(abs(subtotal) >= observed for subtotal in half) / len(half), 2 * len(half), None)


def _drawn_sums(sizes: Sequence[int]) -> list[int]:
    """Sums with drawn signs. The sums of each eight parts are tabulated: a flip is then one look-up per byte."""
    tables = []
    for start in range(0, len(sizes), 8):
        sums = [0]
        for size in sizes[start : start + 8]:  # the first part is at the lowest bit
            sums = [subtotal - size for subtotal in sums] + [subtotal + size for subtotal in sums]
        tables.append(sums * (256 // len(sums)))  # coins without a part have no effect
    return [sum(map(getitem, tables, coins)) for coins in _coins(len(tables))]


@lru_cache(maxsize=8)
def _coins(size: int) -> list[bytes]:
    """FLIPS draws of `size` bytes, in which each bit is a coin."""
    draw = random.Random(SEED).getrandbits
    return [draw(8 * size).to_bytes(size, "little") for _ in range(FLIPS)]


# -------------------------------------------------------------------------------- Student's t


@cache
def t_quantile(p: float, df: int) -> float:
    """Quantile of Student's t for p in (0.5, 1) and df degrees of freedom, to 1e-10, by bisection.

    >>> round(t_quantile(0.975, 10), 6)
    2.228139
    """
    low, high = 0.0, 1.0
    while t_tails(high, df) > 2 * (1 - p):
        high *= 2
    while high - low > 1e-11 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, df) > 2 * (1 - p) else (low, middle)
    return high


def t_tails(t: float, df: int) -> float:
    """P(|T| > t) in (0, 1], t ≥ 0, for Student's t; accurate in the tails, too (DLMF 8.17, incomplete beta function).

    >>> round(t_tails(2.228139, 10), 6)
    0.05
    """
    square = t * t
    if square < 1:  # take the side where the continued fraction converges fast
        return 1 - _incomplete_beta(square / (df + square), 0.5, df / 2) if square else 1.0
    return max(_incomplete_beta(df / (df + square), df / 2, 0.5), sys.float_info.min)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function for x < (a + 1) / (a + b + 2), by Lentz's method (DLMF 8.17.22)."""
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + step / c, 1 / (1 + step * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(logarithm) * fraction / a
