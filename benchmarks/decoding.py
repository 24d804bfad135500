"""Structured decoding compared with the threshold rule: fitting with nested evaluation, and decoding a million clips.

    python benchmarks/decoding.py

The four real runs are read from the folder BLEMORE_SHARED (default ../shared); if it is missing, data of the same size
is generated. The last line is one JSON object with the figures.
"""

import json
import os
import resource
import time
from pathlib import Path

import numpy as np

from blemore_baselines.dataset import TARGETS, read_dataset
from blemore_baselines.decoding.accounts import nested_folds
from blemore_baselines.decoding.posterior import fit, log_probabilities, posterior
from blemore_baselines.decoding.scores import read_models, softmax, to_log_probabilities
from blemore_baselines.decoding.structured import cross_validate, decide
from blemore_baselines.decoding.thresholds import decode_thresholds, fit_grid

RUNS = ("e100_ce", "e100_kl_div", "e50_ce", "e50_kl_div")
MILLION = 1_000_000


def four_runs():
    """Probabilities (4, N, 6), labels, folds, and their source."""
    real = (
        Path(os.environ.get("BLEMORE_SHARED") or Path(__file__).resolve().parent.parent.parent / "shared")
        / "blemore-real"
    )
    if real.is_dir():
        dataset = read_dataset(real / "train_metadata.csv")
        models = read_models([real / "hicmae" / f"{run}_train_oof_logits.csv" for run in RUNS], dataset.ids)
        return models.probabilities, dataset.labels, dataset.folds, "real"
    labels = np.random.default_rng(0).integers(0, len(TARGETS), 2456)
    return np.stack([clips(labels, seed) for seed in range(4)]), labels, np.arange(2456) % 5, "generated"


def clips(labels, seed):
    """Probabilities (N, 6) like those of a mediocre model: the true emotions are somewhat more probable."""
    return softmax(2 * TARGETS[labels] + np.random.default_rng(seed).normal(size=(len(labels), 6)))


def seconds(function):
    """Wall and processor time of one call, and its result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - processor, result


def main():
    probabilities, labels, folds, names = four_runs()
    figures = {"runs": names, "clips": len(labels)}

    def measure(name, function):
        wall, processor, result = seconds(function)
        figures[name] = {"wall_s": wall, "cpu_s": processor}
        print(f"{name:<32} {wall:>8.2f} s wall  {processor:>8.2f} s CPU", flush=True)
        return result

    mean = probabilities.mean(axis=0)
    measure("thresholds: nested", lambda: nested_folds(mean[np.newaxis], labels, folds))
    measure(
        "structured: nested and final", lambda: cross_validate(log_probabilities(probabilities, RUNS), labels, folds)
    )
    model = measure("structured: one fit", lambda: fit(log_probabilities(probabilities, RUNS), labels, strength=3.0))
    thresholds, _ = fit_grid(mean, labels)
    sample = clips(np.random.default_rng(9).integers(0, len(TARGETS), MILLION), 9)
    measure("thresholds: a million clips", lambda: decode_thresholds(sample, thresholds))
    single_fit = fit(to_log_probabilities(probabilities[0]), labels, strength=3.0)
    measure(
        "structured: a million clips",
        lambda: decide(posterior(single_fit, to_log_probabilities(sample)), single_fit.share),
    )
    four = np.stack([sample] * 4)
    measure(
        "structured: a million, 4 models", lambda: decide(posterior(model, log_probabilities(four, RUNS)), model.share)
    )
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
