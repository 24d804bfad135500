"""`check` finds whatever the platform reports cryptically, late or not at all, and accepts valid bundles by others."""

import base64
import copy
import json
from datetime import UTC, datetime

import pytest
import yaml
from click.testing import CliRunner

from blemore_codabench import check as checking
from blemore_codabench.bundle import Bundle, pack
from blemore_codabench.check import check
from blemore_codabench.cli import main

pytestmark = pytest.mark.usefixtures("trials")
JPEG = base64.b64decode(  # grey, 8 × 8 pixels
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////"
    "////////////////////wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAI"
    "AQEAAD8AN//Z"
)


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def bundle(built):
    return Bundle(built.bundle)


FOREIGN = """
version: 2
title: Iris
image: img/logo.jpg
terms: terms.md
docker_image: someone/else:1
pages: [{title: Home, file: home.md}]
queue: b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b
competition_type: benchmark
tasks:
- {index: 7, name: one, scoring_program: scoring/, reference_data: ref, input_data: ref,
   ingestion_program: ingestion.zip, ingestion_only_during_scoring: false}
- {index: 3, name: two, scoring_program: scoring, reference_data: ref}
solutions: [{index: 0, tasks: [7], path: solution.zip}]
phases:
- {index: 0, name: first, start: '2024-01-01', end: '2024-02-01 00:00', tasks: [7, 3],
   execution_time_limit: 3000, auto_migrate_to_this_phase: false, public_data: ref}
- {index: 1, name: second, start: '2024-02-01 00:00:01', tasks: [3]}
leaderboards:
- title: R
  key: r
  submission_rule: Force_Last
  columns:
  - {title: A, key: a, index: 0, sorting: asc, precision: 2, computation: avg, computation_indexes: ['1', '2']}
  - {title: B, key: b, index: 1, hidden: true}
  - {title: C, key: c, index: 2}
"""


def foreign():
    """A valid bundle by others: folders, two tasks in a phase, computed columns, another style of quoting."""
    files = {
        "img/logo.jpg": JPEG,
        "terms.md": b"terms",
        "home.md": "hé".encode(),
        "scoring/metadata": b"command: python score.py /app/input /app/output",
        "scoring/score.py": b"import torch",
        "ref/a.csv": b"1",
        "ingestion.zip": pack({"metadata.yaml": b"command: python3 $program/run.py $input", "run.py": b""}),
        "solution.zip": pack({"a": b"1"}),
    }
    return yaml.safe_load(FOREIGN), files


def problems(tmp_path, files, config=None):
    if config is not None:
        files = {**files, "competition.yaml": yaml.safe_dump(config).encode()}
    (tmp_path / "bundle.zip").write_bytes(pack(files))
    return check(tmp_path / "bundle.zip")


def test_a_valid_bundle_by_others(tmp_path):
    config, files = foreign()
    errors, notes = problems(tmp_path, files, config)
    assert errors == []
    assert any("not this kit's" in str(note) for note in notes) and any("download" in str(note) for note in notes)


@pytest.mark.parametrize(
    "command, absent",
    [
        ("python $program/score.py --models $program/models $input", []),  # a folder of the program
        ("python score.py /app/program/models/ $output", []),
        ("python $program/models/other.py", ["models/other.py"]),
        ("python /app/program/none.py $program/nowhere/", ["none.py", "nowhere/"]),
    ],
)
def test_the_command_may_name_files_and_folders_of_the_program(tmp_path, command, absent):
    config, files = foreign()
    errors, _ = problems(
        tmp_path, {**files, "scoring/metadata": f"command: {command}".encode(), "scoring/models/a.pt": b"1"}, config
    )
    assert {error.message for error in errors} == {
        f'the command names "{name}", which is not in the program' for name in absent
    }


NULL = object()  # YAML's
QUESTION = dict.fromkeys(("key", "title", "selection", "is_required", "is_on_leaderboard"), "a") | {"type": "text"}


def put(path, value):
    """A change of the configuration, which sets a key such as `phases.0.start`; None removes the key."""

    def change(config):
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            config = config[part]
        if value is None:
            del config[last]
        else:
            config[last] = None if value is NULL else value

    change.__name__ = f"{path}={'null' if value is NULL else str(value)[:30]}"
    return change


def rename(path, new):
    def change(config):
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            config = config[part]
        config[new] = config.pop(last)

    change.__name__ = f"{path}->{new}"
    return change


WRONG = [  # change, part of the place, part of the problem or its hint
    (put("title", None), "competition.yaml", "no title"),
    (put("title", "x" * 256), "title", "at most 255"),
    (put("title", " "), "title", "empty"),
    (put("title", ["x"]), "title", "a text"),
    (put("title", True), "title", "a text"),
    (put("title", NULL), "title", "refuses null"),
    (put("version", 1), "version", "expected 2"),
    (put("version", 2.0), "version", "expected 2"),
    (put("image", "pages/terms.md"), "image", "not a raster"),
    (put("image", "nowhere.png"), "image", "not in the bundle"),
    (put("image", "pages"), "image", "a folder"),
    (put("docker_image", "x" * 129), "docker_image", "at most 128"),
    (put("docker_image", NULL), "docker_image", "refuses null"),
    (put("docker_image", "codalab/codalab-legacy:py37"), "docker_image", "Python 3.7"),
    (put("docker_image", "python:3.8-slim"), "docker_image", "Python 3.8"),
    (put("contact_email", "me at example"), "contact_email", "an email address"),
    (put("reward", "x" * 257), "reward", "at most 256"),
    (put("queue", "mine"), "queue", "a UUID"),
    (put("fact_sheet", "x"), "fact_sheet", "a mapping of questions"),
    (put("fact_sheet", {"a": {"key": "a"}}), "fact_sheet.a", "is_required"),
    (put("fact_sheet", {"a": {**QUESTION, "type": "number"}}), "fact_sheet.a", "checkbox, text, select"),
    (put("fact_sheet", {"a": {**QUESTION, "key": "b"}}), "fact_sheet.a", "question's key"),
    (put("terms", None), "competition.yaml", "no terms"),
    (put("terms", "pages/term.md"), "terms", "nearest"),
    (put("pages", []), "pages", "empty"),
    (put("pages", None), "competition.yaml", "no pages"),
    (put("pages.0.file", "pages/none.md"), "pages[0].file", "not in the bundle"),
    (put("pages.0.file", None), "pages[0]", "no file"),
    (put("pages.0", "pages/overview.md"), "pages[0]", "a mapping"),
    (put("pages.0.file", "../../etc/hostname"), "pages[0].file", "out of the bundle"),
    (put("pages.0.file", "/etc/hostname"), "pages[0].file", "out of the bundle"),
    (put("pages.0.title", "x" * 256), "pages[0]: title", "at most 255"),
    (put("x", 1), "competition.yaml", "knows no key"),
    (put("competition_type", "challenge"), "competition_type", "benchmark"),
    (put("enable_detailed_results", "maybe"), "enable_detailed_results", "true or false"),
    (
        rename("enable_detailed_results", "enable_detailled_results"),
        "competition.yaml",
        "Did you mean enable_detailed_results",
    ),
    (rename("leaderboards", "leaderboard"), "competition.yaml", "Did you mean leaderboards"),
    (put("submission_rule", "Force_Best"), "competition.yaml", "belongs in a leaderboard"),
    (put("phases.0.docker_image", "x"), "phases[0]", "belongs in a competition"),
    (put("phases.0.max_submission_per_day", 3), "phases[0]", "Did you mean max_submissions_per_day"),
    (put("tasks.0.starting_kit", "starting_kit.zip"), "tasks[0]", "belongs in a phase"),
    (put("public_data", "test_data.zip"), "competition.yaml", "belongs in a phase"),
    (put("tasks.0.name", None), "tasks[0]", "no name"),
    (put("tasks.0.index", 1), "tasks", "not unique"),
    (put("tasks.0.scoring_program", None), "tasks[0]", "no scoring_program"),
    (put("tasks.0.scoring_program", "logo.png"), "scoring_program", "bare file"),
    (put("tasks.0.scoring_program", "practice_data.zip"), "scoring_program", "metadata.yaml"),
    (put("tasks.0.reference_data", "pages/terms.md"), "reference_data", "every submission fails"),
    (put("tasks.0.reference_data", "none.zip"), "reference_data", "not in the bundle"),
    (put("tasks.0.input_data", NULL), "input_data", "refuses null"),
    (put("tasks.0", {"index": 0, "key": "abc"}), "tasks[0]: key", "a UUID"),
    (put("tasks.0.index", "0"), "phases[0].tasks", "no task 0"),
    (put("tasks", []), "tasks", "empty"),
    (put("phases.0.tasks", [5]), "phases[0].tasks", "no task 5"),
    (put("phases.0.tasks", []), "phases[0]: tasks", "empty"),
    (put("phases.0.tasks", None), "phases[0]", "no tasks"),
    (put("phases.1.index", "1"), "phases", "texts and numbers"),
    (put("phases.1.index", NULL), "phases[1]: index", "refuses null"),
    (put("phases.0.index", 2), "phases[0]", "order of time"),
    (put("phases.0.auto_migrate_to_this_phase", True), "phases[0]", "first phase"),
    (put("phases.1.index", 0), "phases", "not unique"),
    (put("phases.0.name", None), "phases[0]", "no name"),
    (put("phases.0.start", None), "phases[0]", "no start"),
    (put("phases.0.end", None), "phases[0]", "only the last"),
    (put("phases.0.end", "2026-03-01 00:00:00"), "phases[1]", "Leave a second between"),
    (put("phases.0.end", "2026-03-05 00:00:00"), "phases[1]", "overlaps"),
    (put("phases.0.end", "2026-01-05 00:00:00"), "phases[0]", "does not notice"),
    (put("phases.1.start", "2025-03-05 00:00:00"), "phases[1]", "order of time"),
    (put("phases.0.start", "1.2.2026"), "phases[0].start", "expected UTC as"),
    (put("phases.0.start", "2026-02-01T00:00:00+02:00"), "phases[0].start", "drops the offset"),
    (put("phases.0.start", "2026"), "phases[0].start", "missing parts from today"),
    (put("phases.0.start", "2026-02-30"), "phases[0].start", "expected UTC as"),
    (put("phases.0.max_submissions", -1), "max_submissions", "at least 0"),
    (put("phases.0.max_submissions", NULL), "max_submissions", "to mean no limit"),
    (put("phases.0.max_submissions", 2**31), "max_submissions", "2,147,483,647"),
    (put("phases.0.max_submissions", 2.5), "max_submissions", "a whole number"),
    (put("phases.0.max_submissions", True), "max_submissions", "a whole number"),
    (put("phases.0.max_submissions", "many"), "max_submissions", "a whole number"),
    (put("phases.0.execution_time_limit", 601), "execution_time_limit", "600 s at most"),
    (put("phases.0.starting_kit", "none.pdf"), "starting_kit", "not in the bundle"),
    (put("phases.0.public_data", "public"), "public_data", "not in the bundle"),
    (put("leaderboards", []), "leaderboards", "empty"),
    (put("leaderboards.0.title", "x" * 65), "leaderboards[0]: title", "at most 64"),
    (put("leaderboards.0.key", "x" * 37), "leaderboards[0]: key", "at most 36"),
    (put("leaderboards.0.submission_rule", "Best"), "submission_rule", "Force_Best"),
    (put("leaderboards.0.columns", []), "columns", "empty"),
    (put("leaderboards.0.columns.0.index", 3), "columns", "no column has the index 0"),
    (put("leaderboards.0.primary_index", 9), "columns", "no column has the index 9"),
    (put("leaderboards.0.submission_rule", None), "leaderboards[0]", "Force_Best"),
    (put("leaderboards.0.columns.0.sorting", "asc"), "columns[0]", "the lowest score leads"),
    (put("leaderboards.0.columns.0.hidden", NULL), "hidden", "refuses null"),
    (put("leaderboards.0.columns.1.precision", 10**11), "precision", "2,147,483,647"),
    (put("leaderboards.0.columns.0.index", 1), "columns", "not unique"),
    (put("leaderboards.0.columns.0.key", "x" * 37), "columns[0]: key", "at most 36"),
    (put("leaderboards.0.columns.0.title", "x" * 37), "columns[0]: title", "at most 36"),
    (put("leaderboards.0.columns.0.sorting", "down"), "sorting", "asc, desc"),
    (put("leaderboards.0.columns.0.computation", "avg"), "columns[0]", "go together"),
    (put("leaderboards.0.columns.0.computation", "mean"), "computation", "sum, avg"),
    (put("leaderboards.0.columns.1.key", "score"), "columns", "not unique"),
    (put("leaderboards.0.columns.1.key", "presence"), "columns", "emits no presence"),
    (put("leaderboards.0.columns.2", None), "columns", "no column for acc_salience"),
    (put("solutions", [{"index": 0, "path": "none.zip", "tasks": [0]}]), "solutions[0].path", "not in the bundle"),
    (put("solutions", [{"index": 0, "path": "starting_kit.zip"}]), "solutions[0]", "no tasks"),
    (put("solutions", [{"index": 0, "path": "starting_kit.zip", "tasks": [9]}]), "solutions[0].tasks", "no task 9"),
]


@pytest.mark.parametrize("change, place, words", WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_is_found_with_its_place(bundle, tmp_path, change, place, words):
    config = copy.deepcopy(bundle.config)
    change(config)
    errors, _ = problems(tmp_path, bundle.files, config)
    assert any(place in error.where and words in str(error) for error in errors), [str(error) for error in errors]


@pytest.mark.parametrize(
    "value, place",
    [
        ("./pages/overview.md", "pages.0.file"),
        ("pages//overview.md", "pages.0.file"),
        ("pages/../pages/overview.md", "pages.0.file"),
        ("./logo.png", "image"),
        ("./scoring_program.zip", "tasks.0.scoring_program"),
        ("2", "version"),
        (2027, "title"),
        ("yes", "enable_detailed_results"),
        ("4", "leaderboards.0.columns.1.precision"),
        (4.0, "leaderboards.0.columns.1.precision"),
        ("1", "leaderboards.0.columns.1.index"),
        (9, "leaderboards.0.columns.2.index"),
        (1, "leaderboards.0.primary_index"),
        (NULL, "reward"),
        (NULL, "contact_email"),
        (NULL, "phases.1.end"),
        (NULL, "phases.0.description"),
        (None, "phases.0.index"),
        (None, "phases.0.public_data"),
        (-1, "phases.0.index"),
        (12, "phases.1.index"),
        (0, "phases.0.max_submissions_per_day"),
        (0, "phases.1.max_submissions"),
        (300.0, "phases.1.execution_time_limit"),
        (True, "phases.1.accepts_only_result_submissions"),
        ("b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b", "tasks.1.reference_data"),
        ("pages/terms.md", "phases.0.starting_kit"),
        ({"a": {**QUESTION}}, "fact_sheet"),
        ({"starting_kit": "starting_kit.zip"}, "x-common"),
        (True, "tasks.0.is_public"),
        ([], "phases.0.solutions"),
    ],
)
def test_unusual_values_that_work_are_accepted(bundle, tmp_path, value, place):
    config = copy.deepcopy(bundle.config)
    put(place, value)(config)
    assert problems(tmp_path, bundle.files, config).errors == []


def test_notes_report_what_works_but_is_hardly_intended(bundle, tmp_path):
    config = copy.deepcopy(bundle.config)
    put("phases.1.max_submissions", 0)(config)
    put("phases.1.start", "March 1, 2026 10:30 PM")(config)
    put("leaderboards.0.columns.2.index", 9)(config)
    put("tasks.0.reference_data", "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b")(config)
    errors, notes = problems(tmp_path, bundle.files, config)
    text = "\n".join(map(str, notes))
    for words in ("to mean no limit", "reads it as 2026-03-01 22:30:00 UTC", "have gaps", "by a key"):
        assert words in text
    assert errors == []


def test_phases_are_in_the_order_of_their_indexes(bundle, tmp_path):
    config = copy.deepcopy(bundle.config)
    config["phases"].reverse()
    assert problems(tmp_path, bundle.files, config).errors == []
    for phase in config["phases"]:
        del phase["index"]
    assert any("order of time" in str(error) for error in problems(tmp_path, bundle.files, config).errors)


@pytest.mark.parametrize(
    "text, fault",
    [
        ("2026-03-01 00:00:00", None),
        ("2026-03-01", None),
        ("2026-03-01 12:00:00", "quotes"),
        ("20260301", "quotes"),
        ("false", "not a date"),
    ],
)
def test_unquoted_dates(bundle, tmp_path, text, fault):
    """YAML turns them into times, of which the platform keeps only the day."""
    raw = bundle.files["competition.yaml"].decode().replace("'2026-03-01 00:00:00'", text)
    assert raw != bundle.files["competition.yaml"].decode()
    errors, _ = problems(tmp_path, {**bundle.files, "competition.yaml": raw.encode()})
    assert [("phases[1].start" in error.where, fault in str(error)) for error in errors] == [(True, True)] * bool(fault)


@pytest.mark.parametrize(
    "now, past",
    [
        ("2025-12-01", []),
        ("2026-02-01 20:00", []),  # the practice phase has just begun
        ("2026-02-03", ["phases[0]"]),
        ("2026-03-01 20:00", ["phases[0]"]),
        ("2026-03-15", ["phases[0]", "phases[1]"]),
        ("2026-05-01", ["phases[0]", "phases[1]"]),
    ],
)
def test_dates_in_the_past(built, now, past):
    errors, _ = check(built.bundle, now=datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert [error.where.removeprefix("competition.yaml: ") for error in errors] == past
    assert all(error.code == "past" and "--allow-past" in str(error) for error in errors)


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "at the root"),
        ({"bundle/competition.yaml": b"version: 2"}, "not the folder itself"),
        ({"competition.yml": b"version: 2"}, "use exactly this name"),
        ({"competition.yaml": b"version: [2"}, "not YAML"),
        ({"competition.yaml": b"- a"}, "a mapping"),
        ({"competition.yaml": b"title: a\ntitle: b"}, '"title" occurs twice'),
        ({"competition.yaml": b"\xff\xfe"}, "not YAML"),
        ({"competition.yaml": b"? [a]\n: b\n"}, ""),
        ({"competition.yaml": b"a: &x [*x]\n"}, "a"),
        ({"competition.yaml": b""}, "a mapping"),
    ],
    ids=range(10),
)
def test_bundles_without_a_readable_configuration(tmp_path, files, words):
    errors, _ = problems(tmp_path, files)
    assert errors and any(words in str(error) for error in errors)


def test_a_file_that_is_not_a_zip(tmp_path):
    (tmp_path / "b.zip").write_bytes(b"no zip")
    assert run("check", tmp_path / "b.zip").exit_code == 4
    assert run("check", tmp_path / "none.zip").exit_code == 3


def test_pages_logo_and_data(bundle, tmp_path):
    def errors(**files):
        return [
            str(error)
            for error in problems(
                tmp_path,
                {**bundle.files, **{name.replace("__", "/").replace("_md", ".md"): raw for name, raw in files.items()}},
            ).errors
        ]

    assert any("empty" in text for text in errors(pages__terms_md=b" \n"))
    assert any("not UTF-8" in text for text in errors(pages__data_md=b"\xff"))
    assert any("an SVG" in text for text in errors(**{"logo.png": b'<?xml version="1.0"?><svg/>'}))
    assert any("not a readable zip" in text for text in errors(**{"test_reference.zip": b"PK no"}))
    assert any("holds no file" in text for text in errors(**{"test_data.zip": pack({})}))


def with_program(bundle, **changes):
    files = bundle.data("scoring_program.zip")
    for name, raw in changes.items():
        files[name] = raw
    return {**bundle.files, "scoring_program.zip": pack({name: raw for name, raw in files.items() if raw is not None})}


@pytest.mark.parametrize(
    "name, raw, words",
    [
        ("metadata.yaml", None, "no metadata.yaml"),
        ("metadata.yaml", b"cmd: python3 score.py", "no command"),
        ("metadata.yaml", b"command: ''", "no command"),
        ("metadata.yaml", b"command: [python3]", "no command"),
        ("metadata.yaml", b"command: pip install x && python3 $program/score.py", "no shell"),
        ("metadata.yaml", b"command: python3 $program/score.py > out.txt", "no shell"),
        ("metadata.yaml", b"command: python3 $program/scoring.py", "not in the program"),
        ("vendor/jsonschema/__init__.py", b"raise ImportError('x')", "is not scored"),
        ("score.py", b"import sys; sys.exit(3)", "exit code 3"),
        ("score.py", b"", "no scores.json"),
        ("blemore/metrics.py", b"1/0", "is not scored"),
    ],
)
def test_the_program_is_tried(bundle, tmp_path, name, raw, words):
    errors, _ = problems(tmp_path, with_program(bundle, **{name: raw}))
    assert any(words in str(error) for error in errors), [str(error) for error in errors]


def test_the_keys_are_those_that_the_program_really_emits(bundle, tmp_path):
    source = bundle.data("scoring_program.zip")["blemore/codabench.py"].replace(
        b'"acc_presence", "acc_salience")', b'"acc_presence", "salience")'
    )
    source = source.replace(b"getattr(report.counts, key)", b"0.5")
    errors, _ = problems(tmp_path, with_program(bundle, **{"blemore/codabench.py": source}))
    assert any("emits no acc_salience" in str(error) for error in errors) and any(
        "no column for salience" in str(error) for error in errors
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda files: files.pop("labels.json"), "no queue"),  # only the hash: labels on the worker
        (lambda files: files.clear() or files.update({"readme": b""}), "neither labels.json"),
        (lambda files: files.update({"labels.json": b"{}"}), "at least one clip"),
        (lambda files: files.update({"labels.json": files["labels.json"] + b" "}), "SHA-256"),
        (lambda files: files.update({"settings.json": b'{"report": "all"}'}), '"all"'),
        (lambda files: files.update({"settings.json": b'{"reports": "full"}'}), "reports"),
        (lambda files: files.update({"settings.json": b"{"}), "not JSON"),
        (lambda files: files.update({"settings.json": b'["report"]'}), "settings"),
        (
            lambda files: files.update(
                {
                    "labels.json": json.dumps({"a": [{"emotion": "sad", "salience": 100}]}).encode(),
                    "settings.json": b"{}",
                }
            ),
            "no blend",
        ),
    ],
)
def test_reference_data(bundle, tmp_path, change, words):
    files = bundle.data("test_reference.zip")
    change(files)
    errors, _ = problems(tmp_path, {**bundle.files, "test_reference.zip": pack(files)})
    assert any(words in str(error) for error in errors), [str(error) for error in errors]


def test_notes_are_not_errors(bundle, tmp_path):
    config = copy.deepcopy(bundle.config)
    config["leaderboards"].append(copy.deepcopy(config["leaderboards"][0]))
    config["leaderboards"][0]["submission_rule"] = "Add"
    del config["enable_detailed_results"]
    errors, notes = problems(tmp_path, bundle.files, config)
    text = "\n".join(map(str, notes))
    assert errors == [] and all(words in text for words in ("only the first", "Force_Best", "no report page"))


def test_the_platforms_default_image_is_too_old(bundle, tmp_path):
    config, files = foreign()
    del config["docker_image"]
    errors, notes = problems(tmp_path, files, config)
    assert errors == [] and any("py37" in str(note) for note in notes)
    config = copy.deepcopy(bundle.config)
    del config["docker_image"]
    (error,) = problems(tmp_path, bundle.files, config).errors
    assert "py37" in str(error) and "py312" in str(error)


@pytest.mark.parametrize(
    "image, version",
    [
        ("codalab/codalab-legacy:py312", (3, 12)),
        ("codalab/codalab-legacy:gpu310", (3, 10)),
        ("codalab/codalab-legacy:py3", None),
        ("python:3.12-slim", (3, 12)),
        ("python:2.7", (2, 7)),
        ("me/scorer:1.2", None),
    ],
)
def test_the_name_of_an_image_gives_its_python(image, version):
    assert checking.python_of(image) == version


def test_the_command(built, tmp_path):
    assert run("check", built.bundle).exit_code == 4  # its dates are past
    fine = run("check", built.bundle, "--allow-past")
    assert fine.exit_code == 0 and fine.stdout == f"fine: {built.bundle}\n"
    assert fine.stderr.startswith("Note: ") and fine.stderr.count("Note: ") == 1 and "anyone can" in fine.stderr
    files = {**Bundle(built.bundle).files}
    del files["logo.png"]
    (tmp_path / "b.zip").write_bytes(pack(files))
    wrong = run("check", tmp_path / "b.zip")
    assert wrong.exit_code == 4 and wrong.stdout == "" and "logo.png" in wrong.stderr


def test_no_value_in_the_configuration_gives_a_traceback(bundle):
    """Replaces each value of the configuration in turn by values of every kind."""

    def paths(node, at=()):
        yield at
        for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            yield from paths(child, (*at, key))

    # Small files, since they are unpacked thousands of times.
    small = {name: pack({"a": b""}) for name in bundle.files if name.endswith(".zip")}
    small["scoring_program.zip"] = pack({"metadata.yaml": b"command: python3 p.py"})
    files, n_problems = {**bundle.files, **small}, 0
    for path in list(paths(bundle.config))[1:]:
        for value in (None, True, -1, 1e400, "x", [], {}, [[]], [None], {"index": []}, [{"index": {}}]):
            config = copy.deepcopy(bundle.config)
            node = config
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = value
            variant = Bundle.__new__(Bundle)
            variant.files, variant.config = files, config
            now = datetime(2026, 1, 1, tzinfo=UTC)
            n_problems += len([*checking._static(variant, now), *checking._notes(variant)])
    assert n_problems > 500
