"""The stability of thresholds: how far they can be moved, and figures of folds and resampled actors."""

import numpy as np
import pytest
from cases import cases
from hypothesis import given

from blemore_baselines.dataset import TARGETS
from blemore_baselines.decoding.accounts import count
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact
from blemore_baselines.results import stability


def case(n=120, actors=8):
    rng = np.random.default_rng(5)
    labels, owner = rng.integers(0, 36, n), np.arange(n) % actors
    scores = (TARGETS[labels] + 0.5 * rng.random((n, 6))) ** (
        1 + owner[:, None] % 2
    )  # every other actor is seen more sharply
    return scores / scores.sum(axis=1, keepdims=True), labels, owner % 4, [f"A{k}" for k in owner]


def test_figures_of_folds_are_correct():
    probabilities, labels, folds, actors = case()
    measurement = stability.measure(probabilities, labels, folds, actors, resamples=20)
    best = fit_exact(probabilities, labels)
    assert (measurement.pooled.thresholds, measurement.pooled.score) == (best.thresholds, best.score)
    for fold in range(4):
        own = count(
            decode_thresholds(probabilities[folds == fold], measurement.folds[fold].thresholds), labels[folds == fold]
        ).score
        assert own == pytest.approx(measurement.folds[fold].score) and own >= measurement.elsewhere[fold]
    names = [row[0] for row in stability.table(measurement).rows]
    assert names == ["all clips", "fold 0", "fold 1", "fold 2", "fold 3", "resampled actors"]


def test_resamples_are_of_whole_actors_and_repeatable():
    probabilities, labels, _, actors = case(actors=2)
    draws = stability.resample(probabilities, labels, actors, 60, seed=0)
    assert np.array_equal(draws, stability.resample(probabilities, labels, actors, 60, seed=0))
    assert not np.array_equal(draws, stability.resample(probabilities, labels, actors, 60, seed=1))
    # Of two actors there are but three draws: the one twice, the other twice, both.
    expected = {
        tuple(fit_exact(probabilities[rows], labels[rows]).thresholds)
        for rows in (np.arange(0, 120, 2), np.arange(1, 120, 2), np.arange(120))
    }
    assert {tuple(row) for row in draws} == expected and len(expected) == 3


def test_clips_without_blends():
    probabilities, _, folds, actors = case()
    measurement = stability.measure(probabilities, np.arange(120) % 6, folds, actors, resamples=5)
    assert (measurement.scores == measurement.scores[:, :1]).all() and set(measurement.elsewhere.values()) == {None}
    assert stability.table(measurement).rows[1][-1] is None


def check_region(probabilities, labels):
    """Checks that a region reaches up to where more than NEAR is lost, and no farther."""
    region = stability.region(probabilities, labels)
    (alpha, beta), (low, high), (bottom, top), best = region
    assert low < alpha <= high or low == alpha == high == 0
    assert bottom <= beta < top

    def fine(*thresholds):
        counts = count(decode_thresholds(probabilities, Thresholds(*thresholds)), labels)
        return (counts.acc_presence if counts.score is None else counts.score) >= best - stability.NEAR - 1e-9

    ordered = np.sort(probabilities, axis=1)
    seconds, leads = {1.0, *ordered[:, -2]}, {0.0, *(ordered[:, -1] - ordered[:, -2])}
    assert all(fine(value, beta) for value in (*seconds, high) if low < value <= high) and all(
        fine(alpha, value) for value in leads | {bottom} if bottom <= value < top
    )
    assert low == 0 or not fine(low, beta), "α in (low, high]"
    assert high == 1 or not fine(np.nextafter(high, 1), beta)
    assert top >= 1 or not fine(alpha, top), "β in [low, high)"
    assert bottom <= 0 or not fine(alpha, np.nextafter(bottom, -1))
    return region


@given(cases(), cases(60))
def test_a_region_reaches_to_where_more_than_that_is_lost(small, large):
    check_region(*small)
    check_region(*large)


def test_a_region_of_many_clips_is_wider_than_the_plateau():
    probabilities, labels, *_ = case(n=1200)
    region, plateau = check_region(probabilities, labels), fit_exact(probabilities, labels)
    assert (
        region.alpha[0] < plateau.alpha[0] < plateau.alpha[1] < region.alpha[1]
        and region.beta[0] < plateau.beta[0] < plateau.beta[1] < region.beta[1]
    )


def test_a_region_by_hand():
    # Two blends with leads of 0.2 and 0.6, 50/50 both: β must reach 0.6, α must not pass 0.2.
    probabilities, labels = np.array([[0.6, 0.4, 0, 0, 0, 0], [0.8, 0.2, 0, 0, 0, 0]]), np.array([7, 7])
    region = stability.region(probabilities, labels)
    assert region.score == 1 and region.alpha == pytest.approx((0, 0.2)) and region.beta == pytest.approx((0.6, 1))


def test_an_interval_never_shows_equal_ends():
    assert stability.reach(0.07351, 0.07368) == "0.0735 to 0.0737" and stability.reach(0.05, 0.11) == "0.050 to 0.110"
    assert stability.reach(0.25, 0.25) == "0.250 to 0.250"  # they are equal


def test_real_logits_have_a_region_that_can_be_seen(shared):
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_scores

    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    probabilities = softmax(
        read_scores(shared / "blemore-real" / "hicmae" / "e100_ce_train_oof_logits.csv", dataset.ids).X
    )
    plateau, region = fit_exact(probabilities, dataset.labels), stability.region(probabilities, dataset.labels)
    assert plateau.alpha[1] - plateau.alpha[0] < 0.001  # which no figure shows
    assert region.alpha[1] - region.alpha[0] > 0.05 and region.beta[1] - region.beta[0] > 0.05
