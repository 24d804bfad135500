"""Do thresholds travel? Where α and β are best, and what is lost where they were chosen on other clips.

Each fold in turn is a pseudo-test. It is decoded with thresholds that the other folds chose, and the *drop*
from what those folds report, each at its own best thresholds as in the paper's validation table, is split:

    drop      validation − transferred  = mismatch + rest
    mismatch  own best − transferred    the same clips, other thresholds
    rest      validation − own best     other clips, each with its own best: how much harder this fold is

In the mean over folds the rest is nothing by construction, and the mismatch is the drop. But the best of many
thresholds is too good on the clips it is chosen on, whatever they are: where clips are dealt at random to folds
of the same sizes, no shift of thresholds is possible, and what is lost still is that optimism. Only what the
real folds lose beyond it speaks of thresholds that differ between people, or between the folds' models.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

import numpy as np
from tqdm import tqdm

from blemore_baselines import plots
from blemore_baselines.analyse.actors import FIGURES, Estimate, compare, outcomes
from blemore_baselines.analyse.actors import draw as draw_estimates
from blemore_baselines.analyse.optima import RANGES, draw, optima
from blemore_baselines.analyse.study import Study, check_folds, signed
from blemore_baselines.dataset import Dataset
from blemore_baselines.published import read_published
from blemore_baselines.tables import Table
from blemore_baselines.thresholds import Thresholds, decode_thresholds, fit_exact, fit_grid

DEALS = 200
WAYS = {  # how the thresholds of a pseudo-test were chosen
    "grid": "the published grid, on all other folds together",
    "exact": "the exact optimum, on all other folds together",
    "best fold": "the published grid, on the best of the other folds alone, as for the paper's test",
}


class Transfer(NamedTuple):
    """Each clip's outcome (N, 4), and fold → thresholds: at the fold's own best ones, and at the transferred ones."""

    own: np.ndarray
    transferred: np.ndarray
    own_thresholds: Mapping[int, Thresholds]
    thresholds: Mapping[int, Thresholds]

    def losses(self) -> dict[str, float]:
        """The mismatch of all clips together, by figure."""
        return {name: float(of(self.own.sum(axis=0)) - of(self.transferred.sum(axis=0))) for name, of in FIGURES.items()}


def transfer(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> dict[str, Transfer]:
    """Each fold as a pseudo-test of the others, in each of WAYS. probabilities: (N, 6), out of fold."""
    numbers = np.unique(folds).tolist()
    inside = {fold: folds == fold for fold in numbers}
    grid = {fold: fit_grid(probabilities[its], labels[its]) for fold, its in inside.items()}
    exact = {fold: fit_exact(probabilities[its], labels[its]).thresholds for fold, its in inside.items()}
    own = {fold: thresholds for fold, (thresholds, _) in grid.items()}
    chosen = {
        "grid": (own, {fold: fit_grid(probabilities[~its], labels[~its])[0] for fold, its in inside.items()}),
        "exact": (exact, {fold: fit_exact(probabilities[~its], labels[~its]).thresholds for fold, its in inside.items()}),
        "best fold": (own, {fold: own[max((other for other in numbers if other != fold), key=lambda other: grid[other][1])] for fold in numbers}),
    }

    def judged(thresholds: Mapping[int, Thresholds]) -> np.ndarray:
        predicted = np.zeros(len(labels), dtype=int)
        for fold, its in inside.items():
            predicted[its] = decode_thresholds(probabilities[its], thresholds[fold])
        return outcomes(predicted, labels)

    return {way: Transfer(judged(mine), judged(theirs), mine, theirs) for way, (mine, theirs) in chosen.items()}


class Split(NamedTuple):
    """A figure of one pseudo-test; see the module's text."""

    validation: float
    own: float
    transferred: float
    drop: float
    mismatch: float
    rest: float


def thresholds(dataset: Dataset, probabilities: np.ndarray, signature: str, seed: int = 0, deals: int = DEALS) -> Study:
    """Where thresholds are best, and how well they travel.

    probabilities: (N, 6) of the dataset's clips, in its order, each by a model that saw none of its fold

    Raises ValidationError: fewer than three folds, or a fold without blends.
    """
    check_folds(dataset, 3)
    found, chance = transfer(probabilities, dataset.labels, dataset.folds), _by_chance(dataset, probabilities, seed, deals)
    best = {name: optima(probabilities, dataset.labels, *bounds) for name, bounds in RANGES.items()}
    lost = {way: {name: compare(its.own, its.transferred, dataset.actors, name) for name in FIGURES} for way, its in found.items()}
    split = {name: _split(found["grid"], dataset.folds, name) for name in FIGURES}
    beyond = {  # of each way and figure: the loss of random deals, what is lost beyond it, and how often a deal loses as much
        way: {name: (float(chance[way][name].mean()), its.value - float(chance[way][name].mean()), float((np.sum(chance[way][name] >= its.value - 1e-12) + 1) / (deals + 1)))
              for name, its in by_name.items()} for way, by_name in lost.items()
    }
    tables = {
        "optima": Table("Best α and β, exact, with their plateau", ("range", "of", "α", "from", "to", "β", "from", "to", "value"), [
            [bounds, name, its.thresholds.alpha, *its.alpha, its.thresholds.beta, *its.beta, its.score] for bounds, by_name in best.items() for name, its in by_name.items()]),
        "folds": Table("Each fold with the other folds' thresholds, by the grid", ("fold", "of", "own α", "own β", "their α", "their β", "validation", "own best", "transferred", "drop", "mismatch", "rest"), [
            [str(fold), name, *found["grid"].own_thresholds[fold], *found["grid"].thresholds[fold], *row] for name, by_fold in split.items() for fold, row in by_fold.items()]),
        "mismatch": Table(f"Lost by thresholds that others chose, all clips; by chance: mean of {deals} random deals of the clips, and how often one loses as much", (
            "chosen by", "of", "mismatch", "low", "high", "p", "by chance", "beyond", "p of deals"), [
            [way, name, *its, *beyond[way][name]] for way, by_name in lost.items() for name, its in by_name.items()]),
    }
    values = {
        "optima": {bounds: {name: its._asdict() for name, its in by_name.items()} for bounds, by_name in best.items()},
        "mismatch": {way: {name: {**its._asdict(), **dict(zip(("by_chance", "beyond", "p_deals"), beyond[way][name]))} for name, its in by_name.items()} for way, by_name in lost.items()},
        "folds": {name: {str(fold): row._asdict() for fold, row in by_fold.items()} for name, by_fold in split.items()}, "ways": WAYS, "deals": deals,
    }
    drawn = {"surface": draw(probabilities, dataset.labels, dataset.folds, list(found["grid"].own_thresholds.items())), "transfer": _draw(split, lost, chance)}
    return Study("thresholds", "Do thresholds travel?", tables, drawn, _findings(best, lost, beyond, split), values, signature)


def _split(its: Transfer, folds: np.ndarray, name: str) -> dict[int, Split]:
    """Each fold's figure and how it drops."""
    figure = lambda records: float(FIGURES[name](records.sum(axis=0)))  # noqa: E731
    own = {fold: figure(its.own[folds == fold]) for fold in np.unique(folds).tolist()}
    split = {}
    for fold, best in own.items():
        validation = float(np.mean([value for other, value in own.items() if other != fold]))
        transferred = figure(its.transferred[folds == fold])
        split[fold] = Split(validation, best, transferred, validation - transferred, best - transferred, validation - best)
    return split


def _by_chance(dataset: Dataset, probabilities: np.ndarray, seed: int, deals: int) -> dict[str, dict[str, np.ndarray]]:
    """The mismatch where clips are dealt at random to folds of the same sizes: way → figure → (deals,)."""
    rng = np.random.default_rng(seed)
    lost = []
    for _ in tqdm(range(deals), desc="random deals", unit="deal", disable=None):
        found = transfer(probabilities, dataset.labels, rng.permutation(dataset.folds))
        lost.append({way: its.losses() for way, its in found.items()})
    return {way: {name: np.array([one[way][name] for one in lost]) for name in FIGURES} for way in WAYS}


def _findings(best: Mapping, lost: Mapping[str, Mapping[str, Estimate]], beyond: Mapping, split: Mapping) -> list[str]:
    narrow, full = (best[bounds]["score"] for bounds in RANGES)
    where = lambda its: f"α {its.thresholds.alpha:.3f} ({its.alpha[0]:.3f} to {its.alpha[1]:.3f}), β {its.thresholds.beta:.3f} ({its.beta[0]:.3f} to {its.beta[1]:.3f})"  # noqa: E731
    alone = [f"{name} alone at α {its.thresholds.alpha:.3f} ({its.score:.3f})" for name, its in best["full"].items() if name != "score"]
    hard = {name: [row.rest for row in by_fold.values()] for name, by_fold in split.items()}
    published = {name: np.mean([row.validation[f"acc_{name}"]["mean"] - row.test[f"acc_{name}"] for row in read_published()]) for name in ("presence", "salience")}
    shifted = [name for name, (_, _, p) in beyond["grid"].items() if p <= 0.05]
    listed = lambda by_name: ", ".join(f"{name} {text}" for name, text in by_name.items())  # noqa: E731
    return [
        f"All clips together score best, {full.score:.3f}, at {where(full)}; within 0.1 to 0.5, {narrow.score:.3f} at {where(narrow)}. " + ", ".join(alone) + ".",
        "Thresholds of the other folds (grid) instead of a fold's own best lose "
        + listed({name: signed(its.value) + ("" if its.low is None else f" (95 % interval {signed(its.low)} to {signed(its.high)})") for name, its in lost["grid"].items()})
        + ". The score can hardly gain by it, since a fold's own best was chosen on the very clips.",
        "Dealt at random, where thresholds differ by chance alone, the clips lose " + listed({name: signed(by_chance) for name, (by_chance, _, _) in beyond["grid"].items()})
        + "; beyond that the real folds lose " + listed({name: f"{signed(more)} (p = {p:.3f})" for name, (_, more, p) in beyond["grid"].items()}) + ". "
        + (f"The folds want thresholds of their own, as {' and '.join(shifted)} {'show' if len(shifted) > 1 else 'shows'}." if shifted
           else "The loss is within what choosing on few clips gives; that thresholds differ from fold to fold is not shown."),
        "How hard a fold is, each at its own best, sets it apart from the others by " + listed({name: f"{signed(-max(its))} to {signed(-min(its))}" for name, its in hard.items()})
        + f". For scale: the paper's systems lose {published['presence']:.3f} presence and {published['salience']:.3f} salience on average from validation to test.",
    ]


def _draw(split: Mapping[str, Mapping[int, Split]], lost: Mapping[str, Mapping[str, Estimate]], chance: Mapping) -> bytes:
    """Each fold's own best beside the transferred figure, and what is lost beside what random deals lose."""
    made, axes = plots.figure(12.5, 3.8, columns=3, width_ratios=(1, 1, 1.25))
    *folds, losses = axes[0]
    for axis, name in zip(folds, ("presence", "salience")):
        for row, its in enumerate(split[name].values()):
            axis.plot([its.own, its.transferred], [row, row], color="0.6", linewidth=1.5, zorder=1)
            axis.plot(its.validation, row, marker="|", color="black", markersize=14, linestyle="none", label="validation: the others' own best" if row == 0 else None)
            axis.plot(its.own, row, marker="o", markerfacecolor="white", color=plots.COLOURS[0], markersize=11, linestyle="none", label="own best" if row == 0 else None)
            axis.plot(its.transferred, row, marker="o", color=plots.COLOURS[0], markersize=6, linestyle="none", label="transferred" if row == 0 else None)
        axis.set_yticks(range(len(split[name])), [f"fold {fold}" for fold in split[name]])
        axis.set(xlabel=name, ylim=(len(split[name]) - 0.5, -0.5), title=f"{name} of each fold")
    names = [(way, name) for name in ("presence", "salience", "score") for way in WAYS]
    draw_estimates(losses, [f"{name}, {way}" for way, name in names], [lost[way][name] for way, name in names], plots.COLOURS[1], "these folds, 95 % interval")
    for row, (way, name) in enumerate(names):
        low, high = np.quantile(chance[way][name], (0.025, 0.975))
        losses.plot([low, high], [row + 0.28, row + 0.28], color="0.45", linewidth=4, solid_capstyle="butt", label="random deals, middle 95 %" if row == 0 else None)
    losses.set(xlabel="lost by transferred thresholds", title="the mismatch")
    handles = [*zip(*folds[0].get_legend_handles_labels()), *zip(*losses.get_legend_handles_labels())]
    made.legend(*zip(*handles), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return plots.png(made)
