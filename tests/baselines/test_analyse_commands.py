"""The studies as commands: how they are defined, what they write, and messages for mistakes."""

import json
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from blemore.significance import FIGURES
from blemore_baselines.cli import main
from blemore_baselines.commands import analyse
from blemore_baselines.models.recipes import PRESETS
from blemore_baselines.results.study_files import Study
from blemore_baselines.studies import STUDIES, Entry
from blemore_baselines.train import train

TABLES = {
    "salience": {"heads", "errors"},
    "fusion": {"fusions", "gates"},
    "importance": {"groups", "pairs_presence", "pairs_salience"},
}


def run(tiny, study, *options, code=0):
    arguments = ["analyse", study, "--metadata", tiny.train, "--head", "mlp256", *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("name", STUDIES)
def test_each_entry_has_a_module_with_a_function_of_its_name(name):
    assert callable(getattr(import_module(f"blemore_baselines.studies.{name}"), name))
    assert STUDIES[name].takes in analyse.INPUTS


def test_a_study_more_is_a_module_and_an_entry(tiny, tmp_path, monkeypatch):
    calls = []

    def length(*arguments):
        calls.append(arguments)
        return Study("length", "Length", {}, {}, ["Found."], {}, arguments[-1])

    monkeypatch.setitem(sys.modules, "blemore_baselines.studies.length", SimpleNamespace(length=length))
    command = analyse.command("length", Entry("sources", "How long?", "--features logmel.npz --out studies"))
    options = ["--metadata", tiny.train, "--features", tiny.sound, "--seed", 3, "--out", tmp_path]
    result = CliRunner().invoke(command, list(map(str, options)))
    assert result.exit_code == 0 and result.stdout == f"Found.\n{calls[0][-1]}\n"
    dataset, names, (source,), recipe, head, seed, signature = calls[0]
    assert (dataset.ids, names, recipe) == (tiny.dataset.ids, ["sound"], PRESETS["fast"]["aggregate"])
    assert (source.digest, head, seed) == (tiny.read(tiny.sound).digest, "mlp512", 3)
    assert signature.startswith("study:length|clips:36|") and f"|features:{source.digest}|head:mlp512|" in signature
    text = CliRunner().invoke(command, ["--help"]).stdout
    assert "How long?" in text
    assert (
        "  blemore-baselines analyse length --metadata train_metadata.csv --features logmel.npz --out studies\n" in text
    )


def test_help_is_shown_without_loading_anything_heavy():
    code = (
        "import contextlib, sys\nfrom blemore_baselines.cli import main\n"
        f"for study in {[[], *([name] for name in STUDIES)]}:\n"
        "    with contextlib.suppress(SystemExit): main(['analyse', *study, '--help'])\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    text, _, modules = result.stdout.rpartition("LOADED")
    assert all(f"  blemore-baselines analyse {name} --metadata train_metadata.csv" in text for name in STUDIES)
    assert "blemore_baselines" in modules.split()
    assert not {"numpy", "pandas", "torch", "matplotlib", "cv2", "av"} & set(modules.split())


@pytest.mark.parametrize("study", TABLES)
def test_a_study_writes_its_tables_figures_and_findings(study, tiny, tmp_path):
    out = tmp_path / "out"
    result = run(tiny, study, "--features", tiny.sound, "--features", tiny.look, "--out", out)
    content = json.loads((out / f"{study}.json").read_text())
    assert content["findings"] and all(finding in result.stdout for finding in content["findings"])
    assert (
        {path.stem for path in out.glob("*.csv")}
        == {path.stem for path in out.glob("*.tex")}
        == {f"{study}_{name}" for name in TABLES[study]}
    )
    assert len(list(out.glob("*.png"))) == len(list(out.glob("*.pdf"))) == 2
    recipe = PRESETS["fast"]["aggregate"].digest
    assert (
        content["signature"].startswith(f"study:{study}|")
        and f"|head:mlp256|preset:fast|recipe:{recipe}|" in content["signature"]
    )
    assert content["signature"] in result.stdout


@pytest.mark.parametrize(
    ("study", "baseline"), [("salience", ("heads", "soft labels")), ("fusion", ("fusions", "concatenation"))]
)
@pytest.mark.parametrize("preset", ["fast", "published"])
def test_rivals_are_compared_with_what_train_gives(study, baseline, preset, tiny, tmp_path, monkeypatch):
    published = PRESETS["published"]["aggregate"]._replace(epochs=3, final_epochs=3)
    monkeypatch.setitem(PRESETS, "published", {"aggregate": published})
    sources = ("--features", tiny.sound, "--features", tiny.look)
    run(tiny, study, *sources, "--preset", preset, "--seed", 4, "--out", tmp_path / "study")
    group, name = baseline
    values = json.loads((tmp_path / "study" / f"{study}.json").read_text())[group][name]
    account = train(
        tiny.dataset,
        [tiny.read(tiny.sound), tiny.read(tiny.look)],
        [tiny.sound, tiny.look],
        method="aggregate",
        head="mlp256",
        preset=preset,
        seed=4,
        out=tmp_path / "run",
        test_protocol="best-fold",  # as in the studies, the other folds choose the epoch
    )["nested"]
    assert [values[figure] for figure in FIGURES] == pytest.approx([account[figure] for figure in FIGURES])


def test_names_come_from_the_sources(tiny, tmp_path):
    run(tiny, "fusion", "--features", tiny.sound, "--features", tiny.look, "--out", tmp_path)
    assert json.loads((tmp_path / "fusion.json").read_text())["gates"]["all"].keys() == {"sound", "look"}


@pytest.mark.parametrize(
    ("study", "sources", "options", "code", "message"),
    [
        ("fusion", ["sound"], [], 1, "1 source; expected at least two"),
        ("fusion", ["sound", "look"], ["--head", "linear"], 1, "linear has no hidden layer"),
        ("fusion", ["sound", "sound"], [], 2, "the same source is given twice"),
        ("importance", ["sound", "sound"], [], 2, "the same source is given twice"),
        ("salience", ["nowhere"], [], 3, "nowhere: cannot be opened"),
    ],
)
def test_mistakes_are_explained(study, sources, options, code, message, tiny, tmp_path):
    places = {"sound": tiny.sound, "look": tiny.look, "nowhere": tmp_path / "nowhere"}
    features = [argument for source in sources for argument in ("--features", places[source])]
    result = run(tiny, study, *features, *options, "--out", tmp_path / "out", code=code)
    assert message in result.stderr and "Traceback" not in result.stderr and result.stdout == ""
    assert not (tmp_path / "out").exists()
