"""Do thresholds transfer? The best α and β, and the loss if they are chosen on other clips.

Each fold in turn is a pseudo-test. It is decoded with thresholds chosen on the other folds. The other folds' own
figures, each at its best thresholds as in the paper's validation table, are higher; this *drop* is split:

    drop      validation − transferred  = mismatch + rest
    mismatch  own best − transferred    the same clips, other thresholds
    rest      validation − own best     other clips, each with its own best: how much harder this fold is

In the mean over folds the rest is zero by construction, and the mismatch equals the drop. But the best of many
thresholds is always too good on the clips that it is chosen on. If clips are dealt at random to folds of the same
sizes, thresholds shift only by chance, and the loss is just that optimism. Only a larger loss of the real folds is
evidence that thresholds differ between people or between the folds' models.

Thresholds are not the only cause of a drop from validation to test. In the paper's protocol the number of epochs is
another: each fold is reported at its best epoch, but the tested model is trained for a fixed number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from blemore.tables import Table
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.thresholds import Plateau
from blemore_baselines.models.recipes import PRESETS
from blemore_baselines.results import plots
from blemore_baselines.results.published import read_published
from blemore_baselines.results.stability import reach
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.intervals import FIGURES, Estimate, compare
from blemore_baselines.studies.intervals import draw as draw_estimates
from blemore_baselines.studies.study import check_folds, signed
from blemore_baselines.studies.thresholds_optima import RANGES, draw, optima
from blemore_baselines.studies.thresholds_transfer import (
    WAYS,
    Beyond,
    Split,
    Transfer,
    beyond_chance,
    by_chance,
    split_drop,
    transfer,
)

DEALS = 200
Best = Mapping[str, Mapping[str, Plateau]]  # range → figure
Losses = Mapping[str, Mapping[str, Estimate]]  # way → figure
Chances = Mapping[str, Mapping[str, Beyond]]  # way → figure
Splits = Mapping[str, Mapping[int, Split]]  # figure → fold


def thresholds(dataset: Dataset, probabilities: np.ndarray, seed: int, signature: str, deals: int = DEALS) -> Study:
    """The best thresholds, and how well they transfer.

    probabilities: (N, 6) of the dataset's clips, in its order, each from a model that saw none of the clip's fold

    Raises ValidationError: fewer than three folds, or a fold without blends.
    """
    check_folds(dataset, 3)
    transfers = transfer(probabilities, dataset.labels, dataset.folds)
    chance = by_chance(dataset, probabilities, seed, deals)
    best = {name: optima(probabilities, dataset.labels, *bounds) for name, bounds in RANGES.items()}
    mismatch = {
        way: {name: compare(outcome.own, outcome.transferred, dataset.actors, name) for name in FIGURES}
        for way, outcome in transfers.items()
    }
    split = {name: split_drop(transfers["grid"], dataset.folds, name) for name in FIGURES}
    beyond = {
        way: {name: beyond_chance(loss.value, chance[way][name]) for name, loss in losses.items()}
        for way, losses in mismatch.items()
    }
    tables = {
        "optima": _optima_table(best),
        "folds": _folds_table(split, transfers["grid"]),
        "mismatch": _mismatch_table(mismatch, beyond, deals),
    }
    own_thresholds = list(transfers["grid"].own_thresholds.items())
    figures = {
        "surface": draw(probabilities, dataset.labels, dataset.folds, own_thresholds),
        "transfer": _draw(split, mismatch, chance),
    }
    findings, values = _findings(best, mismatch, beyond, split), _values(best, mismatch, beyond, split, deals)
    return Study("thresholds", "Do thresholds transfer?", tables, figures, findings, values, signature)


def _optima_table(best: Best) -> Table:
    return Table(
        "Exact best α and β, with their plateaus",
        ("range", "of", "α", "from", "to", "β", "from", "to", "value"),
        [
            [
                bounds,
                name,
                optimum.thresholds.alpha,
                *optimum.alpha,
                optimum.thresholds.beta,
                *optimum.beta,
                optimum.score,
            ]
            for bounds, by_name in best.items()
            for name, optimum in by_name.items()
        ],
    )


def _folds_table(splits: Splits, transfer: Transfer) -> Table:
    columns = ("fold", "of", "own α", "own β", "their α", "their β")
    return Table(
        "Each fold with the other folds' thresholds, from the grid",
        (*columns, "validation", "own best", "transferred", "drop", "mismatch", "rest"),
        [
            [str(fold), name, *transfer.own_thresholds[fold], *transfer.thresholds[fold], *split]
            for name, by_fold in splits.items()
            for fold, split in by_fold.items()
        ],
    )


def _mismatch_table(mismatch: Losses, beyond: Chances, deals: int) -> Table:
    return Table(
        f"Loss with thresholds chosen on other folds, all clips; by chance: mean of {deals} random deals of the clips,"
        " and how often a deal loses at least as much",
        ("chosen by", "of", "mismatch", "low", "high", "p", "by chance", "beyond", "p of deals"),
        [
            [way, name, *loss[:4], *beyond[way][name]]
            for way, losses in mismatch.items()
            for name, loss in losses.items()
        ],
    )


def _values(best: Best, mismatch: Losses, beyond: Chances, splits: Splits, deals: int) -> dict:
    return {
        "optima": {
            bounds: {name: optimum._asdict() for name, optimum in by_name.items()} for bounds, by_name in best.items()
        },
        "mismatch": {
            way: {name: {**loss._asdict(), **beyond[way][name]._asdict()} for name, loss in losses.items()}
            for way, losses in mismatch.items()
        },
        "folds": {
            name: {str(fold): split._asdict() for fold, split in by_fold.items()} for name, by_fold in splits.items()
        },
        "ways": WAYS,
        "deals": deals,
    }


def _findings(best: Best, mismatch: Losses, beyond: Chances, splits: Splits) -> list[str]:
    return [
        _optima_in_words(best),
        _loss_in_words(mismatch["grid"]),
        _chance_in_words(beyond["grid"]),
        _difficulty_in_words(splits),
    ]


def _optima_in_words(best: Best) -> str:
    narrow, full = (best[bounds]["score"] for bounds in RANGES)
    alone = ", ".join(
        f"{name} at α {optimum.thresholds.alpha:.3f} ({optimum.score:.3f})"
        for name, optimum in best["full"].items()
        if name != "score"
    )
    return (
        f"The best score on all clips is {full.score:.3f}, at {_place(full)}; within 0.1 to 0.5 it is"
        f" {narrow.score:.3f}, at {_place(narrow)}. The single metrics have their optima elsewhere: {alone}."
    )


def _place(plateau: Plateau) -> str:
    alpha, beta = plateau.thresholds
    return f"α {alpha:.3f} ({reach(*plateau.alpha)}), β {beta:.3f} ({reach(*plateau.beta)})"


def _loss_in_words(losses: Mapping[str, Estimate]) -> str:
    return (
        "Loss with the other folds' thresholds (grid) instead of a fold's own best: "
        + ", ".join(f"{name} {signed(loss.value)}{_interval(loss)}" for name, loss in losses.items())
        + ". The score can hardly improve, because a fold's own best was chosen on the same clips."
    )


def _interval(loss: Estimate) -> str:
    if loss.low is None or loss.high is None:
        return ""
    return f" (95 % interval {signed(loss.low)} to {signed(loss.high)})"


def _chance_in_words(beyond: Mapping[str, Beyond]) -> str:
    shifted = [name for name, excess in beyond.items() if excess.p_deals <= 0.05]
    verdict = (
        "Choosing on few clips explains this loss, so it does not show that the best thresholds differ between folds."
    )
    if shifted:
        show = "show" if len(shifted) > 1 else "shows"
        verdict = f"The best thresholds differ between folds, as {' and '.join(shifted)} {show}."
    return (
        "If clips are dealt at random, so that thresholds differ only by chance, the loss is "
        + ", ".join(f"{name} {signed(excess.by_chance)}" for name, excess in beyond.items())
        + "; beyond that, the real folds lose "
        + ", ".join(f"{name} {signed(excess.beyond)} (p = {excess.p_deals:.3f})" for name, excess in beyond.items())
        + f". {verdict}"
    )


def _difficulty_in_words(splits: Splits) -> str:
    recipe = PRESETS["published"]["aggregate"]
    rest = {name: [split.rest for split in by_fold.values()] for name, by_fold in splits.items()}
    apart = ", ".join(f"{name} {signed(-max(values))} to {signed(-min(values))}" for name, values in rest.items())
    presence, salience = (
        np.mean([row.validation[metric]["mean"] - row.test[metric] for row in read_published()])
        for metric in ("acc_presence", "acc_salience")
    )
    return (
        f"Folds differ in difficulty: at its own best thresholds, a fold differs from the others by {apart}. For scale,"
        f" the paper's systems lose {presence:.3f} presence and {salience:.3f} salience on average from validation to"
        f" test. Thresholds cannot explain all of that: validation uses each fold's best of {recipe.epochs} epochs, but"
        f" the tested models were trained for {recipe.final_epochs}."
    )


def _draw(splits: Splits, mismatch: Losses, chance: Mapping[str, Mapping[str, np.ndarray]]) -> plots.Picture:
    """Each fold's own best and transferred figure, and the losses of the real folds and of random deals."""
    canvas, axes = plots.figure(12.5, 3.8, columns=3, width_ratios=(1, 1, 1.25))
    *folds, losses = axes[0]
    for axis, name in zip(folds, ("presence", "salience")):
        _draw_folds(axis, name, splits[name])
    _draw_losses(losses, mismatch, chance)
    handles = [*zip(*folds[0].get_legend_handles_labels()), *zip(*losses.get_legend_handles_labels())]
    canvas.legend(*zip(*handles), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return plots.picture(canvas)


def _draw_folds(axis: plots.Axes, name: str, splits: Mapping[int, Split]) -> None:
    ring = {"marker": "o", "color": plots.COLOURS[0], "markerfacecolor": "white", "markersize": 11}
    marks: dict[str, dict[str, Any]] = {
        "validation: the others' own best": {"marker": "|", "color": "black", "markersize": 14},
        "own best": ring,
        "transferred": {"marker": "o", "color": plots.COLOURS[0], "markersize": 6},
    }
    for row, split in enumerate(splits.values()):
        axis.plot([split.own, split.transferred], [row, row], color="0.6", linewidth=1.5, zorder=1)
        for value, (label, style) in zip((split.validation, split.own, split.transferred), marks.items()):
            axis.plot(value, row, linestyle="none", label=label if row == 0 else None, **style)
    axis.set_yticks(range(len(splits)), [f"fold {fold}" for fold in splits])
    axis.set(xlabel=name, ylim=(len(splits) - 0.5, -0.5), title=f"{name} of each fold")


def _draw_losses(axis: plots.Axes, mismatch: Losses, chance: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    names = [(way, name) for name in ("presence", "salience", "score") for way in WAYS]
    draw_estimates(
        axis,
        [f"{name}, {way}" for way, name in names],
        [mismatch[way][name] for way, name in names],
        plots.COLOURS[1],
        "these folds, 95 % interval",
    )
    for row, (way, name) in enumerate(names):
        low, high = np.quantile(chance[way][name], (0.025, 0.975))
        axis.plot(
            [low, high],
            [row + 0.28, row + 0.28],
            color="0.45",
            linewidth=4,
            solid_capstyle="butt",
            label="random deals, middle 95 %" if row == 0 else None,
        )
    axis.set(xlabel="loss with transferred thresholds", title="mismatch")
