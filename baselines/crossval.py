"""Cross-validation: out-of-fold logits of every epoch, each clip's by a model that saw none of its fold, scaler included.

All heads and seeds of a fold train together (stack.py). With a GPU all folds do; without one they take
turns on threads, one core each, which is quicker than all cores on the small steps of one fold, and
gives the same bytes on any number of cores.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np
import torch
from tqdm import tqdm

from blemore.io import write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.dataset import Dataset
from blemore_baselines.features import Features, npz_bytes
from blemore_baselines.heads import fit_scaler, one_thread_each
from blemore_baselines.span import span_basis
from blemore_baselines.stack import Recipe, Rows, Stack

PRESETS = {
    # Lachmann et al. 2026
    "published": {
        "aggregate": Recipe(5e-6, 1e-3, 32, 200, 100),
        "subsample": Recipe(5e-6, 1e-3, 512, 300, 300),
    },
    # Ours, chosen on nested figures (benchmarks/README.md): a few epochs of large steps on shorter rows, pulled harder to zero
    "fast": {
        "aggregate": Recipe(1.5e-3, 3e-2, 32, 9, 9, span=1024),
        "subsample": Recipe(1.5e-3, 3e-2, 128, 9, 9, span=1024),
    },
}


class OutOfFold(NamedTuple):
    """logits: (heads, seeds, epochs, N, 6) float32; losses: fold → (heads, seeds, epochs), the training's mean losses."""

    logits: np.ndarray
    losses: dict[int, np.ndarray]


def cross_validate(
    dataset: Dataset, features: Features, recipe: Recipe, heads: Sequence[str] = ("mlp512",), seeds: Sequence[int] = (0,),
    keep: Optional[Path] = None, title: str = "cross-validation",
) -> OutOfFold:
    """Train each of `heads` with each of `seeds` on all folds but one, for each of the dataset's folds.

    features: of the dataset's clips, in its order
    keep:     a folder for finished folds; those that lie there already are not trained again
    """
    kept = {int(fold): keep and keep / f"fold_{fold}.npz" for fold in np.unique(dataset.folds)}
    found = {fold: _load(path) for fold, path in kept.items() if path and path.exists()}
    todo = [fold for fold in kept if fold not in found]
    stopped = threading.Event()
    with one_thread_each(), tqdm(total=len(kept) * recipe.epochs, initial=len(found) * recipe.epochs, desc=title, unit="epoch", disable=None) as progress:

        def run(folds: Sequence[int]) -> None:
            def after_epoch() -> None:
                progress.update(len(folds))
                if stopped.is_set():
                    raise InterruptedError

            for fold, result in _train_folds(dataset, features, folds, recipe, heads, seeds, after_epoch).items():
                found[fold] = result
                if kept[fold]:
                    write_atomic(kept[fold], npz_bytes(logits=result[0], losses=result[1]))

        groups = [todo] if torch.cuda.is_available() and todo else [[fold] for fold in todo]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                for finished in as_completed([pool.submit(run, group) for group in groups]):
                    finished.result()
            except BaseException:
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise

    logits = np.zeros((len(heads), len(seeds), recipe.epochs, len(dataset.ids), len(EMOTIONS)), dtype=np.float32)
    for fold, (its, _) in found.items():
        logits[:, :, :, dataset.folds == fold] = its
    return OutOfFold(logits, {fold: found[fold][1] for fold in kept})


def fit_model(
    X: np.ndarray, targets: np.ndarray, head: str, recipe: Recipe, epochs: int, seed: int, after_epoch: Optional[Callable[[float], None]] = None
) -> torch.nn.Module:
    """A head trained on standardised rows X (rows, D) float32 and soft targets (rows, 6).

    The same arguments give the same model. `after_epoch` gets the epoch's mean loss.
    """
    rows, basis = _in_span(X, recipe)
    stack = Stack([head], [Rows(rows, targets)], [seed], recipe)
    stack.train(epochs, after_epoch and (lambda _, losses: after_epoch(losses.item())))
    return stack.module(0, head, basis)


@torch.inference_mode()
def clip_logits(model: torch.nn.Module, X: np.ndarray, owner: np.ndarray, n_clips: int) -> np.ndarray:
    """Logits (n_clips, 6) of standardised rows; a clip's are the mean over its rows. `owner`: (rows,) in 0..n_clips-1."""
    return _mean_over_rows(model(torch.from_numpy(X)).numpy(), owner, n_clips)


def fold_seed(seed: int, fold: int) -> int:
    """A seed of its own for each fold; fold -1 is all of train."""
    return int(np.random.SeedSequence((seed, int(fold) + 1)).generate_state(1)[0])


def _train_folds(
    dataset: Dataset, features: Features, folds: Sequence[int], recipe: Recipe, heads: Sequence[str], seeds: Sequence[int], after_epoch: Callable[[], None]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Fold → logits (heads, seeds, epochs, its clips, 6) float32 and losses (heads, seeds, epochs), in one stack."""
    train, held_out = {}, {}
    for fold in folds:
        clips = np.flatnonzero(dataset.folds == fold)
        out = np.isin(features.owner, clips)
        scaler = fit_scaler(features.X[~out])
        rows, basis = _in_span(scaler(features.X[~out]), recipe)
        train[fold] = Rows(rows, dataset.targets[features.owner[~out]])
        its = scaler(features.X[out])
        held_out[fold] = (its if basis is None else its @ basis, np.searchsorted(clips, features.owner[out]), len(clips))
    members = [(fold, seed) for fold in folds for seed in seeds]
    stack = Stack(heads, [train[fold] for fold, _ in members], [fold_seed(seed, fold) for fold, seed in members], recipe)
    rows = {fold: torch.from_numpy(X).to(stack.device) for fold, (X, _, _) in held_out.items()}
    logits = {fold: np.zeros((len(heads), len(seeds), recipe.epochs, n, len(EMOTIONS)), dtype=np.float32) for fold, (_, _, n) in held_out.items()}
    losses = np.zeros((recipe.epochs, len(members), len(heads)))
    epochs = iter(range(recipe.epochs))

    def keep(stack: Stack, mean_losses: np.ndarray) -> None:
        epoch = next(epochs)
        losses[epoch] = mean_losses
        for k, (fold, seed) in enumerate(members):
            _, owner, n = held_out[fold]
            for h, its in enumerate(stack.logits(k, rows[fold]).cpu().numpy()):
                logits[fold][h, seeds.index(seed), epoch] = _mean_over_rows(its, owner, n)
        after_epoch()

    stack.train(recipe.epochs, keep)
    by_fold = losses.reshape(recipe.epochs, len(folds), len(seeds), len(heads)).transpose(1, 3, 2, 0)
    return {fold: (logits[fold], by_fold[f]) for f, fold in enumerate(folds)}


def _in_span(X: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """Rows as the recipe wants them, and the basis that they are written in, if any."""
    basis = span_basis(X, recipe.span) if recipe.span else None
    return (X if basis is None else X @ basis), basis


def _mean_over_rows(logits: np.ndarray, owner: np.ndarray, n_clips: int) -> np.ndarray:
    summed = np.zeros((n_clips, logits.shape[1]))
    np.add.at(summed, owner, logits.astype(np.float64))
    return summed / np.bincount(owner, minlength=n_clips)[:, None]


def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as saved:
        return saved["logits"], saved["losses"]
