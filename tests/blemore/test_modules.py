"""The package as a whole: public names, doctests, and the older Pythons that a scoring platform may use."""

import ast
import doctest
import importlib
import json
import pkgutil
import subprocess
from pathlib import Path

import pytest

import blemore

PACKAGE = Path(blemore.__file__).parent
MODULES = sorted(module.name for module in pkgutil.iter_modules([str(PACKAGE)]))


def test_public_names():
    from blemore import acc_presence, acc_salience, evaluate, parse_filename, score, validate

    assert sorted(blemore.__all__) == sorted(
        f.__name__ for f in (acc_presence, acc_salience, evaluate, parse_filename, score, validate)
    )
    assert all(callable(getattr(blemore, name)) and getattr(blemore, name).__doc__ for name in blemore.__all__)


@pytest.mark.parametrize("name", ["", *MODULES])
def test_doctests(name):
    module = importlib.import_module(f"blemore.{name}" if name else "blemore")
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_there_are_doctests():
    finder = doctest.DocTestFinder()
    names = {
        name for name in MODULES for test in finder.find(importlib.import_module(f"blemore.{name}")) if test.examples
    }
    assert {"labels", "metrics", "errors"} <= names


# ------------------------------------------------------------------------------- older Pythons

# jsonschema is not installed there: a substitute that accepts every document lets all else run.
PROGRAM = """
import json, sys, types
validators = types.ModuleType("jsonschema.validators")
sound = {"__init__": lambda self, schema: None, "is_valid": lambda self, data: True}
validators.Draft202012Validator = type("Sound", (), sound)
sys.modules.update({"jsonschema": types.ModuleType("jsonschema"), "jsonschema.validators": validators})
sys.path.insert(0, sys.argv[1])

import blemore, blemore.report, blemore.trivial
from blemore.io import to_json, write_atomic, read_json, zip_bytes
def part(emotion, salience): return {"emotion": emotion, "salience": salience}
truth = {"a": [part("ang", 70), part("hap", 30)], "b": [part("sad", 100)]}
guess = {"a": [part("hap", 40), part("ang", 60)], "b": [part("neu", 100)]}
write_atomic(sys.argv[2], zip_bytes("s.json", to_json({"predictions": guess})))
report = blemore.evaluate(read_json(sys.argv[2]).data, truth)
blemore.report.to_text(report), blemore.report.per_clip_csv(report), blemore.trivial.fit(report.labels.values())
try:
    blemore.validate({"a": [{"emotion": "ang", "salience": 70}, {"emotion": "ang", "salience": 20}]}, ["a", "b"])
except ValueError as error:
    problems = [problem.code for problem in error.problems]
print(json.dumps([blemore.report.to_dict(report), problems]))
"""


@pytest.mark.parametrize("version", ["3.9", "3.10"])
def test_older_pythons_score_alike(version, tmp_path):
    for path in PACKAGE.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=tuple(map(int, version.split("."))))
    pythons = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not pythons:
        pytest.skip(f"no Python {version} under ~/.pyenv/versions")
    command = [str(pythons[-1]), "-I", "-B", "-c", PROGRAM, str(PACKAGE.parent), str(tmp_path / "s.zip")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    figures, problems = json.loads(result.stdout)
    assert (figures["acc_presence"], figures["acc_salience"], figures["acc_salience_exact"], figures["score"]) == (
        0.5,
        1.0,
        0.0,
        0.75,
    )
    assert problems == ["emotion-twice", "sum", "missing-clips"]
