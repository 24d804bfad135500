"""Checks of arrays of clips, for functions that accept arrays from users."""

from __future__ import annotations

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.labels import LABELS


def demand_rows(values: np.ndarray, columns: int, where: str) -> np.ndarray:
    """The values as an array (N, columns). ValidationError: wrong shape, or numbers that are not finite."""
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != columns:
        raise ValidationError(Problem("wrong-shape", where, f"shape {values.shape}; expected (clips, {columns})"))
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        message = f"{bad:,} of {len(values):,} rows hold NaN or Infinity; expected finite numbers"
        raise ValidationError(Problem("not-finite", where, message))
    return values


def demand_labels(labels: np.ndarray, clips: int) -> np.ndarray:
    """The labels as an array (N,).

    ValidationError: not one label per clip, no clips, or labels that are not indices into LABELS.
    """
    labels = np.asarray(labels)
    if labels.shape != (clips,) or not clips:
        message = f"shape {labels.shape} for {clips:,} clips; expected at least one clip, and one label per clip"
        raise ValidationError(Problem("wrong-shape", "labels", message))
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(LABELS):
        extent = f" from {labels.min()} to {labels.max()}" if labels.dtype.kind in "iuf" else ""
        expected = f"expected integers from 0 to {len(LABELS) - 1}, indices into blemore.labels.LABELS"
        raise ValidationError(Problem("bad-label", "labels", f"found {labels.dtype}{extent}; {expected}"))
    return labels


def demand_range(
    values: float | np.ndarray, where: str, low: float, high: float = np.inf, open_below: bool = False
) -> None:
    """ValidationError: a value is not finite or is outside [low, high] (or (low, high] if `open_below`)."""
    values = np.asarray(values, dtype=float)
    within = np.isfinite(values) & ((values > low) if open_below else (values >= low)) & (values <= high)
    if not within.all():
        lower = f"{'above' if open_below else 'at least'} {low:g}"
        upper = f", at most {high:g}" if np.isfinite(high) else ""
        message = f"found {values[~within].flat[0]}; expected {lower}{upper}"
        raise ValidationError(Problem("out-of-range", where, message))
