"""Labels that participants could read, and data that phases have swapped, are refused in any form."""

import csv
import gzip
import io
import json

import pytest
import yaml

from blemore.io import zip_bytes
from blemore.labels import EMOTION_NAMES
from blemore_codabench.build import build
from blemore_codabench.bundle import Bundle, pack
from blemore_codabench.check import check

QUEUE = "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b"


@pytest.fixture(scope="module")
def bundle(built):
    return Bundle(built.bundle)


@pytest.fixture(scope="module")
def on_worker(built, tmp_path_factory):
    """The same with the hidden labels on the worker: the bundle does not contain them."""
    out = tmp_path_factory.mktemp("worker") / "bundle.zip"
    build(built.options._replace(labels_on_worker=True, queue=QUEUE, out=out))
    return Bundle(out)


def errors(tmp_path, bundle, config=None, **files):
    files = {name.replace("__", "/").replace("_zip", ".zip").replace("_md", ".md"): raw for name, raw in files.items()}
    text = yaml.safe_dump(config or bundle.config).encode()
    (tmp_path / "bundle.zip").write_bytes(pack({**bundle.files, **files, "competition.yaml": text}))
    return check(tmp_path / "bundle.zip").errors


def as_table(labels, *, names=False, first=True):
    """A CSV with the clip first or last, and emotions by code or name."""
    text = io.StringIO()
    for clip, entry in labels.items():
        emotions = [EMOTION_NAMES[part["emotion"]] if names else part["emotion"] for part in entry]
        row = [*emotions, *[""] * (2 - len(emotions))]
        csv.writer(text).writerow([clip + ".mov", *row] if first else [*row, clip])
    return text.getvalue().encode()


FORMS = {
    "labels": lambda labels: json.dumps({"labels": labels}).encode(),
    "a submission": lambda labels: json.dumps({"predictions": labels}).encode(),
    "a table": as_table,
    "names in words": lambda labels: as_table(labels, names=True),
    "clips last": lambda labels: as_table(labels, first=False),
    "tabs, UTF-16": lambda labels: as_table(labels).decode().replace(",", "\t").encode("utf-16"),
    "yaml": lambda labels: yaml.safe_dump(labels).encode(),
    "a list": lambda labels: json.dumps([{"id": clip, "is": entry} for clip, entry in labels.items()]).encode(),
    "some of them": lambda labels: as_table(dict(list(labels.items())[20:30])),
    "compressed": lambda labels: gzip.compress(as_table(labels)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["on_platform", "on_worker"])
def test_labels_in_public_data_are_found_in_any_form(request, built, bundle, tmp_path, form, where):
    variant = bundle if where == "on_platform" else request.getfixturevalue("on_worker")
    public = variant.data("test_data.zip")
    raw = FORMS[form](built.labels["labels"])
    problems = errors(tmp_path, variant, test_data_zip=pack({**public, "features/readme.txt": raw}))
    assert [error.code for error in problems] == ["leak"]
    assert "phases[1].public_data: test_data.zip › features/readme.txt" in problems[0].where
    assert f"{10 if form == 'some of them' else 120} clips" in problems[0].message


@pytest.mark.parametrize("place", ["kit", "nested", "input", "program", "solution", "page", "practice"])
def test_labels_are_found_wherever_participants_can_read(built, bundle, tmp_path, place):
    labels = json.dumps({"labels": built.labels["labels"]}).encode()
    config = yaml.safe_load(yaml.safe_dump(bundle.config))
    files = {}
    if place == "kit":
        files["starting_kit_zip"] = pack({"a": labels})
    elif place == "nested":
        files["starting_kit_zip"] = pack({"a.zip": pack({"b.zip": zip_bytes("c", labels)})})
    elif place == "input":
        files["input_zip"] = pack({"a": labels})
        config["tasks"][1]["input_data"] = "input.zip"
    elif place == "program":
        files["scoring_program_zip"] = pack({**bundle.data("scoring_program.zip"), "labels": labels})
    elif place == "solution":
        files["solution_zip"] = pack({"a": labels})
        config["solutions"] = [{"index": 0, "tasks": [1], "path": "solution.zip"}]
    elif place == "page":
        files["pages__terms_md"] = labels
    else:
        files["practice_data_zip"] = pack({**bundle.data("practice_data.zip"), "a": labels})
    problems = errors(tmp_path, bundle, config, **files)
    assert {error.code for error in problems} == {"leak"} and len(problems) == 1


def test_reference_data_as_public_data(bundle, tmp_path):
    for section, index, key in (
        ("phases", 1, "public_data"),
        ("phases", 0, "starting_kit"),
        ("tasks", 0, "input_data"),
    ):
        config = yaml.safe_load(yaml.safe_dump(bundle.config))
        config[section][index][key] = "test_reference.zip"
        assert "leak" in {error.code for error in errors(tmp_path, bundle, config)}


def test_files_that_reveal_no_label_are_not_leaks(built, bundle, tmp_path):
    """The public labels of the practice phase; ids; the same answer for every clip; a baseline's predictions."""
    clips = list(built.labels["labels"])
    turned = dict(zip(clips, reversed(built.labels["labels"].values())))
    files = {
        "practice.json": json.dumps(built.practice).encode(),
        "ids.csv": "\n".join(clips).encode(),
        "always.json": json.dumps({clip: [{"emotion": "fea", "salience": 100}] for clip in clips}).encode(),
        "predictions.json": json.dumps({"predictions": turned}).encode(),
        "example.md": as_table(dict(list(built.labels["labels"].items())[:4])),
        "binary": bytes(range(256)) * 9,
    }
    assert errors(tmp_path, bundle, starting_kit_zip=pack(files)) == []


# ------------------------------------------------------------------------------------ exchanges


@pytest.mark.parametrize("where", ["on_platform", "on_worker"])
@pytest.mark.parametrize("exchange", ["reference", "public"])
def test_swapped_data(request, bundle, tmp_path, where, exchange):
    variant = bundle if where == "on_platform" else request.getfixturevalue("on_worker")
    config = yaml.safe_load(yaml.safe_dump(variant.config))
    entries, key = (config["tasks"], "reference_data") if exchange == "reference" else (config["phases"], "public_data")
    entries[0][key], entries[1][key] = entries[1][key], entries[0][key]
    problems = errors(tmp_path, variant, config)
    assert problems and {error.code for error in problems} <= {"exchanged", "no-labels"}
    assert any("swapped" in str(error) for error in problems)


def test_a_phase_with_the_task_of_another(bundle, tmp_path):
    config = yaml.safe_load(yaml.safe_dump(bundle.config))
    config["phases"][1]["tasks"] = [0]
    (error,) = errors(tmp_path, bundle, config)
    assert error.code == "exchanged" and "Test" in error.where


def test_an_incomplete_list_of_clips(bundle, tmp_path):
    public = bundle.data("test_data.zip")
    rows = public["test_clips.csv"].decode().splitlines()
    table = {"test_clips.csv": "\n".join([rows[0], "x_1", *rows[3:]]).encode()}
    (error,) = errors(tmp_path, bundle, test_data_zip=pack(table))
    assert error.code == "clips" and "2 missing (test_0001, test_0002), 1 unknown (x_1)" in error.message


def test_public_data_that_lists_no_clips_or_others(bundle, tmp_path):
    """Other files from the organiser do not count as lists of the phase's clips."""
    for files in (
        {"a.txt": b"x"},
        {"train.csv": b"filename\nA102_ang_int1_ver1\n"},
        {"a.csv": b"\xff"},
        {"a.json": b"["},
    ):
        assert errors(tmp_path, bundle, test_data_zip=pack(files)) == []
