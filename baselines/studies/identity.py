"""Does a model profit from knowing the actors? Compares the dataset's actor-disjoint folds with actor-inclusive folds.

The actor-inclusive folds have the same sizes as the dataset's folds. The only difference is that the model was trained
on other clips of the same actor, usually including the same emotion. Recipe, number of training clips, and nested
choice of epoch and thresholds are the same. The gain is the benefit of knowing the actors, and the amount by which a
random split of clips is too optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.significance import FIGURES as METRICS
from blemore.tables import Table
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.features import Features
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.intervals import (
    FIGURES,
    Estimate,
    compare,
    estimate_figure,
    in_words,
    outcomes,
    reach,
)
from blemore_baselines.studies.objectives import by_thresholds
from blemore_baselines.studies.study import check_folds, signed

DEALS = 5
NAME_OF_METRIC = dict(zip(METRICS, FIGURES))
ByMetric = Mapping[str, Estimate]


def identity(
    dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int, signature: str, deals: int = DEALS
) -> Study:
    """Cross-validates over the dataset's folds and over actor-inclusive folds, with `deals` seeds starting at `seed`.

    features: aggregated, of the dataset's clips, in its order

    Raises ValidationError: fewer than three folds, a fold without blends, or no actor with enough clips for two folds.
    """
    check_folds(dataset, 3)
    if len(set(dataset.actors)) == len(dataset.ids):
        raise ValidationError(
            Problem(
                "no-shared-actors",
                "video_id",
                "every actor has a single clip; expected actors with several clips, to spread over folds",
            )
        )
    seeds = range(seed, seed + deals)
    datasets_of = {
        "disjoint": [dataset for _ in seeds],
        "inclusive": [dataset._replace(folds=deal(dataset, number)) for number in seeds],
    }
    runs = {
        name: [
            _outcomes(variant, features, recipe, head, number, f"actor-{name}, seed {number}")
            for variant, number in zip(datasets, seeds)
        ]
        for name, datasets in datasets_of.items()
    }
    means = {name: np.mean(records, axis=0) for name, records in runs.items()}
    single = {
        name: {metric: estimate_figure(records, dataset.actors, figure) for metric, figure in NAME_OF_METRIC.items()}
        for name, records in means.items()
    }
    gaps = {
        metric: compare(means["inclusive"], means["disjoint"], dataset.actors, name)
        for metric, name in NAME_OF_METRIC.items()
    }
    return Study(
        "identity",
        "The benefit of knowing the actors",
        {"folds": _table(head, single, gaps, runs)},
        {"gap": _draw(single, gaps, means, dataset.actors)},
        _findings(single, gaps, deals),
        _values({**single, "difference": gaps}, seeds),
        signature,
    )


def deal(dataset: Dataset, seed: int) -> np.ndarray:
    """Folds (N,) with the same sizes as the dataset's.

    Each actor's clips, and within them each label's, are spread over all folds as evenly as sizes allow.
    """
    rng = np.random.default_rng(seed)
    folds, sizes = np.unique(dataset.folds, return_counts=True)
    # Each fold's turns are evenly spaced in [0, 1); sorted together, they give the order in which folds take clips.
    turns = np.concatenate([(np.arange(size) + rng.random()) / size for size in sizes])
    owner = np.unique(dataset.actors, return_inverse=True)[1]
    clips = np.lexsort(
        (
            rng.random(len(owner)),
            rng.permutation(dataset.labels.max() + 1)[dataset.labels],
            rng.permutation(owner.max() + 1)[owner],
        )
    )
    shared = np.empty(len(owner), dtype=dataset.folds.dtype)
    shared[clips] = np.repeat(folds, sizes)[np.argsort(turns, kind="stable")]
    return shared


def _outcomes(dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int, title: str) -> np.ndarray:
    """Each clip's nested outcome (N, 4). `title` is for the progress bar."""
    logits = cross_validate(dataset, features, recipe, [head], [seed], title=title).logits[0, 0]
    return outcomes(by_thresholds(softmax(logits), dataset).labels, dataset.labels)


def _values(accounts: Mapping[str, ByMetric], seeds: Sequence[int]) -> dict:
    return {
        **{
            name: {metric: estimate.value for metric, estimate in account.items()} for name, account in accounts.items()
        },
        "estimates": {
            name: {metric: estimate._asdict() for metric, estimate in account.items()}
            for name, account in accounts.items()
        },
        "seeds": list(seeds),
    }


def _table(head: str, single: Mapping[str, ByMetric], gaps: ByMetric, runs: Mapping[str, list[np.ndarray]]) -> Table:
    deals = len(runs["disjoint"])
    rows = []
    for metric, name in NAME_OF_METRIC.items():
        inclusive, disjoint = (
            np.array([FIGURES[name](records.sum(axis=0)) for records in runs[folds]])
            for folds in ("inclusive", "disjoint")
        )
        spread = float(np.std(inclusive - disjoint, ddof=min(1, deals - 1)))
        intervals = (*single["disjoint"][metric][:3], *single["inclusive"][metric][:3])
        rows.append([metric, *intervals, *gaps[metric][:4], spread])
    return Table(
        f"{head}, nested: actor-disjoint and actor-inclusive folds, means over {deals} seeds; 95 % intervals over"
        " actors",
        (
            "figure",
            "disjoint",
            "low",
            "high",
            "inclusive",
            "low",
            "high",
            "difference",
            "low",
            "high",
            "p",
            "std over seeds",
        ),
        rows,
    )


def _findings(single: Mapping[str, ByMetric], gaps: ByMetric, deals: int) -> list[str]:
    score = gaps["score"]
    share = (
        f", or {abs(score.value / single['disjoint']['score'].value):.0%} of it"
        if single["disjoint"]["score"].value
        else ""
    )
    if score.beyond > 0:
        verdict = (
            "The model profits from knowing its actors, so a random split of clips would be too optimistic about new"
            " people."
        )
    elif score.beyond < 0:
        verdict = (
            "Knowing the actors does harm: if they play each label once, their training clips are evidence against the"
            " held-out label."
        )
    else:
        verdict = (
            "These clips do not show that the model profits from knowing its actors; the interval shows how large the"
            " effect may be."
        )
    return [
        "With the same actors in training and validation, "
        + "; ".join(
            f"{metric} changes from {single['disjoint'][metric].value:.3f} to {single['inclusive'][metric].value:.3f},"
            f" {in_words(gap)}"
            for metric, gap in gaps.items()
        )
        + ".",
        f"The score changes by {signed(score.value)}{share}. {verdict}",
        (f"Both are means over {deals} seeds, for training and for dealing clips to folds. Intervals are over actors."),
    ]


def _draw(
    single: Mapping[str, ByMetric], gaps: ByMetric, means: Mapping[str, np.ndarray], actors: Sequence[str]
) -> plots.Picture:
    """The figures with intervals, and each actor's presence when seen in training and when new."""
    canvas, axes = plots.figure(9.5, 4.2, columns=2, width_ratios=(1.25, 1))
    _draw_figures(axes[0, 0], single, gaps)
    _draw_actors(axes[0, 1], means, actors)
    return plots.picture(canvas)


def _draw_figures(axis: plots.Axes, single: Mapping[str, ByMetric], gaps: ByMetric) -> None:
    for shift, (name, mark) in zip((-0.12, 0.12), {"disjoint": "o", "inclusive": "D"}.items()):
        estimates = [single[name][metric] for metric in gaps]
        axis.errorbar(
            [estimate.value for estimate in estimates],
            np.arange(len(estimates)) + shift,
            xerr=reach(estimates),
            fmt=mark,
            color=plots.COLOURS[name == "inclusive"],
            capsize=3,
            markersize=6,
            label=f"actors {name}",
        )
    axis.set_yticks(range(len(gaps)), [f"{metric}\n{signed(gap.value)}" for metric, gap in gaps.items()])
    axis.set(
        ylim=(len(gaps) - 0.5, -0.5), xlabel="nested figure, 95 % interval over actors", title="effect of shared actors"
    )
    axis.set_xlim(left=0)
    axis.legend(frameon=False, loc="lower left", fontsize=9)


def _draw_actors(axis: plots.Axes, means: Mapping[str, np.ndarray], actors: Sequence[str]) -> None:
    names, owner = np.unique(actors, return_inverse=True)
    new, familiar = (np.bincount(owner, means[name][:, 1]) / np.bincount(owner) for name in ("disjoint", "inclusive"))
    top = max(familiar.max(), new.max()) * 1.08 or 1
    axis.plot([0, top], [0, top], color="0.6", linewidth=1, zorder=0)
    axis.scatter(new, familiar, s=22, color=plots.COLOURS[2], edgecolors="white", linewidths=0.5)
    axis.set(
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
        xlabel="presence when new",
        ylabel="presence when seen in training",
        title=f"each actor ({int((familiar > new).sum())} of {len(names)} gain)",
    )
