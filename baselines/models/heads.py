"""The published heads on top of standardised features, and the scaler that goes with them.

Linear, or one hidden layer of 256 or 512 with ReLU; six logits, soft targets, KL divergence.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from blemore.labels import EMOTIONS
from blemore_baselines.models.recipes import HEADS

FLOOR = 1e-8  # of a probability whose logarithm is taken
_INITIALISING = threading.Lock()  # layers draw from torch's global generator


def build_head(name: str, dim: int, seed: int) -> nn.Module:
    """A new head, (rows, dim) → (rows, 6) logits, initialised from `seed` alone."""
    hidden = HEADS[name]
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if hidden is None:
            return nn.Linear(dim, len(EMOTIONS))
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, len(EMOTIONS)))


def row_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """KL divergence of p = softmax(logits) from soft targets, both (…, 6); one number a row (…).

    log p is taken of max(p, 1e-8).
    """
    return F.kl_div(torch.log(torch.clamp(torch.softmax(logits, dim=-1), min=FLOOR)), targets, reduction="none").sum(
        dim=-1
    )


def row_gradients(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The gradient of `row_losses` by the logits (…, 6): p · Σ t − t, where targets t of p below 1e-8 count as 0."""
    p = torch.softmax(logits, dim=-1)
    felt = targets * (p >= FLOOR)
    return p * felt.sum(dim=-1, keepdim=True) - felt


class Scaler(NamedTuple):
    """Standardisation by the mean and standard deviation (ddof 0) of the rows it was fitted on."""

    mean: np.ndarray  # (D,) float64
    scale: np.ndarray  # (D,) float64; 1 for constant columns

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(rows, D) → (rows, D) float32."""
        return ((X - self.mean) / self.scale).astype(np.float32)


def fit_scaler(X: np.ndarray) -> Scaler:
    """The scaler of rows (rows, D)."""
    X = X.astype(np.float64)
    scale = X.std(axis=0)
    # By its range, too: rounding gives a constant column a tiny deviation.
    scale[(np.ptp(X, axis=0) == 0) | (scale == 0)] = 1.0
    return Scaler(X.mean(axis=0), scale)
