"""Intervals, p-values and their corrections: against naive recomputation, scipy's numbers, brute force, simulations."""

import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blemore.evaluate import Report, evaluate
from blemore.labels import LABELS, Prediction, to_entry
from blemore.metrics import count, total
from blemore.signature import digest_predictions
from blemore.significance import (
    EXACT_UNITS,
    FEW_UNITS,
    FIGURES,
    FLIPS,
    SignFlip,
    actors,
    compare,
    corrected,
    holm,
    infer,
    intervals,
    records,
    sign_flip,
    t_quantile,
    t_tails,
)


def simulated(n_actors=8, clips=40, right=0.4, seed=0):
    """A report on random labels in which a share of the predictions is right."""
    rng = random.Random(seed)
    labels, predictions = {}, {}
    for index in range(n_actors * clips):
        clip = f"clip_{index:05d}"
        labels[clip] = LABELS[index % len(LABELS)]
        label = labels[clip] if rng.random() < right else rng.choice(LABELS)
        predictions[clip] = Prediction(label, label)
    groups = {clip: f"A1{index % n_actors:02d}" for index, clip in enumerate(labels)}
    return Report(count(predictions, labels), predictions, labels, "all", groups)


def report_of(rows):
    """A report of rows (actor, truth, prediction), labels by their index."""
    labels = {f"c{k}": LABELS[truth] for k, (_, truth, _) in enumerate(rows)}
    predictions = {f"c{k}": Prediction(LABELS[answer], LABELS[answer]) for k, (*_, answer) in enumerate(rows)}
    groups = {f"c{k}": actor for k, (actor, *_) in enumerate(rows)}
    return Report(count(predictions, labels), predictions, labels, "all", groups)


REPORT, OTHER = simulated(), simulated(right=0.3, seed=1)
HAP, SAD, BLEND, TURNED = 3, 4, 6, 8  # LABELS[6] and [8]: ang+disg 70/30 and 30/70


# -------------------------------------------------------------------- against naive recomputation


def naive_figures(report, clips):
    """The three figures of some clips, by loops."""
    sets = [set(report.predictions[clip].label.emotions) == set(report.labels[clip].emotions) for clip in clips]
    blends = [clip for clip in clips if len(report.labels[clip].emotions) == 2]
    relations = [str(report.predictions[clip].label) == str(report.labels[clip]) for clip in blends]
    presence, salience = sum(sets) / len(sets), sum(relations) / len(relations)
    return dict(zip(FIGURES, (presence, salience, (presence + salience) / 2)))


def naive_jackknife(report, other=None):
    """Value and standard error by figure, with each actor's clips left out in turn."""

    def figures(clips):
        values = naive_figures(report, clips)
        return {name: values[name] - naive_figures(other, clips)[name] for name in values} if other else values

    names = sorted(set(report.groups.values()))
    left_out = [figures([clip for clip in report.labels if report.groups[clip] != name]) for name in names]
    results = {}
    for figure, value in figures(list(report.labels)).items():
        values = np.array([replicate[figure] for replicate in left_out])
        results[figure] = value, np.sqrt((len(names) - 1) * values.var())
    return results


T_7 = 2.3646242515927849  # 97.5 % quantile with 7 degrees of freedom


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_intervals_equal_those_of_the_naive_jackknife(seed):
    report = simulated(seed=seed)
    result = intervals(report)
    assert (result.unit, result.units, result.without_blends, list(result.estimates)) == ("actor", 8, 0, list(FIGURES))
    for figure, (value, deviation) in naive_jackknife(report).items():
        estimate = result.estimates[figure]
        assert estimate.value == pytest.approx(value)
        assert estimate.interval == pytest.approx((value - T_7 * deviation, value + T_7 * deviation), abs=1e-9)


def test_differences_equal_those_of_the_naive_jackknife():
    comparison = compare(REPORT, OTHER)
    for figure, (delta, deviation) in naive_jackknife(REPORT, OTHER).items():
        difference = comparison.differences[figure]
        assert difference.estimate.value == pytest.approx(delta)
        assert difference.estimate.interval == pytest.approx((delta - T_7 * deviation, delta + T_7 * deviation))
        assert difference.estimate.p == difference.p_holm == pytest.approx(t_tails(abs(delta) / deviation, 7))
    assert comparison.against == digest_predictions(OTHER.predictions)


def test_an_interval_by_hand():
    """Three actors of one clip each, one of them right: 1/3; without each one 1/2, 1/2 and 0, whose mean is 1/3 and
    whose squared distances from it sum to 1/6. s² = 2/3 · 1/6 = 1/9, t with 2 degrees of freedom 4.3027."""
    report = report_of([("a", HAP, SAD), ("b", HAP, SAD), ("c", HAP, HAP)])
    (estimate,) = intervals(report).estimates.values()
    assert estimate == pytest.approx((1 / 3, 0, 1, t_tails(1, 2), None))  # 1/3 ± 1.43, cut to what is possible
    assert infer(1 / 3, [1 / 2, 1 / 2, 0], (-9, 9)).high == pytest.approx(1 / 3 + 4.302652729749 / 3)


def test_the_interval_is_that_of_the_pooled_figure():
    """Half the actors have 10 clips, all right; the others 90, all wrong. Pooled: 0.1; mean of rates: 0.5."""
    rows = [(f"a{k}", HAP, HAP if k % 2 else SAD) for k in range(10) for _ in range(10 if k % 2 else 90)]
    low, high = intervals(report_of(rows)).intervals["acc_presence"]
    assert low <= 0.1 <= high < 0.4


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_p_is_below_the_level_exactly_if_the_interval_excludes_zero(seed, n_actors):
    rng = random.Random(seed)
    rows = [
        (f"a{rng.randrange(n_actors)}", *(rng.choice((HAP, SAD, BLEND, TURNED)) for _ in range(3))) for _ in range(40)
    ]
    first, second = (report_of([(actor, truth, answers[k]) for actor, truth, *answers in rows]) for k in (0, 1))
    for difference in compare(first, second).differences.values():
        estimate = difference.estimate
        assert (estimate.p is None) == (estimate.interval is None) == bool(estimate.reason)
        if estimate.p is not None:
            assert 0 < estimate.p <= 1 and abs(estimate.beyond) == (estimate.p < 0.05)
            assert estimate.beyond == (estimate.low > 0) - (estimate.high < 0)
            assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_swapping_the_two_changes_only_the_sign():
    forward, backward = compare(REPORT, OTHER).differences, compare(OTHER, REPORT).differences
    for figure in FIGURES:
        assert forward[figure].sign_flip == backward[figure].sign_flip
        value, low, high, p, _ = backward[figure].estimate
        assert forward[figure].estimate == pytest.approx((-value, -high, -low, p, None))


def test_pairing_narrows_the_difference_of_two_alike():
    """If two agree on nearly every clip, the paired interval is far narrower than either one's own."""
    flipped = dict(REPORT.predictions)
    for clip in list(flipped)[::40]:
        flipped[clip] = Prediction(LABELS[5], LABELS[5])
    other = REPORT._replace(predictions=flipped, counts=count(flipped, REPORT.labels))
    difference = compare(REPORT, other).differences["acc_presence"].estimate
    own = intervals(REPORT).intervals["acc_presence"]
    assert difference.high - difference.low < 0.5 * (own.high - own.low)


def test_other_labels_are_refused():
    with pytest.raises(ValueError, match="different labels"):
        compare(REPORT, simulated(clips=41))


# -------------------------------------------------------------------------- what cannot be inferred


def test_nothing_is_inferred_from_twins():
    for difference in compare(REPORT, REPORT).differences.values():
        assert difference == ((0.0, None, None, None, "no difference"), None, None)


def test_nothing_is_inferred_from_actors_that_are_all_alike():
    """Right everywhere, or better by the same for every actor."""
    rows = [(actor, HAP, HAP) for actor in "abc"]
    assert intervals(report_of(rows)).estimates["acc_presence"] == (1, None, None, None, "the same for every actor")
    difference = compare(report_of(rows), report_of([(actor, HAP, SAD) for actor in "abc"])).differences["acc_presence"]
    assert difference.estimate == (1, None, None, None, "the same for every actor")
    assert difference.sign_flip == SignFlip(2 / 8, 8, None)


def test_a_single_actor_gives_no_interval():
    alone = REPORT._replace(groups=dict.fromkeys(REPORT.labels, "A1"))
    assert {estimate.reason for estimate in intervals(alone).estimates.values()} == {"a single actor"}
    assert intervals(alone).intervals == {}


def test_an_actor_with_all_the_blends_leaves_salience_without_an_interval():
    result = intervals(report_of([("a", BLEND, BLEND), ("a", BLEND, HAP), ("b", HAP, HAP), ("c", SAD, HAP)]))
    assert result.estimates["acc_presence"].interval and result.without_blends == 2
    assert result.estimates["acc_salience"].reason == "a single actor"
    assert result.estimates["score"].reason == "undefined without one of the actors"


def test_actors_without_blends_do_not_count_toward_salience():
    """Two of four have blends: one degree of freedom, as without the other two."""
    blends = [("a", BLEND, BLEND), ("a", BLEND, TURNED), ("b", BLEND, HAP), ("b", BLEND, BLEND), ("b", BLEND, BLEND)]
    result = intervals(report_of([*blends, ("c", HAP, HAP), ("d", HAP, SAD)]))
    assert result.estimates["acc_salience"] == intervals(report_of(blends)).estimates["acc_salience"]
    assert "2 of them have no blends" in result.note and result.units == 4


def test_without_blends_there_is_only_presence():
    singles = {clip: label for clip, label in REPORT.labels.items() if not label.is_blend}
    report = REPORT._replace(labels=singles, counts=count(REPORT.predictions, singles))
    assert list(intervals(report).estimates) == list(compare(report, report).differences) == ["acc_presence"]


def test_the_order_of_summation_makes_no_difference():
    assert infer(1e-17, [0.1 + 0.2 - 0.3, 0, 1e-17], (-1, 1)).reason == "no difference"
    assert infer(0.3, [0.3, 0.1 + 0.2, 0.3], (0, 1)).reason == "the same for every actor"
    assert infer(0.3, [0.3, float("nan")], (0, 1)).reason == "undefined without one of the actors"


# --------------------------------------------------------------------------------------- units


def test_order_of_clips_changes_nothing():
    turned = REPORT._replace(
        labels=dict(reversed(REPORT.labels.items())), predictions=dict(reversed(REPORT.predictions.items()))
    )
    assert intervals(turned) == intervals(REPORT) and compare(turned, OTHER) == compare(REPORT, OTHER)


def test_actors_come_from_groups_or_else_from_names():
    assert actors(REPORT)[0] == "actor"
    train = evaluate({"A102_ang_int1_ver1": to_entry(LABELS[0])}, {"A102_ang_int1_ver1.mov": to_entry(LABELS[0])})
    assert actors(train) == ("actor", {"A102_ang_int1_ver1": "A102"})
    unknown = records(REPORT._replace(groups={}))
    assert unknown.unit == "clip" and len(unknown.by_unit) == len(REPORT.labels)
    partly = dict(list(REPORT.groups.items())[1:])  # one clip has no actor, so the names count instead
    assert actors(REPORT._replace(groups=partly))[0] == "clip"


def test_records_add_up_to_the_score():
    assert total(records(REPORT).by_unit.values()) == REPORT.counts


def test_notes():
    assert intervals(REPORT).note is None and intervals(simulated(FEW_UNITS)).note is None
    assert compare(*(simulated(FEW_UNITS - 1, seed=seed) for seed in (0, 1))).note == (
        "with so few actors (5), intervals and p-values are rough"
    )
    assert "each clip counts as one" in intervals(REPORT._replace(groups={})).note


# ----------------------------------------------------------------------------------- sign flips


def brute_force(parts):
    """The share of all 2^A flips whose sum is at least as far from 0 as the observed sum."""
    sums = [abs(sum(sign * part for sign, part in zip(signs, parts))) for signs in product((1, -1), repeat=len(parts))]
    return np.mean([subtotal >= abs(sum(parts)) for subtotal in sums])


@given(st.lists(st.integers(-9, 9), max_size=9).filter(any))
def test_sign_flips_equal_brute_force(parts):
    result = sign_flip(parts)
    assert result.p == brute_force(parts) and result.seed is None
    assert result.flips == 2 ** sum(part != 0 for part in parts)


def test_sign_flips_of_the_score_equal_brute_force_on_exchanged_reports():
    """The two exchange each actor's predictions, and the difference of scores is computed again."""
    names = sorted(set(REPORT.groups.values()))
    deltas = []
    for flips in product((False, True), repeat=len(names)):
        flipped = dict(zip(names, flips))
        pair = [REPORT.predictions, OTHER.predictions]
        counts = [
            count({clip: pair[flipped[REPORT.groups[clip]] != k][clip] for clip in REPORT.labels}, REPORT.labels)
            for k in (False, True)
        ]
        deltas.append(abs(counts[0].score - counts[1].score))
    p = np.mean(np.array(deltas) >= deltas[0] - 1e-12)
    assert compare(REPORT, OTHER).differences["score"].sign_flip == SignFlip(p, 2**8, None)


def exact_by_sums(parts):
    """The exact p for many parts, from the distribution of the sum."""
    ways = Counter([0])
    for part in parts:
        step = Counter()
        for value, times in ways.items():
            step[value + part] += times
            step[value - part] += times
        ways = step
    return sum(times for value, times in ways.items() if abs(value) >= abs(sum(parts))) / 2 ** len(parts)


@pytest.mark.parametrize("seed", range(6))
def test_drawn_sign_flips_come_near_the_exact_p(seed):
    rng = random.Random(seed)
    parts = [rng.choice((-3, -1, 1, 2, 4)) for _ in range(40)]
    result, exact = sign_flip(parts), exact_by_sums(parts)
    assert result.flips == FLIPS and result == sign_flip(parts)
    assert result.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / FLIPS) + 1 / FLIPS)


def test_drawn_sign_flips_never_give_zero():
    assert sign_flip([1] * 40).p == 1 / (FLIPS + 1)
    assert sign_flip([1] * EXACT_UNITS).seed is None and sign_flip([1] * (EXACT_UNITS + 1)).seed == 0


# --------------------------------------------------------------------------------- corrections


def test_holm_by_hand():
    """0.01 · 4; 0.02 · 3; 0.03 · 2, raised to the one before; 0.9 · 1."""
    assert holm([0.9, 0.01, 0.03, 0.02]) == pytest.approx([0.9, 0.04, 0.06, 0.06])
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0] and holm([]) == []


@given(st.lists(st.floats(0.0001, 1), max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_sequential_procedure_rejects(p_values, level):
    """The smallest p is compared with level / m, the next with level / (m − 1), up to the first that is larger."""
    rejected, m = set(), len(p_values)
    for place, index in enumerate(sorted(range(m), key=lambda k: p_values[k])):
        assume(abs(p_values[index] * (m - place) - level) > 1e-9)
        if p_values[index] > level / (m - place):
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= level} == rejected


def test_each_figure_is_a_family_of_its_own():
    others = [simulated(right=right, seed=seed) for seed, right in ((1, 0.3), (2, 0.1), (3, 0.4))]
    comparisons = corrected([compare(REPORT, other) for other in (*others, REPORT)])  # the twin gives no test
    for figure in FIGURES:
        p_values = [comparison.differences[figure].estimate.p for comparison in comparisons]
        assert [comparison.differences[figure].p_holm for comparison in comparisons] == holm(p_values) and p_values[
            3
        ] is None
        smallest = min(p_values[:3])
        assert holm(p_values)[p_values.index(smallest)] == pytest.approx(3 * smallest)


# ------------------------------------------------------------------------------ the distribution

# 2 · scipy.stats.t.sf(t, df) of scipy 1.17.1
TAILS = [
    (1e-06, 1, 0.9999993633519304),
    (0.5, 1, 0.7048327646991335),
    (40.0, 1, 0.015912179824051624),
    (1.0, 2, 0.4226497308103742),
    (6.0, 5, 0.0018461382895940143),
    (1e-06, 10, 0.9999992217832321),
    (0.5, 10, 0.627893605742973),
    (2.228, 10, 0.05001177181711132),
    (40.0, 10, 2.2808577430857535e-12),
    (1.0, 46, 0.3225420498789901),
    (6.0, 46, 2.895768834093902e-07),
    (40.0, 46, 2.1859499976838834e-37),
    (2.228, 593, 0.02625480609696426),
    (40.0, 593, 1.500310449333119e-170),
]
# scipy.stats.t.ppf(0.975, df) of scipy 1.17.1
QUANTILES = [
    (1, 12.706204736174694),
    (2, 4.302652729749462),
    (3, 3.1824463052837078),
    (5, 2.5705818356363146),
    (10, 2.228138851986274),
    (30, 2.0422724563012378),
    (46, 2.012895598919429),
    (593, 1.963972480661868),
    (1000, 1.9623390808264083),
]


@pytest.mark.parametrize(("t", "df", "p"), TAILS)
def test_tails_equal_scipys(t, df, p):
    assert t_tails(t, df) == pytest.approx(p, rel=1e-10)


@pytest.mark.parametrize(("df", "quantile"), QUANTILES)
def test_quantiles_equal_scipys(df, quantile):
    assert t_quantile(0.975, df) == pytest.approx(quantile, rel=1e-9)


def test_p_is_always_in_its_range():
    assert t_tails(0, 5) == t_tails(1e-200, 5) == 1 and t_tails(1e12, 100_000) > 0


# ---------------------------------------------------------------------------------- simulations


class World:
    """Actors who differ. Two systems are equally good overall, but not for each actor.

    skewed: few actors account for most of the difference, and a third of them for most of the clips
    """

    def __init__(self, n_actors, skewed, rng):
        self.n_actors, self.skewed, self.rng = n_actors, skewed, rng

    def draw(self):
        """Counts of two systems (2, actors, 4): clips, right sets, blends, right relations."""
        low, high = (10, 40) if self.skewed else (42, 67)
        n = self.rng.integers(low, high, self.n_actors)
        if self.skewed:
            n[self.rng.random(self.n_actors) < 1 / 3] += 80
        blends = (n * 0.54).astype(int)
        tables = []
        rates = [self.rng.beta(25 * mean, 25 * (1 - mean), self.n_actors) for mean in (0.33, 0.12)]
        gaps = [0.05 * self.gap(), 0.03 * self.gap()]
        for sign in (1, -1):
            right, relation = (
                self.rng.binomial(clips, np.clip(rate + sign * gap, 0, 1))
                for clips, rate, gap in zip((n, blends), rates, gaps)
            )
            tables.append(np.stack([n, right, blends, relation], axis=1))
        return np.array(tables)

    def gap(self):
        draw = self.rng.exponential if self.skewed else self.rng.normal
        return draw(size=self.n_actors) - 1 if self.skewed else draw(size=self.n_actors)


def score_of(sums):
    return (sums[..., 1] / sums[..., 0] + sums[..., 3] / sums[..., 2]) / 2


def rates(n_actors, skewed, cases):
    """How often the interval of one system's score contains the expected score, and how often the test and the sign
    flips reject two systems that are equally good."""
    world = World(n_actors, skewed, np.random.default_rng(11))
    truth = np.mean([score_of(world.draw().sum(axis=1)) for _ in range(4000)])
    hits = np.zeros(3)
    for _ in range(cases):
        draw = world.draw()
        whole, rest = score_of(draw.sum(axis=1)), score_of(draw.sum(axis=1, keepdims=True) - draw)
        estimate = infer(float(whole[0]), rest[0].tolist(), (0, 1))
        gap = infer(float(whole[0] - whole[1]), (rest[0] - rest[1]).tolist(), (-1, 1))
        n, blends = draw[0].sum(axis=0)[[0, 2]]
        parts = (draw[0] - draw[1]) @ np.array([0, blends, 0, n])
        hits += estimate.low <= truth <= estimate.high, gap.p < 0.05, sign_flip(parts.tolist()).p <= 0.05
    return hits / cases


@pytest.mark.parametrize(("n_actors", "skewed"), [(6, False), (11, False), (11, True), (47, False)])
def test_coverage_and_errors_of_the_first_kind(n_actors, skewed, long):
    """benchmarks/README.md has the figures of --long."""
    cases = 10_000 if long and n_actors < 20 else 2000 if long else 400
    coverage, rejected, flipped = rates(n_actors, skewed, cases)
    kind = "skewed" if skewed else "even"
    print(f"{n_actors} actors, {kind}, {cases} cases: {coverage:.3f} {rejected:.3f} {flipped:.3f}")
    error = 3.5 * np.sqrt(0.05 * 0.95 / cases)
    assert 0.92 - error < coverage < 0.97 + error
    assert 0.03 - error < rejected < 0.07 + error and flipped < 0.06 + error
