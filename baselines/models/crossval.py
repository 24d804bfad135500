"""Cross-validation: out-of-fold logits of every epoch, each clip's by a model that saw none of its fold, scaler
included.

All heads and seeds of a fold train together (stack.py). With a GPU all folds do; without one they take
turns on threads, an epoch at a time and one core each, which is quicker than all cores on the small steps
of one fold, and gives the same bytes on any number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from blemore.io import write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.dataset import Dataset
from blemore_baselines.engines import available_cores, one_thread_each, take_turns
from blemore_baselines.features import Features, npz_bytes
from blemore_baselines.models.basis import span_basis
from blemore_baselines.models.heads import fit_scaler
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.models.stack import Rows, Stack, take_fresh_pages


class OutOfFold(NamedTuple):
    """logits: (heads, seeds, epochs, N, 6) float32; losses: fold → (heads, seeds, epochs), the training's mean losses."""

    logits: np.ndarray
    losses: dict[int, np.ndarray]


def cross_validate(
    dataset: Dataset,
    features: Features,
    recipe: Recipe,
    heads: Sequence[str] = ("mlp512",),
    seeds: Sequence[int] = (0,),
    keep: Path | None = None,
    title: str = "cross-validation",
) -> OutOfFold:
    """Train each of `heads` with each of `seeds` on all folds but one, for each of the dataset's folds.

    features: of the dataset's clips, in its order
    keep:     a folder for finished folds; those that lie there already are not trained again
    """
    kept = {int(fold): keep and keep / f"fold_{fold}.npz" for fold in np.unique(dataset.folds)}
    found = {fold: _load(path) for fold, path in kept.items() if path and path.exists()}
    todo = [fold for fold in kept if fold not in found]
    take_fresh_pages()
    with (
        one_thread_each(),
        tqdm(
            total=len(kept) * recipe.epochs, initial=len(found) * recipe.epochs, desc=title, unit="epoch", disable=None
        ) as progress,
    ):

        def task(folds: Sequence[int]) -> Iterator[None]:
            training = _train_folds(dataset, features, folds, recipe, heads, seeds)
            for _ in range(recipe.epochs):
                result = next(training)
                progress.update(len(folds))
                yield
            for fold, its in result.items():
                found[fold] = its
                if kept[fold]:
                    write_atomic(kept[fold], npz_bytes(logits=its[0], losses=its[1]))

        if torch.cuda.is_available():
            take_turns([task(todo)] if todo else [], workers=1)
        else:
            workers = available_cores()
            for folds in _groups(todo, workers):
                take_turns([task([fold]) for fold in folds], workers)

    logits = np.zeros((len(heads), len(seeds), recipe.epochs, len(dataset.ids), len(EMOTIONS)), dtype=np.float32)
    for fold, (its, _) in found.items():
        logits[:, :, :, dataset.folds == fold] = its
    return OutOfFold(logits, {fold: found[fold][1] for fold in kept})


def fit_model(
    X: np.ndarray,
    targets: np.ndarray,
    head: str,
    recipe: Recipe,
    epochs: int,
    seed: int,
    after_epoch: Callable[[float], None] | None = None,
) -> torch.nn.Module:
    """A head trained on standardised rows X (rows, D) float32 and soft targets (rows, 6).

    The same arguments give the same model. `after_epoch` gets the epoch's mean loss.
    """
    rows, basis = _in_span(X, recipe)
    stack = Stack([head], [Rows(rows, targets)], [seed], recipe)
    for losses in stack.epochs(epochs):
        if after_epoch:
            after_epoch(losses.item())
    return stack.module(0, head, basis)


@torch.inference_mode()
def clip_logits(model: torch.nn.Module, X: np.ndarray, owner: np.ndarray, n_clips: int) -> np.ndarray:
    """Logits (n_clips, 6) of standardised rows; a clip's are the mean over its rows.

    `owner`: (rows,) in 0..n_clips-1.
    """
    return _mean_over_rows(model(torch.from_numpy(X)).numpy(), owner, n_clips)


def fold_seed(seed: int, fold: int) -> int:
    """A seed of its own for each fold; fold -1 is all of train."""
    return int(np.random.SeedSequence((seed, int(fold) + 1)).generate_state(1)[0])


def _train_folds(
    dataset: Dataset,
    features: Features,
    folds: Sequence[int],
    recipe: Recipe,
    heads: Sequence[str],
    seeds: Sequence[int],
) -> Iterator[dict[int, tuple[np.ndarray, np.ndarray]]]:
    """After each epoch, fold → logits (heads, seeds, epochs, its clips, 6) float32 and losses (heads, seeds, epochs),
    filled so far; in one stack.
    """
    train, held_out = {}, {}
    for fold in folds:
        clips = np.flatnonzero(dataset.folds == fold)
        out = np.isin(features.owner, clips)
        scaler = fit_scaler(features.X[~out])
        rows, basis = _in_span(scaler(features.X[~out]), recipe)
        train[fold] = Rows(rows, dataset.targets[features.owner[~out]])
        its = scaler(features.X[out])
        held_out[fold] = (
            its if basis is None else its @ basis,
            np.searchsorted(clips, features.owner[out]),
            len(clips),
        )
    members = [(fold, seed) for fold in folds for seed in seeds]
    stack = Stack(
        heads, [train[fold] for fold, _ in members], [fold_seed(seed, fold) for fold, seed in members], recipe
    )
    rows_of = {fold: torch.from_numpy(X).to(stack.device) for fold, (X, _, _) in held_out.items()}
    shape = (len(heads), len(seeds), recipe.epochs)
    found = {
        fold: (np.zeros((*shape, n, len(EMOTIONS)), dtype=np.float32), np.zeros(shape))
        for fold, (_, _, n) in held_out.items()
    }
    for epoch, mean_losses in enumerate(stack.epochs(recipe.epochs)):
        for k, (fold, seed) in enumerate(members):
            (logits, losses), (_, owner, n), s = found[fold], held_out[fold], seeds.index(seed)
            losses[:, s, epoch] = mean_losses[k]
            for h, its in enumerate(stack.logits(k, rows_of[fold]).cpu().numpy()):
                logits[h, s, epoch] = _mean_over_rows(its, owner, n)
        yield found


def _groups(folds: Sequence[int], workers: int) -> list[Sequence[int]]:
    """Folds that take turns: as many as there are workers, so that a run that is killed has finished some; of the last
    group, up to twice as many less one, all end together.

    >>> _groups([0, 1, 2, 3, 4], 2), _groups([0, 1, 2], 4)
    ([[0, 1], [2, 3, 4]], [[0, 1, 2]])
    """
    groups, left = [], list(folds)
    while len(left) >= 2 * workers:
        groups.append(left[:workers])
        left = left[workers:]
    return [*groups, left]


def _in_span(X: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray | None]:
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
