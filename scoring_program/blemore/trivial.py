"""The trivial baselines: always the same answer.

There are two constant blends, since no single one is best at both metrics: the most frequent pair,
which gives the published presence, and the most frequent pair with saliences, which gives the
published salience. Ties go to the lowest label index (see labels.py).

The published figures take the most frequent class of the partition that is *scored*. What a
participant could submit is fitted on *train*; on the test set the two can differ.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from blemore.labels import BLENDS, LABELS, NEUTRAL, PAIRS, SINGLES, Label, Prediction
from blemore.metrics import Counts, count

# Fills templates. Neutral is never in a blend, so ACC_salience is 0 for certain, and nobody takes it for an attempt.
PLACEHOLDER = Label((NEUTRAL,), (100,))

T = TypeVar("T")


class Trivial(NamedTuple):
    """The constant answers; None if the labels that they were fitted on have none of the kind."""

    single: Label | None
    pair: Label | None  # the most frequent pair, with its own most frequent saliences
    blend: Label | None


def fit(labels: Iterable[Label]) -> Trivial:
    """The most frequent single emotion, pair, and pair with saliences among `labels`."""
    by_label = Counter(labels)
    by_pair: Counter[tuple[str, ...]] = Counter()
    for label, frequency in by_label.items():
        by_pair[label.emotions] += frequency

    def most_frequent(candidates: Sequence[T], frequency: Counter[T]) -> T | None:
        best = max(candidates, key=lambda candidate: frequency[candidate])  # max keeps the first of equals
        return best if frequency[best] else None

    pair = most_frequent(PAIRS, by_pair)
    return Trivial(
        single=most_frequent(SINGLES, by_label),
        pair=most_frequent([blend for blend in BLENDS if blend.emotions == pair], by_label) if pair else None,
        blend=most_frequent(BLENDS, by_label),
    )


def train_counts() -> dict[Label, int]:
    """How many clips of the challenge's train partition have each label."""
    counts = json.loads((Path(__file__).parent / "data" / "train_counts.json").read_text(encoding="utf-8"))["counts"]
    return {label: counts[str(label)] for label in LABELS}


def train_answers() -> Trivial:
    """What a participant could submit: fitted on the train partition."""
    return fit(Counter(train_counts()).elements())


def answer(label: Label, clips: Iterable[str]) -> dict[str, Prediction]:
    """The same prediction for every clip."""
    return {clip: Prediction(label, label) for clip in clips}


def evaluate(trivial: Trivial, labels: Mapping[str, Label]) -> dict[str, Counts]:
    """The record of each answer that exists, over the scored `labels`."""
    return {name: count(answer(label, labels), labels) for name, label in trivial._asdict().items() if label}
