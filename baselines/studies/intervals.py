"""Figures with intervals over actors. Every clip has a record, and each figure is a function of summed records.

Inference is as in `blemore.significance`, but records may be any numbers, not only counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from blemore.report import equals_p
from blemore.significance import Estimate, infer
from blemore.tables import Cell
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL
from blemore_baselines.studies.study import signed

if TYPE_CHECKING:
    from blemore_baselines.results.plots import Axes

FIGURES = {  # of summed `outcomes`; nan without blends
    "presence": lambda sums: sums[..., 1] / sums[..., 0],
    "salience": lambda sums: sums[..., 3] / sums[..., 2],
    "score": lambda sums: (sums[..., 1] / sums[..., 0] + sums[..., 3] / sums[..., 2]) / 2,
}
CLIPS, BLENDS = 0, 2  # columns of `outcomes`
SHARES = {"presence": CLIPS, "salience": BLENDS, "score": CLIPS}  # actors without any are left out of the figure
COLUMNS = tuple(column for name in FIGURES for column in (name, "low", "high"))  # of `cells`


def outcomes(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N, 4): each clip's record of 1, right set, true blend and right blend, as in `blemore.metrics.Counts`."""
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
    share: int = CLIPS,
) -> Estimate:
    """An estimate over actors (N,) of a figure of summed records (N, k).

    figure: sums (…, k) → (…), in the range `within`
    share:  a column of the records; actors whose sum in it is 0 are left out
    """
    _, owner = np.unique(actors, return_inverse=True)
    by_actor = np.zeros((int(owner.max()) + 1, records.shape[1]))
    np.add.at(by_actor, owner, records)
    whole = by_actor.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a figure can be undefined if an actor is left out
        left_out = figure(whole - by_actor[by_actor[:, share] != 0])
        return infer(float(figure(whole)), left_out.tolist(), within)


def estimate_figure(records: np.ndarray, actors: Sequence[str], name: str) -> Estimate:
    """The estimate of one of FIGURES from `outcomes` (N, 4)."""
    return estimate(records, actors, FIGURES[name], share=SHARES[name])


def estimate_figures(records: np.ndarray, actors: Sequence[str]) -> dict[str, Estimate]:
    """The estimates of all FIGURES from `outcomes` (N, 4), by name."""
    return {name: estimate_figure(records, actors, name) for name in FIGURES}


def cells(by_figure: Mapping[str, Estimate]) -> list[Cell]:
    """A table's cells for COLUMNS: each figure with the bounds of its interval."""
    return [cell for name in FIGURES for cell in by_figure[name][:3]]


def compare(records: np.ndarray, baseline: np.ndarray, actors: Sequence[str], name: str = "score") -> Estimate:
    """The difference of one of FIGURES to a baseline's; both are `outcomes` (N, 4) of the same clips."""
    figure, pairs = FIGURES[name], np.hstack([records, baseline])
    return estimate(pairs, actors, lambda sums: figure(sums[..., :4]) - figure(sums[..., 4:]), (-1, 1), SHARES[name])


def in_words(estimate: Estimate) -> str:
    """`+0.012 (95 % interval −0.020 to +0.044, p = 0.410), within chance`."""
    if estimate.low is None or estimate.high is None:
        return f"{signed(estimate.value)} (no interval: {estimate.reason})"
    verdict = "more than chance explains" if estimate.beyond else "within chance"
    interval = f"95 % interval {signed(estimate.low)} to {signed(estimate.high)}, {equals_p(estimate.p)}"
    return f"{signed(estimate.value)} ({interval}), {verdict}"


def reach(estimates: Sequence[Estimate]) -> list[list[float]]:
    """The lengths of intervals below and above the values, as for matplotlib's error bars."""
    return [
        [0 if interval.low is None else interval.value - interval.low for interval in estimates],
        [0 if interval.high is None else interval.high - interval.value for interval in estimates],
    ]


def draw(
    axis: Axes,
    names: Sequence[str],
    estimates: Sequence[Estimate],
    colour: str,
    label: str | None = None,
    shift: float = 0.0,
) -> None:
    """Draws estimates with their intervals, one below the other, with a line at zero."""
    places = np.arange(len(names)) + shift
    values = np.array([estimate.value for estimate in estimates])
    axis.errorbar(values, places, xerr=reach(estimates), fmt="o", color=colour, capsize=3, markersize=5, label=label)
    axis.axvline(0, color="0.6", linewidth=1, zorder=0)
    axis.set_yticks(np.arange(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
