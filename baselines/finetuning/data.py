"""Batches of views. All random numbers of a clip follow from the seed, the epoch and the clip's name, and its place in
an epoch from the seed and the epoch: neither workers nor processes nor a restart change anything.
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


class Example(NamedTuple):
    view: View
    target: torch.Tensor  # (6,)
    row: torch.Tensor  # (branches,) in [0, 1), for DropPath
    plan: Plan | None


class Batch(NamedTuple):
    views: View
    targets: torch.Tensor
    rows: torch.Tensor
    plans: list[Plan | None]


def rng_of(seed: int, epoch: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])])


@dataclass
class Examples(Dataset):
    """One training view of a clip, by epoch and place."""

    family: Family
    recipe: Recipe
    cache: Cache
    seed: int
    ids: Sequence[str]
    targets: torch.Tensor  # (N, 6) in 0…1
    branches: int  # how many random numbers DropPath wants

    def __getitem__(self, key: Key) -> Example:
        epoch, place = key
        rng = rng_of(self.seed, epoch, self.ids[place])
        view = self.family.train_view(self.cache.read(self.ids[place]), self.recipe, rng)
        plan = draw(rng, self.family.side, self.recipe) if self.family.side else None
        return Example(view, self.targets[place], torch.from_numpy(rng.random(self.branches, np.float32)), plan)


def collate(examples: Sequence[Example]) -> Batch:
    views, targets, rows, plans = zip(*examples)
    return Batch(stack(views), torch.stack(targets), torch.stack(rows), list(plans))


def stack(views: Sequence[View]) -> View:
    """Views as a batch; what differs in length is filled up with zeros."""
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
    """The places of each batch's clips, in a new order; the clips that do not fill a batch wait for another epoch."""
    order, size = rng_of(seed, epoch, "").permutation(count), recipe.batch_size
    return [order[start : start + size] for start in range(0, count - size + 1, size)]


def parts_of(batch: np.ndarray, process: tuple[int, int], at_once: int) -> list[np.ndarray]:
    """A process's share of a batch, in parts of at most `at_once` clips. process: (i, n), i from 0."""
    share = batch[process[0] :: process[1]]
    return [share[start : start + at_once] for start in range(0, len(share), at_once)]


def load(examples: Examples, epochs: range, process: tuple[int, int], at_once: int, workers: int) -> Iterator[Batch]:
    """The parts of a process's batches, one after another, over all these epochs."""
    plan: Any = [
        [(epoch, int(place)) for place in part]
        for epoch in epochs
        for batch in epoch_batches(len(examples.ids), examples.recipe, examples.seed, epoch)
        for part in parts_of(batch, process, at_once)
    ]
    return iter(DataLoader(examples, batch_sampler=plan, num_workers=workers, collate_fn=collate))
