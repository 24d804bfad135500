"""The engine of cross-validation: trains many heads side by side, in batched steps with one optimizer.

A member has one model per entry of `heads`, for one seed and the training rows of one fold. The first layers of all
members are in one tensor (members, width, D), with the heads' widths in sequence, so a step needs one batched product
for all of them. Every member has its own initial weights, order of rows and optimizer state. The result is what the
loop (loop.py) computes for that member alone, up to rounding.

On a GPU, a step is captured as a CUDA graph (captured.py) and replayed, because launching its kernels one by one would
take longer than running them.

Gradients are computed explicitly, into memory that every step reuses; autograd would allocate it each time. The
products are those of autograd for a single head, so a single member with one head equals the loop to the last bit
(observed on x86 processors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from blemore_baselines.models.captured import CapturedSteps
from blemore_baselines.models.heads import build_head, linear_layers, row_losses
from blemore_baselines.models.loop import best_device
from blemore_baselines.models.recipes import Recipe


class Rows(NamedTuple):
    """A member's training data: standardised rows (rows, D) float32 and their soft targets (rows, 6)."""

    X: np.ndarray
    targets: np.ndarray


class Stack:
    """Member k trains all of `heads` on data[k] with seeds[k]."""

    def __init__(self, heads: Sequence[str], data: Sequence[Rows], seeds: Sequence[int], recipe: Recipe) -> None:
        self.heads, self.recipe = list(heads), recipe
        self.device = best_device()
        # Members with the most rows come first, so those that are still in their epoch are always the first ones.
        self._order = sorted(range(len(data)), key=lambda k: -len(data[k].X))
        self._place = np.argsort(self._order)
        self._load([data[k] for k in self._order])
        self._shuffles = [torch.Generator().manual_seed(seeds[k]) for k in self._order]
        self._build([seeds[k] for k in self._order])
        # All batches have one size, with unused columns in some, because a graph has fixed shapes.
        shape = len(data), len(heads), recipe.batch_size
        self._captured = CapturedSteps(self._step, *shape, self.device) if self.device == "cuda" else None

    def _load(self, data: Sequence[Rows]) -> None:
        """Store the rows of each fold once, even if several members train on them, padded with zeros to one length.

        _X: (folds, rows, D); _targets: (folds, rows, 6); _source: (members,), the fold of each member
        """
        distinct = {id(rows.X): rows for rows in data}
        self._source = torch.tensor([list(distinct).index(id(rows.X)) for rows in data], device=self.device)
        self._lengths = [len(rows.X) for rows in data]
        stacked = [
            nn.utils.rnn.pad_sequence([torch.from_numpy(rows[part]) for rows in distinct.values()], batch_first=True)
            for part in (0, 1)
        ]
        self._X, self._targets = (tensor.to(self.device) for tensor in stacked)

    def _build(self, seeds: Sequence[int]) -> None:
        dim = self._X.shape[2]
        layers = [[linear_layers(build_head(head, dim, seed)) for head in self.heads] for seed in seeds]
        widths = [layer.out_features for layer, *_ in layers[0]]
        self._columns = [slice(end - width, end) for width, end in zip(widths, np.cumsum(widths).tolist())]

        def stacked(get: Callable) -> torch.Tensor:
            return torch.stack([get(member) for member in layers]).detach().to(self.device)

        # Weight and bias of the first layers, (members, width, D) and (members, width), then those of the second layers
        self._tensors = [
            stacked(lambda member, part=part: torch.cat([getattr(layer, part) for layer, *_ in member]))
            for part in ("weight", "bias")
        ]
        self._second: dict[int, int] = {}  # head → index of its second layer's weight in _tensors
        for h in range(len(self.heads)):
            if len(layers[0][h]) == 2:
                self._second[h] = len(self._tensors)
                self._tensors += [
                    stacked(lambda member, h=h, part=part: getattr(member[h][1], part)) for part in ("weight", "bias")
                ]
        self._gradients = [torch.zeros_like(tensor) for tensor in self._tensors]
        # Each member has its own parameters, so the optimizer can skip members that have finished their epoch.
        self._parameters = [[nn.Parameter(tensor[k]) for tensor in self._tensors] for k in range(len(seeds))]
        every = [parameter for member in self._parameters for parameter in member]
        self._optimizer = torch.optim.Adam(
            every,
            self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=True,
            capturable=self.device == "cuda",
        )

    # ---------------------------------------------------------------------------- training

    def epochs(self, number: int) -> Iterator[np.ndarray]:
        """Train for `number` epochs; after each, yield the members' mean losses (members, heads)."""
        return (self._epoch() for _ in range(number))

    def _epoch(self) -> np.ndarray:
        orders = [torch.randperm(n, generator=shuffle) for n, shuffle in zip(self._lengths, self._shuffles)]
        sums = self._captured.epoch(orders) if self._captured else self._plain_epoch(orders)
        return (sums.cpu().numpy() / np.array(self._lengths)[:, None])[self._place]

    def _plain_epoch(self, orders: Sequence[torch.Tensor]) -> torch.Tensor:
        """One pass over each member's rows, in its own order. Returns sums of their losses (members, heads)."""
        size = self.recipe.batch_size
        sums = torch.zeros(len(orders), len(self.heads), device=self.device)
        for start in range(0, self._lengths[0], size):
            batches = [order[start : start + size] for order in orders if len(order) > start]
            counts = torch.tensor([len(batch) for batch in batches], device=self.device)
            losses = self._step(nn.utils.rnn.pad_sequence(batches, batch_first=True).to(self.device), counts)
            sums[: len(batches)] += losses * counts[:, None]
        return sums

    @torch.no_grad()
    def _step(self, batch: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """One step of the first members. Returns their mean losses (members, heads).

        batch:  (members, rows), indices of each member's rows
        counts: (members,), how many of them are real; the others are padding
        """
        active = len(batch)
        source = self._source[:active, None]
        x, targets = self._X[source, batch], self._targets[source, batch]
        tensors, gradients = [[tensor[:active] for tensor in group] for group in (self._tensors, self._gradients)]
        hidden = torch.baddbmm(tensors[1][:, None], x, tensors[0].transpose(1, 2))
        losses, by_logits = _loss_gradients(torch.stack([*self._outputs(hidden, tensors)]), targets, counts)
        by_hidden = torch.empty_like(hidden)
        for h, columns in enumerate(self._columns):
            if h not in self._second:
                by_hidden[:, :, columns] = by_logits[h]  # a linear head has only a first layer
                continue
            k, part = self._second[h], hidden[:, :, columns]
            torch.bmm(by_logits[h].transpose(1, 2), F.relu(part), out=gradients[k])
            torch.sum(by_logits[h], dim=1, out=gradients[k + 1])
            by_hidden[:, :, columns] = torch.bmm(by_logits[h], tensors[k]) * (part > 0)
        torch.bmm(by_hidden.transpose(1, 2), x, out=gradients[0])
        torch.sum(by_hidden, dim=1, out=gradients[1])
        for k, member in enumerate(self._parameters):
            for parameter, gradient in zip(member, self._gradients):
                parameter.grad = gradient[k] if k < active else None
        self._optimizer.step()
        return losses.T

    def _outputs(self, hidden: torch.Tensor, tensors: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Each head's logits (members, rows, 6) from the first layers' outputs."""
        for h, columns in enumerate(self._columns):
            part = hidden[:, :, columns]
            if h in self._second:
                k = self._second[h]
                part = torch.baddbmm(tensors[k + 1][:, None], F.relu(part), tensors[k].transpose(1, 2))
            yield part

    # ---------------------------------------------------------------------------- results

    def logits(self, member: int, X: torch.Tensor) -> torch.Tensor:
        """A member's logits (heads, rows, 6) of standardised rows X (rows, D) on the stack's device."""
        k = int(self._place[member])
        tensors = [tensor[k : k + 1] for tensor in self._tensors]
        return torch.cat([*self._outputs(torch.addmm(tensors[1][0], X, tensors[0][0].T)[None], tensors)])

    def module(self, member: int, head: str) -> nn.Module:
        """A copy of one of a member's models, as a separate module."""
        k, h = int(self._place[member]), self.heads.index(head)
        model = build_head(head, self._X.shape[2], seed=0)
        tensors = [self._tensors[0][k, self._columns[h]], self._tensors[1][k, self._columns[h]]]
        if h in self._second:
            place = self._second[h]
            tensors += [self._tensors[place][k], self._tensors[place + 1][k]]
        with torch.no_grad():
            for parameter, tensor in zip(model.parameters(), tensors, strict=True):
                parameter.copy_(tensor)
        return model


@torch.enable_grad()
def _loss_gradients(
    logits: torch.Tensor, targets: torch.Tensor, counts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean losses (heads, members) over each member's first `counts` rows (members,), and their gradients by the logits
    (heads, members, rows, 6).
    """
    logits = logits.detach().requires_grad_()
    weights = (torch.arange(logits.shape[2], device=logits.device) < counts[:, None]) / counts[:, None]
    losses = (row_losses(logits, targets.expand_as(logits)) * weights).sum(dim=2)
    (gradients,) = torch.autograd.grad(losses.sum(), logits)
    return losses.detach(), gradients
