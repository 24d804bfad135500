"""What each reader installs: the scorer and the organisers' tool need three packages, the baselines an extra."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Three packages and what they bring along, by the names of their modules.
SLIM = {
    "_yaml",
    "attr",
    "attrs",
    "click",
    "jsonschema",
    "jsonschema_specifications",
    "referencing",
    "rpds",
    "typing_extensions",
    "yaml",
}
OURS = {"blemore", "blemore_baselines", "blemore_codabench"}
# Runs the rest of the arguments as a program of the kit, in a Python that cannot import anything else.
ALONE = f"""
import importlib.util, runpy, sys

allowed = {SLIM | OURS} | set(sys.stdlib_module_names)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed and not name.startswith("__editable__"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

known = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: known(name, *rest) if name.split(".")[0] in allowed else None
sys.meta_path.insert(0, Absent())
module, _, name = sys.argv[1].partition(":")
del sys.argv[1]
function = getattr(importlib.import_module(module), name)
function()
"""
PROGRAMS = {
    "blemore-score": "blemore.cli:main",
    "blemore-codabench": "blemore_codabench.cli:main",
    "blemore-baselines": "blemore_baselines.__main__:main",
}
LABELS = {"labels": {"test_0001": [{"emotion": "sad", "salience": 100}]}}
INSTALL = "pip install '.[baselines]'"


def alone(program, *arguments, folder):
    command = [sys.executable, "-P", "-c", ALONE, PROGRAMS[program], *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "submission.json").write_text(json.dumps({"predictions": LABELS["labels"]}))
    return tmp_path


def test_the_scorer_needs_three_packages(desk):
    score = alone("blemore-score", "submission.json", "labels.json", "--html", "page.html", folder=desk)
    assert score.returncode == 0 and "ACC_presence" in score.stdout, score.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["build", "--help"], ["check", "no.zip"], ["simulate", "no.zip", "no"]]
)
def test_the_organisers_tool_needs_three_packages(desk, arguments):
    run = alone("blemore-codabench", *arguments, folder=desk)
    assert "Error" not in run.stderr and "defect" not in run.stderr and run.returncode in (0, 3, 4), run.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "--help"], ["decode"]])
def test_the_baselines_say_in_one_line_what_to_install(desk, arguments):
    run = alone("blemore-baselines", *arguments, folder=desk)
    (line,) = run.stderr.splitlines()
    assert INSTALL in line and "numpy, pandas" in line and (run.returncode, run.stdout) == (1, "")


def test_a_slim_installation(desk, long):
    """From the package index, and outside the repository."""
    if not long:
        pytest.skip("downloads packages: with --long")
    venv.create(desk / "slim", with_pip=True)
    programs = desk / "slim" / ("Scripts" if os.name == "nt" else "bin")

    def run(program, *arguments):
        return subprocess.run([programs / program, *arguments], cwd=desk, capture_output=True, text=True)

    before = size(desk / "slim")
    install = run("python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", ROOT)
    assert install.returncode == 0, install.stderr
    assert size(desk / "slim") - before < 40e6
    assert "ACC_presence" in run("blemore-score", "submission.json", "labels.json").stdout
    assert run("blemore-codabench", "--help").returncode == 0
    assert INSTALL in run("blemore-baselines", "--help").stderr


def size(folder):
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
