"""Several seeds in one pass: each gives the same model as alone, and the pooled model is that of `decode`."""

import json
import re
import shutil
import statistics

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from blemore.errors import FileError, ValidationError
from blemore_baselines import train
from blemore_baselines.cli import main
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.scores import log_softmax, read_models, softmax
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds
from blemore_baselines.features import read_scores, runs_of
from blemore_baselines.models import crossval, run_folder, seeds
from blemore_baselines.predict import predict

pytestmark = pytest.mark.usefixtures("quick", "one_thread")
METRICS = ("acc_presence", "acc_salience", "score")


def run(tiny, out, seed, method="aggregate", head="mlp256", **options):
    sources, recipe = [tiny.read(tiny.sound, aggregated=method == "aggregate")], {"method": method, "head": head}
    options = {"preset": "published", **recipe, **options}
    return train.train(tiny.dataset, sources, [tiny.sound], seed=seed, out=out, **options)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def oof(folder):
    with np.load(folder / "oof_logits.npz", allow_pickle=False) as archive:
        return archive["logits"]


def baselines(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


# ------------------------------------------------------------------------------- each seed


@pytest.mark.parametrize("method, head", [("aggregate", "mlp256"), ("subsample", "linear")])
def test_a_seed_among_others_gives_the_same_model_as_alone(tiny, tmp_path, method, head):
    run(tiny, tmp_path / "five", range(5), method, head)
    run(tiny, tmp_path / "three", 3, method, head)
    together, alone = tmp_path / "five" / "seed_3", tmp_path / "three"
    assert sorted(contents(together)) == sorted(contents(alone))
    assert oof(together) == pytest.approx(oof(alone), abs=1e-5)
    others = [np.abs(oof(tmp_path / "five" / f"seed_{seed}") - oof(alone)).max() for seed in (0, 1, 2, 4)]
    assert min(others) > 1e-2
    models = [load_file(folder / "model.safetensors") for folder in (together, alone)]
    assert all(models[0][name] == pytest.approx(values, abs=1e-5) for name, values in models[1].items())
    assert (together / "config.json").read_bytes() == (alone / "config.json").read_bytes()


def test_mean_and_spread_by_hand(tiny, tmp_path):
    metrics = run(tiny, tmp_path / "run", [4, 1, 2])
    seeds = metrics["seeds"]["thresholds"]
    assert [row["seed"] for row in seeds["by_seed"]] == [4, 1, 2]
    for metric in METRICS:
        values = [
            json.loads((tmp_path / "run" / f"seed_{seed}" / "metrics.json").read_text())["nested"][metric]
            for seed in (4, 1, 2)
        ]
        assert [row[metric] for row in seeds["by_seed"]] == values
        assert seeds["over_seeds"][metric]["mean"] == pytest.approx(statistics.mean(values))
        assert seeds["over_seeds"][metric]["std"] == pytest.approx(statistics.stdev(values))
    scores = [row["score"] for row in seeds["by_seed"]]
    assert len(set(scores)) > 1  # otherwise the test shows nothing


# ------------------------------------------------------------------------------- all together


@pytest.fixture
def pooled(tiny, tmp_path):
    """A run of two seeds, with the structured decoder."""
    run(tiny, tmp_path / "run", [0, 1], decoder="structured")
    return tmp_path / "run"


def test_the_figures_are_those_of_decode_with_each_seed_s_file(tiny, pooled, tmp_path):
    metrics, files = json.loads((pooled / "metrics.json").read_text()), []
    for seed in (0, 1):
        files += ["--scores", pooled / f"seed_{seed}" / "oof_logits.csv"]
    for decoder, own in (("thresholds", metrics), ("structured", metrics["structured"])):
        for scores in (files, ["--scores", pooled]):
            options = ["--metadata", tiny.train, "--decoder", decoder, "--report", tmp_path / "report.json"]
            decoded = baselines("decode", *options, *scores)
            assert decoded.exit_code == 0, decoded.output
            report = json.loads((tmp_path / "report.json").read_text())
            assert report["nested"] == own["nested"] and len(report["models"]) == len(own["models"]) == 2
        assert f"{pooled}: 2 seeds, fused as separate models: seed_0, seed_1" in decoded.stderr


def test_predict_equals_decode_of_the_seeds_scores(tiny, pooled, tmp_path):
    ids = ["--ids", tiny.test]
    predicted = baselines(
        "predict", "--model", pooled, "--features", tiny.sound_test, *ids, "--out", tmp_path / "p.zip"
    )
    assert predicted.exit_code == 0, predicted.output
    scores = ["--scores", pooled, "--test-scores", pooled]
    decoded = baselines(
        *("decode", "--metadata", tiny.train, "--decoder", "structured", *scores, *ids, "--out", tmp_path / "d.zip")
    )
    assert decoded.exit_code == 0, decoded.output
    assert (tmp_path / "p.zip").read_bytes() == (tmp_path / "d.zip").read_bytes()
    assert (tmp_path / "p.expected.csv").read_bytes() == (tmp_path / "d.expected.csv").read_bytes()
    by_seed = []
    for seed in (0, 1):
        logits, _ = predict(pooled / f"seed_{seed}", [tiny.sound_test], tiny.test_ids)
        assert read_scores(pooled / f"seed_{seed}", tiny.test_ids, test=True).X == pytest.approx(logits)
        by_seed.append(logits)
    mean = read_scores(tmp_path / "p.logits.csv", tiny.test_ids).X
    assert mean == pytest.approx(np.mean([log_softmax(logits) for logits in by_seed], axis=0), abs=1e-6)


def test_thresholds_decode_the_mean_of_the_seeds_probabilities(tiny, tmp_path):
    run(tiny, tmp_path / "run", [0, 1])
    logits, labels = predict(tmp_path / "run", [tiny.sound_test], tiny.test_ids)
    spec = json.loads((tmp_path / "run" / "model.json").read_text())
    assert logits.shape == (2, 8, 6) and spec["seeds"] == [0, 1]
    thresholds = Thresholds(spec["decoder"]["alpha"], spec["decoder"]["beta"])
    assert labels.tolist() == decode_thresholds((softmax(logits[0]) + softmax(logits[1])) / 2, thresholds).tolist()
    models = read_models([tmp_path / "run"], tiny.dataset.ids)
    assert spec["decoder"] == decoders.fit("thresholds", tiny.dataset, models).spec


def test_all_seeds_normalise_actors_in_the_same_way(tiny, tmp_path):
    metrics = run(tiny, tmp_path / "run", [0, 1], normalise="centre")
    assert metrics["normalise"] == {"method": "centre", "account": "transductive"}
    actors = ["a"] * 4 + ["b"] * 4
    logits, _ = predict(tmp_path / "run", [tiny.sound_test], tiny.test_ids, actors)
    alone, _ = predict(tmp_path / "run" / "seed_1", [tiny.sound_test], tiny.test_ids, actors)
    assert (logits[1] == alone).all()
    with pytest.raises(ValidationError, match="expected the actor of each clip"):
        predict(tmp_path / "run", [tiny.sound_test], tiny.test_ids)


# ------------------------------------------------------------------------------- what goes wrong


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "module, step",
    [
        (train, "cross_validate"),
        (train, "save_model"),
        (run_folder, "_folds_csv"),
        (train, "pool"),
        (seeds, "_over_seeds"),
    ],
)
@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_run_resumes_to_the_same_bytes(tiny, tmp_path, monkeypatch, module, step, call):
    run(tiny, tmp_path / "whole", [0, 1])
    original, calls = getattr(module, step), []

    def stop(*arguments, **options):
        calls.append(step)
        if len(calls) == call:
            raise Stopped
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, step, stop)
        if call == 1 or step not in ("cross_validate", "pool", "_over_seeds"):  # these are called once
            with pytest.raises(Stopped):
                run(tiny, tmp_path / "run", [0, 1])
            assert not (tmp_path / "run" / "metrics.json").exists()
            with pytest.raises(ValidationError, match="holds an unfinished run"):
                read_models([tmp_path / "run"], tiny.dataset.ids)
    if (tmp_path / "run" / "folds").exists():
        monkeypatch.setattr(crossval, "_train_folds", None)  # no fold is trained again
    run(tiny, tmp_path / "run", [0, 1])
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.parametrize("before, now", [(0, [0, 1]), ([0, 1], 0), ([0, 1], [0, 1, 2]), ([0, 1], [1, 0])])
def test_a_run_of_other_seeds_is_refused(tiny, tmp_path, before, now):
    run(tiny, tmp_path / "run", before)
    files = contents(tmp_path / "run")
    with pytest.raises(ValidationError, match=re.escape(f"another seed: {before}; now {now}")):
        run(tiny, tmp_path / "run", now)
    assert contents(tmp_path / "run") == files


@pytest.mark.parametrize("numbers, options", [([], {}), ([1, 1], {}), ([0, 1], {"test_protocol": "retrain"})])
def test_invalid_seeds(tiny, tmp_path, numbers, options):
    with pytest.raises(ValueError, match="expected different seeds, and the protocol pooled"):
        run(tiny, tmp_path / "run", numbers, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options, says",
    [
        (
            ["--seeds", "4-0"],
            "'4-0' is not a seed or a range of seeds; expected numbers and ranges such as 0-4 or 0,3,7-9",
        ),
        (["--seeds", ""], "'' is not a seed"),
        (["--seeds", "-3"], "'-3' is not a seed"),
        (["--seeds", "0-4,x"], "'x' is not a seed"),
        (["--seeds", "0-999999999"], "'0-999999999' is not a seed"),
        (["--seeds", "0-4,3,1"], "has 1, 3 more than once; expected each seed once"),
        (["--seeds", "0-4", "--seed", "0"], "--seed and --seeds exclude each other"),
        (["--seeds", "0-4", "--test-protocol", "retrain"], "--seeds goes with --test-protocol pooled"),
    ],
)
def test_mistakes_on_the_command_line(tiny, tmp_path, options, says):
    common = ["--metadata", tiny.train, "--features", tiny.sound, "--out", tmp_path / "run"]
    result = baselines("train", *common, *options)
    assert result.exit_code == 2 and says in " ".join(result.stderr.split()), result.stderr
    assert not (tmp_path / "run").exists()


def test_the_command_trains_all_seeds(tiny, tmp_path):
    common = ["--metadata", tiny.train, "--features", tiny.sound, "--out", tmp_path / "run", "--head", "linear"]
    result = baselines("train", *common, "--seeds", "7,0-1")
    assert result.exit_code == 0, result.output
    assert [path.name for path in runs_of(tmp_path / "run")] == ["seed_7", "seed_0", "seed_1"]
    last = result.stdout[result.stdout.index("thresholds, nested, by seed") :]
    assert [line.split()[0] for line in last.splitlines()[2:8]] == ["7", "0", "1", "mean", "standard", "all"], last


def test_a_missing_seed_folder_is_named(tiny, tmp_path):
    pooled = tmp_path / "run"
    run(tiny, pooled, [0, 1])
    shutil.rmtree(pooled / "seed_1")
    with pytest.raises(FileError, match="seed_1"):
        read_models([pooled], tiny.dataset.ids)
    with pytest.raises(FileError, match="seed_1"):
        predict(pooled, [tiny.sound_test], tiny.test_ids)


def test_folders_of_several_trainings_do_not_mix(tiny, tmp_path):
    pooled = tmp_path / "run"
    run(tiny, pooled, [0, 1])
    run(tiny, tmp_path / "other", 1, method="subsample")
    shutil.copy(tmp_path / "other" / "model.json", pooled / "seed_1")
    with pytest.raises(ValidationError, match="its features and method differ from those of"):
        predict(pooled, [tiny.sound_test], tiny.test_ids)


def test_scores_and_test_scores_are_paired_seed_by_seed(tiny, tmp_path):
    pooled = tmp_path / "run"
    run(tiny, pooled, [0, 1])
    test = ["--test-scores", pooled / "seed_0" / "oof_logits.csv"]
    result = baselines("decode", "--metadata", tiny.train, "--scores", pooled, *test, "--out", tmp_path / "d.zip")
    assert result.exit_code == 2 and "2 --scores but 1 --test-scores" in result.stderr
