"""Where α and β are best, exactly, in any range and for each metric alone.

A decision changes only where α passes a clip's second probability or β its gap, so these are all points that
have to be tried. `blemore_baselines.decoding.thresholds.fit_exact` needs no such table, for the score over the full
range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemore_baselines.decoding.thresholds import Plateau, Thresholds, middle, surface, widest
from blemore_baselines.results import plots

RANGES = {"0.1 to 0.5": (0.1, 0.5), "full": (0.0, 1.0)}


def optima(probabilities: np.ndarray, labels: np.ndarray, low: float, high: float) -> dict[str, Plateau]:
    """Of presence, salience and score, the best that α and β in [low, high] give, and where.

    Where several are best: the widest interval of α, the widest of β there, and the middle of both. Presence leaves β
    all its range.
    """
    second, gap = _seen(probabilities)
    # α decides alike in (edge, next edge], β in [edge, next edge).
    alphas = np.unique([low, high, *second[(second > low) & (second < high)]])
    betas = np.unique([low, high, *gap[(gap > low) & (gap < high)]])
    found = surface(probabilities, labels, alphas, betas)
    return {
        name: _plateau(values if values.ndim == 2 else np.repeat(values[:, None], len(betas), axis=1), alphas, betas)
        for name, values in found._asdict().items()
    }


def _plateau(values: np.ndarray, alphas: np.ndarray, betas: np.ndarray) -> Plateau:
    best = values == values.max()
    low, high = widest(best.any(axis=1), np.append(alphas[0], alphas[:-1]), alphas)
    alpha = middle(low, high, at_tie=high)
    bottom, top = widest(best[np.searchsorted(alphas, alpha)], betas, np.append(betas[1:], betas[-1]))
    beta = middle(bottom, top, at_tie=bottom)
    return Plateau(
        Thresholds(float(alpha), float(beta)),
        (float(low), float(high)),
        (float(bottom), float(top)),
        float(values.max()),
    )


def _seen(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the rule compares with α and with β: the second largest probability, and the lead of the largest."""
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -2], ordered[:, -1] - ordered[:, -2]


def draw(
    probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray, own: Sequence[tuple[int, Thresholds]]
) -> bytes:
    """Presence by α, of each fold and of all; salience and score by both, with the optima.

    own: folds with their own best.
    """
    alphas, betas = np.linspace(0, 0.5, 126), np.linspace(0, 1, 126)
    best, every = optima(probabilities, labels, *RANGES["full"]), surface(probabilities, labels, alphas, betas)
    made, axes = plots.figure(12.5, 4, columns=3)
    line, *maps = axes[0]
    for fold in np.unique(folds):
        its = surface(probabilities[folds == fold], labels[folds == fold], alphas, betas)
        line.plot(alphas, its.presence, color="0.7", linewidth=1, label="a fold" if fold == folds.min() else None)
    line.plot(alphas, every.presence, color=plots.COLOURS[0], linewidth=2.5, label="all clips")
    line.axvspan(0.1, 0.5, color=plots.COLOURS[4], alpha=0.12, linewidth=0, label="0.1 to 0.5")
    line.set(xlabel="α", ylabel="presence", title="presence (β has no part in it)", ylim=(0, None), xlim=(0, 0.5))
    line.legend(frameon=False, fontsize=8, loc="lower left")
    for axis, name in zip(maps, ("salience", "score")):
        made.colorbar(
            axis.pcolormesh(alphas, betas, getattr(every, name).T, cmap="cividis", shading="nearest"), ax=axis
        )
        axis.plot(
            [0.1, 0.5, 0.5, 0.1, 0.1], [0.1, 0.1, 0.5, 0.5, 0.1], color="white", linewidth=1.2, linestyle="dashed"
        )
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
    return plots.png(made)
