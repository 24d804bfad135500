"""The stability of thresholds: what is told of folds and of resampled actors."""

import numpy as np
import pytest

from blemore_baselines import stability
from blemore_baselines.dataset import TARGETS
from blemore_baselines.decode import count, decode_thresholds, fit_exact


def case(n=120, actors=8):
    rng = np.random.default_rng(5)
    labels, owner = rng.integers(0, 36, n), np.arange(n) % actors
    scores = (TARGETS[labels] + 0.5 * rng.random((n, 6))) ** (1 + owner[:, None] % 2)  # every other actor is seen more sharply
    return scores / scores.sum(axis=1, keepdims=True), labels, owner % 4, [f"A{k}" for k in owner]


def test_what_is_told_of_folds_is_so():
    probabilities, labels, folds, actors = case()
    found = stability.measure(probabilities, labels, folds, actors, resamples=20)
    assert found.pooled == fit_exact(probabilities, labels)
    for fold in range(4):
        own = count(decode_thresholds(probabilities[folds == fold], found.folds[fold].thresholds), labels[folds == fold]).score
        assert own == pytest.approx(found.folds[fold].score) and own >= found.elsewhere[fold]
    names = [row[0] for row in stability.table(found).rows]
    assert names == ["all clips", "fold 0", "fold 1", "fold 2", "fold 3", "resampled actors"]


def test_resamples_are_of_whole_actors_and_repeatable():
    probabilities, labels, _, actors = case(actors=2)
    drawn = stability.resample(probabilities, labels, actors, 60, seed=0)
    assert np.array_equal(drawn, stability.resample(probabilities, labels, actors, 60, seed=0))
    assert not np.array_equal(drawn, stability.resample(probabilities, labels, actors, 60, seed=1))
    # Of two actors there are but three draws: the one twice, the other twice, both.
    own = {tuple(fit_exact(probabilities[rows], labels[rows]).thresholds) for rows in (np.arange(0, 120, 2), np.arange(1, 120, 2), np.arange(120))}
    assert {tuple(row) for row in drawn} == own and len(own) == 3


def test_clips_without_blends():
    probabilities, _, folds, actors = case()
    found = stability.measure(probabilities, np.arange(120) % 6, folds, actors, resamples=5)
    assert (found.scores == found.scores[:, :1]).all() and set(found.elsewhere.values()) == {None}
    assert stability.table(found).rows[1][-1] is None
