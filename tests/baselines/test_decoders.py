"""The decoders by name; structured decoding's account and its comparison; and clips that a model lacks."""

import csv
import inspect
import json
from importlib import import_module

import numpy as np
import pytest
from click.testing import CliRunner

from blemore.errors import ValidationError
from blemore.evaluate import check
from blemore_baselines.cli import main
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.decoders import DECODERS, complete, demand, fit, read
from blemore_baselines.decoding.scores import Models, log_softmax, softmax
from blemore_baselines.features import scores_csv
from blemore_baselines.results.text import DECODER_TEXTS, decoder_to_text, structured_to_text


@pytest.fixture
def tables(tiny, tmp_path):
    """Two models' tables of train and test, each without some clips that the other has."""
    rng = np.random.default_rng(5)
    paths = {}
    for name, lacks in (("one", slice(3, None)), ("two", slice(None, -2))):
        for part, ids, signal in (("train", tiny.dataset.ids, 4 * tiny.dataset.targets), ("test", tiny.test_ids, 0)):
            values = rng.normal(size=(len(ids), 6)) + signal
            paths[name, part] = tmp_path / f"{name}_{part}.csv"
            paths[name, part].write_text(scores_csv(ids[lacks], values[lacks]))
    return paths


def decode(*arguments, code=0):
    result = CliRunner().invoke(main, ["decode", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("decoder", ["structured", "thresholds"])
def test_a_clip_that_one_model_lacks_is_decoded_and_reported(tiny, tables, tmp_path, decoder):
    out, report = tmp_path / "s.zip", tmp_path / "figures.json"
    result = decode(
        "--metadata",
        tiny.train,
        "--scores",
        tables["one", "train"],
        "--scores",
        tables["two", "train"],
        "--test-scores",
        tables["one", "test"],
        "--test-scores",
        tables["two", "test"],
        "--decoder",
        decoder,
        "--ids",
        tiny.test,
        "--report",
        report,
        "--out",
        out,
    )
    ids = tiny.dataset.ids
    assert (
        f"one_train.csv: 3 of 36 clips are missing, so only the other models decide them: {', '.join(ids[:3])}"
        in result.stderr
    )
    assert (
        f"two_test.csv: 2 of 8 clips are missing, so only the other models decide them: {', '.join(tiny.test_ids[-2:])}"
        in result.stderr
    )
    figures = json.loads(report.read_text())
    assert [model["missing"] for model in figures["models"]] == [ids[:3], ids[-2:]]
    assert [model["missing"] for model in figures["test"]] == [tiny.test_ids[:3], tiny.test_ids[-2:]]
    assert sum(model["weight"] for model in figures["models"]) == pytest.approx(1)
    check(out, tiny.test_ids)
    if decoder == "structured":
        for form in ("png", "pdf"):
            diagram = (tmp_path / f"figures.reliability.{form}").read_bytes()
            assert figures["nested"]["signature"].encode() in diagram and f"figures.reliability.{form}" in result.stderr
        rows = list(csv.DictReader(open(tmp_path / "s.expected.csv")))
        assert [row["filename"] for row in rows] == tiny.test_ids and all(
            0 < float(row["expected_score"]) < 1.5 for row in rows
        )


def test_a_clip_that_all_models_lack_is_refused(tiny, tables):
    for arguments in (
        ("--scores", tables["one", "train"]),
        ("--scores", tables["one", "train"], "--scores", tables["one", "train"]),
    ):
        result = decode("--metadata", tiny.train, *arguments, "--decoder", "structured", code=1)
        assert (
            f"3 of 36 clips have no scores from any model: {', '.join(tiny.dataset.ids[:3])}" in result.stderr
            and result.stdout == ""
        )


def planted(n=300, actors=12, folds=4, seed=0):
    """A dataset with two models: one informative, one not."""
    from blemore_baselines.dataset import TARGETS

    rng = np.random.default_rng(seed)
    labels, actor = rng.integers(0, 36, n), rng.integers(0, actors, n)
    dataset = Dataset([f"clip{k}" for k in range(n)], labels, actor % folds, [f"A{k}" for k in actor])
    logits = np.stack([6 * TARGETS[labels] + rng.normal(size=(n, 6)), 3 * rng.normal(size=(n, 6))])
    return dataset, Models(dataset.ids, ["knows.csv", "nothing.csv"], softmax(logits), log_softmax(logits))


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_keeps_the_contract(name):
    """Fitted, shown, written to JSON and read back, only by name."""
    dataset, models = planted()
    single = Models(models.ids, models.paths[:1], models.probabilities[:1], models.logs[:1])
    demand(name, dataset)
    decoded = fit(name, dataset, single)
    labels, expected, _ = decoded.apply(single)
    spec = json.loads(json.dumps(decoded.spec, allow_nan=False))
    assert spec["name"] == name and json.dumps(decoded.figures, allow_nan=False)
    again = read(spec)(single.logs[0])
    assert (again.labels == labels).all() and labels.min() >= 0 and labels.max() < 36
    assert (expected is None) == (again.expected is None)
    assert expected is None or again.expected == pytest.approx(expected)
    assert set(DECODER_TEXTS) == set(DECODERS) and decoder_to_text(name, decoded.figures).count("\n") > 5


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_s_options_are_those_of_its_fit(name):
    module = import_module(f"blemore_baselines.decoding.{DECODERS[name].module}")
    assert list(inspect.signature(module.fit).parameters) == ["dataset", "models", *DECODERS[name].options]
    assert complete(name, {}) == DECODERS[name].options
    for option in DECODERS[name].options:
        assert complete(name, {option: 0.25})[option] == 0.25
    with pytest.raises(ValueError, match="options colour for decoder"):
        complete(name, {"colour": 1})


@pytest.mark.parametrize("spec", [{}, {"name": "magic"}, {"name": []}, {"name": "thresholds"}, {"name": "structured"}])
def test_a_spec_that_no_decoder_wrote_is_refused_with_what_is_expected(spec):
    expected = "expected thresholds with alpha and beta, or structured with its weight and parameters"
    with pytest.raises(ValidationError, match=f"model.json: found (.|\n)*{expected}"):
        read(spec, "model.json")


def test_the_account_of_structured_decoding():
    dataset, models = planted()
    figures = fit("structured", dataset, models).figures
    informative, random = figures["models"]
    assert informative["weight"] > 0.9 and informative["weight"] + random["weight"] == pytest.approx(
        1
    )  # a model of noise hardly counts
    difference = figures["nested"]["against"][0]["differences"]["score"]["delta"]
    assert difference == pytest.approx(figures["nested"]["score"] - figures["nested_thresholds"]["score"])
    calibration = figures["calibration"]
    assert (
        sum(group["clips"] for group in calibration["sets"])
        == sum(group["clips"] for group in calibration["scores"])
        == 300
    )
    # The bins' mean is what was reached: up to the folds' shares of blends, the score itself.
    assert np.average(
        [group["reached"] for group in calibration["scores"]],
        weights=[group["clips"] for group in calibration["scores"]],
    ) == pytest.approx(figures["nested"]["score"], abs=0.01)
    assert np.average(
        [group["reached"] for group in calibration["sets"]], weights=[group["clips"] for group in calibration["sets"]]
    ) == pytest.approx(figures["nested"]["acc_presence"])
    assert (
        calibration["posterior"]["log_loss"] < calibration["frequencies"]["log_loss"]
        and calibration["posterior"]["brier"] < calibration["frequencies"]["brier"]
    )
    elsewhere = [
        dataset.labels[dataset.folds != fold] for fold in dataset.folds
    ]  # what is known of a clip without its fold
    chances = [(np.sum(others == label) + 1) / (len(others) + 36) for others, label in zip(elsewhere, dataset.labels)]
    assert calibration["frequencies"]["log_loss"] == pytest.approx(-np.mean(np.log(chances)))
    assert {fold["fold"] for fold in figures["nested"]["folds"]} == {0, 1, 2, 3}
    json.dumps(figures, allow_nan=False)


def test_new_clips_are_decoded_with_the_final_model_whatever_their_order():
    dataset, models = planted()
    for decoded in (fit("structured", dataset, models, weight=0.7), fit("thresholds", dataset, models)):
        labels, expected, _ = decoded.apply(models)
        order = np.random.default_rng(1).permutation(len(labels))
        shuffled, again, _ = decoded.apply(
            Models([models.ids[k] for k in order], models.paths, models.probabilities[:, order], models.logs[:, order])
        )
        assert (shuffled == labels[order]).all() and (expected is None or again == pytest.approx(expected[order]))


def test_how_sharp_scores_are_changes_no_label_of_a_submission(tiny, tmp_path):
    rng = np.random.default_rng(6)
    logits = {"train": rng.normal(size=(36, 6)) + 4 * tiny.dataset.targets, "test": rng.normal(size=(8, 6))}
    for sharper in (1, 10, 30):
        for part, ids in (("train", tiny.dataset.ids), ("test", tiny.test_ids)):
            (tmp_path / f"{part}{sharper}.csv").write_text(scores_csv(ids, sharper * logits[part]))
        decode(
            "--metadata",
            tiny.train,
            "--scores",
            tmp_path / f"train{sharper}.csv",
            "--test-scores",
            tmp_path / f"test{sharper}.csv",
            "--decoder",
            "structured",
            "--out",
            tmp_path / f"s{sharper}.zip",
        )
    once, *others = ((tmp_path / f"s{sharper}.expected.csv").read_text() for sharper in (1, 10, 30))
    assert others == [once, once]


def test_sharper_scores_are_divided_and_reported(tiny, tmp_path):
    rng = np.random.default_rng(6)
    ids = {"train": tiny.dataset.ids, "test": [f"test_{k:04}" for k in range(1, 121)]}
    # The second model's scores of new clips are twice as sharp as out of fold, the first one's are not as sharp.
    logits = {"train": rng.normal(size=(36, 6)) + 4 * tiny.dataset.targets, "test": 6 * rng.normal(size=(120, 6))}
    outcomes = {}
    for sharper in (1, 2):
        arguments = []
        for model, factors in (("one", (1, 0.1)), ("two", (1, sharper))):
            for (part, clips), factor in zip(ids.items(), factors):
                path = tmp_path / f"{model}_{part}_{sharper}.csv"
                path.write_text(scores_csv(clips, factor * logits[part]))
                arguments += ["--scores" if part == "train" else "--test-scores", path]
        out, report = tmp_path / f"s{sharper}.zip", tmp_path / f"figures{sharper}.json"
        stderr = decode(
            "--metadata", tiny.train, *arguments, "--decoder", "structured", "--report", report, "--out", out
        ).stderr
        rows = list(csv.DictReader(open(tmp_path / f"s{sharper}.expected.csv")))
        excess = [row["excess_spread"] for row in json.loads(report.read_text())["test"]]
        outcomes[sharper] = stderr, excess, rows
    (_, before, rows_before), (stderr, after, rows_after) = outcomes[1], outcomes[2]
    assert before[0] == after[0] == 1 and after[1] == pytest.approx(2 * before[1]) and before[1] > 1
    assert f"model 2: scores are spread {after[1]:.3f} times as wide as out of fold" in stderr
    assert "model 1" not in stderr
    for calm, sharp in zip(rows_before, rows_after):  # the labels and expectations of calm scores
        assert calm["label"] == sharp["label"]
        assert float(calm["expected_score"]) == pytest.approx(float(sharp["expected_score"]), abs=2e-6)


def test_a_weight_that_is_not_a_number_is_refused(tiny, tables, tmp_path):
    result = decode(
        "--metadata",
        tiny.train,
        "--scores",
        tables["two", "train"],
        "--decoder",
        "structured",
        "--weight",
        "nan",
        code=2,
    )
    assert "nan is not in the range" in result.stderr
    features = ("--metadata", str(tiny.train), "--features", str(tiny.sound), "--out", str(tmp_path / "run"))
    assert CliRunner().invoke(main, ["train", *features, "--decoder", "structured", "--weight", "nan"]).exit_code == 2
    assert not (tmp_path / "run").exists()


def test_train_prints_the_same_as_decode_and_predict_writes_expected_gains(tiny, tmp_path):
    run, out = tmp_path / "run", tmp_path / "s.zip"
    result = CliRunner().invoke(
        main,
        [
            "train",
            "--metadata",
            str(tiny.train),
            "--features",
            str(tiny.sound),
            "--preset",
            "fast",
            "--decoder",
            "structured",
            "--weight",
            "0.8",
            "--out",
            str(run),
        ],
    )
    assert result.exit_code == 0, result.output
    text = decode("--metadata", tiny.train, "--scores", run, "--decoder", "structured", "--weight", "0.8").stdout
    tail = text[text.index("pooled over all clips") : text.index("models: ")]
    assert (
        tail in result.stdout
        and "end of the 95 % interval" in tail
        and "Difference from thresholds on the same scores" in tail
    )
    assert "The decoder's expected 0.8 · ACC_presence + 0.2 · ACC_salience is" in result.stdout
    predicted = CliRunner().invoke(
        main,
        [
            "predict",
            "--model",
            str(run),
            "--features",
            str(tiny.sound_test),
            "--ids",
            str(tiny.test),
            "--out",
            str(out),
        ],
    )
    assert predicted.exit_code == 0 and "s.expected.csv" in predicted.stderr
    assert [row["filename"] for row in csv.DictReader(open(tmp_path / "s.expected.csv"))] == tiny.test_ids


@pytest.mark.long
def test_the_reached_score_uses_the_chosen_weight():
    dataset, models = planted()
    decoded = fit("structured", dataset, models, weight=0.8)
    nested = decoded.figures["nested"]
    assert f"it reached {0.8 * nested['acc_presence'] + 0.2 * nested['acc_salience']:.4f}." in structured_to_text(
        decoded.figures
    )
    figures = fit("structured", dataset, models).figures
    assert f"it reached {figures['nested']['score']:.4f}." in structured_to_text(figures)


def test_too_few_folds_with_blends_are_refused_before_the_training(tiny, tmp_path, monkeypatch):
    from blemore_baselines import train

    monkeypatch.setattr(train, "cross_validate", lambda *_, **__: pytest.fail("trained"))
    few = tiny.dataset._replace(labels=np.where(tiny.dataset.folds == 1, tiny.dataset.labels % 6, tiny.dataset.labels))
    with pytest.raises(ValidationError, match="3 folds, 2 of them with blends(.|\n)*--decoder thresholds"):
        train.train(
            few,
            [tiny.read(tiny.sound)],
            [tiny.sound],
            method="aggregate",
            head="linear",
            preset="fast",
            seed=0,
            out=tmp_path / "run",
            decoder="structured",
        )
    assert not (tmp_path / "run").exists()


def test_runs_of_version_0_2_are_shown_with_their_own_inference():
    """In that version, `against` was one object with bootstrap intervals."""
    figures = fit("structured", *planted()).figures
    (new,) = figures["nested"]["against"]
    old = {"unit": "actor", "units": 5, "resamples": 2000, "seed": 0, "note": None}
    old["differences"] = {
        metric: {"delta": difference["delta"], "interval": [-0.1, 0.2], "p": 0.0005}
        for metric, difference in new["differences"].items()
    }
    text = structured_to_text({**figures, "nested": {**figures["nested"], "against": old}})
    assert "[-0.1000, +0.2000]" in text and "p < 0.001" in text and "use the bootstrap of version 0.2" in text
    assert "jackknife over" not in text and "jackknife over" in structured_to_text(figures)
