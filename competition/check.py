"""Finds what is wrong with a bundle before the platform reports it cryptically, late, or not at all.

An error is something that the platform refuses or silently ignores, that makes every submission fail, or that the
platform accepts although it harms the organiser. A note is something that works, but is hardly intended. The rules
are those of CodaBench v2 (1.25).
"""

from __future__ import annotations

import posixpath
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from blemore.codabench import Settings, parse_labels, parse_settings
from blemore.errors import BlemoreError, Problem, show, some
from blemore.io import parse_json, to_json, zip_bytes
from blemore.validate import validate_labels
from blemore_codabench import dates, images, keys, leaks
from blemore_codabench.bundle import CONFIG, Bundle, BundleError, entries_of
from blemore_codabench.commands import absent_files, command_of, uses_shell
from blemore_codabench.keys import is_uuid, whole
from blemore_codabench.simulate import columns, emitted, execute, predict

TASK_DATA = ("scoring_program", "reference_data", "input_data", "ingestion_program")
PHASE_DATA = ("starting_kit", "public_data")
LIMITS = ("max_submissions", "max_submissions_per_day")
LONGEST_RUN = 600  # seconds, on the default queue
OLDEST_PYTHON = (3, 9)  # that runs the scoring program
DEFAULT_IMAGE = "codalab/codalab-legacy:py37"  # the platform's


class Findings(NamedTuple):
    """`errors` break the competition; `notes` are worth a look."""

    errors: list[Problem]
    notes: list[Problem]


def check(path: Path, python: str = sys.executable, now: datetime | None = None) -> Findings:
    """Everything that is wrong with a bundle. With `now`, also dates before it. FileError: it cannot be opened."""
    try:
        bundle = Bundle(path)
    except BundleError as error:
        return Findings(error.problems, [])
    errors = list(dict.fromkeys(_static(bundle, now)))
    if not errors:  # running a program needs a valid configuration
        errors += _programs(bundle, python)
    return Findings(errors, list(_notes(bundle)))


def _static(bundle: Bundle, now: datetime | None) -> Iterator[Problem]:
    """Problems that can be found without running anything."""
    yield from keys.problems(bundle)
    yield from _top(bundle)
    yield from _tasks(bundle)
    yield from _phases(bundle)
    yield from _dates(bundle, now)
    yield from _boards(bundle)
    yield from leaks.problems(bundle)


# ----------------------------------------------------------------------------- files of the bundle


def _top(bundle: Bundle) -> Iterator[Problem]:
    config = bundle.config
    image = config.get("image")
    if isinstance(image, str):
        yield from _image(bundle, image)
    texts = [(f"{CONFIG}: terms", config.get("terms"))]
    texts += [(f"{where}.file", page.get("file")) for where, page in bundle.entries("pages")]
    for where, name in texts:
        if isinstance(name, str):
            yield from _text(bundle, name, where)
    tasks = [task.get("index") for _, task in bundle.entries("tasks")]
    for where, solution in bundle.entries("solutions"):
        yield from _data(bundle, solution, ("path",), where)
        yield from _unknown_tasks(solution, tasks, where)


def _image(bundle: Bundle, name: str) -> Iterator[Problem]:
    where, raw = f"{CONFIG}: image", bundle.read(name)
    if raw is None:
        yield _absent(bundle, name, where)
        return
    fault = images.fault(raw) or images.name_fault(name)
    if fault:
        yield Problem("image", where, f"{show(name)} is {fault}", hint="Export the picture as PNG.")


def _text(bundle: Bundle, name: str, where: str) -> Iterator[Problem]:
    raw = bundle.read(name)
    if raw is None:
        yield _absent(bundle, name, where)
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield Problem("not-utf8", where, f"{show(name)} is not UTF-8", hint="Save the file as UTF-8.")
        return
    if "\0" in text:
        yield Problem("not-utf8", where, f"{show(name)} holds a NUL character", hint="Save the file as plain text.")
    elif not text.strip():
        message = f"{show(name)} is empty; the platform refuses empty pages and terms"
        yield Problem("empty", where, message, hint="Write a line into it, or remove the page.")


def _absent(bundle: Bundle, name: str, where: str) -> Problem:
    path = posixpath.normpath(name)
    if path.startswith(("..", "/")):
        message = f"{show(name)} leads out of the bundle, to one of the platform's files"
        return Problem("no-file", where, message, hint="Put the file into the bundle, and use its name there.")
    if bundle.is_folder(name):
        hint = "Name one of its files."
        return Problem("no-file", where, f"{show(name)} is a folder; expected a file", hint=hint)
    near = get_close_matches(name, list(bundle.files), n=1, cutoff=0.5)
    hint = f"The nearest is {show(near[0])}." if near else "Write names exactly as in the zip, including capitals."
    return Problem("no-file", where, f"{show(name)} is not in the bundle", hint=hint)


def _data(
    bundle: Bundle, entry: Mapping, names: tuple[str, ...], where: str, download: bool = False
) -> Iterator[Problem]:
    """Data that an entry names: a folder or a valid zip. A download may also be any single file."""
    for key in names:
        name, place = entry.get(key), f"{where}.{key}"
        if not isinstance(name, str) or not name.strip() or is_uuid(name):
            continue
        raw, is_zip = bundle.read(name), name.lower().endswith(".zip")
        if raw is not None and download and not is_zip:
            continue
        if raw is not None and not is_zip:
            message = f"{show(name)} is a bare file; expected a zip or a folder"
            hint = "The platform accepts it at upload, but then every submission fails."
            yield Problem("bare-file", place, message, hint=hint)
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
    tasks = bundle.entries("tasks")
    yield from _repeated([task["index"] for _, task in tasks if "index" in task], f"{CONFIG}: tasks")
    for where, task in tasks:
        yield from _data(bundle, task, TASK_DATA, where)
        for key in ("scoring_program", "ingestion_program"):
            if isinstance(task.get(key), str) and not is_uuid(task[key]):
                yield from _program(bundle, task[key], f"{where}.{key}")


def _program(bundle: Bundle, name: str, where: str) -> Iterator[Problem]:
    """A program's command must exist, avoid shell syntax, and name files that exist."""
    try:
        program = bundle.data(name)
        command = command_of(program)
    except KeyError:
        return  # reported as absent
    except BundleError as error:
        yield from (problem._replace(where=where) for problem in error.problems)
        return
    if uses_shell(command):
        message = f"the command {show(command, 100)} uses shell syntax; there is no shell"
        yield Problem("shell", where, message, hint="Put it into a script.")
        return
    for name in absent_files(command, program):
        message = f"the command names {show(name)}, which is not in the program"
        yield Problem("no-file", where, message, hint="Zip the program with all its files.")


def _repeated(indexes: list, where: str) -> Iterator[Problem]:
    if len({repr(index) for index in indexes}) < len(indexes):
        yield Problem("index", where, f"the indexes {indexes} are not unique", hint="Number them from 0.")


def _unknown_tasks(entry: Mapping, indexes: list, where: str) -> Iterator[Problem]:
    tasks = entry.get("tasks")
    unknown = [index for index in tasks if index not in indexes] if isinstance(tasks, list) else []
    if unknown:
        message = f"no task {some([show(index) for index in unknown])}; the tasks are {indexes}"
        yield Problem("index", f"{where}.tasks", message, hint="Name one of these, with quotes only if it has them.")


def _phases(bundle: Bundle) -> Iterator[Problem]:
    phases, tasks = bundle.phases(), [task.get("index") for _, task in bundle.entries("tasks")]
    indexes = [phase["index"] for _, phase in phases if "index" in phase]
    yield from _repeated(indexes, f"{CONFIG}: phases")
    if any(isinstance(index, str) for index in indexes) and len(set(map(type, indexes))) > 1:
        message = f"the indexes {indexes} are texts and numbers; the platform cannot sort them"
        yield Problem("index", f"{CONFIG}: phases", message, hint="Write all of them without quotes.")
    for number, (where, phase) in enumerate(phases):
        yield from _data(bundle, phase, PHASE_DATA, where, download=True)
        yield from _unknown_tasks(phase, tasks, where)
        yield from _limits(phase, where, bool(bundle.config.get("queue")))
        if number == 0 and keys.is_true(phase.get("auto_migrate_to_this_phase")):
            message = "auto_migrate_to_this_phase; submissions cannot move into the first phase"
            yield Problem("auto-migrate", where, message, hint="Remove the key from this phase.")


def _limits(phase: Mapping, where: str, own_queue: bool) -> Iterator[Problem]:
    if "max_submissions" in phase and phase["max_submissions"] is None:
        message = "empty, which the platform takes to mean no limit; expected a number"
        yield Problem("empty", f"{where}.max_submissions", message, hint="For no limit, write 0.")
    limit = whole(phase.get("execution_time_limit"))
    if limit == 0:
        yield Problem("wrong-value", f"{where}.execution_time_limit", "found 0; expected at least 1")
    if limit is not None and limit > LONGEST_RUN and not own_queue:
        message = f"found {limit}; the default queue allows {LONGEST_RUN} s at most"
        hint = "Scoring takes seconds: remove the key."
        yield Problem("wrong-value", f"{where}.execution_time_limit", message, hint=hint)


class _Span(NamedTuple):
    where: str
    start: datetime | None
    end: datetime | None
    is_open: bool


def _dates(bundle: Bundle, now: datetime | None) -> Iterator[Problem]:
    """Each date by itself, then the order of phases. They may not touch or overlap, and only the last may be open."""
    spans = []
    for where, phase in bundle.phases():
        moments = {}
        for key in ("start", "end"):
            if phase.get(key) is not None:
                moments[key], fault, hint = dates.read(phase[key])
                if fault:
                    yield Problem("date", f"{where}.{key}", fault, hint=hint)
        spans.append(_Span(where, moments.get("start"), moments.get("end"), phase.get("end") is None))
    for span in spans:
        yield from _span(span, now)
    for before, after in zip(spans, spans[1:]):
        yield from _succession(before, after)


def _span(span: _Span, now: datetime | None) -> Iterator[Problem]:
    where, start, end, _ = span
    if start and end and end <= start:
        message = "the end is not after the start; the platform does not notice"
        yield Problem("date", where, message, hint="Are the two swapped?")
    past = [
        moment
        for moment, grace in ((start, dates.JUST_BEGUN), (end, timedelta(0)))
        if moment and _is_past(moment, now, grace)
    ]
    if past:
        message = f"{' and '.join(map(dates.write, past))} UTC is in the past; expected future dates"
        yield Problem("past", where, message, hint="Set new dates, or accept these with --allow-past.")


def _is_past(moment: datetime, now: datetime | None, grace: timedelta) -> bool:
    return now is not None and moment < now - grace


def _succession(before: _Span, after: _Span) -> Iterator[Problem]:
    if before.is_open:
        hint = "Give it an end before the next one's start."
        yield Problem("date", before.where, "no end; only the last phase may have none", hint=hint)
    elif before.end and after.start and after.start <= before.end:
        touches = after.start == before.end
        message = f"{'starts at the very end of' if touches else 'overlaps'} the phase before it"
        hint = "Leave a second between them." if touches else "Phases follow each other by index."
        yield Problem("date", after.where, message, hint=hint)
    if before.start and after.start and after.start < before.start:
        message = "starts before the phase before it; phases must be in order of time"
        yield Problem("date", after.where, message, hint="Put them into that order by their indexes.")


# ------------------------------------------------------------------------------------ leaderboard


def _boards(bundle: Bundle) -> Iterator[Problem]:
    for number, (where, board) in enumerate(bundle.entries("leaderboards")):
        entries = entries_of(board, "columns", f"{where}.columns")
        names = [str(column.get("key")).strip() for _, column in entries]
        if len(set(names)) < len(names):
            message = f"the keys {some(names, 9)} are not unique"
            yield Problem("key", f"{where}.columns", message, hint="Give each column a key of its own.")
        indexes = [whole(column.get("index")) for _, column in entries]
        yield from _repeated([index for index in indexes if index is not None], f"{where}.columns")
        primary = whole(board.get("primary_index", 0))
        if entries and primary not in indexes:
            message = f"no column has the index {primary}, by which the board is sorted; expected one"
            yield Problem("index", f"{where}.columns", message, hint="Without it the leaderboard shows an error.")
        for place, column in entries:
            yield from _computation(column, indexes, place)
        if number == 0 and "submission_rule" not in board:
            message = "no submission_rule: the board stays empty until participants add entries by hand"
            yield Problem("no-rule", where, message, hint="For a challenge, set submission_rule: Force_Best.")


def _computation(column: Mapping, indexes: list[int | None], where: str) -> Iterator[Problem]:
    sources = column.get("computation_indexes")
    if bool(column.get("computation")) != bool(sources):
        yield Problem("computation", where, "computation and computation_indexes go together; expected both or neither")
    elif isinstance(sources, list):
        numbers = [whole(index) for index in sources]
        if not set(numbers) <= set(indexes) or whole(column.get("index")) in numbers:
            place = f"{where}.computation_indexes"
            yield Problem("computation", place, f"found {sources}; expected indexes of other columns")


# ----------------------------------------------------------------------- the program, as it really runs


def _programs(bundle: Bundle, python: str) -> Iterator[Problem]:
    """What this kit's own program needs, and whether its output fits the columns."""
    programs: dict[str, str] = {}
    for where, task in bundle.entries("tasks"):
        if _runs_ours(bundle, task):
            programs.setdefault(task["scoring_program"], f"{where}.scoring_program")
            yield from _reference(bundle, task, f"{where}.reference_data")
    if programs:
        yield from _image_of_program(bundle.config)
        yield from _ascending(bundle)
    for name, where in programs.items():
        yield from _emitted(try_program(bundle.data(name), python), columns(bundle), where)


def is_ours(program: Mapping[str, bytes]) -> bool:
    return "blemore/codabench.py" in program


def _runs_ours(bundle: Bundle, task: Mapping) -> bool:
    name = task.get("scoring_program")
    return isinstance(name, str) and not is_uuid(name) and is_ours(bundle.data(name))


def _reference(bundle: Bundle, task: Mapping, where: str) -> Iterator[Problem]:
    """Every problem in the labels that the bundle ships, and in their hash in its settings."""
    name = task.get("reference_data")
    if is_uuid(name):
        return
    files = bundle.data(name) if name else {}
    try:
        settings = parse_settings(files["settings.json"]) if "settings.json" in files else Settings()
        if "labels.json" in files:
            validate_labels(parse_json(files["labels.json"], "labels.json"), "labels.json")
            parse_labels([files["labels.json"]], settings)
        elif settings.labels_sha256 is None and settings.labels_hmac_sha256 is None:
            message = "neither labels.json nor, in settings.json, the hash of labels on a worker; expected one of them"
            yield Problem("no-labels", where, message, hint="Build the bundle again.")
        elif not bundle.config.get("queue"):
            message = "no labels in it, and no queue: submissions go to the public workers, which have none either"
            hint = "Set queue in competition.yaml to the key of your own queue (build --queue)."
            yield Problem("no-queue", where, message, hint=hint)
    except BlemoreError as error:
        yield from (problem._replace(where=f"{where}: {problem.where}") for problem in error.problems)


def _image_of_program(config: Mapping) -> Iterator[Problem]:
    image = str(config.get("docker_image") or DEFAULT_IMAGE)
    version = python_of(image)
    if version and version < OLDEST_PYTHON:
        message = (
            f"{show(image)} has Python {'.'.join(map(str, version))}; expected {'.'.join(map(str, OLDEST_PYTHON))}+"
        )
        hint = "Set docker_image: codalab/codalab-legacy:py312."
        yield Problem("docker-image", f"{CONFIG}: docker_image", message, hint=hint)


def python_of(image: str) -> tuple[int, int] | None:
    """The version of Python in an image's name, such as …:py312, python:3.12-slim or …:gpu310; None: unknown."""
    match = re.search(r"(?:py|gpu|python:?-?)([23])\.?(\d{1,2})(?!\d)", image)
    return (int(match[1]), int(match[2])) if match else None


def _ascending(bundle: Bundle) -> Iterator[Problem]:
    """A column in ascending order would put the worst entry first."""
    for where, board in bundle.entries("leaderboards")[:1]:
        primary = whole(board.get("primary_index", 0))
        for place, column in entries_of(board, "columns", f"{where}.columns"):
            if whole(column.get("index")) == primary and column.get("sorting") == "asc":
                message = "sorting: asc, so the lowest score leads and is kept; expected desc"
                yield Problem("sorting", place, message, hint="All figures of the challenge are better when higher.")


class Trial(NamedTuple):
    """The keys that a program emits for a valid submission, or why it gives no score, and its last message."""

    keys: tuple[str, ...]
    fault: str | None = None
    hint: str | None = None


SAMPLE = {
    "a": [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}],
    "b": [{"emotion": "sad", "salience": 100}],
}


def try_program(program: Mapping[str, bytes], python: str) -> Trial:
    """Run this kit's program on a small submission."""
    with tempfile.TemporaryDirectory() as folder:
        app, output = Path(folder) / "app", Path(folder) / "output"
        output.mkdir()
        predict(zip_bytes("s.json", to_json(SAMPLE)), app / "input" / "res")
        run = execute(app, program, {"labels.json": to_json({"labels": SAMPLE}).encode()}, output, python)
        if run.exit_code != 0:
            lines = (output / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            hint = lines[-1].strip() if lines else "The program printed nothing."
            return Trial((), run.error or f"exit code {run.exit_code}", hint)
        try:
            return Trial(tuple(emitted(output)))
        except ValueError as error:
            return Trial((), str(error), "The program must write scores.json into its output folder.")


def _emitted(trial: Trial, column_keys: list[str], where: str) -> Iterator[Problem]:
    if trial.fault:
        yield Problem("program", where, f"a valid submission is not scored: {trial.fault}", hint=trial.hint)
        return
    missing = [key for key in column_keys if key not in trial.keys]
    extra = [key for key in trial.keys if key not in column_keys]
    place = f"{CONFIG}: leaderboards[0].columns"
    if missing:
        hint = "The column would show n/a, and entries without the first column's value would rank above all others."
        yield Problem("columns", place, f"the program emits no {some(missing, 9)}", hint=hint)
    if extra:
        message = f"no column for {some(extra, 9)}, which the program emits"
        yield Problem("columns", place, message, hint="Give each a column with its key.")


# ------------------------------------------------------------------------------------------ notes


def _notes(bundle: Bundle) -> Iterator[Problem]:
    yield from _notes_on_phases(bundle)
    yield from _notes_on_boards(bundle)
    yield from _notes_on_data(bundle)
    config = bundle.config
    if not config.get("docker_image"):
        message = f"no docker_image: the platform uses {DEFAULT_IMAGE}, with Python 3.7"
        yield Problem("note", CONFIG, message, hint="Set docker_image: codalab/codalab-legacy:py312.")
    if not keys.is_true(config.get("enable_detailed_results")):
        message = "no enable_detailed_results: participants see no report page"
        yield Problem("note", CONFIG, message, hint="Set enable_detailed_results: true.")
    if config.get("solutions"):
        message = "every participant can download the solutions"
        yield Problem("note", f"{CONFIG}: solutions", message, hint="Remove solutions.")


def _notes_on_phases(bundle: Bundle) -> Iterator[Problem]:
    for where, phase in bundle.phases():
        for key in LIMITS:
            if whole(phase.get(key)) == 0:
                message = "0, which the platform takes to mean no limit"
                yield Problem("note", f"{where}.{key}", message, hint="If you want a limit, write a number.")
        for key in ("start", "end"):
            moment, _, hint = dates.read(phase.get(key))
            if moment and hint:
                yield Problem("note", f"{where}.{key}", f"{show(phase[key])} is written in an unusual form", hint=hint)
        if "accepts_only_result_submissions" in phase:
            message = "documented, but without effect: the platform does not know it"
            hint = "The scoring program scores only predictions, whatever is uploaded."
            yield Problem("note", f"{where}.accepts_only_result_submissions", message, hint=hint)


def _notes_on_boards(bundle: Bundle) -> Iterator[Problem]:
    boards = bundle.entries("leaderboards")
    if len(boards) > 1:
        message = f"{len(boards)} leaderboards; the platform uses only the first"
        yield Problem("note", f"{CONFIG}: leaderboards", message, hint="Keep one.")
    for where, board in boards[:1]:
        if board.get("submission_rule") == "Add":
            message = "with the rule Add, the board stays empty until participants add entries"
            yield Problem("note", where, message, hint="For a challenge, set submission_rule: Force_Best.")
        indexes = [whole(column.get("index")) for _, column in entries_of(board, "columns", "")]
        if sorted(index for index in indexes if index is not None) != list(range(len(indexes))):
            message = f"the indexes {indexes} have gaps, which is harmless"
            yield Problem("note", f"{where}.columns", message, hint="Number them from 0.")


def _notes_on_data(bundle: Bundle) -> Iterator[Problem]:
    for key, names in (("tasks", TASK_DATA), ("phases", PHASE_DATA)):
        for where, entry in bundle.entries(key):
            by_key = [name for name in (*names, "key") if is_uuid(entry.get(name))]
            if by_key:
                message = f"{some(by_key)} given by a key: the data behind it on the platform was not checked"
                yield Problem("note", where, message, hint="To have the data checked, put it into the bundle.")
    foreign = [where for where, task in bundle.entries("tasks") if _is_foreign(bundle, task)]
    if foreign:
        message = "the scoring program is not this kit's: whether it emits the leaderboard's keys was not checked"
        hint = "Before you publish, submit once and look at the leaderboard."
        yield Problem("note", foreign[0], message, hint=hint)
    for where, task in bundle.entries("tasks"):
        worker_key = leaks.key_of(bundle, task)
        if worker_key.hidden and worker_key.labels:
            message = "hidden labels in reference data, which anyone can download from the platform without logging in"
            hint = "Keep them on a worker of your own: blemore-codabench build --labels-on-worker."
            yield Problem("note", f"{where}.reference_data", message, hint=hint)


def _is_foreign(bundle: Bundle, task: Mapping) -> bool:
    try:
        return not _runs_ours(bundle, task) and bool(task.get("scoring_program"))
    except (KeyError, BundleError):
        return False  # reported as an error
