"""Failures: a case to check by hand, β against every possible β, and the gain from a β per fold, with and without
differences between folds.
"""

import numpy as np
from cases import cases
from hypothesis import given
from hypothesis import strategies as st

from blemore.labels import LABEL_INDEX, Label
from blemore_baselines.dataset import SET_OF_LABEL
from blemore_baselines.decoding.accounts import nested_folds
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds
from blemore_baselines.results import failures


def blend(first, second, *saliences):
    return LABEL_INDEX[Label((first, second), saliences)]


def test_by_hand():
    # ang and disg with a lead of 0.2, 0.3 and 0.4 for ang; then one that is not found, and a single
    probabilities = np.array(
        [
            [0.6, 0.4, 0, 0, 0, 0],
            [0.65, 0.35, 0, 0, 0, 0],
            [0.7, 0.3, 0, 0, 0, 0],
            [0.5, 0.5, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],
        ]
    )
    labels = np.array(
        [
            blend("ang", "disg", 50, 50),
            blend("ang", "disg", 30, 70),
            blend("ang", "disg", 70, 30),
            blend("fea", "hap", 50, 50),
            LABEL_INDEX[Label(("hap",), (100,))],
        ]
    )
    relations = failures.relations(probabilities, labels, Thresholds(0.1, 0.1))
    # At β = 0.1 all three are taken for 70/30: right for the third alone. Any β from 0.2 to 0.4 mends the first; the
    # second is reversed.
    assert relations[:6] == (4, 3, 2, 1, 1, 0) and relations.beta == 0.1 and 0.2 < relations.own_beta < 0.4
    table = failures.relations_table(
        {0: relations, 1: failures.relations(probabilities[3:], labels[3:], Thresholds(0.1, 0.1))}
    )
    assert table.rows[1][:5] == ["fold 1", 1, 0, 0, None] and table.rows[1][-1] is None
    assert table.rows[2] == ["all", 5, 3, 2, 2 / 3, 1, 1, 0, "", ""]


@given(cases(), st.sampled_from([0.0, 0.1, 0.2]), st.sampled_from([0.0, 0.1, 0.3]))
def test_no_beta_gets_more_relations_right_than_the_fold_s_own(case, alpha, beta):
    probabilities, labels = case
    relations = failures.relations(probabilities, labels, Thresholds(alpha, beta))
    rows = (labels >= 6) & (
        SET_OF_LABEL[decode_thresholds(probabilities, Thresholds(alpha, beta))] == SET_OF_LABEL[labels]
    )
    ordered = -np.sort(-probabilities, axis=1)
    right = [
        decode_thresholds(probabilities[rows], Thresholds(alpha, b)) == labels[rows]
        for b in (-1, *(ordered[:, 0] - ordered[:, 1]), 2)
    ]
    assert relations.right_set - relations.wrong + relations.fixed - relations.lost == max(map(np.sum, right))
    assert (
        relations.reversed == (~np.any(right, axis=0)).sum() and relations.fixed + relations.reversed <= relations.wrong
    )


def pairs(leads):
    """Probabilities (N, 6) in which ang leads disg by `leads` (N,)."""
    probabilities = np.zeros((len(leads), 6))
    probabilities[:, 0], probabilities[:, 1] = (1 + leads) / 2, (1 - leads) / 2
    return probabilities


def gain(probabilities, labels, folds):
    by_fold = {
        result.fold: failures.relations(
            probabilities[0, folds == result.fold], labels[folds == result.fold], result.thresholds
        )
        for result in nested_folds(probabilities, labels, folds)
    }
    total = failures.total(by_fold)
    dealt = failures.gains_by_chance(probabilities, labels, folds)
    return by_fold, failures.Gain(total.fixed - total.lost, dealt)


def test_folds_with_different_betas_gain_more_than_deals():
    rng = np.random.default_rng(0)
    folds, leads = np.repeat([0, 1], 60), rng.uniform(0, 0.9, 120)
    labels = np.where(
        leads <= np.where(folds == 0, 0.2, 0.7), blend("ang", "disg", 50, 50), blend("ang", "disg", 70, 30)
    )
    by_fold, outcome = gain(pairs(leads)[np.newaxis], labels, folds)
    wrong = ((leads > 0.2) & (leads <= 0.7)).sum()  # all of them by the other fold's β, give or take the grid
    assert abs(outcome.gained - wrong) <= 8 and outcome.high < outcome.gained / 2 and outcome.p == 1 / 41
    assert "more than choosing on few clips explains" in failures.relations_in_words(by_fold, outcome)[1]


def test_similar_folds_gain_as_much_as_deals():
    rng = np.random.default_rng(0)
    folds, leads = np.repeat([0, 1], 60), rng.uniform(0, 0.9, 120)
    labels = np.where(rng.random(120) < leads, blend("ang", "disg", 70, 30), blend("ang", "disg", 50, 50))
    by_fold, outcome = gain(pairs(leads)[np.newaxis], labels, folds)
    assert outcome.gained > 0 and outcome.dealt.mean() > 0, "chosen on the very clips, β gains on any"
    assert (
        outcome.p > 0.05 and "does not show that the best β differs" in failures.relations_in_words(by_fold, outcome)[1]
    )
    assert np.array_equal(outcome.dealt, failures.gains_by_chance(pairs(leads)[np.newaxis], labels, folds))


def test_a_gain_in_figures_and_words():
    outcome = failures.Gain(3, np.array([1, 2, 3, 4]))
    assert outcome.p == 3 / 5
    ((_, gained, mean, std, low, high, p),) = failures.gain_table(outcome).rows
    assert (
        (gained, mean, p) == (3, 2.5, 0.6)
        and (low, high) == (outcome.low, outcome.high)
        and 1 <= low < high <= 4
        and std == np.std([1, 2, 3, 4], ddof=1)
    )
    words = failures.relations_in_words({0: failures.Relations(9, 8, 5, 1, 4, 1, 0.1, 0.2)}, outcome)
    assert words[0].startswith(
        "Of 8 true blends with the right set of emotions, 5 have the wrong relation. Of these, 1 are wrong at every β"
    )
    assert (
        "fixes 4 and loses 1: +3 in total" in words[1]
        and "the gain is +2.5 (middle 95 % of 4 deals" in words[1]
        and "come from" not in "".join(words)
    )
