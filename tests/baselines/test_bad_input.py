"""How `train` and `predict` treat invalid data: refused with a message, or handled as documented."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import metadata_csv

from blemore_baselines.cli import main

pytestmark = pytest.mark.usefixtures("quick", "one_thread")


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code and "Traceback" not in result.output, result.output
    return re.sub(r"\s+", " ", result.stderr if code else result.stdout)


def train(tiny, features, metadata=None, code=0, **options):
    extra = [part for name, value in options.items() for part in (f"--{name}", value)]
    return run(
        "train",
        "--metadata",
        metadata or tiny.train,
        "--features",
        features,
        "--head",
        "linear",
        "--out",
        tiny.root / "run",
        *extra,
        code=code,
    )


def table(tiny, change):
    """A CSV of three columns, after `change` has modified its numbers (N, 3)."""
    X = np.random.default_rng(0).normal(size=(len(tiny.dataset.ids), 3))
    change(X)
    path = tiny.root / "table.csv"
    path.write_text(
        "filename,a,b,c\n"
        + "".join(f"{clip},{','.join(map(str, row))}\n" for clip, row in zip(tiny.dataset.ids, X.tolist()))
    )
    return path


def metadata(tiny, text):
    path = tiny.root / "other.csv"
    path.write_text(text)
    return path


def test_a_column_of_nan(tiny):
    def spoil(X):
        X[:, 1] = np.nan

    output = train(tiny, table(tiny, spoil), code=1)
    assert "36 clips hold NaN or Infinity" in output and "clip00" in output


def test_constant_features_are_refused_and_a_constant_column_has_no_effect(tiny):
    def spoil(X):
        X[:] = 4.2

    output = train(tiny, table(tiny, spoil), code=1)
    assert (
        "every column is the same for all clips; expected features that vary" in output
        and not (tiny.root / "run").exists()
    )

    # Standardised, a constant column is 0 for all clips, whatever its value: the runs are equal bit by bit.
    def logits(value):
        shutil.rmtree(tiny.root / "run", ignore_errors=True)
        train(tiny, table(tiny, lambda X: X[:, 1].fill(value)))
        with np.load(tiny.root / "run" / "oof_logits.npz") as archive:
            return archive["logits"]

    assert np.array_equal(logits(4.2), logits(-1e6))


def test_a_fold_without_blends_has_no_salience_but_pooled_figures_remain(tiny):
    labels = np.where(np.arange(36) % 3 == 0, np.arange(36) % 6, tiny.dataset.labels)  # fold 0: only single emotions
    output = train(tiny, tiny.sound, metadata=metadata(tiny, metadata_csv(labels)))
    metrics = json.loads((tiny.root / "run" / "metrics.json").read_text())
    assert (
        metrics["nested"]["folds"][0]["acc_salience"] is None
        and metrics["published"]["over_folds"]["score"]["mean"] is None
    )
    assert metrics["nested"]["acc_salience"] is not None and metrics["nested"]["n_blends"] == int((labels >= 6).sum())
    assert "–" in output


def test_no_blends_at_all(tiny):
    train(tiny, tiny.sound, metadata=metadata(tiny, metadata_csv(np.arange(36) % 6)))
    metrics = json.loads((tiny.root / "run" / "metrics.json").read_text())
    assert (
        metrics["nested"]["acc_salience"] is None
        and metrics["nested"]["score"] is None
        and metrics["nested"]["acc_presence"] is not None
    )


def test_an_actor_in_two_folds_is_refused(tiny):
    text = tiny.train.read_text().replace("clip01,A1,", "clip01,A0,")
    output = train(tiny, tiny.sound, metadata=metadata(tiny, text), code=1)
    assert "actors in more than one fold (1): A0" in output and "If folds share actors" in output


def test_labels_that_disagree_with_the_clip_s_name(tiny):
    lines = metadata_csv([0, 1, 2]).replace("clip00", "A102_sad_int1_ver1").replace("A0,0,ang", "A102,0,ang")
    output = train(tiny, tiny.sound, metadata=metadata(tiny, lines), code=1)
    assert "labels that disagree with the clip's name (1): A102_sad_int1_ver1" in output


@pytest.mark.parametrize("n, message", [(1, "found one fold; expected at least two"), (0, "no")])
def test_one_clip_or_none(tiny, n, message):
    assert message in train(tiny, tiny.sound, metadata=metadata(tiny, metadata_csv(list(range(n)))), code=1)


def test_one_clip_per_fold(tiny):
    # The smallest possible training set: two clips, each predicted by a model of the other.
    for clip in tiny.dataset.ids[2:]:
        (tiny.sound / f"{clip}.npy").unlink()
    train(tiny, tiny.sound, metadata=metadata(tiny, metadata_csv([0, 20], n_folds=2)))
    assert json.loads((tiny.root / "run" / "metrics.json").read_text())["nested"]["n"] == 2


def test_no_test_features(tiny):
    train(tiny, tiny.sound)
    predict = ["predict", "--model", tiny.root / "run", "--ids", tiny.test, "--out", tiny.root / "submission.zip"]
    assert "no such" in run(*predict, "--features", tiny.root / "nothing.npz", code=3).lower()
    (tiny.root / "empty").mkdir()
    assert "contains no .npy or .csv files" in run(*predict, "--features", tiny.root / "empty", code=1)
    output = run(*predict, "--features", tiny.sound, code=1)  # the features of train
    assert "8 of 8 clips have no features" in output and "another partition" in output
    assert not (tiny.root / "submission.zip").exists()
