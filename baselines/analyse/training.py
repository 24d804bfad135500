"""Training a module of any form, a fold at a time, with the batches and the optimiser of the published heads."""

from __future__ import annotations

import os
from typing import Callable, Iterator, Optional

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from blemore_baselines.crossval import Recipe, fold_seed, take_turns
from blemore_baselines.dataset import Dataset
from blemore_baselines.features import Features
from blemore_baselines.heads import fit_scaler, one_thread_each

# `fast` for modules of any form: rows stay as they are, since a module may ask which columns are whose.
FAST = Recipe(3e-4, 1e-3, 256, 15, 10)

Build = Callable[[], nn.Module]  # → a new module, (rows, D) → (rows, K), initialised from torch's global generator
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # outputs (rows, K), label indices (rows,) → the mean over rows


def seeded(build: Build, seed: int) -> nn.Module:
    """A new module, initialised from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def perceptron(dim: int, hidden: Optional[int], outputs: int) -> nn.Module:
    """The form of the published heads, (rows, dim) → (rows, outputs). hidden: None is a linear map."""
    return nn.Linear(dim, outputs) if hidden is None else nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def out_of_fold(dataset: Dataset, features: Features, recipe: Recipe, build: Build, loss: Loss, seed: int, title: str) -> np.ndarray:
    """Outputs (epochs, N, K) float32 of every epoch, each clip's by a module that saw none of its fold, scaler included.

    features: aggregated, of the dataset's clips, in its order
    """
    found: dict[int, np.ndarray] = {}
    folds = np.unique(dataset.folds)
    with one_thread_each(), tqdm(total=len(folds) * recipe.epochs, desc=title, unit="epoch", disable=None) as progress:

        def task(fold: int) -> Iterator[None]:
            inside, own = dataset.folds != fold, fold_seed(seed, fold)
            scaler = fit_scaler(features.X[inside])
            held_out = torch.from_numpy(scaler(features.X[~inside])).to(_device())
            outputs = []
            for module in _epochs(modules[fold].to(_device()), scaler(features.X[inside]), dataset.labels[inside], loss, recipe, own):
                with torch.no_grad():
                    outputs.append(module(held_out).cpu().numpy())
                progress.update()
                yield
            found[fold] = np.stack(outputs)

        modules = {fold: seeded(build, fold_seed(seed, fold)) for fold in folds}  # here, for it draws from torch's global generator
        take_turns([task(fold) for fold in folds], 1 if torch.cuda.is_available() else os.cpu_count() or 1)
    every = np.zeros((recipe.epochs, len(dataset.ids), found[folds[0]].shape[-1]), dtype=np.float32)
    for fold, its in found.items():
        every[:, dataset.folds == fold] = its
    return every


def _epochs(module: nn.Module, X: np.ndarray, labels: np.ndarray, loss: Loss, recipe: Recipe, seed: int) -> Iterator[nn.Module]:
    """The module after each of the recipe's epochs on standardised rows X (rows, D) float32 with labels (rows,)."""
    rows, truth = torch.from_numpy(X).to(_device()), torch.from_numpy(labels).to(_device())
    optimizer = torch.optim.Adam(module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(rows), generator=shuffle).to(_device()).split(recipe.batch_size):
            optimizer.zero_grad()
            loss(module(rows[batch]), truth[batch]).backward()
            optimizer.step()
        yield module


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
