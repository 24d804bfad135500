"""Figures, as PNG bytes. The one module that imports matplotlib; colours can be told apart by the colour-blind."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from blemore.labels import EMOTION_NAMES, EMOTIONS, LABELS, PAIRS
from blemore_baselines.decoding.thresholds import Thresholds
from blemore_baselines.results.stability import ALPHAS, BETAS, NEAR, Stability

# Okabe and Ito 2008, darkest first
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STAR = {"marker": "*", "color": "white", "markeredgecolor": "black", "markersize": 10, "linestyle": "none"}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options):
    """A figure (inches) and its axes (rows, columns), without a display and without the global state of pyplot."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it remarks on a home that cannot be written
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


def label_counts(labels: np.ndarray) -> bytes:
    """How many clips each single emotion has, and each pair by salience. labels: (N,) indices."""
    count = np.bincount(labels, minlength=len(LABELS))
    made, axes = figure(9.5, 4.2, columns=2, width_ratios=(1, 1.7))
    singles, pairs = axes[0]
    _stack(singles, [EMOTION_NAMES[emotion] for emotion in EMOTIONS], [count[: len(EMOTIONS)]], [COLOURS[2]])
    singles.set(title=f"single emotions: {count[: len(EMOTIONS)].sum():,} clips", xlabel="clips")
    by_salience = count[len(EMOTIONS) :].reshape(len(PAIRS), -1).T
    _stack(
        pairs,
        [" + ".join(EMOTION_NAMES[emotion] for emotion in pair) for pair in PAIRS],
        by_salience,
        [COLOURS[0], COLOURS[5], COLOURS[4]],
    )
    pairs.set(title=f"blends: {by_salience.sum():,} clips", xlabel="clips")
    made.legend(pairs.containers, ["70/30", "50/50", "30/70"], loc="outside lower right", ncols=3, frameon=False)
    return png(made)


def _stack(axes, names: Sequence[str], parts: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Horizontal bars of so many parts, each with its number; the first name at the top."""
    start = np.zeros(len(names))
    for part, colour in zip(parts, colours):
        bars = axes.barh(names, part, left=start, color=colour)
        axes.bar_label(
            bars,
            [f"{value:,}" if value else "" for value in part],
            label_type="center",
            fontsize=8,
            color="black" if colour in COLOURS[4:6] else "white",
        )
        start += part
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


# ------------------------------------------------------------------------------- decoding


def intervals(
    rows: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[tuple | None]]], xlabel: str, footnote: str
) -> bytes:
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
            one.errorbar(
                mean,
                y,
                xerr=[d or 0 for d in deviation],
                fmt="os^Dv"[k % 5],
                color=COLOURS[k % len(COLOURS)],
                markersize=5,
                linewidth=1.2,
                label=name,
                clip_on=False,
            )  # a dot at 0 is a whole dot
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
    """Loss and score of each fold over the epochs.

    curves: columns fold, epoch, train_loss, validation_loss, published_score.
    """
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
    made.legend(
        *losses.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=8
    )
    for one in axes.flat:
        one.xaxis.get_major_locator().set_params(integer=True)
        one.grid(alpha=0.25)
    return png(made)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> bytes:
    """The 36 labels against one another, (N,) indices each: clips as numbers, their share of the row as shade.

    Lines part the sets of emotions: beside the diagonal, but within its block, the set is right and the relation is
    not.
    """
    clips = np.zeros((len(LABELS), len(LABELS)), dtype=int)
    np.add.at(clips, (truth, predicted), 1)
    shares = clips / np.maximum(clips.sum(axis=1, keepdims=True), 1)
    made, axes = figure(11, 10.4)
    axes = axes[0, 0]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 0.01))
    for row, column in zip(*np.nonzero(clips)):
        axes.text(
            column,
            row,
            clips[row, column],
            ha="center",
            va="center",
            fontsize=7,
            color="white" if shares[row, column] > 0.6 * shares.max() else "black",
        )
    starts = [*range(len(EMOTIONS)), *range(len(EMOTIONS), len(LABELS), 3), len(LABELS)]
    for start, end in zip(starts, starts[1:]):
        axes.plot(
            np.array([start, end, end, start, start]) - 0.5,
            np.array([start, start, end, end, start]) - 0.5,
            color=COLOURS[1],
            linewidth=1.2,
            clip_on=False,
        )
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


def principal_components(
    X: np.ndarray, actors: Sequence[str], labels: np.ndarray, pairs: Sequence[tuple[str, str]] = PAIRS
) -> bytes:
    """Both single emotions of a pair and their blends on the two main axes of features (N, D), a panel a pair.

    Each column is standardised within each actor (over all clips given), so that what tells people apart is gone.
    """
    normal = _by_actor(X, actors)
    columns = min(3, len(pairs))
    rows = -(-(len(pairs) + (len(pairs) > 1)) // columns)  # a legend takes a place of its own where there are several
    made, axes = figure(
        3.2 * columns if columns > 1 else 6, 3 * rows if columns > 1 else 4.6, rows=rows, columns=columns
    )
    for one, (first, second) in zip(axes.flat, pairs):
        a, b, start = EMOTIONS.index(first), EMOTIONS.index(second), len(EMOTIONS) + 3 * PAIRS.index((first, second))
        kinds = (a, start, start + 1, start + 2, b)  # from the first emotion alone to the second alone
        places, shares = _main_axes(normal[np.isin(labels, kinds)])
        its = labels[np.isin(labels, kinds)]
        if (
            len(its) and (its == a).any() and (its == b).any()
        ):  # an axis has no direction of its own: the first emotion goes left
            places *= np.where(places[its == a].mean(axis=0) > places[its == b].mean(axis=0), -1, 1)
        for kind, (name, colour, marker) in zip(kinds, SALIENCES):
            one.scatter(*places[its == kind].T, s=14, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name)
            if (its == kind).any():
                one.scatter(
                    *places[its == kind].mean(axis=0),
                    s=95,
                    color=colour,
                    marker=marker,
                    edgecolors="black",
                    linewidths=1,
                    zorder=3,
                )
        one.set_title(f"{EMOTION_NAMES[first]} – {EMOTION_NAMES[second]}", fontsize=10)
        one.set_xlabel(f"component 1: {shares[0]:.0%} of the variance", fontsize=8)
        one.set_ylabel(f"component 2: {shares[1]:.0%}", fontsize=8)
        one.set_xticks([])
        one.set_yticks([])
    told = {
        "title": "first – second emotion, percent\n(large: mean)",
        "frameon": False,
        "fontsize": 9,
        "title_fontsize": 9,
        "alignment": "left",
    }
    handles, names = axes.flat[0].get_legend_handles_labels()
    if len(pairs) == 1:
        axes.flat[0].legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.8, **told)
    for k, spare in enumerate(axes.flat[len(pairs) :]):
        spare.set_axis_off()
        if k == 0:
            spare.legend(handles, names, loc="center", markerscale=1.8, **told)
    return png(made)


# Blue to orange by way of grey; the marks differ, too
SALIENCES = (
    ("100 – 0", COLOURS[0], "o"),
    ("70 – 30", COLOURS[5], "^"),
    ("50 – 50", "#777777", "s"),
    ("30 – 70", COLOURS[4], "v"),
    ("0 – 100", COLOURS[1], "D"),
)


def _by_actor(X: np.ndarray, actors: Sequence[str]) -> np.ndarray:
    """(N, D) float64: each actor's clips with mean 0 and standard deviation 1 a column; constant columns are 0."""
    normal = np.empty(X.shape)
    actors = np.asarray(actors)
    for actor in np.unique(actors):
        its = X[actors == actor].astype(np.float64)
        scale = its.std(axis=0)
        varies = (np.ptp(its, axis=0) > 0) & (
            scale > 0
        )  # by its range, too: rounding gives a constant column a tiny deviation
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
    """The score of all α and β, where it is within NEAR of its best, the exact optimum, and by its number each fold's
    own.
    """
    made, axes = figure(7.2, 5.2)
    own = {fold: its.thresholds for fold, its in stability.folds.items()}
    score_map(made, axes[0, 0], stability.scores, stability.pooled.thresholds, stability.pooled.score, own)
    return png(made)


def score_map(made, axes, scores: np.ndarray, best: Thresholds, score: float, folds: Mapping[int, Thresholds]) -> None:
    """scores: (ALPHAS, BETAS); best: the exact optimum, with its score."""
    made.colorbar(
        axes.pcolormesh(ALPHAS, BETAS, scores.T, cmap="cividis", shading="nearest", rasterized=True),
        ax=axes,
        label="score",
    )
    if scores.min() < score - NEAR <= scores.max():  # else all or nothing of the map is within it
        axes.contour(ALPHAS, BETAS, scores.T, levels=[score - NEAR], colors="black", linewidths=1.5)
        axes.plot([], [], color="black", linewidth=1.5, label=f"within {NEAR} of the best")
    axes.plot(min(best.alpha, 0.5), min(best.beta, 1), **STAR, label=f"best: {score:.3f}")
    for fold, own in folds.items():
        _disc(axes, min(own.alpha, 0.5), min(own.beta, 1), fold)
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
    axes.set(
        xlabel="α",
        ylabel="β",
        title="score of every α and β (circles: best of a fold)",
        xlim=(-0.01, 0.51),
        ylim=(-0.02, 1.02),
    )


def _disc(axes, x: float, y: float, fold: int) -> None:
    """A fold's number."""
    axes.text(
        x,
        y,
        str(fold),
        color="white",
        fontsize=7.5,
        weight="bold",
        ha="center",
        va="center",
        bbox={"boxstyle": "circle,pad=0.2", "facecolor": COLOURS[1], "edgecolor": "white", "linewidth": 0.7},
    )


def threshold_spread(stability: Stability) -> bytes:
    """Where the best α and β fall for resampled actors, for each fold, and for all clips."""
    made, axes = figure(9.5, 3.6, columns=2)
    for k, (one, name, end) in enumerate(zip(axes[0], "αβ", (0.5, 1))):
        drawn = np.clip(stability.resampled[:, k], 0, end)
        heights, *_ = one.hist(
            drawn, bins=np.linspace(0, end, 41), color=COLOURS[5], label=f"{len(drawn):,} resamples of the actors"
        )
        near = np.clip((stability.pooled.alpha, stability.pooled.beta)[k], 0, end)
        one.axvspan(
            *near, color=COLOURS[4], alpha=0.35, linewidth=0, zorder=0, label=f"all clips: within {NEAR} of the best"
        )
        one.plot(
            min(stability.pooled.thresholds[k], end), 0, **STAR, clip_on=False, zorder=3, label="best of all clips"
        )  # a line would hide a narrow region
        for height, (fold, own) in enumerate(stability.folds.items()):
            _disc(one, min(own.thresholds[k], end), heights.max() * (1.08 + 0.1 * height), fold)
        one.set(
            xlabel=f"best {name} (circles: best of a fold)",
            ylabel="resamples",
            xlim=(-0.02 * end, 1.02 * end),
            ylim=(0, heights.max() * (1.1 + 0.1 * len(stability.folds))),
        )
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return png(made)


# ------------------------------------------------------------------------- reliability


def reliability(calibration: Mapping) -> bytes:
    """What structured decoding expects of clips against what came true, in ten bins of as many clips each.

    calibration: as `blemore_baselines.decoding.decoders.structured` tells it, with the bins of `sets` and `scores`
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
        one.plot(
            [its["expected"] for its in bins],
            [its["reached"] for its in bins],
            color=COLOURS[0],
            marker="o",
            label=f"a tenth of the clips; off by {error:.3f}",
        )
        one.set(
            title=title,
            xlabel=f"{expected} (mean of the bin)",
            ylabel=reached,
            xlim=(0, end),
            ylim=(0, end),
            aspect="equal",
        )
        one.legend(frameon=False, fontsize=8, loc="upper left")
    return png(made)
