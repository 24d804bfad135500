"""Each thing that the platform reports cryptically, late or not at all, is found; sound bundles of others are let
through.
"""

import copy
import json

import pytest
import yaml
from click.testing import CliRunner

from blemore_codabench import check as checking
from blemore_codabench.bundle import Bundle, pack
from blemore_codabench.check import check
from blemore_codabench.cli import main

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def ours(built):
    return Bundle(built.bundle)


def foreign():
    """A sound bundle of another competition: folders, two tasks in a phase, computed columns, no quoted style of ours."""
    config = {
        "version": 2,
        "title": "Iris",
        "image": "img/logo.jpg",
        "terms": "terms.md",
        "docker_image": "someone/else:1",
        "pages": [{"title": "Home", "file": "home.md"}],
        "queue": "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b",
        "competition_type": "benchmark",
        "tasks": [
            {
                "index": 7,
                "name": "one",
                "scoring_program": "scoring/",
                "reference_data": "ref",
                "input_data": "ref",
                "ingestion_program": "ingestion.zip",
                "ingestion_only_during_scoring": False,
            },
            {"index": 3, "name": "two", "scoring_program": "scoring", "reference_data": "ref"},
        ],
        "solutions": [{"index": 0, "tasks": [7], "path": "solution.zip"}],
        "phases": [
            {
                "index": 0,
                "name": "first",
                "start": "2024-01-01",
                "end": "2024-02-01 00:00",
                "tasks": [7, 3],
                "execution_time_limit": 3000,
                "auto_migrate_to_this_phase": False,
                "public_data": "ref",
            },
            {"index": 1, "name": "second", "start": "2024-02-01 00:00:01", "tasks": [3]},
        ],
        "leaderboards": [
            {
                "title": "R",
                "key": "r",
                "submission_rule": "Force_Last",
                "columns": [
                    {
                        "title": "A",
                        "key": "a",
                        "index": 0,
                        "sorting": "asc",
                        "precision": 2,
                        "computation": "avg",
                        "computation_indexes": ["1", "2"],
                    },
                    {"title": "B", "key": "b", "index": 1, "hidden": True},
                    {"title": "C", "key": "c", "index": 2},
                ],
            }
        ],
    }
    files = {
        "img/logo.jpg": b"\xff\xd8\xff\xe0rest",
        "terms.md": b"terms",
        "home.md": "hé".encode(),
        "scoring/metadata": b"command: python score.py /app/input /app/output",
        "scoring/score.py": b"import torch",
        "ref/a.csv": b"1",
        "ingestion.zip": pack({"metadata.yaml": b"command: python3 $program/run.py $input", "run.py": b""}),
        "solution.zip": pack({"a": b"1"}),
    }
    return config, files


def problems(tmp_path, files, config=None):
    if config is not None:
        files = {**files, "competition.yaml": yaml.safe_dump(config).encode()}
    (tmp_path / "bundle.zip").write_bytes(pack(files))
    return check(tmp_path / "bundle.zip")


def test_a_sound_bundle_of_somebody_elses(tmp_path):
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
def test_what_the_command_names_is_a_file_or_a_folder_of_the_program(tmp_path, command, absent):
    config, files = foreign()
    errors, _ = problems(
        tmp_path, {**files, "scoring/metadata": f"command: {command}".encode(), "scoring/models/a.pt": b"1"}, config
    )
    assert {error.message for error in errors} == {
        f'the command names "{name}", which is not in the program' for name in absent
    }


def put(path, value):
    """A change of the configuration: `phases.0.start` becomes a value; None takes the key away."""

    def change(config):
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            config = config[part]
        if value is None:
            del config[last]
        else:
            config[last] = value

    change.__name__ = f"{path}={str(value)[:30]}"
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
    (put("title", "x" * 257), "title", "at most 256"),
    (put("title", " "), "title", "empty"),
    (put("title", 3), "title", "a text"),
    (put("version", 1), "version", "expected 2"),
    (put("version", "2"), "version", "a whole number"),
    (put("image", "pages/terms.md"), "image", "no raster"),
    (put("image", "nowhere.png"), "image", "not in the bundle"),
    (put("terms", None), "competition.yaml", "no terms"),
    (put("terms", "pages/term.md"), "terms", "nearest"),
    (put("pages", []), "pages", "empty"),
    (put("pages", None), "competition.yaml", "no pages"),
    (put("pages.0.file", "pages/none.md"), "pages[0].file", "not in the bundle"),
    (put("pages.0.file", None), "pages[0]", "no file"),
    (put("pages.0", "pages/overview.md"), "pages[0]", "a mapping"),
    (put("competition_type", "challenge"), "competition_type", "benchmark"),
    (put("enable_detailed_results", "yes"), "enable_detailed_results", "true or false"),
    (
        rename("enable_detailed_results", "enable_detailled_results"),
        "competition.yaml",
        "Is enable_detailed_results meant",
    ),
    (rename("leaderboards", "leaderboard"), "competition.yaml", "Is leaderboards meant"),
    (put("submission_rule", "Force_Best"), "competition.yaml", "into a leaderboard"),
    (put("phases.0.docker_image", "x"), "phases[0]", "into a competition"),
    (put("phases.0.max_submission_per_day", 3), "phases[0]", "Is max_submissions_per_day meant"),
    (put("tasks.0.starting_kit", "starting_kit.zip"), "tasks[0]", "into a phase"),
    (put("public_data", "test_data.zip"), "competition.yaml", "into a phase"),
    (put("tasks.0.name", None), "tasks[0]", "no name"),
    (put("tasks.0.index", 1), "tasks", "not unique"),
    (put("tasks.0.scoring_program", None), "tasks[0]", "no scoring_program"),
    (put("tasks.0.scoring_program", "logo.png"), "scoring_program", "bare file"),
    (put("tasks.0.scoring_program", "practice_data.zip"), "scoring_program", "metadata.yaml"),
    (put("tasks.0.reference_data", "pages/terms.md"), "reference_data", "every submission fails"),
    (put("tasks.0.reference_data", "none.zip"), "reference_data", "not in the bundle"),
    (put("tasks", []), "tasks", "empty"),
    (put("phases.0.tasks", [5]), "phases[0].tasks", "no task 5"),
    (put("phases.0.tasks", []), "phases[0]: tasks", "empty"),
    (put("phases.0.tasks", None), "phases[0]", "no tasks"),
    (put("phases.1.index", 2), "phases", "gaps"),
    (put("phases.1.index", 0), "phases", "not unique"),
    (put("phases.0.name", None), "phases[0]", "no name"),
    (put("phases.0.start", None), "phases[0]", "no start"),
    (put("phases.0.end", None), "phases[0]", "only the last"),
    (put("phases.0.end", "2026-03-01 00:00:00"), "phases[1]", "a second lie between"),
    (put("phases.0.end", "2026-03-05 00:00:00"), "phases[1]", "overlaps"),
    (put("phases.0.end", "2026-01-05 00:00:00"), "phases[0]", "does not notice"),
    (put("phases.1.start", "2025-03-05 00:00:00"), "phases[1]", "order of time"),
    (put("phases.0.start", "1.2.2026"), "phases[0].start", "expected UTC as"),
    (put("phases.0.start", "2026-02-01T00:00:00+02:00"), "phases[0].start", "drops an offset"),
    (put("phases.0.start", "2026-02-01T00:00:00Z"), "phases[0].start", "drops an offset"),
    (put("phases.0.start", "2026-02-30"), "phases[0].start", "expected UTC as"),
    (put("phases.0.max_submissions", 0), "max_submissions", "at least 1"),
    (put("phases.0.max_submissions", "many"), "max_submissions", "a whole number"),
    (put("phases.0.execution_time_limit", 601), "execution_time_limit", "600 s at most"),
    (put("phases.0.starting_kit", "pages/terms.md"), "starting_kit", "bare file"),
    (put("phases.0.public_data", "public"), "public_data", "not in the bundle"),
    (put("leaderboards", []), "leaderboards", "empty"),
    (put("leaderboards.0.title", "x" * 65), "leaderboards[0]: title", "at most 64"),
    (put("leaderboards.0.key", "x" * 37), "leaderboards[0]: key", "at most 36"),
    (put("leaderboards.0.submission_rule", "Best"), "submission_rule", "Force_Best"),
    (put("leaderboards.0.columns", []), "columns", "empty"),
    (put("leaderboards.0.columns.0.index", 3), "columns", "gaps"),
    (put("leaderboards.0.columns.0.index", 1), "columns", "not unique"),
    (put("leaderboards.0.columns.0.key", "x" * 37), "columns[0]: key", "at most 36"),
    (put("leaderboards.0.columns.0.title", "x" * 37), "columns[0]: title", "at most 36"),
    (put("leaderboards.0.columns.0.sorting", "down"), "sorting", "asc, desc"),
    (put("leaderboards.0.columns.0.computation", "avg"), "columns[0]", "go together"),
    (put("leaderboards.0.columns.0.computation", "mean"), "computation", "sum, avg"),
    (put("leaderboards.0.columns.1.key", "score"), "columns", "not unique"),
    (put("leaderboards.0.columns.1.key", "presence"), "columns", "emits no presence"),
    (put("leaderboards.0.columns.2", None), "columns", "no column for acc_salience"),
    (put("solutions", [{"index": 0, "path": "none.zip"}]), "solutions[0].path", "not in the bundle"),
]


@pytest.mark.parametrize("change, place, words", WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_is_found_with_its_place(ours, tmp_path, change, place, words):
    config = copy.deepcopy(ours.config)
    change(config)
    errors, _ = problems(tmp_path, ours.files, config)
    assert any(place in error.where and words in str(error) for error in errors), [str(error) for error in errors]


def test_unquoted_dates(ours, tmp_path):
    for text in ("2026-03-01 00:00:00", "2026-03-01", "20260301"):
        raw = ours.files["competition.yaml"].decode().replace("'2026-03-01 00:00:00'", text)
        assert raw != ours.files["competition.yaml"].decode()
        errors, _ = problems(tmp_path, {**ours.files, "competition.yaml": raw.encode()})
        assert any("phases[1]: start" in error.where and "quotes" in str(error) for error in errors)


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, "at the root"),
        ({"bundle/competition.yaml": b"version: 2"}, "not the folder itself"),
        ({"competition.yml": b"version: 2"}, "name the file exactly so"),
        ({"competition.yaml": b"version: [2"}, "not YAML"),
        ({"competition.yaml": b"- a"}, "a mapping"),
        ({"competition.yaml": b"title: a\ntitle: b"}, '"title" stands twice'),
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


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "b.zip").write_bytes(b"no zip")
    assert run("check", tmp_path / "b.zip").exit_code == 4
    assert run("check", tmp_path / "none.zip").exit_code == 3


def test_pages_logo_and_data(ours, tmp_path):
    def errors(**files):
        return [
            str(error)
            for error in problems(
                tmp_path,
                {**ours.files, **{name.replace("__", "/").replace("_md", ".md"): raw for name, raw in files.items()}},
            ).errors
        ]

    assert any("empty" in text for text in errors(pages__terms_md=b" \n"))
    assert any("not UTF-8" in text for text in errors(pages__data_md=b"\xff"))
    assert any("an SVG" in text for text in errors(**{"logo.png": b'<?xml version="1.0"?><svg/>'}))
    assert any("not a readable zip" in text for text in errors(**{"test_reference.zip": b"PK no"}))
    assert any("holds no file" in text for text in errors(**{"test_data.zip": pack({})}))


def with_program(ours, **changes):
    files = ours.data("scoring_program.zip")
    for name, raw in changes.items():
        files[name] = raw
    return {**ours.files, "scoring_program.zip": pack({name: raw for name, raw in files.items() if raw is not None})}


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
def test_the_program_is_tried(ours, tmp_path, name, raw, words):
    errors, _ = problems(tmp_path, with_program(ours, **{name: raw}))
    assert any(words in str(error) for error in errors), [str(error) for error in errors]


def test_the_keys_are_those_that_the_program_really_emits(ours, tmp_path):
    source = ours.data("scoring_program.zip")["blemore/codabench.py"].replace(
        b'"acc_presence", "acc_salience")', b'"acc_presence", "salience")'
    )
    source = source.replace(b"getattr(report.counts, key)", b"0.5")
    errors, _ = problems(tmp_path, with_program(ours, **{"blemore/codabench.py": source}))
    assert any("emits no acc_salience" in str(error) for error in errors) and any(
        "no column for salience" in str(error) for error in errors
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda files: files.pop("labels.json"), None),  # the hash alone: labels on the worker
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
def test_reference_data(ours, tmp_path, change, words):
    files = ours.data("test_reference.zip")
    change(files)
    errors, _ = problems(tmp_path, {**ours.files, "test_reference.zip": pack(files)})
    assert errors == [] if words is None else any(words in str(error) for error in errors), [
        str(error) for error in errors
    ]


def test_notes_are_no_errors(ours, tmp_path):
    config = copy.deepcopy(ours.config)
    config["leaderboards"].append(copy.deepcopy(config["leaderboards"][0]))
    del config["leaderboards"][0]["submission_rule"], config["docker_image"], config["enable_detailed_results"]
    errors, notes = problems(tmp_path, ours.files, config)
    told = "\n".join(map(str, notes))
    assert errors == [] and all(words in told for words in ("first alone", "Force_Best", "py37", "no report page"))


def test_the_command(built, tmp_path):
    fine = run("check", built.bundle)
    assert (fine.exit_code, fine.stderr) == (0, "") and fine.stdout == f"fine: {built.bundle}\n"
    files = {**Bundle(built.bundle).files}
    del files["logo.png"]
    (tmp_path / "b.zip").write_bytes(pack(files))
    wrong = run("check", tmp_path / "b.zip")
    assert wrong.exit_code == 4 and wrong.stdout == "" and "logo.png" in wrong.stderr


def test_whatever_stands_in_the_configuration_there_is_no_traceback(ours):
    """Each value of the configuration in turn replaced by values of every kind."""

    def paths(node, at=()):
        yield at
        for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            yield from paths(child, (*at, key))

    small = {"scoring_program.zip": pack({"metadata.yaml": b"command: python3 p.py"})}  # unpacked thousands of times
    files, found = {**ours.files, **small}, 0
    for path in list(paths(ours.config))[1:]:
        for value in (None, True, -1, 1e400, "x", [], {}, [[]], [None], {"index": []}, [{"index": {}}]):
            config = copy.deepcopy(ours.config)
            node = config
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = value
            bundle = Bundle.__new__(Bundle)
            bundle.files, bundle.config = files, config
            found += len(static_errors(bundle))
    assert found > 500


def static_errors(bundle):
    """All of the checks but running the program."""
    config = bundle.config
    return [
        *checking._keys(config, "competition", "c"),
        *checking._lists(config),
        *checking._top(bundle),
        *checking._tasks(bundle),
        *checking._phases(bundle),
        *checking._boards(config),
        *checking._notes(bundle),
    ]
