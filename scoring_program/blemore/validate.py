"""Turns parsed data into labels, or lists every problem in it.

The JSON Schemas in schemas/ say all that a schema can say, and jsonschema checks it. This module adds
what no schema can say: two different emotions, saliences that sum to 100, a clip under two spellings
of its id, missing and unknown clips. It also puts jsonschema's reports into words: what was found,
what was expected, the likely cause.

Saliences are in percent and may be off by 0.01, read as decimal numbers: 99.99 and 100.01 are valid.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from numbers import Number
from pathlib import Path
from typing import Any, NamedTuple, cast
from unicodedata import normalize

from jsonschema.validators import Draft202012Validator

from blemore.errors import Problem, ValidationError, show, some
from blemore.io import json_path
from blemore.labels import (
    BLENDABLE,
    EMOTION_NAMES,
    EMOTIONS,
    LABEL_INDEX,
    NEUTRAL,
    Label,
    Prediction,
    clip_id,
    to_prediction,
)

WORDS_FOR_NOTHING = ("NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
FIX_ROW = "Fix this row, or use the table as the dataset ships it."
SUM_WITHIN = 0.01 + 1e-9  # 70.01 + 30 is off by 0.01 in decimals, but by a little more in binary floats


class Reference(NamedTuple):
    """What is known about the clips to score: true labels and, if the source gives them, actors and folds.

    secret: the key for the public hash of the labels, if the source gives one
    """

    labels: dict[str, Label]
    groups: dict[str, str]
    folds: dict[str, int]
    secret: str | None = None


def validate(
    predictions: object, ids: Collection[str] | None = None, where: str = "predictions"
) -> dict[str, Prediction]:
    """The predictions of a submission, by clip id, in the submission's order.

    predictions: parsed JSON in either root form, `{"predictions": {clip: entry}}` or `{clip: entry}`;
                 an entry is a list of one or two `{"emotion": …, "salience": percent}`
    ids:         the clips that must be there, each once, and no others; None skips this check
    where:       the name of the source, for messages

    Raises ValidationError with every problem.
    """
    clips, root = _clips(predictions, "predictions")
    problems = list(_schema_problems(predictions, "submission", "predictions", where))
    entries, repeated = _parse_entries(clips, root, where, problems)
    if ids is not None and clips:
        problems += _coverage({clip_id(name) for name in clips}, {clip_id(name) for name in ids}, where)
    _raise_if(problems + repeated, clips)
    return entries


def validate_labels(labels: object, where: str = "labels") -> Reference:
    """The reference from parsed labels JSON: `{"labels": {clip: entry}, "groups": {clip: actor}}` or `{clip: entry}`.

    `groups` is optional, and so is `secret`, a text of 32 characters or more.

    Raises ValidationError with every problem.
    """
    clips, root = _clips(labels, "labels")
    problems = list(_schema_problems(labels, "labels", "labels", where))
    entries, repeated = _parse_entries(clips, root, where, problems)
    others = labels if isinstance(labels, dict) and root else {}
    groups = others.get("groups", {})
    if isinstance(groups, dict) and groups:
        problems += _coverage({clip_id(name) for name in groups}, set(entries), f"{where}: $.groups")
    _raise_if(problems + repeated, clips)
    return Reference(
        {clip: entry.label for clip, entry in entries.items()},
        {clip_id(name): actor for name, actor in groups.items()},
        {},
        others.get("secret"),
    )


def validate_metadata(rows: Iterable[Mapping[str, str]], where: str = "metadata") -> Reference:
    """The reference from the rows of the dataset's metadata CSV (as `blemore.io.read_table` gives them).

    Used columns: filename, emotion_1, emotion_2 and their saliences; mix (if given, it must agree);
    video_id, the actor; fold. Raises ValidationError with every problem.
    """
    rows = list(rows)
    reference, problems = Reference({}, {}, {}), []
    needed = ["filename", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience"]
    absent = [name for name in needed if rows and name not in rows[0]]
    if not rows or absent:
        fault = f"no column {some(absent, 9)}" if rows else "no rows"
        hint = "Test metadata has only ids: its labels are not public." if absent and "filename" not in absent else None
        raise ValidationError(
            Problem("bad-table", where, f"{fault}; expected the dataset's metadata with labels", hint=hint)
        )
    _demand_empty_cells(rows, where)
    for row in rows:
        line, clip = f"{where}: line {row.get('', '?')}", clip_id(row["filename"])
        if not clip:
            problems.append(Problem("bad-table", line, "no filename; expected the clip's", hint=FIX_ROW))
        elif clip in reference.labels:
            problems.append(
                Problem("duplicate-clip", line, "the clip is in an earlier row already; expected once", clip, FIX_ROW)
            )
        else:
            try:
                reference.labels[clip] = _row_label(row)
            except ValueError as error:
                problems.append(Problem("not-a-label", line, str(error), clip, FIX_ROW))
            if row.get("video_id"):
                reference.groups[clip] = row["video_id"]
            if row.get("fold"):
                fold = _number(row["fold"])
                if fold is None or fold != int(fold) or fold < 0:
                    problems.append(
                        Problem(
                            "bad-table",
                            line,
                            f"fold is {show(row['fold'])}; expected a whole number from 0",
                            clip,
                            FIX_ROW,
                        )
                    )
                else:
                    reference.folds[clip] = int(fold)
    _raise_if(problems)
    return reference


def _demand_empty_cells(rows: Sequence[Mapping[str, str]], where: str) -> None:
    """Refuse words that stand for an empty cell, in one problem for all rows."""
    always, of_singles = ("emotion_1", "mix", "fold"), ("emotion_2", "emotion_1_salience", "emotion_2_salience")
    # In a blend, a missing salience is a wrong label, which is reported with its line.
    cells = ((row, name) for row in rows for name in (always if row.get("mix") == "1" else (*always, *of_singles)))
    words = [(name, row[name]) for row, name in cells if row.get(name) in WORDS_FOR_NOTHING]
    if words:
        names, spellings = (sorted(set(column)) for column in zip(*words))
        message = f"{len(words):,} cells of {', '.join(names)} hold {', '.join(spellings)}; expected empty cells"
        hint = "R and pandas can write missing values like this: leave them empty, or use the dataset's own table."
        raise ValidationError(Problem("bad-table", where, message, hint=hint))


def _row_label(row: Mapping[str, str]) -> Label:
    """A row's label; ValueError says what is wrong with it."""
    if not row["emotion_1"]:
        raise ValueError("no emotion_1")
    emotions = [row[name] for name in ("emotion_1", "emotion_2") if row[name]]
    if row.get("mix") and _number(row["mix"]) != len(emotions) - 1:
        raise ValueError(
            f"mix is {show(row['mix'])} with {len(emotions)} emotion(s); expected 1 for a blend, 0 for a single"
        )
    texts = [row[f"emotion_{k}_salience"] for k in range(1, len(emotions) + 1)]
    if texts == [""]:
        texts = ["100"]  # the dataset leaves a single's salience empty
    saliences = [value for value in map(_number, texts) if value is not None]
    label = (tuple(emotions), tuple(saliences))
    if label not in LABEL_INDEX and (label[0][::-1], label[1][::-1]) not in LABEL_INDEX:
        percentages = "/".join(text or "?" for text in texts)
        raise ValueError(f"{show('+'.join(emotions))} with {show(percentages)} is not one of the 36 labels")
    return to_prediction(list(zip(emotions, saliences))).label


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e9 else None  # NaN and Infinity are not numbers here


def _raise_if(problems: list[Problem], clips: Iterable[str] = ()) -> None:
    """Raise the problems, each once, in the order of their clips in the document; general problems come last."""
    if problems:
        place: dict[str | None, int] = {clip_id(name): index for index, name in reversed(list(enumerate(clips)))}
        in_order = sorted(
            dict.fromkeys(problems), key=lambda problem: (place.get(problem.clip, len(place)), problem.where)
        )
        raise ValidationError(in_order if place else list(dict.fromkeys(problems)))


# ---------------------------------------------------------------- what a schema cannot say


def _clips(data: object, key: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The mapping of clips in either root form, and the path to it; empty if there is none."""
    if isinstance(data, dict) and key in data:
        return (data[key] if isinstance(data[key], dict) else {}), (key,)
    return (data if isinstance(data, dict) else {}), ()


def _parse_entries(
    clips: Mapping[str, Any], root: tuple[str, ...], where: str, problems: list[Problem]
) -> tuple[dict[str, Prediction], list[Problem]]:
    """Every valid entry as a Prediction, and the problems of repeated clips. Other problems are appended."""
    unsound = {problem.clip for problem in problems}
    entries: dict[str, Prediction] = {}
    spelling: dict[str, str] = {}
    repeated: list[Problem] = []
    for name, entry in clips.items():
        clip, place = clip_id(name), f"{where}: {json_path((*root, name))}"
        if clip in spelling:
            repeated.append(
                Problem(
                    "duplicate-clip",
                    place,
                    f"the clip is here and as {show(spelling[clip])}; expected once",
                    clip,
                    "Names that differ only in a media suffix mean the same clip. Keep one entry.",
                )
            )
            continue
        spelling[clip] = name
        beyond = list(_beyond_schema(entry, place, clip))
        if beyond:
            problems += beyond
        elif clip not in unsound:
            entries[clip] = to_prediction([(part["emotion"], part["salience"]) for part in entry])
    return entries, repeated


def _beyond_schema(entry: object, where: str, clip: str) -> Iterator[Problem]:
    """What is wrong between the two parts of a blend. The schema covers entries of any other shape."""
    if not (isinstance(entry, list) and 1 <= len(entry) <= 2 and all(isinstance(part, dict) for part in entry)):
        return
    saliences = [part.get("salience") for part in entry]
    if any(
        isinstance(value, float) and math.isnan(value) for value in saliences
    ):  # only from Python: in a file, the reader refuses it
        yield Problem(
            "not-finite",
            where,
            "found NaN; expected a finite number",
            clip,
            "A division by zero upstream is the usual cause.",
        )
        return
    if len(entry) == 1:
        return
    first, second = (part.get("emotion") for part in entry)
    if first == second and isinstance(first, str):
        yield Problem(
            "emotion-twice",
            where,
            f"{show(first)} occurs twice; expected two different emotions",
            clip,
            "For a single emotion, write one part with salience 100.",
        )
    if any(isinstance(value, bool) or not isinstance(value, Number) for value in saliences):
        return
    total = sum(
        float(max(-1e300, min(value, 1e300))) for value in saliences
    )  # Python's integers can be too large for a float
    if not abs(total - 100) <= SUM_WITHIN:
        yield Problem(
            "sum",
            where,
            f"the saliences {show(saliences[0])} + {show(saliences[1])} sum to {total:.10g}; expected 100",
            clip,
            _fraction_hint(saliences),
        )


def folders_hint(unknown: Iterable[str]) -> str | None:
    """The hint for unknown clips whose ids are paths, else None."""
    return (
        "A clip's id is its file name, without folders."
        if any("/" in clip or "\\" in clip for clip in unknown)
        else None
    )


def _coverage(clips: set[str], expected: set[str], where: str) -> Iterator[Problem]:
    """Clips that are missing and clips that are unknown: one problem each, with the count and the first few."""
    missing, unknown = sorted(expected - clips), sorted(clips - expected)
    if missing:
        yield Problem(
            "missing-clips",
            where,
            f"{len(missing):,} of {len(expected):,} clips are missing: {some(missing)}",
            hint="Every clip counts: a prediction that is left out cannot be scored.",
        )
    if unknown:
        hint = "Are these from another partition or fold?"
        near = get_close_matches(unknown[0], missing[:2000], n=1, cutoff=0.75) if missing else []
        if near:
            # Ids that look alike (é may be one character or two) are shown in codes.
            spelling = ascii if normalize("NFC", unknown[0]) == normalize("NFC", near[0]) else show
            hint = f"The nearest missing clip to {spelling(unknown[0])} is {spelling(near[0])}."
        hint = folders_hint(unknown) or hint
        yield Problem("unknown-clips", where, f"{len(unknown):,} clips are not known: {some(unknown)}", hint=hint)


# --------------------------------------------------------------- jsonschema's findings, in words


@cache
def schema(name: str) -> dict[str, Any]:
    """The published JSON Schema `submission` or `labels`."""
    return cast(
        "dict[str, Any]",
        json.loads((Path(__file__).parent / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")),
    )


def _schema_problems(data: object, name: str, key: str, where: str) -> Iterator[Problem]:
    validator = Draft202012Validator(schema(name))
    clips, root = _clips(data, key)
    try:
        # jsonschema is slow, and most entries repeat: check each distinct one, and all of them only if one is invalid.
        distinct = {repr(entry): clip for clip, entry in clips.items()}
        sample = {clip: clips[clip] for clip in distinct.values()}
        if validator.is_valid({**data, key: sample} if isinstance(data, dict) and root else sample):
            return
        for error in validator.iter_errors(data):
            path = list(error.absolute_path)
            yield _explain(error, path, f"{where}: {json_path(path)}", _clip_of(path, root))
    except RecursionError:
        problem = Problem(
            "not-json", where, "nested too deeply to be checked", hint="A submission has four levels at most."
        )
        raise ValidationError(problem) from None


def _clip_of(path: list[Any], root: tuple[str, ...]) -> str | None:
    """The clip that a path leads into; `root` is the path to the mapping of clips."""
    inside = len(path) > len(root) and tuple(path[: len(root)]) == root
    return clip_id(path[len(root)]) if inside else None


def _explain(error: Any, path: list[Any], where: str, clip: str | None) -> Problem:
    value, keyword, expected = error.instance, error.validator, error.validator_value
    field = path[-1] if path else None
    if keyword == "type":
        message = f"found {_kind(value)}; expected {_KINDS[expected]}"
        return Problem("wrong-type", where, message, clip, _type_hint(value, expected, field, path))
    if keyword == "required":
        absent = [name for name in expected if name not in value]
        message = f"no {' and no '.join(map(show, absent))}; expected {_listed(expected)}"
        return Problem("missing-key", where, message, clip, _key_hint(value, absent))
    if keyword == "additionalProperties":
        names = list(error.schema["properties"])
        extra = [name for name in value if name not in names]
        message = f"unknown {'key' if len(extra) == 1 else 'keys'} {some(extra)}; expected {_listed(names)}"
        return Problem("unknown-key", where, message, clip, _root_hint(path))
    if keyword in ("minProperties", "minItems", "maxItems", "minLength"):
        return _size_problem(error, field, where, clip)
    if field == "emotion":
        return _emotion_problem(value, where, clip)
    message = f"salience {show(value)}; expected {_RANGES[keyword].format(_values(expected))}"
    return Problem("salience-range", where, message, clip, _salience_hint(error))


def _size_problem(error: Any, field: object, where: str, clip: str | None) -> Problem:
    """Too few or too many of something."""
    size = len(error.instance)
    if error.validator == "minProperties":
        return Problem("empty", where, "empty; expected at least one clip", clip)
    if error.validator == "minItems":
        hint = "Every clip needs at least one emotion: if none stands out, give the most probable one."
        return Problem("empty", where, "empty; expected one or two emotions", clip, hint)
    if error.validator == "maxItems":
        message = f"{size} emotions; expected one or two"
        return Problem("too-many-emotions", where, message, clip, "Keep the two most salient ones.")
    if field == "secret":
        message = f"a secret of {size} characters; expected at least {error.validator_value}"
        return Problem("secret", where, message, hint="Leave it out: blemore-codabench build writes a random one.")
    hint = "If the actors are not known, leave groups out altogether."
    return Problem("empty", where, "an empty text; expected an actor's name", clip, hint)


_KINDS = {"object": "an object", "array": "a list of one or two emotions", "number": "a number", "string": "a text"}
_RANGES = {
    "minimum": "100, the salience of a single emotion",
    "maximum": "100, the salience of a single emotion",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "enum": "{}",
}


def _listed(names: Iterable[object]) -> str:
    return " and ".join(map(show, names))


def _values(expected: object) -> str:
    return " or ".join(map(str, expected)) if isinstance(expected, list) else str(expected)


def _kind(value: object) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return ("the text " if isinstance(value, str) else "") + show(value)


def _type_hint(value: object, expected: str, field: object, path: list[Any]) -> str | None:
    if field == "salience" and isinstance(value, str):
        return "Write the number without quotes."
    if not path:
        return (
            'Map each clip to its emotions: {"predictions": {"test_0001.mov": [{"emotion": "sad", "salience": 100}],'
            " …}}."
        )
    if expected == "array" and isinstance(value, dict) and "emotion" in value:
        return "Put the emotion into a list: [{…}]."
    if expected == "array" and isinstance(value, str):
        return 'Write [{"emotion": …, "salience": 100}].'
    return None


def _key_hint(entry: Mapping[str, object], absent: list[str]) -> str | None:
    near = {name: get_close_matches(name, [key.lower() for key in entry], n=1) for name in absent}
    return "Is it spelt differently? Keys are lower case, in English." if any(near.values()) else None


def _root_hint(path: list[Any]) -> str | None:
    return "Only the clips belong in the file: put the name of the team or method elsewhere." if not path else None


def _emotion_problem(emotion: object, where: str, clip: str | None) -> Problem:
    if emotion == NEUTRAL:
        return Problem(
            "neutral-in-blend",
            where,
            f'"{NEUTRAL}" in a blend; expected two of {", ".join(BLENDABLE)}',
            clip,
            "Neutral never occurs in a blend: predict it alone with salience 100, or leave it out.",
        )
    return Problem(
        "unknown-emotion",
        where,
        f"emotion {show(emotion)}; expected one of {', '.join(EMOTIONS)}",
        clip,
        _emotion_hint(emotion),
    )


_OTHER_NAMES = {
    "happy": "hap",
    "joy": "hap",
    "angry": "ang",
    "fearful": "fea",
    "afraid": "fea",
    "sorrow": "sad",
    "disgusted": "disg",
}


def _emotion_hint(emotion: object) -> str | None:
    if not isinstance(emotion, str):
        return None
    names = {
        **{name: name for name in EMOTIONS},
        **{full: name for name, full in EMOTION_NAMES.items()},
        **_OTHER_NAMES,
    }
    near = get_close_matches(emotion.strip().lower()[:40], names, n=1, cutoff=0.5)
    return f'The nearest is "{names[near[0]]}" ({EMOTION_NAMES[names[near[0]]]}).' if near else None


def _salience_hint(error: Any) -> str | None:
    value = error.instance
    if error.validator == "minimum":  # a single part, with less than 100
        return _fraction_hint([value]) or "Is the second emotion missing? A single emotion has salience 100."
    if error.validator in ("exclusiveMinimum", "exclusiveMaximum") and value in (0, 100):
        return "A blend with all the salience on one emotion is a single: write that emotion alone with salience 100."
    return "The dataset's saliences are 100, or 70/30, 50/50 and 30/70." if error.validator == "enum" else None


def _fraction_hint(saliences: list[Any]) -> str | None:
    """Saliences that look like fractions of one."""
    if all(0 < value <= 1 for value in saliences) and abs(sum(saliences) - 1) < 0.01:
        return "These look like fractions: saliences are in percent, so multiply by 100."
    return None
