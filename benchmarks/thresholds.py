"""The exact threshold search, compared with a plain loop over a 20 × 20 grid that builds each clip's label.

    python benchmarks/thresholds.py

The last line is one JSON object with the figures.
"""

import json
import statistics
import time

import numpy as np

from blemore.labels import EMOTIONS, LABELS, NEUTRAL
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import GRID, fit_exact, fit_grid

FOLD = 522  # clips of the largest fold
SIZES = (522, 2_456, 20_000, 200_000, 1_000_000)


def plain_grid(probabilities, labels):
    """The best score on the grid, with a straightforward implementation of the rule."""
    truths = [dict(zip(LABELS[label].emotions, LABELS[label].saliences)) for label in labels]
    best = (-1.0, None, None)
    for alpha in GRID:
        for beta in GRID:
            predictions = [plain_label(dict(zip(EMOTIONS, row)), alpha, beta) for row in probabilities]
            presence = sum(set(prediction) == set(truth) for prediction, truth in zip(predictions, truths)) / len(
                truths
            )
            blends = [(prediction, truth) for prediction, truth in zip(predictions, truths) if len(truth) == 2]
            salience = sum(prediction == truth for prediction, truth in blends) / len(blends)
            best = max(best, ((presence + salience) / 2, alpha, beta), key=lambda candidate: candidate[0])
    return best


def plain_label(scores, alpha, beta):
    ranked = sorted(scores, key=lambda emotion: -scores[emotion])[:2]
    above = [emotion for emotion in ranked if scores[emotion] >= alpha] or ranked[:1]
    if len(above) == 1 or NEUTRAL in above:
        return {above[0]: 100}
    first, second = above
    if abs(scores[first] - scores[second]) <= beta:
        return {first: 50, second: 50}
    return {first: 70, second: 30}


def clips(n, rng):
    """Probabilities like those of a mediocre model: the true emotions are somewhat more probable."""
    labels = rng.integers(0, len(LABELS), size=n)
    shares = np.zeros((n, len(EMOTIONS)))
    for row, label in zip(shares, labels):
        for emotion, salience in zip(*LABELS[label]):
            row[EMOTIONS.index(emotion)] = salience / 100
    return softmax(2 * shares + rng.normal(size=shares.shape)), labels


def seconds(function, *arguments, runs=5):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    rng = np.random.default_rng(0)
    probabilities, labels = clips(FOLD, rng)
    plain, grid, exact = (
        plain_grid(probabilities, labels),
        fit_grid(probabilities, labels),
        fit_exact(probabilities, labels),
    )
    assert abs(plain[0] - grid[1]) < 1e-12 <= exact.score - grid[1] + 1e-12
    figures = {
        "plain_grid_s": seconds(plain_grid, probabilities, labels, runs=3),
        "grid_s": seconds(fit_grid, probabilities, labels),
    }
    figures["exact_s"] = {n: seconds(fit_exact, *clips(n, rng), runs=5 if n < 100_000 else 3) for n in SIZES}
    figures["times_faster"] = figures["plain_grid_s"] / figures["exact_s"][FOLD]
    print(
        f"{FOLD} clips: plain grid {1e3 * figures['plain_grid_s']:,.0f} ms, kit grid {1e3 * figures['grid_s']:.2f} ms,"
        f" exact {1e3 * figures['exact_s'][FOLD]:.2f} ms ({figures['times_faster']:,.0f} times faster than the plain"
        " grid)"
    )
    for n, duration in figures["exact_s"].items():
        print(f"exact, {n:>9,} clips: {1e3 * duration:>9,.1f} ms  ({1e6 * duration / n:.2f} µs per clip)")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
