"""Out-of-fold outputs of any module, trained by the same loop as the published heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from blemore_baselines.dataset import Dataset
from blemore_baselines.engines import available_cores, one_thread_each, take_turns
from blemore_baselines.features import Features
from blemore_baselines.models.crossval import fold_seed, split_rows
from blemore_baselines.models.heads import seeded
from blemore_baselines.models.loop import Loss, best_device, train_epochs
from blemore_baselines.models.recipes import Recipe

# Widths of a row's parts → a new module, (rows, their sum) → (rows, K), initialised from torch's global generator.
Build = Callable[[Sequence[int]], nn.Module]
# For the findings of studies that train each rival once.
ONE_TRAINING = (
    "Epochs and thresholds of a fold come from the other folds. Each p-value is for one comparison of these trained"
    " models; another --seed trains different ones. The preset's recipe was chosen for the baseline, not for its"
    " rivals."
)


def out_of_fold(
    dataset: Dataset, parts: Sequence[Features], recipe: Recipe, build: Build, loss: Loss, seed: int, title: str
) -> np.ndarray:
    """Outputs (epochs, N, K) float32 of every epoch. Each clip's outputs come from a module, a scaler and a basis that
    saw none of the clip's fold.

    parts: aggregated, of the dataset's clips, in its order; if the recipe uses a basis, each part has its own, which
           keeps the parts separate
    loss:  of outputs (rows, K) and label indices (rows,)
    """
    results: dict[int, np.ndarray] = {}
    folds = np.unique(dataset.folds)
    with one_thread_each(), tqdm(total=len(folds) * recipe.epochs, desc=title, unit="epoch", disable=None) as progress:

        def task(fold: int) -> Iterator[None]:
            inside, own_seed = dataset.folds != fold, fold_seed(seed, fold)
            train, held_out = zip(*(split_rows(part.X, inside, recipe) for part in parts))
            module = seeded(partial(build, [rows.shape[1] for rows in train]), own_seed)
            rows_held_out = torch.from_numpy(np.hstack(held_out)).to(best_device())
            outputs = []
            for _ in train_epochs(
                module, np.hstack(train), dataset.labels[inside], loss, recipe, recipe.epochs, own_seed
            ):
                with torch.no_grad():
                    outputs.append(module(rows_held_out).cpu().numpy())
                progress.update()
                yield
            results[fold] = np.stack(outputs)

        take_turns([task(fold) for fold in folds], 1 if torch.cuda.is_available() else available_cores())
    every_epoch = np.zeros((recipe.epochs, len(dataset.ids), results[folds[0]].shape[-1]), dtype=np.float32)
    for fold, outputs in results.items():
        every_epoch[:, dataset.folds == fold] = outputs
    return every_epoch
