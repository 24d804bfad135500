"""How reliable a posterior over the labels is, and the expected score of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blemore.labels import LABELS
from blemore_baselines.decoding.arrays import demand_labels, demand_rows
from blemore_baselines.decoding.scores import FLOOR


def calibration(posterior: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well a posterior (N, 36) predicts the labels (N,): log loss (nats) and Brier score (0 to 2), over clips.

    Raises ValidationError: wrong shape, numbers that are not finite, invalid labels, or no clips.
    """
    posterior = demand_rows(posterior, len(LABELS), "posterior")
    labels = demand_labels(labels, len(posterior))
    truth = np.eye(posterior.shape[1])[labels]
    log_loss = -np.log(np.maximum(posterior[np.arange(len(labels)), labels], FLOOR)).mean()
    return {"log_loss": float(log_loss), "brier": float(((posterior - truth) ** 2).sum(axis=1).mean())}


def frequencies(labels: np.ndarray) -> np.ndarray:
    """The posterior (36,) from label frequencies alone, with one added to each count."""
    counts = np.bincount(labels, minlength=len(LABELS)) + 1.0
    return counts / counts.sum()


class Bin(NamedTuple):
    """Clips with similar expected scores: their number, their mean expected score, and the mean score reached."""

    clips: int
    expected: float
    reached: float


def reliability(expected: np.ndarray, reached: np.ndarray, bins: int = 10) -> list[Bin]:
    """Clips (N,) in bins of equal size, from the lowest expectation to the highest."""
    parts = np.array_split(np.argsort(expected, kind="stable"), min(bins, len(expected)))
    return [Bin(len(part), float(expected[part].mean()), float(reached[part].mean())) for part in parts]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: the bins' mean deviation, weighted by clips (Naeini et al. 2015)."""
    return sum(entry.clips * abs(entry.expected - entry.reached) for entry in bins) / sum(entry.clips for entry in bins)
