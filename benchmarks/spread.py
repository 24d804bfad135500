"""Scores of new clips that are sharper than out-of-fold ones: how much their spread varies by chance, and the effect of
dividing by it.

    python benchmarks/spread.py

The four real runs are read from the folder BLEMORE_SHARED (default ../shared). Each fold is held out and decoded with a
posterior from the others, at strength 1, with its original logits and with sharper ones: once with dividing scores that
are spread wider, as in `posterior`, and once without. The same is done for the held-out clips in random groups, each
decoded separately as if it were large enough. The last line is one JSON object with the figures.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from blemore_baselines.dataset import read_dataset
from blemore_baselines.decoding import count
from blemore_baselines.decoding import posterior as decoder
from blemore_baselines.decoding.calibration import calibration
from blemore_baselines.decoding.scores import read_models
from blemore_baselines.decoding.structured import decide

REAL = Path(os.environ.get("BLEMORE_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "blemore-real"
RUNS = ("e100_ce", "e100_kl_div", "e50_ce", "e50_kl_div")
SUBSETS = 2000  # of 11 actors, as many as are in the test set


def spread(logs):
    return np.sqrt(logs.var(axis=-1).mean(axis=-1))


def compare_spreads(dataset, train, test):
    """For each run, ratios of spreads: test to out-of-fold scores, each fold to the others, and the middle 95 % of 11
    random actors to the others.
    """
    actors, rng = np.array(dataset.actors), np.random.default_rng(0)
    rows = {}
    for run, logs, new in zip(RUNS, train, test):
        folds = [spread(logs[dataset.folds == k]) / spread(logs[dataset.folds != k]) for k in np.unique(dataset.folds)]
        subsets = [np.isin(actors, rng.choice(np.unique(actors), 11, replace=False)) for _ in range(SUBSETS)]
        low, high = np.quantile([spread(logs[inside]) / spread(logs[~inside]) for inside in subsets], (0.025, 0.975))
        rows[run] = {"test": spread(new) / spread(logs), "folds": folds, "low": low, "high": high}
        by_fold = ", ".join(f"{ratio:.2f}" for ratio in folds)
        print(f"{run:<12} test {rows[run]['test']:.3f}; folds {by_fold}; 11 actors {low:.2f} to {high:.2f}", flush=True)
    return rows


def judge(dataset, logs, models, sharper, divides, size=None):
    """The decoder's expected and reached score on held-out clips, and its log loss. size: of random groups."""
    labels, rng = dataset.labels, np.random.default_rng(0)
    answers, expected, posteriors = np.zeros(len(labels), dtype=int), np.zeros(len(labels)), np.zeros((len(labels), 36))
    for fold, model in models.items():
        clips = np.flatnonzero(dataset.folds == fold)
        groups = [clips] if size is None else np.array_split(rng.permutation(clips), max(len(clips) // size, 1))
        for group in groups:
            new = sharper * logs[:, group]
            posteriors[group] = decoder.posterior(model if divides else model._replace(spread=None), new)
            answers[group], expected[group] = decide(posteriors[group], model.share)
    loss = calibration(posteriors, labels)["log_loss"]
    return {"expected": float(expected.mean()), "reached": count(answers, labels).score, "log_loss": loss}


def main():
    if not REAL.is_dir():
        sys.exit(f"{REAL} does not exist: set BLEMORE_SHARED to the folder that holds blemore-real")
    dataset = read_dataset(REAL / "train_metadata.csv")
    train = read_models([REAL / "hicmae" / f"{run}_train_oof_logits.csv" for run in RUNS], dataset.ids).logs
    test = read_models([REAL / "hicmae" / f"{run}_test_logits.csv" for run in RUNS], test=True).logs
    results = {"spreads": compare_spreads(dataset, train, test)}
    decoder.ENOUGH = 1  # divide groups of any size
    for name, logs in (("e100_ce", train[:1]), ("all four", train)):
        models = {
            int(fold): decoder.fit(logs[:, dataset.folds != fold], dataset.labels[dataset.folds != fold], 1.0)
            for fold in np.unique(dataset.folds)
        }
        cases = {f"{sharper:g} times as sharp": (sharper, None) for sharper in (1, 1.13, 1.5, 2)}
        cases |= {f"in groups of {size}": (1, size) for size in (1, 10, 50, 100, 200)}
        for case, (sharper, size) in cases.items():
            for divides in (False, True):
                row = judge(dataset, logs, models, sharper, divides, size)
                results[f"{name}, {case}, {'divided' if divides else 'as it is'}"] = row
                figures = ", ".join(f"{figure} {value:.4f}" for figure, value in row.items())
                print(f"{name}, {case}, {'divided' if divides else 'as it is'}: {figures}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
