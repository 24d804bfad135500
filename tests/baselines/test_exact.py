"""The exact threshold search, compared with trying every breakpoint."""

import numpy as np
import pytest
from cases import cases
from hypothesis import given
from hypothesis import strategies as st

from blemore_baselines.decoding.accounts import count
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import (
    Plateau,
    Surface,
    Thresholds,
    decode_thresholds,
    fit_exact,
    fit_grid,
    surface,
    widest,
)


def figure(probabilities, labels, thresholds):
    counts = count(decode_thresholds(probabilities, thresholds), labels)
    return counts.score if counts.n_blends else counts.acc_presence


def brute_force(probabilities, labels):
    """The best figure over every α and β at which a decision changes."""
    ordered = np.sort(probabilities, axis=1)
    alphas = {0.0, 1.0, *ordered[:, -2]}
    betas = {-1.0, 1.0, *(ordered[:, -1] - ordered[:, -2])}
    return max(figure(probabilities, labels, Thresholds(alpha, beta)) for alpha in alphas for beta in betas)


def breakpoints(probabilities, low, high):
    """Every α and every β in [low, high] at which a decision can change."""
    ordered = np.sort(probabilities, axis=1)
    for values in (ordered[:, -2], ordered[:, -1] - ordered[:, -2]):
        yield np.array([low, high, *values[(values > low) & (values < high)]])


@given(cases(), st.sampled_from(Surface._fields), st.sampled_from([(0.0, 1.0), (0.1, 0.5), (0.2, 0.25), (0.3, 0.3)]))
def test_no_point_in_a_range_has_a_higher_figure(case, metric, bounds):
    probabilities, labels = case
    plateau = fit_exact(probabilities, labels, metric, bounds)
    everywhere = getattr(surface(probabilities, labels, *breakpoints(probabilities, *bounds)), metric)
    if metric == "salience" and not (labels >= 6).any():
        assert np.isnan(plateau.score) and np.isnan(everywhere).all()
        return
    assert plateau.score == everywhere.max()  # to the last bit
    (alpha, beta), inside = plateau.thresholds, np.array([plateau.alpha, plateau.beta])
    assert (inside >= bounds[0]).all() and (inside <= bounds[1]).all()
    points = surface(probabilities, labels, np.array([alpha]), np.array([beta, plateau.beta[0]]))
    assert (getattr(points, metric) == plateau.score).all()


def test_for_presence_beta_has_its_whole_range():
    probabilities = np.array([[0.5, 0.3, 0.2, 0, 0, 0], [0.7, 0.1, 0.1, 0.1, 0, 0]])
    plateau = fit_exact(probabilities, np.array([7, 0]), "presence")
    assert plateau == (Thresholds(pytest.approx(0.2), 0.5), (0.1, 0.3), (0, 1), 1)


def test_the_highest_alpha_and_lowest_beta_win_among_equally_wide_intervals():
    # second   .375 ang   .25 ang+disg   .125 ang: right sets 2, 1, 2, 1 as α falls past each
    ang = [[0.5, 0.375, 0.125, 0, 0, 0], [0.5, 0.25, 0.125, 0.125, 0, 0], [0.75, 0.125, 0.125, 0, 0, 0]]
    assert fit_exact(np.array(ang), np.array([0, 6, 0]), "presence", (0.0, 0.5)).alpha == (0.375, 0.5)
    # gap   .25 70/30   .5 50/50   .75 70/30: right blends 2, 1, 2, 1 as β rises past each
    pairs = [[0.5, 0.25, 0.125, 0.125, 0, 0], [0.6875, 0.1875, 0.125, 0, 0, 0], [0.8125, 0.0625, 0.0625, 0.0625, 0, 0]]
    assert fit_exact(np.array(pairs), np.array([6, 7, 6]), "salience").beta == (0.0, 0.25)


@given(cases())
def test_no_thresholds_are_better(case):
    plateau = fit_exact(*case)
    assert plateau.score == pytest.approx(brute_force(*case), abs=1e-12)
    assert plateau.score >= fit_grid(*case)[1] - 1e-12


@given(cases(), st.floats(0, 1), st.floats(0, 1))
def test_the_whole_plateau_has_the_same_figure(case, a, b):
    plateau = fit_exact(*case)
    assert figure(*case, plateau.thresholds) == pytest.approx(plateau.score, abs=1e-12)
    # β: anywhere in [low, high), at the returned α
    low, high = plateau.beta
    beta = min(low + b * (high - low), np.nextafter(high, low))
    assert figure(*case, Thresholds(plateau.thresholds.alpha, beta)) == pytest.approx(plateau.score, abs=1e-12)
    # α: for each in (low, high], some β gives the figure
    low, high = plateau.alpha
    alpha = max(high - a * (high - low), np.nextafter(low, high))
    gaps = np.sort(case[0], axis=1)
    betas = [-1.0, 1.0, *(gaps[:, -1] - gaps[:, -2])]
    assert max(figure(*case, Thresholds(alpha, beta)) for beta in betas) == pytest.approx(plateau.score, abs=1e-12)


def test_by_hand():
    # clip   top two       gap   truth
    # 0      ang .5 hap .4  .1   ang+hap 50/50 (label 13)   wants α ≤ .4, β ≥ .1
    # 1      hap .6 sad .3  .3   hap                        wants α > .3
    # 2      fea .8 ang .1  .7   fea                        wants α > .1
    probabilities = np.array(
        [[0.5, 0.02, 0.02, 0.4, 0.03, 0.03], [0.02, 0.02, 0.02, 0.6, 0.3, 0.04], [0.1, 0.02, 0.8, 0.03, 0.03, 0.02]]
    )
    plateau = fit_exact(probabilities, np.array([13, 3, 2]))
    assert plateau == Plateau(
        Thresholds(pytest.approx(0.35), pytest.approx(0.55)),
        (pytest.approx(0.3), pytest.approx(0.4)),
        (pytest.approx(0.1), pytest.approx(1.0)),
        1.0,
    )


@pytest.mark.parametrize(
    "probabilities, label, expected",
    [
        # ang .5, disg .5, truly 70/30: every β from 0 on, their gap, gives 50/50.
        ([0.5, 0.5, 0, 0, 0, 0], 6, Plateau(Thresholds(0.25, -0.5), (0, 0.5), (-1, 0), 1)),
        # ang 1, disg 0, truly 50/50: no α above 0 and no β below 1 gives that.
        ([1, 0, 0, 0, 0, 0], 7, Plateau(Thresholds(0, 1.5), (0, 0), (1, 2), 1)),
    ],
)
def test_thresholds_beyond_0_and_1_if_no_others_are_right(probabilities, label, expected):
    plateau = fit_exact(np.array([probabilities]), np.array([label]))
    assert plateau == expected and decode_thresholds(np.array([probabilities]), plateau.thresholds).tolist() == [label]


def test_the_widest_run():
    lows, highs = np.array([0, 0.25, 0.5, 0.75]), np.array([0.25, 0.5, 0.75, 1])
    assert widest(np.array([True, False, False, True]), lows, highs) == (0, 0.25)  # the first of two equally wide runs
    assert widest(np.array([True, False, True, True]), lows, highs) == (0.5, 1)
    assert widest(np.array([False, True, True, False]), lows[::-1], highs[::-1]) == (
        0.25,
        0.75,
    )  # intervals may descend, as those of α


def test_a_fold_without_blends_is_scored_by_presence():
    probabilities = np.array([[0.9, 0.1, 0, 0, 0, 0], [0.6, 0.4, 0, 0, 0, 0]])
    plateau = fit_exact(probabilities, np.array([0, 0]))
    assert plateau.score == 1.0 and plateau.alpha == (0.4, 1.0)


def test_the_real_folds_beat_the_grid(shared):
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_scores

    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    probabilities = softmax(
        read_scores(shared / "blemore-real" / "hicmae" / "e100_ce_train_oof_logits.csv", dataset.ids).X
    )
    for fold in range(5):
        inside = dataset.folds == fold
        exact, grid = (
            fit_exact(probabilities[inside], dataset.labels[inside]),
            fit_grid(probabilities[inside], dataset.labels[inside]),
        )
        assert exact.score > grid[1]
        assert figure(probabilities[inside], dataset.labels[inside], exact.thresholds) == pytest.approx(
            exact.score, abs=1e-12
        )


@given(cases(), st.integers(0, 9))
def test_each_point_of_the_surface_is_the_figure_of_decoding_there(case, seed):
    probabilities, labels = case
    points = np.concatenate(
        [[0, 0.125, 0.5, 1], np.random.default_rng(seed).choice(probabilities.ravel(), 3)]
    )  # ties with clips among them
    figures = surface(probabilities, labels, points, points)
    for a, alpha in enumerate(points):
        for b, beta in enumerate(points):
            counts = count(decode_thresholds(probabilities, Thresholds(alpha, beta)), labels)
            assert figures.presence[a] == pytest.approx(counts.acc_presence, abs=1e-12)
            assert figures.salience[a, b] == pytest.approx(
                np.nan if counts.acc_salience is None else counts.acc_salience, abs=1e-12, nan_ok=True
            )
            assert figures.score[a, b] == pytest.approx(
                counts.acc_presence if counts.score is None else counts.score, abs=1e-12
            )
    assert figures.score.max() <= fit_exact(probabilities, labels).score + 1e-12
