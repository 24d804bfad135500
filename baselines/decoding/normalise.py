"""Normalising per actor: each actor's numbers get the training set's mean (and spread), without using labels.

People express the same emotion differently, so part of the variation between clips comes from who is in them. Speech
research removes it by speaker normalisation. Here `centre` shifts the rows of each actor (logits, log-probabilities or
features) to the training set's mean; `standardise` also scales them to the training set's spread.

All clips of an actor are used at once, so figures from normalised scores are *transductive*: they hold if each new
actor has as many clips, all available together, and if the rules of a challenge allow it.

An actor with few clips is changed less. The mean and the spread are estimated as if there were `MEAN_PRIOR` and
`SPREAD_PRIOR` more clips like the training set and one fewer of the actor's own:

    mean    = (k μ + (n − 1) m) / (k + n − 1),    variance = (k σ² + (n − 1) s²) / (k + n − 1)

with m and s² of the actor's n clips, μ and σ² of the training set: a posterior mean under a conjugate prior (Gelman et
al. 2013, Bayesian Data Analysis, section 3.3). A single clip stays as it is.

Conventions: `rows` are (R, D); `actors` (R,) names the actor of each row; `clips` (R,) names the clip of each row, for
clips with several rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blemore_baselines.decoding.scores import Models, log_softmax, softmax
from blemore_baselines.models.recipes import NORMALISATIONS

# Nested scores of real logits, with each actor's clips in random groups of 2 to 30, hardly change around these values.
MEAN_PRIOR, SPREAD_PRIOR = 3, 10  # clips


class Reference(NamedTuple):
    """The training set's mean over all rows, and the spread within its actors, each (D,) float64."""

    mean: np.ndarray
    spread: np.ndarray


def fit_reference(rows: np.ndarray, actors: Sequence[str]) -> Reference:
    """The reference for normalising. The spread is the standard deviation around each actor's mean, pooled over actors;
    0 if no actor has two rows.
    """
    squares, freedom = np.zeros(rows.shape[1]), 0
    for inside in _groups(actors):
        squares += ((rows[inside] - rows[inside].mean(axis=0, dtype=np.float64)) ** 2).sum(axis=0)
        freedom += len(inside) - 1
    return Reference(rows.mean(axis=0, dtype=np.float64), np.sqrt(squares / max(freedom, 1)))


def normalise(
    rows: np.ndarray, actors: Sequence[str], method: str, reference: Reference, clips: np.ndarray | None = None
) -> np.ndarray:
    """The rows (R, D), normalised per actor to the reference; the dtype is kept.

    clips: None if each row is a clip of its own

    Raises ValueError: no such method, or sizes that do not agree.
    """
    if method not in NORMALISATIONS or len(rows) != len(actors):
        raise ValueError(f"method {method!r}, {len(rows)} rows, {len(actors)} actors; expected one of {NORMALISATIONS}")
    normalised = np.array(rows)
    if method == "none":
        return normalised
    for inside in _groups(actors):
        own = rows[inside].astype(np.float64)
        others = (len(inside) if clips is None else len(np.unique(clips[inside]))) - 1  # clips after the first
        if others:
            mean = _shrunk(own.mean(axis=0), reference.mean, others, MEAN_PRIOR)
            scale = _scale(own, reference.spread, others) if method == "standardise" else 1.0
            normalised[inside] = reference.mean + (own - mean) * scale
    return normalised


def normalise_models(models: Models, actors: Sequence[str], method: str, references: Sequence[Reference]) -> Models:
    """Each model's log-probabilities, normalised over the clips that it knows. actors: (N,), one per clip."""
    logs, names = models.logs.copy(), np.asarray(actors)
    for log, reference in zip(logs, references, strict=True):
        present = ~np.isnan(log[:, 0])
        log[present] = log_softmax(normalise(log[present], names[present], method, reference))
    return models._replace(logs=logs, probabilities=softmax(logs))


def fit_references(models: Models, actors: Sequence[str]) -> list[Reference]:
    """The reference for each model's log-probabilities, from the clips that it knows."""
    names = np.asarray(actors)
    return [fit_reference(log[present], names[present]) for log in models.logs for present in [~np.isnan(log[:, 0])]]


def _groups(actors: Sequence[str]) -> list[np.ndarray]:
    """The rows of each actor."""
    index = np.unique(np.asarray(actors), return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index[order])) + 1) if len(order) else []


def _shrunk(own: np.ndarray, prior: np.ndarray, n: int, k: int) -> np.ndarray:
    """The mean of n own values and k values of the prior."""
    return (n * own + k * prior) / (n + k)


def _scale(own: np.ndarray, spread: np.ndarray, others: int) -> np.ndarray:
    """The factor (D,) for an actor's deviations from their mean; 1 for a column that does not vary."""
    deviation = np.sqrt(_shrunk(own.var(axis=0, ddof=1), spread**2, others, SPREAD_PRIOR))
    return np.divide(spread, deviation, out=np.ones_like(spread), where=deviation > 0)
