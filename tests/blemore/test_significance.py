"""Intervals and comparisons, against numpy and against the truth in simulations."""

import random

import numpy as np
import pytest

from blemore import significance
from blemore.evaluate import Report, evaluate
from blemore.labels import LABELS, Prediction, to_entry
from blemore.metrics import Counts, count
from blemore.significance import FEW_ACTORS, FIGURES, actors, bootstrap, compare, p_value, records, t_quantile


def simulated(n_actors=8, clips=40, right=0.4, seed=0, prefix="A1"):
    """A report on random labels in which a share of the predictions is right."""
    rng = random.Random(seed)
    labels, predictions = {}, {}
    for index in range(n_actors * clips):
        clip = f"clip_{index:05d}"
        labels[clip] = LABELS[index % len(LABELS)]
        label = labels[clip] if rng.random() < right else rng.choice(LABELS)
        predictions[clip] = Prediction(label, label)
    groups = {clip: f"{prefix}{index % n_actors:02d}" for index, clip in enumerate(labels)}
    return Report(count(predictions, labels), predictions, labels, "all", groups)


REPORT = simulated()


# --------------------------------------------------------------------- against independent sums


def accuracies(table):
    """presence, salience and score of rows (n, presence, n_blends, salience)."""
    presence, salience = table[..., 1] / table[..., 0], table[..., 3] / table[..., 2]
    return dict(zip(FIGURES, (presence, salience, (presence + salience) / 2)))


def table_of(report):
    """The actors' counts, gathered without the package's own sums."""
    names = sorted(set(report.groups.values()))
    table = np.zeros((len(names), 4))
    for clip, truth in report.labels.items():
        row, found = names.index(report.groups[clip]), report.predictions[clip].label
        table[row] += (
            1,
            found.emotions == truth.emotions,
            len(truth.emotions) == 2,
            len(truth.emotions) == 2 and found == truth,
        )
    return table


def same_draws(n, resamples, seed):
    """The indexes that the package draws."""
    rng = random.Random(seed)
    return np.array([rng.choices(range(n), k=n) for _ in range(resamples)])


def numpy_interval(table, draws, figure):
    n = len(table)
    value, drawn = accuracies(table.sum(0))[figure], accuracies(table[draws].sum(1))[figure]
    t = {8: 2.364624252}[n]  # 97.5 % quantile with 7 degrees of freedom, from a printed table
    reach = t * np.std(drawn, ddof=1) * np.sqrt(n / (n - 1))
    return value - reach, value + reach


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_intervals_equal_numpys_on_the_same_draws(seed):
    found = bootstrap(REPORT, resamples=500, seed=seed)
    assert (found.unit, found.units, found.resamples, found.seed) == ("actor", 8, 500, seed)
    for figure in FIGURES:
        assert found.intervals[figure] == pytest.approx(
            numpy_interval(table_of(REPORT), same_draws(8, 500, seed), figure), abs=1e-9
        )


def test_intervals_are_near_those_of_numpys_own_draws():
    table, draws = table_of(REPORT), np.random.default_rng(5).integers(0, 8, (20_000, 8))
    for figure, interval in bootstrap(REPORT, resamples=4000).intervals.items():
        assert interval == pytest.approx(numpy_interval(table, draws, figure), abs=0.005)


def test_the_interval_is_that_of_the_pooled_figure():
    """One actor has 10 clips, all right; one 90, all wrong; and eight like them. Pooled 0.1, mean of rates 0.5."""
    labels = {f"c{actor}_{k}": LABELS[0] for actor in range(10) for k in range(10 if actor % 2 else 90)}
    groups = {clip: clip.partition("_")[0] for clip in labels}
    predictions = {clip: Prediction(*[LABELS[0] if int(groups[clip][1:]) % 2 else LABELS[1]] * 2) for clip in labels}
    report = Report(count(predictions, labels), predictions, labels, "all", groups)
    low, high = bootstrap(report).intervals["acc_presence"]
    assert report.counts.acc_presence == 0.1 and low <= 0.1 <= high < 0.4


def test_p_values_equal_numpys_on_the_same_draws():
    other = simulated(right=0.3, seed=1)
    found = compare(REPORT, other, resamples=800, seed=0)
    draws, mine, theirs = same_draws(8, 800, 0), table_of(REPORT), table_of(other)
    for figure in FIGURES:
        delta = accuracies(mine.sum(0))[figure] - accuracies(theirs.sum(0))[figure]
        drawn = accuracies(mine[draws].sum(1))[figure] - accuracies(theirs[draws].sum(1))[figure]
        c = np.sum(np.abs(drawn - delta) >= abs(delta) - 1e-12)
        assert found.differences[figure].delta == pytest.approx(delta)
        assert found.differences[figure].p == (c + 1) / 801


def test_p_is_never_zero_and_one_for_twins():
    twins = compare(REPORT, REPORT, resamples=200).differences
    assert {figure: (d.delta, d.p) for figure, d in twins.items()} == dict.fromkeys(FIGURES, (0.0, 1.0))
    perfect = REPORT._replace(predictions={clip: Prediction(label, label) for clip, label in REPORT.labels.items()})
    perfect = perfect._replace(counts=count(perfect.predictions, perfect.labels))
    assert compare(perfect, simulated(right=0, seed=3), resamples=200).differences["score"].p == 1 / 201


def test_swapping_the_two_turns_the_sign_alone():
    other = simulated(right=0.35, seed=2)
    there, back = compare(REPORT, other).differences, compare(other, REPORT).differences
    for figure in FIGURES:
        assert there[figure].p == back[figure].p
        assert (there[figure].delta, *there[figure].interval) == pytest.approx(
            (-back[figure].delta, -back[figure].interval.high, -back[figure].interval.low)
        )


def test_pairing_narrows_the_difference_of_two_alike():
    """Two that agree on nearly every clip: the paired interval is far narrower than either's own."""
    flipped = dict(REPORT.predictions)
    for clip in list(flipped)[::40]:
        flipped[clip] = Prediction(LABELS[5], LABELS[5])
    other = REPORT._replace(predictions=flipped, counts=count(flipped, REPORT.labels))
    difference, own = (
        compare(REPORT, other).differences["acc_presence"].interval,
        bootstrap(REPORT).intervals["acc_presence"],
    )
    assert difference.high - difference.low < 0.5 * (own.high - own.low)


def test_other_labels_are_refused():
    with pytest.raises(ValueError, match="different labels"):
        compare(REPORT, simulated(clips=41))


# ------------------------------------------------------------------------------- seeds and units


def test_zero_is_a_seed_and_none_draws_one():
    assert bootstrap(REPORT, 100, 0) == bootstrap(REPORT, 100, 0) == bootstrap(REPORT, 100)
    assert bootstrap(REPORT, 100, 0) != bootstrap(REPORT, 100, 1)
    drawn = bootstrap(REPORT, 100, None)
    assert isinstance(drawn.seed, int) and drawn.seed != bootstrap(REPORT, 100, None).seed
    assert bootstrap(REPORT, 100, drawn.seed) == drawn


def test_order_of_clips_changes_nothing():
    turned = REPORT._replace(
        labels=dict(reversed(REPORT.labels.items())), predictions=dict(reversed(REPORT.predictions.items()))
    )
    assert bootstrap(turned, 200) == bootstrap(REPORT, 200)


def test_actors_come_from_groups_then_names_then_there_are_none():
    assert actors(REPORT)[0] == "actor"
    train = evaluate({"A102_ang_int1_ver1": to_entry(LABELS[0])}, {"A102_ang_int1_ver1.mov": to_entry(LABELS[0])})
    assert actors(train) == ("actor", {"A102_ang_int1_ver1": "A102"})
    unit, by_clip = records(REPORT._replace(groups={}))
    assert unit == "clip" and len(by_clip) == len(REPORT.labels)
    partly = dict(list(REPORT.groups.items())[1:])  # a clip without an actor: the rest would be a guess
    assert actors(REPORT._replace(groups=partly))[0] == "clip"


def test_records_add_up_to_the_score():
    _, by_actor = records(REPORT)
    assert Counts(*map(sum, zip(*by_actor.values()))) == REPORT.counts


def test_notes_and_what_cannot_be_had():
    assert "rough" in bootstrap(REPORT, 50).note and "8" in bootstrap(REPORT, 50).note
    assert bootstrap(simulated(FEW_ACTORS), 50).note is None
    assert "clips were drawn" in bootstrap(REPORT._replace(groups={}), 20).note
    alone = bootstrap(REPORT._replace(groups=dict.fromkeys(REPORT.labels, "A1")), 50)
    assert alone.intervals == {} and "single actor" in alone.note
    assert bootstrap(REPORT, 1).intervals == {}  # one resample has no deviation
    singles = {clip: label for clip, label in REPORT.labels.items() if not label.is_blend}
    no_blend = REPORT._replace(labels=singles, counts=count(REPORT.predictions, singles))
    assert (
        set(bootstrap(no_blend, 50).intervals) == set(compare(no_blend, no_blend, 50).differences) == {"acc_presence"}
    )


def test_intervals_stay_within_the_figures_range():
    perfect = simulated(right=1.0)
    assert set(bootstrap(perfect, 100).intervals.values()) == {(1.0, 1.0)}
    for interval in bootstrap(simulated(n_actors=2, clips=36, right=0.05), 300).intervals.values():
        assert 0 <= interval.low <= interval.high <= 1


# ------------------------------------------------------------------------------ the distribution


@pytest.mark.parametrize(
    "df, quantile",
    [  # from printed tables, 97.5 %
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (10, 2.2281),
        (30, 2.0423),
        (46, 2.0129),
        (1000, 1.9623),
    ],
)
def test_t_quantiles(df, quantile):
    assert t_quantile(0.975, df) == pytest.approx(quantile, abs=5e-5)


def test_p_value_by_hand():
    assert p_value(0.2, [0.1, 0.2, 0.45, -0.1]) == 3 / 5  # 0.25 and 0.3 away are as far as 0.2
    assert p_value(0.1 + 0.2, [0.6]) == p_value(0.3, [0.6]) == 1  # 0.3 away, whatever the order of the sum


# --------------------------------------------------------------------------------------- coverage


def coverage(n_actors, cases, resamples, rng):
    """How often the interval of the score holds the true value, for it and for plain percentiles.

    Actors differ: each has their own accuracies (beta distributed), and 42 to 66 clips, of which 54 % are blends.
    """
    presence, salience, spread, hits = 0.33, 0.12, 25, np.zeros(2)
    for _ in range(cases):
        n = rng.integers(42, 67, n_actors)
        blends = (n * 0.54).astype(int)
        right = rng.binomial(n, rng.beta(presence * spread, (1 - presence) * spread, n_actors))
        relation = rng.binomial(blends, rng.beta(salience * spread, (1 - salience) * spread, n_actors))
        table = np.stack([n, right, blends, relation], axis=1)
        weights = rng.multinomial(n_actors, np.full(n_actors, 1 / n_actors), size=resamples)
        value, drawn, truth = (
            accuracies(table.sum(0))["score"],
            accuracies(weights @ table)["score"],
            (presence + salience) / 2,
        )
        interval = significance._interval(float(value), drawn.tolist(), n_actors, (0, 1))
        low, high = np.quantile(drawn, [0.025, 0.975])
        hits += interval.low <= truth <= interval.high, low <= truth <= high
    return hits / cases


@pytest.mark.parametrize("n_actors", [47, 11])
def test_coverage(n_actors, long):
    """With --long, 2,000 cases: 47 actors 0.9445 (percentiles 0.9355), 11 actors 0.9460 (percentiles 0.9035)."""
    cases, resamples = (2000, 1000) if long else (400, 300)
    ours, percentiles = coverage(n_actors, cases, resamples, np.random.default_rng(11))
    print(f"{n_actors} actors, {cases} cases: {ours:.4f}, percentiles {percentiles:.4f}")
    margin = 0 if long else 0.015
    assert 0.92 - margin <= ours <= 0.97 + margin
    if n_actors == 11:
        assert ours > percentiles


@pytest.mark.parametrize("n_actors", [47, 11, 6])
def test_with_few_actors_intervals_keep_to_their_level_and_p_values_do_not(n_actors, long):
    """Of two submissions that are equally good. With --long, how often p ≤ 0.05, and how often the interval leaves zero
    out: 47 actors 0.065 and 0.056, 11 actors 0.092 and 0.051, 6 actors 0.131 and 0.055."""
    cases, resamples, rng = (4000 if long else 1500), 400, np.random.default_rng(5)
    hits = np.zeros(2)
    for _ in range(cases):
        by_actor = rng.normal(0, 0.05, n_actors)  # each one's difference
        drawn = by_actor[rng.integers(0, n_actors, (resamples, n_actors))].mean(axis=1).tolist()
        delta = float(by_actor.mean())
        interval = significance._interval(delta, drawn, n_actors, (-1, 1))
        hits += p_value(delta, drawn) <= 0.05, not interval.low <= 0 <= interval.high
    p, outside = hits / cases
    print(f"{n_actors} actors, {cases} cases: p ≤ 0.05 in {p:.4f}, zero outside in {outside:.4f}")
    assert 0.03 <= outside <= 0.075 and (p > 1.3 * outside if n_actors < 20 else p < 0.09)


def test_few_actors_are_told_of():
    report = simulated(clips=40)
    comparison = compare(report, report, 50)
    assert (
        comparison.units < FEW_ACTORS
        and comparison.note == f"over so few {comparison.unit}s p comes out too small: go by the intervals"
    )
    assert comparison._replace(units=FEW_ACTORS).note is None
