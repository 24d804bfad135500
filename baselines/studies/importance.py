"""What a head relies on: permutation importance (Breiman 2001; Fisher et al. 2019) of groups of columns.

In each fold's held-out clips, a group's columns are permuted together between clips, and the fold's own model, at its
nested epoch and thresholds, predicts again. Importance is the resulting loss of presence and salience, averaged over
several permutations. A group whose information is also in other groups can be permuted at little loss: importance
measures what this model uses, not what the group contains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from blemore import trivial
from blemore.labels import LABELS, PAIRS
from blemore.tables import Table
from blemore_baselines.dataset import PAIR_OF_LABEL, Dataset
from blemore_baselines.engines import one_thread_each
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.held_out import held_out
from blemore_baselines.studies.importance_columns import Group, find_groups
from blemore_baselines.studies.intervals import FIGURES, Estimate, compare, draw, in_words
from blemore_baselines.studies.study import check_folds

REPEATS = 10
LOST = ("presence", "salience")
Losses = Mapping[str, Sequence[Estimate]]  # figure → groups
LossesByPair = Mapping[str, Mapping[str, Sequence[Estimate]]]  # figure → pair → groups


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
    """Measures the importance of each group to the head.

    sources: aggregated, of the dataset's clips, in its order; `names` are the sources' names

    Raises ValidationError: several sources that are not aggregated; a fold without blends.
    """
    check_folds(dataset, 2)
    groups, left_out = find_groups(names, sources)
    whole, permuted = measure(dataset, fuse(sources), groups, recipe, head, seed, repeats)
    losses = {figure: [compare(whole, records, dataset.actors, figure) for records in permuted] for figure in LOST}
    by_pair = _losses_by_pair(dataset, whole, permuted)
    figures_of_whole = {figure: float(FIGURES[figure](whole.sum(axis=0))) for figure in LOST}
    constant = best_constant(dataset)
    values = {
        "whole": figures_of_whole,
        "best_constant": constant,
        "repeats": repeats,
        "left_out": left_out,
        "groups": _group_values(groups, losses, by_pair),
    }
    tables = {"groups": _groups_table(head, repeats, groups, losses)} | {
        f"pairs_{figure}": _pairs_table(figure, groups, by_pair[figure]) for figure in LOST
    }
    findings = [_worth(figures_of_whole, constant), *_findings(groups, losses, by_pair), *left_out]
    figures = {"groups": _draw_bars(groups, losses), "pairs": _draw_pairs(groups, by_pair)}
    return Study("importance", "Importance by permutation", tables, figures, findings, values, signature)


def measure(
    dataset: Dataset, features: Features, groups: Sequence[Group], recipe: Recipe, head: str, seed: int, repeats: int
) -> tuple[np.ndarray, ...]:
    """`outcomes` (N, 4) of the models without permutation, and with each group permuted: (groups, N, 4), sums over
    repeats.
    """
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
    """The best value of each figure that any constant answer reaches (`blemore.trivial`)."""
    truth = {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}
    counts = trivial.evaluate(trivial.fit(truth.values()), truth).values()
    return {figure: max(getattr(answer_counts, f"acc_{figure}") for answer_counts in counts) for figure in LOST}


def _losses_by_pair(dataset: Dataset, whole: np.ndarray, permuted: np.ndarray) -> LossesByPair:
    """The importance of each group for the blends of each pair that occurs."""
    pair, actors = PAIR_OF_LABEL[dataset.labels], np.array(dataset.actors)
    clips = {"+".join(PAIRS[number]): pair == number for number in np.unique(pair[pair >= 0]).tolist()}
    return {
        figure: {
            name: [compare(whole[inside], records[inside], actors[inside].tolist(), figure) for records in permuted]
            for name, inside in clips.items()
        }
        for figure in LOST
    }


def _group_values(groups: Sequence[Group], losses: Losses, by_pair: LossesByPair) -> list[dict]:
    return [
        {
            "name": group.name,
            "kind": group.kind,
            "columns": len(group.columns),
            **{figure: losses[figure][g]._asdict() for figure in LOST},
            "pairs": {
                name: {figure: by_pair[figure][name][g]._asdict() for figure in LOST} for name in by_pair[LOST[0]]
            },
        }
        for g, group in enumerate(groups)
    ]


def _groups_table(head: str, repeats: int, groups: Sequence[Group], losses: Losses) -> Table:
    return Table(
        f"Losses of {head} if a group's columns are permuted between held-out clips: nested, mean of {repeats}"
        " permutations, intervals over actors",
        ("group", "kind", "columns", *(column for figure in LOST for column in (figure, "low", "high", "p"))),
        [
            [group.name, group.kind, len(group.columns), *losses["presence"][g][:4], *losses["salience"][g][:4]]
            for g, group in enumerate(groups)
        ],
    )


def _pairs_table(figure: str, groups: Sequence[Group], by_pair: Mapping[str, Sequence[Estimate]]) -> Table:
    return Table(
        f"Losses by pair of emotions: {figure} of its blends",
        ("group", *by_pair),
        [[group.name, *(losses[g].value for losses in by_pair.values())] for g, group in enumerate(groups)],
    )


def _worth(whole: Mapping[str, float], constant: Mapping[str, float]) -> str:
    empty = [figure for figure in LOST if whole[figure] <= constant[figure]]
    return (
        "Without permutation: "
        + ", ".join(f"{figure} {whole[figure]:.3f} (best constant answer {constant[figure]:.3f})" for figure in LOST)
        + "."
        + "".join(
            f" {figure.capitalize()} is no better than a constant answer's, so its losses say nothing about importance."
            for figure in empty
        )
    )


def _findings(groups: Sequence[Group], losses: Losses, by_pair: LossesByPair) -> list[str]:
    findings = [
        _kind_in_words(kind, groups, figure, estimates)
        for kind in _kinds(groups)
        for figure, estimates in losses.items()
    ]
    findings += [
        _pair_in_words(groups, by_pair["presence"]),
        (
            "A group whose information is also in others can be permuted at little loss: importance measures what the"
            " model uses. Among groups of no importance, one in forty still appears to lose beyond chance, and one in"
            " forty to gain."
        ),
    ]
    if any(group.name == "AU26" for group in groups):
        findings.append(
            "OpenFace 3's files do not name their action units: AU01 to AU26 are DISFA's eight, in its order."
        )
    return findings


def _kinds(groups: Sequence[Group]) -> dict[str, list[int]]:
    """Kind → indices of its groups."""
    places: dict[str, list[int]] = {}
    for g, group in enumerate(groups):
        places.setdefault(group.kind, []).append(g)
    return places


def _kind_in_words(kind: str, groups: Sequence[Group], figure: str, losses: Sequence[Estimate]) -> str:
    places = _kinds(groups)[kind]
    worst = max(places, key=lambda g: losses[g].value)
    first = f"By {kind}, no permutation lowers {figure}."
    if losses[worst].value > 0:
        first = f"By {kind}, permuting {groups[worst].name} costs most {figure}: {in_words(losses[worst])}."
    lose, gain = (_listed([groups[g].name for g in places if losses[g].beyond == sign]) for sign in (1, -1))
    return f"{first} Beyond chance, of {len(places)}, {lose} lose and {gain} gain."


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def _pair_in_words(groups: Sequence[Group], by_pair: Mapping[str, Sequence[Estimate]]) -> str:
    values = np.array([[loss.value for loss in losses] for losses in by_pair.values()]).T  # (groups, pairs)
    g, k = map(int, np.unravel_index(np.argmax(values), values.shape))
    pair = list(by_pair)[k]
    largest_loss = by_pair[pair][g]
    if largest_loss.value <= 0:
        return "No pair loses presence through any permutation."
    return (
        f"The largest loss of presence is that of {pair} through {groups[g].name}: {in_words(largest_loss)}. As the"
        f" largest of {values.size}, it is inflated by chance."
    )


def _draw_bars(groups: Sequence[Group], losses: Losses) -> plots.Picture:
    canvas, axes = plots.figure(9, 1.3 + 0.27 * len(groups), columns=len(losses), sharex=True, sharey=True)
    for axis, (figure, estimates) in zip(axes[0], losses.items()):
        draw(axis, [group.name for group in groups], estimates, "black")
        for (kind, places), colour in zip(_kinds(groups).items(), plots.COLOURS):
            widths = [estimates[g].value for g in places]
            axis.barh(places, widths, color=colour, height=0.7, alpha=0.6, label=kind)
        axis.set(xlabel=f"{figure} lost through permutation")
    canvas.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return plots.picture(canvas)


def _draw_pairs(groups: Sequence[Group], by_pair: LossesByPair) -> plots.Picture:
    names = list(by_pair["presence"])
    canvas, axes = plots.figure(2 + 1.1 * len(names), 1.8 + 0.27 * len(groups), columns=len(by_pair), sharey=True)
    values = [loss.value for by_name in by_pair.values() for losses in by_name.values() for loss in losses]
    reach = max(map(abs, values)) or 1.0
    for axis, (figure, by_name) in zip(axes[0], by_pair.items()):
        _draw_grid(axis, by_name, reach)
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(groups)), [group.name for group in groups])
        axis.set_title(f"{figure} lost", fontsize=10)
    canvas.colorbar(axes[0, 0].images[0], ax=axes, shrink=0.8, label="lost")
    canvas.suptitle(
        "Losses of blends if a group is permuted, in points of 100; bold: beyond chance (single comparison)",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    return plots.picture(canvas)


def _draw_grid(axis: plots.Axes, by_pair: Mapping[str, Sequence[Estimate]], reach: float) -> None:
    """A row per group and a column per pair, shaded from −reach to reach."""
    values = np.array([[loss.value for loss in losses] for losses in by_pair.values()]).T
    for k, losses in enumerate(by_pair.values()):
        for g, loss in enumerate(losses):
            axis.text(
                k,
                g,
                str(round(100 * loss.value)),
                ha="center",
                va="center",
                fontsize=8,
                fontweight="bold" if loss.beyond else "normal",
                color="white" if abs(loss.value) > 0.65 * reach else "black",
            )
    axis.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
