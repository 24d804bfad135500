"""The scorer and the organiser's tool need no more than `pip install .` brings; blemore-baselines names its extra."""

import configparser
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from blemore.errors import NOT_INSTALLED
from blemore_baselines import __main__ as baselines

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = {"click", "jsonschema", "yaml", "blemore", "blemore_baselines", "blemore_codabench"}
OF_JSONSCHEMA = {"attr", "attrs", "jsonschema_specifications", "referencing", "rpds", "typing_extensions"}
LARGEST = 40e6  # bytes of a fresh environment, pip left aside
# Hides whatever is neither in the standard library nor named, from `import` and from find_spec alike.
HIDE = """
import sys

class Filter:
    finders, shown = [*sys.meta_path], {shown!r} | sys.stdlib_module_names

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in cls.shown:
            return next((spec for finder in cls.finders if (spec := finder.find_spec(name, path, target))), None)

sys.meta_path[:] = [Filter]
"""
EVERY_MODULE = """
import importlib, pkgutil, blemore, blemore_codabench
for package in (blemore, blemore_codabench):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
"""
MAIN = "from {module} import main\nmain()"


def without_extras(code, *arguments):
    """Run code in a new process that finds nothing but what `pip install .` brings."""
    hidden = HIDE.format(shown=INSTALLED | OF_JSONSCHEMA) + code
    return subprocess.run([sys.executable, "-P", "-c", hidden, *map(str, arguments)], capture_output=True, text=True)


def call(module, *arguments):
    return without_extras(MAIN.format(module=module), *arguments)


def succeed(module, *arguments):
    process = call(module, *arguments)
    assert process.returncode == 0 and "Traceback" not in process.stderr, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Two clips of each of two actors."""
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    parts = [
        [{"emotion": "sad", "salience": 100}],
        [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}],
    ]
    clips = {f"test_{number:04}": parts[number % 2] for number in range(1, 5)}
    path.write_text(json.dumps({"labels": clips, "groups": {clip: f"B0{clip[-1] > '2'}" for clip in clips}}))
    path.with_name("predictions.json").write_text(json.dumps({"predictions": clips}))
    return path


# ------------------------------------------------------------------------------- the scorer and the organiser's tool


@pytest.mark.parametrize("name", ["numpy", "torch", "pytest"])
def test_other_packages_are_hidden(name):
    assert "ModuleNotFoundError" in without_extras(f"import {name}").stderr
    code = f"from importlib.util import find_spec; print(find_spec({name!r}), bool(find_spec('click')))"
    assert without_extras(code).stdout == "None True\n"


def test_every_module_is_imported_without_the_extras():
    process = without_extras(EVERY_MODULE)
    assert process.returncode == 0, process.stderr
    assert {"blemore.cli", "blemore.page", "blemore_codabench.vendor", "blemore_codabench.cli"} <= {
        *process.stdout.split()
    }


def test_blemore_score_runs_without_the_extras(labels, tmp_path):
    predictions = labels.with_name("predictions.json")
    assert succeed("blemore.cli", "--check", predictions, "--ids", labels).startswith("valid: ")
    outputs = ["--per-clip", tmp_path / "clips.csv", "--html", tmp_path / "page.html"]
    scores = json.loads(
        succeed("blemore.cli", predictions, labels, "--json", "--ci", "--against", predictions, *outputs)
    )
    assert scores["score"] == 1 and (tmp_path / "page.html").is_file()


def test_blemore_codabench_runs_without_the_extras(labels, tmp_path, wheels):
    bundle = tmp_path / "bundle.zip"
    options = ["--wheels", wheels, "--labels-on-platform", "--out", bundle]
    succeed("blemore_codabench.cli", "build", "--labels", labels, *options)
    assert succeed("blemore_codabench.cli", "check", bundle) == f"fine: {bundle}\n"
    trivial = tmp_path / "bundle.trivial_blend.zip"
    assert json.loads(succeed("blemore_codabench.cli", "simulate", bundle, trivial))["status"] == "Finished"


# -------------------------------------------------------------------------------------------------- blemore-baselines


def demand_one_line(process, command="pip install '.[baselines]'"):
    assert (process.returncode, process.stdout) == (NOT_INSTALLED, ""), process.stderr
    assert process.stderr.count("\n") == 1 and process.stderr.endswith(f"in the kit's folder, run {command}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["--debug", "encoders"],
        ["train", "--help"],
        ["trivial", "--metadata", "x.csv"],
        ["?"],
    ],
    ids=" ".join,
)
def test_blemore_baselines_names_its_extra(arguments):
    demand_one_line(call("blemore_baselines.__main__", *arguments))


def test_blemore_baselines_names_the_package_that_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(baselines, "find_spec", lambda name: None if name == "soxr" else object())
    with pytest.raises(SystemExit) as end:
        baselines.main()
    assert end.value.code == NOT_INSTALLED and capsys.readouterr().out == ""


def test_blemore_baselines_looks_for_all_that_its_extra_brings():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [line for line in config["options.extras_require"]["baselines"].split("\n") if line and line[0] != "#"]
    providers = importlib.metadata.packages_distributions()
    distributions = sorted(distribution for name in baselines.MODULES for distribution in {*providers[name]})
    assert distributions == [line.partition(">=")[0] for line in lines]


# ------------------------------------------------------------------------------------- in an environment of its own


@pytest.fixture(scope="module")
def environment(source, tmp_path_factory, pytestconfig):
    """A new virtual environment with the kit in it."""
    if not pytestconfig.getoption("--long"):
        pytest.skip("installs from the package index: with --long")
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "."]
    subprocess.run([folder / "bin/python", *pip], cwd=source, check=True)
    return folder


def test_an_installed_scorer_is_small_and_complete(environment, labels, tmp_path, wheels):
    def run(program, *arguments):
        command = [environment / "bin" / program, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert "valid: " in run("blemore-score", "--check", labels.with_name("predictions.json"), "--ids", labels).stdout
    assert run("blemore-score", labels.with_name("predictions.json"), labels).returncode == 0
    options = ["--wheels", wheels, "--labels-on-platform", "--out", "bundle.zip"]
    build = run("blemore-codabench", "build", "--labels", labels, *options)
    assert build.returncode == 0, build.stderr
    assert run("blemore-codabench", "check", "bundle.zip").stdout == "fine: bundle.zip\n"
    demand_one_line(run("blemore-baselines", "--help"))

    files = [path for path in environment.rglob("*") if path.is_file() and not path.is_symlink()]
    total = sum(path.stat().st_size for path in files if "pip" not in path.parts)
    print(f"{total / 1e6:.1f} MB")
    assert total < LARGEST
