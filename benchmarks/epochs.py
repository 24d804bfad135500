"""How many epochs to train the model for new clips: chosen, as in `retrain`, or the same number as each fold.

    python benchmarks/epochs.py [--seeds N] [--demo DIR]

The data: fabricated clips of 12 actors in five folds, with as many new actors (clean: soft labels in 600 columns with
noise of the same size; noisy: three times as much), and the demo (`gray_flow` and `logmel`; made first without --demo).
The figures: nested scores, and the score on new actors of a model trained on all actors for as many epochs, with the
best thresholds on all out-of-fold logits of that epoch. Means over seeds; the last line is one JSON object with the
figures.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from fast import demo_features

from blemore_baselines.dataset import TARGETS, Dataset
from blemore_baselines.decoding import count, decode_thresholds, figures, fit_exact, softmax
from blemore_baselines.decoding.accounts import choose
from blemore_baselines.features import Features
from blemore_baselines.models.crossval import cross_validate
from blemore_baselines.models.heads import clip_logits
from blemore_baselines.models.recipes import PRESETS
from blemore_baselines.train import Final, fit_final

ACTORS, CLIPS, DIM, HEAD = 12, 18, 600, "mlp256"


def fabricated(noise, seed):
    """Known and new actors: (dataset, features) each."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(len(TARGETS[0]), DIM))
    parts = []
    for name in ("known", "new"):
        labels, actor = rng.integers(0, len(TARGETS), ACTORS * CLIPS), np.repeat(np.arange(ACTORS), CLIPS)
        X = TARGETS[labels] @ basis + noise * rng.normal(size=(len(labels), DIM))
        X += noise / 4 * rng.normal(size=(ACTORS, DIM))[actor]
        ids = [f"{name}{k}" for k in range(len(labels))]
        parts.append((Dataset(ids, labels, actor % 5, [f"{name}{k}" for k in actor]), X.astype(np.float32)))
    return [(dataset, Features(dataset.ids, X, np.arange(len(X)), {})) for dataset, X in parts]


def measure(preset, seed, train, new=None):
    """Way → nested score, and the score on new clips; the epoch chosen on all folds comes last."""
    dataset, features = train
    recipe = PRESETS[preset]["aggregate"]
    probabilities = softmax(cross_validate(dataset, features, recipe, [HEAD], [seed]).logits[0, 0])
    best_epoch = choose(probabilities, dataset.labels)[0] + 1
    ways = {
        "chosen": (None, best_epoch),
        "as in retrain": (recipe.oof_epoch, recipe.oof_epoch),
        "as each fold": (recipe.epochs, recipe.epochs),
    }
    row = {}
    for way, (fixed, epoch) in ways.items():
        nested = figures(probabilities, dataset.labels, dataset.folds, fixed)["nested"]["score"]
        reached = None
        if new:
            thresholds = fit_exact(probabilities[epoch - 1], dataset.labels).thresholds
            model, scaler = fit_final(dataset, features, HEAD, recipe, seed, Final(-1, epoch, thresholds, ""))
            logits = clip_logits(model, scaler(new[1].X), new[1].owner, len(new[0].ids))
            reached = count(decode_thresholds(softmax(logits), thresholds), new[0].labels).score
        row[way] = (nested, reached)
    return row, best_epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--demo", type=Path)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        demo = demo_features(options.demo or Path(folder))
        cases = {
            "clean": lambda seed: fabricated(1.0, seed),
            "noisy": lambda seed: fabricated(3.0, seed),
            "demo": lambda _: [demo],
        }
        for case, make in cases.items():
            for preset in PRESETS:
                rows, best_epochs = zip(*(measure(preset, seed, *make(seed)) for seed in range(options.seeds)))
                print(f"{case}, {preset}: chosen epochs {', '.join(map(str, best_epochs))}", flush=True)
                for way in rows[0]:
                    nested, reached = zip(*(row[way] for row in rows))
                    mean = None if None in reached else float(np.mean(reached))
                    results[f"{case}, {preset}, {way}"] = {"nested": float(np.mean(nested)), "reached": mean}
                    on_new = "" if mean is None else f"  reached {mean:.4f}"
                    print(f"  {way:<14} nested {np.mean(nested):.4f}{on_new}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
