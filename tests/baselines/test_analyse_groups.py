"""The study of errors in groups: each error by hand, matching labels, and clips with planted actors."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore.labels import LABELS
from blemore_baselines.dataset import TARGETS
from blemore_baselines.decoding.posterior import fit
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.studies import actors as study
from blemore_baselines.studies.actors import MATCHED, METHODS, NO_GROUPS, actors, match
from blemore_baselines.studies.group_errors import ERRORS, NO_ERRORS, few, merge, misassign, split

pytestmark = pytest.mark.usefixtures("one_thread")
ACTORS = np.repeat(["A1", "A2", "A3", "A4"], [10, 10, 10, 7])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("share, wrong", [(0, 0), (0.1, 4), (0.4, 15), (1, 37)])
def test_misassigned_clips_are_with_another_actor(rng, share, wrong):
    groups = misassign(ACTORS, rng, share)
    assert (groups != ACTORS).sum() == wrong and set(groups) <= set(ACTORS)


def test_a_single_actor_cannot_be_confused(rng):
    assert misassign(np.array(["A", "A"]), rng, 1.0).tolist() == ["A", "A"]


def test_merged_groups_have_two_actors(rng):
    groups = merge(ACTORS, rng)
    assert sorted(len(set(ACTORS[groups == group])) for group in set(groups)) == [2, 2]
    assert len(set(zip(groups, ACTORS))) == 4, "each actor stays whole"
    odd = merge(ACTORS[:30], rng)
    assert sorted(len(set(ACTORS[:30][odd == group])) for group in set(odd)) == [1, 2]


def test_split_actors_have_half_of_their_clips_in_each_of_two_groups(rng):
    groups = split(ACTORS, rng)
    assert sorted(Counter(groups).values()) == [3, 4, 5, 5, 5, 5, 5, 5]
    assert len(set(zip(groups, ACTORS))) == len(set(groups)) == 8


def test_few_clips_per_actor(rng):
    groups = few(ACTORS, rng, 4)
    assert sorted(Counter(groups).values()) == [2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 4]
    assert len(set(zip(groups, ACTORS))) == len(set(groups)), "of one actor each"


def test_matching_by_hand():
    """Two clips, labels 0 and 1, to be equally frequent. (3/4, 1/4) and (1/2, 1/2), odds 3 and 1, are multiplied by one
    number x so that 3x/(1+3x) + x/(1+x) = 1, x = 1/√3: the first clip's odds are √3, the second's 1/√3."""
    chances, frequencies = np.zeros((2, 36)), np.zeros(36)
    chances[:, :2], frequencies[:2] = [[0.75, 0.25], [0.5, 0.5]], 0.5
    odds = match(chances, frequencies)
    assert odds[0, 0] / odds[0, 1] == pytest.approx(np.sqrt(3))
    assert odds[1, 0] / odds[1, 1] == pytest.approx(1 / np.sqrt(3))
    assert chances[0, 0] == 0.75, "the caller's own are left as they are"


def test_matching_reaches_the_frequencies(rng):
    chances, frequencies = rng.dirichlet(np.full(36, 0.5), 60), rng.dirichlet(np.full(36, 5.0))
    result = match(chances, frequencies)
    assert result.sum(axis=1) == pytest.approx(1)
    assert result.mean(axis=0) == pytest.approx(frequencies, abs=1e-3)


def test_matching_leaves_out_labels_that_nobody_has():
    frequencies = np.full(36, 1 / 36)
    chances = np.eye(36)[[0, 0, 5]]
    assert (match(chances, frequencies) == chances).all()


@pytest.fixture
def offset(planted, monkeypatch):
    """A dataset in which each actor has a large offset in all logits, and the probabilities.

    The decoder is fitted once instead of in a cross-validation of its own.
    """
    monkeypatch.setattr(study, "cross_validate", lambda logs, labels, _: SimpleNamespace(final=fit(logs, labels, 3.0)))
    dataset, _ = planted([None], n=480)
    rng = np.random.default_rng(1)
    marks = dict(zip(sorted(set(dataset.actors)), 1.5 * rng.normal(size=(12, 6))))
    noise = 0.4 * rng.normal(size=(480, 6))
    logits = 5 * TARGETS[dataset.labels] + noise + np.array([marks[actor] for actor in dataset.actors])
    return dataset, softmax(logits)


def test_errors_cost_what_they_should(offset):
    dataset, probabilities = offset
    outcome = actors(dataset, probabilities, 0, "signature", draws=2)
    for method in METHODS:
        scores = {name: figures["score"]["value"] for name, figures in outcome.values["methods"][method].items()}
        assert list(scores) == [NO_GROUPS, NO_ERRORS, MATCHED, *ERRORS]
        assert scores[NO_ERRORS] > scores[NO_GROUPS] + 0.1
        assert scores[NO_ERRORS] > scores["10 % in other groups"] > scores["40 % in other groups"]
        assert scores[NO_ERRORS] > scores["actors merged in twos"]
        assert scores["20 clips of an actor"] > scores["5 clips of an actor"]
        difference = outcome.values["methods"][method]["actors merged in twos"]["difference"]
        assert difference["value"] == pytest.approx(scores["actors merged in twos"] - scores[NO_ERRORS])
        assert [row[0] for row in outcome.tables[method].rows] == list(scores)
    assert outcome.figures["errors"].png.startswith(b"\x89PNG") and len(outcome.findings) == 4 * len(METHODS)


def test_labels_of_the_fold_are_not_seen(offset):
    """With the labels of one fold shuffled, no prediction for that fold changes: the decoder comes from the others."""
    dataset, probabilities = offset
    inside, logs = dataset.folds == 0, np.log(probabilities)
    labels = dataset.labels.copy()
    labels[inside] = labels[inside][::-1]
    answers = [
        study._reader(version, logs, ~inside, "centre")(logs[inside], np.array(dataset.actors)[inside])
        for version in (dataset, dataset._replace(labels=labels))
    ]
    assert (answers[0] == answers[1]).all() and len(set(answers[0])) > len(LABELS) / 3


def test_too_few_folds_are_refused(tiny):
    with pytest.raises(ValidationError, match="at least 4"):
        actors(tiny.dataset, np.full((36, 6), 1 / 6), 0, "signature")
