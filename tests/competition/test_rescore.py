"""Scores and ranks before and after labels were corrected."""

import csv
import io
import json

import pytest
from click.testing import CliRunner
from helpers import zipped

from blemore_codabench.cli import main

ANG, SAD = ([{"emotion": emotion, "salience": 100}] for emotion in ("ang", "sad"))
BLEND = [{"emotion": "ang", "salience": 70}, {"emotion": "sad", "salience": 30}]
OLD = {"a": ANG, "b": ANG, "c": BLEND, "d": SAD}
NEW = {**OLD, "b": SAD}
SUBMISSIONS = {  # presence and salience with the old labels, and with the new ones
    "right": NEW,  # 3/4, 1 → 1, 1
    "wrong": OLD,  # 1, 1 → 3/4, 1
    "same": {**OLD, "c": ANG},  # 3/4, 0 → 1/2, 0
    "also": {**OLD, "d": ANG, "c": SAD},  # 1/2, 0 → 1/4, 0
    "late": {**NEW, "c": SAD, "d": ANG},  # 1/4, 0 → 1/2, 0
}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "submissions").mkdir()
    for name, entries in SUBMISSIONS.items():
        (tmp_path / "submissions" / f"{name}.zip").write_bytes(zipped([("p.json", json.dumps(entries))]))
    for name, labels in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"labels": labels}))
    return tmp_path


def run(*arguments):
    command = ["rescore", "submissions", "--labels", "new.json", "--old-labels", "old.json", *arguments]
    result = CliRunner().invoke(main, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_scores_ranks_and_changes(desk):
    result = run("--json")
    assert result.exit_code == 0 and "Labels that differ: 1. b (ang → sad)" in result.stderr
    rows = json.loads(result.stdout)["submissions"]
    keys = ("submission", "rank", "old_rank", "rank_change", "score", "old_score", "score_change")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("right.zip", 1, 2, 1, 1.0, 0.875, 0.125),
        ("wrong.zip", 2, 1, -1, 0.875, 1.0, -0.125),
        ("late.zip", 3, 5, 2, 0.25, 0.125, 0.125),
        ("same.zip", 3, 3, 0, 0.25, 0.375, -0.125),  # equal scores share a rank
        ("also.zip", 5, 4, -1, 0.125, 0.25, -0.125),
    ]
    assert [row["acc_presence"] for row in rows] == [1, 0.75, 0.5, 0.5, 0.25]
    assert [row["old_acc_salience"] for row in rows] == [1, 1, 0, 0, 0] and not any(row["reason"] for row in rows)


def test_the_table_as_text_and_csv(desk):
    result = run("--csv", "table.csv")
    header, *lines = result.stdout.splitlines()
    assert header.split()[:5] == ["rank", "was", "moves", "submission", "score"]
    assert [line.split()[:7] for line in lines[:2]] == [
        ["1", "2", "+1", "right.zip", "1.0000", "0.8750", "+0.1250"],
        ["2", "1", "-1", "wrong.zip", "0.8750", "1.0000", "-0.1250"],
    ]
    rows = list(csv.DictReader(io.StringIO((desk / "table.csv").read_text())))
    assert [row["submission"] for row in rows] == [line.split()[3] for line in lines] and rows[0]["rank_change"] == "1"


def test_a_submission_without_a_score_has_a_reason_and_no_rank(desk):
    (desk / "submissions/broken.zip").write_bytes(b"no zip")
    (desk / "submissions/few.zip").write_bytes(zipped([("p.json", json.dumps({"a": ANG}))]))
    (desk / "submissions/program.zip").write_bytes(zipped([("metadata", "x: 1"), ("p.json", json.dumps(NEW))]))
    result = run()
    assert result.exit_code == 1
    for words in ("broken.zip: Failed", "3 of 4 clips are missing", "program.zip: Failed"):
        assert words in result.stdout
    assert "few.zip" in result.stdout and "right.zip" in result.stdout.splitlines()[1]


def test_labels_of_other_clips(desk):
    """A submission scored before gets no new score, and vice versa."""
    (desk / "new.json").write_text(json.dumps({"labels": {**NEW, "e": ANG}}))
    result = run("--json")
    rows = json.loads(result.stdout)["submissions"]
    assert result.exit_code == 1 and "e (absent → ang)" in result.stderr
    assert {(row["rank"], row["score"], row["score_change"]) for row in rows} == {(None, None, None)}
    assert {row["old_rank"] for row in rows} == {1, 2, 3, 4, 5} and all("e" in row["reason"] for row in rows)


@pytest.mark.parametrize(
    "break_it, code, words",
    [
        (lambda desk: (desk / "new.json").unlink(), 3, "new.json"),
        (lambda desk: (desk / "old.json").write_text("{"), 4, "old.json"),
        (lambda desk: (desk / "new.json").write_text(json.dumps({"labels": {"a": ANG}})), 4, "no blend"),
        (lambda desk: [path.unlink() for path in (desk / "submissions").iterdir()], 2, "no zip"),
        (lambda desk: (desk / "submissions").rename(desk / "elsewhere"), 3, "submissions"),
    ],
)
def test_mistakes(desk, break_it, code, words):
    break_it(desk)
    result = run()
    assert result.exit_code == code and words in result.stderr and result.stdout == ""
