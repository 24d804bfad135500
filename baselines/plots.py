"""Figures, as PNG bytes. The one module that imports matplotlib; colours can be told apart by the colour-blind."""

from __future__ import annotations

import io
from collections import Counter
from typing import Mapping, Optional, Sequence

import numpy as np
import pandas as pd

from blemore.labels import EMOTION_NAMES, EMOTIONS, LABELS, PAIRS
from blemore_baselines.dataset import IS_BLEND, Dataset
from blemore_baselines.media import SAMPLE_RATE, Clip
from blemore_baselines.stability import ALPHAS, BETAS, NEAR, Stability
from blemore_baselines.thresholds import Thresholds, decode_thresholds, fit_exact, surface

# Okabe and Ito 2008, darkest first
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STAR = {"marker": "*", "color": "white", "markeredgecolor": "black", "markersize": 10, "linestyle": "none"}


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
    blend = IS_BLEND[dataset.labels]
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
    """Features (N, D) on their two main axes: left, clips tied to their actor's mean, of six actors; right, singles tied to their emotion's."""
    standard = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    products, axis = standard @ standard.T, np.random.default_rng(0).normal(size=(len(X), 2)).astype(X.dtype)
    for _ in range(300):  # subspace iteration: of thousands of clips, all the other axes would take half a minute
        axis, _ = np.linalg.qr(products @ axis)
    places = axis * np.sqrt(np.sum(axis * (products @ axis), axis=0))
    actors, all_actors = np.array(dataset.actors), sorted({*dataset.actors})
    by_actor = {actor: actors == actor for actor in all_actors[: len(EMOTIONS)]}  # as many as there are colours that can be told apart
    by_emotion = {EMOTION_NAMES[emotion]: dataset.labels == label for label, emotion in enumerate(EMOTIONS)}  # a single's label is its emotion's index
    made, axes = figure(9.5, 4.9, columns=2, sharex=True, sharey=True)
    for one, groups, told in zip(axes[0], (by_actor, by_emotion), (f"{len(by_actor)} of {len(all_actors)} actors", "single emotions")):
        one.scatter(*places.T, color="#d0d0d0", s=5, linewidths=0)
        for (name, its), colour, marker in zip(groups.items(), COLOURS, "os^DvP"):
            _tie(one, places[its], colour, marker, name)
        one.set(title=told, xlabel="first component")
        one.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False, fontsize=9)
    axes[0, 0].set_ylabel("second component")
    made.suptitle(title, fontsize=11)
    return png(made)


def _tie(axes, points: np.ndarray, colour: str, marker: str, name: str) -> None:
    """Points (n, 2), each with a line to their mean: the more lines, the fainter."""
    centre = points.mean(axis=0)
    ends = np.stack([np.broadcast_to(centre, points.shape), points, np.full(points.shape, np.nan)], axis=1)
    axes.plot(*ends.reshape(-1, 2).T, color=colour, alpha=float(np.clip(15 / len(points), 0.18, 0.4)), linewidth=0.8)
    axes.scatter(*points.T, color=colour, marker=marker, s=9, linewidths=0)
    axes.scatter(*centre, color=colour, marker=marker, s=75, edgecolors="black", linewidths=0.9, zorder=3, label=name)


# ------------------------------------------------------------------------------- decoding


def decisions(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> bytes:
    """The threshold rule on probabilities (N, 6): which clips it takes for what, and the score of all α and β.

    Left: each clip where the rule sees it, marked by the decision that would be right, in the regions of the best α and β.
    Right: as in `threshold_map`, which marks these with a star.
    """
    made, axes = figure(9.5, 4.5, columns=2)
    best = fit_exact(probabilities, labels)
    _decision_map(axes[0, 0], probabilities, labels, best.thresholds)
    own = {int(fold): fit_exact(probabilities[folds == fold], labels[folds == fold]).thresholds for fold in np.unique(folds)}
    _score_map(made, axes[0, 1], surface(probabilities, labels, ALPHAS, BETAS).score, best.thresholds, best.score, own)
    return png(made)


def _decision_map(axes, probabilities: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> None:
    """Clips by the second probability and the lead of the first, in the regions of the threshold rule."""
    ordered = -np.sort(-probabilities, axis=1)
    second, lead = ordered[:, 1], ordered[:, 0] - ordered[:, 1]
    always = {"single": Thresholds(2, 0), "50/50": Thresholds(0, 2), "70/30": Thresholds(0, -1)}
    right = {name: decode_thresholds(probabilities, its) == labels for name, its in always.items()}
    none, size = ~np.any(list(right.values()), axis=0), np.clip(4000 / len(labels), 5, 20)
    axes.scatter(second[none], lead[none], s=size / 2, color="#bbbbbb", linewidths=0, label=f"none of them ({none.sum():,})")
    for (name, its), colour, marker in zip(right.items(), (COLOURS[2], COLOURS[4], COLOURS[0]), "o^s"):
        axes.scatter(second[its], lead[its], s=size, color=colour, marker=marker, linewidths=0, label=f"{name} ({its.sum():,})")
    axes.plot([0, 0.5], [1, 0], color="#888888", linewidth=0.8, linestyle=":")  # beyond it, two probabilities sum to more than 1
    alpha = min(thresholds.alpha, 0.5)
    top = 1 - 2 * alpha  # of the blends: the largest lead over a second probability of α
    beta = min(max(thresholds.beta, 0), top)
    axes.plot([alpha, alpha], [0, top], color="black", linewidth=1.2)
    axes.plot([alpha, (1 - beta) / 2], [beta, beta], color="black", linewidth=1.2)
    for text, low, high in (("50/50", 0, beta), ("70/30", beta, top)):
        if low < high:
            axes.text((1 - (low + high) / 2) / 2 + 0.02, (low + high) / 2, text, va="center", weight="bold")
    axes.text(0.02, 1.04, "single", va="center", weight="bold")
    axes.set(xlabel="second largest probability (line: α of the star)", ylabel="lead of the largest (line: β of the star)", xlim=(0, 0.6), ylim=(0, 1.08), title="what the rule sees and decides")
    axes.legend(title="what would be right", fontsize=8, title_fontsize=8, loc="upper right", markerscale=np.sqrt(20 / size))


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
    made, axes = figure(4.6 * len(panels) + 1.6, 2.3 + 0.44 * len(rows), columns=len(panels), sharey=True)
    for one, (title, series) in zip(axes[0], panels.items()):
        for k, (name, points) in enumerate(series.items()):
            offset = 0.22 * (k - (len(series) - 1) / 2)
            there = [(row + offset, *point) for row, point in enumerate(points) if point and point[0] is not None]
            if not there:
                continue
            y, mean, deviation = zip(*there)
            one.errorbar(mean, y, xerr=[d or 0 for d in deviation], fmt="os^Dv"[k % 5], color=COLOURS[k % len(COLOURS)], markersize=5, linewidth=1.2, label=name,
                         clip_on=False)  # a dot at 0 is a whole dot
        one.set(title=title, xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
        one.set_xlim(left=0)
        one.set_yticks(range(len(rows)), rows)
        one.grid(axis="x", alpha=0.25)
        one.tick_params(axis="y", length=0)
    handles, names = axes[0, 0].get_legend_handles_labels()
    made.legend(handles, names, loc="outside upper center", ncols=min(len(names), 2 * len(panels)), frameon=False)
    made.supxlabel(footnote, fontsize=7, color="#5b6675")
    return png(made)


# --------------------------------------------------------------------------------- a run


def learning_curves(curves: pd.DataFrame) -> bytes:
    """Loss and score of each fold over the epochs. curves: columns fold, epoch, train_loss, validation_loss, published_score."""
    made, axes = figure(9.5, 3.6, columns=2)
    losses, scores = axes[0]
    for (fold, rows), colour in zip(curves.groupby("fold"), COLOURS * len(curves)):
        losses.plot(rows["epoch"], rows["train_loss"], color=colour, linestyle=":", linewidth=1.2)
        losses.plot(rows["epoch"], rows["validation_loss"], color=colour, linewidth=1.5, label=f"fold {fold}")
        scores.plot(rows["epoch"], rows["published_score"], color=colour, linewidth=1.2)
        best = rows.loc[rows["published_score"].idxmax()]
        scores.plot(best["epoch"], best["published_score"], "o", color=colour, markersize=5)
    losses.set(xlabel="epoch", ylabel="KL divergence", title="loss (dotted: training)")
    scores.set(xlabel="epoch", ylabel="score", title="score on the fold at its own best thresholds")
    made.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=8)
    for one in axes.flat:
        one.xaxis.get_major_locator().set_params(integer=True)
        one.grid(alpha=0.25)
    return png(made)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> bytes:
    """The 36 labels against one another, (N,) indices each: clips as numbers, their share of the row as shade.

    Lines part the sets of emotions: beside the diagonal, but within its block, the set is right and the relation is not.
    """
    clips = np.zeros((len(LABELS), len(LABELS)), dtype=int)
    np.add.at(clips, (truth, predicted), 1)
    shares = clips / np.maximum(clips.sum(axis=1, keepdims=True), 1)
    made, axes = figure(11, 10.4)
    axes = axes[0, 0]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 0.01))
    for row, column in zip(*np.nonzero(clips)):
        axes.text(column, row, clips[row, column], ha="center", va="center", fontsize=7, color="white" if shares[row, column] > 0.6 * shares.max() else "black")
    starts = [*range(len(EMOTIONS)), *range(len(EMOTIONS), len(LABELS), 3), len(LABELS)]
    for start, end in zip(starts, starts[1:]):
        axes.plot(np.array([start, end, end, start, start]) - 0.5, np.array([start, start, end, end, start]) - 0.5, color=COLOURS[1], linewidth=1.2, clip_on=False)
    for start in starts[1:-1]:
        axes.axhline(start - 0.5, color="#d5dae0", linewidth=0.6, zorder=0.5)
        axes.axvline(start - 0.5, color="#d5dae0", linewidth=0.6, zorder=0.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(LABELS)), map(str, LABELS), rotation=90, fontsize=8)
    axes.set_yticks(range(len(LABELS)), map(str, LABELS), fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    made.colorbar(image, ax=axes, label="share of the true label's clips", shrink=0.5, pad=0.01)
    return png(made)


def principal_components(X: np.ndarray, actors: Sequence[str], labels: np.ndarray, pairs: Sequence[tuple[str, str]] = PAIRS) -> bytes:
    """Both single emotions of a pair and their blends on the two main axes of features (N, D), a panel a pair.

    Each column is standardised within each actor (over all clips given), so that what tells people apart is gone.
    """
    normal = _by_actor(X, actors)
    columns = min(3, len(pairs))
    rows = -(-(len(pairs) + (len(pairs) > 1)) // columns)  # a legend takes a place of its own where there are several
    made, axes = figure(3.2 * columns if columns > 1 else 6, 3 * rows if columns > 1 else 4.6, rows=rows, columns=columns)
    for one, (first, second) in zip(axes.flat, pairs):
        a, b, start = EMOTIONS.index(first), EMOTIONS.index(second), len(EMOTIONS) + 3 * PAIRS.index((first, second))
        kinds = (a, start, start + 1, start + 2, b)  # from the first emotion alone to the second alone
        places, shares = _main_axes(normal[np.isin(labels, kinds)])
        its = labels[np.isin(labels, kinds)]
        if len(its) and (its == a).any() and (its == b).any():  # an axis has no direction of its own: the first emotion goes left
            places *= np.where(places[its == a].mean(axis=0) > places[its == b].mean(axis=0), -1, 1)
        for kind, (name, colour, marker) in zip(kinds, SALIENCES):
            one.scatter(*places[its == kind].T, s=14, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name)
            if (its == kind).any():
                one.scatter(*places[its == kind].mean(axis=0), s=95, color=colour, marker=marker, edgecolors="black", linewidths=1, zorder=3)
        one.set_title(f"{EMOTION_NAMES[first]} – {EMOTION_NAMES[second]}", fontsize=10)
        one.set_xlabel(f"component 1: {shares[0]:.0%} of the variance", fontsize=8)
        one.set_ylabel(f"component 2: {shares[1]:.0%}", fontsize=8)
        one.set_xticks([])
        one.set_yticks([])
    told = {"title": "first – second emotion, percent\n(large: mean)", "frameon": False, "fontsize": 9, "title_fontsize": 9, "alignment": "left"}
    handles, names = axes.flat[0].get_legend_handles_labels()
    if len(pairs) == 1:
        axes.flat[0].legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.8, **told)
    for k, spare in enumerate(axes.flat[len(pairs) :]):
        spare.set_axis_off()
        if k == 0:
            spare.legend(handles, names, loc="center", markerscale=1.8, **told)
    return png(made)


# Blue to orange by way of grey; the marks differ, too
SALIENCES = (("100 – 0", COLOURS[0], "o"), ("70 – 30", COLOURS[5], "^"), ("50 – 50", "#777777", "s"), ("30 – 70", COLOURS[4], "v"), ("0 – 100", COLOURS[1], "D"))


def _by_actor(X: np.ndarray, actors: Sequence[str]) -> np.ndarray:
    """(N, D) float64: each actor's clips with mean 0 and standard deviation 1 a column; constant columns are 0."""
    normal = np.empty(X.shape)
    actors = np.asarray(actors)
    for actor in np.unique(actors):
        its = X[actors == actor].astype(np.float64)
        scale = its.std(axis=0)
        varies = (np.ptp(its, axis=0) > 0) & (scale > 0)  # by its range, too: rounding gives a constant column a tiny deviation
        normal[actors == actor] = np.where(varies, (its - its.mean(axis=0)) / np.where(varies, scale, 1), 0)
    return normal


def _main_axes(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) on the two main axes, and the shares of the variance that these have; 0 where there is none."""
    centred = X - X.mean(axis=0) if len(X) else X
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    places, shares = np.zeros((len(X), 2)), np.zeros(2)
    kept = min(2, len(scale))
    places[:, :kept] = left[:, :kept] * scale[:kept]
    if (scale**2).sum() > 0:
        shares[:kept] = scale[:kept] ** 2 / (scale**2).sum()
    return places, shares


def threshold_map(stability: Stability) -> bytes:
    """The score of all α and β, where it is within NEAR of its best, the exact optimum, and by its number each fold's own."""
    made, axes = figure(7.2, 5.2)
    own = {fold: its.thresholds for fold, its in stability.folds.items()}
    _score_map(made, axes[0, 0], stability.scores, stability.pooled.thresholds, stability.pooled.score, own)
    return png(made)


def _score_map(made, axes, scores: np.ndarray, best: Thresholds, score: float, folds: Mapping[int, Thresholds]) -> None:
    """scores: (ALPHAS, BETAS); best: the exact optimum, with its score."""
    made.colorbar(axes.pcolormesh(ALPHAS, BETAS, scores.T, cmap="cividis", shading="nearest", rasterized=True), ax=axes, label="score")
    if scores.min() < score - NEAR <= scores.max():  # else all or nothing of the map is within it
        axes.contour(ALPHAS, BETAS, scores.T, levels=[score - NEAR], colors="black", linewidths=1.5)
        axes.plot([], [], color="black", linewidth=1.5, label=f"within {NEAR} of the best")
    axes.plot(min(best.alpha, 0.5), min(best.beta, 1), **STAR, label=f"best: {score:.3f}")
    for fold, own in folds.items():
        _disc(axes, min(own.alpha, 0.5), min(own.beta, 1), fold)
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
    axes.set(xlabel="α", ylabel="β", title="score of every α and β (circles: best of a fold)", xlim=(-0.01, 0.51), ylim=(-0.02, 1.02))


def _disc(axes, x: float, y: float, fold: int) -> None:
    """A fold's number."""
    axes.text(x, y, str(fold), color="white", fontsize=7.5, weight="bold", ha="center", va="center",
              bbox={"boxstyle": "circle,pad=0.2", "facecolor": COLOURS[1], "edgecolor": "white", "linewidth": 0.7})


def threshold_spread(stability: Stability) -> bytes:
    """Where the best α and β fall for resampled actors, for each fold, and for all clips."""
    made, axes = figure(9.5, 3.6, columns=2)
    for k, (one, name, end) in enumerate(zip(axes[0], "αβ", (0.5, 1))):
        drawn = np.clip(stability.resampled[:, k], 0, end)
        heights, *_ = one.hist(drawn, bins=np.linspace(0, end, 41), color=COLOURS[5], label=f"{len(drawn):,} resamples of the actors")
        near = np.clip((stability.pooled.alpha, stability.pooled.beta)[k], 0, end)
        one.axvspan(*near, color=COLOURS[4], alpha=0.35, linewidth=0, zorder=0, label=f"all clips: within {NEAR} of the best")
        one.plot(min(stability.pooled.thresholds[k], end), 0, **STAR, clip_on=False, zorder=3, label="best of all clips")  # a line would hide a narrow region
        for height, (fold, own) in enumerate(stability.folds.items()):
            _disc(one, min(own.thresholds[k], end), heights.max() * (1.08 + 0.1 * height), fold)
        one.set(xlabel=f"best {name} (circles: best of a fold)", ylabel="resamples", xlim=(-0.02 * end, 1.02 * end), ylim=(0, heights.max() * (1.1 + 0.1 * len(stability.folds))))
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return png(made)


# ------------------------------------------------------------------------- reliability


def reliability(calibration: Mapping) -> bytes:
    """What structured decoding expects of clips against what came true, in ten bins of as many clips each.

    calibration: as `blemore_baselines.decoders.structured` tells it, with the bins of `sets` and `scores`
    """
    made, axes = figure(8.6, 4.8, columns=2)
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
