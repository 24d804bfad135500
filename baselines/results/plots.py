"""Figures, as PNG and PDF, in colours that colour-blind readers can distinguish. No other module imports matplotlib."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from blemore.labels import EMOTION_NAMES, EMOTIONS, LABELS, PAIRS
from blemore_baselines.decoding.thresholds import Thresholds
from blemore_baselines.results.pictures import Picture
from blemore_baselines.results.stability import ALPHAS, BETAS, NEAR, Stability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, darkest first
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STAR: dict[str, Any] = {
    "marker": "*",
    "color": "white",
    "markeredgecolor": "black",
    "markersize": 10,
    "linestyle": "none",
}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure (inches) and its axes (rows, columns), without a display and without the global state of pyplot."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns if the home folder is read-only
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def png(canvas: Figure) -> bytes:
    """The same figure gives the same bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def picture(canvas: Figure) -> Picture:
    """A figure in both formats; the same figure gives the same bytes."""
    from matplotlib import rc_context

    screen, paper = png(canvas), io.BytesIO()
    nameless = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    with rc_context({"pdf.fonttype": 42}):  # TrueType: publishers refuse the default, Type 3
        canvas.savefig(paper, format="pdf", dpi=300, metadata=nameless)  # dpi: for heat maps, which are raster images
    return Picture(screen, paper.getvalue())


# ------------------------------------------------------------------- clips, labels, features


def label_counts(labels: np.ndarray) -> Picture:
    """How many clips each single emotion has, and each pair by salience. labels: (N,) indices."""
    count = np.bincount(labels, minlength=len(LABELS))
    canvas, axes = figure(9.5, 4.2, columns=2, width_ratios=(1, 1.7))
    singles, pairs = axes[0]
    _stack(singles, [EMOTION_NAMES[emotion] for emotion in EMOTIONS], [count[: len(EMOTIONS)]], [COLOURS[2]])
    singles.set(title=f"single emotions: {count[: len(EMOTIONS)].sum():,} clips", xlabel="clips")
    by_salience = count[len(EMOTIONS) :].reshape(len(PAIRS), -1).T
    names = [" + ".join(EMOTION_NAMES[emotion] for emotion in pair) for pair in PAIRS]
    _stack(pairs, names, list(by_salience), [COLOURS[0], COLOURS[5], COLOURS[4]])
    pairs.set(title=f"blends: {by_salience.sum():,} clips", xlabel="clips")
    canvas.legend(pairs.containers, ["70/30", "50/50", "30/70"], loc="outside lower right", ncols=3, frameon=False)
    return picture(canvas)


def _stack(axis: Axes, names: Sequence[str], parts: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Stacked horizontal bars with a number on each part; the first name is at the top."""
    start = np.zeros(len(names))
    for part, colour in zip(parts, colours):
        bars = axis.barh(names, part, left=start, color=colour)
        axis.bar_label(
            bars,
            [f"{value:,}" if value else "" for value in part],
            label_type="center",
            fontsize=8,
            color="black" if colour in COLOURS[4:6] else "white",
        )
        start += part
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)


# ------------------------------------------------------------------------------- decoding


def intervals(
    rows: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[tuple | None]]], xlabel: str, footnote: str
) -> Picture:
    """Dots with error bars: a line per row, a panel per metric.

    panels: title → series → (mean, deviation) of each row; None if missing
    """
    canvas, axes = figure(4.6 * len(panels) + 1.6, 2.3 + 0.44 * len(rows), columns=len(panels), sharey=True)
    for axis, (title, series) in zip(axes[0], panels.items()):
        for k, (name, points) in enumerate(series.items()):
            offset = 0.22 * (k - (len(series) - 1) / 2)
            places = [(row + offset, *point) for row, point in enumerate(points) if point and point[0] is not None]
            if places:
                _error_bars(axis, places, name, "os^Dv"[k % 5], COLOURS[k % len(COLOURS)])
        axis.set(title=title, xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
        axis.set_xlim(left=0)
        axis.set_yticks(range(len(rows)), rows)
        axis.grid(axis="x", alpha=0.25)
        axis.tick_params(axis="y", length=0)
    handles, names = axes[0, 0].get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside upper center", ncols=min(len(names), 2 * len(panels)), frameon=False)
    canvas.supxlabel(footnote, fontsize=7, color="#5b6675")
    return picture(canvas)


def _error_bars(axis: Axes, places: Sequence[tuple], name: str, mark: str, colour: str) -> None:
    """places: (y, mean, deviation or None) of each dot."""
    y, mean, deviation = zip(*places)
    reach = [value or 0 for value in deviation]
    axis.errorbar(
        mean,
        y,
        xerr=[[min(pair) for pair in zip(reach, mean)], reach],  # no accuracy is below 0
        fmt=mark,
        color=colour,
        markersize=5,
        linewidth=1.2,
        label=name,
        clip_on=False,  # a dot at 0 is drawn completely
    )


# --------------------------------------------------------------------------------- a run


def learning_curves(curves: pd.DataFrame) -> Picture:
    """Loss and score of each fold over the epochs.

    curves: columns fold, epoch, train_loss, validation_loss, published_score.
    """
    canvas, axes = figure(9.5, 3.6, columns=2)
    losses, scores = axes[0]
    for (fold, rows), colour in zip(curves.groupby("fold"), COLOURS * len(curves)):
        losses.plot(rows["epoch"], rows["train_loss"], color=colour, linestyle=":", linewidth=1.2)
        losses.plot(rows["epoch"], rows["validation_loss"], color=colour, linewidth=1.5, label=f"fold {fold}")
        scores.plot(rows["epoch"], rows["published_score"], color=colour, linewidth=1.2)
        best = rows.loc[rows["published_score"].idxmax()]
        scores.plot(best["epoch"], best["published_score"], "o", color=colour, markersize=5)
    losses.set(xlabel="epoch", ylabel="KL divergence", title="loss (dotted: training)")
    scores.set(xlabel="epoch", ylabel="score", title="score on the fold at its own best thresholds")
    canvas.legend(
        *losses.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False, fontsize=8
    )
    for axis in axes.flat:
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
    return picture(canvas)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> Picture:
    """The confusion matrix of the 36 labels, from (N,) indices each: numbers of clips, shaded by their share of a row.

    Frames enclose sets of emotions: inside a frame but off the diagonal, the set is right and the relation is wrong.
    """
    clips = np.zeros((len(LABELS), len(LABELS)), dtype=int)
    np.add.at(clips, (truth, predicted), 1)
    shares = clips / np.maximum(clips.sum(axis=1, keepdims=True), 1)
    canvas, axes = figure(11, 10.4)
    axis = axes[0, 0]
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 0.01))
    for row, column in zip(*np.nonzero(clips)):
        colour = "white" if shares[row, column] > 0.6 * shares.max() else "black"
        axis.text(column, row, clips[row, column], ha="center", va="center", fontsize=7, color=colour)
    _frame_sets(axis)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.set_xticks(range(len(LABELS)), map(str, LABELS), rotation=90, fontsize=8)
    axis.set_yticks(range(len(LABELS)), map(str, LABELS), fontsize=8)
    axis.set(xlabel="predicted", ylabel="true")
    canvas.colorbar(image, ax=axis, label="share of the true label's clips", shrink=0.5, pad=0.01)
    return picture(canvas)


def _frame_sets(axis: Axes) -> None:
    """Frames around the labels of one set of emotions, and lines between sets."""
    starts = [*range(len(EMOTIONS)), *range(len(EMOTIONS), len(LABELS), 3), len(LABELS)]
    for start, end in zip(starts, starts[1:]):
        x, y = np.array([start, end, end, start, start]), np.array([start, start, end, end, start])
        axis.plot(x - 0.5, y - 0.5, color=COLOURS[1], linewidth=1.2, clip_on=False)
    for start in starts[1:-1]:
        axis.axhline(start - 0.5, color="#d5dae0", linewidth=0.6, zorder=0.5)
        axis.axvline(start - 0.5, color="#d5dae0", linewidth=0.6, zorder=0.5)


def principal_components(
    X: np.ndarray, actors: Sequence[str], labels: np.ndarray, pairs: Sequence[tuple[str, str]] = PAIRS
) -> Picture:
    """Both single emotions of a pair and their blends on the first two principal axes of features (N, D), a panel per
    pair.

    Each column is standardised within each actor (over all given clips), which removes differences between people.
    """
    normal = _by_actor(X, actors)
    columns = min(3, len(pairs))
    if columns == 1:
        canvas, axes = figure(6, 4.6)
    else:
        rows = -(-(len(pairs) + 1) // columns)  # one place is for the legend
        canvas, axes = figure(3.2 * columns, 3 * rows, rows=rows, columns=columns)
    for axis, pair in zip(axes.flat, pairs):
        _draw_pair(axis, pair, normal, labels)
    _component_legend(axes.flat[0], list(axes.flat[len(pairs) :]))
    return picture(canvas)


def _draw_pair(axis: Axes, pair: tuple[str, str], normal: np.ndarray, labels: np.ndarray) -> None:
    """Draws the clips of one pair, from normalised features (N, D) and labels (N,)."""
    first, second = pair
    a, b, start = EMOTIONS.index(first), EMOTIONS.index(second), len(EMOTIONS) + 3 * PAIRS.index(pair)
    kinds = (a, start, start + 1, start + 2, b)  # from the first emotion alone to the second alone
    inside = np.isin(labels, kinds)
    (places, shares), kind_of = _main_axes(normal[inside]), labels[inside]
    if (kind_of == a).any() and (
        kind_of == b
    ).any():  # an axis has no direction of its own; the first emotion goes left
        places *= np.where(places[kind_of == a].mean(axis=0) > places[kind_of == b].mean(axis=0), -1, 1)
    for kind, (name, colour, marker) in zip(kinds, SALIENCES):
        x, y = places[kind_of == kind].T
        axis.scatter(x, y, s=14, color=colour, marker=marker, alpha=0.75, linewidths=0, label=name)
        if len(x):
            large: dict[str, Any] = {"s": 95, "edgecolors": "black", "linewidths": 1, "zorder": 3}
            axis.scatter(x.mean(), y.mean(), color=colour, marker=marker, **large)
    axis.set_title(f"{EMOTION_NAMES[first]} – {EMOTION_NAMES[second]}", fontsize=10)
    axis.set_xlabel(f"component 1: {shares[0]:.0%} of the variance", fontsize=8)
    axis.set_ylabel(f"component 2: {shares[1]:.0%}", fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


def _component_legend(first: Axes, spare: Sequence[Axes]) -> None:
    """The legend of the first panel: in the first spare place, or next to the panel if there is none."""
    handles, names = first.get_legend_handles_labels()
    title = "first – second emotion, percent\n(large: mean)"
    text: dict[str, Any] = {"title": title, "frameon": False, "fontsize": 9, "title_fontsize": 9, "alignment": "left"}
    for axis in spare:
        axis.set_axis_off()
    if spare:
        spare[0].legend(handles, names, loc="center", markerscale=1.8, **text)
    else:
        first.legend(handles, names, loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.8, **text)


# From blue through grey to orange; marks differ as well
SALIENCES = (
    ("100 – 0", COLOURS[0], "o"),
    ("70 – 30", COLOURS[5], "^"),
    ("50 – 50", "#777777", "s"),
    ("30 – 70", COLOURS[4], "v"),
    ("0 – 100", COLOURS[1], "D"),
)


def _by_actor(X: np.ndarray, actors: Sequence[str]) -> np.ndarray:
    """(N, D) float64: each actor's clips with mean 0 and standard deviation 1 per column; constant columns are 0."""
    normal, owner = np.empty(X.shape), np.asarray(actors)
    for actor in np.unique(owner):
        rows = X[owner == actor].astype(np.float64)
        scale = rows.std(axis=0)
        # The range is checked too, because rounding gives a constant column a tiny deviation.
        varies = (np.ptp(rows, axis=0) > 0) & (scale > 0)
        normal[owner == actor] = np.where(varies, (rows - rows.mean(axis=0)) / np.where(varies, scale, 1), 0)
    return normal


def _main_axes(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, 2) on the first two principal axes, and their shares of the variance; 0 if there is none."""
    centred = X - X.mean(axis=0) if len(X) else X
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    places, shares = np.zeros((len(X), 2)), np.zeros(2)
    count = min(2, len(scale))
    places[:, :count] = left[:, :count] * scale[:count]
    if (scale**2).sum() > 0:
        shares[:count] = scale[:count] ** 2 / (scale**2).sum()
    return places, shares


def threshold_map(stability: Stability) -> Picture:
    """The score over α and β, with the region within NEAR of the best, the exact optimum, and each fold's own optimum
    by number.
    """
    canvas, axes = figure(7.2, 5.2)
    own = {fold: region.thresholds for fold, region in stability.folds.items()}
    score_map(canvas, axes[0, 0], stability.scores, stability.pooled.thresholds, stability.pooled.score, own)
    return picture(canvas)


def score_map(
    canvas: Figure, axis: Axes, scores: np.ndarray, best: Thresholds, score: float, folds: Mapping[int, Thresholds]
) -> None:
    """scores: (ALPHAS, BETAS); best: the exact optimum, with its score."""
    mesh = axis.pcolormesh(ALPHAS, BETAS, scores.T, cmap="cividis", shading="nearest", rasterized=True)
    canvas.colorbar(mesh, ax=axis, label="score")
    if scores.min() < score - NEAR <= scores.max():  # else the line would enclose everything or nothing
        axis.contour(ALPHAS, BETAS, scores.T, levels=[score - NEAR], colors="black", linewidths=1.5)
        axis.plot([], [], color="black", linewidth=1.5, label=f"within {NEAR} of the best")
    axis.plot(min(best.alpha, 0.5), min(best.beta, 1), **STAR, label=f"best: {score:.3f}")
    for fold, own in folds.items():
        _disc(axis, min(own.alpha, 0.5), min(own.beta, 1), fold)
    axis.legend(loc="upper right", fontsize=8, framealpha=0.9)
    axis.set(
        xlabel="α",
        ylabel="β",
        title="score over α and β (circles: best of a fold)",
        xlim=(-0.01, 0.51),
        ylim=(-0.02, 1.02),
    )


def _disc(axis: Axes, x: float, y: float, fold: int) -> None:
    """A fold's number."""
    axis.text(
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


def threshold_spread(stability: Stability) -> Picture:
    """The distribution of the best α and β over resampled actors, with those of each fold and of all clips."""
    canvas, axes = figure(9.5, 3.6, columns=2)
    for k, (axis, name, end) in enumerate(zip(axes[0], "αβ", (0.5, 1))):
        resamples = np.clip(stability.resampled[:, k], 0, end)
        label = f"{len(resamples):,} resamples of the actors"
        heights, *_ = axis.hist(resamples, bins=np.linspace(0, end, 41), color=COLOURS[5], label=label)
        near = np.clip((stability.pooled.alpha, stability.pooled.beta)[k], 0, end)
        label = f"all clips: within {NEAR} of the best"
        axis.axvspan(*near, color=COLOURS[4], alpha=0.35, linewidth=0, zorder=0, label=label)
        best = min(stability.pooled.thresholds[k], end)  # a star: a line would hide a narrow region
        axis.plot(best, 0, **STAR, clip_on=False, zorder=3, label="best of all clips")
        for height, (fold, own) in enumerate(stability.folds.items()):
            _disc(axis, min(own.thresholds[k], end), heights.max() * (1.08 + 0.1 * height), fold)
        axis.set(
            xlabel=f"best {name} (circles: best of a fold)",
            ylabel="resamples",
            xlim=(-0.02 * end, 1.02 * end),
            ylim=(0, heights.max() * (1.1 + 0.1 * len(stability.folds))),
        )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return picture(canvas)


# ------------------------------------------------------------------------------- reliability


class _Panel(NamedTuple):
    bins: str
    title: str
    expected: str
    reached: str
    error: str


RELIABILITY = (
    _Panel("sets", "the chosen set is right", "probability", "share of clips", "set_error"),
    _Panel("scores", "contribution of a clip to the score", "expected", "reached", "score_error"),
)


def reliability(calibration: Mapping) -> Picture:
    """What structured decoding expects and what was reached, in ten bins with equal numbers of clips.

    calibration: from the structured decoder's figures, with the bins of `sets` and `scores`
    """
    canvas, axes = figure(8.6, 4.8, columns=2)
    for axis, panel in zip(axes[0], RELIABILITY):
        expected, reached = ([entry[key] for entry in calibration[panel.bins]] for key in ("expected", "reached"))
        end = 1.08 * max(*expected, *reached) or 1
        axis.plot([0, end], [0, end], color="0.6", linewidth=1, linestyle="--", label="perfect calibration")
        label = f"a tenth of the clips; off by {calibration[panel.error]:.3f}"
        axis.plot(expected, reached, color=COLOURS[0], marker="o", label=label)
        axis.set(
            title=panel.title,
            xlabel=f"{panel.expected} (mean of the bin)",
            ylabel=panel.reached,
            xlim=(0, end),
            ylim=(0, end),
            aspect="equal",
        )
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    return picture(canvas)
