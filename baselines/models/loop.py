"""The training loop, for one head at a time.

It is the reference for stack.py, which trains many heads at once and agrees with it up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from blemore_baselines.engines import available_cores, take_turns
from blemore_baselines.models.basis import in_basis, leave_basis, span_basis
from blemore_baselines.models.heads import build_head, mean_loss
from blemore_baselines.models.recipes import Recipe

# Outputs (batch, K) and the truth about the same rows → their mean loss
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def best_device() -> str:
    """The device that models are trained on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def train_epochs(
    module: nn.Module, X: np.ndarray, truth: np.ndarray, loss: Loss, recipe: Recipe, epochs: int, seed: int
) -> Iterator[float]:
    """Train a module in place, and yield each epoch's mean loss when the epoch ends.

    X:     standardised rows (rows, D) float32
    truth: what the loss compares the outputs with, one entry per row, such as soft targets (rows, 6) or labels (rows,)
    seed:  of the order of rows, which is shuffled in each epoch
    """
    device = best_device()
    module.to(device)
    rows, targets = torch.from_numpy(X).to(device), torch.from_numpy(truth).to(device)
    optimizer = torch.optim.Adam(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        losses, batches = [], torch.randperm(len(rows), generator=shuffle).to(device).split(recipe.batch_size)
        for batch in batches:
            optimizer.zero_grad()
            batch_loss = loss(module(rows[batch]), targets[batch])
            batch_loss.backward()
            optimizer.step()
            losses.append(batch_loss.detach())
        # Read at the end, because a GPU waits for each number that is read.
        yield sum(loss * len(batch) for loss, batch in zip(torch.stack(losses).tolist(), batches)) / len(rows)


def fit_model(
    X: np.ndarray,
    targets: np.ndarray,
    head: str,
    recipe: Recipe,
    epochs: int,
    seed: int,
    after_epoch: Callable[[float], None] | None = None,
) -> nn.Module:
    """A head trained on standardised rows X (rows, D) float32 and soft targets (rows, 6).

    The same arguments give the same model. `after_epoch` is called with each epoch's mean loss.
    """
    return fit_models(X, targets, head, recipe, epochs, [seed], after_epoch)[0]


def fit_models(
    X: np.ndarray,
    targets: np.ndarray,
    head: str,
    recipe: Recipe,
    epochs: int,
    seeds: Sequence[int],
    after_epoch: Callable[[float], None] | None = None,
) -> list[nn.Module]:
    """`fit_model` with each of several seeds. Without a GPU they take turns on threads."""
    device = best_device()
    basis = span_basis(X, recipe.span, device=device)
    rows = X if basis is None else in_basis(X, basis, device)
    models = [build_head(head, rows.shape[1], seed) for seed in seeds]

    def task(model: nn.Module, seed: int) -> Iterator[None]:
        for loss in train_epochs(model, rows, targets, mean_loss, recipe, epochs, seed):
            if after_epoch:
                after_epoch(loss)
            yield

    take_turns([*map(task, models, seeds)], 1 if device == "cuda" else available_cores())
    for model in models:
        model.cpu()
        if basis is not None:
            leave_basis(model, basis)
    return models
