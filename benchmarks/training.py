"""Cross-validation of the heads on features of the real size, beside the plain way.

    python benchmarks/training.py [--epochs N]

2,456 rows of 7,168 invented features in five folds of the real sizes, the published recipe with
thresholds fitted on the held-out fold after every epoch. The plain way takes one head and one fold at a
time: a DataLoader of batch 32, and a loop over the 20 × 20 grid that builds each clip's label.

Both get the same initial weights and the same batches, so that their losses can be compared. Times are of
epochs, without set-up. What the 200 epochs of `published` take is reckoned from them; `fast` is run whole,
set-up included.

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
    """A dataset of the real size; its features tell something of the labels."""
    rng = np.random.default_rng(0)
    folds = np.repeat(np.arange(5), FOLD_SIZES)
    labels = rng.integers(0, len(LABELS), size=len(folds))
    X = (TARGETS[labels] @ rng.normal(size=(6, DIM)) * 0.3 + rng.normal(size=(len(folds), DIM))).astype(np.float32)
    ids = [f"clip{k:04}" for k in range(len(folds))]
    return Dataset(ids, labels, folds, [f"A{fold}" for fold in folds]), Features(ids, X, np.arange(len(ids)), {})


def plain(dataset, features, head, recipe, epochs):
    """Seconds an epoch over the five folds, and losses (folds, epochs)."""
    losses, took = [], []
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
            order = torch.randperm(
                len(train), generator=shuffle
            ).tolist()  # handed over, so that both have the same batches
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
            took.append(time.perf_counter() - start)
    return float(np.sum(took) / epochs), np.array(losses)


def ours(dataset, features, heads, recipe, epochs):
    """Seconds an epoch over the five folds, without the set-up, which the plain loop's time leaves out as well; and
    losses (heads, folds, epochs).

    From two runs, both of an even number of epochs: then all cores are busy to the end, in both of them.
    """
    took, few = {}, 2
    for number in (few, few + 2 * epochs):
        start = time.perf_counter()
        found = cross_validate(dataset, features, recipe._replace(epochs=number), heads)
        for by_head in found.logits[:, 0]:
            for epoch in by_head:
                for fold in range(5):
                    fit_grid(softmax(epoch[dataset.folds == fold]), dataset.labels[dataset.folds == fold])
        took[number] = time.perf_counter() - start
    losses = np.stack([found.losses[fold][:, 0, :epochs] for fold in range(5)], axis=1)
    return (took[few + 2 * epochs] - took[few]) / (2 * epochs), losses


def whole(dataset, features, recipe):
    """Seconds of a cross-validation from beginning to end."""
    start = time.perf_counter()
    cross_validate(dataset, features, recipe)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    epochs = parser.parse_args().epochs
    dataset, features = invented()
    recipe, fast = PRESETS["published"]["aggregate"], PRESETS["fast"]["aggregate"]
    figures = {"epochs": epochs, "plain_s": {}, "ours_s": {}}
    loops = {}
    for head in HEADS:
        figures["plain_s"][head], loops[head] = plain(dataset, features, head, recipe, epochs)
        print(f"plain, {head}: {figures['plain_s'][head]:.2f} s an epoch over five folds", flush=True)
    figures["ours_s"]["mlp512"], one = ours(dataset, features, ["mlp512"], recipe, epochs)
    figures["ours_s"]["all"], three = ours(dataset, features, list(HEADS), recipe, epochs)
    figures["loss_difference"] = float(
        max(np.abs(found / loops[head] - 1).max() for found, head in [(one[0], "mlp512"), *zip(three, HEADS)])
    )
    figures["times_faster_mlp512"] = figures["plain_s"]["mlp512"] / figures["ours_s"]["mlp512"]
    figures["times_faster_all"] = sum(figures["plain_s"].values()) / figures["ours_s"]["all"]
    figures["fast_s"], figures["published_s"] = (
        whole(dataset, features, fast),
        figures["ours_s"]["mlp512"] * recipe.epochs,
    )
    figures["times_faster_fast"] = figures["published_s"] / figures["fast_s"]
    print(
        f"ours, mlp512: {figures['ours_s']['mlp512']:.2f} s an epoch ({figures['times_faster_mlp512']:.1f} times"
        " faster)"
    )
    print(
        f"ours, all three heads: {figures['ours_s']['all']:.2f} s an epoch ({figures['times_faster_all']:.1f} times"
        " faster)"
    )
    print(f"largest relative difference of a loss: {figures['loss_difference']:.1e}")
    print(
        f"mlp512, cross-validation by published: {figures['published_s']:.0f} s; by fast: {figures['fast_s']:.1f} s"
        f" ({figures['times_faster_fast']:.0f} times faster)"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
