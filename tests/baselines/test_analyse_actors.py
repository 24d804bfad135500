"""Figures over actors, against the package's own comparison of submissions."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blemore import significance
from blemore.evaluate import Report
from blemore.labels import LABELS, to_prediction
from blemore.metrics import count
from blemore.significance import Estimate
from blemore_baselines.studies.intervals import FIGURES, compare, estimate, estimate_figure, in_words, outcomes


@pytest.fixture
def two():
    """Labels, and two predictors: one right in six of ten clips, one in four; twenty actors."""
    rng = np.random.default_rng(4)
    labels, actors = rng.integers(0, 36, 400), np.array([f"A{k:02}" for k in rng.integers(0, 20, 400)])
    right = [np.where(rng.random(400) < share, labels, rng.integers(0, 36, 400)) for share in (0.6, 0.4)]
    return labels, actors, *right


def test_outcomes_by_hand():
    # fea; ang+disg 70/30 right, with the other relation, and as ang alone
    assert outcomes(np.array([2, 6, 7, 0]), np.array([2, 6, 6, 6])).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 0],
        [1, 0, 1, 0],
    ]


def test_figures_and_intervals_are_those_of_the_package(two):
    labels, actors, first, second = two
    labels[actors == "A07"] = 3  # an actor without blends
    truth = {str(k): LABELS[label] for k, label in enumerate(labels)}
    reports = []
    for predicted in (first, second):
        predictions = {str(k): to_prediction(list(zip(*LABELS[label]))) for k, label in enumerate(predicted)}
        reports.append(
            Report(
                count(predictions, truth), predictions, truth, "all", {str(k): actor for k, actor in enumerate(actors)}
            )
        )
    differences = significance.compare(*reports).differences
    alone = significance.intervals(reports[0]).estimates
    for name, key in zip(FIGURES, significance.FIGURES):
        difference = compare(outcomes(first, labels), outcomes(second, labels), actors, name)
        assert difference == pytest.approx(differences[key].estimate)
        assert estimate_figure(outcomes(first, labels), actors, name) == pytest.approx(alone[key])


def chance(rng, actors=12, clips=20):
    """The difference of two predictors that are equally good overall, but not for each actor."""
    owner, labels = np.repeat(np.arange(actors), clips), rng.integers(0, 36, actors * clips)

    def predicted():
        right = rng.random(len(owner)) < np.clip(rng.normal(0.4, 0.15, actors), 0, 1)[owner]
        return outcomes(np.where(right, labels, rng.integers(0, 36, len(owner))), labels)

    return compare(predicted(), predicted(), owner.astype(str))


def test_p_and_interval_say_the_same_and_err_one_time_in_twenty():
    rng = np.random.default_rng(1)
    differences = [chance(rng) for _ in range(800)]
    assert all(
        (difference.p < 0.05) == (difference.beyond != 0) == (not difference.low <= 0 <= difference.high)
        for difference in differences
    )
    assert 0.03 < np.mean([difference.beyond != 0 for difference in differences]) < 0.07  # 0.0077 is its standard error


@given(st.integers(0, 10**6), st.integers(2, 15))
def test_p_is_where_an_interval_of_that_level_would_end_at_zero(seed, actors):
    difference = chance(np.random.default_rng(seed), actors, clips=6)
    assume(difference.p is not None)  # all actors differ by the same
    deviation = (difference.high - difference.low) / 2 / significance.t_quantile(0.975, actors - 1)
    assume(1e-3 < difference.p < 0.999 and -1 < difference.low and difference.high < 1)
    assert significance.t_quantile(1 - difference.p / 2, actors - 1) * deviation == pytest.approx(
        abs(difference.value), rel=1e-6
    )


def test_intervals_stay_within_what_is_possible():
    """Two actors, one all right and one all wrong: 0.5 ± far more than 0.5."""
    labels, actors = np.zeros(8, dtype=int), np.repeat(["A", "B"], 4)
    right, wrong = outcomes(labels, labels), outcomes(labels + 1, labels)
    half = np.vstack([right[:4], wrong[4:]])
    assert estimate(half, actors, FIGURES["presence"])[:3] == (0.5, 0, 1)
    assert compare(half, wrong, actors, "presence")[:3] == (0.5, -1, 1)
    free = estimate(half, actors, FIGURES["presence"], (-np.inf, np.inf))
    assert free.low < -1 and free.high > 2


def test_sums_in_another_order_are_no_difference(two):
    labels, actors, first, _ = two
    tenth = sum([outcomes(first, labels) / 10] * 10)
    assert (tenth != outcomes(first, labels)).any()
    assert compare(tenth, outcomes(first, labels), actors) == (0, None, None, None, "no difference")


def test_equal_gains_for_all_actors_allow_no_inference():
    labels, actors = np.zeros(8, dtype=int), np.repeat(["A", "B"], 4)
    assert compare(outcomes(labels, labels), outcomes(labels + 1, labels), actors, "presence")[:2] == (1, None)


def test_the_order_of_clips_does_not_matter(two):
    labels, actors, first, second = two
    order = np.random.default_rng(0).permutation(len(labels))
    records = outcomes(first, labels), outcomes(second, labels)
    assert compare(*records, actors) == pytest.approx(compare(*(rows[order] for rows in records), actors[order]))


def test_equal_predictions_differ_by_nothing(two):
    labels, actors, first, _ = two
    assert compare(outcomes(first, labels), outcomes(first, labels), actors) == (0, None, None, None, "no difference")


def test_a_single_actor_gives_no_interval(two):
    labels, _, first, _ = two
    presence = estimate(outcomes(first, labels), ["A1"] * len(labels), FIGURES["presence"])
    assert presence.low is None and presence.high is None
    assert in_words(presence) == f"+{presence.value:.3f} (no interval: a single actor)"


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Estimate(0.012, -0.02, 0.044, 0.41), "+0.012 (95 % interval −0.020 to +0.044, p = 0.410), within chance"),
        (
            Estimate(-0.1, -0.15, -0.05, 0.0005),
            "−0.100 (95 % interval −0.150 to −0.050, p < 0.001), more than chance explains",
        ),
    ],
)
def test_words(difference, words):
    assert in_words(difference) == words
