"""Errors in groups of clips by actor: each function changes the true actors (n,) of one partition's clips."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]
NO_ERRORS = "no errors"


def misassign(actors: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """That share of the clips is assigned to another actor, chosen uniformly."""
    names, owner = np.unique(actors, return_inverse=True)
    if len(names) > 1:
        wrong = rng.permutation(len(actors))[: round(share * len(actors))]
        owner[wrong] = (owner[wrong] + rng.integers(1, len(names), len(wrong))) % len(names)
    return names[owner]


def merge(actors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Actors are merged in pairs; with an odd number, one stays alone."""
    names, owner = np.unique(actors, return_inverse=True)
    return rng.permutation(len(names))[owner] // 2


def split(actors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each actor's clips are split into two groups of equal size."""
    return _deal(actors, rng, lambda count: np.arange(count) % 2)


def few(actors: np.ndarray, rng: np.random.Generator, clips: int) -> np.ndarray:
    """Each actor's clips are split into groups of `clips` (the last may be smaller), as if an actor had no more."""
    return _deal(actors, rng, lambda count: np.arange(count) // clips)


def _deal(actors: np.ndarray, rng: np.random.Generator, part: Callable[[int], np.ndarray]) -> np.ndarray:
    """Each actor's clips in random order, dealt to parts by their position."""
    groups = np.empty(len(actors), dtype=int)
    for number, actor in enumerate(np.unique(actors)):
        own = rng.permutation(np.flatnonzero(actors == actor))
        groups[own] = number * len(actors) + part(len(own))
    return groups


ERRORS: dict[str, Spoil] = {
    "10 % in other groups": partial(misassign, share=0.1),
    "20 % in other groups": partial(misassign, share=0.2),
    "40 % in other groups": partial(misassign, share=0.4),
    "actors merged in twos": merge,
    "actors split in two": split,
    "5 clips of an actor": partial(few, clips=5),
    "10 clips of an actor": partial(few, clips=10),
    "20 clips of an actor": partial(few, clips=20),
}
