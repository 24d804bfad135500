"""The threshold rule, the grid and the two accounts, against slow loops written only from the published rule."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemore import metrics
from blemore.errors import ValidationError
from blemore.labels import EMOTIONS, LABEL_INDEX, LABELS, Label, Prediction
from blemore_baselines import decoding as decode
from blemore_baselines.decoding.thresholds import GRID, Thresholds

# ------------------------------------------------------------------ the rule, slowly


def naive_label(p, alpha, beta):
    """(emotions, saliences) of one clip: the published rule, sentence by sentence. No label table, no arrays."""
    by_size = sorted(range(6), key=lambda index: (-p[index], index))  # of equals, the lower index counts as larger
    top, second = by_size[:2]
    if p[top] < alpha:  # nothing reaches α: the top one alone
        return (EMOTIONS[top],), (100,)
    candidates = [index for index in (top, second) if not p[index] < alpha]
    if len(candidates) == 1:
        return (EMOTIONS[candidates[0]],), (100,)
    if 5 in candidates:  # neutral never blends: the larger alone, and of equals the one that is not neutral
        larger = top if p[top] > p[second] else min(candidates)
        return (EMOTIONS[larger],), (100,)
    salience = {top: 70, second: 30} if p[top] - p[second] > beta else {top: 50, second: 50}
    pair = sorted(candidates)
    return tuple(EMOTIONS[i] for i in pair), tuple(salience[i] for i in pair)


def naive_score(predicted, truth):
    """The exact mean of both accuracies; only presence if no true label is a blend."""
    presence = Fraction(sum(set(p[0]) == set(t[0]) for p, t in zip(predicted, truth)), len(truth))
    blends = [(p, t) for p, t in zip(predicted, truth) if len(t[0]) == 2]
    if not blends:
        return presence
    return (presence + Fraction(sum(p == t for p, t in blends), len(blends))) / 2


def naive_grid(probabilities, truth):
    """The first best of the 400 points: α ascending, then β ascending."""
    best = None
    for alpha in np.linspace(0.05, 0.95, 20).tolist():
        for beta in np.linspace(0.05, 0.95, 20).tolist():
            score = naive_score([naive_label(p, alpha, beta) for p in probabilities], truth)
            if best is None or score > best[0]:
                best = score, alpha, beta
    return best


def naive_choice(epochs, truth):
    best = None
    for number, probabilities in enumerate(epochs):
        score, alpha, beta = naive_grid(probabilities, truth)
        if best is None or score > best[0]:
            best = score, number, alpha, beta
    return best[1:]


def truths(labels):
    return [tuple(LABELS[label]) for label in labels]


# ----------------------------------------------------------------------- random cases


def smooth(rng, n):
    return rng.dirichlet(np.ones(6) / 2, n)


def twentieths(rng, n):
    """Multiples of 1/20 that sum to 1: full of equal values, and of 0.05 and 0.95, which are grid points."""
    return rng.multinomial(20, np.ones(6) / 6, n) / 20


def on_the_grid(rng, n):
    """Values that are grid points, so p == α everywhere."""
    return rng.choice(GRID[:8], (n, 6))


def doubled(rng, n):
    """Grid points and their doubles, so gap == β as well: 2β − β is β to the last bit."""
    return rng.choice(np.concatenate([GRID[:6], 2 * GRID[:6]]), (n, 6))


def halves(rng, n):
    """Only two values: every clip has ties, including with neutral."""
    return rng.choice([0.25, 0.5], (n, 6))


KINDS = [smooth, twentieths, on_the_grid, doubled, halves]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_follow_the_rule(kind, long):
    rng = np.random.default_rng(1)
    for _ in range(300 if long else 30):
        p = kind(rng, 100)
        thresholds = Thresholds(*rng.choice(GRID, 2))
        expected = [LABEL_INDEX[Label(*naive_label(row, *thresholds))] for row in p.tolist()]
        assert decode.decode_thresholds(p, thresholds).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_grid_search_finds_the_first_best_point(kind, long):
    rng = np.random.default_rng(2)
    for _ in range(150 if long else 12):
        n = int(rng.integers(2, 24))  # few clips: many of the 400 points are equally good
        p, labels = kind(rng, n), rng.integers(0, 36, n)
        score, alpha, beta = naive_grid(p.tolist(), truths(labels))
        assert decode.fit_grid(p, labels) == (Thresholds(alpha, beta), pytest.approx(float(score), abs=1e-15))


def test_scores_are_compared_exactly():
    # Two blends ang+disg 70/30 and four clips of ang alone:
    #   A (0.60, 0.40)   B (0.80, 0.20)   4 × ang (0.75, 0.25)
    # α ≤ 0.20: both blends right, no single: (2/6 + 2/2) / 2 = 2/3
    # 0.25 < α ≤ 0.40: A and the singles: (5/6 + 1/2) / 2 = 2/3; as a sum of floats it is larger in the last bit
    blend = LABEL_INDEX[Label(("ang", "disg"), (70, 30))]
    p = np.zeros((6, 6))
    p[:, :2] = [(0.6, 0.4), (0.8, 0.2)] + [(0.75, 0.25)] * 4
    assert (2 / 6 + 2 / 2) / 2 < (5 / 6 + 1 / 2) / 2
    assert decode.fit_grid(p, np.array([blend, blend, 0, 0, 0, 0])) == (Thresholds(0.05, 0.05), 2 / 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_earliest_of_equal_epochs_is_chosen(kind):
    rng = np.random.default_rng(3)
    for _ in range(4):
        p, labels = kind(rng, 10), rng.integers(0, 36, 10)
        epochs = np.stack([kind(rng, 10), p, kind(rng, 10), p])
        number, alpha, beta = naive_choice(epochs.tolist(), truths(labels))
        assert decode.choose(epochs, labels) == (number, Thresholds(alpha, beta))
    assert decode.choose(np.stack([p, p, p]), labels)[0] == 0


def test_the_grid_is_the_published_one():
    assert len(GRID) == 20 and GRID[0] == 0.05 and GRID[-1] == 0.95
    assert GRID[1] == pytest.approx(0.097368, abs=5e-7) and GRID[3] == pytest.approx(0.192105, abs=5e-7)


# ------------------------------------------------------------------------ drawn by hand


@pytest.mark.parametrize(
    "probabilities, alpha, beta, expected",
    [
        #  ang   disg  fea   hap   sad   neu
        ((0.50, 0.25, 0.10, 0.05, 0.05, 0.05), 0.25, 0.10, "ang+disg 70/30"),  # p2 == α: kept; gap 0.25 > β
        ((0.50, 0.25, 0.10, 0.05, 0.05, 0.05), 0.26, 0.10, "ang"),  # p2 < α: dropped
        ((0.50, 0.25, 0.10, 0.05, 0.05, 0.05), 0.05, 0.25, "ang+disg 50/50"),  # gap == β: equal
        ((0.10, 0.25, 0.05, 0.50, 0.05, 0.05), 0.05, 0.10, "disg+hap 30/70"),  # the later one dominates
        ((0.30, 0.25, 0.10, 0.15, 0.10, 0.10), 0.40, 0.10, "ang"),  # nothing reaches α
        ((0.25, 0.25, 0.25, 0.25, 0.00, 0.00), 0.25, 0.05, "ang+disg 50/50"),  # four equal: the two lowest indices
        ((0.05, 0.10, 0.05, 0.05, 0.25, 0.50), 0.05, 0.95, "neu"),  # neutral larger: alone
        ((0.05, 0.10, 0.05, 0.05, 0.50, 0.25), 0.05, 0.95, "sad"),  # neutral second: the other alone
        ((0.00, 0.00, 0.00, 0.00, 0.50, 0.50), 0.05, 0.95, "sad"),  # a tie with neutral goes to the other
        ((0.00, 0.00, 0.00, 0.50, 0.50, 0.50), 0.05, 0.05, "hap+sad 50/50"),  # neutral never wins a tie for second
    ],
)
def test_decoding_by_hand(probabilities, alpha, beta, expected):
    (label,) = decode.decode_thresholds(np.array([probabilities]), Thresholds(alpha, beta))
    assert str(LABELS[label]) == expected


def test_the_grid_by_hand():
    # Two clips, ang+hap 70/30 each, with p = (0.6, 0, 0, 0.4, 0, 0) and (0.8, 0, 0, 0.2, 0, 0).
    # Both are right where α ≤ 0.2 (the first four points, 0.05 … 0.192) and β < 0.2 (the first four): the first is
    # (0.05, 0.05).
    p = np.array([[0.6, 0, 0, 0.4, 0, 0], [0.8, 0, 0, 0.2, 0, 0]])
    first = LABEL_INDEX[Label(("ang", "hap"), (70, 30))]
    assert decode.fit_grid(p, np.array([first, first])) == (Thresholds(0.05, 0.05), 1.0)
    # With the second one ang alone, α has to exceed 0.2: the first such point is 0.05 + 4 · 0.9/19.
    thresholds, score = decode.fit_grid(p, np.array([first, 0]))
    assert thresholds == (pytest.approx(0.05 + 4 * 0.9 / 19), 0.05) and score == 1.0


# ------------------------------------------------------------------------------ counting


@given(st.lists(st.tuples(st.integers(0, 35), st.integers(0, 35)), min_size=1, max_size=60))
def test_counts_are_those_of_the_metrics(pairs):
    predicted, labels = np.array(pairs).T
    slow = metrics.count(
        {str(i): Prediction(LABELS[p], LABELS[p]) for i, p in enumerate(predicted)},
        {str(i): LABELS[t] for i, t in enumerate(labels)},
    )
    assert decode.count(predicted, labels) == slow


def test_counts_of_all_pairs_of_labels():
    predicted, labels = map(np.ravel, np.meshgrid(np.arange(36), np.arange(36)))
    slow = metrics.total(
        metrics.outcome(Prediction(LABELS[p], LABELS[p]), LABELS[t]) for p, t in zip(predicted, labels)
    )
    assert decode.count(predicted, labels) == slow


# --------------------------------------------------------------------------- the two accounts


def a_run(seed=0, epochs=3, n=90, n_folds=3, blends=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 36 if blends else 6, n)
    return rng.dirichlet(np.ones(6) / 2, (epochs, n)), labels, np.arange(n) % n_folds


def test_published_and_nested_folds_against_the_slow_choice():
    p, labels, folds = a_run(n=60)
    for accounts, own in (
        (decode.published_folds(p, labels, folds), True),
        (decode.nested_folds(p, labels, folds), False),
    ):
        assert [fold.fold for fold in accounts] == [0, 1, 2]
        for result in accounts:
            inside = folds == result.fold
            used = inside if own else ~inside
            epoch, alpha, beta = naive_choice(p[:, used].tolist(), truths(labels[used]))
            assert (result.epoch, result.thresholds) == (epoch + 1, (alpha, beta))
            predicted = [naive_label(row, alpha, beta) for row in p[epoch, inside].tolist()]
            assert result.counts.score == pytest.approx(
                float(naive_score(predicted, truths(labels[inside]))), abs=1e-12
            )


def test_a_fold_s_own_labels_choose_its_published_figures_and_never_its_nested_ones():
    p, labels, folds = a_run()
    changed = {"published": 0, "nested": 0}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        scrambled = labels.copy()
        scrambled[folds == 1] = rng.integers(0, 36, (folds == 1).sum())
        for name, account in (("published", decode.published_folds), ("nested", decode.nested_folds)):
            before, after = account(p, labels, folds)[1], account(p, scrambled, folds)[1]
            changed[name] += (before.epoch, before.thresholds) != (after.epoch, after.thresholds)
    assert changed["nested"] == 0 and changed["published"] >= 3


def test_other_folds_labels_choose_the_nested_figures():
    p, labels, folds = a_run()
    changed = 0
    for seed in range(5):
        scrambled = np.where(folds == 1, labels, np.random.default_rng(seed).integers(0, 36, len(labels)))
        before, after = decode.nested_folds(p, labels, folds)[1], decode.nested_folds(p, scrambled, folds)[1]
        changed += (before.epoch, before.thresholds) != (after.epoch, after.thresholds)
        assert decode.published_folds(p, labels, folds)[1] == decode.published_folds(p, scrambled, folds)[1]
    assert changed >= 3


def test_nested_figures_are_pooled_over_clips_not_averaged_over_folds():
    # Folds of unequal sizes, so that the two differ.
    p, labels, _ = a_run()
    folds = np.repeat([0, 1, 2], [10, 20, 60])
    figures = decode.figures(p, labels, folds)
    nested = figures["nested"]
    right_sets = sum(round(fold["acc_presence"] * fold["n"]) for fold in nested["folds"])
    right_relations = sum(round(fold["acc_salience"] * fold["n_blends"]) for fold in nested["folds"])
    n_blends = int((labels >= 6).sum())
    assert nested["n"] == 90 and nested["n_blends"] == n_blends
    assert nested["acc_presence"] == right_sets / 90 and nested["acc_salience"] == right_relations / n_blends
    assert nested["score"] == (nested["acc_presence"] + nested["acc_salience"]) / 2
    per_fold = [fold["score"] for fold in nested["folds"]]
    mean = sum(per_fold) / 3
    assert nested["over_folds"]["score"]["mean"] == pytest.approx(mean) and mean != pytest.approx(
        nested["score"], abs=1e-6
    )
    assert nested["over_folds"]["score"]["std"] == pytest.approx(
        (sum((s - mean) ** 2 for s in per_fold) / 2) ** 0.5
    )  # sample std
    assert "acc_presence" not in figures["published"]  # optimistic figures are not pooled into a headline


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_at_a_fixed_epoch_only_thresholds_are_chosen(epoch):
    p, labels, folds = a_run(seed=4)
    for result in decode.nested_folds(p, labels, folds, epoch):
        inside = folds == result.fold
        _, alpha, beta = naive_choice(p[epoch - 1 : epoch, ~inside].tolist(), truths(labels[~inside]))
        assert (result.epoch, result.thresholds) == (epoch, (alpha, beta))
        predicted = [naive_label(row, alpha, beta) for row in p[epoch - 1, inside].tolist()]
        assert result.counts.score == pytest.approx(float(naive_score(predicted, truths(labels[inside]))), abs=1e-12)
    fixed = decode.figures(p, labels, folds, epoch)
    assert [fold["epoch"] for fold in fixed["nested"]["folds"]] == [epoch] * 3
    assert fixed["published"] == decode.figures(p, labels, folds)["published"]  # whose folds choose among all


def test_folds_without_blends_have_no_salience():
    p, labels, folds = a_run()
    labels = np.where(folds == 2, labels % 6, labels)
    nested = decode.figures(p, labels, folds)["nested"]
    assert [fold["acc_salience"] is None for fold in nested["folds"]] == [False, False, True]
    assert nested["folds"][2]["score"] is None and nested["folds"][2]["acc_presence"] is not None
    assert nested["over_folds"]["acc_salience"] == {"mean": None, "std": None}
    assert nested["over_folds"]["acc_presence"]["mean"] is not None
    assert nested["acc_salience"] is not None  # the other folds' blends


def test_a_dataset_without_any_blend():
    figures = decode.figures(*a_run(blends=False))
    assert (
        figures["nested"]["acc_salience"] is None
        and figures["nested"]["score"] is None
        and figures["nested"]["n_blends"] == 0
    )
    assert 0 < figures["nested"]["acc_presence"] < 1


# -------------------------------------------------------------------------------- scores

LOGITS = [[2.0, 0, 0, 0, 0, -1], [0, 0, 0, 0, 0, 0]]
PROBABILITIES = [[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0, 0, 1]]


def test_rows_that_are_all_probabilities_stay_as_they_are():
    assert (decode.to_probabilities(np.array(PROBABILITIES)) == PROBABILITIES).all()
    almost = np.array([[0.5005, 0.1, 0.1, 0.1, 0.1, 0.1]])  # sums to 1.0005
    assert (decode.to_probabilities(almost) == almost).all()


def test_rows_that_are_all_logits_go_through_the_softmax():
    probabilities = decode.to_probabilities(np.array(LOGITS))
    e = np.exp([2.0, 0, 0, 0, 0, -1])
    assert probabilities[0] == pytest.approx(e / e.sum()) and probabilities[1] == pytest.approx([1 / 6] * 6)
    huge = decode.to_probabilities(np.array([[1000.0, 0, 0, 0, 0, -1000]]))
    assert huge.tolist() == [[1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "row", [[0.502, 0.1, 0.1, 0.1, 0.1, 0.1], [1.1, -0.1, 0, 0, 0, 0], [0.4, 0.1, 0.1, 0.1, 0.1, 0.1]]
)
def test_a_row_outside_the_tolerance_is_not_a_probability(row):
    with pytest.raises(ValidationError, match="2 of 3 rows are probabilities"):
        decode.to_probabilities(np.array([*PROBABILITIES, row]), "scores.csv")


@pytest.mark.parametrize(
    "scores, message",
    [
        (100 * np.array(PROBABILITIES), "percentages: divide by 100"),
        (
            [[33, 17, 17, 17, 17, 1], [50, 10, 10, 10, 10, 9], [0, 0, 0, 0, 0, 90]],
            "percentages",
        ),  # 102 and 99, rounded; one row is off
        ([[0.9, 0.2, 0.1, 0.1, 0.1, 0.3], [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]], "divide each row by its sum"),
        (np.eye(6) / 2, "subtract 2 from all"),
    ],
)
def test_what_is_neither_logits_nor_probabilities_is_refused(scores, message):
    with pytest.raises(ValidationError, match=f"scores.csv: (.|\n)*{message}"):
        decode.to_probabilities(np.array(scores), "scores.csv")


@pytest.mark.parametrize(
    "logits",
    [
        [[0.9, 0.2, 0.1, 0.1, 0.1, 0.3], [0.1, 0.1, 0.1, 0.1, 0.1, 1.1]],
        [[0.9, 0.2, -0.1, 0.1, 0.1, 0.3]],
        [[103, 0, 0, 0, 0, -3]],
        [[96, 0, 0, 0, 0, 0]],
        np.zeros((2, 6)),
    ],
)
def test_logits_that_nearly_look_like_shares(logits):
    assert (decode.to_probabilities(np.array(logits)) == decode.softmax(np.array(logits))).all()


def test_logits_in_0_to_1_can_be_given_as_the_message_says():
    for logits in (np.eye(6) / 2, np.tri(6)[1:]):
        assert decode.to_probabilities(logits - 2) == pytest.approx(decode.softmax(logits))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValidationError, match=r"oof\.csv: 1 of 2 rows hold NaN or Infinity"):
        decode.to_probabilities(np.array([LOGITS[0], [bad, 0, 0, 0, 0, 0]]), "oof.csv")


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 7), (1, 2, 6)])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(ValidationError, match="expected \\(clips, 6\\)"):
        decode.to_probabilities(np.zeros(shape))


def test_models_are_averaged_as_probabilities():
    # One model gives logits (softmax of zeros: 1/6 each), the other probabilities: (1/6 + 1/2) / 2 = 1/3.
    mean = decode.average([np.zeros((1, 6)), np.array([PROBABILITIES[0]])], ["one", "two"])
    assert mean[0] == pytest.approx([1 / 3] + [(1 / 6 + 0.1) / 2] * 5)
    with pytest.raises(ValidationError, match="second: shape"):
        decode.average([np.zeros((1, 6)), np.zeros((1, 5))], ["first", "second"])
