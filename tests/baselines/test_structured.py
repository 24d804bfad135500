"""Structured decoding: on simulated clips with a known posterior, and on little or unusual data."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blemore.errors import ValidationError
from blemore.io import to_json
from blemore.labels import EMOTIONS, LABELS
from blemore_baselines.dataset import SET_OF_LABEL, TARGETS
from blemore_baselines.decoding import posterior as posterior_module
from blemore_baselines.decoding.accounts import count
from blemore_baselines.decoding.calibration import calibration, calibration_error, frequencies, reliability
from blemore_baselines.decoding.posterior import (
    excess,
    fit,
    from_dict,
    inverse_temperature,
    log_probabilities,
    pool,
    posterior,
    set_probabilities,
    to_dict,
)
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.structured import cross_validate, decide, decide_out_of_fold
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact, fit_grid

pytestmark = pytest.mark.usefixtures("one_thread")


def world(n, seed, noise=0.15):
    """Clips whose scores are their soft label plus noise: labels (N,), scores (N, 6), the true posterior (N, 36)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LABELS), size=n)
    signals = TARGETS[labels] + noise * rng.normal(size=(n, len(EMOTIONS)))
    distances = ((signals[:, None, :] - TARGETS[None]) ** 2).sum(axis=2)
    return labels, signals, softmax(-distances / (2 * noise**2))


SAME_SET = SET_OF_LABEL[:, None] == SET_OF_LABEL[None, :]  # (36, 36)


def expected_score(truth, decisions, share, weight=0.5):
    """The expected score of decisions (N,) if the clips' labels are drawn from `truth` (N, 36)."""
    rows = np.arange(len(decisions))
    presence = (truth @ SAME_SET)[rows, decisions]
    salience = np.where(decisions >= len(EMOTIONS), truth[rows, decisions], 0)
    return float((weight * presence + (1 - weight) * salience / share).mean())


@pytest.mark.parametrize("noise", [0.15, 0.3])
def test_nearly_optimal_where_thresholds_are_not(noise):
    labels, signals, truth = world(30_000, seed=1, noise=noise)
    train, test = slice(0, 20_000), slice(20_000, None)
    logits = signals / noise**2 / 4  # more or less as sure as it is right
    (logs,) = log_probabilities([logits], ["model"])
    model = fit(logs[train], labels[train], strength=1.0)
    best = expected_score(truth[test], decide(truth[test], model.share)[0], model.share)
    model_score = expected_score(truth[test], decide(posterior(model, logs[test]), model.share)[0], model.share)
    probabilities = softmax(logits)
    of_all = fit_exact(probabilities[train], labels[train]).thresholds
    threshold_score = expected_score(truth[test], decode_thresholds(probabilities[test], of_all), model.share)
    assert 0 <= best - model_score < 0.002
    assert best - threshold_score > 0.01


# Each of the 36 answers against each of the 36 truths, by the metrics' own counting
COUNTS = [[count(np.array([answer]), np.array([true])) for true in range(len(LABELS))] for answer in range(len(LABELS))]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.05, 1), st.floats(0.05, 5))
def test_no_other_decision_has_a_higher_expected_score(seed, weight, share, evenness):
    truth = np.random.default_rng(seed).dirichlet(np.full(len(LABELS), evenness), size=2)
    decisions, expected = decide(truth, share, weight)
    for row, label, gain in zip(truth, decisions, expected):
        gains = [
            sum(
                p * (weight * outcome.presence + (1 - weight) * outcome.salience / share)
                for p, outcome in zip(row, counts)
            )
            for counts in COUNTS
        ]
        assert gain == pytest.approx(max(gains)) and gains[label] == pytest.approx(gain)


def test_the_decision_by_hand():
    # P(ang) = .4, P(ang+hap) = .25 + .2 + .1 = .55 over its relations; blends are half of the clips.
    #   ang            .5 · .40              = .20
    #   ang+hap 70/30  .5 · .55 + .5 · .25/.5 = .525   ← the most
    #   ang+hap 50/50  .5 · .55 + .5 · .20/.5 = .475
    row = np.zeros((1, len(LABELS)))
    row[0, [0, 12, 13, 14, 3]] = [0.4, 0.25, 0.2, 0.1, 0.05]
    best, gain = decide(row, share=0.5)
    assert best == [12] and gain == pytest.approx([0.525])
    # By presence alone the pair still leads; by salience alone too; with P(ang) = .6 presence says ang.
    row[0, [0, 12, 13, 14, 3]] = [0.6, 0.2, 0.1, 0.1, 0.0]
    assert decide(row, share=0.5, weight=1)[0] == [0] and decide(row, share=0.5, weight=0)[0] == [12]


def test_weights_0_and_1_are_best_at_their_own_metric():
    labels, signals, truth = world(4000, seed=2, noise=0.3)
    share = float((labels >= len(EMOTIONS)).mean())
    by_weight = {weight: decide(truth, share, weight)[0] for weight in (0, 0.5, 1)}
    for weight, own in by_weight.items():
        assert expected_score(truth, own, share, weight) >= max(
            expected_score(truth, other, share, weight) for other in by_weight.values()
        )
    sets = set_probabilities(truth)
    assert (SET_OF_LABEL[by_weight[1]] == sets.argmax(axis=1)).all()
    assert (by_weight[0] == len(EMOTIONS) + truth[:, len(EMOTIONS) :].argmax(axis=1)).all()


def test_each_clip_can_have_a_share_of_its_own():
    truth = np.random.default_rng(0).dirichlet(np.ones(len(LABELS)), size=9000)  # in several chunks
    shares = np.where(np.arange(9000) % 2, 0.2, 0.9)
    decisions, expected = decide(truth, shares)
    for share in (0.2, 0.9):
        label, gain = decide(truth[shares == share], share)
        assert (decisions[shares == share] == label).all() and expected[shares == share] == pytest.approx(gain)


def test_a_fold_is_decided_without_its_labels():
    labels, signals, _ = world(240, seed=3)
    folds = np.arange(240) % 4
    before = cross_validate(3 * signals, labels, folds)
    permuted_labels = labels.copy()
    permuted_labels[folds == 2] = np.random.default_rng(0).permutation(labels[folds == 2])
    after = cross_validate(3 * signals, permuted_labels, folds)
    assert np.array_equal(before.posterior[folds == 2], after.posterior[folds == 2])
    assert not np.array_equal(before.posterior[folds == 1], after.posterior[folds == 1])


def test_the_order_of_emotions_does_not_matter():
    labels, signals, _ = world(1500, seed=4)
    renamed = np.array([3, 1, 4, 0, 2, 5])  # emotion i becomes renamed[i]; neutral stays
    new_signals = np.empty_like(signals)
    new_signals[:, renamed] = signals
    index = {tuple(np.round(target, 2)): k for k, target in enumerate(TARGETS)}
    new_label = np.empty(len(LABELS), dtype=int)
    for k, target in enumerate(TARGETS):
        moved = np.empty_like(target)
        moved[renamed] = target
        new_label[k] = index[tuple(np.round(moved, 2))]
    model, other = fit(3 * signals, labels, 3.0), fit(3 * new_signals, new_label[labels], 3.0)
    assert posterior(other, 3 * new_signals)[:, new_label] == pytest.approx(posterior(model, 3 * signals), abs=1e-6)
    decisions, _ = decide(posterior(model, 3 * signals), model.share)
    new_decisions, _ = decide(posterior(other, 3 * new_signals), other.share)
    assert (new_label[decisions] == new_decisions).all()


@pytest.mark.parametrize("case", ["equal logits", "a class never present", "ten clips", "very sure"])
def test_odd_data_gives_a_proper_posterior(case):
    labels, signals, _ = world(200, seed=5)
    if case == "equal logits":
        signals = np.zeros_like(signals)
    if case == "a class never present":
        labels[labels == 5] = 0
    if case == "ten clips":
        labels, signals = np.arange(3, 13), signals[:10]
    logs = log_probabilities([signals * (1e4 if case == "very sure" else 3)], ["model"])
    folds = np.arange(len(labels)) % 3
    for result in (posterior(fit(logs, labels, 1.0), logs), cross_validate(logs, labels, folds).posterior):
        assert np.isfinite(result).all() and result.sum(axis=1) == pytest.approx(1) and (result >= 0).all()
    if case == "equal logits":  # every clip alike: as often as labels occur, pulled together
        assert fit(logs, labels, 1.0).inverse_temperatures == [0]
        assert set_probabilities(posterior(fit(logs, labels, 1e-6), logs))[0] == pytest.approx(
            np.bincount(SET_OF_LABEL[labels], minlength=16) / 200, abs=1e-3
        )
    if case == "a class never present":
        assert posterior(fit(logs, labels, 1.0), logs)[:, 5].mean() < 0.01


def test_the_slope_and_curvature_of_the_loss_are_right():
    labels, signals, _ = world(150, seed=8)
    theta = posterior_module._CENTRE + 0.3 * torch.from_numpy(
        np.random.default_rng(0).normal(size=len(posterior_module._CENTRE))
    )
    terms = posterior_module._terms(3 * signals, labels)
    at = posterior_module._loss(theta, terms, 2.0)
    for k in range(0, len(theta), 11):
        step = torch.zeros_like(theta)
        step[k] = 1e-5
        ahead, behind = (
            posterior_module._loss(theta + step, terms, 2.0),
            posterior_module._loss(theta - step, terms, 2.0),
        )
        assert (ahead.value - behind.value) / 2e-5 == pytest.approx(float(at.gradient[k]), rel=1e-5, abs=1e-4)
        assert ((ahead.gradient - behind.gradient) / 2e-5).numpy() == pytest.approx(
            at.hessian[k].numpy(), rel=1e-4, abs=1e-3
        )


# --------------------------------------------------------------------------- several models


def test_an_inverse_temperature_has_the_least_cross_entropy():
    labels, signals, _ = world(300, seed=9)
    (logs,) = log_probabilities([7 * signals], ["model"])
    loss = lambda a: -(TARGETS[labels] * np.log(softmax(a * logs))).sum(axis=1).mean()  # noqa: E731
    inverse = inverse_temperature(logs, labels)
    assert 0 < inverse < 1024 and loss(inverse) < min(loss(inverse * 0.99), loss(inverse * 1.01))
    assert inverse_temperature(4 * logs, labels) == pytest.approx(inverse / 4, rel=1e-5)


def test_a_model_that_is_uninformed_or_inverted_has_no_weight():
    labels, signals, _ = world(3000, seed=9)
    assert inverse_temperature(np.random.default_rng(0).normal(size=(3000, 6)), labels) < 0.1
    assert inverse_temperature(-3 * signals, labels) == 0
    assert inverse_temperature(np.full((3000, 6), -np.log(6)), labels) == 0


@pytest.mark.parametrize("sharper", [1e-4, 20, 1000])
def test_sharpness_of_a_model_does_not_matter(sharper):
    labels, signals, _ = world(400, seed=10)
    noisy = signals + 0.1 * np.random.default_rng(0).normal(size=signals.shape)
    noisy[::5], lifted = (
        np.nan,
        np.arange(400)[:, None] % 7,
    )  # clips that it does not know; a number added to a clip's logits
    plain, other = (
        log_probabilities([3 * signals, logits], ["one", "two"]) for logits in (3 * noisy, 3 * sharper * noisy + lifted)
    )
    assert posterior(fit(other, labels, 3.0), other) == pytest.approx(
        posterior(fit(plain, labels, 3.0), plain), abs=1e-6
    )


@pytest.mark.parametrize("sharper", [1.0, 1.13, 2.0, 50.0])
def test_new_scores_that_are_sharper_are_decoded_as_if_they_were_not(sharper):
    labels, signals, _ = world(400, seed=14, noise=0.3)
    (logs,) = log_probabilities([3 * signals], ["model"])
    model = fit(logs, labels, 3.0)
    assert excess(model, sharper * logs) == pytest.approx([sharper])
    assert posterior(model, sharper * logs) == pytest.approx(posterior(model, logs), abs=1e-9)
    assert sharper > 1 or excess(model, logs).tolist() == [1]  # to the last bit


def test_each_model_s_scores_are_divided_separately():
    labels, signals, _ = world(400, seed=14, noise=0.3)
    logs = log_probabilities([3 * signals, 2 * signals[::-1]], ["one", "two"])
    model = fit(logs, labels, 3.0)
    new = np.stack([logs[0], 1.5 * logs[1]])
    assert excess(model, new) == pytest.approx([1, 1.5])
    assert posterior(model, new) == pytest.approx(posterior(model, logs), abs=1e-9)
    new[1, 99:] = np.nan  # knows too few clips to tell
    assert excess(model, new).tolist() == [1, 1]
    assert excess(model._replace(spread=None), 9 * logs).tolist() == [1, 1]


def test_the_spread_by_hand():
    # Log-probabilities ±1 around their mean vary by 1, ±3 by 3: together √((1 + 9) / 2).
    row = np.array([1.0, -1, 1, -1, 1, -1])
    logs = np.tile([row, 3 * row], (60, 1))
    model = fit(logs, np.arange(120) % 36, 1.0)
    assert model.spread == pytest.approx([5**0.5])
    assert excess(model, np.tile(3 * row, (100, 1))) == pytest.approx([3 / 5**0.5])


@pytest.mark.parametrize("clips", [1, 99])
def test_few_clips_are_not_divided(clips):
    labels, signals, _ = world(400, seed=14, noise=0.3)
    model = fit(3 * signals, labels, 3.0)
    assert excess(model, 60 * signals[:clips]) == [1]
    one_by_one = np.vstack([posterior(model, 60 * row[None]) for row in signals[:clips]])
    assert posterior(model, 60 * signals[:clips]) == pytest.approx(one_by_one)


def test_less_sharp_scores_do_not_raise_confidence():
    labels, signals, _ = world(400, seed=14, noise=0.3)
    model = fit(3 * signals, labels, 3.0)
    for dull in (0.5 * 3 * signals, np.zeros_like(signals)):
        assert excess(model, dull) == [1]
        assert decide(posterior(model, dull), 0.8)[1].mean() < decide(posterior(model, 3 * signals), 0.8)[1].mean()
    flat = fit(np.zeros_like(signals), labels, 3.0)  # of a model that knows nothing there is no spread to compare with
    assert excess(flat, 3 * signals) == [1] and np.isfinite(posterior(flat, 3 * signals)).all()


def test_an_inverse_temperature_is_found_at_any_scale():
    labels, signals, _ = world(300, seed=9)
    inverse = inverse_temperature(signals, labels)
    for scale in (1e-12, 1e-3, 1e6, 1e30):
        assert scale * inverse_temperature(scale * signals, labels) == pytest.approx(inverse, rel=1e-6)
    singles = labels % 6
    right = inverse_temperature(
        TARGETS[singles], singles
    )  # never wrong: the surer the better, up to where rounding hides it
    assert np.isfinite(right) and softmax(right * TARGETS[singles]).max(axis=1) == pytest.approx(1)


def test_models_are_fused_by_hand():
    logs = np.log([[[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]] * 3, [[0.2, 0.4, 0.1, 0.1, 0.1, 0.1]] * 3])
    logs[1, 1] = logs[0, 2] = np.nan  # the second model does not know the second clip, the first not the third
    # .75 · .5 · log .5 + .25 · 2 · log .2, or √(.5^.75 · .2), and so on, normalised; then each model alone at its
    # temperature
    pooled = [0.5**0.375 * 0.2**0.5, 0.1**0.375 * 0.4**0.5, *[0.1**0.875] * 4]
    expected = [pooled, [0.5**0.5, *[0.1**0.5] * 5], [0.2**2, 0.4**2, *[0.1**2] * 4]]
    weights = np.array([0.75, 0.25])
    assert np.exp(pool(logs, np.array([0.5, 2.0]), weights)) == pytest.approx(
        np.array([np.divide(row, sum(row)) for row in expected])
    )
    # The second knows nothing: whether it is there changes nothing, and what it alone tells is nothing.
    fused = np.exp(pool(logs, np.array([0.5, 0.0]), np.array([1.0, 0.0])))
    assert fused[0] == pytest.approx(fused[1]) and fused[2] == pytest.approx([1 / 6] * 6)


def test_a_worthless_model_does_not_change_confidence():
    labels, signals, _ = world(1200, seed=12, noise=0.3)
    noise = np.random.default_rng(1).normal(size=signals.shape)
    noise[::2] = np.nan
    both, alone = log_probabilities([3 * signals, noise], ["one", "noise"]), log_probabilities([3 * signals], ["one"])
    with_noise, without = (
        calibration(posterior(fit(logs, labels, 3.0), logs), labels)["log_loss"] for logs in (both, alone)
    )
    assert with_noise < without + 0.01


def test_the_most_likely_of_equally_good_labels_wins():
    row = np.zeros((2, len(LABELS)))
    row[:, 12:15] = [[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]  # at weight 1 the three relations of ang+hap gain the same
    assert decide(row, 0.7, weight=1)[0].tolist() == [13, 12]


def test_clips_that_a_model_does_not_know_come_from_the_others():
    labels, signals, _ = world(600, seed=11)
    logs = log_probabilities([3 * signals, 4 * signals], ["one", "two"])
    logs[1, ::3] = np.nan
    fused = posterior(fit(logs, labels, 1.0), logs)
    assert np.isfinite(fused).all()
    alone = posterior(fit(logs[0], labels, 1.0), logs[0])
    assert fused == pytest.approx(alone, abs=0.03)  # the second says the same as the first


def test_reliability_by_hand():
    bins = reliability(np.array([0.9, 0.1, 0.8, 0.2]), np.array([1, 0, 0, 1]), bins=2)
    assert bins == [(2, pytest.approx(0.15), 0.5), (2, pytest.approx(0.85), 0.5)]
    assert calibration_error(bins) == pytest.approx(0.35)
    assert len(reliability(np.ones(3), np.ones(3))) == 3
    assert frequencies(np.array([0, 0, 7]))[[0, 1, 7]] == pytest.approx([3 / 39, 1 / 39, 2 / 39])


def test_refusals():
    labels, signals, _ = world(60, seed=6)
    with pytest.raises(ValidationError, match="found no blends among"):
        fit(signals, labels % 6, 1.0)
    with pytest.raises(ValidationError, match="2 folds, 2 of them with blends; .* at least 3"):
        cross_validate(signals, labels, np.arange(60) % 2)
    with pytest.raises(ValidationError, match="NaN or Infinity"):
        log_probabilities([np.where(signals > 1, np.inf, signals)], ["model"])
    with pytest.raises(ValidationError, match="model: 3 of 60 rows hold NaN or Infinity"):
        log_probabilities(
            [np.where((np.arange(60) < 3)[:, None] & (np.arange(6) == 2), np.nan, signals)], ["model"]
        )  # half known is not unknown
    model = fit(signals, labels, 1.0)
    for call in (
        lambda logs: fit(logs, labels, 1.0),
        lambda logs: posterior(model, logs),
        lambda logs: cross_validate(logs, labels, np.arange(60) % 3),
    ):
        for bad in (-np.inf, np.inf, np.nan):
            with pytest.raises(ValidationError, match="found NaN or Infinity; expected finite numbers"):
                call(np.where(signals == signals.max(), bad, signals))
        with pytest.raises(ValidationError, match="1 clips are NaN in every model"):
            call(np.where(np.arange(60)[:, None] == 7, np.nan, signals))
    with pytest.raises(ValidationError, match="shape \\(60, 5\\)"):
        posterior(model, signals[:, :5])
    with pytest.raises(ValidationError, match="2 models; expected 1"):
        posterior(model, np.stack([signals, signals]))
    few = np.where(np.arange(60) % 4 < 2, labels, labels % 6)
    with pytest.raises(ValidationError, match="4 folds, 2 of them with blends(.|\\n)*--decoder thresholds"):
        cross_validate(signals, few, np.arange(60) % 4)


P, LABEL = np.full((60, 36), 1 / 36), np.arange(60) % 36
SIX, FOLDS = np.random.default_rng(0).dirichlet(np.ones(6), size=60), np.arange(60) % 3
NAN = lambda array: np.where(np.arange(array.shape[1]) == 1, np.nan, array)  # noqa: E731


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: decide(NAN(P), 0.5), "posterior: 60 of 60 rows hold NaN"),
        (lambda: decide(P, 0), "share: found 0.0; expected above 0, at most 1"),
        (lambda: decide(P, np.full(59, 0.5)), "share: shape \\(59,\\)"),
        (lambda: decide(P, np.nan), "share: found nan"),
        (lambda: decide(P, 0.5, 2), "weight: found 2.0; expected at least 0, at most 1"),
        (lambda: decide(P, 0.5, np.nan), "weight: found nan"),
        (lambda: decide(P[:, :6], 0.5), "posterior: shape \\(60, 6\\); expected \\(clips, 36\\)"),
        (lambda: decide(P[0], 0.5), "posterior: shape \\(36,\\)"),
        (lambda: calibration(NAN(P), LABEL), "posterior: 60 of 60 rows"),
        (lambda: calibration(P, LABEL[:59]), "labels: shape \\(59,\\) for 60 clips"),
        (lambda: fit(SIX, LABEL, 0), "strength: found 0.0; expected above 0"),
        (lambda: fit(SIX, LABEL, np.inf), "strength: found inf"),
        (lambda: fit(SIX, LABEL[:59], 1.0), "labels: shape \\(59,\\) for 60 clips"),
        (
            lambda: fit(SIX, np.where(LABEL == 3, 36, LABEL), 1.0),
            "labels: found int64 from 0 to 36; expected integers from 0 to 35",
        ),
        (lambda: fit(SIX, LABEL - 1, 1.0), "labels: found int64 from -1 to 34"),
        (lambda: fit(SIX, LABEL / 2, 1.0), "labels: found float64"),
        (lambda: cross_validate(SIX, LABEL[:59], FOLDS), "labels: shape \\(59,\\)"),
        (lambda: cross_validate(SIX, LABEL, FOLDS[:59]), "folds: shape \\(59,\\) for 60 labels"),
        (lambda: decode_thresholds(NAN(SIX), Thresholds(0.1, 0.1)), "probabilities: 60 of 60 rows"),
        (
            lambda: decode_thresholds(SIX[:, :4], Thresholds(0.1, 0.1)),
            "probabilities: shape \\(60, 4\\); expected \\(clips, 6\\)",
        ),
        (lambda: fit_exact(SIX[:0], LABEL[:0]), "labels: shape \\(0,\\) for 0 clips; expected at least one clip"),
        (lambda: fit_grid(SIX, LABEL + 1), "labels: found int64 from 1 to 36"),
        (lambda: log_probabilities([SIX[0]], ["mine"]), "mine: shape \\(6,\\)"),
    ],
)
def test_invalid_scores_and_labels_are_refused_on_entry(call, says):
    with pytest.raises(ValidationError, match=says):
        call()


def test_a_model_comes_back_from_json_to_the_last_bit():
    labels, signals, _ = world(120, seed=7)
    model = fit(3 * signals, labels, 3.0)
    again = from_dict(json.loads(to_json(to_dict(model))))
    assert (again.strength, again.share, again.spread) == (model.strength, model.share, model.spread)
    assert list(again.parameters) == list(model.parameters)
    assert all(
        again.parameters[name].tobytes() == value.tobytes() and again.parameters[name].shape == value.shape
        for name, value in model.parameters.items()
    )
    assert np.array_equal(posterior(again, signals), posterior(model, signals))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda spec: spec["parameters"].pop("lead"), "lead: found null; expected finite numbers of shape \\(\\)"),
        (lambda spec: spec["parameters"].update(dominance=[1.0, 2.0]), "dominance: .* of shape \\(6,\\)"),
        (lambda spec: spec["parameters"]["set_weights"][3].pop(), "set_weights"),
        (lambda spec: spec["parameters"].update(equal="much"), 'equal: found "much"'),
        (lambda spec: spec["parameters"].update(equal="1.5"), 'equal: found "1.5"'),
        (lambda spec: spec["parameters"].update(equal=float("nan")), "equal: found nan"),
        (lambda spec: spec["parameters"].update(colour=1.0), "colour.* is unknown"),
        (lambda spec: spec["parameters"].pop("dominance"), "dominance: found null"),
        (lambda spec: spec["parameters"].update(pair_weights=[0.0]), "pair_weights: .* of shape \\(10, 6\\)"),
        (lambda spec: spec.update(parameters=None), "apart"),
        (lambda spec: spec.update(spread=[1.0, 2.0]), "spread: .* of shape \\(1,\\)"),
        (lambda spec: spec.update(spread=[-1.0]), "spread \\[-1.0\\]; expected .* no negative numbers"),
        (lambda spec: spec.update(strength=0), "strength 0, .* expected a strength above 0, a share in \\(0, 1\\]"),
        (lambda spec: spec.update(share_of_blends=1.5), "share_of_blends 1.5"),
        (lambda spec: spec.clear(), "strength: found null"),
        (lambda spec: spec.update(inverse_temperatures=[]), "inverse_temperatures: .* of shape \\(1,\\)"),
        (
            lambda spec: spec.update(inverse_temperatures=[-0.5]),
            "inverse_temperatures \\[-0.5\\], weights \\[1.0\\], spread .*; expected .* no negative numbers",
        ),
        (lambda spec: spec.update(weights=[0.5, 0.5]), "weights: .* of shape \\(1,\\)"),
        (lambda spec: spec.pop("weights"), "weights: found null"),
    ],
)
def test_a_damaged_model_is_refused_with_what_is_wrong(damage, says):
    labels, signals, _ = world(120, seed=7)
    spec = json.loads(to_json(to_dict(fit(3 * signals, labels, 30.0))))
    damage(spec)
    with pytest.raises(ValidationError, match=f"model.json: (.|\n)*{says}"):
        from_dict(spec, "model.json")


def test_anything_but_an_object_is_refused():
    for spec in (None, [], "structured", 3):
        with pytest.raises(ValidationError, match="strength"):
            from_dict(spec)


def test_the_figures_claimed_for_real_logits_are_reached(shared):
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_scores

    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    scores = {
        run: read_scores(shared / "blemore-real" / "hicmae" / f"{run}_train_oof_logits.csv", dataset.ids).X
        for run in ("e100_ce", "e100_kl_div", "e50_ce", "e50_kl_div")
    }
    for runs, least in ((["e100_ce"], 0.200), (list(scores), 0.212)):
        result = cross_validate(log_probabilities([scores[run] for run in runs], runs), dataset.labels, dataset.folds)
        assert count(decide_out_of_fold(result, dataset.folds), dataset.labels).score >= least


def test_each_of_many_clips_is_decided_with_its_own_share():
    # ang 0.6: expected 0.5 · 0.6; ang+hap 50/50 0.4: 0.5 · 0.4 + 0.5 · 0.4 / share, which is 0.6 and, in the last clip,
    # 0.4.
    posterior = np.zeros((posterior_module.CHUNK + 2, 36))
    posterior[:, 0], posterior[:, 13] = 0.6, 0.4
    labels, expected = decide(posterior, np.append(np.full(posterior_module.CHUNK + 1, 0.5), 1))
    assert (labels == 13).all() and expected[:-1] == pytest.approx(0.6) and expected[-1] == pytest.approx(0.4)
