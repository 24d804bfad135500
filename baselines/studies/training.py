"""Training a module of any form by a recipe of `train`: its batches, its optimiser, its basis of the rows' span.

The form of the published heads, trained for soft labels, becomes what `train` makes of them, up to rounding.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from blemore_baselines.dataset import Dataset
from blemore_baselines.engines import one_thread_each, take_turns
from blemore_baselines.features import Features
from blemore_baselines.models.basis import span_basis
from blemore_baselines.models.crossval import fold_seed
from blemore_baselines.models.heads import fit_scaler
from blemore_baselines.models.recipes import Recipe

# Widths of a row's parts → a new module, (rows, their sum) → (rows, K), initialised from torch's global generator.
Build = Callable[[Sequence[int]], nn.Module]
Loss = Callable[
    [torch.Tensor, torch.Tensor], torch.Tensor
]  # outputs (rows, K), label indices (rows,) → the mean over rows
_INITIALISING = threading.Lock()
# For the findings of studies that train each rival once.
ONE_TRAINING = (
    "Epochs and thresholds of a fold come from the other folds. The p-values stand for one comparison each, of these"
    " very trainings: another --seed trains others. The preset's recipe was chosen for the baseline, not for its"
    " rivals."
)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A new module, initialised from `seed` alone."""
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def perceptron(dim: int, hidden: int | None, outputs: int) -> nn.Module:
    """The form of the published heads, (rows, dim) → (rows, outputs). hidden: None is a linear map."""
    return (
        nn.Linear(dim, outputs)
        if hidden is None
        else nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    )


def out_of_fold(
    dataset: Dataset, parts: Sequence[Features], recipe: Recipe, build: Build, loss: Loss, seed: int, title: str
) -> np.ndarray:
    """Outputs (epochs, N, K) float32 of every epoch, each clip's by a module that saw none of its fold, scaler and
    basis included.

    parts: aggregated, of the dataset's clips, in its order; each is written in a basis of its own where the recipe asks
           for one, so that the module can tell them apart
    """
    found: dict[int, np.ndarray] = {}
    folds = np.unique(dataset.folds)
    with one_thread_each(), tqdm(total=len(folds) * recipe.epochs, desc=title, unit="epoch", disable=None) as progress:

        def task(fold: int) -> Iterator[None]:
            inside, own = dataset.folds != fold, fold_seed(seed, fold)
            train, held_out = zip(*(_rows(part.X, inside, recipe) for part in parts))
            module = seeded(partial(build, [rows.shape[1] for rows in train]), own).to(_device())
            unseen = torch.from_numpy(np.hstack(held_out)).to(_device())
            outputs = []
            for module in _epochs(module, np.hstack(train), dataset.labels[inside], loss, recipe, own):
                with torch.no_grad():
                    outputs.append(module(unseen).cpu().numpy())
                progress.update()
                yield
            found[fold] = np.stack(outputs)

        take_turns([task(fold) for fold in folds], 1 if torch.cuda.is_available() else os.cpu_count() or 1)
    every = np.zeros((recipe.epochs, len(dataset.ids), found[folds[0]].shape[-1]), dtype=np.float32)
    for fold, its in found.items():
        every[:, dataset.folds == fold] = its
    return every


def _rows(X: np.ndarray, inside: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The rows inside and the others, standardised and written in the recipe's basis by what those inside are."""
    scaler = fit_scaler(X[inside])
    train, held_out = scaler(X[inside]), scaler(X[~inside])
    basis = span_basis(train, recipe.span) if recipe.span else None
    return (train, held_out) if basis is None else (train @ basis, held_out @ basis)


def _epochs(
    module: nn.Module, X: np.ndarray, labels: np.ndarray, loss: Loss, recipe: Recipe, seed: int
) -> Iterator[nn.Module]:
    """The module after each of the recipe's epochs on rows X (rows, D) float32 with labels (rows,)."""
    rows, truth = torch.from_numpy(X).to(_device()), torch.from_numpy(labels).to(_device())
    optimizer = torch.optim.Adam(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(rows), generator=shuffle).to(_device()).split(recipe.batch_size):
            optimizer.zero_grad()
            loss(module(rows[batch]), truth[batch]).backward()
            optimizer.step()
        yield module


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
