"""Figures that only the notebook shows: a clip, who acts what, what features tell apart, what a decoder sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from blemore.labels import EMOTION_NAMES, EMOTIONS, LABELS
from blemore_baselines.clips.media import SAMPLE_RATE, Clip
from blemore_baselines.dataset import IS_BLEND, Dataset
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact, surface
from blemore_baselines.results.plots import COLOURS, figure, png, score_map
from blemore_baselines.results.stability import ALPHAS, BETAS


def clip_strip(clip: Clip, title: str) -> bytes:
    """A clip at a glance: frames, waveform and log-mel spectrogram over the same seconds. Raises MediaError."""
    from blemore_baselines.encoders.logmel import LogMel  # which imports transformers, and that takes seconds

    sound, mels = clip.audio(), LogMel().encode(clip)
    step = lambda frame: max(1, min(frame.shape[:2]) // 200)  # noqa: E731
    frames = [
        frame[:: step(frame), :: step(frame)].copy() for frame in clip.frames()
    ]  # small, so that a long clip fits
    shown = max(3, round(8 * frames[0].shape[0] / frames[0].shape[1]))
    strip = np.hstack(
        [
            np.pad(frames[int((k + 0.5) * len(frames) / shown)], ((0, 0), (1, 1), (0, 0)), constant_values=255)
            for k in range(shown)
        ]
    )
    seconds = max(len(sound) / SAMPLE_RATE, len(frames) / (clip.fps or 25))
    made, axes = figure(9.5, 3.9, rows=3, sharex=True, height_ratios=(1.35, 0.8, 1.2))
    pictures, wave, spectrum = axes[:, 0]
    pictures.imshow(strip, extent=(0, seconds, 0, 1), aspect="auto")
    pictures.set_axis_off()
    pictures.set_title(title, loc="left", fontsize=11)
    edges = np.linspace(0, len(sound), 1000, endpoint=False).astype(int)
    wave.fill_between(
        edges / SAMPLE_RATE,
        np.minimum.reduceat(sound, edges),
        np.maximum.reduceat(sound, edges),
        color=COLOURS[0],
        linewidth=0.5,
    )
    wave.set(ylabel="amplitude", xlim=(0, seconds))
    spectrum.imshow(
        mels.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, len(sound) / SAMPLE_RATE, 0, len(mels[0])),
        vmin=mels.max() - 11,
    )
    mel = lambda hertz: np.log1p(np.asarray(hertz) / 700)  # noqa: E731
    kilohertz = np.array([0.5, 1, 2, 4])
    spectrum.set_yticks(
        (mel(1000 * kilohertz) - mel(30)) / (mel(8000) - mel(30)) * len(mels[0]), [f"{value:g}" for value in kilohertz]
    )
    spectrum.set(xlabel="seconds", ylabel="kHz")
    return png(made)


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
        axes.axvspan(
            places[0] - 0.5, places[-1] + 0.5, color="#000000", alpha=0.06 * (int(fold) % 2), linewidth=0, zorder=0
        )
        axes.text(
            np.mean(places),
            base.max() * 1.06,
            f"fold {fold}\n{(dataset.folds == fold).sum():,} clips",
            ha="center",
            va="bottom",
            fontsize=8,
        )
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, base.max() * 1.25), ylabel="clips", xlabel="actor")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    return png(made)


def actor_and_emotion(X: np.ndarray, dataset: Dataset, title: str) -> bytes:
    """Features (N, D) on their two main axes: left, clips tied to their actor's mean, of six actors; right, singles
    tied to their emotion's.
    """
    standard = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    products, axis = standard @ standard.T, np.random.default_rng(0).normal(size=(len(X), 2)).astype(X.dtype)
    for _ in range(300):  # subspace iteration: of thousands of clips, all the other axes would take half a minute
        axis, _ = np.linalg.qr(products @ axis)
    places = axis * np.sqrt(np.sum(axis * (products @ axis), axis=0))
    actors, all_actors = np.array(dataset.actors), sorted({*dataset.actors})
    by_actor = {
        actor: actors == actor for actor in all_actors[: len(EMOTIONS)]
    }  # as many as there are colours that can be told apart
    by_emotion = {
        EMOTION_NAMES[emotion]: dataset.labels == label for label, emotion in enumerate(EMOTIONS)
    }  # a single's label is its emotion's index
    made, axes = figure(9.5, 4.9, columns=2, sharex=True, sharey=True)
    for one, groups, told in zip(
        axes[0], (by_actor, by_emotion), (f"{len(by_actor)} of {len(all_actors)} actors", "single emotions")
    ):
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


def decisions(probabilities: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> bytes:
    """The threshold rule on probabilities (N, 6): which clips it takes for what, and the score of all α and β.

    Left: each clip where the rule sees it, marked by the decision that would be right, in the regions of the best α and
          β.
    Right: as in `threshold_map`, which marks these with a star.
    """
    made, axes = figure(9.5, 4.5, columns=2)
    best = fit_exact(probabilities, labels)
    _decision_map(axes[0, 0], probabilities, labels, best.thresholds)
    own = {
        int(fold): fit_exact(probabilities[folds == fold], labels[folds == fold]).thresholds
        for fold in np.unique(folds)
    }
    score_map(made, axes[0, 1], surface(probabilities, labels, ALPHAS, BETAS).score, best.thresholds, best.score, own)
    return png(made)


def _decision_map(axes, probabilities: np.ndarray, labels: np.ndarray, thresholds: Thresholds) -> None:
    """Clips by the second probability and the lead of the first, in the regions of the threshold rule."""
    ordered = -np.sort(-probabilities, axis=1)
    second, lead = ordered[:, 1], ordered[:, 0] - ordered[:, 1]
    always = {"single": Thresholds(2, 0), "50/50": Thresholds(0, 2), "70/30": Thresholds(0, -1)}
    right = {name: decode_thresholds(probabilities, its) == labels for name, its in always.items()}
    none, size = ~np.any(list(right.values()), axis=0), np.clip(4000 / len(labels), 5, 20)
    axes.scatter(
        second[none], lead[none], s=size / 2, color="#bbbbbb", linewidths=0, label=f"none of them ({none.sum():,})"
    )
    for (name, its), colour, marker in zip(right.items(), (COLOURS[2], COLOURS[4], COLOURS[0]), "o^s"):
        axes.scatter(
            second[its], lead[its], s=size, color=colour, marker=marker, linewidths=0, label=f"{name} ({its.sum():,})"
        )
    axes.plot(
        [0, 0.5], [1, 0], color="#888888", linewidth=0.8, linestyle=":"
    )  # beyond it, two probabilities sum to more than 1
    alpha = min(thresholds.alpha, 0.5)
    top = 1 - 2 * alpha  # of the blends: the largest lead over a second probability of α
    beta = min(max(thresholds.beta, 0), top)
    axes.plot([alpha, alpha], [0, top], color="black", linewidth=1.2)
    axes.plot([alpha, (1 - beta) / 2], [beta, beta], color="black", linewidth=1.2)
    for text, low, high in (("50/50", 0, beta), ("70/30", beta, top)):
        if low < high:
            axes.text((1 - (low + high) / 2) / 2 + 0.02, (low + high) / 2, text, va="center", weight="bold")
    axes.text(0.02, 1.04, "single", va="center", weight="bold")
    axes.set(
        xlabel="second largest probability (line: α of the star)",
        ylabel="lead of the largest (line: β of the star)",
        xlim=(0, 0.6),
        ylim=(0, 1.08),
        title="what the rule sees and decides",
    )
    axes.legend(
        title="what would be right", fontsize=8, title_fontsize=8, loc="upper right", markerscale=np.sqrt(20 / size)
    )


def one_posterior(probabilities: np.ndarray, posterior: np.ndarray, chosen: int, truth: int, most: int = 10) -> bytes:
    """One clip: its six probabilities (6,), and the likeliest labels of its posterior (36,); chosen, truth: label
    indices.
    """
    made, axes = figure(9.5, 3.4, columns=2, width_ratios=(1, 1.6))
    emotions, labels = axes[0]
    _bars(emotions, [EMOTION_NAMES[emotion] for emotion in EMOTIONS], probabilities, [COLOURS[5]] * len(EMOTIONS))
    emotions.set(title="what the model says", xlabel="probability of the emotion")
    top = list(np.argsort(-posterior, kind="stable")[:most])
    top += [label for label in (chosen, truth) if label not in top]
    told = {chosen: "chosen", truth: "true"} if chosen != truth else {chosen: "chosen, and true"}
    _bars(
        labels,
        [f"{LABELS[label]}{f'  ← {told[label]}' if label in told else ''}" for label in top],
        posterior[top],
        [COLOURS[1] if label == chosen else COLOURS[2] if label == truth else COLOURS[5] for label in top],
    )
    labels.set(title="what that means for whole labels", xlabel="probability of the label")
    return png(made)


def _bars(axes, names: Sequence[str], values: np.ndarray, colours: Sequence[str]) -> None:
    axes.bar_label(axes.barh(range(len(names)), values, color=colours), fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
