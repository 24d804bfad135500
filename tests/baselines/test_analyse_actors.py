"""Figures over actors, against the package's own comparison of submissions."""

import numpy as np
import pytest

from blemore import significance
from blemore.evaluate import Report
from blemore.labels import LABELS, to_prediction
from blemore.metrics import count
from blemore_baselines.analyse.actors import FIGURES, Estimate, compare, estimate, in_words, outcomes


@pytest.fixture
def two():
    """Labels, and two predictors: one right in six of ten clips, one in four; twenty actors."""
    rng = np.random.default_rng(4)
    labels, actors = rng.integers(0, 36, 400), np.array([f"A{k:02}" for k in rng.integers(0, 20, 400)])
    wrong = lambda share: np.where(rng.random(400) < share, labels, rng.integers(0, 36, 400))  # noqa: E731
    return labels, actors, wrong(0.6), wrong(0.4)


def test_outcomes_by_hand():
    # fea; ang+disg 70/30 right, with the other relation, and as ang alone
    assert outcomes(np.array([2, 6, 7, 0]), np.array([2, 6, 6, 6])).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 0]]


def test_figures_and_intervals_are_those_of_the_package(two):
    """Another generator draws the actors, so intervals agree as two seeds do."""
    labels, actors, first, second = two
    truth = {str(k): LABELS[label] for k, label in enumerate(labels)}
    reports = []
    for predicted in (first, second):
        predictions = {str(k): to_prediction(list(zip(*LABELS[label]))) for k, label in enumerate(predicted)}
        reports.append(Report(count(predictions, truth), predictions, truth, "all", {str(k): actor for k, actor in enumerate(actors)}))
    theirs = significance.compare(*reports).differences
    alone = significance.bootstrap(reports[0]).intervals
    for name, key in zip(FIGURES, significance.FIGURES):
        ours = compare(outcomes(first, labels), outcomes(second, labels), actors, name)
        assert ours.value == pytest.approx(theirs[key].delta)
        assert (ours.low, ours.high) == pytest.approx(theirs[key].interval, abs=0.01)
        assert ours.p == pytest.approx(theirs[key].p, abs=0.01)
        single = estimate(outcomes(first, labels), actors, FIGURES[name])
        assert (single.low, single.high) == pytest.approx(alone[key], abs=0.01)


def test_the_order_of_clips_does_not_matter(two):
    labels, actors, first, second = two
    order = np.random.default_rng(0).permutation(len(labels))
    records = outcomes(first, labels), outcomes(second, labels)
    assert compare(*records, actors) == pytest.approx(compare(*(its[order] for its in records), actors[order]))


def test_equal_predictions_differ_by_nothing(two):
    labels, actors, first, _ = two
    assert compare(outcomes(first, labels), outcomes(first, labels), actors) == (0, 0, 0, 1)


def test_a_single_actor_gives_no_interval(two):
    labels, _, first, _ = two
    found = estimate(outcomes(first, labels), ["A1"] * len(labels), FIGURES["presence"])
    assert found.low is None and found.high is None
    assert in_words(found) == f"+{found.value:.3f} (a single actor: no interval)"


@pytest.mark.parametrize(("found", "told"), [
    (Estimate(0.012, -0.02, 0.044, 0.41), "+0.012 (95 % interval −0.020 to +0.044, p = 0.410), within chance"),
    (Estimate(-0.1, -0.15, -0.05, 0.0005), "−0.100 (95 % interval −0.150 to −0.050, p < 0.001), more than chance explains"),
])
def test_words(found, told):
    assert in_words(found) == told
