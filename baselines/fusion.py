"""Late fusion's input: several models' scores of the same clips, paired by id. Some may not know some clips."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np

from blemore.errors import Problem, ValidationError, some
from blemore.labels import EMOTIONS
from blemore_baselines.decode import to_log_probabilities, to_probabilities
from blemore_baselines.features import read_scores


class Models(NamedTuple):
    """M models' scores of N clips.

    ids:           the clips
    paths:         where each model's scores are from
    probabilities: (M, N, 6), emotions in index order; a row of NaN where a model does not know a clip
    logs:          their logarithms, which of sharp logits tell more than probabilities that were rounded to zero
    """

    ids: list[str]
    paths: list[Path]
    probabilities: np.ndarray
    logs: np.ndarray

    @property
    def missing(self) -> list[list[str]]:
        """Of each model the clips that it does not know."""
        return [[self.ids[clip] for clip in np.flatnonzero(np.isnan(rows[:, 0]))] for rows in self.probabilities]

    def average(self) -> np.ndarray:
        """The mean (N, 6) of the probabilities over the models that know a clip."""
        return np.nanmean(self.probabilities, axis=0)


def read_models(paths: Sequence[Path], ids: Optional[Sequence[str]] = None, test: bool = False) -> Models:
    """The models' scores of the clips `ids`; None takes every clip that any model knows, in the order of appearance.

    Raises as `blemore_baselines.features.read_scores`, but for missing clips: only those that no model
    knows are refused.
    """
    known = [read_scores(path, test=test).ids for path in paths]
    ids = list(dict.fromkeys(clip for clips in known for clip in clips)) if ids is None else list(ids)
    probabilities, logs = np.full((2, len(paths), len(ids), len(EMOTIONS)), np.nan)
    for model, (path, clips) in enumerate(zip(paths, map(set, known))):
        here = [place for place, clip in enumerate(ids) if clip in clips]
        scores = read_scores(path, [ids[place] for place in here], test=test).X  # again, which refuses clips that are unknown
        probabilities[model, here], logs[model, here] = to_probabilities(scores, str(path)), to_log_probabilities(scores, str(path))
    nowhere = [clip for clip, unknown in zip(ids, np.isnan(probabilities[:, :, 0]).all(axis=0)) if unknown]
    if nowhere:
        raise ValidationError(Problem(
            "missing-clips", ", ".join(map(str, paths)), f"{len(nowhere):,} of {len(ids):,} clips have no scores from any model: {some(nowhere)}",
            hint="Score them with one model at least.",
        ))
    return Models(ids, list(paths), probabilities, logs)
