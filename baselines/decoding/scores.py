"""Scores as probabilities, and the scores of several models for the same clips.

Scores are six numbers per clip, logits or probabilities: arrays (N, 6) with emotions in index order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemore.errors import Problem, ValidationError, some
from blemore.labels import EMOTIONS
from blemore_baselines.decoding.arrays import demand_rows
from blemore_baselines.features import read_scores, runs_of

FLOOR = 1e-12  # a probability of zero has no logarithm


class Models(NamedTuple):
    """M models' scores of N clips.

    ids:           the clips
    paths:         the source of each model's scores
    probabilities: (M, N, 6), emotions in index order; a row of NaN if a model does not know a clip
    logs:          their logarithms; for sharp logits more precise than probabilities, which round to zero
    """

    ids: list[str]
    paths: list[Path]
    probabilities: np.ndarray
    logs: np.ndarray

    @property
    def missing(self) -> list[list[str]]:
        """The clips that each model does not know."""
        return [[self.ids[clip] for clip in np.flatnonzero(np.isnan(rows[:, 0]))] for rows in self.probabilities]

    def average(self) -> np.ndarray:
        """The mean (N, 6) of the probabilities over the models that know a clip."""
        return np.nanmean(self.probabilities, axis=0)


def models_of(ids: Sequence[str], paths: Sequence[Path], logits: Sequence[np.ndarray]) -> Models:
    """Models from each one's logits (N, 6) of all clips `ids`; `paths` are for the record."""
    return Models(list(ids), list(paths), softmax(np.stack(logits)), log_softmax(np.stack(logits)))


def read_models(paths: Sequence[Path], ids: Sequence[str] | None = None, test: bool = False) -> Models:
    """The models' scores of the clips `ids`; None takes every clip that any model knows, in order of appearance.

    Raises: see `blemore_baselines.features.read_scores`. A missing clip is an error only if no model knows it.
    """
    paths = [run for path in paths for run in runs_of(path)]
    clips = [read_scores(path, test=test).ids for path in paths]  # of each model
    ids = list(dict.fromkeys(clip for row in clips for clip in row)) if ids is None else list(ids)
    probabilities, logs = np.full((2, len(paths), len(ids), len(EMOTIONS)), np.nan)
    for model, (path, subset) in enumerate(zip(paths, map(set, clips))):
        places = [place for place, clip in enumerate(ids) if clip in subset]
        # Reading again refuses clips that are not in `ids`.
        scores = read_scores(path, [ids[place] for place in places], test=test).X
        probabilities[model, places] = to_probabilities(scores, str(path))
        logs[model, places] = to_log_probabilities(scores, str(path))
    nowhere = [clip for clip, unknown in zip(ids, np.isnan(probabilities[:, :, 0]).all(axis=0)) if unknown]
    if nowhere:
        message = f"{len(nowhere):,} of {len(ids):,} clips have no scores from any model: {some(nowhere)}"
        hint = "Score them with at least one model."
        raise ValidationError(Problem("missing-clips", ", ".join(map(str, paths)), message, hint=hint))
    return Models(ids, list(paths), probabilities, logs)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, float64."""
    shifted = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, float64; exact where the softmax would round to zero."""
    shifted = np.asarray(logits, dtype=np.float64) - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def mean_logs(logits: np.ndarray) -> np.ndarray:
    """Scores (N, 6) from the logits of several models (M, N, 6): their mean log-probabilities."""
    return log_softmax(logits).mean(axis=0)


def to_probabilities(scores: np.ndarray, where: str = "scores") -> np.ndarray:
    """Probabilities (N, 6) from probabilities or logits.

    If every row lies in [0, 1] and sums to 1 ± 1e-3, the scores are probabilities and are not changed. If no row does,
    they are logits and go through the softmax.

    Raises ValidationError: the shape is wrong, a value is not finite, only some rows are probabilities, or the scores
    are neither probabilities nor logits (percentages, or numbers in [0, 1] that do not sum to 1).
    """
    scores = np.asarray(scores)
    return scores.astype(np.float64) if _are_probabilities(scores, where) else softmax(scores)


def to_log_probabilities(scores: np.ndarray, where: str = "scores") -> np.ndarray:
    """Log-probabilities (N, 6) from probabilities or logits, with the rules and errors of `to_probabilities`.

    Logits stay exact, however sharp; a probability of zero has no logarithm and counts as 1e-12.
    """
    scores = np.asarray(scores)
    if _are_probabilities(scores, where):
        return np.log(np.maximum(scores.astype(np.float64), FLOOR))
    return log_softmax(scores)


def _are_probabilities(scores: np.ndarray, where: str) -> bool:
    """Whether all rows are probabilities; False: all are logits."""
    demand_rows(scores, len(EMOTIONS), where)
    are = ((scores >= 0) & (scores <= 1)).all(axis=1) & (np.abs(scores.sum(axis=1) - 1) <= 1e-3)
    if are.all():
        return True
    if not are.any():
        _refuse_shares(scores, where)
        return False
    message = (
        f"{are.sum():,} of {len(scores):,} rows are probabilities (in [0, 1], sum 1), the others are not; expected all"
        " or no rows"
    )
    hint = (
        "Are some rows rounded or not normalised? Give logits throughout, or probabilities that sum to 1 within 0.001."
    )
    raise ValidationError(Problem("mixed-scores", where, message, hint=hint))


def _refuse_shares(scores: np.ndarray, where: str) -> None:
    """ValidationError: these look like percentages or shares, and the softmax would silently distort them.

    Logits do not look like that, or can be shifted until they do not.
    """
    expected = "expected logits, or probabilities that sum to 1"
    if (scores >= 0).all() and abs(np.median(scores.sum(axis=1)) - 100) <= 3:  # each of six may be off by 0.5
        message = f"no value is negative, and rows sum to about 100; {expected}"
        hint = "These look like percentages: divide by 100."
        raise ValidationError(Problem("percentages", where, message, hint=hint))
    # Rows of equal numbers mean the same either way.
    if ((scores >= 0) & (scores <= 1)).all() and np.ptp(scores, axis=1).any():
        message = f"all values lie in [0, 1], but no row sums to 1; {expected}"
        hint = (
            "Are they sigmoid outputs? Give the logits, or divide each row by its sum. If these are logits, subtract 2"
            " from all: that does not change the softmax."
        )
        raise ValidationError(Problem("not-normalised", where, message, hint=hint))


def average(scores: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Late fusion: the mean (N, 6) of several models' probabilities for the same clips. `names` are for messages."""
    return np.mean([to_probabilities(rows, str(name)) for rows, name in zip(scores, names)], axis=0)
