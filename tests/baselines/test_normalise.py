"""Normalising per actor: the arithmetic by hand, what must not change, and accounts and artefacts."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from blemore import trivial
from blemore.errors import ValidationError
from blemore.evaluate import check
from blemore_baselines import predict
from blemore_baselines.cli import main
from blemore_baselines.dataset import TARGETS, Dataset, read_dataset
from blemore_baselines.decoding import transductive
from blemore_baselines.decoding.accounts import count, scored
from blemore_baselines.decoding.decoders import DECODERS
from blemore_baselines.decoding.normalise import (
    MEAN_PRIOR,
    SPREAD_PRIOR,
    Reference,
    fit_reference,
    fit_references,
    normalise,
    normalise_models,
)
from blemore_baselines.decoding.scores import Models, log_softmax, read_models, softmax
from blemore_baselines.features import Features, scores_csv
from blemore_baselines.models.recipes import NORMALISATIONS
from blemore_baselines.results.text import decoder_to_text
from blemore_baselines.train import train

BOTH = NORMALISATIONS[1:]

# ------------------------------------------------------------------------------------------- by hand


def test_a_case_by_hand():
    """Two actors and one column. μ = 4; deviations −1, 1 and −2, 0, 2 over (2 − 1) + (3 − 1) degrees of freedom:
    σ² = (2 + 8) / 3.

    a: 0 2    → m = 1, s² = 2, n − 1 = 1    b: 4 6 8 → m = 6, s² = 4, n − 1 = 2
    """
    rows, actors = np.array([[0.0], [4], [2], [6], [8]]), ["a", "b", "a", "b", "b"]
    reference = fit_reference(rows, actors)
    assert reference.mean == 4 and reference.spread == pytest.approx(np.sqrt(10 / 3))
    k, of_spread = MEAN_PRIOR, SPREAD_PRIOR
    a, b = (k * 4 + 1 * 1) / (k + 1), (k * 4 + 2 * 6) / (k + 2)
    centred = normalise(rows, actors, "centre", reference)
    assert centred[:, 0] == pytest.approx([4 - a, 8 - b, 6 - a, 10 - b, 12 - b])
    of_a = np.sqrt(10 / 3 / ((of_spread * 10 / 3 + 1 * 2) / (of_spread + 1)))
    of_b = np.sqrt(10 / 3 / ((of_spread * 10 / 3 + 2 * 4) / (of_spread + 2)))
    standardised = normalise(rows, actors, "standardise", reference)
    expected = [4 + (0 - a) * of_a, 4 + (4 - b) * of_b, 4 + (2 - a) * of_a, 4 + (6 - b) * of_b, 4 + (8 - b) * of_b]
    assert standardised[:, 0] == pytest.approx(expected)
    assert of_a > 1 > of_b, "who varies less than others is spread out, who varies more is drawn together"


def test_many_clips_remove_most_of_the_actor():
    rng = np.random.default_rng(0)
    actors = np.repeat(["a", "b"], 5000)
    rows = (
        rng.normal(size=(10000, 6)) * np.where(actors == "a", 1, 4)[:, None] + np.where(actors == "a", -3, 9)[:, None]
    )
    reference = fit_reference(rows, actors)
    normalised = normalise(rows, actors, "standardise", reference)
    for name in "ab":
        assert normalised[actors == name].mean(axis=0) == pytest.approx(reference.mean, abs=0.02)
        assert normalised[actors == name].std(axis=0) == pytest.approx(reference.spread, rel=0.01)


# ------------------------------------------------------------------------- what it must leave alone

ROWS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(12, 3)) * [1, 5, 0.1] + 2)
ACTORS = st.lists(st.sampled_from("abcd"), min_size=12, max_size=12)


@given(ROWS, ACTORS, st.sampled_from(BOTH), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows, actors, method, random):
    reference, order = fit_reference(rows, actors), random.sample(range(12), 12)
    new_actors = [actors[k] for k in order]
    again = fit_reference(rows[order], new_actors)
    assert np.allclose(again.mean, reference.mean) and np.allclose(again.spread, reference.spread)
    assert np.allclose(
        normalise(rows[order], new_actors, method, reference), normalise(rows, actors, method, reference)[order]
    )


@given(ROWS, ACTORS, st.sampled_from(BOTH), st.floats(0.01, 100), st.floats(-10, 10))
def test_a_change_of_unit_changes_only_the_unit(rows, actors, method, factor, shift):
    def normalised(values):
        return normalise(values, actors, method, fit_reference(values, actors))

    assert np.allclose(normalised(rows * factor + shift), normalised(rows) * factor + shift, rtol=1e-6, atol=1e-6)


@given(ROWS, ACTORS, st.sampled_from(BOTH))
def test_an_actor_s_rows_depend_on_no_other_actor_s(rows, actors, method):
    reference, names = Reference(np.zeros(3), np.ones(3)), np.array(actors)
    everyone = normalise(rows, actors, method, reference)
    for name in set(actors):
        alone = normalise(rows[names == name], names[names == name], method, reference)
        assert np.array_equal(everyone[names == name], alone)


@pytest.mark.parametrize("method", NORMALISATIONS)
def test_a_single_clip_stays_as_it_is(method):
    rows = np.array([[3.0, -1.0], [100.0, 7.0]])
    assert np.allclose(normalise(rows, ["a", "b"], method, Reference(np.ones(2), np.ones(2))), rows)
    # One clip of three rows is one clip still, whatever they are.
    three = np.array([[3.0], [4.0], [9.0]])
    one_clip = normalise(three, ["a"] * 3, method, Reference(np.ones(1), np.ones(1)), np.array([5, 5, 5]))
    assert np.allclose(one_clip, three)


def test_a_column_that_does_not_vary_stays_finite():
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 5.0], [1.0, 5.0]], dtype=np.float32)
    reference = fit_reference(rows, ["a", "a", "b", "b"])
    normalised = normalise(rows, ["a", "a", "b", "b"], "standardise", reference)
    assert normalised.dtype == np.float32 and np.isfinite(normalised).all() and (normalised[:, 0] == 1).all()
    assert rows[2, 1] == 5, "what comes in stays as it is"


def test_no_method_and_other_sizes_are_refused():
    reference = Reference(np.zeros(1), np.ones(1))
    for rows, actors, method in ((np.zeros((2, 1)), "ab", "center"), (np.zeros((2, 1)), "a", "centre")):
        with pytest.raises(ValueError, match="expected one of"):
            normalise(rows, list(actors), method, reference)
    assert (normalise(np.ones((2, 1)), ["a", "a"], "none", reference) == 1).all()


def test_clips_that_a_model_lacks_stay_unknown():
    rng = np.random.default_rng(1)
    logs = log_softmax(rng.normal(size=(2, 8, 6)))
    logs[1, :2] = np.nan
    actors = list("aabbccdd")
    models = Models([f"c{k}" for k in range(8)], ["one", "two"], np.exp(logs), logs)
    normalised = normalise_models(models, actors, "standardise", fit_references(models, actors))
    assert normalised.missing == models.missing == [[], ["c0", "c1"]]
    assert np.allclose(normalised.probabilities[0].sum(axis=1), 1)
    alone = models._replace(ids=models.ids[2:], probabilities=models.probabilities[1:, 2:], logs=models.logs[1:, 2:])
    again = normalise_models(alone, actors[2:], "standardise", fit_references(alone, actors[2:]))
    assert np.allclose(normalised.logs[1, 2:], again.logs[0])


# --------------------------------------------------------------------------------- scores: decode


def actors_apart(n=720, actors=12, folds=4, seed=0, shift=1.5):
    """A dataset, and a model that is right except for an offset per actor in all logits."""
    rng = np.random.default_rng(seed)
    labels, actor = rng.integers(0, 36, n), np.arange(n) % actors
    dataset = Dataset([f"clip{k}" for k in range(n)], labels, actor % folds, [f"A{k}" for k in actor])
    logits = 4 * TARGETS[labels] + rng.normal(size=(n, 6)) + shift * rng.normal(size=(actors, 6))[actor]
    return dataset, Models(dataset.ids, ["one.csv"], softmax(logits)[None], log_softmax(logits)[None])


@pytest.mark.long
@pytest.mark.parametrize("name", DECODERS)
def test_actor_offsets_are_removed(name):
    dataset, models = actors_apart()
    without = transductive.fit(name, dataset, models, "none")
    assert "normalise" not in without.figures and len(without.apply(models).labels) == len(dataset.ids)
    decoded = transductive.fit(name, dataset, models, "centre")
    accounts = decoded.figures["normalise"]
    assert accounts["inductive"]["score"] == scored(dataset, without.nested).counts.score
    assert accounts["transductive"]["score"] == scored(dataset, decoded.nested).counts.score
    assert accounts["transductive"]["score"] > accounts["inductive"]["score"] + 0.1
    assert accounts["transductive"]["signature"].endswith("|normalise:centre")
    assert "normalise" not in accounts["inductive"]["signature"]
    text = decoder_to_text(name, decoded.figures)
    assert "transductive: scores normalised per actor (centre)" in text
    assert "Difference from each clip by itself" in text
    # New clips of new actors, by the reference of the training set.
    new, unseen = actors_apart(seed=1)
    answers = decoded.apply(unseen, new.actors)
    assert count(answers.labels, new.labels).score > count(without.apply(unseen).labels, new.labels).score + 0.1
    with pytest.raises(ValueError, match="expected the actor of each clip"):
        decoded.apply(unseen, None)


@pytest.mark.parametrize("method", BOTH)
def test_uninformative_labels_give_no_gain(method):
    """Labels are shuffled within actors: normalising must not recover any of them."""
    dataset, models = actors_apart(n=720)
    rng, labels = np.random.default_rng(2), dataset.labels.copy()
    for actor in set(dataset.actors):
        inside = np.flatnonzero(np.array(dataset.actors) == actor)
        labels[inside] = labels[rng.permutation(inside)]
    shuffled = dataset._replace(labels=labels)
    nested = transductive.fit("structured", shuffled, models, method).figures["nested"]
    report = scored(shuffled, labels)
    constant = max(
        figures.score for figures in trivial.evaluate(trivial.fit(report.labels.values()), report.labels).values()
    )
    assert nested["ci"]["intervals"]["score"][0] <= constant


def tables(folder, **parts):
    """Score tables of the partitions, (dataset, models) each, as arguments of `decode`."""
    paths = {}
    for name, (dataset, models) in parts.items():
        paths[name] = folder / f"{name}.csv"
        paths[name].write_text(scores_csv(dataset.ids, models.logs[0]))
    return paths


@pytest.fixture
def decoding(tiny, tmp_path):
    """The command line of a `decode` of the tiny dataset, without `--normalise`."""
    rng = np.random.default_rng(3)
    for name, ids in (("oof", tiny.dataset.ids), ("test", tiny.test_ids)):
        (tmp_path / f"{name}.csv").write_text(scores_csv(ids, rng.normal(size=(len(ids), 6))))
    (tmp_path / "groups.csv").write_text("filename,actor\n" + "".join(f"{c}.mov,{c[-1]}\n" for c in tiny.test_ids))
    train_part = ["--metadata", tiny.train, "--scores", tmp_path / "oof.csv"]
    test_part = ["--test-scores", tmp_path / "test.csv", "--out", tmp_path / "s.zip"]
    return SimpleNamespace(train=train_part, test=test_part, groups=tmp_path / "groups.csv", tiny=tiny)


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def test_decode_with_groups_and_nested_predictions(decoding, tmp_path):
    with_groups = ["--normalise", "standardise", "--groups", decoding.groups]
    oof = tmp_path / "oof.zip"
    call("decode", *decoding.train, *decoding.test, *with_groups, "--oof-out", oof, "--report", tmp_path / "r.json")
    check(tmp_path / "s.zip", decoding.tiny.test_ids)
    check(oof, decoding.tiny.dataset.ids)
    figures = json.loads((tmp_path / "r.json").read_text())
    assert figures["normalise"]["method"] == "standardise" and len(figures["test"]) == 1
    # The nested predictions score what the figures say.
    from blemore.cli import main as blemore_score

    result = CliRunner().invoke(blemore_score, [str(oof), str(decoding.tiny.train), "--json"])
    assert json.loads(result.stdout)["score"] == figures["normalise"]["transductive"]["score"]


def test_decode_without_test_clips_needs_no_groups(decoding):
    text = call("decode", *decoding.train, "--normalise", "centre").stdout
    assert "transductive: scores normalised per actor (centre)" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (lambda d: [*d.test, "--normalise", "centre"], "--groups and --test-scores go together"),
        (lambda d: [*d.test, "--groups", d.groups], "--groups goes with --normalise"),
        (lambda d: ["--normalise", "centre", "--groups", d.groups], "--groups and --test-scores go together"),
    ],
)
def test_decode_names_options_that_go_together(decoding, arguments, message):
    assert message in call("decode", *decoding.train, *arguments(decoding), code=2).stderr


def test_groups_without_a_clip_are_refused(decoding, tmp_path):
    lines = decoding.groups.read_text().splitlines()
    decoding.groups.write_text("\n".join(lines[:-2]) + "\n")
    result = call(
        "decode", *decoding.train, *decoding.test, "--normalise", "centre", "--groups", decoding.groups, code=1
    )
    assert ", ".join(decoding.tiny.test_ids[-2:]) in result.stderr and not (tmp_path / "s.zip").exists()


# ------------------------------------------------------------------- features: train and predict


def features_apart(dataset, seed=0, shift=2.0):
    """Eight columns of soft labels and noise, with an offset per actor."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, 8))
    index = np.unique(dataset.actors, return_inverse=True)[1]
    X = dataset.targets @ mixing + 0.3 * rng.normal(size=(len(index), 8))
    X = (X + shift * rng.normal(size=(index.max() + 1, 8))[index]).astype(np.float32)
    return Features(dataset.ids, X, np.arange(len(index)), {"dim": 8})


def fitted(dataset, features, out, method):
    options = {"method": "aggregate", "head": "linear", "preset": "fast", "seed": 0}
    return train(dataset, [features], ["features.csv"], out=out, normalise=method, **options)


def test_a_model_of_normalised_features_meets_new_actors(tmp_path):
    dataset, _ = actors_apart()
    new, _ = actors_apart(seed=1)
    paths = tmp_path / "new.csv"
    test = features_apart(new, seed=1)
    header = ",".join(["filename", *(f"x{k}" for k in range(8))])
    rows = [",".join([clip, *map(repr, map(float, row))]) for clip, row in zip(new.ids, test.X)]
    paths.write_text("\n".join([header, *rows]) + "\n")
    scores = {}
    for method in NORMALISATIONS:
        metrics = fitted(dataset, features_apart(dataset), tmp_path / method, method)
        assert metrics.get("normalise", {"method": "none"})["method"] == method
        actors = None if method == "none" else new.actors
        _, labels = predict.predict(tmp_path / method, [paths], new.ids, actors)
        scores[method] = metrics["nested"]["score"], count(labels, new.labels).score
    for method in BOTH:
        assert scores[method][0] > scores["none"][0] + 0.1, scores
        assert scores[method][1] > scores["none"][1] + 0.1, scores
        assert scores[method][1] == pytest.approx(scores[method][0], abs=0.08), scores


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run folder with normalised features, and a table of features of eight new clips."""
    folder = tmp_path_factory.mktemp("normalised")
    dataset, _ = actors_apart(n=144)
    fitted(dataset, features_apart(dataset), folder / "run", "standardise")
    ids = [f"test_{k:04}" for k in range(1, 9)]
    rng = np.random.default_rng(5)
    lines = [",".join([clip, *map(repr, rng.normal(size=8).tolist())]) for clip in ids]
    (folder / "test.csv").write_text("\n".join([",".join(["filename", *(f"x{k}" for k in range(8))]), *lines]) + "\n")
    (folder / "ids.csv").write_text("\n".join(["filename", *ids]) + "\n")
    (folder / "groups.csv").write_text("filename,actor\n" + "".join(f"{clip},{k % 2}\n" for k, clip in enumerate(ids)))
    return SimpleNamespace(
        run=folder / "run",
        ids=ids,
        features=folder / "test.csv",
        table=folder / "ids.csv",
        groups=folder / "groups.csv",
    )


def predicting(model, *arguments, out, code=0):
    common = ["--model", model.run, "--features", model.features, "--ids", model.table, "--out", out]
    return call("predict", *common, *arguments, code=code)


def test_an_artefact_needs_groups_or_the_option_without_them(model, tmp_path):
    message = predicting(model, out=tmp_path / "s.zip", code=1).stderr
    assert "trained with --normalise standardise" in message and "--without-groups" in message
    assert not (tmp_path / "s.zip").exists()
    predicting(model, "--groups", model.groups, out=tmp_path / "with.zip")
    predicting(model, "--without-groups", out=tmp_path / "without.zip")
    with_groups, without = (
        np.array([[float(v) for v in list(row.values())[1:]] for row in csv.DictReader(open(tmp_path / name))])
        for name in ("with.logits.csv", "without.logits.csv")
    )
    assert np.abs(with_groups - without).max() > 0.01
    alone = predict.predict(model.run, [model.features], model.ids, list(range(8)))[0]
    assert np.allclose(alone, without), "each clip is its own actor, and stays as it is"
    message = predicting(model, "--groups", model.groups, "--without-groups", out=tmp_path / "s.zip", code=2).stderr
    assert "exclude each other" in message


def test_a_plain_artefact_does_not_need_groups(tiny, quick, tmp_path):
    train(
        tiny.dataset,
        [tiny.read(tiny.sound)],
        [tiny.sound],
        method="aggregate",
        head="linear",
        preset="published",
        seed=0,
        out=tmp_path / "run",
    )
    assert "normalise" not in json.loads((tmp_path / "run" / "model.json").read_text())
    with pytest.raises(ValidationError, match="without --normalise"):
        predict.predict(tmp_path / "run", [tiny.sound_test], tiny.test_ids, tiny.test_ids)


@pytest.mark.parametrize("change", [{"normalise": "center"}, {"normalise": None}, "without"])
def test_a_damaged_artefact_is_refused(model, tmp_path, change):
    shutil.copytree(model.run, tmp_path / "run")
    spec = json.loads((model.run / "model.json").read_text())
    if change == "without":
        del spec["normalise"]  # its tensors are still there
    else:
        spec |= change
    (tmp_path / "run" / "model.json").write_text(json.dumps(spec))
    with pytest.raises(ValidationError, match="cannot be read|was trained"):
        predict.predict(tmp_path / "run", [model.features], model.ids, None if change == "without" else model.ids)


def test_a_run_folder_of_another_normalising_is_named(tmp_path):
    dataset, _ = actors_apart(n=144)
    fitted(dataset, features_apart(dataset), tmp_path / "run", "centre")
    with pytest.raises(ValidationError, match='another normalise: "centre"; now "standardise"'):
        fitted(dataset, features_apart(dataset), tmp_path / "run", "standardise")
    with pytest.raises(ValidationError, match='another normalise: "centre"; now null'):
        fitted(dataset, features_apart(dataset), tmp_path / "run", "none")


# ------------------------------------------------------------------------------------ the real logits

RUNS = ["e50_ce", "e50_kl_div", "e100_ce", "e100_kl_div"]


@pytest.mark.parametrize("runs, least", [(["e100_ce"], 0.245), (RUNS, 0.275)])
def test_the_gain_on_the_real_logits(shared, runs, least, long):
    if not long:
        pytest.skip("decodes the real logits: with --long")
    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    paths = [shared / "blemore-real" / "hicmae" / f"{run}_train_oof_logits.csv" for run in runs]
    decoded = transductive.fit("structured", dataset, read_models(paths, dataset.ids), "standardise")
    accounts = decoded.figures["normalise"]
    assert accounts["transductive"]["score"] >= least
    assert accounts["transductive"]["against"][0]["differences"]["score"]["interval"][0] > 0.03


def test_shuffled_within_actors_the_real_logits_say_nothing(shared, long):
    if not long:
        pytest.skip("with --long; invented logits are shuffled above")
    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    rng, labels, actors = np.random.default_rng(0), dataset.labels.copy(), np.array(dataset.actors)
    for actor in set(dataset.actors):
        inside = np.flatnonzero(actors == actor)
        labels[inside] = labels[rng.permutation(inside)]
    shuffled = dataset._replace(labels=labels)
    models = read_models([shared / "blemore-real" / "hicmae" / "e100_ce_train_oof_logits.csv"], dataset.ids)
    nested = transductive.fit("structured", shuffled, models, "standardise").figures["nested"]
    report = scored(shuffled, labels)
    constant = max(
        figures.score for figures in trivial.evaluate(trivial.fit(report.labels.values()), report.labels).values()
    )
    assert nested["ci"]["intervals"]["score"][0] <= constant
