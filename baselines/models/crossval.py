"""Cross-validation: out-of-fold logits of every epoch. Each clip's logits come from a model and a scaler that saw no
clip of its fold.

All heads and seeds of a fold train together (stack.py). With a GPU, so do all folds. Without one, folds take turns on
threads, an epoch at a time, with one core each. That is faster than all cores on the small steps of one fold, and gives
the same bytes on any number of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from blemore.io import write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.dataset import Dataset
from blemore_baselines.engines import available_cores, one_thread_each, take_turns
from blemore_baselines.features import Features
from blemore_baselines.models.basis import in_basis, span_basis
from blemore_baselines.models.heads import mean_over_rows, standardised
from blemore_baselines.models.loop import best_device
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.models.stack import Rows, Stack
from blemore_baselines.sources.npz import npz_bytes


class OutOfFold(NamedTuple):
    """logits: (heads, seeds, epochs, N, 6) float32, of all clips
    losses: fold → mean training losses (heads, seeds, epochs)
    """

    logits: np.ndarray
    losses: dict[int, np.ndarray]


class FoldResult(NamedTuple):
    """logits: (heads, seeds, epochs, clips, 6) float32, of the fold's clips
    losses: mean training losses (heads, seeds, epochs)
    """

    logits: np.ndarray
    losses: np.ndarray


class HeldOutRows(NamedTuple):
    """Rows (rows, D) of a fold's clips, as its models read them, and the clip that each belongs to (rows,)."""

    X: np.ndarray
    owner: np.ndarray
    n_clips: int


def cross_validate(
    dataset: Dataset,
    features: Features,
    recipe: Recipe,
    heads: Sequence[str] = ("mlp512",),
    seeds: Sequence[int] = (0,),
    keep: Path | None = None,
    title: str = "cross-validation",
) -> OutOfFold:
    """For each of the dataset's folds, train each of `heads` with each of `seeds` on all other folds.

    features: of the dataset's clips, in its order
    keep:     a folder for finished folds; folds that are already in it are not trained again
    """
    files = {int(fold): keep / f"fold_{fold}.npz" if keep else None for fold in np.unique(dataset.folds)}
    results = {fold: _load(file) for fold, file in files.items() if file and file.exists()}
    missing = [fold for fold in files if fold not in results]
    epochs, before = len(files) * recipe.epochs, len(results) * recipe.epochs
    with one_thread_each(), tqdm(total=epochs, initial=before, desc=title, unit="epoch", disable=None) as progress:

        def task(folds: Sequence[int]) -> Iterator[None]:
            training = _train_folds(dataset, features, folds, recipe, heads, seeds)
            for _ in range(recipe.epochs):
                fold_results = next(training)
                progress.update(len(folds))
                yield
            for fold, result in fold_results.items():
                results[fold] = result
                if file := files[fold]:
                    write_atomic(file, npz_bytes(**result._asdict()))

        if torch.cuda.is_available():
            take_turns([task(missing)] if missing else [], workers=1)
        else:
            workers = available_cores()
            for folds in _groups(missing, workers):
                take_turns([task([fold]) for fold in folds], workers)

    logits = np.zeros((len(heads), len(seeds), recipe.epochs, len(dataset.ids), len(EMOTIONS)), dtype=np.float32)
    for fold, result in results.items():
        logits[:, :, :, dataset.folds == fold] = result.logits
    return OutOfFold(logits, {fold: results[fold].losses for fold in files})


def fold_seed(seed: int, fold: int) -> int:
    """A different seed for each fold; fold -1 is all of train."""
    return int(np.random.SeedSequence((seed, int(fold) + 1)).generate_state(1)[0])


def split_rows(X: np.ndarray, inside: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The training rows and the others, both (…, K) float32, as the model reads them.

    All are standardised and, if the recipe has a span, written in a basis. Both are fitted on the training rows alone.

    X:      (rows, D)
    inside: (rows,), whether a row is one to train on
    """
    device = best_device()
    train, held_out = standardised(X, inside, device)
    basis = span_basis(train, recipe.span, device=device)
    if basis is None:
        return train, held_out
    return in_basis(train, basis, device), in_basis(held_out, basis, device)


def _train_folds(
    dataset: Dataset,
    features: Features,
    folds: Sequence[int],
    recipe: Recipe,
    heads: Sequence[str],
    seeds: Sequence[int],
) -> Iterator[dict[int, FoldResult]]:
    """Train the models of several folds in one stack. After each epoch, yield the folds' results so far, with zeros for
    later epochs.
    """
    train, held_out = {}, {}
    for fold in folds:
        clips = np.flatnonzero(dataset.folds == fold)
        outside = np.isin(features.owner, clips)
        X, X_held_out = split_rows(features.X, ~outside, recipe)
        train[fold] = Rows(X, dataset.targets[features.owner[~outside]])
        held_out[fold] = HeldOutRows(X_held_out, np.searchsorted(clips, features.owner[outside]), len(clips))
    members = [(fold, seed) for fold in folds for seed in seeds]
    own_seeds = [fold_seed(seed, fold) for fold, seed in members]
    stack = Stack(heads, [train[fold] for fold, _ in members], own_seeds, recipe)
    tensors = {fold: torch.from_numpy(rows.X).to(stack.device) for fold, rows in held_out.items()}
    shape = (len(heads), len(seeds), recipe.epochs)
    results = {
        fold: FoldResult(np.zeros((*shape, rows.n_clips, len(EMOTIONS)), dtype=np.float32), np.zeros(shape))
        for fold, rows in held_out.items()
    }
    for epoch, losses in enumerate(stack.epochs(recipe.epochs)):
        for member, (fold, seed) in enumerate(members):
            result, s = results[fold], seeds.index(seed)
            result.losses[:, s, epoch] = losses[member]
            for h, logits in enumerate(stack.logits(member, tensors[fold]).cpu().numpy()):
                result.logits[h, s, epoch] = mean_over_rows(logits, held_out[fold].owner, held_out[fold].n_clips)
        yield results


def _groups(folds: Sequence[int], workers: int) -> list[Sequence[int]]:
    """Groups of folds that take turns, one fold per worker, so a run that is killed has finished some of them. The last
    group takes the remaining folds, fewer than two per worker, so that no worker stays idle.

    >>> _groups([0, 1, 2, 3, 4], 2), _groups([0, 1, 2], 4)
    ([[0, 1], [2, 3, 4]], [[0, 1, 2]])
    """
    groups, rest = [], list(folds)
    while len(rest) >= 2 * workers:
        groups.append(rest[:workers])
        rest = rest[workers:]
    return [*groups, rest]


def _load(file: Path) -> FoldResult:
    with np.load(file, allow_pickle=False) as saved:
        return FoldResult(saved["logits"], saved["losses"])
