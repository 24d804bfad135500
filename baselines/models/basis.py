"""Rows written in a basis of their own span.

The gradient of a first layer is a sum of training rows, so training never leaves their span: with 7,168 features and
1,934 rows, 5,234 dimensions stay idle. Rows are therefore written in an orthonormal basis of the span, or of a random
part of it. This preserves the inner products of rows, and so everything that a head can distinguish. The basis is
rotated at random, because Adam scales each coordinate separately: in principal axes, faint coordinates would get the
same weight as strong ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from blemore_baselines.models.heads import linear_layers


def span_basis(X: np.ndarray, dim: int | None, seed: int = 0, device: str = "cpu") -> np.ndarray | None:
    """A basis (D, k) float32 for standardised rows X (rows, D): X @ basis has entries of mean square 1.

    k is at most `dim`, and less than the number of rows. None if `dim` is None, or if D is at most k, because a basis
    would gain nothing. On another `device` the basis is the same up to rounding.
    """
    k = min(dim or 0, len(X) - 1)
    if X.shape[1] <= k or k < 1:
        return None
    random = torch.Generator().manual_seed(seed)
    rows = torch.from_numpy(X).to(device)
    inside, _ = torch.linalg.qr(rows.T @ torch.randn(len(X), k, generator=random).to(device))
    rotation, _ = torch.linalg.qr(torch.randn(k, k, generator=random).to(device))
    basis = inside @ rotation
    size = (rows @ basis).square().mean().sqrt()
    return (basis / (size if size > 0 else 1)).cpu().numpy()


def in_basis(X: np.ndarray, basis: np.ndarray, device: str = "cpu") -> np.ndarray:
    """X @ basis, computed on a device."""
    if device == "cpu":
        return X @ basis
    return (torch.from_numpy(X).to(device) @ torch.from_numpy(basis).to(device)).cpu().numpy()


def leave_basis(head: nn.Module, basis: np.ndarray) -> None:
    """Change a head for rows X @ basis (rows, k), in place, to one that gives the same logits for X (rows, D)."""
    first = linear_layers(head)[0]
    first.weight = nn.Parameter(first.weight.detach() @ torch.from_numpy(basis).T)
    first.in_features = len(basis)
