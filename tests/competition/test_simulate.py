"""What the worker would do with a submission, and what a participant would see."""

import json
import re
import struct
import zipfile

import pytest
from click.testing import CliRunner
from helpers import zipped

from blemore.codabench import SCORE_KEYS, hmac_of
from blemore.evaluate import evaluate, read_reference
from blemore.io import zip_bytes
from blemore.report import to_dict
from blemore_codabench.build import build
from blemore_codabench.bundle import Bundle, pack
from blemore_codabench.cli import main
from blemore_codabench.simulate import extract, simulate

QUEUE = "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b"


@pytest.fixture
def bundle(built):
    return Bundle(built.bundle)


def submission(folder, data, name="s.zip"):
    (folder / name).write_bytes(data if isinstance(data, bytes) else zip_bytes("s.json", json.dumps(data)))
    return folder / name


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def with_program(bundle, code, command="python3 $program/p.py $input $output"):
    """The bundle with another scoring program."""
    bundle.files["scoring_program.zip"] = pack(
        {"metadata.yaml": f"command: {command}\n".encode(), "p.py": code.encode()}
    )
    return bundle


# ---------------------------------------------------------------------------------- whole submissions


def test_a_valid_submission(bundle, built, tmp_path):
    data = {"predictions": built.practice["labels"]}
    outcome = simulate(bundle, submission(tmp_path, data), tmp_path / "out", phase="Practice")
    assert (outcome.status, outcome.reason, outcome.exit_code) == ("Finished", None, 0)
    assert outcome.scores == dict.fromkeys(SCORE_KEYS, 1.0)
    assert "precision" in (tmp_path / "out/detailed_results.html").read_text()


def test_the_figures_equal_those_of_the_installed_package(bundle, built, tmp_path):
    seed = built.bundle.with_suffix(".trivial_blend.zip")
    outcome = simulate(bundle, seed, tmp_path / "out")
    answer = json.loads(zipfile.ZipFile(seed).read("predictions.json"))
    counts = evaluate(answer, built.labels).counts
    assert outcome.scores == {key: round(getattr(counts, key), 10) for key in SCORE_KEYS}
    assert json.loads((tmp_path / "out/scores.json").read_text()) == {key: getattr(counts, key) for key in SCORE_KEYS}
    assert "precision" not in (tmp_path / "out/detailed_results.html").read_text()


def test_an_invalid_submission_fails_with_its_problems(bundle, tmp_path):
    outcome = simulate(
        bundle,
        submission(tmp_path, {"predictions": {"test_0001": [{"emotion": "joy", "salience": 100}]}}),
        tmp_path / "out",
    )
    assert (outcome.status, outcome.reason, outcome.exit_code, outcome.scores) == ("Failed", "exit code 1", 1, {})
    for name in ("stderr.txt", "detailed_results.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "joy" in text and "119 of 120 clips are missing" in text
    assert not (tmp_path / "out/scores.json").exists()


def test_labels_that_stay_on_the_worker(built, tmp_path):
    build(built.options._replace(labels_on_worker=True, queue=QUEUE, out=tmp_path / "b.zip"))
    bundle, path = Bundle(tmp_path / "b.zip"), submission(tmp_path, {"predictions": built.labels["labels"]})
    assert simulate(bundle, path, tmp_path / "1").exit_code == 4
    assert simulate(bundle, path, tmp_path / "2", worker_labels=tmp_path / "b.labels.json").scores["score"] == 1.0
    corrected = {
        **built.labels,
        "labels": {**built.labels["labels"], "test_0001": [{"emotion": "neu", "salience": 100}]},
    }
    (tmp_path / "other.json").write_text(json.dumps(corrected))
    assert simulate(bundle, path, tmp_path / "3", worker_labels=tmp_path / "other.json").exit_code == 4
    practice = submission(
        tmp_path, {"predictions": built.practice["labels"]}
    )  # its labels are in the bundle, whatever is on the worker
    assert (
        simulate(bundle, practice, tmp_path / "4", phase="Practice", worker_labels=tmp_path / "b.labels.json").scores[
            "score"
        ]
        == 1.0
    )


def test_the_organisers_signature_equals_that_of_the_page(built, tmp_path):
    """With the labels' file, which has the secret, both compute the same keyed hash."""
    build(built.options._replace(labels_on_worker=True, queue=QUEUE, out=tmp_path / "b.zip"))
    path = submission(tmp_path, {"predictions": built.labels["labels"]})
    labels = tmp_path / "b.labels.json"
    simulate(Bundle(tmp_path / "b.zip"), path, tmp_path / "out", worker_labels=labels)
    own_fields = signature_fields(to_dict(evaluate(built.labels["labels"], read_reference(labels)))["signature"])
    text = (tmp_path / "out/detailed_results.html").read_text().replace("<wbr>", "")
    page_fields = signature_fields(re.search("<code>(.*)</code>", text)[1])
    assert page_fields.items() <= own_fields.items() and page_fields["labels"].startswith("keyed-")
    assert set(own_fields) - set(page_fields) == {"blends", "subset"}


def signature_fields(line):
    return dict(part.split(":", 1) for part in line.split("|"))


# ------------------------------------------------------------------------------------------ layout

SPY = """
import json, os, pathlib, sys
source, output = map(pathlib.Path, sys.argv[1:])
paths = [p for p in [*source.rglob("*"), *pathlib.Path(".").rglob("*")] if p.is_file()]
seen = {"files": sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()), "cwd": os.getcwd(),
        "program": os.path.dirname(os.path.abspath(__file__)), "output": os.listdir(output),
        "packages": [p for p in sys.path if "site-packages" in p],
        "writable": [str(p) for p in paths if p.stat().st_mode & 0o222]}
(output / "scores.json").write_text(json.dumps({"score": 1, "acc_presence": 1, "acc_salience": 1}))
(output / "seen.json").write_text(json.dumps(seen))
"""


def test_the_workers_layout(bundle, tmp_path):
    assert simulate(with_program(bundle, SPY), submission(tmp_path, {}), tmp_path / "out").status == "Finished"
    environment = json.loads((tmp_path / "out/seen.json").read_text())
    assert environment["files"] == ["ref/labels.json", "ref/settings.json", "res/metadata", "res/s.json"]
    assert environment["cwd"] == environment["program"]
    assert environment["packages"] == [] and environment["writable"] == []
    assert set(environment["output"]) <= {"stdout.txt", "stderr.txt"}


@pytest.mark.parametrize(
    "code, status, reason",
    [
        ("", "Failed", "no scores.json"),
        ("import sys; sys.exit(7)", "Failed", "exit code 7"),
        ("raise SystemExit", "Failed", "no scores.json"),
        ("w('scores.json', '[1]')", "Failed", "not an object"),
        ("w('scores.json', '{')", "Failed", ""),
        ("w('scores.json', '{}')", "Finished without a score", "score, acc_presence, acc_salience"),
        (
            'w(\'scores.json\', \'{"score": NaN, "acc_presence": 1, "acc_salience": 1}\')',
            "Finished without a score",
            "score",
        ),
        (
            'w(\'scores.json\', \'{"score": null, "acc_presence": 1, "acc_salience": 1}\')',
            "Finished without a score",
            "score",
        ),
        (
            'w(\'scores.json\', \'{"score": "1", "acc_presence": 1, "acc_salience": 1}\')',
            "Finished without a score",
            "score",
        ),
        (
            'w(\'scores.json\', \'{"score": 1e11, "acc_presence": 1, "acc_salience": 1}\')',
            "Finished without a score",
            "score",
        ),
        ('w(\'scores.json\', \'{"score": 1, "acc_presence": 1, "acc_salience": 0.12345678901234}\')', "Finished", None),
        ("w('scores.txt', 'score: 0.5\\nacc_presence: 1\\nacc_salience: 0\\n')", "Finished", None),
    ],
)
def test_which_scores_the_server_would_accept(bundle, tmp_path, code, status, reason):
    code = "import pathlib, sys\nw = lambda name, text: (pathlib.Path(sys.argv[2]) / name).write_text(text)\n" + code
    outcome = simulate(with_program(bundle, code), submission(tmp_path, {}), tmp_path / "out")
    assert outcome.status == status
    assert outcome.reason is None if reason is None else reason in outcome.reason


def test_there_is_no_shell(bundle, tmp_path):
    code = "import sys, pathlib, json; pathlib.Path(sys.argv[2], 'argv.json').write_text(json.dumps(sys.argv[3:]))"
    simulate(
        with_program(bundle, code, "python3 $program/p.py $input $output && touch $output/shell"),
        submission(tmp_path, {}),
        tmp_path / "out",
    )
    assert json.loads((tmp_path / "out/argv.json").read_text())[0] == "&&" and not (tmp_path / "out/shell").exists()


# ------------------------------------------------------------------------------------ hostile archives


def entry_bomb(entries=20_000):
    """A zip that lists many files and holds none."""
    listing = b"".join(
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0x21, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
        + b"%07d" % k
        for k in range(entries)
    )
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, len(listing), 0) + struct.pack(
        "<4sLQL", b"PK\x06\x07", 0, len(listing), 1
    )
    return listing + end64 + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(listing), 0, 0)


def encrypted():
    raw = bytearray(zipped([("s.json", "{}")]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    return bytes(raw)


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"no zip at all",
        lambda: zipped([("s.json", "{}")])[:-30],
        entry_bomb,
        lambda: zipped([("s.json", "x" * 5000)]).replace(b"PK\x03\x04", b"PK\x03\x05"),
    ],
    ids=["empty", "text", "truncated", "many entries", "a broken header"],
)
def test_a_zip_that_cannot_be_extracted_fails(bundle, tmp_path, make):
    outcome = simulate(bundle, submission(tmp_path, make()), tmp_path / "out")
    assert outcome.status == "Failed" and "extracted" in outcome.reason
    assert outcome.details == "Bad or empty zip file"


def with_method(number):
    """A zip that claims a different method of compression."""
    raw = bytearray(zipped([("s.json", "{}")]))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        raw[raw.index(signature) + offset] = number
    return bytes(raw)


@pytest.mark.parametrize(
    "make",
    [
        encrypted,
        lambda: with_method(9),
        lambda: with_method(93),
        lambda: zipped([("a", "x"), ("a/s.json", "{}")]),
        lambda: zipped([("p" * 254 + ".json", "{}")]),
    ],
    ids=["encrypted", "deflate64", "zstd", "a file for a folder", "an overlong name"],
)
def test_a_zip_that_kills_the_worker_stays_preparing(bundle, tmp_path, make):
    outcome = simulate(bundle, submission(tmp_path, make()), tmp_path / "out")
    assert (outcome.status, outcome.scores, outcome.details) == ("Preparing", {}, "")
    assert "counts against the limit" in outcome.reason


def test_there_is_no_limit_that_the_worker_lacks(bundle, built, tmp_path):
    files = [("s.json", json.dumps(built.labels["labels"])), *((f"x/{k}", "") for k in range(10_001))]
    assert simulate(bundle, submission(tmp_path, zipped(files)), tmp_path / "out").status == "Finished"


def test_the_phases_own_time_limit(bundle, tmp_path):
    bundle.config["phases"][-1]["execution_time_limit"] = "1"
    outcome = simulate(with_program(bundle, "import time; time.sleep(60)"), submission(tmp_path, {}), tmp_path / "out")
    assert (outcome.status, outcome.reason) == ("Failed", "stopped after 1 s")


def test_nothing_is_extracted_outside_its_folder(tmp_path):
    names = ["../up.json", "a/../../up2.json", "/abs.json", "..\\win.json"]
    extract(zipped([(name, "{}") for name in names]), tmp_path / "inner/res")
    assert {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()} == {
        ("inner", "res")
    }


def test_a_link_in_a_zip_becomes_a_plain_file(tmp_path):
    link = zipfile.ZipInfo("s.json")
    link.external_attr = 0o120777 << 16
    extract(zipped([(link, "/etc/passwd")]), tmp_path / "res")
    assert not (tmp_path / "res/s.json").is_symlink() and (tmp_path / "res/s.json").read_text() == "/etc/passwd"


@pytest.mark.parametrize(
    "name, content",
    [
        ("metadata", "description: mine"),
        ("metadata", ""),
        ("metadata.yaml", "a: b: c"),
        ("metadata/x.txt", "x"),
        ("metadata", b"\xff\xfe\0"),
        ("metadata", "command: []"),
    ],
)
def test_a_submission_with_metadata_but_without_a_command_fails(bundle, built, tmp_path, name, content):
    files = [(name, content), ("s.json", json.dumps({"predictions": built.labels["labels"]}))]
    outcome = simulate(bundle, submission(tmp_path, zipped(files)), tmp_path / "out")
    assert (outcome.status, outcome.scores, outcome.details) == ("Failed", {}, "Bad or empty zip file")
    assert name.partition("/")[0] in outcome.reason


@pytest.mark.parametrize("name", ["a/metadata", "metadata.txt", "metadata.json"])
def test_metadata_elsewhere_is_harmless(bundle, built, tmp_path, name):
    files = {"s.json": json.dumps(built.labels["labels"]), name: "{}"}
    files = {name: files["s.json"]} if name.endswith(".json") else files
    assert simulate(bundle, submission(tmp_path, zipped(files.items())), tmp_path / "out").status == "Finished"


@pytest.mark.parametrize(
    "command, status, words",
    [
        ("cp $program/p.txt $output/p.json", "Finished", None),
        ("cp /app/program/p.txt /app/output/p.json", "Finished", None),
        ("cp p.txt $predictions/p.json", "Finished", None),
        ("sh -c 'mkdir -p $output/a && cp p.txt $output/a/p.json'", "Finished", None),
        ("true", "Failed", "wrote nothing"),
        ("false", "Failed", "exited with code 1"),
        ("sleep 60", "Failed", "more than 2 s"),
        ("cp 'p.txt $output", "Failed", "cannot be split"),
        ("ln -s {labels} $output/p.json", "Failed", "wrote nothing"),
        ("sh -c 'cp {labels} $output/p.json'", "Failed", "exited with code 1"),
        ("sh -c 'touch {folder}/written; cp p.txt $output/p.json'", "Finished", None),
    ],
)
def test_a_submissions_command_runs_in_a_sandbox(bundle, built, tmp_path, command, status, words):
    bundle.config["phases"][-1]["execution_time_limit"] = 2 if "sleep" in command else 60
    command = command.replace("{labels}", str(built.options.labels)).replace("{folder}", str(tmp_path))
    files = [("metadata.yaml", json.dumps({"command": command})), ("p.txt", json.dumps(built.labels["labels"]))]
    outcome = simulate(bundle, submission(tmp_path, zipped(files)), tmp_path / "out")
    if outcome.status == "Not run":
        pytest.skip("no sandbox on this machine")
    assert outcome.status == status, outcome
    assert outcome.reason is None if words is None else words in outcome.reason
    assert outcome.scores.get("score") == (1.0 if status == "Finished" else None)
    assert not (tmp_path / "written").exists()


def test_without_a_sandbox_nothing_is_run(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    files = [("metadata", f"command: touch {tmp_path / 'run'}"), ("s.json", "{}")]
    outcome = simulate(bundle, submission(tmp_path, zipped(files)), tmp_path / "out")
    assert outcome.status == "Not run" and "sandbox" in outcome.reason and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command",
    [
        "python3 $program/p.py $input $output",
        "python p.py /app/input /app/output",
        "python3 '$program/p.py' \"$input\" $output",
        "bash -c 'python3 $program/p.py $input $output'",
        "python3 $ingestion_program/p.py $hidden/.. $tmp",
        "python3 p.py $predictions/.. $shared/../output",
    ],
)
def test_commands_are_split_and_filled_as_the_worker_does(bundle, tmp_path, command):
    outcome = simulate(with_program(bundle, SPY, command), submission(tmp_path, {}), tmp_path / "out")
    assert outcome.status == "Finished", (tmp_path / "out/stderr.txt").read_text()
    assert json.loads((tmp_path / "out/seen.json").read_text())["packages"] == []


def test_figures_from_an_earlier_run_do_not_survive(bundle, tmp_path):
    path = submission(tmp_path, {})
    assert simulate(with_program(bundle, SPY), path, tmp_path / "out").status == "Finished"
    assert simulate(with_program(bundle, "pass"), path, tmp_path / "out").status == "Failed"
    assert not (tmp_path / "out/scores.json").exists()


# ----------------------------------------------------------------------------------------- the command


def test_a_folder_of_submissions(built, tmp_path):
    for name, data in (("b.zip", {"predictions": built.labels["labels"]}), ("a.zip", {}), ("c.zip", b"no zip")):
        submission(tmp_path, data, name)
    result = run("simulate", built.bundle, tmp_path, "--out", tmp_path / "out")
    outcomes = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(outcome["submission"], outcome["status"]) for outcome in outcomes] == [
        ("a.zip", "Failed"),
        ("b.zip", "Finished"),
        ("c.zip", "Failed"),
    ]
    assert outcomes[1]["scores"] == dict.fromkeys(SCORE_KEYS, 1.0) and outcomes[1]["report"] == str(
        tmp_path / "out/b/detailed_results.html"
    )
    assert result.exit_code == 1 and "at least one clip" in result.stderr


def test_rescoring_after_a_label_was_corrected(built, tmp_path):
    path = submission(tmp_path, {"predictions": built.labels["labels"]})
    corrected = json.loads(json.dumps(built.labels))
    corrected["labels"]["test_0001"] = [{"emotion": "neu", "salience": 100}]
    assert corrected != built.labels
    (tmp_path / "labels.json").write_text(json.dumps(corrected))
    build(built.options._replace(labels=tmp_path / "labels.json", out=tmp_path / "b.zip"))
    result = run("simulate", tmp_path / "b.zip", path, "--out", tmp_path / "out")
    assert result.exit_code == 0 and json.loads(result.stdout)["scores"]["acc_presence"] == round(119 / 120, 10)


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["no.zip", "s.zip"], 3),
        (["BUNDLE", "no.zip"], 3),
        (["s.zip", "s.zip"], 4),
        (["BUNDLE", "."], 2),
        (["BUNDLE", "s.zip", "--phase", "Final"], 4),
        (["BUNDLE", "s.zip", "--python", "/no/python"], 4),
    ],
)
def test_mistakes(built, tmp_path, monkeypatch, arguments, code):
    (tmp_path / "empty").mkdir()
    submission(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    arguments = [{"BUNDLE": built.bundle, ".": "empty"}.get(argument, argument) for argument in arguments]
    result = run("simulate", *arguments)
    assert result.exit_code == code and result.stderr.strip() and result.stdout == ""


def test_hashes_in_settings_detect_edited_labels(built, tmp_path):
    """Labels that were edited inside the bundle are reported before anything is scored."""
    bundle = Bundle(built.bundle)
    files = bundle.data("test_reference.zip")
    assert json.loads(files["settings.json"])["labels_hmac_sha256"] == hmac_of(files["labels.json"])
    files["labels.json"] += b" "
    (tmp_path / "b.zip").write_bytes(pack({**bundle.files, "test_reference.zip": pack(files)}))
    result = run("simulate", tmp_path / "b.zip", submission(tmp_path, {}))
    assert result.exit_code == 4 and "SHA-256" in result.stderr
