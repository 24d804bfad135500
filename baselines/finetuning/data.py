"""Batches of views.

A clip's random numbers follow from the seed, the epoch and the clip's name, and the order of the clips from the seed
and the epoch, so they do not depend on workers, processes or restarts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from blemore_baselines.finetuning.augment import Plan, draw
from blemore_baselines.finetuning.cache import Cache
from blemore_baselines.finetuning.family import Family, View
from blemore_baselines.finetuning.recipes import Recipe

Key = tuple[int, int]  # epoch, place of the clip


class Batch(NamedTuple):
    views: View
    targets: torch.Tensor  # (B, 6)
    rows: torch.Tensor  # (B, branches) in [0, 1), for DropPath
    plans: Sequence[Plan | None]


def rng_of(seed: int, epoch: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])])


@dataclass
class Examples(Dataset):
    """Training views by epoch and place of the clip."""

    family: Family
    recipe: Recipe
    cache: Cache
    seed: int
    ids: Sequence[str]
    targets: torch.Tensor  # (N, 6) in 0…1
    branches: int  # the number of random numbers that DropPath needs

    def __getitem__(self, key: Key) -> tuple[View, torch.Tensor, torch.Tensor, Plan | None]:
        epoch, place = key
        rng = rng_of(self.seed, epoch, self.ids[place])
        view = self.family.train_view(self.cache.read(self.ids[place]), self.recipe, rng)
        plan = draw(rng, self.family.side, self.recipe) if self.family.side else None
        return view, self.targets[place], torch.from_numpy(rng.random(self.branches, np.float32)), plan


def collate(examples: Sequence[tuple]) -> Batch:
    views, targets, rows, plans = zip(*examples)
    return Batch(stack(views), torch.stack(targets), torch.stack(rows), plans)


def stack(views: Sequence[View]) -> View:
    """Views as a batch; vectors of different length are padded with zeros."""
    batch = {}
    for name in views[0]:
        parts = [view[name] for view in views]
        if parts[0].ndim == 1:
            longest = max(map(len, parts))
            parts = [F.pad(part, (0, longest - len(part))) for part in parts]
        batch[name] = torch.stack(parts)
    return batch


def to(views: View, device: torch.device | str) -> View:
    return {name: part.to(device, non_blocking=True) for name, part in views.items()}


def epoch_batches(count: int, recipe: Recipe, seed: int, epoch: int) -> list[np.ndarray]:
    """The places of each batch's clips, in the order of the epoch; clips that do not fill a batch are dropped."""
    order, size = rng_of(seed, epoch, "").permutation(count), recipe.batch_size
    return [order[start : start + size] for start in range(0, count - size + 1, size)]


def parts_of(batch: np.ndarray, process: tuple[int, int], at_once: int) -> list[np.ndarray]:
    """A process's share of a batch, in parts of at most `at_once` clips. process: (i, n), with i from 0."""
    share = batch[process[0] :: process[1]]
    return [share[start : start + at_once] for start in range(0, len(share), at_once)]


def load(examples: Examples, epochs: range, process: tuple[int, int], at_once: int, workers: int) -> Iterator[Batch]:
    """The parts of a process's batches, in order, over the given epochs."""
    plan: Any = [
        [(epoch, int(place)) for place in part]
        for epoch in epochs
        for batch in epoch_batches(len(examples.ids), examples.recipe, examples.seed, epoch)
        for part in parts_of(batch, process, at_once)
    ]
    return iter(DataLoader(examples, batch_sampler=plan, num_workers=workers, collate_fn=collate))
