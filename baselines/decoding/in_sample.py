"""Two signs that scores are not out of fold, but come from models trained on the same clips.

Every figure from such scores is worthless, and a table of scores does not say how it was made. Both signs are one-sided
tests over actors, at LEVEL: at most one in a thousand sets of honest scores gets a warning, if honest scores meet the
test's assumption.

- *More confident than on new clips.* A model is more confident about clips that it has seen. Honest scores of train
  clips are spread no wider over the emotions than the same model's scores of new clips; in four real runs the scores of
  new clips are 9 to 13 % wider.
- *Relations too good.* Which of two emotions dominates is the hard half of the challenge. Among the blends whose pair
  they get right, four real runs get 43 to 45 % of the relations right; chance is 33 %. The test assumes that honest
  scores get at most BEST of them right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blemore.significance import t_tails
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL, Dataset
from blemore_baselines.decoding.scores import Models

LEVEL = 0.001
ROUNDING = 1e-12  # a smaller variance counts as zero
BEST = 0.65  # share of right relations, in blends with the right pair


def surer_than_new(train: Models, actors: Sequence[str], test: Models) -> list[float | None]:
    """For each model, the spread of its scores of train clips divided by that of new clips, if the ratio exceeds 1 by
    more than chance; else None.

    actors: of the train clips. The new clips' actors are assumed to vary as much as these.
    """
    return [_surer(log, np.asarray(actors), new) for log, new in zip(train.logs, test.logs, strict=True)]


def _surer(log: np.ndarray, actors: np.ndarray, new: np.ndarray) -> float | None:
    present = ~np.isnan(log[:, 0])
    squares, names = log[present].var(axis=1), actors[present]
    others = new[~np.isnan(new[:, 0])].var(axis=1)
    units = np.unique(names)
    if len(units) < 2 or not len(others) or min(others.mean(), squares.mean()) <= ROUNDING:
        return None
    ratio = math.sqrt(squares.mean() / others.mean())
    left_out = np.array([math.log(squares[names != name].mean() or 1) / 2 for name in units])
    variance = left_out.var() * (len(units) - 1) * (1 + len(squares) / len(others))
    return ratio if _is_beyond(math.log(ratio), variance, len(units)) else None


def relations_too_good(dataset: Dataset, predicted: np.ndarray) -> float | None:
    """The share of right relations in blends whose predicted (N,) pair is right, if it exceeds BEST by more than
    chance; else None.
    """
    pair_right = IS_BLEND[dataset.labels] & (SET_OF_LABEL[predicted] == SET_OF_LABEL[dataset.labels])
    right, actors = (predicted == dataset.labels)[pair_right], np.asarray(dataset.actors)[pair_right]
    units = np.unique(actors)
    if len(units) < 2:
        return None
    left_out = np.array([right[actors != name].mean() for name in units])
    # At least the variance of independent relations, each right with probability BEST.
    variance = max(left_out.var() * (len(units) - 1), BEST * (1 - BEST) / len(right))
    return float(right.mean()) if _is_beyond(right.mean() - BEST, variance, len(units)) else None


def too_good(share: float) -> str:
    """The warning for a share from `relations_too_good`."""
    return (
        f"{share:.0%} of the blends with the right pair also have the right relation, which is better than any known"
        " honest scores. Was each clip scored by a model that had not seen its fold? If the models were trained on the"
        " clips that they score, every figure is worthless"
    )


def surer(ratio: float) -> str:
    """The warning for a ratio from `surer_than_new`."""
    return (
        f"the scores of train clips are spread {ratio:.2f} times as wide as those of new clips, which is beyond chance."
        " Was each train clip scored by a model that had not seen its fold? If the models were trained on the clips"
        " that they score, every figure is worthless"
    )


def _is_beyond(distance: float, variance: float, units: int) -> bool:
    """Whether a distance above 0 is beyond chance: Student's t with `units` − 1 degrees of freedom."""
    if distance <= 0:
        return False
    return variance == 0 or t_tails(distance / math.sqrt(variance), units - 1) / 2 < LEVEL
