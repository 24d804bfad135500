"""Figures with intervals over actors: each figure is a function of summed records, of which every clip has one.

As in `blemore.significance`: actors are drawn with replacement, and an interval is `figure ± t · s`, cut to the
figure's range. p is by the same s and t, so that it is below 0.05 exactly where the interval excludes zero. Records
here are numbers of any kind, not counts alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blemore.significance import LEVEL, RESAMPLES, t_central, t_quantile
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL
from blemore_baselines.studies.study import signed

if TYPE_CHECKING:
    from blemore_baselines.results.plots import Axes

FIGURES = {  # of summed `outcomes`; nan without blends
    "presence": lambda sums: sums[..., 1] / sums[..., 0],
    "salience": lambda sums: sums[..., 3] / sums[..., 2],
    "score": lambda sums: (sums[..., 1] / sums[..., 0] + sums[..., 3] / sums[..., 2]) / 2,
}


class Estimate(NamedTuple):
    """A figure, its 95 % interval (None with a single actor), and the p-value that it is zero."""

    value: float
    low: float | None
    high: float | None
    p: float

    @property
    def beyond(self) -> int:
        """1 or −1 where the interval lies above or below zero, else 0: within chance."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)


def outcomes(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, 4): each clip's record 1, right set, true blend, right blend, as in `blemore.metrics.Counts`."""
    blend = IS_BLEND[labels]
    return np.stack(
        [np.ones(len(labels)), SET_OF_LABEL[predicted] == SET_OF_LABEL[labels], blend, blend & (predicted == labels)],
        axis=1,
    )


def estimate(
    records: np.ndarray,
    actors: Sequence[str],
    figure: Callable[[np.ndarray], np.ndarray],
    within: tuple[float, float] = (0, 1),
    seed: int = 0,
) -> Estimate:
    """A figure of the sum of records (N, k), over resampled actors (N,).

    figure: sums (…, k) → (…), its range `within`.
    """
    _, owner = np.unique(actors, return_inverse=True)
    units = int(owner.max()) + 1
    by_actor = np.zeros((units, records.shape[1]))
    np.add.at(by_actor, owner, records)
    draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a blend has no figure
        sums = np.vstack([by_actor.sum(axis=0), draws @ by_actor])
        value, *others = np.round(figure(sums), 12).tolist()  # equal sums, added up in another order, are no difference
    resampled = np.array(others)[np.isfinite(others)]
    if units < 2 or len(resampled) < 2:
        return Estimate(value, None, None, 1.0)
    deviation = float(resampled.std(ddof=1)) * math.sqrt(units / (units - 1))
    reach = t_quantile((1 + LEVEL) / 2, units - 1) * deviation
    p = 1 - t_central(abs(value) / deviation, units - 1) if deviation else float(value == 0)
    return Estimate(value, max(within[0], value - reach), min(within[1], value + reach), max(p, 0.0))


def compare(records: np.ndarray, baseline: np.ndarray, actors: Sequence[str], figure: str = "score") -> Estimate:
    """By how much a figure of FIGURES is above a baseline's; both are `outcomes` (N, 4) of the same clips."""
    of = FIGURES[figure]
    return estimate(np.hstack([records, baseline]), actors, lambda sums: of(sums[..., :4]) - of(sums[..., 4:]), (-1, 1))


def in_words(estimate: Estimate) -> str:
    """`+0.012 (95 % interval −0.020 to +0.044, p = 0.410), within chance`."""
    if estimate.low is None or estimate.high is None:
        return f"{signed(estimate.value)} (a single actor: no interval)"
    verdict = "more than chance explains" if estimate.beyond else "within chance"
    p = f"p = {estimate.p:.3f}" if estimate.p >= 0.001 else "p < 0.001"
    return f"{signed(estimate.value)} (95 % interval {signed(estimate.low)} to {signed(estimate.high)}, {p}), {verdict}"


def reach(estimates: Sequence[Estimate]) -> list[list[float]]:
    """How far intervals reach below and above, as matplotlib's error bars take them."""
    return [
        [0 if one.low is None else one.value - one.low for one in estimates],
        [0 if one.high is None else one.high - one.value for one in estimates],
    ]


def draw(
    axis: Axes,
    names: Sequence[str],
    estimates: Sequence[Estimate],
    colour: str,
    label: str | None = None,
    shift: float = 0.0,
) -> None:
    """Estimates with their intervals, one below the other, beside a line at zero."""
    places = np.arange(len(names)) + shift
    values = np.array([estimate.value for estimate in estimates])
    axis.errorbar(values, places, xerr=reach(estimates), fmt="o", color=colour, capsize=3, markersize=5, label=label)
    axis.axvline(0, color="0.6", linewidth=1, zorder=0)
    axis.set_yticks(np.arange(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
