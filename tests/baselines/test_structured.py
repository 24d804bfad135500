"""Structured decoding: against a world whose posterior is known, and on little or odd data."""

import json

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore.io import to_json
from blemore.labels import EMOTIONS, LABELS
from blemore_baselines.dataset import TARGETS
from blemore_baselines.decode import count, decode_thresholds, fit_grid, softmax
from blemore_baselines.structured import cross_validate, decide, decide_out_of_fold, fit, from_dict, log_probabilities, posterior, to_dict


def world(n, seed, noise=0.15):
    """Clips whose scores are their soft label plus noise: labels (N,), logits (N, 6), and the true posterior (N, 36)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LABELS), size=n)
    seen = TARGETS[labels] + noise * rng.normal(size=(n, len(EMOTIONS)))
    distances = ((seen[:, None, :] - TARGETS[None]) ** 2).sum(axis=2)
    return labels, seen, softmax(-distances / (2 * noise**2))


def expected_score(truth, decided, share):
    """What decided labels are expected to score under the true posterior."""
    gained, _ = decide(np.eye(len(LABELS))[decided], share)  # the decision itself, whatever it is worth
    assert (gained == decided).all()
    sets = {label: [k for k, other in enumerate(LABELS) if other.emotions == LABELS[label].emotions] for label in range(len(LABELS))}
    rows = np.arange(len(decided))
    presence = np.array([truth[row, sets[label]].sum() for row, label in zip(rows, decided)])
    salience = np.where(decided >= len(EMOTIONS), truth[rows, decided], 0)
    return float(presence.mean() / 2 + salience.mean() / share / 2)


def test_near_the_best_that_is_possible_where_thresholds_are_not():
    labels, seen, truth = world(12_000, seed=1)
    train, test = slice(0, 6000), slice(6000, None)
    logits = 4 * seen  # a model that is sure of itself
    logs, = log_probabilities([logits], ["model"])
    model = fit(logs[train], labels[train], strength=0.1)
    best = expected_score(truth[test], decide(truth[test], model.share)[0], model.share)
    ours = expected_score(truth[test], decide(posterior(model, logs[test]), model.share)[0], model.share)
    probabilities = softmax(logits)
    thresholds, _ = fit_grid(probabilities[train], labels[train])
    theirs = expected_score(truth[test], decode_thresholds(probabilities[test], thresholds), model.share)
    assert best >= ours > theirs
    assert best - theirs > 0.01
    assert best - ours < 0.01


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
    labels, seen, truth = world(4000, seed=2, noise=0.3)
    share = float((labels >= len(EMOTIONS)).mean())
    by_weight = {weight: count(decide(truth, share, weight)[0], labels) for weight in (0, 0.5, 1)}
    assert by_weight[1].acc_presence >= by_weight[0.5].acc_presence >= by_weight[0].acc_presence
    assert by_weight[0].acc_salience >= by_weight[0.5].acc_salience >= by_weight[1].acc_salience
    assert by_weight[0.5].score >= max(by_weight[0].score, by_weight[1].score)


def test_a_fold_is_judged_without_its_labels():
    labels, seen, _ = world(240, seed=3)
    folds = np.arange(240) % 4
    before = cross_validate(3 * seen, labels, folds)
    changed = labels.copy()
    changed[folds == 2] = np.random.default_rng(0).permutation(labels[folds == 2])
    after = cross_validate(3 * seen, changed, folds)
    assert np.array_equal(before.posterior[folds == 2], after.posterior[folds == 2])
    assert not np.array_equal(before.posterior[folds == 1], after.posterior[folds == 1])


def test_the_order_of_emotions_carries_nothing():
    labels, seen, _ = world(1500, seed=4)
    renamed = np.array([3, 1, 4, 0, 2, 5])  # emotion i becomes renamed[i]; neutral stays
    new_seen = np.empty_like(seen)
    new_seen[:, renamed] = seen
    index = {tuple(np.round(target, 2)): k for k, target in enumerate(TARGETS)}
    new_label = np.empty(len(LABELS), dtype=int)
    for k, target in enumerate(TARGETS):
        moved = np.empty_like(target)
        moved[renamed] = target
        new_label[k] = index[tuple(np.round(moved, 2))]
    model, other = fit(3 * seen, labels, 3.0), fit(3 * new_seen, new_label[labels], 3.0)
    assert posterior(other, 3 * new_seen)[:, new_label] == pytest.approx(posterior(model, 3 * seen), abs=1e-3)
    decided, _ = decide(posterior(model, 3 * seen), model.share)
    decided_anew, _ = decide(posterior(other, 3 * new_seen), other.share)
    assert (new_label[decided] == decided_anew).mean() > 0.999


@pytest.mark.parametrize("case", ["equal logits", "a class never present", "ten clips", "very sure"])
def test_odd_data_gives_a_proper_posterior(case):
    labels, seen, _ = world(200, seed=5)
    if case == "equal logits":
        seen = np.zeros_like(seen)
    if case == "a class never present":
        labels[labels == 5] = 0
    if case == "ten clips":
        labels, seen = np.arange(3, 13), seen[:10]
    logs = log_probabilities([seen * (1e4 if case == "very sure" else 3)], ["model"])
    found = posterior(fit(logs, labels, 1.0), logs)
    assert np.isfinite(found).all() and found.sum(axis=1) == pytest.approx(1) and (found >= 0).all()


def test_refusals():
    labels, seen, _ = world(60, seed=6)
    with pytest.raises(ValidationError, match="without a blend"):
        fit(seen, labels % 6, 1.0)
    with pytest.raises(ValidationError, match="2 folds; expected at least 3"):
        cross_validate(seen, labels, np.arange(60) % 2)
    with pytest.raises(ValidationError, match="NaN or Infinity"):
        log_probabilities([np.where(seen > 1, np.inf, seen)], ["model"])


def test_a_model_comes_back_from_json_to_the_last_bit():
    labels, seen, _ = world(120, seed=7)
    model = fit(3 * seen, labels, 3.0)
    again = from_dict(json.loads(to_json(to_dict(model))))
    assert (again.strength, again.share) == (model.strength, model.share)
    assert list(again.parameters) == list(model.parameters)
    assert all(again.parameters[name].tobytes() == value.tobytes() and again.parameters[name].shape == value.shape for name, value in model.parameters.items())
    assert np.array_equal(posterior(again, seen), posterior(model, seen))


@pytest.mark.parametrize(("damage", "says"), [
    (lambda told: told["parameters"].pop("lead"), "lead: found null; expected finite numbers of shape \\(\\)"),
    (lambda told: told["parameters"].update(dominance=[1.0, 2.0]), "dominance: .* of shape \\(6,\\)"),
    (lambda told: told["parameters"]["set_weights"][3].pop(), "set_weights"),
    (lambda told: told["parameters"].update(equal="much"), "equal: found \"much\""),
    (lambda told: told["parameters"].update(equal="1.5"), "equal: found \"1.5\""),
    (lambda told: told["parameters"].update(equal=float("nan")), "equal: found nan"),
    (lambda told: told["parameters"].update(colour=1.0), "colour.* is unknown"),
    (lambda told: told.update(parameters=None), "pair_weights"),
    (lambda told: told.update(strength=0), "strength 0, .* expected above 0, in \\(0, 1\\]"),
    (lambda told: told.update(share_of_blends=1.5), "share_of_blends 1.5"),
    (lambda told: told.clear(), "strength: found null"),
])
def test_a_damaged_model_is_refused_with_what_is_wrong(damage, says):
    labels, seen, _ = world(120, seed=7)
    told = json.loads(to_json(to_dict(fit(3 * seen, labels, 30.0))))
    damage(told)
    with pytest.raises(ValidationError, match=f"model.json: (.|\n)*{says}"):
        from_dict(told, "model.json")


def test_what_is_no_object_at_all_is_refused():
    for told in (None, [], "structured", 3):
        with pytest.raises(ValidationError, match="strength"):
            from_dict(told)


def test_on_the_real_logits_it_beats_thresholds(shared, long):
    if not long:
        pytest.skip("a minute of fitting: with --long")
    from blemore_baselines.dataset import read_dataset
    from blemore_baselines.features import read_scores

    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    scores = {run: read_scores(shared / "blemore-real" / "hicmae" / f"{run}_train_oof_logits.csv", dataset.ids).X
              for run in ("e100_ce", "e100_kl_div", "e50_ce", "e50_kl_div")}
    for runs, least in ((["e100_ce"], 0.200), (list(scores), 0.212)):
        result = cross_validate(log_probabilities([scores[run] for run in runs], runs), dataset.labels, dataset.folds)
        assert count(decide_out_of_fold(result, dataset.folds), dataset.labels).score >= least
