"""On the real data: real logits decoded to the known figures, and to a submission that passes the check."""

import csv
import json
import random
import re

import numpy as np
import pytest
from click.testing import CliRunner

from blemore.cli import main as blemore_score
from blemore_baselines.cli import main
from blemore_baselines.dataset import read_dataset
from blemore_baselines.decoding.accounts import published_folds
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import GRID, Thresholds, decode_thresholds, fit_grid
from blemore_baselines.features import read_scores

# Known figures of run e100_ce with thresholds fitted to each fold: α, β, presence, salience.
E100_CE = [
    (0.192105, 0.144737, 0.266284, 0.132143),
    (0.050000, 0.192105, 0.232510, 0.155556),
    (0.097368, 0.144737, 0.239316, 0.179167),
    (0.097368, 0.618421, 0.239407, 0.150000),
    (0.097368, 0.050000, 0.287402, 0.195946),
]
RUNS = ["e50_ce", "e50_kl_div", "e100_ce", "e100_kl_div"]


@pytest.fixture(scope="module")
def real(shared):
    return shared / "blemore-real"


@pytest.fixture(scope="module")
def dataset(real):
    return read_dataset(real / "train_metadata.csv")


def run(*arguments, command=main):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def decoded(real, tmp_path, *arguments):
    """The figures that `decode --report` writes, without the input paths."""
    run("decode", "--metadata", real / "train_metadata.csv", *arguments, "--report", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    del report["models"]
    return report


@pytest.mark.parametrize("source", ["e100_ce_train_oof_logits.csv", "raw"])
def test_the_twenty_known_figures(real, tmp_path, source):
    report = decoded(real, tmp_path, "--scores", real / "hicmae" / source)
    figures = [
        tuple(round(fold[key], 6) for key in ("alpha", "beta", "acc_presence", "acc_salience"))
        for fold in report["published"]["folds"]
    ]
    assert figures == E100_CE
    assert [fold["n"] for fold in report["published"]["folds"]] == [522, 486, 468, 472, 508]
    assert report["nested"]["score"] == pytest.approx(0.1952, abs=5e-5)
    assert (report["nested"]["n"], report["nested"]["n_blends"]) == (2456, 1326)
    means = {
        name: sum(row[column] for row in E100_CE) / 5 for name, column in (("acc_presence", 2), ("acc_salience", 3))
    }
    for name, mean in means.items():
        assert report["published"]["over_folds"][name]["mean"] == pytest.approx(mean, abs=1e-6)


def test_the_order_of_a_score_file_changes_nothing(real, tmp_path):
    original = real / "hicmae" / "e100_ce_train_oof_logits.csv"
    header, *rows = original.read_text().splitlines()
    metadata = [row["filename"] for row in csv.DictReader(open(real / "train_metadata.csv"))]
    assert [row.split(",")[0] for row in rows] != metadata  # it is in another order as it comes
    random.Random(0).shuffle(rows)
    (tmp_path / "shuffled.csv").write_text("\n".join([header, *rows]) + "\n")
    assert decoded(real, tmp_path, "--scores", tmp_path / "shuffled.csv") == decoded(
        real, tmp_path, "--scores", original
    )


def test_the_table_and_the_raw_files_hold_the_same_scores(real, dataset):
    table, raw = (
        read_scores(real / "hicmae" / "e100_ce_train_oof_logits.csv", dataset.ids),
        read_scores(real / "hicmae" / "raw", dataset.ids),
    )
    assert np.abs(table.X - raw.X).max() == 0
    # One clip followed by hand. Raw, neutral first: [-4.82519531 2.60888672 -0.2908783 2.05297852 -3.16357422
    # -0.97595215]
    place = dataset.ids.index("A200_ang_int1_ver1")
    assert raw.X[place].tolist() == [2.60888672, -0.2908783, 2.05297852, -3.16357422, -0.97595215, -4.82519531]


@pytest.mark.parametrize("name", RUNS)
def test_the_grid_against_slow_loops_on_a_real_fold(dataset, real, name):
    """The first best of the 400 points, with the rule written out and whole-number arithmetic."""
    inside = dataset.folds == 2
    everything = softmax(read_scores(real / "hicmae" / f"{name}_train_oof_logits.csv", dataset.ids).X)
    p = everything[inside]
    truth = [(frozenset(np.flatnonzero(target)), tuple(target)) for target in dataset.targets[inside].tolist()]
    n_blends = sum(len(emotions) == 2 for emotions, _ in truth)
    clips = []
    for row in p.tolist():
        first, second = sorted(range(6), key=lambda index: (-row[index], index))[:2]
        clips.append((first, second, row[second], row[first] - row[second]))
    best = None
    for alpha in GRID.tolist():
        for beta in GRID.tolist():
            presence = salience = 0
            for (first, second, p2, gap), (emotions, target) in zip(clips, truth):
                blend = p2 >= alpha and 5 not in (first, second)
                right = emotions == ({first, second} if blend else {first})
                presence += right
                if right and len(emotions) == 2:
                    relation = (target[first] > target[second]) - (target[first] < target[second])
                    salience += relation == (0 if gap <= beta else 1)
            score = presence * n_blends + salience * len(truth)
            if best is None or score > best[0]:
                best = score, alpha, beta
    thresholds, score = fit_grid(p, dataset.labels[inside])
    assert thresholds == best[1:] and score == pytest.approx(best[0] / (2 * n_blends * len(truth)))
    assert published_folds(everything[np.newaxis], dataset.labels, dataset.folds)[2].thresholds == thresholds


def test_real_logits_hold_exact_ties(dataset, real):
    logits = read_scores(real / "hicmae" / "e50_kl_div_train_oof_logits.csv", dataset.ids).X
    two_largest = np.sort(logits, axis=1)[:, -2:]
    tied = np.flatnonzero(two_largest[:, 0] == two_largest[:, 1])
    assert len(tied) > 0
    for row in tied:  # the lower index counts as larger: alone under a high α
        (label,) = decode_thresholds(softmax(logits[row : row + 1]), Thresholds(0.95, 0.05))
        assert label == np.flatnonzero(logits[row] == logits[row].max())[0]


@pytest.mark.parametrize("names", [["e100_ce"], RUNS])
def test_a_submission_from_real_logits_passes_the_check(real, tmp_path, names):
    scores = [argument for name in names for argument in ("--scores", real / "hicmae" / f"{name}_train_oof_logits.csv")]
    scores += [
        argument for name in names for argument in ("--test-scores", real / "hicmae" / f"{name}_test_logits.csv")
    ]
    out = tmp_path / "submission.zip"
    text = run(
        "decode", "--metadata", real / "train_metadata.csv", *scores, "--ids", real / "test_metadata.csv", "--out", out
    )
    assert "594 clips, checked" in text
    summary = json.loads(run("--check", out, "--ids", real / "test_metadata.csv", "--json", command=blemore_score))
    assert summary["valid"] and summary["n"] == 594 and 0 < summary["n_blends"] < 594


def test_averaging_models_helps_on_real_logits(real, tmp_path):
    single = decoded(real, tmp_path, "--scores", real / "hicmae" / "e100_ce_train_oof_logits.csv")
    four = decoded(
        real,
        tmp_path,
        *(argument for name in RUNS for argument in ("--scores", real / "hicmae" / f"{name}_train_oof_logits.csv")),
    )
    assert four["nested"]["score"] > single["nested"]["score"]


# ------------------------------------------------------------------------ trivial baselines


def test_the_trivial_figures_of_train(real):
    answers = json.loads(run("trivial", "--metadata", real / "train_metadata.csv", "--json"))
    single, pair, blend = answers["single"], answers["pair"], answers["blend"]
    assert (single["answer"], single["presence"], single["n"], single["salience"]) == (
        "fea",
        192,
        2456,
        0,
    )  # ties with hap
    assert (pair["answer"].split()[0], pair["presence"], pair["n"]) == ("ang+fea", 140, 2456)  # ties with ang+hap
    # ang+fea 50/50 and 30/70, ang+hap 70/30 and 30/70 tie: the first pair, and of its labels the first
    assert (blend["answer"], blend["salience"], blend["n_blends"]) == ("ang+fea 50/50", 47, 1326)
    text = run("trivial", "--metadata", real / "train_metadata.csv")
    for figure, clips in (("0.0782", "192/2456"), ("0.0570", "140/2456"), ("0.0354", "47/1326")):
        assert re.search(rf"{figure} +{clips}", text)


def test_trivial_answers_fitted_on_train(real):
    scored = json.loads(run("trivial", "--metadata", real / "train_metadata.csv", "--json"))
    on_train = json.loads(run("trivial", "--metadata", real / "train_metadata.csv", "--fit", "train", "--json"))
    assert on_train.pop("fit") == "train" and scored.pop("fit") == "scored"
    assert on_train == scored  # what is scored is train itself


def test_trivial_submissions_pass_the_check(real, tmp_path):
    run(
        "trivial",
        "--metadata",
        real / "train_metadata.csv",
        "--fit",
        "train",
        "--ids",
        real / "test_metadata.csv",
        "--out",
        tmp_path,
    )
    for name in ("single", "pair", "blend"):
        assert "valid" in run(
            "--check", tmp_path / f"trivial_{name}.zip", "--ids", real / "test_metadata.csv", command=blemore_score
        )
