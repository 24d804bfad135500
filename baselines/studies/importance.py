"""What a head relies on: permutation importance (Breiman 2001; Fisher et al. 2019) of groups of columns.

In each fold's held-out clips a group's columns are exchanged between clips, all together, and the fold's own
model, at its nested epoch and thresholds, decides again. Importance is what presence and salience lose by it,
a mean over several permutations. A group whose content other groups hold as well can be exchanged at little
loss: importance says what this model uses, not what the group knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from blemore import trivial
from blemore.labels import LABELS, PAIRS
from blemore_baselines.dataset import PAIR_OF_LABEL, Dataset
from blemore_baselines.engines import one_thread_each
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.results.tables import Table
from blemore_baselines.studies.held_out import held_out
from blemore_baselines.studies.importance_columns import Group, find_groups
from blemore_baselines.studies.intervals import FIGURES, Estimate, compare, draw, in_words
from blemore_baselines.studies.study import check_folds

REPEATS = 10
LOST = ("presence", "salience")


def importance(
    dataset: Dataset,
    names: Sequence[str],
    sources: Sequence[Features],
    recipe: Recipe,
    head: str,
    seed: int,
    signature: str,
    repeats: int = REPEATS,
) -> Study:
    """Measure what each group is worth to the head.

    sources: aggregated, of the dataset's clips, in its order; `names` are theirs

    Raises ValidationError: several sources that are not aggregated; a fold without blends.
    """
    check_folds(dataset, 2)
    groups, left_out = find_groups(names, sources)
    whole, permuted = measure(dataset, fuse(sources), groups, recipe, head, seed, repeats)
    actors = np.array(dataset.actors)
    pair = PAIR_OF_LABEL[dataset.labels]
    losses = {figure: [compare(whole, its, actors, figure) for its in permuted] for figure in LOST}
    pairs = np.unique(pair[pair >= 0])
    by_pair = {
        figure: [
            [compare(whole[pair == k], its[pair == k], actors[pair == k], figure) for k in pairs] for its in permuted
        ]
        for figure in LOST
    }
    pair_names = ["+".join(PAIRS[k]) for k in pairs]
    tables = {
        "groups": Table(
            f"What {head} loses where a group's columns are exchanged between held-out clips: nested, mean of {repeats}"
            " permutations, intervals over actors",
            ("group", "kind", "columns", *(column for figure in LOST for column in (figure, "low", "high", "p"))),
            [
                [group.name, group.kind, len(group.columns), *losses["presence"][g], *losses["salience"][g]]
                for g, group in enumerate(groups)
            ],
        )
    }
    for figure in LOST:
        rows = [[group.name, *(its.value for its in row)] for group, row in zip(groups, by_pair[figure])]
        tables[f"pairs_{figure}"] = Table(
            f"The same by pair of emotions: {figure} of its blends", ("group", *pair_names), rows
        )
    values = {
        "whole": {figure: float(FIGURES[figure](whole.sum(axis=0))) for figure in LOST},
        "best_constant": best_constant(dataset),
        "repeats": repeats,
        "left_out": left_out,
        "groups": [
            {
                "name": group.name,
                "kind": group.kind,
                "columns": len(group.columns),
                **{figure: losses[figure][g]._asdict() for figure in LOST},
                "pairs": {
                    name: {figure: by_pair[figure][g][k]._asdict() for figure in LOST}
                    for k, name in enumerate(pair_names)
                },
            }
            for g, group in enumerate(groups)
        ],
    }
    drawn = {"groups": _draw_bars(groups, losses), "pairs": _draw_pairs(groups, pair_names, by_pair)}
    findings = [
        _worth(values["whole"], values["best_constant"]),
        *_findings(groups, losses, pair_names, by_pair),
        *left_out,
    ]
    return Study("importance", "Importance by permutation", tables, drawn, findings, values, signature)


def measure(
    dataset: Dataset, features: Features, groups: Sequence[Group], recipe: Recipe, head: str, seed: int, repeats: int
) -> tuple[np.ndarray, ...]:
    """`outcomes` (N, 4) of the models as they are, and with each group permuted: (groups, N, 4), sums over repeats."""
    whole, permuted = np.zeros((len(dataset.ids), 4)), np.zeros((len(groups), len(dataset.ids), 4))
    total = len(np.unique(dataset.folds)) * len(groups)
    with one_thread_each(), tqdm(total=total, desc="permuting", unit="group", disable=None) as progress:
        for fold in held_out(dataset, features, recipe, head, seed):
            orders = np.random.default_rng(fold.seed).permuted(np.tile(np.arange(len(fold.X)), (repeats, 1)), axis=1)
            whole[fold.inside] = fold.judge(fold.X)
            for g, group in enumerate(groups):
                exchanged = fold.X.copy()
                for order in orders:
                    exchanged[:, group.columns] = fold.X[np.ix_(order, group.columns)]
                    permuted[g, fold.inside] += fold.judge(exchanged)
                progress.update()
    return whole, permuted


def best_constant(dataset: Dataset) -> dict[str, float]:
    """The most that one answer to every clip reaches (`blemore.trivial`), of each figure by itself."""
    truth = {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}
    counts = trivial.evaluate(trivial.fit(truth.values()), truth).values()
    return {figure: max(getattr(its, f"acc_{figure}") for its in counts) for figure in LOST}


def _worth(whole: Mapping[str, float], constant: Mapping[str, float]) -> str:
    empty = [figure for figure in LOST if whole[figure] <= constant[figure]]
    return (
        "Without permutation: "
        + ", ".join(f"{figure} {whole[figure]:.3f} (best constant answer {constant[figure]:.3f})" for figure in LOST)
        + "."
        + "".join(
            f" {figure.capitalize()} is no better than a constant answer's: no importance can be read from it."
            for figure in empty
        )
    )


def _findings(
    groups: Sequence[Group], losses: Mapping[str, Sequence[Estimate]], pair_names: Sequence[str], by_pair: Mapping
) -> list[str]:
    found = []
    for kind in dict.fromkeys(group.kind for group in groups):
        places = [g for g, group in enumerate(groups) if group.kind == kind]
        listed = lambda some: (
            f"{len(some)}{' (' * bool(some)}{', '.join(groups[g].name for g in some)}{')' * bool(some)}"
        )
        for figure, its in losses.items():
            most = max(places, key=lambda g: its[g].value)
            lose, gain = ([g for g in places if its[g].beyond == sign] for sign in (1, -1))
            found.append(
                (
                    f"By {kind}, {figure} loses most where {groups[most].name} is permuted: {in_words(its[most])}. "
                    if its[most].value > 0
                    else f"By {kind}, none loses {figure} where it is permuted. "
                )
                + f"Beyond chance, of {len(places)}, {listed(lose)} lose and {listed(gain)} gain."
            )
    g, k = np.unravel_index(
        np.argmax([[its.value for its in row] for row in by_pair["presence"]]), (len(groups), len(pair_names))
    )
    most = by_pair["presence"][g][k]
    found.append(
        f"The pair that loses most presence is {pair_names[k]}, by {groups[g].name}: {in_words(most)}; "
        f"the largest of {len(groups) * len(pair_names)}, which chance alone lifts."
        if most.value > 0
        else "No pair loses presence by any group."
    )
    found.append(
        "A group that shares what it knows with others can be permuted at little loss: importance is what the model"
        " uses. Of groups that are worth nothing, one in forty still seems to lose beyond chance, and one in forty to"
        " gain."
    )
    return found + [
        "OpenFace 3's files do not name their action units: AU01 to AU26 are DISFA's eight, in its order."
    ] * any(g.name == "AU26" for g in groups)


def _draw_bars(groups: Sequence[Group], losses: Mapping[str, Sequence[Estimate]]) -> bytes:
    made, axes = plots.figure(9, 1.3 + 0.27 * len(groups), columns=len(losses), sharex=True, sharey=True)
    for axis, (figure, its) in zip(axes[0], losses.items()):
        draw(axis, [group.name for group in groups], its, "black")
        for kind, colour in zip(dict.fromkeys(group.kind for group in groups), plots.COLOURS):
            places = [g for g, group in enumerate(groups) if group.kind == kind]
            axis.barh(places, [its[g].value for g in places], color=colour, height=0.7, alpha=0.6, label=kind)
        axis.set(xlabel=f"{figure} lost where permuted")
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return plots.png(made)


def _draw_pairs(
    groups: Sequence[Group], pair_names: Sequence[str], by_pair: Mapping[str, Sequence[Sequence[Estimate]]]
) -> bytes:
    made, axes = plots.figure(2 + 1.1 * len(pair_names), 1.8 + 0.27 * len(groups), columns=len(by_pair), sharey=True)
    grids = {figure: np.array([[its.value for its in row] for row in rows]) for figure, rows in by_pair.items()}
    reach = max(float(np.abs(grid).max()) for grid in grids.values()) or 1.0
    for axis, (figure, rows) in zip(axes[0], by_pair.items()):
        image = axis.imshow(grids[figure], cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
        for g, row in enumerate(rows):
            for k, its in enumerate(row):
                axis.text(
                    k,
                    g,
                    str(round(100 * its.value)),
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if its.beyond else "normal",
                    color="white" if abs(its.value) > 0.65 * reach else "black",
                )
        axis.set_xticks(range(len(pair_names)), pair_names, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(groups)), [group.name for group in groups])
        axis.set_title(f"{figure} lost", fontsize=10)
    made.colorbar(image, ax=axes, shrink=0.8, label="lost")
    made.suptitle(
        "What blends lose where a group is permuted, in points of 100; bold: beyond chance by itself",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return plots.png(made)
