"""What is wrong with a bundle, before the platform says so in its own way, late, or not at all.

An error is what the platform refuses, ignores without a word, or lets fail every submission. A note is
what it allows, but an organiser hardly means. The rules are those of CodaBench v2 (1.25).
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from blemore import codabench
from blemore.errors import BlemoreError, Problem, show, some
from blemore.io import parse_json, to_json, zip_bytes
from blemore.validate import validate_labels
from blemore_codabench.bundle import CONFIG, Bundle, BundleError
from blemore_codabench.simulate import columns, command_of, emitted, execute, extract


class Field(NamedTuple):
    kind: type
    required: bool = False
    longest: int | None = None


TEXT, FLAG, WHOLE, LIST = Field(str), Field(bool), Field(int), Field(list)
NAME = Field(str, required=True)
TOP = {
    "version": Field(int, True),
    "title": Field(str, True, 256),
    "image": NAME,
    "terms": NAME,
    "pages": Field(list, True),
    "tasks": Field(list, True),
    "phases": Field(list, True),
    "leaderboards": Field(list, True),
    "description": TEXT,
    "docker_image": TEXT,
    "registration_auto_approve": FLAG,
    "enable_detailed_results": FLAG,
    "show_detailed_results_in_submission_panel": FLAG,
    "show_detailed_results_in_leaderboard": FLAG,
    "auto_run_submissions": FLAG,
    "make_programs_available": FLAG,
    "make_input_data_available": FLAG,
    "contact_email": TEXT,
    "forum_enabled": FLAG,
    "queue": TEXT,
    "fact_sheet": Field(dict),
    "can_participants_make_submissions_public": FLAG,
    "competition_type": TEXT,
    "reward": TEXT,
    "solutions": LIST,
}
PAGE = {"title": NAME, "file": NAME}
TASK = {
    "index": Field(int, True),
    "name": NAME,
    "description": TEXT,
    "key": TEXT,
    "scoring_program": NAME,
    "reference_data": TEXT,
    "input_data": TEXT,
    "ingestion_program": TEXT,
    "ingestion_only_during_scoring": FLAG,
}
TASK_DATA = ("scoring_program", "reference_data", "input_data", "ingestion_program")
PHASE = {
    "index": WHOLE,
    "name": NAME,
    "description": TEXT,
    "start": NAME,
    "end": TEXT,
    "tasks": Field(list, True),
    "auto_migrate_to_this_phase": FLAG,
    "hide_prediction_output": FLAG,
    "hide_output": FLAG,
    "hide_score_output": FLAG,
    "max_submissions": WHOLE,
    "max_submissions_per_day": WHOLE,
    "execution_time_limit": WHOLE,
    "starting_kit": TEXT,
    "public_data": TEXT,
}
PHASE_DATA = ("starting_kit", "public_data")
BOARD = {
    "index": WHOLE,
    "title": Field(str, True, 64),
    "key": Field(str, True, 36),
    "submission_rule": TEXT,
    "hidden": FLAG,
    "columns": Field(list, True),
}
COLUMN = {
    "title": Field(str, True, 36),
    "key": Field(str, True, 36),
    "index": Field(int, True),
    "sorting": TEXT,
    "precision": WHOLE,
    "hidden": FLAG,
    "computation": TEXT,
    "computation_indexes": LIST,
}
SOLUTION = {"index": WHOLE, "name": TEXT, "description": TEXT, "path": NAME, "tasks": LIST, "key": TEXT}
EVERYWHERE = {
    "competition": TOP,
    "page": PAGE,
    "task": TASK,
    "phase": PHASE,
    "leaderboard": BOARD,
    "column": COLUMN,
    "solution": SOLUTION,
}
CHOICES = {
    "competition_type": ("competition", "benchmark"),
    "sorting": ("asc", "desc"),
    "computation": ("sum", "avg", "min", "max"),
    "submission_rule": (
        "Add",
        "Add_And_Delete",
        "Add_And_Delete_Multiple",
        "Force_Last",
        "Force_Latest_Multiple",
        "Force_Best",
    ),
}
RASTERS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")
SHELL = re.compile(r"&&|\|\||[|<>;`]|\$\(")
LONGEST_RUN = 600  # seconds, on the default queue
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?")
KINDS = {str: "a text", bool: "true or false", int: "a whole number", list: "a list", dict: "a mapping"}


class Findings(NamedTuple):
    """`errors` break the competition; `notes` are worth a look."""

    errors: list[Problem]
    notes: list[Problem]


def check(path: Path, python: str = sys.executable) -> Findings:
    """Everything that is wrong with a bundle. FileError: it cannot be opened."""
    try:
        bundle = Bundle(path)
    except BundleError as error:
        return Findings(error.problems, [])
    config = bundle.config
    errors = [
        *_keys(config, "competition", CONFIG),
        *_lists(config),
        *_top(bundle),
        *_tasks(bundle),
        *_phases(bundle),
        *_boards(config),
    ]
    errors = list(dict.fromkeys(errors))
    if not errors:  # what follows relies on the above
        errors += _programs(bundle, python)
    return Findings(errors, list(_notes(bundle)))


# -------------------------------------------------------------------------- keys and their values


def _keys(entry: object, kind: str, where: str) -> Iterator[Problem]:
    """Keys that are unknown or missing, and values of the wrong kind or length."""
    fields = EVERYWHERE[kind]
    if not isinstance(entry, dict):
        yield Problem("wrong-type", where, f"found {show(entry)}; expected a mapping with {some(list(fields), 3)}")
        return
    for key in entry:
        if key not in fields:
            yield Problem(
                "unknown-key",
                where,
                f"the platform knows no key {show(key)} here and would ignore it",
                hint=_meant(key, kind),
            )
    needed = () if kind == "task" and "key" in entry else [key for key, field in fields.items() if field.required]
    for key in needed:
        if entry.get(key) is None:
            yield Problem(
                "missing-key",
                where,
                f"no {key}; the platform demands one",
                hint="The kit's own competition.yaml has all that is needed.",
            )
    for key, field in fields.items():
        if entry.get(key) is not None:
            yield from _value(entry[key], key, field, f"{where}: {key}")


def _value(value: object, key: str, field: Field, where: str) -> Iterator[Problem]:
    if key in ("start", "end") and isinstance(value, (int, float)) or hasattr(value, "isoformat"):
        yield Problem(
            "date",
            where,
            f"{show(str(value))} is not quoted",
            hint="Put it in quotes: YAML and the platform would lose its time of day.",
        )
    elif not isinstance(value, field.kind) or (field.kind is int and isinstance(value, bool)):
        yield Problem("wrong-type", where, f"found {show(value)}; expected {KINDS[field.kind]}")
    elif field.longest and len(value) > field.longest:
        yield Problem("too-long", where, f"{len(value)} characters; expected at most {field.longest}")
    elif field.required and field.kind in (str, list) and not (value.strip() if isinstance(value, str) else value):
        yield Problem("empty", where, f"empty; expected {KINDS[field.kind]}")
    elif key in CHOICES and value not in CHOICES[key]:
        yield Problem("wrong-value", where, f"found {show(value)}; expected one of {', '.join(CHOICES[key])}")


def _meant(key: object, kind: str) -> str | None:
    """A misplaced key belongs elsewhere; a misspelt one is near to another."""
    elsewhere = [name for name, fields in EVERYWHERE.items() if key in fields]
    if elsewhere:
        return f"It belongs into a {' or a '.join(elsewhere)}."
    near = get_close_matches(str(key), list(EVERYWHERE[kind]), n=1)
    return f"Is {near[0]} meant?" if near else "Remove it."


def _entries(config: Mapping, key: str) -> Iterator[tuple[str, dict]]:
    """The mappings in a list of the configuration, with their places."""
    found = config.get(key)
    for index, entry in enumerate(found if isinstance(found, list) else []):
        if isinstance(entry, dict):
            yield f"{CONFIG}: {key}[{index}]", entry


def _lists(config: Mapping) -> Iterator[Problem]:
    for key, kind in (
        ("pages", "page"),
        ("tasks", "task"),
        ("phases", "phase"),
        ("leaderboards", "leaderboard"),
        ("solutions", "solution"),
    ):
        found = config.get(key)
        for index, entry in enumerate(found if isinstance(found, list) else []):
            yield from _keys(entry, kind, f"{CONFIG}: {key}[{index}]")
    for where, board in _entries(config, "leaderboards"):
        found = board.get("columns")
        for index, column in enumerate(found if isinstance(found, list) else []):
            yield from _keys(column, "column", f"{where}.columns[{index}]")


# ----------------------------------------------------------------------------- files of the bundle


def _top(bundle: Bundle) -> Iterator[Problem]:
    config = bundle.config
    if isinstance(config.get("version"), int) and config["version"] != 2:
        yield Problem("wrong-value", f"{CONFIG}: version", f"found {config['version']}; expected 2")
    image = config.get("image")
    if isinstance(image, str):
        yield from _image(bundle, image)
    texts = [
        (f"{CONFIG}: terms", config.get("terms")),
        *((f"{where}.file", page.get("file")) for where, page in _entries(config, "pages")),
    ]
    for where, name in texts:
        if isinstance(name, str):
            yield from _text(bundle, name, where)
    for where, solution in _entries(config, "solutions"):
        yield from _data(bundle, solution, ("path",), where)


def _image(bundle: Bundle, name: str) -> Iterator[Problem]:
    where, raw = f"{CONFIG}: image", bundle.files.get(name)
    webp = raw is not None and raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"
    if raw is None:
        yield _absent(bundle, name, where)
    elif not raw.startswith(RASTERS) and not webp:
        found = "an SVG" if b"<svg" in raw[:1000] else "no raster image"
        yield Problem(
            "image", where, f"{show(name)} is {found}; expected a PNG or JPEG", hint="Export the picture as PNG."
        )


def _text(bundle: Bundle, name: str, where: str) -> Iterator[Problem]:
    raw = bundle.files.get(name)
    if raw is None:
        yield _absent(bundle, name, where)
        return
    try:
        if not raw.decode("utf-8-sig").strip():
            message = f"{show(name)} is empty; the platform refuses empty pages and terms"
            yield Problem("empty", where, message, hint="Write a line into it, or take the page out.")
    except UnicodeDecodeError:
        yield Problem("not-utf8", where, f"{show(name)} is not UTF-8", hint="Save the file as UTF-8.")


def _absent(bundle: Bundle, name: str, where: str) -> Problem:
    near = get_close_matches(name, list(bundle.files), n=1, cutoff=0.5)
    return Problem(
        "no-file",
        where,
        f"{show(name)} is not in the bundle",
        hint=f"The nearest is {show(near[0])}." if near else None,
    )


def _data(bundle: Bundle, entry: Mapping, keys: tuple, where: str) -> Iterator[Problem]:
    """Data must be a zip or a folder with something in it."""
    for key in keys:
        name = entry.get(key)
        if not isinstance(name, str):
            continue
        place = f"{where}.{key}"
        if name in bundle.files and not name.lower().endswith(".zip"):
            yield Problem(
                "bare-file",
                place,
                f"{show(name)} is a bare file; expected a zip or a folder",
                hint="The platform takes it at upload, and then every submission fails.",
            )
            continue
        try:
            if not bundle.data(name):
                yield Problem("empty", place, f"{show(name)} holds no file", hint="Zip the folder's content again.")
        except KeyError:
            yield _absent(bundle, name, place)
        except BundleError as error:
            yield from (problem._replace(where=place) for problem in error.problems)


# ------------------------------------------------------------------------------ tasks and phases


def _tasks(bundle: Bundle) -> Iterator[Problem]:
    yield from _indexes(
        [task.get("index") for _, task in _entries(bundle.config, "tasks")], f"{CONFIG}: tasks", from_zero=False
    )
    for where, task in _entries(bundle.config, "tasks"):
        yield from _data(bundle, task, TASK_DATA, where)
        for key in ("scoring_program", "ingestion_program"):
            if isinstance(task.get(key), str):
                yield from _program(bundle, task[key], f"{where}.{key}")


def _program(bundle: Bundle, name: str, where: str) -> Iterator[Problem]:
    """The command of a program: there, without a shell's syntax, and naming a script that is there."""
    try:
        program = bundle.data(name)
        command = command_of(program)
    except KeyError:
        return  # reported as absent
    except BundleError as error:
        yield from (problem._replace(where=where) for problem in error.problems)
        return
    if SHELL.search(command):
        yield Problem(
            "shell",
            where,
            f"the command {show(command, 100)} uses a shell's syntax; there is no shell",
            hint="Put it into a script.",
        )
        return
    for word in command.split():
        script = word.replace("$program/", "").replace("/app/program/", "")
        if (
            word.startswith(("$program/", "/app/program/"))
            and script not in program
            and not any(path.startswith(f"{script.rstrip('/')}/") for path in program)
        ):
            yield Problem(
                "no-file",
                where,
                f"the command names {show(script)}, which is not in the program",
                hint="Zip the program with all of its files.",
            )


def _indexes(found: list, where: str, from_zero: bool = True) -> Iterator[Problem]:
    numbers = [index for index in found if isinstance(index, int)]
    if len(set(numbers)) < len(numbers):
        yield Problem("index", where, f"the indexes {numbers} are not unique", hint="Number them from 0.")
    elif from_zero and numbers and sorted(numbers) != list(range(len(numbers))):
        yield Problem("index", where, f"the indexes {sorted(numbers)} have gaps; expected 0 to {len(numbers) - 1}")


def _phases(bundle: Bundle) -> Iterator[Problem]:
    config = bundle.config
    known = [task.get("index") for _, task in _entries(config, "tasks")]
    phases = list(_entries(config, "phases"))
    yield from _indexes([phase.get("index") for _, phase in phases if "index" in phase], f"{CONFIG}: phases")
    for where, phase in phases:
        yield from _data(bundle, phase, PHASE_DATA, where)
        tasks = phase.get("tasks") if isinstance(phase.get("tasks"), list) else []
        unknown = [index for index in tasks if index not in known]
        if unknown:
            yield Problem(
                "index",
                f"{where}.tasks",
                f"no task {some([str(index) for index in unknown])}; the tasks are {known}",
                hint="Name one of these.",
            )
        for key in ("max_submissions", "max_submissions_per_day", "execution_time_limit"):
            if isinstance(phase.get(key), int) and phase[key] < 1:
                yield Problem("wrong-value", f"{where}.{key}", f"found {phase[key]}; expected at least 1")
        limit = phase.get("execution_time_limit")
        if isinstance(limit, int) and limit > LONGEST_RUN and not config.get("queue"):
            message = f"found {limit}; the default queue allows {LONGEST_RUN} s at most"
            yield Problem(
                "wrong-value", f"{where}.execution_time_limit", message, hint="Scoring takes seconds: leave it out."
            )
    yield from _dates(phases)


def _dates(phases: list) -> Iterator[Problem]:
    """Each date by itself, then the order of phases: none may touch or overlap, and only the last may be open."""
    spans = []
    for where, phase in phases:
        moments = {}
        for key in ("start", "end"):
            if isinstance(phase.get(key), str):
                moments[key] = _moment(phase[key])
                if moments[key] is None:
                    yield Problem(
                        "date",
                        f"{where}.{key}",
                        f'found {show(phase[key])}; expected UTC as "2026-03-01 00:00:00"',
                        hint=_date_hint(phase[key]),
                    )
        if moments.get("start") and moments.get("end") and moments["end"] <= moments["start"]:
            yield Problem(
                "date",
                where,
                "the end is not after the start; the platform does not notice",
                hint="Are the two exchanged?",
            )
        spans.append((where, moments.get("start"), moments.get("end"), phase.get("end") is None))
    for (before, start, end, is_open), (where, following, *_) in zip(spans, spans[1:]):
        if is_open:
            yield Problem(
                "date",
                before,
                "no end; only the last phase may go without",
                hint="Give it an end before the next one's start.",
            )
        elif end and following and following <= end:
            touch = "starts at the very end of" if following == end else "overlaps"
            yield Problem(
                "date",
                where,
                f"{touch} the phase before it",
                hint="Let a second lie between them." if following == end else None,
            )
        if start and following and following < start:
            yield Problem(
                "date",
                where,
                "starts before the phase before it; phases stand in order of time",
                hint="Put them into that order.",
            )


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if DATE.fullmatch(text) else None
    except ValueError:
        return None


def _date_hint(text: str) -> str | None:
    return (
        "The platform drops an offset and takes the wall time for UTC."
        if re.search(r"\d(Z|[+-]\d{2}:?\d{2})$", text)
        else None
    )


# ------------------------------------------------------------------------------------ leaderboard


def _boards(config: Mapping) -> Iterator[Problem]:
    for where, board in _entries(config, "leaderboards"):
        entries = [column for _, column in _entries(board, "columns")]
        yield from _indexes([column.get("index") for column in entries], f"{where}.columns")
        keys = [column.get("key") for column in entries]
        if len(set(map(str, keys))) < len(keys):
            yield Problem(
                "key",
                f"{where}.columns",
                f"the keys {some(list(map(str, keys)), 9)} are not unique",
                hint="Give each column a key of its own.",
            )
        indexes = [column.get("index") for column in entries]
        for number, column in enumerate(entries):
            yield from _computation(column, indexes, f"{where}.columns[{number}]")


def _computation(column: Mapping, indexes: list, where: str) -> Iterator[Problem]:
    given = column.get("computation_indexes")
    if bool(column.get("computation")) != bool(given):
        yield Problem("computation", where, "computation and computation_indexes go together; expected both or neither")
    elif isinstance(given, list):
        used = [int(index) if str(index).isdigit() else index for index in given]
        if [index for index in used if index not in indexes] or column.get("index") in used:
            yield Problem(
                "computation", f"{where}.computation_indexes", f"found {used}; expected indexes of other columns"
            )


# ----------------------------------------------------------------------- the program, as it really runs


def _programs(bundle: Bundle, python: str) -> Iterator[Problem]:
    """Run each task's program, where it is this kit's, on a submission made for it, and compare what it emits with the
    columns.
    """
    wanted, seen = columns(bundle), set()
    for where, task in _entries(bundle.config, "tasks"):
        if not task.get("scoring_program"):
            continue
        program = bundle.data(task["scoring_program"])
        if not is_ours(program):
            continue
        reference = bundle.data(task["reference_data"]) if task.get("reference_data") else {}
        yield from _reference(reference, f"{where}.reference_data")
        if task["scoring_program"] not in seen:
            seen.add(task["scoring_program"])
            yield from _emitted(program, wanted, f"{where}.scoring_program", python)


def is_ours(program: Mapping[str, bytes]) -> bool:
    return "blemore/codabench.py" in program


def _reference(files: Mapping[str, bytes], where: str) -> Iterator[Problem]:
    """The labels that travel in the bundle, every problem named, and their hash in its settings."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("settings.json", "labels.json"):
            if name in files:
                (Path(folder) / name).write_bytes(files[name])
        try:
            settings = codabench.read_settings(Path(folder))
            if "labels.json" in files:
                validate_labels(parse_json(files["labels.json"], "labels.json"), "labels.json")
                codabench.read_labels(Path(folder) / "labels.json", Path(folder) / "none", settings.labels_sha256)
            elif settings.labels_sha256 is None:
                yield Problem(
                    "no-labels",
                    where,
                    "neither labels.json nor, in settings.json, labels_sha256 is there",
                    hint="Build it again.",
                )
        except BlemoreError as error:
            yield from (problem._replace(where=f"{where}: {problem.where}") for problem in error.problems)


SAMPLE = {
    "a": [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}],
    "b": [{"emotion": "sad", "salience": 100}],
}


def _emitted(program: Mapping[str, bytes], wanted: list[str], where: str, python: str) -> Iterator[Problem]:
    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder) / "app", Path(folder) / "output"
        output.mkdir()
        extract(zip_bytes("s.json", to_json(SAMPLE)), root / "input" / "res")
        run = execute(root, program, {"labels.json": to_json({"labels": SAMPLE}).encode()}, output, python)
        if run.exit_code != 0:
            said = (output / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = run.error or f"exit code {run.exit_code}"
            yield Problem(
                "program", where, f"a valid submission is not scored: {reason}", hint=said[-1] if said else None
            )
            return
        try:
            keys = list(emitted(output))
        except ValueError as error:
            yield Problem(
                "program",
                where,
                f"a valid submission is not scored: {error}",
                hint="The program must write scores.json into its output folder.",
            )
            return
    missing, extra = [key for key in wanted if key not in keys], [key for key in keys if key not in wanted]
    place = f"{CONFIG}: leaderboards[0].columns"
    if missing:
        hint = "The column would show n/a, and an entry without the first column's value stands above all others."
        yield Problem("columns", place, f"the program emits no {some(missing, 9)}", hint=hint)
    if extra:
        yield Problem(
            "columns",
            place,
            f"no column for {some(extra, 9)}, which the program emits",
            hint="Give each a column with its key.",
        )


# ------------------------------------------------------------------------------------------ notes


def _notes(bundle: Bundle) -> Iterator[Problem]:
    config = bundle.config
    boards = [board for _, board in _entries(config, "leaderboards")]
    if len(boards) > 1:
        yield Problem(
            "note",
            f"{CONFIG}: leaderboards",
            f"{len(boards)} of them; the platform uses the first alone",
            hint="Keep one.",
        )
    if boards and boards[0].get("submission_rule", "Add") == "Add":
        message = "with the rule Add the board stays empty until participants add entries"
        yield Problem(
            "note", f"{CONFIG}: leaderboards[0]", message, hint="A challenge wants submission_rule: Force_Best."
        )
    if not config.get("docker_image"):
        message = "no docker_image: the platform takes codalab/codalab-legacy:py37, Python 3.7"
        yield Problem("note", CONFIG, message, hint="Set docker_image: codalab/codalab-legacy:py312.")
    if not config.get("enable_detailed_results"):
        yield Problem(
            "note",
            CONFIG,
            "no enable_detailed_results: participants see no report page",
            hint="Set enable_detailed_results: true.",
        )
    if config.get("solutions"):
        yield Problem(
            "note", f"{CONFIG}: solutions", "every participant can download them", hint="Leave solutions out."
        )
    foreign = [where for where, task in _entries(config, "tasks") if not _runs_ours(bundle, task)]
    if foreign:
        message = "the scoring program is not this kit's: whether it emits the leaderboard's keys was not checked"
        yield Problem("note", foreign[0], message, hint="Submit to it once, unpublished, and look at the leaderboard.")


def _runs_ours(bundle: Bundle, task: Mapping) -> bool:
    try:
        return is_ours(bundle.data(str(task.get("scoring_program"))))
    except (KeyError, BundleError):
        return True  # told as an error
