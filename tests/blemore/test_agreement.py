"""blemore agrees with a naive scorer written from the definition, and ignores changes without meaning."""

import itertools
import random
from fractions import Fraction

import naive
import pytest
from helpers import mapping, problems_of
from hypothesis import given
from hypothesis import strategies as st

from blemore import acc_presence, acc_salience, evaluate, score, validate
from blemore.errors import ValidationError
from blemore.labels import BLENDABLE, BLENDS, EMOTIONS, LABELS, to_entry, to_prediction
from blemore.metrics import Counts, count, outcome, total
from blemore.report import to_dict

# ------------------------------------------------------------------------------- by hand

#                truth              prediction         set   relation  rounded
TABLE = [
    ("a", "ang 100", "ang 100", 1, None, None),
    ("b", "neu 100", "sad 100", 0, None, None),
    ("c", "ang 100", "ang 50 hap 50", 0, None, None),  # one emotion too many
    ("d", "ang 70 hap 30", "hap 30 ang 70", 1, 1, 1),
    ("e", "ang 70 hap 30", "ang 60 hap 40", 1, 1, 0),  # ranked right, percentages not
    ("f", "ang 70 hap 30", "ang 50 hap 50", 1, 0, 0),
    ("g", "fea 50 sad 50", "fea 50.3 sad 49.7", 1, 0, 1),  # the other way round
    ("h", "fea 30 sad 70", "sad 100", 0, 0, 0),  # the single is wrong, dominant or not
    ("i", "fea 30 sad 70", "fea 30 hap 70", 0, 0, 0),
]  # right sets: a d e f g = 5 of 9; relations: d e = 2 of 6 blends; rounded: d g = 2 of 6
TRUTH = mapping({clip: truth for clip, truth, *_ in TABLE})
PREDICTED = mapping({clip: predicted for clip, _, predicted, *_ in TABLE})


def test_a_table_by_hand():
    assert acc_presence(PREDICTED, TRUTH) == 5 / 9
    assert acc_salience(PREDICTED, TRUTH) == 2 / 6
    assert score(PREDICTED, TRUTH) == (5 / 9 + 2 / 6) / 2
    assert evaluate(PREDICTED, TRUTH).counts == Counts(9, 5, 6, 2, 2)


def test_the_naive_scorer_gives_that_table_too():
    for clip, _, _, *expected in TABLE:
        result = naive.clip_outcome(PREDICTED[clip], TRUTH[clip])
        assert [value if value is None else int(value) for value in result] == expected, clip
    assert naive.scores(PREDICTED, TRUTH) == (Fraction(5, 9), Fraction(2, 6), Fraction(2, 6))


def test_without_blends_salience_is_undefined_rather_than_zero():
    counts = evaluate(mapping({"a": "ang 50 sad 50"}), mapping({"a": "ang 100"})).counts
    assert (counts.acc_presence, counts.acc_salience, counts.acc_salience_exact, counts.score) == (
        0.0,
        None,
        None,
        None,
    )
    assert Counts().acc_presence is None


# ------------------------------------------------------------------------- against the naive scorer


def random_entry(rng, canonical):
    if rng.random() < 0.4:
        return [
            {"emotion": rng.choice(EMOTIONS), "salience": 100 if canonical else rng.choice([100, 99.99, 100.01, 100.0])}
        ]
    first, second = rng.sample(BLENDABLE, 2)
    usual = [30, 50, 70]
    share = rng.choice(
        usual if canonical else [*usual, 60, 51, 69.6, 50.3, 30.5, 50.0000004, 0.5, round(rng.uniform(1, 99), 5)]
    )
    rest = 100 - share if share == int(share) else round(100 - share, 7)
    return [{"emotion": first, "salience": share}, {"emotion": second, "salience": rest}]


def near(rng, truth):
    """A prediction that often has something in common with the truth, which two random labels seldom have."""
    if rng.random() < 0.5:
        return random_entry(rng, canonical=False)
    prediction = random_entry(rng, canonical=False)
    return (
        [{**part, "emotion": true["emotion"]} for part, true in zip(prediction, truth)]
        if len(prediction) == len(truth)
        else truth[::-1]
    )


def test_twenty_thousand_random_pairs():
    rng = random.Random(20_000)
    labels = {f"c{k}": random_entry(rng, canonical=True) for k in range(20_000)}
    predictions = {clip: near(rng, truth) for clip, truth in labels.items()}
    report = evaluate(predictions, labels)
    for clip, truth in labels.items():
        result = outcome(report.predictions[clip], report.labels[clip])
        right_set, relation, exact = naive.clip_outcome(predictions[clip], truth)
        expected = Counts(1, right_set) if relation is None else Counts(1, right_set, 1, relation, exact)
        assert result == expected, (predictions[clip], truth)
    presence, salience, exact = naive.scores(predictions, labels)
    figures = to_dict(report)
    assert figures["acc_presence"] == float(presence) and 0.2 < presence < 0.8  # neither trivially right nor wrong
    assert figures["acc_salience"] == float(salience) and 0.2 < salience < 0.8
    assert figures["acc_salience_exact"] == float(exact) and exact != salience
    assert figures["score"] == pytest.approx(float((presence + salience) / 2), abs=1e-15)


def test_every_pair_of_the_36_labels():
    for predicted, truth in itertools.product(LABELS, LABELS):
        result = outcome(to_prediction(list(zip(*predicted))), truth)
        right_set, relation, exact = naive.clip_outcome(to_entry(predicted), to_entry(truth))
        assert result == (Counts(1, right_set) if relation is None else Counts(1, right_set, 1, relation, exact)), (
            predicted,
            truth,
        )


# Saliences where the rule could fail: at the limits of sums, equality, rounding and the range.
EDGES = [
    30,
    40,
    49,
    49.7,
    49.9999994,
    49.9999995,
    49.9999996,
    50,
    50.0,
    50.0000004,
    50.0000005,
    50.0000006,
    50.3,
    51,
    60,
    69.5,
    69.6,
    70,
]
EDGES += [
    30.4,
    30.5,
    0,
    0.0,
    0.01,
    0.02,
    1e-9,
    29.99,
    30.01,
    49.99,
    50.01,
    50.02,
    69.99,
    70.01,
    70.02,
    99.98,
    99.99,
    100,
    100.01,
    100.02,
    -1,
    1,
]
salience = st.sampled_from(EDGES) | st.decimals(-1, 101, places=2).map(float) | st.integers(-1, 101)
part = st.builds(lambda emotion, value: {"emotion": emotion, "salience": value}, st.sampled_from(EMOTIONS), salience)


@st.composite
def blend_near_100(draw):
    """Two emotions whose saliences sum to about 100: valid ones, and some that are off by a hundredth too much."""
    first, second = draw(st.lists(st.sampled_from(EMOTIONS), min_size=2, max_size=2))
    share = draw(salience)
    off = draw(st.sampled_from([0, 0, 0, 0.01, -0.01, 0.02, -0.02, 0.0000002]))
    return [{"emotion": first, "salience": share}, {"emotion": second, "salience": round(100 - share + off, 9)}]


entries = st.lists(part, min_size=1, max_size=2) | blend_near_100()


@st.composite
def valid_entry(draw, truth):
    """A valid entry, often of the truth's own emotions."""
    if draw(st.integers(0, 3)) == 0:
        return [{"emotion": draw(st.sampled_from(EMOTIONS)), "salience": draw(st.sampled_from([99.99, 100, 100.01]))}]
    emotions = draw(st.lists(st.sampled_from(BLENDABLE), min_size=2, max_size=2, unique=True))
    first, second = truth.emotions if truth.is_blend and draw(st.booleans()) else emotions
    share = draw(
        st.sampled_from([value for value in EDGES if 0.02 <= value <= 99.97])
        | st.decimals("0.02", "99.97", places=2).map(float)
    )
    parts = [
        {"emotion": first, "salience": share},
        {"emotion": second, "salience": round(100 - share + draw(st.sampled_from([0, 0.01, -0.005])), 9)},
    ]
    return draw(st.permutations(parts))


@given(entries)
def test_both_scorers_accept_the_same_entries(parts):
    try:
        validate({"a": parts})
    except ValidationError:
        assert not naive.is_valid(parts)
    else:
        assert naive.is_valid(parts)


@given(
    st.lists(
        st.sampled_from(LABELS).flatmap(lambda truth: st.tuples(valid_entry(truth), st.just(truth))),
        min_size=1,
        max_size=8,
    )
)
def test_scores_agree(pairs):
    predictions = {f"c{k}": parts for k, (parts, _) in enumerate(pairs)}
    labels = {f"c{k}": to_entry(truth) for k, (_, truth) in enumerate(pairs)}
    counts = evaluate(predictions, labels).counts
    expected = [value if value is None else float(value) for value in naive.scores(predictions, labels)]
    assert [counts.acc_presence, counts.acc_salience, counts.acc_salience_exact] == expected


@pytest.mark.parametrize(
    "text, valid",
    [
        ("ang 70 hap 29.99", True),
        ("ang 70.01 hap 30", True),  # off by 0.01 exactly, as decimals
        ("ang 70 hap 29.98", False),
        ("ang 70.02 hap 30", False),
        ("ang 70 hap 29.9899", False),
        ("ang 70 hap 30.0101", False),
        ("ang 99.99", True),
        ("ang 100.01", True),
        ("ang 99.98", False),
        ("ang 100.02", False),
        ("ang 0.01 hap 99.99", True),
        ("ang 0.001 hap 99.999", True),
        ("ang 0 hap 100", False),
        ("ang 100 hap 0.005", False),
    ],
)
def test_the_limits_of_sums(text, valid):
    parts = mapping({"a": text})["a"]
    assert naive.is_valid(parts) == valid
    if valid:
        validate({"a": parts})
    else:
        with pytest.raises(ValidationError):
            validate({"a": parts})


# ------------------------------------------------------------------------------ invariances


@pytest.fixture(scope="module")
def some_clips():
    rng = random.Random(7)
    labels = {f"c{k:03}": random_entry(rng, canonical=True) for k in range(300)}
    return {clip: near(rng, truth) for clip, truth in labels.items()}, labels


def figures(predictions, labels):
    return to_dict(evaluate(predictions, labels))


def shuffled(clips, seed):
    names = list(clips)
    random.Random(seed).shuffle(names)
    return {name: clips[name] for name in names}


@pytest.mark.parametrize(
    "change",
    [
        lambda clips, key: shuffled(clips, 1),
        lambda clips, key: {clip: parts[::-1] for clip, parts in clips.items()},
        lambda clips, key: {f"{clip}.mov": parts for clip, parts in clips.items()},
        lambda clips, key: {
            clip + random.Random(clip).choice(["", ".MP4", ".wav"]): parts for clip, parts in clips.items()
        },
        lambda clips, key: {key: clips},
        lambda clips, key: {key: shuffled({f"{clip}.mov": parts[::-1] for clip, parts in clips.items()}, 2)},
    ],
    ids=["clips reordered", "emotions reordered", "suffix", "several suffixes", "root form", "all at once"],
)
def test_changes_without_meaning_change_neither_figures_nor_signature(some_clips, change):
    predictions, labels = some_clips
    expected = figures(predictions, labels)
    assert figures(change(predictions, "predictions"), labels) == expected
    assert figures(predictions, change(labels, "labels")) == expected
    assert figures(change(predictions, "predictions"), change(labels, "labels")) == expected


@pytest.mark.parametrize("renaming", list(itertools.permutations(BLENDABLE))[1::17], ids="-".join)
def test_a_consistent_renaming_of_emotions_changes_no_figure(some_clips, renaming):
    new = {**dict(zip(BLENDABLE, renaming)), "neu": "neu"}
    renamed = [
        {clip: [{**part, "emotion": new[part["emotion"]]} for part in parts] for clip, parts in clips.items()}
        for clips in some_clips
    ]
    before, after = figures(*some_clips), figures(*renamed)
    assert before.pop("signature") != after.pop("signature")
    assert before == after


def test_correcting_a_clip_never_lowers_a_figure(some_clips):
    predictions, labels = some_clips
    report = evaluate(predictions, labels)
    corrected, before = dict(report.predictions), report.counts
    for clip, truth in shuffled(report.labels, 3).items():  # one after the other, up to all right
        corrected[clip] = to_prediction(list(zip(*truth)))
        after = count(corrected, report.labels)
        assert all(new >= old for new, old in zip(after, before)), clip
        assert after.score >= before.score
        before = after
    assert (before.acc_presence, before.acc_salience, before.acc_salience_exact, before.score) == (1, 1, 1, 1)


def test_a_figure_is_a_function_of_the_summed_records(some_clips):
    report = evaluate(*some_clips)
    records = [outcome(report.predictions[clip], truth) for clip, truth in report.labels.items()]
    assert total([total(records[:100]), total(records[100:])]) == report.counts == total(records)


def test_the_signature_changes_with_any_label(some_clips):
    predictions, labels = some_clips
    before = figures(predictions, labels)["signature"]
    other = lambda parts: to_entry(LABELS[0]) if len(parts) > 1 or parts[0]["emotion"] != "ang" else to_entry(BLENDS[0])  # noqa: E731
    signatures = {before}
    for clip in list(labels)[::10]:
        signatures.add(figures(predictions, {**labels, clip: other(labels[clip])})["signature"])
        signatures.add(figures({**predictions, clip: other(predictions[clip])}, labels)["signature"])
    assert len(signatures) == 1 + 2 * 30


def test_the_signature_sees_percentages_that_only_the_exact_figure_sees():
    truth = mapping({"a": "ang 70 hap 30"})
    signatures = {
        figures(mapping({"a": text}), truth)["signature"]
        for text in ("ang 70 hap 30", "ang 60 hap 40", "ang 50.3 hap 49.7")
    }
    assert len(signatures) == 3


def test_the_signatures_form(some_clips):
    text = figures(*some_clips)["signature"]
    fields = dict(field.split(":") for field in text.split("|"))
    assert list(fields) == ["clips", "blends", "subset", "rule", "preds", "labels", "version"]
    assert fields["clips"] == "300" and fields["subset"] == "all" and fields["rule"] == "ranking"


@pytest.mark.parametrize("function", [acc_presence, acc_salience, score])
@pytest.mark.parametrize(
    "predictions, code",
    [
        ({}, "empty"),
        ({"a": []}, "empty"),
        (mapping({"b": "ang 100"}), "missing-clips"),
        (mapping({"a": "ang 100", "b": "ang 100"}), "unknown-clips"),
        ([], "wrong-type"),
        (None, "wrong-type"),
        (mapping({"a": "ang 100", "a.mov": "ang 100"}), "duplicate-clip"),
    ],
)
def test_the_metrics_refuse_what_cannot_be_scored(function, predictions, code):
    with pytest.raises(ValidationError) as caught:
        function(predictions, mapping({"a": "ang 70 hap 30"}))
    assert code in [problem.code for problem in caught.value.problems]


@pytest.mark.parametrize("function", [acc_presence, acc_salience, score])
def test_the_metrics_refuse_labels_that_are_wrong(function):
    with pytest.raises(ValidationError, match="expected 70 or 50 or 30"):
        function(mapping({"a": "ang 60 hap 40"}), mapping({"a": "ang 60 hap 40"}))


class Array:
    """Looks like an array of numpy, which is not a dependency here."""

    shape = (3, 6)


@pytest.mark.parametrize("function", [acc_presence, acc_salience, score])
def test_arrays_are_refused_with_what_is_expected(function):
    for arguments, names in (((Array(), Array()), ["predictions", "labels"]), ((PREDICTED, Array()), ["labels"])):
        problems = problems_of(function, *arguments)
        assert [problem.where for problem in problems] == names
        assert all("expected a mapping of clips to entries" in problem.message for problem in problems)
        assert all('"salience": 70' in problem.message and "decoder" in problem.hint for problem in problems)
