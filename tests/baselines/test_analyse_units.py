"""The parts of the studies, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from blemore_baselines.features import Features
from blemore_baselines.studies import held_out
from blemore_baselines.studies.held_out import DISTURB, HeldOut, judge_disturbed
from blemore_baselines.studies.thresholds_transfer import beyond_chance


def test_the_mean_over_draws_is_one_of_different_draws(monkeypatch):
    """Three clips with a column each of video and audio, in one fold; the model's outcomes are each row twice."""
    X = np.array([[1, 10], [2, 20], [3, 30]], np.float32)
    inputs = []

    def judge(rows):
        inputs.append(rows)
        return np.hstack([rows, rows]).astype(float)

    monkeypatch.setattr(held_out, "held_out", lambda *_: [HeldOut(np.ones(3, bool), X, judge, seed=5)])
    dataset = SimpleNamespace(ids=["a", "b", "c"], folds=np.zeros(3, int))
    modalities = {name: Features(dataset.ids, X[:, [k]], np.arange(3), {}) for k, name in enumerate(("video", "audio"))}
    whole, averages = judge_disturbed(dataset, modalities, None, "linear", 0, repeats=4)
    as_it_is, *rest = inputs
    assert np.array_equal(as_it_is, X) and np.array_equal(whole, np.hstack([X, X]))
    assert list(averages) == [(modality, disturbance) for modality in modalities for disturbance in DISTURB]
    for (modality, disturbance), average in averages.items():
        draws = [rest.pop(0) for _ in range(1 if disturbance == "zeroed" else 4)]
        own, other = (0, 1) if modality == "video" else (1, 0)
        assert all(np.array_equal(rows[:, other], X[:, other]) for rows in draws)
        assert disturbance == "zeroed" or len({tuple(rows[:, own]) for rows in draws}) > 1
        assert average[:, :2] == pytest.approx(np.mean(draws, axis=0))
    assert not rest


def test_a_deal_that_loses_as_much_counts():
    # 0.3 and 0.1 + 0.2 are the same loss, summed in another order; two of four lose as much.
    for loss, same in ((0.1 + 0.2, 0.3), (0.3, 0.1 + 0.2)):
        excess = beyond_chance(loss, np.array([same, 0.5, 0.2, 0.2]))
        assert excess == (pytest.approx(0.3), pytest.approx(0), pytest.approx(3 / 5))
    assert beyond_chance(0.5, np.zeros(9)).p_deals == pytest.approx(1 / 10)
