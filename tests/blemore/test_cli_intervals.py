"""blemore-score --ci, --against and --html."""

import json

import pytest
from click.testing import CliRunner
from helpers import mapping
from test_cli import PREDICTED, TRUTH

from blemore.cli import main
from blemore.significance import RESAMPLES

OTHER = mapping(dict.fromkeys(TRUTH, "neu 100"))
GROUPS = dict(zip(TRUTH, "PPPQQQR"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, data in (
        ("preds", PREDICTED),
        ("other", OTHER),
        ("bad", {}),
        ("labels", {"labels": TRUTH, "groups": GROUPS}),
        ("bare", {"labels": TRUTH}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_intervals_in_json_and_text(folder):
    told = json.loads(run("preds.json", "labels.json", "--ci", "--json").stdout)
    plain = json.loads(run("preds.json", "labels.json", "--json").stdout)
    ci = told.pop("ci")
    assert "ci" not in plain and {**told, "signature": ""} == {**plain, "signature": ""}
    assert (ci["unit"], ci["units"], ci["seed"], ci["resamples"]) == ("actor", 3, 0, RESAMPLES) and "rough" in ci[
        "note"
    ]
    for figure, (low, high) in ci["intervals"].items():
        assert 0 <= low <= told[figure] <= high <= 1
    text = run("preds.json", "labels.json", "--ci").stdout
    low, high = ci["intervals"]["score"]
    assert (
        f"score          0.3393   [{low:.4f}, {high:.4f}]" in text
        and "over 3 actors; intervals over so few actors (3) are rough." in text
    )


def test_the_signature_carries_the_intervals_settings(folder):
    with_ci = json.loads(run("preds.json", "labels.json", "--ci", "--json").stdout)["signature"]
    without = json.loads(run("preds.json", "labels.json", "--json").stdout)["signature"]
    assert "|ci:actors 3|resamples:2000|seed:0|version:" in with_ci
    assert with_ci.replace("|ci:actors 3|resamples:2000|seed:0", "") == without


def test_without_actors_clips_are_drawn_with_a_note(folder):
    ci = json.loads(run("preds.json", "bare.json", "--ci", "--json").stdout)["ci"]
    assert (ci["unit"], ci["units"]) == ("clip", 7) and "clips were drawn" in ci["note"]


def test_against_another(folder):
    result = json.loads(run("preds.json", "labels.json", "--against", "other.json", "--json").stdout)
    differences = result["against"]["differences"]
    other = json.loads(run("other.json", "labels.json", "--json").stdout)
    assert {figure: difference["delta"] for figure, difference in differences.items()} == {
        figure: result[figure] - other[figure] for figure in differences
    }
    assert all(1 / (RESAMPLES + 1) <= difference["p"] <= 1 for difference in differences.values())
    text = run("preds.json", "labels.json", "--against", "other.json").stdout
    assert f"p = {differences['score']['p']:.4f}" in text and "paired over 3 actors" in text


def test_an_invalid_other_is_told_by_its_name(folder):
    result = run("preds.json", "labels.json", "--against", "bad.json")
    assert result.exit_code == 1 and "bad.json" in result.stderr and result.stdout == ""
    assert run("preds.json", "labels.json", "--against", "none.json").exit_code == 3


def test_the_page_is_written_and_stdout_stays(folder):
    plain, with_page = run("preds.json", "labels.json"), run("preds.json", "labels.json", "--html", "page.html")
    assert plain.stdout == with_page.stdout
    text = (folder / "page.html").read_text()
    assert "0.3393" in text and "precision" in text and "over 3 actors" in text


@pytest.mark.parametrize("option", [["--ci"], ["--against", "other.json"], ["--html", "page.html"]])
def test_they_do_not_go_with_check(folder, option):
    assert run("--check", "preds.json", *option).exit_code == 2
