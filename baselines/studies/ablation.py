"""What each modality gives: video, audio and both, trained so; and a model of both that is left without one.

Trained without a modality, a model can make the most of the other one. At test time it cannot: that shows what
the model of both relies on. One modality's columns of the held-out clips are
- *zeroed*: each at the training's mean
- *noised*: each with Gaussian noise, as large as its standard deviation in training, on top
- *swapped*: those of another held-out clip, as if a video got someone else's sound
Noise and swaps are means over several draws. Noise is drawn for each column alone, so it averages out over many
columns that say the same, while a swap misleads all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.labels import PAIRS
from blemore_baselines.dataset import PAIR_OF_LABEL, Dataset
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.results.tables import Table
from blemore_baselines.studies.held_out import DISTURB, judge_all, judge_disturbed
from blemore_baselines.studies.intervals import FIGURES, Estimate, compare, draw, estimate, in_words
from blemore_baselines.studies.study import check_folds

REPEATS = 10
SINGLES = "single emotions"


def ablation(
    dataset: Dataset,
    video: Sequence[Features],
    audio: Sequence[Features],
    recipe: Recipe,
    head: str,
    seed: int,
    signature: str,
    repeats: int = REPEATS,
) -> Study:
    """Train on each modality and on both (early fusion), and disturb what the model of both gets.

    video, audio: one or several aggregated sources each, of the dataset's clips, in its order

    Raises ValidationError: a modality is missing, fewer than three folds, or a fold without blends.
    """
    missing = [name for name, its in (("video", video), ("audio", audio)) if not its]
    if missing:
        raise ValidationError(
            [
                Problem(
                    "missing-modality", name, "no features; expected at least one source", hint=f"Give --{name} PATH."
                )
                for name in missing
            ]
        )
    check_folds(dataset, 3)
    modalities = {"video": fuse(video), "audio": fuse(audio)}
    trained = {name: judge_all(dataset, its, recipe, head, seed, name) for name, its in modalities.items()}
    trained["both"], disturbed = judge_disturbed(dataset, modalities, recipe, head, seed, repeats)
    single = {
        name: {figure: estimate(its, dataset.actors, of) for figure, of in FIGURES.items()}
        for name, its in trained.items()
    }
    gains = {
        name: {figure: compare(trained["both"], trained[name], dataset.actors, figure) for figure in FIGURES}
        for name in modalities
    }
    pairs = {name: _by_pair(dataset, trained["both"], trained[name]) for name in modalities}
    losses = {
        key: {figure: compare(trained["both"], its, dataset.actors, figure) for figure in FIGURES}
        for key, its in disturbed.items()
    }
    group = _groups(dataset)
    rows = {
        "trained": [
            [name, *_values(its), *(gains[name]["score"] if name in gains else [None] * 4)]
            for name, its in trained.items()
        ],
        "pairs": [
            [
                name,
                int((group == name).sum()),
                *(float(its[group == name, 1].mean()) for its in trained.values()),
                *pairs["video"][name],
                *pairs["audio"][name],
            ]
            for name in pairs["video"]
        ],
        "disturbed": [
            ["nothing", *_values(trained["both"]), *[None] * 4],
            *(
                [f"{modality} {how}", *_values(its), *losses[modality, how]["score"]]
                for (modality, how), its in disturbed.items()
            ),
        ],
    }
    interval = ("low", "high", "p")
    tables = {
        "trained": Table(
            f"{head} trained on each modality, nested; what both gain over it, intervals over actors",
            ("trained on", *FIGURES, "score gained by both", *interval),
            rows["trained"],
        ),
        "pairs": Table(
            "Presence by pair of emotions, and what both gain",
            ("clips of", "clips", *trained, "over video", *interval, "over audio", *interval),
            rows["pairs"],
        ),
        "disturbed": Table(
            f"The model of both, one modality disturbed at test time, mean of {repeats} draws; what is lost",
            ("disturbed", *FIGURES, "score lost", *interval),
            rows["disturbed"],
        ),
    }
    told = lambda by_figure: {figure: its._asdict() for figure, its in by_figure.items()}  # noqa: E731
    values = {
        "trained": {name: told(its) for name, its in single.items()},
        "gained_by_both": {name: told(its) for name, its in gains.items()},
        "pairs": {name: told(its) for name, its in pairs.items()},
        "lost": {f"{modality} {how}": told(its) for (modality, how), its in losses.items()},
        "repeats": repeats,
    }
    drawn = {"pairs": _draw_pairs(pairs), "disturbed": _draw_disturbed(single, losses)}
    return Study(
        "ablation", "Video, audio, and both", tables, drawn, _findings(single, gains, pairs, losses), values, signature
    )


def _values(records: np.ndarray) -> list[float]:
    """The figures of records (N, 4)."""
    return [float(of(records.sum(axis=0))) for of in FIGURES.values()]


def _groups(dataset: Dataset) -> np.ndarray:
    """(N,): each clip's pair of emotions."""
    names = np.array([SINGLES, *("+".join(pair) for pair in PAIRS)])
    return names[1 + PAIR_OF_LABEL[dataset.labels]]


def _by_pair(dataset: Dataset, both: np.ndarray, alone: np.ndarray) -> dict[str, Estimate]:
    """The presence that both gain over one modality, on the clips of each pair and on the single emotions."""
    group, actors = _groups(dataset), np.array(dataset.actors)
    there = [name for name in (*("+".join(pair) for pair in PAIRS), SINGLES) if (group == name).any()]
    return {
        name: compare(both[group == name], alone[group == name], actors[group == name], "presence") for name in there
    }


def _findings(
    single: Mapping, gains: Mapping, pairs: Mapping[str, Mapping[str, Estimate]], losses: Mapping
) -> list[str]:
    better = max(gains, key=lambda name: single[name]["score"].value)
    sure = {name: [pair for pair, its in by_pair.items() if its.beyond > 0] for name, by_pair in pairs.items()}
    below = [pair for pair, its in pairs[better].items() if its.value < 0]
    for_whom = lambda name: (
        f"over {name} for {', '.join(sure[name]) or 'none'} ({len(sure[name])} of {len(pairs[name])})"
    )
    alone = lambda name: single[name]["score"].value  # noqa: E731
    left = lambda modality: alone("both") - losses[modality, "zeroed"]["score"].value  # noqa: E731
    most = max(losses, key=lambda key: losses[key]["score"].value)
    return [
        "Trained on "
        + ", ".join(f"{name}: score {its['score'].value:.3f}" for name, its in single.items())
        + ". "
        + " ".join(
            f"Both gain over {name}: {'; '.join(f'{figure} {in_words(its)}' for figure, its in by_figure.items())}."
            for name, by_figure in gains.items()
        ),
        (
            f"Beyond chance, presence gains {for_whom('video')}, and {for_whom('audio')}. Beside {better}, the better"
            f" one alone, both are behind for {', '.join(below) or 'no pair'}. Each is a comparison of its own: of"
            f" {sum(map(len, pairs.values()))}, one in forty seems to gain by chance."
        ),
        "The model of both loses score with "
        + "; ".join(f"{modality} {how} {in_words(its['score'])}" for (modality, how), its in losses.items())
        + ".",
        (f"It loses most with {' '.join(most)}." if losses[most]["score"].value > 0 else "It loses with none of these.")
        + f" With audio zeroed it is left with {left('audio'):.3f}, and training on video alone gives"
        f" {alone('video'):.3f}; with video zeroed {left('video'):.3f}, and on audio alone {alone('audio'):.3f}.",
    ]


def _draw_pairs(pairs: Mapping[str, Mapping[str, Estimate]]) -> bytes:
    made, axes = plots.figure(8.5, 4.6)
    for k, (name, by_pair) in enumerate(pairs.items()):
        draw(
            axes[0, 0],
            list(by_pair),
            list(by_pair.values()),
            plots.COLOURS[k],
            f"over {name} alone",
            shift=0.24 * k - 0.12,
        )
    axes[0, 0].set(xlabel="presence gained by both, 95 % interval over actors")
    axes[0, 0].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return plots.png(made)


def _draw_disturbed(single: Mapping, losses: Mapping) -> bytes:
    """What is left of each figure, and lost with its interval."""
    made, axes = plots.figure(11, 3.3, columns=len(FIGURES), sharey=True)
    for axis, figure in zip(axes[0], FIGURES):
        for k, modality in enumerate(("video", "audio")):
            its = [losses[modality, how][figure] for how in DISTURB]
            draw(axis, list(DISTURB), its, plots.COLOURS[k], modality, shift=0.24 * k - 0.12)
        axis.set(xlabel=f"{figure} lost", title=f"{figure}: {single['both'][figure].value:.3f} undisturbed")
    axes[0, -1].legend(frameon=False, title="disturbed", loc="upper left", bbox_to_anchor=(1, 1))
    return plots.png(made)
