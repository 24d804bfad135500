"""Cross-validation of the heads on features of realistic size, compared with a plain loop.

    python benchmarks/training.py [--epochs N]

The data has 2,456 rows of 7,168 invented features, in five folds of the real sizes. The recipe is the published one,
with thresholds fitted on the held-out fold after every epoch. The plain loop trains one head and one fold at a time,
with a DataLoader of batch size 32, and fits thresholds by a loop over the 20 × 20 grid that builds each clip's label.

Both start with the same weights and use the same batches, so their losses can be compared. Times are per epoch, without
set-up. The time for the 200 epochs of `published` is extrapolated; `fast` is run completely, including set-up.

The last line is one JSON object with the figures.
"""

import argparse
import json
import time

import numpy as np
import torch
from thresholds import plain_grid
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from blemore.labels import LABELS
from blemore_baselines.dataset import TARGETS, Dataset
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import fit_grid
from blemore_baselines.features import Features
from blemore_baselines.models.crossval import cross_validate, fold_seed
from blemore_baselines.models.heads import build_head, fit_scaler
from blemore_baselines.models.recipes import HEADS, PRESETS

FOLD_SIZES, DIM = (522, 486, 468, 472, 508), 7_168


def invented():
    """A dataset of the real size with features that depend on the labels."""
    rng = np.random.default_rng(0)
    folds = np.repeat(np.arange(5), FOLD_SIZES)
    labels = rng.integers(0, len(LABELS), size=len(folds))
    X = (TARGETS[labels] @ rng.normal(size=(6, DIM)) * 0.3 + rng.normal(size=(len(folds), DIM))).astype(np.float32)
    ids = [f"clip{k:04}" for k in range(len(folds))]
    return Dataset(ids, labels, folds, [f"A{fold}" for fold in folds]), Features(ids, X, np.arange(len(ids)), {})


def plain(dataset, features, head, recipe, epochs):
    """Seconds per epoch over the five folds, and losses (folds, epochs)."""
    losses, durations = [], []
    for fold in range(5):
        outside = dataset.folds != fold
        scaler = fit_scaler(features.X[outside])
        train = TensorDataset(torch.from_numpy(scaler(features.X[outside])), torch.from_numpy(dataset.targets[outside]))
        X_val, labels = torch.from_numpy(scaler(features.X[~outside])), dataset.labels[~outside]
        seed = fold_seed(0, fold)
        model = build_head(head, DIM, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        shuffle = torch.Generator().manual_seed(seed)
        losses.append([])
        for _ in range(epochs):
            start, summed = time.perf_counter(), 0.0
            # Passed to the loader, so both ways have the same batches.
            order = torch.randperm(len(train), generator=shuffle).tolist()
            for rows, targets in DataLoader(train, batch_size=recipe.batch_size, sampler=order):
                optimizer.zero_grad()
                logs = torch.log(torch.clamp(torch.softmax(model(rows), dim=1), min=1e-8))
                loss = F.kl_div(logs, targets, reduction="batchmean")
                loss.backward()
                optimizer.step()
                summed += loss.item() * len(rows)
            losses[-1].append(summed / len(train))
            with torch.no_grad():
                probabilities = torch.softmax(model(X_val), dim=1).numpy()
            plain_grid(probabilities, labels)
            durations.append(time.perf_counter() - start)
    return float(np.sum(durations) / epochs), np.array(losses)


def ours(dataset, features, heads, recipe, epochs):
    """Seconds per epoch over the five folds, without set-up as for the plain loop; and losses (heads, folds, epochs).

    Computed from two runs with an even number of epochs each, so all cores are busy to the end of both.
    """
    durations, few = {}, 2
    for number in (few, few + 2 * epochs):
        start = time.perf_counter()
        result = cross_validate(dataset, features, recipe._replace(epochs=number), heads)
        for logits in result.logits[:, 0].reshape(-1, len(dataset.ids), 6):
            for fold in range(5):
                inside = dataset.folds == fold
                fit_grid(softmax(logits[inside]), dataset.labels[inside])
        durations[number] = time.perf_counter() - start
    losses = np.stack([result.losses[fold][:, 0, :epochs] for fold in range(5)], axis=1)
    return (durations[few + 2 * epochs] - durations[few]) / (2 * epochs), losses


def whole(dataset, features, recipe):
    """Seconds of a complete cross-validation."""
    start = time.perf_counter()
    cross_validate(dataset, features, recipe)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    epochs = parser.parse_args().epochs
    dataset, features = invented()
    published, fast = PRESETS["published"]["aggregate"], PRESETS["fast"]["aggregate"]
    plain_s, ours_s, plain_losses, differences = {}, {}, {}, []
    for head in HEADS:
        plain_s[head], plain_losses[head] = plain(dataset, features, head, published, epochs)
        print(f"plain, {head}: {plain_s[head]:.2f} s per epoch over five folds", flush=True)
    for name, heads in {"mlp512": ["mlp512"], "all": list(HEADS)}.items():
        ours_s[name], losses = ours(dataset, features, heads, published, epochs)
        differences += [np.abs(loss / plain_losses[head] - 1).max() for head, loss in zip(heads, losses)]
    figures = {
        "epochs": epochs,
        "plain_s": plain_s,
        "ours_s": ours_s,
        "loss_difference": float(max(differences)),
        "times_faster_mlp512": plain_s["mlp512"] / ours_s["mlp512"],
        "times_faster_all": sum(plain_s.values()) / ours_s["all"],
        "fast_s": whole(dataset, features, fast),
        "published_s": ours_s["mlp512"] * published.epochs,
    }
    figures["times_faster_fast"] = figures["published_s"] / figures["fast_s"]
    print(f"kit, mlp512: {ours_s['mlp512']:.2f} s per epoch ({figures['times_faster_mlp512']:.1f} times faster)")
    print(f"kit, all three heads: {ours_s['all']:.2f} s per epoch ({figures['times_faster_all']:.1f} times faster)")
    print(f"largest relative difference in loss: {figures['loss_difference']:.1e}")
    print(
        f"mlp512, cross-validation with published: {figures['published_s']:.0f} s; with fast: {figures['fast_s']:.1f} s"
        f" ({figures['times_faster_fast']:.0f} times faster)"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
