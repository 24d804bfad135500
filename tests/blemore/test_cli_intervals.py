"""blemore-score --ci, --against and --html."""

import json

import pytest
from click.testing import CliRunner
from helpers import mapping
from test_cli import PREDICTED, TRUTH

from blemore.cli import main
from blemore.significance import FIGURES, holm

OTHER = mapping(dict.fromkeys(TRUTH, "neu 100"))
THIRD = mapping({**dict.fromkeys(TRUTH, "ang 70 hap 30"), "set": "fea 50 sad 50"})
GROUPS = dict(zip(TRUTH, "PPPQQQR"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, data in (
        ("preds", PREDICTED),
        ("other", OTHER),
        ("third", THIRD),
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
    data = json.loads(run("preds.json", "labels.json", "--ci", "--json").stdout)
    plain = json.loads(run("preds.json", "labels.json", "--json").stdout)
    ci = data.pop("ci")
    assert "ci" not in plain and {**data, "signature": ""} == {**plain, "signature": ""}
    assert (ci["unit"], ci["units"], ci["method"], ci["level"]) == ("actor", 3, "jackknife-t", 0.95)
    assert "rough" in ci["note"] and ci["reasons"] == {}
    for figure, (low, high) in ci["intervals"].items():
        assert 0 <= low <= data[figure] <= high <= 1
    text = run("preds.json", "labels.json", "--ci").stdout
    low, high = ci["intervals"]["score"]
    assert f"score          0.3393   [{low:.4f}, {high:.4f}]" in text
    assert "95 % intervals: jackknife over 3 actors, Student's t; with so few actors (3), intervals" in text


def test_a_figure_without_an_interval_says_why(folder):
    (folder / "labels.json").write_text(json.dumps({"labels": TRUTH, "groups": dict.fromkeys(TRUTH, "P")}))
    text = run("preds.json", "labels.json", "--ci").stdout
    assert "score          0.3393   n/a " in text and "n/a: no interval, a single actor." in text
    ci = json.loads(run("preds.json", "labels.json", "--ci", "--json").stdout)["ci"]
    assert ci["intervals"] == {} and ci["reasons"] == dict.fromkeys(FIGURES, "a single actor")


def test_the_signature_carries_the_intervals_settings(folder):
    with_ci = json.loads(run("preds.json", "labels.json", "--ci", "--json").stdout)["signature"]
    without = json.loads(run("preds.json", "labels.json", "--json").stdout)["signature"]
    assert "|method:jackknife-t|level:0.95|actors:3|version:" in with_ci
    assert with_ci.replace("|method:jackknife-t|level:0.95|actors:3", "") == without


def test_without_actors_each_clip_counts_with_a_note(folder):
    ci = json.loads(run("preds.json", "bare.json", "--ci", "--json").stdout)["ci"]
    assert (ci["unit"], ci["units"]) == ("clip", 7) and "each clip counts as one" in ci["note"]


def against(*others):
    options = [word for other in others for word in ("--against", other)]
    data = json.loads(run("preds.json", "labels.json", *options, "--json").stdout)
    return data, run("preds.json", "labels.json", *options).stdout


def test_against_another(folder):
    data, text = against("other.json")
    (comparison,) = data["against"]
    other = json.loads(run("other.json", "labels.json", "--json").stdout)
    for figure, difference in comparison["differences"].items():
        assert difference["delta"] == pytest.approx(data[figure] - other[figure])
        assert difference["p"] == difference["p_holm"] and difference["sign_flip"]["seed"] is None
    assert comparison["name"] == "other.json" and f"preds:{comparison['preds']}|" in other["signature"]
    assert f"p = {comparison['differences']['score']['p']:.3f}" in text and "paired over 3 actors" in text
    assert "Holm" not in text


def test_against_several(folder):
    """All are shown, and p is corrected over the comparisons of each figure."""
    data, text = against("other.json", "third.json")
    assert [comparison["name"] for comparison in data["against"]] == ["other.json", "third.json"]
    for figure in FIGURES:
        differences = [comparison["differences"][figure] for comparison in data["against"]]
        assert [difference["p_holm"] for difference in differences] == holm(
            [difference["p"] for difference in differences]
        )
    hashes = ",".join(comparison["preds"] for comparison in data["against"])
    assert f"|against:{hashes}|method:jackknife-t|level:0.95|actors:3|p_holm:2 a figure|version:" in data["signature"]
    assert all(f"Difference from {name}.json, paired" in text for name in ("other", "third"))
    assert "Holm p" in text and "2 comparisons of each figure" in text and data["signature"] in text
    run("preds.json", "labels.json", "--against", "other.json", "--against", "third.json", "--html", "page.html")
    page = (folder / "page.html").read_text()
    assert page.count(">other.json<") == page.count(">third.json<") == 3 and "Holm p" in page


def test_against_itself_there_is_no_difference_to_test(folder):
    data, text = against("preds.json")
    assert data["against"][0]["differences"]["score"]["reason"] == "no difference"
    assert "score         +0.0000   n/a: no difference" in text and "p = " not in text


def test_the_same_other_twice_is_refused(folder):
    result = run("preds.json", "labels.json", "--against", "other.json", "--against", "./other.json")
    assert result.exit_code == 2 and "more than once" in result.stderr


def test_a_p_value_is_never_printed_as_zero(folder):
    """Two systems, one of which is right on all clips except one for each of 40 actors."""
    clips = [f"clip_{k:03}" for k in range(240)]
    labels = dict.fromkeys(clips, TRUTH["right"])
    wrong = {clip: TRUTH["missed"] for k, clip in enumerate(clips) if k % 6 < 5 and k}
    groups = {clip: f"A{k // 6}" for k, clip in enumerate(clips)}
    for name, data in (
        ("labels", {"labels": labels, "groups": groups}),
        ("preds", labels),
        ("other", {**labels, **wrong}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(data))
    text = run("preds.json", "labels.json", "--against", "other.json").stdout
    assert "p < 0.001   sign flips p < 0.001" in text and "0.000 " not in text


def test_every_invalid_submission_is_reported_by_name(folder):
    (folder / "worse.json").write_text("{")
    result = run("preds.json", "labels.json", "--against", "bad.json", "--against", "worse.json")
    assert result.exit_code == 1 and result.stdout == ""
    assert "bad.json" in result.stderr and "worse.json" in result.stderr
    assert run("preds.json", "labels.json", "--against", "none.json").exit_code == 3


def test_the_page_is_written_and_stdout_stays_the_same(folder):
    plain, with_page = run("preds.json", "labels.json"), run("preds.json", "labels.json", "--html", "page.html")
    assert plain.stdout == with_page.stdout
    text = (folder / "page.html").read_text()
    assert "0.3393" in text and "precision" in text and "over 3 actors" in text and "Compared with other" not in text


@pytest.mark.parametrize("option", [["--ci"], ["--against", "other.json"], ["--html", "page.html"]])
def test_intervals_cannot_be_combined_with_check(folder, option):
    assert run("--check", "preds.json", *option).exit_code == 2
