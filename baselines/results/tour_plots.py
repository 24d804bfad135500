"""Figures for the notebook: a clip, clips per actor, features by actor and emotion, and how decoders decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blemore.labels import EMOTION_NAMES, EMOTIONS, LABELS
from blemore_baselines.clips.media import SAMPLE_RATE, Clip
from blemore_baselines.dataset import IS_BLEND, Dataset
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact, surface
from blemore_baselines.results.plots import COLOURS, figure, png, score_map
from blemore_baselines.results.stability import ALPHAS, BETAS

if TYPE_CHECKING:
    from blemore_baselines.results.plots import Axes


def clip_strip(clip: Clip, title: str) -> bytes:
    """A clip at a glance: frames, waveform and log-mel spectrogram on the same time axis. Raises MediaError."""
    from blemore_baselines.encoders.logmel import LogMel  # imports transformers, which takes seconds

    sound, mels = clip.audio(), LogMel().encode(clip)
    frames = [_small(frame) for frame in clip.frames()]  # so a long clip fits into memory
    seconds = max(len(sound) / SAMPLE_RATE, len(frames) / (clip.fps or 25))
    canvas, axes = figure(9.5, 3.9, rows=3, sharex=True, height_ratios=(1.35, 0.8, 1.2))
    pictures, wave, spectrum = axes[:, 0]
    pictures.imshow(_strip(frames), extent=(0, seconds, 0, 1), aspect="auto")
    pictures.set_axis_off()
    pictures.set_title(title, loc="left", fontsize=11)
    edges = np.linspace(0, len(sound), 1000, endpoint=False).astype(int)
    low, high = np.minimum.reduceat(sound, edges), np.maximum.reduceat(sound, edges)
    wave.fill_between(edges / SAMPLE_RATE, low, high, color=COLOURS[0], linewidth=0.5)
    wave.set(ylabel="amplitude", xlim=(0, seconds))
    extent = (0, len(sound) / SAMPLE_RATE, 0, len(mels[0]))
    spectrum.imshow(mels.T, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=mels.max() - 11)
    hertz = np.array([500, 1000, 2000, 4000])
    low, high = _mel(30), _mel(8000)
    spectrum.set_yticks((_mel(hertz) - low) / (high - low) * len(mels[0]), [f"{value / 1000:g}" for value in hertz])
    spectrum.set(xlabel="seconds", ylabel="kHz")
    return png(canvas)


def _small(frame: np.ndarray) -> np.ndarray:
    """The frame subsampled to about 200 pixels on its shorter side."""
    step = max(1, min(frame.shape[:2]) // 200)
    return frame[::step, ::step].copy()


def _strip(frames: Sequence[np.ndarray]) -> np.ndarray:
    """As many frames as fit side by side, spread over the clip."""
    count = max(3, round(8 * frames[0].shape[0] / frames[0].shape[1]))
    spread = [frames[int((k + 0.5) * len(frames) / count)] for k in range(count)]
    return np.hstack([np.pad(frame, ((0, 0), (1, 1), (0, 0)), constant_values=255) for frame in spread])


def _mel(hertz: np.ndarray | float) -> np.ndarray:
    return np.log1p(np.asarray(hertz) / 700)


def actors_by_fold(dataset: Dataset) -> bytes:
    """Each actor's number of clips, single emotions and blends, by fold."""
    actors = sorted({*zip(dataset.folds.tolist(), dataset.actors)})
    blend = IS_BLEND[dataset.labels]
    counts = [Counter(actor for actor, is_one in zip(dataset.actors, kind) if is_one) for kind in (~blend, blend)]
    canvas, axes = figure(9.5, 3.3)
    axis = axes[0, 0]
    names, base = [actor for _, actor in actors], np.zeros(len(actors))
    for name, count, colour in zip(("single emotions", "blends"), counts, (COLOURS[2], COLOURS[0])):
        height = np.array([count[actor] for actor in names])
        axis.bar(range(len(names)), height, bottom=base, color=colour, label=name, width=0.75, zorder=2)
        base += height
    for fold in np.unique(dataset.folds):
        places = [place for place, (number, _) in enumerate(actors) if number == fold]
        shade = {"color": "#000000", "alpha": 0.06 * (int(fold) % 2), "linewidth": 0, "zorder": 0}
        axis.axvspan(places[0] - 0.5, places[-1] + 0.5, **shade)
        text = f"fold {fold}\n{(dataset.folds == fold).sum():,} clips"
        axis.text(np.mean(places), base.max() * 1.06, text, ha="center", va="bottom", fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, base.max() * 1.25), ylabel="clips", xlabel="actor")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    return png(canvas)


def actor_and_emotion(X: np.ndarray, dataset: Dataset, title: str) -> bytes:
    """Features (N, D) on their first two principal axes, with lines from clips to a mean.

    Left: the mean of their actor, for six actors. Right: single emotions only, the mean of their emotion.
    """
    standard = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    products, axes_of_rows = standard @ standard.T, np.random.default_rng(0).normal(size=(len(X), 2)).astype(X.dtype)
    for _ in range(300):  # subspace iteration; for thousands of clips, computing all axes takes half a minute
        axes_of_rows, _ = np.linalg.qr(products @ axes_of_rows)
    places = axes_of_rows * np.sqrt(np.sum(axes_of_rows * (products @ axes_of_rows), axis=0))
    actors, all_actors = np.array(dataset.actors), sorted({*dataset.actors})
    # As many actors as there are distinguishable colours
    by_actor = {actor: actors == actor for actor in all_actors[: len(EMOTIONS)]}
    # The label of a single emotion is the emotion's index.
    by_emotion = {EMOTION_NAMES[emotion]: dataset.labels == label for label, emotion in enumerate(EMOTIONS)}
    titles = (f"{len(by_actor)} of {len(all_actors)} actors", "single emotions")
    canvas, axes = figure(9.5, 4.9, columns=2, sharex=True, sharey=True)
    for axis, groups, group_title in zip(axes[0], (by_actor, by_emotion), titles):
        axis.scatter(*places.T, color="#d0d0d0", s=5, linewidths=0)
        for (name, inside), colour, marker in zip(groups.items(), COLOURS, "os^DvP"):
            _tie(axis, places[inside], colour, marker, name)
        axis.set(title=group_title, xlabel="first component")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False, fontsize=9)
    axes[0, 0].set_ylabel("second component")
    canvas.suptitle(title, fontsize=11)
    return png(canvas)


def _tie(axis: Axes, points: np.ndarray, colour: str, marker: str, name: str) -> None:
    """Draws points (n, 2), each with a line to their mean; the more lines, the fainter."""
    centre = points.mean(axis=0)
    ends = np.stack([np.broadcast_to(centre, points.shape), points, np.full(points.shape, np.nan)], axis=1)
    axis.plot(*ends.reshape(-1, 2).T, color=colour, alpha=float(np.clip(15 / len(points), 0.18, 0.4)), linewidth=0.8)
    (x, y), (centre_x, centre_y) = points.T, centre
    axis.scatter(x, y, color=colour, marker=marker, s=9, linewidths=0)
    large: dict[str, Any] = {"s": 75, "edgecolors": "black", "linewidths": 0.9, "zorder": 3}
    axis.scatter(centre_x, centre_y, color=colour, marker=marker, label=name, **large)


def decisions(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> bytes:
    """The threshold rule on probabilities (N, 6): its decisions, and the score over all α and β.

    Left: each clip at the coordinates that the rule uses, marked by the right decision, with the regions of the best α
    and β. Right: as in `threshold_map`; a star marks the best α and β.
    """
    canvas, axes = figure(9.5, 4.5, columns=2)
    best = fit_exact(probabilities, labels)
    _decision_map(axes[0, 0], probabilities, labels, best.thresholds)
    inside = {int(fold): folds == fold for fold in np.unique(folds)}
    own = {fold: fit_exact(probabilities[rows], labels[rows]).thresholds for fold, rows in inside.items()}
    scores = surface(probabilities, labels, ALPHAS, BETAS).score
    score_map(canvas, axes[0, 1], scores, best.thresholds, best.score, own)
    return png(canvas)


def _decision_map(axis: Axes, probabilities: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> None:
    """Clips by the second probability and the lead of the first, in the regions of the threshold rule."""
    ordered = -np.sort(-probabilities, axis=1)
    second, lead = ordered[:, 1], ordered[:, 0] - ordered[:, 1]
    always = {"single": Thresholds(2, 0), "50/50": Thresholds(0, 2), "70/30": Thresholds(0, -1)}
    right = {name: decode_thresholds(probabilities, rule) == labels for name, rule in always.items()}
    rest, size = ~np.any(list(right.values()), axis=0), float(np.clip(4000 / len(labels), 5, 20))
    label = f"none of them ({rest.sum():,})"
    axis.scatter(second[rest], lead[rest], s=size / 2, color="#bbbbbb", linewidths=0, label=label)
    for (name, rows), colour, marker in zip(right.items(), (COLOURS[2], COLOURS[4], COLOURS[0]), "o^s"):
        label = f"{name} ({rows.sum():,})"
        axis.scatter(second[rows], lead[rows], s=size, color=colour, marker=marker, linewidths=0, label=label)
    # Beyond this line, two probabilities would sum to more than 1.
    axis.plot([0, 0.5], [1, 0], color="#888888", linewidth=0.8, linestyle=":")
    _draw_regions(axis, thresholds)
    axis.set(
        xlabel="second largest probability (line: α of the star)",
        ylabel="lead of the largest (line: β of the star)",
        xlim=(0, 0.6),
        ylim=(0, 1.08),
        title="clips and the rule's decisions",
    )
    scale = float(np.sqrt(20 / size))
    axis.legend(title="right decision", fontsize=8, title_fontsize=8, loc="upper right", markerscale=scale)


def _draw_regions(axis: Axes, thresholds: Thresholds) -> None:
    """The boundaries between the rule's decisions, and the decisions' names."""
    alpha = min(thresholds.alpha, 0.5)
    top = 1 - 2 * alpha  # of the blends' region: the largest lead over a second probability of α
    beta = min(max(thresholds.beta, 0), top)
    axis.plot([alpha, alpha], [0, top], color="black", linewidth=1.2)
    axis.plot([alpha, (1 - beta) / 2], [beta, beta], color="black", linewidth=1.2)
    for text, low, high in (("50/50", 0, beta), ("70/30", beta, top)):
        if low < high:
            axis.text((1 - (low + high) / 2) / 2 + 0.02, (low + high) / 2, text, va="center", weight="bold")
    axis.text(0.02, 1.04, "single", va="center", weight="bold")


def one_posterior(probabilities: np.ndarray, posterior: np.ndarray, choice: int, truth: int, most: int = 10) -> bytes:
    """One clip: its six probabilities (6,), and the most likely labels of its posterior (36,).

    choice, truth: indices of labels
    """
    canvas, axes = figure(9.5, 3.4, columns=2, width_ratios=(1, 1.6))
    emotions, labels = axes[0]
    _bars(emotions, [EMOTION_NAMES[emotion] for emotion in EMOTIONS], probabilities, [COLOURS[5]] * len(EMOTIONS))
    emotions.set(title="the model's output", xlabel="probability of the emotion")
    top = list(np.argsort(-posterior, kind="stable")[:most])
    top += [label for label in (choice, truth) if label not in top]
    notes = {choice: "chosen", truth: "true"} if choice != truth else {choice: "chosen, and true"}
    names = [f"{LABELS[label]}  ← {notes[label]}" if label in notes else str(LABELS[label]) for label in top]
    colours = {truth: COLOURS[2], choice: COLOURS[1]}  # if both are one label, the choice's colour
    _bars(labels, names, posterior[top], [colours.get(label, COLOURS[5]) for label in top])
    labels.set(title="posterior over whole labels", xlabel="probability of the label")
    return png(canvas)


def _bars(axis: Axes, names: Sequence[str], values: np.ndarray, colours: Sequence[str]) -> None:
    axis.bar_label(axis.barh(range(len(names)), values, color=colours), fmt="%.2f", padding=3, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.tick_params(axis="y", length=0)
