"""Figures, as PNG bytes. The one module that imports matplotlib; colours can be told apart by the colour-blind."""

from __future__ import annotations

import io
from collections import Counter
from typing import Mapping, Optional, Sequence

import numpy as np

from blemore.labels import EMOTION_NAMES, EMOTIONS, LABELS, PAIRS
from blemore_baselines.dataset import Dataset
from blemore_baselines.decode import count
from blemore_baselines.media import SAMPLE_RATE, Clip
from blemore_baselines.thresholds import Thresholds, decode_thresholds, fit_exact, fit_grid

# Okabe and Ito 2008, darkest first
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options):
    """A figure (inches) and its axes (rows, columns), without a display and without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(rows, columns, squeeze=False, **options)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
    return made, axes


def png(made) -> bytes:
    """The same figure gives the same bytes."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


# ------------------------------------------------------------------- clips, labels, features


def clip_strip(clip: Clip, title: str) -> bytes:
    """A clip at a glance: frames, waveform and log-mel spectrogram over the same seconds. Raises MediaError."""
    from blemore_baselines.encoders.logmel import LogMel  # which imports transformers, and that takes seconds

    sound, mels = clip.audio(), LogMel().encode(clip)
    step = lambda frame: max(1, min(frame.shape[:2]) // 200)  # noqa: E731
    frames = [frame[:: step(frame), :: step(frame)].copy() for frame in clip.frames()]  # small, so that a long clip fits
    shown = max(3, round(8 * frames[0].shape[0] / frames[0].shape[1]))
    strip = np.hstack([np.pad(frames[int((k + 0.5) * len(frames) / shown)], ((0, 0), (1, 1), (0, 0)), constant_values=255) for k in range(shown)])
    seconds = max(len(sound) / SAMPLE_RATE, len(frames) / (clip.fps or 25))
    made, axes = figure(9.5, 3.9, rows=3, sharex=True, height_ratios=(1.35, 0.8, 1.2))
    pictures, wave, spectrum = axes[:, 0]
    pictures.imshow(strip, extent=(0, seconds, 0, 1), aspect="auto")
    pictures.set_axis_off()
    pictures.set_title(title, loc="left", fontsize=11)
    edges = np.linspace(0, len(sound), 1000, endpoint=False).astype(int)
    wave.fill_between(edges / SAMPLE_RATE, np.minimum.reduceat(sound, edges), np.maximum.reduceat(sound, edges), color=COLOURS[0], linewidth=0.5)
    wave.set(ylabel="amplitude", xlim=(0, seconds))
    spectrum.imshow(mels.T, origin="lower", aspect="auto", cmap="magma", extent=(0, len(sound) / SAMPLE_RATE, 0, len(mels[0])), vmin=mels.max() - 11)
    mel = lambda hertz: np.log1p(np.asarray(hertz) / 700)  # noqa: E731
    kilohertz = np.array([0.5, 1, 2, 4])
    spectrum.set_yticks((mel(1000 * kilohertz) - mel(30)) / (mel(8000) - mel(30)) * len(mels[0]), [f"{value:g}" for value in kilohertz])
    spectrum.set(xlabel="seconds", ylabel="kHz")
    return png(made)


def label_counts(labels: np.ndarray) -> bytes:
    """How many clips each single emotion has, and each pair by salience. labels: (N,) indices."""
    count = np.bincount(labels, minlength=len(LABELS))
    made, axes = figure(9.5, 4.2, columns=2, width_ratios=(1, 1.7))
    singles, pairs = axes[0]
    _stack(singles, [EMOTION_NAMES[emotion] for emotion in EMOTIONS], [count[: len(EMOTIONS)]], [COLOURS[2]])
    singles.set(title=f"single emotions: {count[:len(EMOTIONS)].sum():,} clips", xlabel="clips")
    by_salience = count[len(EMOTIONS) :].reshape(len(PAIRS), -1).T
    _stack(pairs, [" + ".join(EMOTION_NAMES[emotion] for emotion in pair) for pair in PAIRS], by_salience, [COLOURS[0], COLOURS[5], COLOURS[4]])
    pairs.set(title=f"blends: {by_salience.sum():,} clips", xlabel="clips")
    made.legend(pairs.containers, ["70/30", "50/50", "30/70"], loc="outside lower right", ncols=3, frameon=False)
    return png(made)


def _stack(axes, names: Sequence[str], parts: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Horizontal bars of so many parts, each with its number; the first name at the top."""
    start = np.zeros(len(names))
    for part, colour in zip(parts, colours):
        bars = axes.barh(names, part, left=start, color=colour)
        axes.bar_label(bars, [f"{value:,}" if value else "" for value in part], label_type="center", fontsize=8, color="black" if colour in COLOURS[4:6] else "white")
        start += part
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def actors_by_fold(dataset: Dataset) -> bytes:
    """How many clips each actor has, singles and blends, fold by fold."""
    actors = sorted({*zip(dataset.folds.tolist(), dataset.actors)})
    blend = dataset.labels >= len(EMOTIONS)
    counts = [Counter(actor for actor, is_one in zip(dataset.actors, kind) if is_one) for kind in (~blend, blend)]
    made, axes = figure(9.5, 3.3)
    axes = axes[0, 0]
    names, base = [actor for _, actor in actors], np.zeros(len(actors))
    for name, count, colour in zip(("single emotions", "blends"), counts, (COLOURS[2], COLOURS[0])):
        height = np.array([count[actor] for actor in names])
        axes.bar(range(len(names)), height, bottom=base, color=colour, label=name, width=0.75, zorder=2)
        base += height
    for fold in np.unique(dataset.folds):
        places = [k for k, (its, _) in enumerate(actors) if its == fold]
        axes.axvspan(places[0] - 0.5, places[-1] + 0.5, color="#000000", alpha=0.06 * (int(fold) % 2), linewidth=0, zorder=0)
        axes.text(np.mean(places), base.max() * 1.06, f"fold {fold}\n{(dataset.folds == fold).sum():,} clips", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, base.max() * 1.25), ylabel="clips", xlabel="actor")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    return png(made)


def actor_and_emotion(X: np.ndarray, dataset: Dataset, title: str) -> bytes:
    """Features (N, D) on their two main axes: each clip tied to its actor's mean, and each single to its emotion's."""
    standard = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    values, vectors = np.linalg.eigh(standard @ standard.T)  # of (N, N): D can be ten times as large
    places = vectors[:, :-3:-1] * np.sqrt(values[:-3:-1])
    made, axes = figure(9.5, 4.3, columns=2, sharex=True, sharey=True)
    by_actor, by_emotion = axes[0]
    actors = np.array(dataset.actors)
    for number, actor in enumerate(sorted({*dataset.actors})):
        _tie(by_actor, places[actors == actor], COLOURS[number % len(COLOURS)])
    for number, emotion in enumerate(EMOTIONS):  # a single's label is its emotion's index
        _tie(by_emotion, places[dataset.labels == number], COLOURS[number], EMOTION_NAMES[emotion])
    by_actor.set(title=f"{title}, by actor", xlabel="first component", ylabel="second component")
    by_emotion.set(title="the same, single emotions by emotion", xlabel="first component")
    by_emotion.legend(fontsize=8, framealpha=0.9)
    return png(made)


def _tie(axes, points: np.ndarray, colour: str, name: Optional[str] = None) -> None:
    """Points (n, 2), each with a line to their mean."""
    centre = points.mean(axis=0)
    for point in points:
        axes.plot(*zip(centre, point), color=colour, alpha=0.3, linewidth=0.7)
    axes.scatter(*points.T, color=colour, s=7, linewidths=0)
    axes.scatter(*centre, color=colour, s=60, edgecolors="white", zorder=3, label=name)


# ------------------------------------------------------------------------------- decoding


def decisions(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> bytes:
    """The threshold rule on probabilities (N, 6): which clips it takes for what, and the score of all α and β.

    Left: each clip where the rule sees it, marked by the decision that would be right, with the best (α, β) of the
    published grid. Right: the score, the exact optimum with its plateau, and by its number each fold's own best.
    """
    made, axes = figure(9.5, 4.5, columns=2)
    _decision_map(axes[0, 0], probabilities, labels)
    surface, alphas, betas = axes[0, 1], np.linspace(0, 0.5, 26), np.linspace(0, 1, 41)
    scores = [[count(decode_thresholds(probabilities, Thresholds(alpha, beta)), labels).score for alpha in alphas] for beta in betas]
    made.colorbar(surface.pcolormesh(alphas, betas, scores, cmap="cividis", shading="nearest"), ax=surface, label="score")
    best = fit_exact(probabilities, labels)
    (left, right), (bottom, top) = np.clip(best.alpha, 0, 0.5), np.clip(best.beta, 0, 1)
    surface.fill([left, right, right, left], [bottom, bottom, top, top], facecolor="none", edgecolor="white", linewidth=1.5)
    surface.plot(*best.thresholds, marker="*", color="white", markeredgecolor="black", markersize=15, linestyle="none", label=f"best of all: {best.score:.3f}", zorder=3)
    for fold in np.unique(folds):
        own, _ = fit_grid(probabilities[folds == fold], labels[folds == fold])
        surface.text(min(own.alpha, 0.49), own.beta, str(fold), color="white", fontsize=9, weight="bold", ha="center", va="center",
                     bbox={"boxstyle": "circle,pad=0.2", "facecolor": COLOURS[1], "edgecolor": "white"})
    surface.legend(loc="upper right", fontsize=8, framealpha=0.9)
    surface.set(xlabel="α", ylabel="β", title="score of every α and β (circles: best of a fold)", xlim=(-0.01, 0.51), ylim=(-0.0125, 1.0125))
    return png(made)


def _decision_map(axes, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Clips by the second probability and the lead of the first, in the regions of the threshold rule."""
    (alpha, beta), _ = fit_grid(probabilities, labels)
    ordered = -np.sort(-probabilities, axis=1)
    second, lead = ordered[:, 1], ordered[:, 0] - ordered[:, 1]
    always = {"single": Thresholds(2, 0), "50/50": Thresholds(0, 2), "70/30": Thresholds(0, -1)}
    right = {name: decode_thresholds(probabilities, its) == labels for name, its in always.items()}
    none, size = ~np.any(list(right.values()), axis=0), np.clip(4000 / len(labels), 5, 20)
    axes.scatter(second[none], lead[none], s=size / 2, color="#bbbbbb", linewidths=0, label=f"none of them ({none.sum():,})")
    for (name, its), colour, marker in zip(right.items(), (COLOURS[2], COLOURS[4], COLOURS[0]), "o^s"):
        axes.scatter(second[its], lead[its], s=size, color=colour, marker=marker, linewidths=0, label=f"{name} ({its.sum():,})")
    axes.plot([0, 0.5], [1, 0], color="#888888", linewidth=0.8, linestyle=":")  # beyond it, two probabilities sum to more than 1
    axes.plot([alpha, alpha], [0, max(1 - 2 * alpha, 0)], color="black", linewidth=1.2)
    axes.plot([alpha, max((1 - beta) / 2, alpha)], [beta, beta], color="black", linewidth=1.2)
    for text, y in (("70/30", (beta + max(1 - 2 * alpha, beta)) / 2), ("50/50", min(beta, 1 - 2 * alpha) / 2)):
        axes.text((1 - y) / 2 + 0.02, y, text, va="center", weight="bold")
    axes.text(0.02, 1.04, "single", va="center", weight="bold")
    axes.set(xlabel="second largest probability (line: α)", ylabel="lead of the largest (line: β)", xlim=(0, 0.6), ylim=(0, 1.08), title="what the rule sees and decides")
    axes.legend(title="what would be right", fontsize=8, title_fontsize=8, loc="upper right")


def one_posterior(probabilities: np.ndarray, posterior: np.ndarray, chosen: int, truth: int, most: int = 10) -> bytes:
    """One clip: its six probabilities (6,), and the likeliest labels of its posterior (36,); chosen, truth: label indices."""
    made, axes = figure(9.5, 3.4, columns=2, width_ratios=(1, 1.6))
    emotions, labels = axes[0]
    _bars(emotions, [EMOTION_NAMES[emotion] for emotion in EMOTIONS], probabilities, [COLOURS[5]] * len(EMOTIONS))
    emotions.set(title="what the model says", xlabel="probability of the emotion")
    top = [label for label in np.argsort(-posterior, kind="stable")[:most]]
    top += [label for label in (chosen, truth) if label not in top]
    told = {chosen: "chosen", truth: "true"} if chosen != truth else {chosen: "chosen, and true"}
    _bars(labels, [f"{LABELS[label]}{f'  ← {told[label]}' if label in told else ''}" for label in top], posterior[top],
          [COLOURS[1] if label == chosen else COLOURS[2] if label == truth else COLOURS[5] for label in top])
    labels.set(title="what that means for whole labels", xlabel="probability of the label")
    return png(made)


def _bars(axes, names: Sequence[str], values: np.ndarray, colours: Sequence[str]) -> None:
    axes.bar_label(axes.barh(range(len(names)), values, color=colours), fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)


def intervals(rows: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[Optional[tuple]]]], xlabel: str, footnote: str) -> bytes:
    """Dots with error bars, a line for each of `rows` and a panel a metric.

    panels: title → series → (mean, deviation) a row; None where there is none of either
    """
    made, axes = figure(4.6 * len(panels) + 1.6, 1.9 + 0.44 * max(len(rows), 1), columns=len(panels), sharey=True)
    for one, (title, series) in zip(axes[0], panels.items()):
        for k, (name, points) in enumerate(series.items()):
            offset = 0.22 * (k - (len(series) - 1) / 2)
            there = [(row + offset, *point) for row, point in enumerate(points) if point and point[0] is not None]
            y, mean, deviation = zip(*there) if there else ((), (), ())
            one.errorbar(mean, y, xerr=[d or 0 for d in deviation], fmt="os^Dv"[k % 5], color=COLOURS[k % len(COLOURS)], markersize=5, linewidth=1.2, label=name)
        one.set(title=title, xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
        one.set_xlim(left=0)
        one.set_yticks(range(len(rows)), rows)
        one.grid(axis="x", alpha=0.25)
        one.tick_params(axis="y", length=0)
    handles, names = axes[0, 0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    made.supxlabel(footnote, fontsize=6, color="#5b6675")
    return png(made)


# ------------------------------------------------------------------------- reliability


def reliability(calibration: Mapping) -> bytes:
    """What structured decoding expects of clips against what came true, in ten bins of as many clips each.

    calibration: as `blemore_baselines.decoders.structured` tells it, with the bins of `sets` and `scores`
    """
    made, axes = figure(8.6, 4.3, columns=2)
    panels = (
        ("sets", "the chosen set is right", "probability", "share of clips", calibration["set_error"]),
        ("scores", "what a clip adds to the score", "expected", "reached", calibration["score_error"]),
    )
    for one, (name, title, expected, reached, error) in zip(axes[0], panels):
        bins = calibration[name]
        end = 1.08 * max(max(its["expected"], its["reached"]) for its in bins) or 1
        one.plot([0, end], [0, end], color="0.6", linewidth=1, linestyle="--", label="as it should be")
        one.plot([its["expected"] for its in bins], [its["reached"] for its in bins], color=COLOURS[0], marker="o", label=f"a tenth of the clips; off by {error:.3f}")
        one.set(title=title, xlabel=f"{expected} (mean of the bin)", ylabel=reached, xlim=(0, end), ylim=(0, end), aspect="equal")
        one.legend(frameon=False, fontsize=8, loc="upper left")
    return png(made)
