"""What all studies need: folds that can be compared, a signature, and how a difference is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.signature import line
from blemore.version import VERSION
from blemore_baselines.dataset import IS_BLEND, Dataset
from blemore_baselines.features import Features


def signed(number: float) -> str:
    """A difference, as findings tell it: `+0.012`, `−0.012`."""
    return f"{number:+.3f}".replace("-", "−")


def check_folds(dataset: Dataset, least: int) -> None:
    """ValidationError: fewer folds than `least`, or one without blends, on which nothing can be said of salience."""
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
                f"no blends in fold {', '.join(without)}; expected some in each, or there is no ACC_salience",
            )
        )
    if problems:
        raise ValidationError(problems)


def signature(study: str, dataset: Dataset, **settings: object) -> str:
    """A line that holds what a study was computed from: clips with labels, folds and actors, and settings, digests of
    its inputs among them.
    """
    return line({"study": study, "clips": len(dataset.ids), "train": dataset.digest, **settings, "version": VERSION})


def digests(sources: Sequence[Features]) -> str:
    """What a signature holds of features or scores."""
    return "+".join(source.digest for source in sources)
