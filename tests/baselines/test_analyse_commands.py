"""The studies as commands: what they write, and mistakes told in words."""

import json

import pytest
from click.testing import CliRunner

from blemore.significance import FIGURES
from blemore_baselines.cli import main
from blemore_baselines.models.recipes import PRESETS
from blemore_baselines.train import train

STUDIES = {
    "salience": {"heads"},
    "fusion": {"fusions", "gates"},
    "importance": {"groups", "pairs_presence", "pairs_salience"},
}


def run(tiny, study, *options, code=0):
    arguments = ["analyse", study, "--metadata", tiny.train, "--head", "mlp256", *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_writes_its_tables_figures_and_findings(study, tiny, tmp_path):
    out = tmp_path / "out"
    result = run(tiny, study, "--features", tiny.sound, "--features", tiny.look, "--out", out)
    told = json.loads((out / f"{study}.json").read_text())
    assert told["findings"] and all(finding in result.stdout for finding in told["findings"])
    assert (
        {path.stem for path in out.glob("*.csv")}
        == {path.stem for path in out.glob("*.tex")}
        == {f"{study}_{name}" for name in STUDIES[study]}
    )
    assert len(list(out.glob("*.png"))) == 2
    recipe = PRESETS["fast"]["aggregate"].digest
    assert (
        told["signature"].startswith(f"study:{study}|")
        and f"|head:mlp256|preset:fast|recipe:{recipe}|" in told["signature"]
    )
    assert told["signature"] in result.stdout


@pytest.mark.parametrize(
    ("study", "baseline"), [("salience", ("heads", "soft labels")), ("fusion", ("fusions", "concatenation"))]
)
@pytest.mark.parametrize("preset", ["fast", "published"])
def test_rivals_are_compared_with_what_train_gives(study, baseline, preset, tiny, tmp_path, monkeypatch):
    published = PRESETS["published"]["aggregate"]._replace(epochs=3, final_epochs=3)
    monkeypatch.setitem(PRESETS, "published", {"aggregate": published})
    sources = ("--features", tiny.sound, "--features", tiny.look)
    run(tiny, study, *sources, "--preset", preset, "--seed", 4, "--out", tmp_path / "study")
    every, name = baseline
    found = json.loads((tmp_path / "study" / f"{study}.json").read_text())[every][name]
    trained = train(
        tiny.dataset,
        [tiny.read(tiny.sound), tiny.read(tiny.look)],
        [tiny.sound, tiny.look],
        method="aggregate",
        head="mlp256",
        preset=preset,
        seed=4,
        out=tmp_path / "run",
    )["nested"]
    assert [found[figure] for figure in FIGURES] == pytest.approx([trained[figure] for figure in FIGURES])


def test_names_come_from_the_sources(tiny, tmp_path):
    run(tiny, "fusion", "--features", tiny.sound, "--features", tiny.look, "--out", tmp_path)
    assert json.loads((tmp_path / "fusion.json").read_text())["gates"]["all"].keys() == {"sound", "look"}


@pytest.mark.parametrize(
    ("study", "sources", "options", "code", "message"),
    [
        ("fusion", ["sound"], [], 1, "1 source; expected two or more"),
        ("fusion", ["sound", "look"], ["--head", "linear"], 1, "linear has no hidden layer"),
        ("fusion", ["sound", "sound"], [], 2, "the same source twice"),
        ("importance", ["sound", "sound"], [], 2, "the same source twice"),
        ("salience", ["nowhere"], [], 3, "nowhere: cannot be opened"),
    ],
)
def test_mistakes_are_told_in_words(study, sources, options, code, message, tiny, tmp_path):
    places = {"sound": tiny.sound, "look": tiny.look, "nowhere": tmp_path / "nowhere"}
    features = [argument for source in sources for argument in ("--features", places[source])]
    result = run(tiny, study, *features, *options, "--out", tmp_path / "out", code=code)
    assert message in result.stderr and "Traceback" not in result.stderr and result.stdout == ""
    assert not (tmp_path / "out").exists()
