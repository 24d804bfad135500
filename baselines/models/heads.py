"""The published heads, their loss, and the scaler in front of them.

A head is linear, or has one hidden layer of 256 or 512 units with ReLU. It returns six logits. Its loss is the KL
divergence from soft labels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from blemore.labels import EMOTIONS
from blemore_baselines.models.recipes import HEADS

FLOOR = 1e-8  # the smallest probability that the loss takes a logarithm of
_INITIALISING = threading.Lock()  # initial weights come from torch's global generator


def build_head(name: str, dim: int, seed: int) -> nn.Module:
    """A new head, (rows, dim) → (rows, 6) logits, initialised from `seed` alone."""
    return seeded(lambda: perceptron(dim, HEADS[name], len(EMOTIONS)), seed)


def perceptron(dim: int, hidden: int | None, outputs: int) -> nn.Module:
    """The form of the published heads, (rows, dim) → (rows, outputs). Without hidden units it is linear."""
    if hidden is None:
        return nn.Linear(dim, outputs)
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A new module, initialised from `seed` alone. The state of torch's global generator does not change."""
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def linear_layers(head: nn.Module) -> list[nn.Linear]:
    """The layers of a head that have weights, one or two, starting at the input."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear)]


def row_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """KL divergence of p = softmax(logits) from soft targets, both (…, 6); one number per row (…).

    The logarithm is of max(p, 1e-8).
    """
    log_probabilities = torch.log(torch.clamp(torch.softmax(logits, dim=-1), min=FLOOR))
    return F.kl_div(log_probabilities, targets, reduction="none").sum(dim=-1)


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean of `row_losses`, which training minimises."""
    return row_losses(logits, targets).mean()


@torch.inference_mode()
def clip_logits(head: nn.Module, X: np.ndarray, owner: np.ndarray, n_clips: int) -> np.ndarray:
    """Logits (n_clips, 6) of clips: the mean over each clip's standardised rows X (rows, D).

    owner: (rows,) in 0..n_clips-1, which clip a row belongs to
    """
    return mean_over_rows(head(torch.from_numpy(X)).numpy(), owner, n_clips)


def mean_over_rows(logits: np.ndarray, owner: np.ndarray, n_clips: int) -> np.ndarray:
    """(rows, 6) → (n_clips, 6) float64; `owner` as in `clip_logits`."""
    sums = np.zeros((n_clips, logits.shape[1]))
    np.add.at(sums, owner, logits.astype(np.float64))
    return sums / np.bincount(owner, minlength=n_clips)[:, None]


class Scaler(NamedTuple):
    """Standardisation by the mean and standard deviation (ddof 0) of the rows that it was fitted on."""

    mean: np.ndarray  # (D,) float64
    scale: np.ndarray  # (D,) float64; 1 for constant columns

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(rows, D) → (rows, D) float32."""
        return ((X - self.mean) / self.scale).astype(np.float32)


def standardised(X: np.ndarray, inside: np.ndarray, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """The rows of X (rows, D) that are `inside` (rows,), and the others, float32. The scaler is fitted on the former.

    On another device, the results are the same up to rounding.
    """
    if device != "cpu":
        return _standardised_on(device, X, inside)
    scaler = fit_scaler(X[inside])
    return scaler(X[inside]), scaler(X[~inside])


def _standardised_on(device: str, X: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mask, parts = torch.from_numpy(inside).to(device), []
    for columns in torch.from_numpy(X).split(1024, dim=1):  # all of them in float64 could exceed the memory
        columns = columns.to(device, torch.float64)
        train = columns[mask]
        scale = train.std(dim=0, correction=0)
        scale[(train.amax(dim=0) == train.amin(dim=0)) | (scale == 0)] = 1.0  # as in `fit_scaler`
        parts.append(((columns - train.mean(dim=0)) / scale).float().cpu())
    rows = torch.cat(parts, dim=1).numpy()
    return rows[inside], rows[~inside]


def fit_scaler(X: np.ndarray) -> Scaler:
    """The scaler of X (rows, D)."""
    X = X.astype(np.float64)
    scale = X.std(axis=0)
    # The range too, because rounding gives a constant column a tiny deviation.
    scale[(np.ptp(X, axis=0) == 0) | (scale == 0)] = 1.0
    return Scaler(X.mean(axis=0), scale)
