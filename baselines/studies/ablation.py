"""What each modality contributes: models trained on video, on audio and on both; and a model of both that loses one at
test time.

A model trained without a modality can make the most of the other one. A model that loses it at test time cannot, which
shows what the model of both relies on. The columns of one modality of the held-out clips are
- *zeroed*: set to the training mean
- *noised*: Gaussian noise is added, with each column's standard deviation in training
- *swapped*: taken from another held-out clip, as if a video had someone else's sound
Results for noise and swaps are means over several draws. Noise is independent per column, so it averages out over
redundant columns, while a swap misleads all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.labels import PAIRS
from blemore.tables import Cell, Table
from blemore_baselines.dataset import PAIR_OF_LABEL, Dataset
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.results import plots
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies.held_out import DISTURB, judge_all, judge_disturbed
from blemore_baselines.studies.intervals import (
    COLUMNS,
    FIGURES,
    Estimate,
    cells,
    compare,
    draw,
    estimate_figure,
    estimate_figures,
    in_words,
)
from blemore_baselines.studies.study import check_folds

REPEATS = 10
INTERVAL = ("low", "high", "p")
SINGLES = "single emotions"
ByName = Mapping[str, Estimate]  # by figure, or by pair
ByDisturbance = Mapping[tuple[str, str], ByName]  # (modality, way of disturbing it) → figures


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
    """Trains on each modality and on both (early fusion), and disturbs the input of the model of both.

    video, audio: one or more aggregated sources each, of the dataset's clips, in its order

    Raises ValidationError: a modality is missing, fewer than three folds, or a fold without blends.
    """
    missing = [name for name, sources in (("video", video), ("audio", audio)) if not sources]
    if missing:
        raise ValidationError([_missing(name) for name in missing])
    check_folds(dataset, 3)
    modalities = {"video": fuse(video), "audio": fuse(audio)}
    alone = {name: judge_all(dataset, features, recipe, head, seed, name) for name, features in modalities.items()}
    both, disturbed = judge_disturbed(dataset, modalities, recipe, head, seed, repeats)
    records = {**alone, "both": both}
    single = {name: estimate_figures(rows, dataset.actors) for name, rows in records.items()}
    disturbed_figures = {key: estimate_figures(rows, dataset.actors) for key, rows in disturbed.items()}
    gains = {name: _compare(dataset, both, rows) for name, rows in alone.items()}
    pairs = {name: _by_pair(dataset, both, rows) for name, rows in alone.items()}
    losses = {key: _compare(dataset, both, rows) for key, rows in disturbed.items()}
    tables = {
        "trained": _gains_table(head, single, gains),
        "pairs": _pairs_table(dataset, records),
        "pairs_gained": _pairs_gained_table(pairs),
        "disturbed": _losses_table(single["both"], disturbed_figures, losses, repeats),
    }
    values = {
        "trained": _dicts(single),
        "gained_by_both": _dicts(gains),
        "pairs": _dicts(pairs),
        "lost": _dicts(
            {f"{modality} {disturbance}": by_figure for (modality, disturbance), by_figure in losses.items()}
        ),
        "repeats": repeats,
    }
    figures = {"pairs": _draw_pairs(pairs), "disturbed": _draw_disturbed(single["both"], losses)}
    findings = _findings(single, gains, pairs, losses)
    return Study("ablation", "Video, audio, and both", tables, figures, findings, values, signature)


def _missing(modality: str) -> Problem:
    return Problem(
        "missing-modality",
        modality,
        "no features; expected at least one source",
        hint=f"Give --{modality} PATH.",
    )


def _compare(dataset: Dataset, both: np.ndarray, records: np.ndarray) -> ByName:
    """The gain of the model of both over other records (N, 4), by figure."""
    return {figure: compare(both, records, dataset.actors, figure) for figure in FIGURES}


def _dicts(estimates: Mapping[str, ByName]) -> dict[str, dict[str, dict]]:
    return {key: {name: figure._asdict() for name, figure in by_name.items()} for key, by_name in estimates.items()}


def _gains_table(head: str, single: Mapping[str, ByName], gains: Mapping[str, ByName]) -> Table:
    return Table(
        f"{head} trained on each modality, nested; the gain of both over it, intervals over actors",
        ("trained on", *COLUMNS, "score gained by both", *INTERVAL),
        [
            [name, *cells(by_figure), *(gains[name]["score"][:4] if name in gains else [None] * 4)]
            for name, by_figure in single.items()
        ],
    )


def _pairs_table(dataset: Dataset, records: Mapping[str, np.ndarray]) -> Table:
    rows: list[list[Cell]] = []
    for name, inside in _groups(dataset).items():
        actors = np.array(dataset.actors)[inside].tolist()
        presence = [estimate_figure(outcomes[inside], actors, "presence") for outcomes in records.values()]
        rows.append([name, int(inside.sum()), *(cell for estimate in presence for cell in estimate[:3])])
    columns = (column for name in records for column in (name, "low", "high"))
    title = "Presence by pair of emotions, nested, for models of each modality; intervals over actors"
    return Table(title, ("clips of", "clips", *columns), rows)


def _pairs_gained_table(pairs: Mapping[str, ByName]) -> Table:
    return Table(
        "Presence gained by the model of both, by pair of emotions; intervals over actors",
        ("clips of", "over video", *INTERVAL, "over audio", *INTERVAL),
        [[name, *pairs["video"][name][:4], *pairs["audio"][name][:4]] for name in pairs["video"]],
    )


def _losses_table(both: ByName, disturbed_figures: ByDisturbance, losses: ByDisturbance, repeats: int) -> Table:
    rows: list[list[Cell]] = [["nothing", *cells(both), *[None] * 4]]
    rows += [
        [" ".join(key), *cells(by_figure), *losses[key]["score"][:4]] for key, by_figure in disturbed_figures.items()
    ]
    return Table(
        f"The model of both with one modality disturbed at test time, nested, mean of {repeats} draws; score lost, with"
        " intervals over actors",
        ("disturbed", *COLUMNS, "score lost", *INTERVAL),
        rows,
    )


def _groups(dataset: Dataset) -> dict[str, np.ndarray]:
    """Masks (N,) of the clips of each pair of emotions, and of single emotions, if there are any."""
    pair = PAIR_OF_LABEL[dataset.labels]
    clips = {"+".join(names): pair == number for number, names in enumerate(PAIRS)} | {SINGLES: pair < 0}
    return {name: inside for name, inside in clips.items() if inside.any()}


def _by_pair(dataset: Dataset, both: np.ndarray, alone: np.ndarray) -> dict[str, Estimate]:
    """The presence gained by the model of both over one modality, for each pair and for single emotions."""
    actors = np.array(dataset.actors)
    return {
        name: compare(both[inside], alone[inside], actors[inside].tolist(), "presence")
        for name, inside in _groups(dataset).items()
    }


def _findings(
    single: Mapping[str, ByName],
    gains: Mapping[str, ByName],
    pairs: Mapping[str, ByName],
    losses: ByDisturbance,
) -> list[str]:
    return [
        _gains_in_words(single, gains),
        _pairs_in_words(single, pairs),
        "Score lost by the model of both: "
        + "; ".join(
            f"{modality} {disturbance}, {in_words(loss['score'])}" for (modality, disturbance), loss in losses.items()
        )
        + ".",
        _reliance_in_words(single, losses),
    ]


def _gains_in_words(single: Mapping[str, ByName], gains: Mapping[str, ByName]) -> str:
    scores = ", ".join(f"{name}: score {figures['score'].value:.3f}" for name, figures in single.items())
    sentences = [
        f"Gain of both over {name}: {'; '.join(f'{figure} {in_words(gain)}' for figure, gain in by_figure.items())}."
        for name, by_figure in gains.items()
    ]
    return f"Trained on {scores}. {' '.join(sentences)}"


def _pairs_in_words(single: Mapping[str, ByName], pairs: Mapping[str, ByName]) -> str:
    better = max(pairs, key=lambda name: single[name]["score"].value)
    behind = [pair for pair, gain in pairs[better].items() if gain.value < 0]
    over = {}
    for name, by_pair in pairs.items():
        sure = [pair for pair, gain in by_pair.items() if gain.beyond > 0]
        over[name] = f"over {name} for {', '.join(sure) or 'none'} ({len(sure)} of {len(by_pair)})"
    return (
        f"The model of both gains presence beyond chance {over['video']}, and {over['audio']}. Compared with {better},"
        f" the better single modality, it is worse for {', '.join(behind) or 'no pair'}. Each comparison is tested"
        f" separately: of {sum(map(len, pairs.values()))}, one in forty appears to gain by chance."
    )


def _reliance_in_words(single: Mapping[str, ByName], losses: ByDisturbance) -> str:
    score = {name: figures["score"].value for name, figures in single.items()}
    rest = {name: score["both"] - losses[name, "zeroed"]["score"].value for name in ("video", "audio")}
    worst = max(losses, key=lambda key: losses[key]["score"].value)
    verdict = (
        f"It loses most with {' '.join(worst)}." if losses[worst]["score"].value > 0 else "It loses with none of these."
    )
    return (
        f"{verdict} With audio zeroed it scores {rest['audio']:.3f}, while a model trained on video alone scores"
        f" {score['video']:.3f}; with video zeroed {rest['video']:.3f}, trained on audio alone {score['audio']:.3f}."
    )


def _draw_pairs(pairs: Mapping[str, ByName]) -> plots.Picture:
    canvas, axes = plots.figure(8.5, 4.6)
    axis = axes[0, 0]
    for k, (name, by_pair) in enumerate(pairs.items()):
        gains = list(by_pair.values())
        draw(axis, list(by_pair), gains, plots.COLOURS[k], f"over {name} alone", shift=0.24 * k - 0.12)
    axis.set(xlabel="presence gained by both, 95 % interval over actors")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return plots.picture(canvas)


def _draw_disturbed(both: ByName, losses: ByDisturbance) -> plots.Picture:
    """The loss of each figure, with intervals."""
    canvas, axes = plots.figure(11, 3.3, columns=len(FIGURES), sharey=True)
    for axis, figure in zip(axes[0], FIGURES):
        for k, modality in enumerate(("video", "audio")):
            estimates = [losses[modality, disturbance][figure] for disturbance in DISTURB]
            draw(axis, list(DISTURB), estimates, plots.COLOURS[k], modality, shift=0.24 * k - 0.12)
        axis.set(xlabel=f"{figure} lost", title=f"{figure}: {both[figure].value:.3f} undisturbed")
    axes[0, -1].legend(frameon=False, title="disturbed", loc="upper left", bbox_to_anchor=(1, 1))
    return plots.picture(canvas)
