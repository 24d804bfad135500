"""Do thresholds travel? Where α and β are best, and what is lost where they were chosen on other clips.

Each fold in turn is a pseudo-test. It is decoded with thresholds that the other folds chose, and the *drop*
from what those folds report, each at its own best thresholds as in the paper's validation table, is split:

    drop      validation − transferred  = mismatch + rest
    mismatch  own best − transferred    the same clips, other thresholds
    rest      validation − own best     other clips, each with its own best: how much harder this fold is

In the mean over folds the rest is nothing by construction, and the mismatch is the drop. But the best of many
thresholds is too good on the clips it is chosen on, whatever they are: where clips are dealt at random to folds
of the same sizes, thresholds shift by chance alone, and what is lost still is that optimism. Only what the real
folds lose beyond it speaks of thresholds that differ between people, or between the folds' models.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blemore_baselines.dataset import Dataset
from blemore_baselines.results import plots
from blemore_baselines.results.published import read_published
from blemore_baselines.results.stability import reach
from blemore_baselines.results.study_files import Study
from blemore_baselines.results.tables import Table
from blemore_baselines.studies.intervals import FIGURES, Estimate, compare
from blemore_baselines.studies.intervals import draw as draw_estimates
from blemore_baselines.studies.study import check_folds, signed
from blemore_baselines.studies.thresholds_optima import RANGES, draw, optima
from blemore_baselines.studies.thresholds_transfer import (
    WAYS,
    Split,
    beyond_chance,
    by_chance,
    split_drop,
    transfer,
)

DEALS = 200


def thresholds(dataset: Dataset, probabilities: np.ndarray, seed: int, signature: str, deals: int = DEALS) -> Study:
    """Where thresholds are best, and how well they travel.

    probabilities: (N, 6) of the dataset's clips, in its order, each by a model that saw none of its fold

    Raises ValidationError: fewer than three folds, or a fold without blends.
    """
    check_folds(dataset, 3)
    found, chance = (
        transfer(probabilities, dataset.labels, dataset.folds),
        by_chance(dataset, probabilities, seed, deals),
    )
    best = {name: optima(probabilities, dataset.labels, *bounds) for name, bounds in RANGES.items()}
    lost = {
        way: {name: compare(its.own, its.transferred, dataset.actors, name) for name in FIGURES}
        for way, its in found.items()
    }
    split = {name: split_drop(found["grid"], dataset.folds, name) for name in FIGURES}
    beyond = {
        way: {name: beyond_chance(its.value, chance[way][name]) for name, its in by_name.items()}
        for way, by_name in lost.items()
    }
    tables = {
        "optima": Table(
            "Best α and β, exact, with their plateau",
            ("range", "of", "α", "from", "to", "β", "from", "to", "value"),
            [
                [bounds, name, its.thresholds.alpha, *its.alpha, its.thresholds.beta, *its.beta, its.score]
                for bounds, by_name in best.items()
                for name, its in by_name.items()
            ],
        ),
        "folds": Table(
            "Each fold with the other folds' thresholds, by the grid",
            (
                "fold",
                "of",
                "own α",
                "own β",
                "their α",
                "their β",
                "validation",
                "own best",
                "transferred",
                "drop",
                "mismatch",
                "rest",
            ),
            [
                [str(fold), name, *found["grid"].own_thresholds[fold], *found["grid"].thresholds[fold], *row]
                for name, by_fold in split.items()
                for fold, row in by_fold.items()
            ],
        ),
        "mismatch": Table(
            f"Lost by thresholds that others chose, all clips; by chance: mean of {deals} random deals of the clips,"
            " and how often one loses as much",
            (
                "chosen by",
                "of",
                "mismatch",
                "low",
                "high",
                "p",
                "by chance",
                "beyond",
                "p of deals",
            ),
            [[way, name, *its, *beyond[way][name]] for way, by_name in lost.items() for name, its in by_name.items()],
        ),
    }
    values = {
        "optima": {bounds: {name: its._asdict() for name, its in by_name.items()} for bounds, by_name in best.items()},
        "mismatch": {
            way: {name: {**its._asdict(), **beyond[way][name]._asdict()} for name, its in by_name.items()}
            for way, by_name in lost.items()
        },
        "folds": {name: {str(fold): row._asdict() for fold, row in by_fold.items()} for name, by_fold in split.items()},
        "ways": WAYS,
        "deals": deals,
    }
    drawn = {
        "surface": draw(probabilities, dataset.labels, dataset.folds, list(found["grid"].own_thresholds.items())),
        "transfer": _draw(split, lost, chance),
    }
    return Study(
        "thresholds", "Do thresholds travel?", tables, drawn, _findings(best, lost, beyond, split), values, signature
    )


def _findings(best: Mapping, lost: Mapping[str, Mapping[str, Estimate]], beyond: Mapping, split: Mapping) -> list[str]:
    narrow, full = (best[bounds]["score"] for bounds in RANGES)
    where = lambda its: (
        f"α {its.thresholds.alpha:.3f} ({reach(*its.alpha)}), β {its.thresholds.beta:.3f} ({reach(*its.beta)})"
    )
    alone = [
        f"{name} at α {its.thresholds.alpha:.3f} ({its.score:.3f})"
        for name, its in best["full"].items()
        if name != "score"
    ]
    hard = {name: [row.rest for row in by_fold.values()] for name, by_fold in split.items()}
    published = {
        name: np.mean([row.validation[f"acc_{name}"]["mean"] - row.test[f"acc_{name}"] for row in read_published()])
        for name in ("presence", "salience")
    }
    shifted = [name for name, its in beyond["grid"].items() if its.p_deals <= 0.05]
    listed = lambda by_name: ", ".join(f"{name} {text}" for name, text in by_name.items())  # noqa: E731
    return [
        f"All clips together score best, {full.score:.3f}, at {where(full)}; within 0.1 to 0.5, {narrow.score:.3f} at"
        f" {where(narrow)}. Alone, each is best elsewhere: " + ", ".join(alone) + ".",
        "Thresholds of the other folds (grid) instead of a fold's own best lose "
        + listed(
            {
                name: (
                    signed(its.value)
                    + ("" if its.low is None else f" (95 % interval {signed(its.low)} to {signed(its.high)})")
                )
                for name, its in lost["grid"].items()
            }
        )
        + ". The score can hardly gain by it, since a fold's own best was chosen on the very clips.",
        "Dealt at random, where thresholds differ by chance alone, the clips lose "
        + listed({name: signed(its.by_chance) for name, its in beyond["grid"].items()})
        + "; beyond that the real folds lose "
        + listed({name: f"{signed(its.beyond)} (p = {its.p_deals:.3f})" for name, its in beyond["grid"].items()})
        + ". "
        + (
            f"The folds want thresholds of their own, as {' and '.join(shifted)}"
            f" {'show' if len(shifted) > 1 else 'shows'}."
            if shifted
            else (
                "The loss is within what choosing on few clips gives; that thresholds differ from fold to fold is not"
                " shown."
            )
        ),
        "How hard a fold is, each at its own best, sets it apart from the others by "
        + listed({name: f"{signed(-max(its))} to {signed(-min(its))}" for name, its in hard.items()})
        + f". For scale: the paper's systems lose {published['presence']:.3f} presence and {published['salience']:.3f}"
        " salience on average from validation to test.",
    ]


def _draw(
    split: Mapping[str, Mapping[int, Split]], lost: Mapping[str, Mapping[str, Estimate]], chance: Mapping
) -> bytes:
    """Each fold's own best beside the transferred figure, and what is lost beside what random deals lose."""
    made, axes = plots.figure(12.5, 3.8, columns=3, width_ratios=(1, 1, 1.25))
    *folds, losses = axes[0]
    for axis, name in zip(folds, ("presence", "salience")):
        for row, its in enumerate(split[name].values()):
            axis.plot([its.own, its.transferred], [row, row], color="0.6", linewidth=1.5, zorder=1)
            for label, value, style in (
                (
                    "validation: the others' own best",
                    its.validation,
                    {"marker": "|", "color": "black", "markersize": 14},
                ),
                (
                    "own best",
                    its.own,
                    {"marker": "o", "color": plots.COLOURS[0], "markerfacecolor": "white", "markersize": 11},
                ),
                ("transferred", its.transferred, {"marker": "o", "color": plots.COLOURS[0], "markersize": 6}),
            ):
                axis.plot(value, row, linestyle="none", label=label if row == 0 else None, **style)
        axis.set_yticks(range(len(split[name])), [f"fold {fold}" for fold in split[name]])
        axis.set(xlabel=name, ylim=(len(split[name]) - 0.5, -0.5), title=f"{name} of each fold")
    names = [(way, name) for name in ("presence", "salience", "score") for way in WAYS]
    draw_estimates(
        losses,
        [f"{name}, {way}" for way, name in names],
        [lost[way][name] for way, name in names],
        plots.COLOURS[1],
        "these folds, 95 % interval",
    )
    for row, (way, name) in enumerate(names):
        low, high = np.quantile(chance[way][name], (0.025, 0.975))
        losses.plot(
            [low, high],
            [row + 0.28, row + 0.28],
            color="0.45",
            linewidth=4,
            solid_capstyle="butt",
            label="random deals, middle 95 %" if row == 0 else None,
        )
    losses.set(xlabel="lost by transferred thresholds", title="the mismatch")
    handles = [*zip(*folds[0].get_legend_handles_labels()), *zip(*losses.get_legend_handles_labels())]
    made.legend(*zip(*handles), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return plots.png(made)
