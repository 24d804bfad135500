"""Finds labels that participants could read, and data that two phases have swapped, by the files' content.

Anyone can read public data, starting kits, solutions, input data, programs and pages. Labels are recognised in files
of any form, in a zip or not: such a file names clips, each with its emotions.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from blemore.codabench import parse_settings
from blemore.errors import BlemoreError, Problem, some
from blemore.io import parse_json
from blemore.labels import EMOTION_NAMES, Label, clip_id
from blemore.validate import validate_labels
from blemore_codabench.bundle import CONFIG, LARGEST, Bundle, BundleError, unpack
from blemore_codabench.keys import is_uuid

FEWEST = 5  # answers that count as labels: an example on a page has fewer
DEEPEST = 3  # levels of zips in zips
READABLE_OF_TASKS = ("input_data", "scoring_program", "ingestion_program")
READABLE_OF_PHASES = ("public_data", "starting_kit")
_WORD = re.compile(r"[\w.-]+")
_EMOTIONS = {name: emotion for emotion, full in EMOTION_NAMES.items() for name in (emotion, full)}


class Key(NamedTuple):
    """The labels in a bundle that a task is scored against.

    labels: by clip id; empty if they are not in the bundle
    hidden: whether participants must not know them
    """

    labels: Mapping[str, Label]
    hidden: bool


def problems(bundle: Bundle) -> Iterator[Problem]:
    """Every leak, and all data that phases have swapped."""
    keys = [(task.get("index"), key_of(bundle, task)) for _, task in bundle.entries("tasks")]
    yield from _exchanges(bundle, keys)
    yield from _leaks(bundle, _hidden_clips(bundle, keys))


def key_of(bundle: Bundle, task: Mapping) -> Key:
    """The labels of a task, whose data may be wrong in any way."""
    files = _files(bundle, task.get("reference_data"))
    try:
        hidden = parse_settings(files["settings.json"]).hidden if "settings.json" in files else True
        labels = validate_labels(parse_json(files["labels.json"], "labels.json")).labels
    except (BlemoreError, KeyError):
        return Key({}, True)
    return Key(labels, hidden)


def _files(bundle: Bundle, name: object) -> dict[str, bytes]:
    """The files of some data in a bundle by path, or a file that is not a zip by its name; empty if there are none."""
    if not isinstance(name, str) or is_uuid(name):
        return {}
    try:
        return bundle.data(name)
    except KeyError:
        return {}
    except BundleError:
        raw = bundle.read(name)
        return {} if raw is None else {os.path.basename(name): raw}


# --------------------------------------------------------------------------------------- leaks


def _hidden_clips(bundle: Bundle, keys: list[tuple[object, Key]]) -> dict[str, Label | None]:
    """The clips whose labels are hidden, each with its label if that is in the bundle.

    If the labels stay on the organiser's worker, the clips come from the phase's public data.
    """
    clips: dict[str, Label | None] = {}
    for _, phase in bundle.phases():
        used = [key for index, key in keys if index in _list(phase.get("tasks"))]
        if any(key.hidden and not key.labels for key in used):
            labelled = set(chain.from_iterable(key.labels for _, key in keys))
            clips.update(dict.fromkeys(set(chain.from_iterable(_id_lists(bundle, phase))) - labelled))
    for _, key in keys:
        clips.update(key.labels if key.hidden else {})
    return clips


def _leaks(bundle: Bundle, hidden: Mapping[str, Label | None]) -> Iterator[Problem]:
    places = {name: where for where, name in reversed(list(_readable(bundle)))}
    for name, where in places.items() if hidden else ():
        page = bundle.read(name) if where == CONFIG else None
        for path, raw in _unpacked(_files(bundle, name) if page is None else {"": page}):
            count = labels_in(raw, hidden)
            if count:
                place = f"{where}: {' › '.join(filter(None, (name, path)))}"
                message = f"it reveals the hidden labels of {count:,} clips to everybody"
                hint = "Remove the file. Participants may get only the ids of these clips."
                yield Problem("leak", place, message, hint=hint)


def _readable(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Everything that participants can read: its place in the configuration, and its name."""
    for key, names in (("tasks", READABLE_OF_TASKS), ("phases", READABLE_OF_PHASES), ("solutions", ("path",))):
        for where, entry in bundle.entries(key):
            yield from ((f"{where}.{name}", entry[name]) for name in names if isinstance(entry.get(name), str))
    pages = [bundle.config.get("terms"), *(page.get("file") for _, page in bundle.entries("pages"))]
    yield from ((CONFIG, page) for page in pages if isinstance(page, str))


def _unpacked(files: Mapping[str, bytes], depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Files by path, including those in zips."""
    for path, raw in files.items():
        yield path, raw
        inside = _inside(raw, path) if depth < DEEPEST else {}
        yield from ((f"{path} › {name}", content) for name, content in _unpacked(inside, depth + 1))


def _inside(raw: bytes, path: str) -> dict[str, bytes]:
    """The files of a zip, or the content of a gzip; empty for anything else and for damaged ones."""
    try:
        if raw.startswith(b"PK"):
            return unpack(raw, path)
        if raw.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(raw)) as file:
                return {"content": file.read(LARGEST)}
    except (BundleError, OSError, EOFError, zlib.error):
        pass
    return {}


def labels_in(raw: bytes, hidden: Mapping[str, Label | None]) -> int:
    """The number of hidden clips whose labels a file reveals.

    If the labels are known, more than half of its answers must be right. The same answer for every clip reveals
    nothing: a template has that.
    """
    text = _text(raw)
    prefix = os.path.commonprefix(list(hidden))
    if text is None or prefix not in text:
        return 0
    words = _WORD.findall(text)
    return max(_revealed(_answers(words, hidden), hidden), _revealed(_answers(reversed(words), hidden), hidden))


def _text(raw: bytes) -> str | None:
    for encoding in ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "latin-1"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            pass
    return None


def _answers(words: Iterator[str] | list[str], clips: Collection[str]) -> dict[str, frozenset[str]]:
    """By clip, the emotions that are named between this clip and the next."""
    answers: dict[str, set[str]] = {}
    clip = None
    for word in words:
        name = clip_id(word)
        if name in clips:
            clip = name
        elif clip is not None and word.lower() in _EMOTIONS:
            answers.setdefault(clip, set()).add(_EMOTIONS[word.lower()])
    return {name: frozenset(emotions) for name, emotions in answers.items()}


def _revealed(answers: Mapping[str, frozenset[str]], hidden: Mapping[str, Label | None]) -> int:
    if len(answers) < FEWEST or len(set(answers.values())) == 1:
        return 0
    truths = {clip: hidden[clip] for clip in answers}
    right = sum(truth is not None and answers[clip] == set(truth.emotions) for clip, truth in truths.items())
    unknown = sum(truth is None for truth in truths.values())
    return right + unknown if right + unknown > len(answers) / 2 else 0


# ------------------------------------------------------------------------------------ exchanges


def _exchanges(bundle: Bundle, keys: list[tuple[object, Key]]) -> Iterator[Problem]:
    """Phases whose public data does not list the clips on which their tasks are scored."""
    for where, phase in bundle.phases():
        lists = list(_id_lists(bundle, phase))
        public_ids = set(chain.from_iterable(lists))
        for index in _list(phase.get("tasks")):
            own = next((key for number, key in keys if number == index), None)
            if own is None or not public_ids:
                continue
            clips, place = set(own.labels), f"{where}: {phase.get('name')}"
            others = [number for number, key in keys if number != index and public_ids & set(key.labels)]
            if not public_ids & clips and others:
                message = f"its public data lists the clips of task {others[0]}, not those of its own task {index}"
                hint = "Are the reference data or the public data of two phases swapped?"
                yield Problem("exchanged", place, message, hint=hint)
            elif public_ids & clips and clips not in lists:
                yield _incomplete(max(lists, key=lambda ids: len(ids & clips)), clips, place)


def _incomplete(ids: set[str], clips: set[str], where: str) -> Problem:
    missing, unknown = sorted(clips - ids), sorted(ids - clips)
    faults = [f"{len(names):,} {kind} ({some(names)})" for kind, names in (("missing", missing), ("unknown", unknown))]
    message = f"its public data does not list just the {len(clips):,} scored clips: {', '.join(faults)}"
    hint = "Every submission that follows the list would fail: build the bundle again."
    return Problem("clips", where, message, hint=hint)


def _id_lists(bundle: Bundle, phase: Mapping) -> Iterator[set[str]]:
    """The lists of clips in a phase's public data: tables with a column `filename`, and templates."""
    for path, raw in _unpacked(_files(bundle, phase.get("public_data"))):
        suffix = os.path.splitext(path)[1].lower()
        names = {".csv": _table_ids, ".json": _json_ids}.get(suffix, lambda _: [])(raw)
        if names:
            yield {clip_id(name) for name in names}


def _table_ids(raw: bytes) -> list[str]:
    try:
        rows = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""))
        return [row["filename"] for row in rows if row.get("filename")]
    except (UnicodeDecodeError, csv.Error):
        return []


def _json_ids(raw: bytes) -> list[str]:
    try:
        data = parse_json(raw, "")
    except BlemoreError:
        return []
    predictions = data.get("predictions") if isinstance(data, dict) else None
    return list(predictions) if isinstance(predictions, dict) else []


def _list(value: object) -> list:
    return value if isinstance(value, list) else []
