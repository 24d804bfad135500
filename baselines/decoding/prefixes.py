"""Weights are added one by one at positions on a line; this finds the best prefix after each."""

from __future__ import annotations

import numpy as np


def best_prefixes(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The largest sum over any prefix of the line after the first k weights, for k = 0 … N: (N + 1,), in O(N log N).

    places:  (N,) the position of each weight on the line; equal positions enter a prefix together
    weights: (N,) integers; the empty prefix has the sum 0

    A binary tree over the distinct positions is computed level by level, from the leaves up: for each node, the sum and
    the best prefix after each insertion into it. Both follow from those of its two children at that moment.
    """
    if not len(places):
        return np.zeros(1, dtype=np.int64)
    line, leaf = np.unique(places, return_inverse=True)
    orders = _orders(leaf, depth=int(len(line) - 1).bit_length())
    order = orders.pop()
    total = _restarting_sums(weights[order], _starts(leaf[order]))
    best = np.maximum(total, 0)
    for level in range(1, len(orders) + 1):
        # Each child's values after its latest insertion, at each insertion into the parent.
        row_below = np.empty(len(leaf), dtype=np.int64)
        row_below[order] = np.arange(len(leaf))
        order = orders.pop()
        rows, starts = row_below[order], _starts(leaf[order] >> level)
        is_right = (leaf[order] >> (level - 1)) & 1 == 1
        left, right = _latest(rows, ~is_right, starts), _latest(rows, is_right, starts)
        left_total, left_best = (np.where(left >= 0, values[left], 0) for values in (total, best))
        right_total, right_best = (np.where(right >= 0, values[right], 0) for values in (total, best))
        total, best = left_total + right_total, np.maximum(left_best, left_total + right_best)
    return np.concatenate([[0], best])


def _orders(leaf: np.ndarray, depth: int) -> list[np.ndarray]:
    """The insertions ordered by node, then by time: one array per level, from the root, which holds all, down."""
    orders = [np.arange(len(leaf))]
    for level in reversed(range(depth)):
        order = orders[-1]
        orders.append(order[np.argsort(leaf[order] >> level, kind="stable")])
    return orders


def _starts(nodes: np.ndarray) -> np.ndarray:
    """Where a run of equal nodes begins."""
    return np.concatenate([[True], nodes[1:] != nodes[:-1]])


def _restarting_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Running sums that restart at each start."""
    sums = np.cumsum(values)
    start = np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))
    return sums - (sums - values)[start]


def _latest(values: np.ndarray, eligible: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """At each position, the last value since the last start that is `eligible`; −1 if there is none."""
    positions = np.arange(len(values))
    latest = np.maximum.accumulate(np.where(eligible, positions, -1))
    start = np.maximum.accumulate(np.where(starts, positions, 0))
    return np.where(latest >= start, values[latest], -1)
