"""Training steps as CUDA graphs: captured once, then replayed without launching their kernels one by one.

A graph repeats the same kernels on the same memory. So batches are copied to a fixed place, and each number of members
that are still in their epoch has its own graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

# Rows of the first members (members, size), how many of them are real (members,) → mean losses (members, heads)
Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class CapturedSteps:
    """Runs a stack's steps on a GPU. For each number of members, the first step is a plain one, which allocates what a
    graph needs; later steps replay the graph.
    """

    def __init__(self, step: Step, members: int, heads: int, size: int, device: str) -> None:
        self._step = step
        self._batch = torch.zeros(members, size, dtype=torch.long, device=device)
        self._counts = torch.ones(members, dtype=torch.long, device=device)
        self._sums = torch.zeros(members, heads, device=device)
        self._graphs: dict[
            int, torch.cuda.CUDAGraph | None
        ] = {}  # by number of members; None: only a plain step so far

    def epoch(self, orders: Sequence[torch.Tensor]) -> torch.Tensor:
        """One pass over each member's rows, in its own order (rows,); the longest orders come first.

        Returns the sum of each member's losses (members, heads).
        """
        size = self._batch.shape[1]
        lengths = torch.tensor([len(order) for order in orders])
        counts = (lengths - torch.arange(0, int(lengths[0]), size)[:, None]).clamp(0, size)  # (steps, members)
        batches = torch.zeros(len(orders), len(counts) * size, dtype=torch.long)
        for batch, order in zip(batches, orders):
            batch[: len(order)] = order
        batches = batches.view(len(orders), -1, size).transpose(0, 1).to(self._batch.device)
        self._sums.zero_()
        for batch, count, active in zip(batches, counts.to(self._counts.device), counts.count_nonzero(dim=1).tolist()):
            self._batch.copy_(batch)
            self._counts.copy_(count)
            self._run(active)
        return self._sums

    def _run(self, active: int) -> None:
        """A step of the first members, on the contents of `_batch` and `_counts`."""
        if active not in self._graphs:
            self._graphs[active] = None
            return self._train(active)
        graph = self._graphs[active]
        if graph is None:
            graph = self._graphs[active] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # captures, without computing
                self._train(active)
        graph.replay()

    def _train(self, active: int) -> None:
        losses = self._step(self._batch[:active], self._counts[:active])
        self._sums[:active] += losses * self._counts[:active, None]
