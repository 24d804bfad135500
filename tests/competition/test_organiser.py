"""An organiser in a hurry: each mistake ends in one message that says what to do."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from blemore.labels import BLENDS, SINGLES, to_entry
from blemore_codabench.bundle import Bundle
from blemore_codabench.cli import main

QUEUE = "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b"
SOON, LATER = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (40, 70))
CLIPS = [f"test_{number:04d}" for number in range(1, 595)]


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def desk(wheels, tmp_path, monkeypatch):
    """A folder with the hidden labels and the organiser's other files."""
    monkeypatch.chdir(tmp_path)
    labels = {clip: to_entry((SINGLES + BLENDS)[index % 36]) for index, clip in enumerate(CLIPS)}
    groups = {clip: f"A{index % 11:02d}" for index, clip in enumerate(CLIPS)}
    write("labels.json", {"labels": labels, "groups": groups})
    train = {f"A10{index % 3}_ang_int1_ver{index}": to_entry(SINGLES[0]) for index in range(9)}
    train["A101_mix_ang_hap_30_70_ver1"] = [{"emotion": "ang", "salience": 30}, {"emotion": "hap", "salience": 70}]
    write("practice.json", {"labels": train})
    Path("test_metadata.csv").write_text("filename\n" + "".join(f"{clip}.mov\n" for clip in CLIPS))
    return tmp_path


def write(name, data):
    Path(name).write_text(json.dumps(data))


def build(
    labels="labels.json", *arguments, where=("--labels-on-worker", "--queue", QUEUE), dates=(SOON, LATER), wheels=None
):
    start, end = dates
    options = ["--labels", labels, *where, "--start", start, "--end", end, "--out", "bundle.zip"]
    return run("build", *options, *(["--wheels", wheels] if wheels else []), *arguments)


def refused(result, code, *words):
    """One message, and nothing is written."""
    assert result.exit_code == code and result.stdout == "", result.output
    assert not Path("bundle.zip").exists() and not Path("bundle.labels.json").exists()
    messages = re.findall(r"^\S.*", result.stderr.split("\n\n")[-1], re.M)
    assert len(messages) == 1, messages
    assert all(word in result.stderr for word in words), result.stderr


def test_without_mistakes(desk, wheels):
    result = build("labels.json", "--ids", "test_metadata.csv", "--practice-labels", "practice.json", wheels=wheels)
    assert result.exit_code == 0, result.output
    assert "practice phase: 10 clips, 1 blends, actors not known" in result.stdout
    assert "test phase: 594 clips, 492 blends, 11 actors" in result.stdout
    assert "594" not in result.stderr and "mode 0644" in result.stderr
    fine = run("check", "bundle.zip")
    assert (fine.exit_code, fine.stderr) == (0, "")
    for phase, code in (("Test", 0), ("Practice", 1)):
        seed = ["simulate", "bundle.zip", "bundle.trivial_blend.zip", "--worker-labels", "bundle.labels.json"]
        assert run(*seed, "--phase", phase).exit_code == code


def test_no_option_says_where_the_labels_go(desk):
    result = build(where=())
    assert result.exit_code == 2 and not Path("bundle.zip").exists()
    for words in (
        "WARNING: ANYONE WILL BE ABLE TO DOWNLOAD",
        "--labels-on-worker --queue KEY",
        "add --labels-on-platform",
    ):
        assert words in result.stderr


def test_labels_on_the_platform_give_a_warning_anyway(desk, wheels):
    result = build(where=["--labels-on-platform"], wheels=wheels)
    assert result.exit_code == 0 and "WARNING: ANYONE WILL BE ABLE TO DOWNLOAD" in result.stderr
    assert "labels.json" in Bundle(Path("bundle.zip")).data("test_reference.zip")


@pytest.mark.parametrize(
    "where, words",
    [
        (["--labels-on-worker", "--labels-on-platform"], "exclude each other"),
        (["--labels-on-worker", "--report", "full"], "full"),
        (["--labels-on-worker", "--queue", "my queue"], "UUID"),
    ],
)
def test_options_that_do_not_go_together(desk, where, words):
    result = build(where=where)
    assert result.exit_code == 2 and words in result.stderr and not Path("bundle.zip").exists()


def test_one_label_is_missing(desk, wheels):
    data = json.loads(Path("labels.json").read_text())
    del data["labels"]["test_0042"], data["groups"]["test_0042"]
    write("labels.json", data)
    refused(build("labels.json", "--ids", "test_metadata.csv"), 4, "1 clips are missing: test_0042", "would fail")
    result = build(wheels=wheels)
    assert result.exit_code == 0 and "has 594 test clips, the labels have 593" in result.stderr
    assert "--ids test_metadata.csv" in result.stderr


def test_one_label_too_many(desk):
    data = json.loads(Path("labels.json").read_text())
    data["labels"]["test_0595"], data["groups"]["test_0595"] = to_entry(SINGLES[0]), "A01"
    write("labels.json", data)
    refused(build("labels.json", "--ids", "test_metadata.csv"), 4, "1 clips are unknown: test_0595")


@pytest.mark.parametrize(
    "dates, option", [(("2025-03-01", "2025-04-01"), "--start 2025-03-01"), ((SOON, "2025-01-01"), "--end")]
)
def test_past_dates(desk, dates, option):
    refused(build(dates=dates), 4, option)


def test_past_dates_of_a_competition_that_has_begun(desk, wheels):
    dates = ("2025-03-01", "2025-04-01")
    assert build("labels.json", "--allow-past", dates=dates, wheels=wheels).exit_code == 0
    late = run("check", "bundle.zip")
    assert (
        late.exit_code == 4
        and late.stderr.count("is in the past") == 1
        and "2025-03-01 00:00:00 and 2025-04-01" in late.stderr
    )
    assert run("check", "bundle.zip", "--allow-past").exit_code == 0
    # Submissions are scored whatever the date.
    scored = run("simulate", "bundle.zip", "bundle.trivial_blend.zip", "--worker-labels", "bundle.labels.json")
    assert scored.exit_code == 0


def test_a_practice_phase_begins_now_at_the_earliest(desk, wheels):
    dates = (f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}", LATER)
    assert build("labels.json", "--practice-labels", "practice.json", dates=dates, wheels=wheels).exit_code == 0
    assert run("check", "bundle.zip").exit_code == 0
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    refused_now = build("labels.json", "--practice-labels", "practice.json", dates=(today, LATER), wheels=wheels)
    assert refused_now.exit_code == 4 and "is in the past" in refused_now.stderr


def test_labels_as_csv(desk, wheels):
    """A CSV in the dataset's form is accepted unchanged."""
    rows = ["filename,video_id,mix,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience"]
    for index, clip in enumerate(CLIPS):
        label = (SINGLES + BLENDS)[index % 36]
        emotions, saliences = (*label.emotions, "")[:2], (*label.saliences, "")[:2]
        rows.append(
            ",".join(map(str, [f"{clip}.mov", f"A{index % 11:02d}", int(label.is_blend), *emotions, *saliences]))
        )
    Path("labels.csv").write_text("\n".join(rows))
    assert build("labels.csv", wheels=wheels).exit_code == 0
    from_csv = json.loads(Path("bundle.labels.json").read_text())
    from_csv.pop("secret")
    assert from_csv == json.loads(Path("labels.json").read_text())
    # The worker needs the JSON.
    result = run("simulate", "bundle.zip", "bundle.trivial_blend.zip", "--worker-labels", "labels.csv")
    assert result.exit_code == 1 and "Put the labels.json of this bundle on the worker" in result.stderr


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("labels.csv", "filename\ntest_0001.mov\n", "labels are not public"),
        ("labels.csv", "filename;emotion_1\ntest_0001.mov;ang\n", "separated by semicolons"),
        ("labels.csv", "filename,label\ntest_0001.mov,ang\n", "no column emotion_1"),
        ("labels.json", "filename,emotion_1\ntest_0001.mov,ang\n", "give its name the suffix .csv"),
        ("labels.csv", '{"labels": {}}', "expected the dataset's metadata"),
    ],
)
def test_labels_as_csv_in_another_form(desk, name, text, words):
    Path(name).write_text(text)
    refused(build(name), 4, words)


def test_practice_labels_in_place_of_the_hidden_ones(desk):
    refused(build("practice.json"), 4, "reveal their labels", "--practice-labels swapped")
    write("same.json", json.loads(Path("labels.json").read_text()))
    refused(build("labels.json", "--practice-labels", "same.json"), 4, "594 clips are in same.json as well")


def test_the_wrong_phases_labels_on_the_worker(desk, wheels):
    assert build("labels.json", "--practice-labels", "practice.json", wheels=wheels).exit_code == 0
    seed = ["simulate", "bundle.zip", "bundle.trivial_blend.zip", "--worker-labels"]
    wrong = run(*seed, "practice.json")
    assert wrong.exit_code == 1 and json.loads(wrong.stdout)["exit_code"] == 4
    assert (
        wrong.stderr.count("not those that the bundle was built with") == 1
        and "The submission is not at fault" in wrong.stderr
    )
    Path("bundle.labels.json").chmod(0o600)
    assert "must have mode 0644" in run(*seed, "bundle.labels.json").stderr


def test_public_labels_need_no_warning(desk, wheels):
    result = build("practice.json", "--report", "full", where=[], wheels=wheels)
    assert result.exit_code == 0 and "WARNING" not in result.stderr and "work out the labels" in result.stderr
    assert run("check", "bundle.zip").stderr == ""
