"""Scores that are wrongly given as out of fold: both signs warn, and hardly ever about honest scores."""

import numpy as np
import pytest
from click.testing import CliRunner

from blemore.io import csv_text
from blemore.labels import LABELS
from blemore_baselines.cli import main
from blemore_baselines.dataset import IS_BLEND, TARGETS, Dataset, read_dataset
from blemore_baselines.decoding.in_sample import BEST, relations_too_good, surer_than_new
from blemore_baselines.decoding.scores import Models, log_softmax, read_models, softmax
from blemore_baselines.demo.generator import COLUMNS
from blemore_baselines.features import scores_csv


def models(*logits):
    logs = np.stack([log_softmax(row) for row in logits])
    return Models([f"c{k}" for k in range(logs.shape[1])], [f"{k}.csv" for k in range(len(logs))], softmax(logs), logs)


def actor_logits(rng, actors, clips, width=1.0):
    """Logits whose width varies from actor to actor, and the actors."""
    names = np.repeat(np.arange(actors), clips)
    widths = width * np.exp(0.2 * rng.normal(size=actors))[names, None]
    return widths * rng.normal(size=(len(names), 6)), names.tolist()


def test_wider_scores_of_train_clips_are_reported_with_their_ratio():
    rng = np.random.default_rng(0)
    train, actors = actor_logits(rng, 40, 50)
    new, _ = actor_logits(rng, 10, 50)
    ratios = surer_than_new(models(train, 3 * train, 0.8 * train), actors, models(new, new, new))
    assert ratios[0] is None and ratios[2] is None and ratios[1] == pytest.approx(3, rel=0.2)


def test_honest_scores_are_hardly_ever_warned_of():
    """At the stated rate, one in a thousand, 300 sets give 0.3 warnings; 4 would be beyond it (p < 0.001)."""
    rng, warned = np.random.default_rng(1), 0
    for _ in range(300):
        train, actors = actor_logits(rng, 40, 20)
        new, _ = actor_logits(rng, 11, 20)
        warned += surer_than_new(models(train), actors, models(new))[0] is not None
    assert warned < 4


def test_undetermined_cases_give_no_warning():
    train, actors = actor_logits(np.random.default_rng(2), 3, 4)
    assert surer_than_new(models(train), ["one"] * 12, models(train / 9)) == [None], "a single actor"
    assert surer_than_new(models(train), actors, models(np.zeros((5, 6)))) == [None], "new clips of no spread at all"
    unknown = models(train)
    unknown.logs[0, :] = np.nan
    assert surer_than_new(unknown, actors, models(train)) == [None]


def dataset_of(labels, actors):
    return Dataset([f"c{k}" for k in range(len(labels))], labels, np.arange(len(labels)) % 5, actors)


def answers(labels, share, rng):
    """Answers with the right set, and this share of the relations."""
    wrong = np.where((labels - 6) % 3 == 0, labels + 1, labels - (labels - 6) % 3)
    return np.where((rng.random(len(labels)) < share) | ~IS_BLEND[labels], labels, wrong)


@pytest.mark.parametrize("share, is_reported", [(0.45, False), (BEST, False), (0.95, True), (1.0, True)])
def test_relations_that_are_too_good(share, is_reported):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 36, 1500)
    dataset = dataset_of(labels, [f"A{k % 30}" for k in range(1500)])
    reported_share = relations_too_good(dataset, answers(labels, share, rng))
    assert (reported_share is not None) == is_reported and (
        not is_reported or reported_share == pytest.approx(share, abs=0.03)
    )


def test_at_the_border_relations_are_hardly_ever_too_good():
    rng, warned = np.random.default_rng(4), 0
    labels = rng.integers(6, 36, 400)
    for _ in range(300):
        dataset = dataset_of(labels, [f"A{k}" for k in rng.integers(0, 20, 400)])
        warned += relations_too_good(dataset, answers(labels, BEST, rng)) is not None
    assert warned < 4


def test_few_clips_prove_nothing():
    labels = np.array([6, 7, 8])
    assert relations_too_good(dataset_of(labels, ["a", "b", "c"]), labels) is None
    assert relations_too_good(dataset_of(np.arange(6), list("abcdef")), np.arange(6)) is None, "no blends"


def test_the_real_logits_are_honest(shared):
    folder = shared / "blemore-real"
    dataset = read_dataset(folder / "train_metadata.csv")
    for run in ("e50_ce", "e50_kl_div", "e100_ce", "e100_kl_div"):
        train = read_models([folder / "hicmae" / f"{run}_train_oof_logits.csv"], dataset.ids)
        test = read_models([folder / "hicmae" / f"{run}_test_logits.csv"], test=True)
        assert surer_than_new(train, dataset.actors, test) == [None]
        # Parted at random by actor, both parts are alike.
        rng, warned = np.random.default_rng(0), 0
        for _ in range(100):
            names, new = np.array(dataset.actors), rng.permutation(sorted(set(dataset.actors)))[:11]
            inside = np.isin(names, new)
            parts = (train._replace(logs=train.logs[:, part]) for part in (~inside, inside))
            warned += surer_than_new(next(parts), names[~inside], next(parts))[0] is not None
        assert warned < 3


@pytest.fixture
def tables(tmp_path):
    """Metadata of 720 clips, scores that know every label, and scores of new clips that know little."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.arange(720) % 36)
    rows = [COLUMNS]
    for k, label in enumerate(LABELS[index] for index in labels):
        saliences = label.saliences if label.is_blend else ("", "")
        rows.append(
            (f"clip{k:03}", f"A{k % 20}", int(label.is_blend), *(*label.emotions, "")[:2], *saliences, 1, "", "", k % 5)
        )
    (tmp_path / "train_metadata.csv").write_text(csv_text(rows))
    ids = [row[0] for row in rows[1:]]
    in_sample = np.log(TARGETS[labels] + 0.01) + 0.1 * rng.normal(size=(720, 6))
    (tmp_path / "in_sample.csv").write_text(scores_csv(ids, in_sample))
    (tmp_path / "new.csv").write_text(scores_csv([f"test_{k:04}" for k in range(200)], rng.normal(size=(200, 6))))
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_decode_and_report_warn(tables):
    common = ["--metadata", str(tables / "train_metadata.csv"), "--scores", str(tables / "in_sample.csv")]
    new = ["--test-scores", str(tables / "new.csv"), "--out", str(tables / "s.zip")]
    result = CliRunner().invoke(main, ["decode", *common, *new])
    assert result.exit_code == 0 and "times as wide as those of new clips" in result.stderr
    assert "also have the right relation" in result.stderr
    result = CliRunner().invoke(main, ["report", str(tables / "page"), *common])
    assert result.exit_code == 0, result.output
    page = (tables / "page" / "report.html").read_text()
    assert (
        "of the blends with the right pair also have the right relation" in page.split("Warning: ")[1]
        and "epoch" not in page.split("Failure 1")[1][:600]
    )
    assert (tables / "page" / "tables" / "results.tex").exists()
    assert "Structured decoding" in page and "scores:" in page and "What the features separate" not in page


def test_a_page_of_scores_overwrites_no_run(tables):
    (tables / "run").mkdir()
    (tables / "run" / "config.json").write_text("{}")
    common = ["--metadata", str(tables / "train_metadata.csv"), "--scores", str(tables / "in_sample.csv")]
    result = CliRunner().invoke(main, ["report", str(tables / "run"), *common])
    assert result.exit_code == 1 and "holds a run" in result.stderr
    for arguments in (common[:2], common[2:], [*common, "--features", str(tables / "in_sample.csv")]):
        assert CliRunner().invoke(main, ["report", str(tables / "page"), *arguments]).exit_code == 2
