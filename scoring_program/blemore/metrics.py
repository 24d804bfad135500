"""The challenge's two metrics.

Every clip gives a small record of counts, `Counts`; a score is a function of the sum of records, so
subsets, folds, resampled actors and the whole are all computed the same way.

ACC_presence = clips whose predicted set of emotions is the true set / all clips
ACC_salience = blends whose set and relation (equal, first or second dominant) are right / all blends
score        = (ACC_presence + ACC_salience) / 2, the leaderboard's order

A blend that was predicted as a single counts as wrong in both. The denominators come only from
the reference. Definitions: Lachmann et al. 2026 (arXiv 2601.13225), which speaks of the correct
ranking of saliences; `acc_salience_exact` compares percentages rounded to whole numbers instead. The two are the
same for predictions at 70/30, 50/50 and 30/70.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from blemore.errors import Problem, ValidationError
from blemore.labels import Label, Prediction
from blemore.validate import validate, validate_labels

EXAMPLE = '{"test_0001": [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}]}'


class Counts(NamedTuple):
    """Additive record: clips, right sets; true blends, right relations, right rounded percentages."""

    n: int = 0
    presence: int = 0
    n_blends: int = 0
    salience: int = 0
    salience_exact: int = 0

    @property
    def acc_presence(self) -> float | None:
        """In [0, 1]; None without clips."""
        return self.presence / self.n if self.n else None

    @property
    def acc_salience(self) -> float | None:
        """In [0, 1]; None without blends."""
        return self.salience / self.n_blends if self.n_blends else None

    @property
    def acc_salience_exact(self) -> float | None:
        """In [0, 1]; None without blends."""
        return self.salience_exact / self.n_blends if self.n_blends else None

    @property
    def score(self) -> float | None:
        """The mean of acc_presence and acc_salience; None without blends."""
        presence, salience = self.acc_presence, self.acc_salience
        return None if presence is None or salience is None else (presence + salience) / 2


def outcome(prediction: Prediction, truth: Label) -> Counts:
    """The record of one clip."""
    right_set = prediction.label.emotions == truth.emotions
    if not truth.is_blend:
        return Counts(1, right_set)
    return Counts(1, right_set, 1, prediction.label == truth, prediction.rounded == truth)


def total(records: Iterable[Counts]) -> Counts:
    """The sum of records.

    >>> total([Counts(1, 1), Counts(1, 0, 1, 0, 0)])
    Counts(n=2, presence=1, n_blends=1, salience=0, salience_exact=0)
    """
    columns = zip(*records)
    return Counts(*map(sum, columns))


def count(predictions: Mapping[str, Prediction], labels: Mapping[str, Label]) -> Counts:
    """The summed record over the clips of `labels`, paired by id. KeyError: a clip has no prediction."""
    return total(outcome(predictions[clip], truth) for clip, truth in labels.items())


def _count_raw(predictions: object, labels: object) -> Counts:
    others = [name for name, value in (("predictions", predictions), ("labels", labels)) if hasattr(value, "shape")]
    if others:
        message = f"found an array; expected a mapping of clips to entries, such as {EXAMPLE}"
        hint = "To turn a model's scores into labels, use a decoder: see blemore_baselines.decoding."
        raise ValidationError([Problem("wrong-type", name, message, hint=hint) for name in others])
    reference = validate_labels(labels).labels
    return count(validate(predictions, ids=reference), reference)


def acc_presence(predictions: Mapping[str, object], labels: Mapping[str, object]) -> float:
    """ACC_presence: the share of clips whose set of emotions is exactly right, in [0, 1].

    Both arguments map clips to entries in the submission's form, with or without the root key
    (`predictions`, `labels`); ids may carry a media suffix. Only the clips of `labels` count.

    >>> blend = [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}]
    >>> equal = [{"emotion": "hap", "salience": 50}, {"emotion": "ang", "salience": 50}]
    >>> truth = {"a": blend, "b": [{"emotion": "sad", "salience": 100}]}
    >>> acc_presence({"a.mov": equal, "b.mov": truth["b"]}, truth)
    1.0

    Raises ValidationError: an entry is invalid, a clip is missing or unknown; it lists every problem.
    """
    counts = _count_raw(predictions, labels)
    return counts.presence / counts.n  # labels without a clip are not valid


def acc_salience(predictions: Mapping[str, object], labels: Mapping[str, object]) -> float | None:
    """ACC_salience: the share of true blends whose set and relation are right, in [0, 1]; None without blends.

    Arguments and errors as for `acc_presence`.

    >>> truth = {"a": [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}]}
    >>> acc_salience({"a": [{"emotion": "ang", "salience": 60}, {"emotion": "hap", "salience": 40}]}, truth)
    1.0
    """
    return _count_raw(predictions, labels).acc_salience


def score(predictions: Mapping[str, object], labels: Mapping[str, object]) -> float | None:
    """The leaderboard's figure: the mean of ACC_presence and ACC_salience, in [0, 1]; None without blends.

    Arguments and errors as for `acc_presence`.
    """
    return _count_raw(predictions, labels).score
