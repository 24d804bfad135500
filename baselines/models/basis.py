"""Rows in a basis of their own span.

A gradient of a first layer is a sum of training rows, so that training never leaves their span: of 7,168
features and 1,934 rows, 5,234 dimensions are idle. Rows are therefore written in an orthonormal basis of
the span, or of a random part of it, which keeps the products of rows with one another, so what a head can
tell apart. The basis is turned at random: Adam works by coordinate, and in principal axes it would make
as much of the faint ones as of the strong ones.
"""

from __future__ import annotations

import numpy as np
import torch


def span_basis(X: np.ndarray, dim: int, seed: int = 0) -> np.ndarray | None:
    """A basis (D, k) float32 for standardised rows X (rows, D): X @ basis has entries of mean square 1.

    k is at most `dim`, and less than the number of rows. None where D is no more than that: nothing to gain.
    """
    k = min(dim, len(X) - 1)
    if X.shape[1] <= k or k < 1:
        return None
    random = torch.Generator().manual_seed(seed)
    rows = torch.from_numpy(X)
    inside, _ = torch.linalg.qr(rows.T @ torch.randn(len(X), k, generator=random))
    turn, _ = torch.linalg.qr(torch.randn(k, k, generator=random))
    basis = inside @ turn
    size = (rows @ basis).square().mean().sqrt()
    return (basis / (size if size > 0 else 1)).numpy()
