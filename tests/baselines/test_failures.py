"""Failures: a case to check by hand, and β against every β that there is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blemore.labels import LABEL_INDEX, Label
from blemore_baselines import failures
from blemore_baselines.dataset import SET_OF_LABEL
from blemore_baselines.decode import Thresholds, decode_thresholds
from cases import cases


def blend(first, second, *saliences):
    return LABEL_INDEX[Label((first, second), saliences)]


def test_by_hand():
    # ang and disg with a lead of 0.2, 0.3 and 0.4 for ang; then one that is not found, and a single
    probabilities = np.array([[0.6, 0.4, 0, 0, 0, 0], [0.65, 0.35, 0, 0, 0, 0], [0.7, 0.3, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    labels = np.array([blend("ang", "disg", 50, 50), blend("ang", "disg", 30, 70), blend("ang", "disg", 70, 30), blend("fea", "hap", 50, 50), LABEL_INDEX[Label(("hap",), (100,))]])
    found = failures.relations(probabilities, labels, Thresholds(0.1, 0.1))
    # At β = 0.1 all three are taken for 70/30: right for the third alone. Any β from 0.2 to 0.4 mends the first; the second is reversed.
    assert found[:6] == (4, 3, 2, 1, 1, 0) and found.beta == 0.1 and 0.2 < found.own_beta < 0.4
    table = failures.relations_table({0: found, 1: failures.relations(probabilities[3:], labels[3:], Thresholds(0.1, 0.1))})
    assert table.rows[1][:5] == ["fold 1", 1, 0, 0, None] and table.rows[1][-1] is None
    assert table.rows[2] == ["all", 5, 3, 2, 2 / 3, 1, 1, 0, "", ""]


@given(cases(), st.sampled_from([0.0, 0.1, 0.2]), st.sampled_from([0.0, 0.1, 0.3]))
def test_no_beta_gets_more_relations_right_than_the_fold_s_own(case, alpha, beta):
    probabilities, labels = case
    found = failures.relations(probabilities, labels, Thresholds(alpha, beta))
    its = (labels >= 6) & (SET_OF_LABEL[decode_thresholds(probabilities, Thresholds(alpha, beta))] == SET_OF_LABEL[labels])
    ordered = -np.sort(-probabilities, axis=1)
    right = [decode_thresholds(probabilities[its], Thresholds(alpha, b)) == labels[its] for b in (-1, *(ordered[:, 0] - ordered[:, 1]), 2)]
    assert found.right_set - found.wrong + found.mended - found.lost == max(map(np.sum, right))
    assert found.reversed == (~np.any(right, axis=0)).sum() and found.mended + found.reversed <= found.wrong
