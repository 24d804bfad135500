"""The figures on arrays: those of the scorer, for any labels and scores; and soft targets to labels and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blemore
from blemore.errors import ValidationError
from blemore.labels import LABELS, to_entry
from blemore_baselines.dataset import TARGETS
from blemore_baselines.decoding import metrics
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds

SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(SEEDS, st.sampled_from([None, Thresholds(0.2, 0.1)]))
def test_figures_equal_those_of_the_scorer(rng, thresholds):
    labels, logits = rng.integers(0, len(LABELS), 40), 2 * rng.normal(size=(40, 6))
    figures = metrics.evaluate(logits, labels, thresholds)
    predicted = decode_thresholds(softmax(logits), figures.thresholds)
    given_labels, answers = (
        {f"clip{k}": to_entry(LABELS[label]) for k, label in enumerate(row)} for row in (labels, predicted)
    )
    assert figures.presence == blemore.acc_presence(answers, given_labels)
    if any(LABELS[label].is_blend for label in labels):
        assert figures.salience == blemore.acc_salience(answers, given_labels)
        assert figures.score == blemore.score(answers, given_labels)
    for same in (
        metrics.evaluate(softmax(logits), labels, thresholds),
        metrics.evaluate(logits, TARGETS[labels], thresholds),
    ):
        assert same == figures
    assert thresholds is None or figures.thresholds == thresholds


@given(SEEDS)
def test_fitted_thresholds_are_the_best_of_the_grid(rng):
    labels, logits = rng.integers(0, len(LABELS), 30), 2 * rng.normal(size=(30, 6))
    best = metrics.evaluate(logits, labels).score
    grid = np.linspace(0.05, 0.95, 20)[::6]
    assert all(best >= metrics.evaluate(logits, labels, Thresholds(a, b)).score for a in grid for b in grid)


def test_every_label_to_its_target_and_back():
    everything = np.arange(len(LABELS))
    assert (metrics.to_labels(metrics.to_targets(everything)) == everything).all()
    assert (metrics.to_labels(TARGETS.astype(np.float16)) == everything).all(), "half precision is near enough"
    assert metrics.to_targets([12]).tolist() == [pytest.approx([0.7, 0, 0, 0.3, 0, 0])]


@pytest.mark.parametrize(
    "targets, message",
    [
        ([[0.6, 0.4, 0, 0, 0, 0]], "rows 0 match no label"),
        ([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.5, 0.5]], "rows 1 match no label"),
        ([[0, 0, 0, 0, 0, 0]], "match no label"),
        ([[70, 30, 0, 0, 0, 0]], "divide by 100"),
        ([[np.nan, 0, 0, 0, 0, 0]], "NaN or Infinity"),
        ([[1.0, 0, 0]], r"shape \(1, 3\)"),
        ([[0, 1, 1, 0, 0, 0]], "match no label"),
    ],
)
def test_targets_that_match_no_label_are_refused(targets, message):
    with pytest.raises(ValidationError, match=message):
        metrics.to_labels(np.array(targets))


def test_other_numbers_of_clips_are_refused():
    for truth in (np.zeros(3, dtype=int), TARGETS[:3]):
        with pytest.raises(ValidationError, match="for 2 clips"):
            metrics.evaluate(np.zeros((2, 6)) + np.arange(6), truth)


def test_without_blends_there_is_only_presence():
    figures = metrics.evaluate(np.eye(6) * 9, np.arange(6))
    assert figures[:3] == (1.0, None, None)
