"""What all studies share: a check of the folds, a signature, and the format of differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.signature import line
from blemore.version import VERSION
from blemore_baselines.dataset import IS_BLEND, Dataset
from blemore_baselines.features import Features


def signed(number: float) -> str:
    """A difference as written in findings: `+0.012`, `−0.012`."""
    return f"{number:+.3f}".replace("-", "−")


def check_folds(dataset: Dataset, least: int) -> None:
    """ValidationError: fewer folds than `least`, or a fold without blends, which has no ACC_salience."""
    folds, blends = np.unique(dataset.folds), set(dataset.folds[IS_BLEND[dataset.labels]].tolist())
    without = [str(fold) for fold in folds.tolist() if fold not in blends]
    problems = []
    if len(folds) < least:
        problems.append(
            Problem(
                "too-few-folds",
                "folds",
                f"found {len(folds)}; expected at least {least}",
                hint="Use the dataset's own folds.",
            )
        )
    if without:
        problems.append(
            Problem(
                "no-blends",
                "folds",
                f"no blends in fold {', '.join(without)}; expected some in each fold, for ACC_salience",
            )
        )
    if problems:
        raise ValidationError(problems)


def signature(study: str, dataset: Dataset, **settings: object) -> str:
    """A line that identifies a study's inputs: clips with labels, folds and actors, and settings, including digests of
    features or scores.
    """
    return line({"study": study, "clips": len(dataset.ids), "train": dataset.digest, **settings, "version": VERSION})


def digests(sources: Sequence[Features]) -> str:
    """A signature's entry for features or scores."""
    return "+".join(source.digest for source in sources)
