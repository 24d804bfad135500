"""The best α and β, in any range and for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blemore_baselines.decoding.thresholds import Plateau, Surface, Thresholds, fit_exact, surface
from blemore_baselines.results import plots
from blemore_baselines.results.stability import ALPHAS, BETAS

RANGES = {"0.1 to 0.5": (0.1, 0.5), "full": (0.0, 1.0)}


def optima(probabilities: np.ndarray, labels: np.ndarray, low: float, high: float) -> dict[str, Plateau]:
    """The best presence, salience and score for α and β in [low, high], and where they are reached.

    If several points are best: the widest interval of α, the widest of β there, and the middle of both. For presence,
    the interval of β is the whole range.
    """
    return {metric: fit_exact(probabilities, labels, metric, (low, high)) for metric in Surface._fields}


def draw(
    probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, own: Sequence[tuple[int, Thresholds]]
) -> plots.Picture:
    """Draws presence over α, for each fold and for all clips; salience and score over both thresholds, with the optima.

    own: folds with their own best thresholds
    """
    best, figures = optima(probabilities, labels, *RANGES["full"]), surface(probabilities, labels, ALPHAS, BETAS)
    figure, axes = plots.figure(12.5, 4, columns=3)
    lines, *maps = axes[0]
    by_fold = [
        surface(probabilities[folds == fold], labels[folds == fold], ALPHAS, BETAS).presence
        for fold in np.unique(folds)
    ]
    _draw_presence(lines, by_fold, figures.presence)
    for axis, name in zip(maps, ("salience", "score")):
        _draw_map(figure, axis, name, getattr(figures, name), best)
    for fold, (alpha, beta) in own:
        maps[1].text(
            min(alpha, 0.49),
            min(beta, 0.98),
            str(fold),
            color="white",
            fontsize=8,
            weight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.2", "facecolor": plots.COLOURS[1], "edgecolor": "white"},
        )
    return plots.picture(figure)


def _draw_presence(axis, by_fold: Sequence[np.ndarray], pooled: np.ndarray) -> None:
    """Draws presence at each of ALPHAS, for each fold and for all clips."""
    for number, presence in enumerate(by_fold):
        axis.plot(ALPHAS, presence, color="0.7", linewidth=1, label=None if number else "a fold")
    axis.plot(ALPHAS, pooled, color=plots.COLOURS[0], linewidth=2.5, label="all clips")
    axis.axvspan(0.1, 0.5, color=plots.COLOURS[4], alpha=0.12, linewidth=0, label="0.1 to 0.5")
    axis.set(xlabel="α", ylabel="presence", title="presence (independent of β)", ylim=(0, None), xlim=(0, 0.5))
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _draw_map(figure, axis, name: str, values: np.ndarray, best: Mapping[str, Plateau]) -> None:
    """Draws a figure at all ALPHAS and BETAS, its optimum, and the range from 0.1 to 0.5."""
    figure.colorbar(axis.pcolormesh(ALPHAS, BETAS, values.T, cmap="cividis", shading="nearest"), ax=axis)
    axis.plot([0.1, 0.5, 0.5, 0.1, 0.1], [0.1, 0.1, 0.5, 0.5, 0.1], color="white", linewidth=1.2, linestyle="dashed")
    alpha, beta = best[name].thresholds
    axis.plot(
        min(alpha, 0.5),
        beta,
        marker="*",
        color="white",
        markeredgecolor="black",
        markersize=15,
        linestyle="none",
        zorder=3,
        clip_on=False,
    )
    axis.set(xlabel="α", ylabel="β", title=f"{name} (star: {best[name].score:.3f})", xlim=(0, 0.5), ylim=(0, 1))
