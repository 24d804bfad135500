"""The zipped program in a bare interpreter gives the same verdicts, problems and figures as the installed command.

Every submission is a zip. The command reads the zip; the program gets the extracted files, as on the platform. One
interpreter scores all submissions, each by a call to the program's own `main`.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import zipped
from test_json import FLAWED, SHAPES, UNREADABLE

import blemore.cli
from blemore.labels import LABELS, to_entry
from blemore_codabench.bundle import Bundle
from blemore_codabench.simulate import extract

PYTHONS = ["3.9", "3.11", "3.12", "3.13"]
IDS = ["a", "b", "x", "test_0001", "test_0002", "test_0003"]
TRUTH = {
    "labels": dict(zip(IDS, [to_entry(LABELS[k]) for k in (0, 6, 7, 4, 20, 33)])),
    "groups": dict(zip(IDS, "PPQQRR")),
}
DRIVER = """
import io, json, os, pathlib, sys
os.fsync = lambda file: None  # hundreds of calls would take a minute
program, cases = map(pathlib.Path, sys.argv[1:])
sys.path[:0] = [str(program), str(program / "vendor")]
sys.dont_write_bytecode = True
import blemore.codabench, jsonschema
assert pathlib.Path(jsonschema.__file__).is_relative_to(program)
assert not any("site-packages" in path for path in sys.path)
results = {}
for case in sorted(cases.iterdir()):
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    folders = ["--input", str(case / "input"), "--output", str(case / "out")]
    code = blemore.codabench.main([*folders, "--worker-labels", "/nowhere"])
    scores = case / "out" / "scores.json"
    results[case.name] = [code, scores.read_text() if scores.exists() else None, sys.stderr.getvalue()]
sys.stdout = sys.__stdout__
print(json.dumps(results))
"""


def valid_submissions():
    """(name, text) of submissions that are valid, plain and odd."""
    rng = random.Random(4)

    def random_clips(suffix=""):
        return {clip + suffix: rng.choice([TRUTH["labels"][clip], to_entry(rng.choice(LABELS))]) for clip in IDS}

    blend = lambda a, b: [{"emotion": "ang", "salience": a}, {"emotion": "disg", "salience": b}]  # noqa: E731
    yield from ((f"random {k}", json.dumps({"predictions": random_clips()})) for k in range(12))
    yield "bare", json.dumps(random_clips())
    yield "suffix", json.dumps(random_clips(".mov"))
    yield "capital suffix", json.dumps(random_clips(".MP4"))
    yield "bom", "\ufeff" + json.dumps(random_clips())
    yield "indented, reversed", json.dumps(dict(reversed(random_clips().items())), indent=3)
    yield "perfect", json.dumps({"predictions": TRUTH["labels"]})
    yield "turned", json.dumps({"predictions": {clip: entry[::-1] for clip, entry in TRUTH["labels"].items()}})
    for a, b in (
        (60, 40),
        (50.0000001, 49.9999999),
        (50.001, 49.999),
        (70.01, 30),
        (99.99, 0.01),
        (1e-3, 99.999),
        (33.335, 66.665),
        (70.5, 29.5),
    ):
        yield f"blend {a} {b}", json.dumps({**random_clips(), "b": blend(a, b)})
    yield "single 99.99", json.dumps({**random_clips(), "a": [{"emotion": "sad", "salience": 99.99}]})
    yield "single 1e2", json.dumps({**random_clips(), "a": [{"emotion": "sad", "salience": 0}]}).replace(" 0}", " 1e2}")


def zips():
    """(name, raw zip) of odd archives around one valid JSON."""
    good = json.dumps(TRUTH["labels"])
    for name, files in {
        "nested": [("a/b/s.json", good)],
        "too deep": [("a/b/c/s.json", good)],
        "macos": [("s.json", good), ("__MACOSX/._s.json", b"\0\5"), (".DS_Store", b"\0")],
        "own metadata": [
            ("metadata", "command: python3 evil.py"),
            ("s.json", good),
            ("evil.py", "raise SystemExit(3)"),
        ],
        "two": [("s.json", good), ("t.json", good)],
        "none": [("s.txt", good)],
        "nothing": [],
        "zip in zip": [("s.zip", zipped([("s.json", good)]))],
        "zip called json": [("s.json", zipped([("s.json", good)]))],
        "folder called json": [("s.json/s.json", good)],
        "unicode": [("é ✓.json", good)],
        "readme beside": [("README.md", "x"), ("s.json", good)],
        "link-like": [("s.json", "../ref/labels.json")],
    }.items():
        yield name, zipped(files)


CORPUS = {
    **{f"valid: {name}": zipped([("s.json", text)]) for name, text in valid_submissions()},
    **{f"unreadable: {case[0]}": zipped([("s.json", case[1])]) for case in UNREADABLE},
    **{f"flawed: {case[0]}": zipped([("s.json", case[1])]) for case in FLAWED},
    **{f"shape: {case[0]}": zipped([("s.json", case[1])]) for case in SHAPES},
    **{f"zip: {name}": raw for name, raw in zips()},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `blemore-score --json` says of each submission: exit code, figures, problems as text."""
    folder, results = tmp_path_factory.mktemp("installed"), {}
    (folder / "labels.json").write_text(json.dumps(TRUTH))
    for name, raw in CORPUS.items():
        (folder / "s.zip").write_bytes(raw)
        as_json = CliRunner().invoke(blemore.cli.main, [str(folder / "s.zip"), str(folder / "labels.json"), "--json"])
        as_text = CliRunner().invoke(blemore.cli.main, [str(folder / "s.zip"), str(folder / "labels.json")])
        assert as_json.exit_code == as_text.exit_code in (0, 1)
        results[name] = (as_json.exit_code, json.loads(as_json.stdout), as_text.stderr, str(folder / "s.zip"))
    return results


@pytest.fixture(scope="module")
def program(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    for name, raw in Bundle(built.bundle).data("scoring_program.zip").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    return folder


def interpreter(version):
    if version == "{}.{}".format(*sys.version_info):
        return Path(sys.executable)
    pythons = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    if not pythons:
        pytest.skip(f"no Python {version} on this machine")
    return pythons[-1]


def test_the_corpus_has_every_kind(installed):
    codes = [code for code, *_ in installed.values()]
    assert len(CORPUS) >= 40 and codes.count(0) >= 25 and codes.count(1) >= 60
    assert len({json.dumps(figures["score"]) for code, figures, *_ in installed.values() if code == 0}) > 8


@pytest.mark.parametrize("version", PYTHONS)
def test_the_zipped_program_equals_the_installed_command(version, installed, program, tmp_path):
    names = dict(enumerate(CORPUS))
    for number, name in names.items():
        case = tmp_path / "cases" / f"{number:03d}"
        extract(CORPUS[name], case / "input/res")
        (case / "input/ref").mkdir()
        (case / "input/ref/labels.json").write_text(json.dumps(TRUTH))
        (case / "out").mkdir()
    (tmp_path / "driver.py").write_text(DRIVER)
    result = subprocess.run(
        [interpreter(version), "-S", "-s", "-E", tmp_path / "driver.py", program, tmp_path / "cases"],
        capture_output=True,
        text=True,
        cwd=program,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    assert len(results) == len(CORPUS)
    for number, name in names.items():
        code, scores, problems = results[f"{number:03d}"]
        expected_code, expected, expected_problems, place = installed[name]
        assert code == expected_code, name
        if code == 0:  # as text: the same to the last digit
            assert (
                scores
                == json.dumps({key: expected[key] for key in ("score", "acc_presence", "acc_salience")}, indent=1)
                + "\n"
            ), name
        else:
            assert scores is None, name
            assert same_problems(problems, expected_problems, place, version), name


def same_problems(platform, command, place, version):
    """Whether texts are equal apart from the file's path. The words of Python's JSON reader differ between versions."""
    command = command.replace(f"{place} › ", "").replace(place, "submission")
    if version != "{}.{}".format(*sys.version_info):
        platform, command = (text.partition(": not JSON at")[0] for text in (platform, command))
    return platform == command


def test_the_page_is_the_same_too(built, program, installed, tmp_path):
    """`blemore-score --html` writes the platform's page at the level `full`."""
    (tmp_path / "labels.json").write_text(json.dumps(TRUTH))
    (tmp_path / "s.zip").write_bytes(CORPUS["valid: random 0"])
    extract(CORPUS["valid: random 0"], tmp_path / "input/res")
    (tmp_path / "input/ref").mkdir()
    (tmp_path / "input/ref/labels.json").write_text(json.dumps(TRUTH))
    (tmp_path / "input/ref/settings.json").write_text('{"report": "full"}')
    (tmp_path / "out").mkdir()
    CliRunner().invoke(
        blemore.cli.main,
        [str(tmp_path / "s.zip"), str(tmp_path / "labels.json"), "--html", str(tmp_path / "page.html")],
    )
    subprocess.run(
        [
            sys.executable,
            "-S",
            "-s",
            "-E",
            program / "score.py",
            "--input",
            tmp_path / "input",
            "--output",
            tmp_path / "out",
        ],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "page.html").read_text() == (tmp_path / "out/detailed_results.html").read_text()
