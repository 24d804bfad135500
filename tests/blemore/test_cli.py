"""The command blemore-score: exit codes, what goes to stdout and what to stderr, and no traceback for any input."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from helpers import mapping, zipped
from test_json import SHAPES, UNREADABLE

from blemore.cli import main
from blemore.evaluate import error_kind
from blemore.labels import Label, to_entry
from blemore.version import VERSION

#            truth            prediction       kind of error
TABLE = [
    ("right", "ang 100", "ang 100", ""),
    ("missed", "ang 70 hap 30", "ang 100", "missed"),
    ("extra", "sad 100", "sad 50 fea 50", "extra"),
    ("set", "fea 50 sad 50", "fea 50 hap 50", "wrong set"),
    ("single", "neu 100", "sad 100", "wrong set"),
    ("relation", "ang 70 hap 30", "hap 70 ang 30", "wrong relation"),
    ("ranked", "ang 70 hap 30", "ang 60 hap 40", ""),
]  # 7 clips: 3 right sets (right, relation, ranked); 4 blends: 1 right relation (ranked), 0 right percentages
TRUTH = mapping({clip: truth for clip, truth, _, _ in TABLE})
PREDICTED = {"predictions": mapping({f"{clip}.mov": predicted for clip, _, predicted, _ in TABLE})}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with preds.json, labels.json and files that a test adds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preds.json").write_text(json.dumps(PREDICTED))
    (tmp_path / "labels.json").write_text(json.dumps({"labels": TRUTH}))
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


# ----------------------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([".", "labels.json"], "blemore-rank FOLDER LABELS"),
        (["--check", "."], "blemore-rank FOLDER LABELS"),
        (["preds.json", "labels.json", "--against", "."], "blemore-rank FOLDER LABELS"),
        (["preds.json", "."], "Name a file in it: labels"),
        (["--check", "preds.json", "--ids", "."], "Name a file in it"),
    ],
)
def test_a_folder_in_place_of_a_file(folder, arguments, hint):
    result = run(*arguments)
    assert result.exit_code == 3 and result.stdout == ""
    assert result.stderr.startswith(".: a folder; expected a file\n") and hint in result.stderr


# ----------------------------------------------------------------------------------- scoring


def test_the_table(folder):
    result = run("preds.json", "labels.json")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "ACC_presence   0.4286   3 of 7 clips with the right set of emotions",
        "ACC_salience   0.2500   1 of 4 blends with the right set and relation",
        "  exact        0.0000   0 of 4 blends with the right rounded percentages",
        "score          0.3393   mean of ACC_presence and ACC_salience",
    ]
    assert lines[4] == "" and lines[5].startswith("clips:7|blends:4|subset:all|rule:ranking|preds:") and len(lines) == 6


def test_the_exact_figure_is_shown_only_where_it_can_differ(folder):
    (folder / "preds.json").write_text(json.dumps(TRUTH))
    assert "exact" not in run("preds.json", "labels.json").stdout


def test_json(folder):
    result = run("preds.json", "labels.json", "--json")
    data = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(data) == [
        "acc_presence",
        "acc_salience",
        "acc_salience_exact",
        "score",
        "n",
        "n_blends",
        "subset",
        "signature",
    ]
    assert [data[key] for key in list(data)[:7]] == [3 / 7, 1 / 4, 0.0, (3 / 7 + 1 / 4) / 2, 7, 4, "all"]
    assert data["signature"].endswith(f"|version:{VERSION}")


def test_a_zip_gives_the_same(folder):
    (folder / "s.zip").write_bytes(zipped([("a/s.json", json.dumps(PREDICTED))]))
    assert run("s.zip", "labels.json", "--json").stdout == run("preds.json", "labels.json", "--json").stdout


def test_a_reference_without_blends(folder):
    for name in ("preds.json", "labels.json"):
        (folder / name).write_text(json.dumps(mapping({"a": "sad 100"})))
    data = json.loads(run("preds.json", "labels.json", "--json").stdout)
    assert (data["acc_presence"], data["acc_salience"], data["acc_salience_exact"], data["score"]) == (
        1.0,
        None,
        None,
        None,
    )
    assert "no blend" in data["reason"]
    result = run("preds.json", "labels.json")
    assert result.exit_code == 0 and "no blend" in result.stdout and "None" not in result.stdout


def test_folds(folder):
    header = "filename,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience,fold"
    (folder / "m.csv").write_text(f"{header}\na,ang,hap,70,30,0\nb,sad,,,,0\nc,sad,,,,1\nd,fea,sad,50,50,2\n")
    (folder / "p.json").write_text(json.dumps(mapping({"a": "ang 80 hap 20", "b": "sad 100"})))
    data = json.loads(run("p.json", "m.csv", "--fold", 0, "--json").stdout)
    assert (data["n"], data["score"], data["subset"]) == (2, 1.0, "fold 0") and "|subset:fold 0|" in data["signature"]
    result = run("p.json", "m.csv", "--fold", 0)
    assert "Scored only on fold 0." in result.stdout
    assert run("p.json", "m.csv").exit_code == 1  # two clips are missing
    assert run("p.json", "m.csv", "--fold", 1).exit_code == 1  # two are unknown, one is missing
    several = run("p.json", "m.csv", "--fold", 2, "--fold", 0)
    assert several.exit_code == 1 and "1 of 3 clips are missing: d" in several.stderr
    for unknown in (run("p.json", "m.csv", "--fold", 7), run("preds.json", "labels.json", "--fold", 0)):
        assert unknown.exit_code == 2 and "no fold" in unknown.stderr and unknown.stdout == ""


def test_the_real_folds(folder, shared):
    from blemore.evaluate import read_reference

    metadata = shared / "blemore-real" / "train_metadata.csv"
    reference = read_reference(metadata)
    sizes = []
    for fold in range(5):
        clips = {clip: to_entry(label) for clip, label in reference.labels.items() if reference.folds[clip] == fold}
        (folder / "fold.json").write_text(json.dumps(clips))
        data = json.loads(run("fold.json", metadata, "--fold", fold, "--json").stdout)
        assert data["score"] == 1.0
        sizes.append(data["n"])
    assert sizes == [522, 486, 468, 472, 508]


# ---------------------------------------------------------------------------------- per clip


def test_per_clip(folder):
    assert run("preds.json", "labels.json", "--per-clip", "out/clips.csv").exit_code == 0
    with open(folder / "out" / "clips.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["filename", "truth", "prediction", "error"]
    assert [(row["filename"], row["error"]) for row in rows] == [(clip, kind) for clip, _, _, kind in TABLE]
    assert (rows[5]["truth"], rows[5]["prediction"]) == ("ang+hap 70/30", "ang+hap 30/70")


@pytest.mark.parametrize(
    "truth, prediction",
    [(("ang",), ("hap", "sad")), (("hap", "sad"), ("ang",)), (("neu",), ("fea",)), (("ang", "hap"), ("ang", "sad"))],
)
def test_a_wrong_set_neither_contains_nor_is_contained_in_the_truth(truth, prediction):
    labels = [Label(emotions, (100,) if len(emotions) == 1 else (50, 50)) for emotions in (prediction, truth)]
    assert error_kind(*labels) == "wrong set"


def test_per_clip_to_a_place_that_cannot_be_written(folder):
    (folder / "full").write_text("a file, no folder")
    (folder / "taken").mkdir()
    for target in ("full/clips.csv", "taken", "preds.json/x/y.csv"):
        result = run("preds.json", "labels.json", "--per-clip", target)
        assert (result.exit_code, result.stdout) == (3, "") and "cannot be written" in result.stderr
    assert sorted(os.listdir(folder)) == ["full", "labels.json", "preds.json", "taken"]
    assert (folder / "full").read_text() == "a file, no folder"


@pytest.mark.parametrize(
    "arguments, writer, other",
    [
        (["preds.json", "labels.json", "--per-clip", "preds.json"], "--per-clip", "PREDS"),
        (["--html", "labels.json", "preds.json", "labels.json"], "--html", "LABELS"),
        (["preds.json", "labels.json", "--against", "other.json", "--html", "link.json"], "--html", "--against"),
        (["preds.json", "labels.json", "--html", "link.json", "--against", "other.json"], "--html", "--against"),
        (["preds.json", "labels.json", "--per-clip", "new", "--html", "nowhere/../new"], "--html", "--per-clip"),
    ],
)
def test_nothing_is_written_over_an_input_or_another_output(folder, arguments, writer, other):
    (folder / "other.json").write_text(json.dumps(PREDICTED))
    (folder / "link.json").symlink_to("other.json")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    message = rf"'{writer}' would overwrite .*, which '\[?{other}\]?' names as well"
    assert re.search(message, " ".join(result.stderr.split())), result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_inputs_may_be_the_same(folder):
    assert run("preds.json", "labels.json", "--against", "preds.json", "--html", "page.html").exit_code == 0
    assert run("preds.json", "labels.json", "--html", "page.html").exit_code == 0, "an output may be there already"


def test_per_clip_with_ids_that_utf8_cannot_hold(folder):
    for name in ("preds.json", "labels.json"):
        (folder / name).write_text('{"\\ud800\\n": [{"emotion": "sad", "salience": 100}]}')
    assert run("preds.json", "labels.json", "--per-clip", "c.csv").exit_code == 0
    assert "\\ud800" in (folder / "c.csv").read_text()


def test_nothing_is_written_for_an_invalid_submission(folder):
    (folder / "preds.json").write_text("{}")
    assert run("preds.json", "labels.json", "--per-clip", "c.csv").exit_code == 1
    assert not (folder / "c.csv").exists()


# ------------------------------------------------------------------------------------- check


def test_check(folder):
    result = run("--check", "preds.json")
    assert result.exit_code == 0 and result.stdout == "valid: preds.json\n7 clips: 3 single emotions, 4 blends\n"
    assert "Not checked: whether every clip is there" in result.stderr
    assert json.loads(run("--check", "preds.json", "--json").stdout) == {"valid": True, "n": 7, "n_blends": 4}


@pytest.mark.parametrize(
    "name, content",
    [
        ("ids.csv", "filename\n" + "\n".join(TRUTH)),
        ("ids.json", json.dumps({"labels": TRUTH})),
        (
            "ids.json",
            json.dumps({"predictions": {f"{clip}.mov": [{"emotion": "neu", "salience": 100}] for clip in TRUTH}}),
        ),
        ("ids.json", json.dumps(TRUTH)),
    ],
    ids=["csv", "labels", "template", "bare"],
)
def test_check_with_ids(folder, name, content):
    (folder / name).write_text(content)
    result = run("--check", "preds.json", "--ids", name)
    assert (result.exit_code, result.stderr) == (0, "")
    (folder / "preds.json").write_text(json.dumps(mapping({"right": "ang 100", "new": "sad 100"})))
    result = run("--check", "preds.json", "--ids", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "6 of 7 clips are missing" in result.stderr and "1 clips are not known: new" in result.stderr


@pytest.mark.parametrize(
    "name, warned",
    [
        ("metadata", True),
        ("metadata.yaml", True),
        ("metadata/x.txt", True),
        ("./metadata", True),
        ("/metadata", True),
        ("a/metadata", False),
        ("metadata.txt", False),
    ],
)
def test_check_warns_of_what_makes_the_platform_run_a_submission(folder, name, warned):
    (folder / "s.zip").write_bytes(zipped([(name, "command: python3 run.py"), ("s.json", json.dumps(PREDICTED))]))
    result = run("--check", "s.zip", "--ids", "labels.json")
    assert result.exit_code == 0 and result.stdout.startswith("valid: s.zip")
    assert ("takes it for a program" in result.stderr) == warned == bool(result.stderr)


def test_a_secret_of_the_labels_keys_their_hash(folder):
    """As on the platform, where nobody else can compute it. A plain hash confirms guesses of the last few labels."""

    def signature(labels):
        (folder / "l.json").write_text(json.dumps(labels))
        return json.loads(run("preds.json", "l.json", "--json").stdout)["signature"]

    plain, *keyed = (
        signature({"labels": TRUTH, **secret}) for secret in ({}, {"secret": "a" * 32}, {"secret": "b" * 32})
    )
    assert "|labels:keyed-" not in plain and all("|labels:keyed-" in line for line in keyed) and keyed[0] != keyed[1]
    parts = [dict(part.split(":", 1) for part in line.split("|")) for line in (plain, *keyed)]
    assert len({json.dumps({**part, "labels": ""}) for part in parts}) == 1
    (folder / "l.json").write_text(json.dumps({"labels": TRUTH, "secret": "x"}))
    short = run("preds.json", "l.json")
    assert short.exit_code == 4 and "expected at least 32" in short.stderr and '"x"' not in short.stderr


def test_check_finds_what_scoring_finds(folder):
    (folder / "preds.json").write_text(json.dumps(mapping({"right": "ang 7", "new": "joy 100"})))
    scored, checked = run("preds.json", "labels.json"), run("--check", "preds.json", "--ids", "labels.json")
    assert scored.exit_code == checked.exit_code == 1 and scored.stderr == checked.stderr


def test_check_against_the_real_test_list(folder, shared):
    ids = shared / "blemore-real" / "test_metadata.csv"
    clips = mapping({f"test_{k:04}.mov": "sad 100" for k in range(1, 595)})
    (folder / "s.zip").write_bytes(zipped([("submission_template.json", json.dumps({"predictions": clips}))]))
    assert run("--check", "s.zip", "--ids", ids).stdout == "valid: s.zip\n594 clips: 594 single emotions, 0 blends\n"
    del clips["test_0100.mov"]
    (folder / "s.json").write_text(json.dumps(clips))
    assert "1 of 594 clips are missing: test_0100" in run("--check", "s.json", "--ids", ids).stderr


# -------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["bad.json", "labels.json"], 1, "not JSON"),
        (["--check", "bad.json"], 1, "not JSON"),
        (["--check", "preds.json", "--ids", "bad.json"], 1, "not JSON"),
        (["few.json", "labels.json"], 1, "6 of 7 clips are missing"),
        (["bad.zip", "labels.json"], 1, "not a readable zip"),
        ([], 2, "PREDS"),
        (["preds.json"], 2, "LABELS are missing"),
        (["preds.json", "labels.json", "--check"], 2, "--check takes only PREDS"),
        (["preds.json", "--check", "--fold", "0"], 2, "--check takes only PREDS"),
        (["preds.json", "--check", "--per-clip", "x.csv"], 2, "--check takes only PREDS"),
        (["preds.json", "labels.json", "--ids", "labels.json"], 2, "--ids needs --check"),
        (["preds.json", "labels.json", "--fold", "x"], 2, "not a valid integer"),
        (["preds.json", "labels.json", "--fold", "0"], 2, "no fold 0"),
        (["preds.json", "labels.json", "--max-mib", "0"], 2, "--max-mib"),
        (["preds.json", "labels.json", "--unknown"], 2, "--unknown"),
        (["absent.json", "labels.json"], 3, "cannot be opened"),
        (["preds.json", "absent.json"], 3, "cannot be opened"),
        (["preds.json", "absent.csv"], 3, "cannot be opened"),
        (["preds.json", "."], 3, "a folder; expected a file"),
        (["--check", "preds.json", "--ids", "absent.csv"], 3, "cannot be opened"),
        (["preds.json", "bad.json"], 4, "not JSON"),
        (["preds.json", "preds.json"], 4, "expected a list"),
        (["preds.json", "ids.csv"], 4, "labels are not public"),
        (["preds.json", "broken.csv"], 4, "is not one of the 36 labels"),
        (["bad.json", "bad.json"], 4, "not JSON"),  # the organiser's fault comes first
    ],
)
def test_exit_codes(folder, arguments, code, words):
    (folder / "bad.json").write_text("{")
    (folder / "bad.zip").write_bytes(b"PK\x03\x04 and no more")
    (folder / "few.json").write_text(json.dumps(mapping({"right": "ang 100"})))
    (folder / "ids.csv").write_text("filename\ntest_0001\n")
    (folder / "broken.csv").write_text("filename,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience\na,joy,,,\n")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, "") and words in result.stderr
    if code != 2:  # with --json, problems are results: one object on stdout, with the same exit code
        result = run(*arguments, "--json")
        data = json.loads(result.stdout)
        assert (result.exit_code, data["valid"], result.stderr) == (code, False, "")
        assert set(data["problems"][0]) == {"code", "where", "message", "clip", "hint"}


def test_help_and_version():
    assert "--per-clip" in run("--help").stdout and "Exit codes" in run("-h").stdout
    assert VERSION in run("--version").stdout


def test_max_mib(folder):
    (folder / "preds.json").write_text(json.dumps(PREDICTED) + " " * 2**20)
    assert run("preds.json", "labels.json", "--max-mib", "1").exit_code == 1
    assert run("preds.json", "labels.json", "--max-mib", "2").exit_code == 0


def test_many_problems_are_counted_by_kind(folder):
    (folder / "preds.json").write_text(
        json.dumps(mapping({f"c{k}": "joy 100" if k % 2 else "sad 3" for k in range(20)}))
    )
    assert "20 problems: 10 salience-range, 10 unknown-emotion" in run("--check", "preds.json").stderr


# ---------------------------------------------------------------------------- hostile content

HOSTILE = [(name, raw if isinstance(raw, bytes) else raw.encode()) for name, raw, *_ in UNREADABLE + SHAPES]


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in HOSTILE])
def test_no_hostile_file_gives_a_traceback_or_raw_escapes(folder, raw):
    (folder / "hostile.json").write_bytes(raw)
    (folder / "hostile.csv").write_bytes(raw)
    (folder / "hostile.zip").write_bytes(zipped([("x/\x1b[31m.json", raw)]))
    for arguments, code in [
        (["hostile.json", "labels.json"], 1),
        (["--check", "hostile.json"], 1),
        (["--check", "hostile.zip"], 1),
        (["preds.json", "hostile.json"], 4),
        (["preds.json", "hostile.csv"], 4),
        (["--check", "hostile.json", "--json"], 1),
    ]:
        result = run(*arguments)
        if arguments == ["preds.json", "hostile.json"] and result.exit_code == 1:
            continue  # the same text can be valid as labels, which the predictions do not fit
        assert result.exit_code == code, arguments
        assert "Traceback" not in result.stderr + result.stdout
        assert all(char.isprintable() or char == "\n" for char in result.stderr + result.stdout)


# --------------------------------------------------------------------------- as a real process


def process(*arguments, **environment):
    command = [
        sys.executable,
        "-c",
        "from blemore.cli import main; main(prog_name='blemore-score')",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment})


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp437"])
def test_any_terminal_can_show_the_results(folder, encoding):
    """A zip, an undefined figure and hostile ids print characters that some terminals lack."""
    (folder / "one.json").write_text(json.dumps(mapping({"a": "sad 100"})))
    (folder / "s.zip").write_bytes(zipped([("one.json", (folder / "one.json").read_bytes())]))
    (folder / "bad.zip").write_bytes(zipped([("é.json", '{"\\ud800\\u001b[31m": []}')]))
    for arguments, code in [
        (["s.zip", "one.json"], 0),
        (["--check", "s.zip"], 0),
        (["--check", "bad.zip"], 1),
        (["--check", "bad.zip", "--json"], 1),
    ]:
        result = process(*arguments, PYTHONIOENCODING=encoding)
        assert result.returncode == code and b"Traceback" not in result.stderr, result.stderr
        assert b"\x1b" not in result.stdout + result.stderr


def test_a_file_name_that_is_not_unicode(folder):
    name = os.fsdecode(b"\xff\x1b[31m.json")
    try:
        (folder / name).write_text(json.dumps(PREDICTED))
    except OSError:
        pytest.skip("this file system takes no such name")
    for arguments, code in [
        ([name, "labels.json"], 0),
        (["--check", name], 0),
        (["preds.json", name], 4),
        ([name + "x", "labels.json"], 3),
    ]:
        result = process(*arguments)
        assert (
            result.returncode == code
            and b"Traceback" not in result.stderr
            and b"\x1b" not in result.stdout + result.stderr
        ), result.stderr


def test_starting_the_command_imports_no_heavy_package():
    program = (
        "import sys, blemore.cli; print([name for name in ('numpy', 'pandas', 'torch', 'matplotlib', 'cv2') if name in"
        " sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


def test_the_installed_command(folder):
    script = os.path.join(os.path.dirname(sys.executable), "blemore-score")
    if not os.path.exists(script):
        pytest.skip("the project's commands are not installed beside this Python")
    result = subprocess.run([script, "preds.json", "labels.json"], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout == run("preds.json", "labels.json").stdout and result.stderr == ""
    assert subprocess.run([script, "preds.json"], capture_output=True).returncode == 2
