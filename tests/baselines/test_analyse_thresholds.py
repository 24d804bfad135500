"""The study of thresholds: exact optima against plain decoding, and planted shifts."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from blemore.errors import ValidationError
from blemore.labels import EMOTIONS
from blemore_baselines.cli import main
from blemore_baselines.dataset import TARGETS, Dataset, read_dataset
from blemore_baselines.decoding.accounts import count
from blemore_baselines.decoding.scores import to_probabilities
from blemore_baselines.decoding.thresholds import decode_thresholds, fit_exact, fit_grid, surface
from blemore_baselines.features import read_scores, scores_csv
from blemore_baselines.studies.thresholds import thresholds
from blemore_baselines.studies.thresholds_optima import RANGES, optima
from blemore_baselines.studies.thresholds_transfer import WAYS, transfer

METRICS = {"presence": "acc_presence", "salience": "acc_salience", "score": "score"}


def cases(seed, ties=True):
    """Random clips with at least one blend; their probabilities are multiples of 1/20, so many are equal."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    labels = np.append(rng.integers(0, 36, n), rng.integers(6, 36))
    probabilities = rng.dirichlet(np.full(6, 0.5), n + 1)
    return np.round(probabilities * 20) / 20 if ties else probabilities, labels


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(list(RANGES.values())))
def test_optima_are_the_best_in_their_range(seed, ties, bounds):
    probabilities, labels = cases(seed, ties)
    best = optima(probabilities, labels, *bounds)
    grid = np.concatenate([np.linspace(*bounds, 21), np.clip(probabilities.ravel()[:30], *bounds)])
    everywhere = surface(probabilities, labels, grid, grid)
    for name, optimum in best.items():
        assert bounds[0] <= min(optimum.thresholds) and max(optimum.thresholds) <= bounds[1]
        at_once = getattr(count(decode_thresholds(probabilities, optimum.thresholds), labels), METRICS[name])
        assert at_once == pytest.approx(optimum.score, abs=1e-12)
        assert getattr(everywhere, name).max() <= optimum.score + 1e-12


@given(st.integers(0, 10_000), st.booleans())
def test_the_best_score_of_the_full_range_is_that_of_the_exact_search(seed, ties):
    probabilities, labels = cases(seed, ties)
    best, exact = optima(probabilities, labels, 0, 1)["score"].score, fit_exact(probabilities, labels)
    if exact.thresholds.beta >= 0:
        assert best == pytest.approx(exact.score, abs=1e-12)
    else:  # below 0 even equal probabilities are not taken for 50/50
        assert best <= exact.score


def made(n=450, folds=3, scale=(1, 1, 1), seed=1):
    """Clips whose second probability is larger for blends than for singles. A scale per fold multiplies it, and
    with it the best α.
    """
    rng = np.random.default_rng(seed)
    labels, fold = rng.permutation(np.arange(n) % 36), np.arange(n) % folds
    second = (
        np.clip(np.where(labels >= len(EMOTIONS), 0.36, 0.24) + 0.08 * rng.normal(size=n), 0.01, 0.48)
        * np.array(scale)[fold]
    )
    order = np.argsort(-TARGETS[labels] - 0.25 * rng.random((n, len(EMOTIONS))), axis=1)
    probabilities = np.full((n, len(EMOTIONS)), 0.001)
    probabilities[np.arange(n), order[:, 1]] = second
    probabilities[np.arange(n), order[:, 0]] = 1 - 0.004 - second
    dataset = Dataset([f"clip{k:03}" for k in range(n)], labels, fold, [f"A{k % (3 * folds)}" for k in range(n)])
    return dataset, probabilities


def test_folds_that_are_the_same_lose_nothing():
    dataset, probabilities = made(300)
    labels, folds = np.tile(dataset.labels, 3), np.repeat(np.arange(3), 300)
    for result in transfer(np.tile(probabilities, (3, 1)), labels, folds).values():
        assert result.losses() == {"presence": 0, "salience": 0, "score": 0}


def test_transferred_thresholds_come_only_from_other_folds():
    dataset, probabilities = made(scale=(0.7, 1, 0.4))
    transfers = transfer(probabilities, dataset.labels, dataset.folds)
    for fold in range(3):
        inside, others = dataset.folds == fold, dataset.folds != fold
        assert transfers["grid"].own_thresholds[fold] == fit_grid(probabilities[inside], dataset.labels[inside])[0]
        assert transfers["grid"].thresholds[fold] == fit_grid(probabilities[others], dataset.labels[others])[0]
        assert (
            transfers["exact"].thresholds[fold] == fit_exact(probabilities[others], dataset.labels[others]).thresholds
        )
        assert transfers["best fold"].thresholds[fold] in [
            transfers["grid"].own_thresholds[other] for other in range(3) if other != fold
        ]


@pytest.mark.long
def test_a_shift_between_folds_is_found():
    study = thresholds(*made(scale=(0.4, 0.7, 1)), 0, "signature", deals=40)
    for way in ("grid", "exact"):
        mismatch = study.values["mismatch"][way]["score"]
        assert mismatch["low"] > 0 and mismatch["beyond"] > 0.02 and mismatch["p_deals"] < 0.05
    assert "The best thresholds differ between folds" in study.findings[2]


@pytest.mark.long
def test_similar_folds_lose_as_much_as_random_deals():
    study = thresholds(*made(), 0, "signature", deals=40)
    mismatch = study.values["mismatch"]["exact"]["score"]
    assert (
        mismatch["value"] > 0
        and mismatch["by_chance"] > 0
        and abs(mismatch["beyond"]) < 0.015
        and mismatch["p_deals"] > 0.05
    )
    assert "does not show that the best thresholds differ" in study.findings[2]


def test_the_parts_sum_to_the_drop_and_the_rest_to_zero():
    study = thresholds(*made(scale=(0.7, 1, 0.4)), 0, "signature", deals=2)
    for by_fold in study.values["folds"].values():
        for row in by_fold.values():
            assert row["drop"] == pytest.approx(row["mismatch"] + row["rest"])
            assert row["drop"] == pytest.approx(row["validation"] - row["transferred"])
        assert np.mean([row["rest"] for row in by_fold.values()]) == pytest.approx(0)


def test_the_real_folds_have_the_thresholds_that_are_known(shared):
    real = shared / "blemore-real"
    dataset = read_dataset(real / "train_metadata.csv")
    grid = transfer(
        to_probabilities(read_scores(real / "hicmae" / "e100_ce_train_oof_logits.csv", dataset.ids).X),
        dataset.labels,
        dataset.folds,
    )["grid"]
    expected = [(0.192105, 0.144737), (0.05, 0.192105), (0.097368, 0.144737), (0.097368, 0.618421), (0.097368, 0.05)]
    assert [grid.own_thresholds[fold] for fold in range(5)] == [pytest.approx(pair, abs=1e-6) for pair in expected]


@pytest.mark.parametrize("names", [["--scores"], ["--features"], [], ["--scores", "--features"]])
def test_the_command_takes_scores_or_features(names, tiny, tmp_path, one_thread):
    scores = tmp_path / "oof.csv"
    scores.write_text(scores_csv(tiny.dataset.ids, np.random.default_rng(0).normal(size=(36, 6))))
    options = {"--scores": str(scores), "--features": str(tiny.sound)}
    result = CliRunner().invoke(
        main,
        [
            "analyse",
            "thresholds",
            "--metadata",
            str(tiny.train),
            "--out",
            str(tmp_path / "out"),
            *(part for name in names for part in (name, options[name])),
        ],
    )
    if len(names) != 1:
        assert result.exit_code == 2 and "either --scores or --features" in result.output
        return
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    assert set(content["mismatch"]) == set(WAYS) and all(text in result.output for text in content["findings"])
    for name in ("optima", "folds", "mismatch"):
        assert (tmp_path / "out" / f"thresholds_{name}.csv").exists() and (
            tmp_path / "out" / f"thresholds_{name}.tex"
        ).exists()


def test_two_folds_are_too_few():
    dataset, probabilities = made(60)
    with pytest.raises(ValidationError, match="found 2; expected at least 3"):
        thresholds(dataset._replace(folds=dataset.folds % 2), probabilities, 0, "")
