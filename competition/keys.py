"""The keys of a competition.yaml, and which values the platform takes for them.

The platform reads most values leniently: `yes` in quotes is true, "4" and 4.0 are whole numbers, 2027 is a title. It
refuses null nearly everywhere, and silently ignores unknown keys.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from blemore.errors import Problem, show, some
from blemore_codabench.bundle import CONFIG, Bundle

MOST = 2**31 - 1
TRUE = {"t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1", 1}
FALSE = {"f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0", 0}
EMAIL = re.compile(
    r"[-!#$%&'*+/=?^_`{}|~0-9A-Z]+(\.[-!#$%&'*+/=?^_`{}|~0-9A-Z]+)*"
    r"@([A-Z0-9]([A-Z0-9-]{0,61}[A-Z0-9])?\.)+[A-Z0-9-]{0,62}[A-Z0-9]",
    re.IGNORECASE,
)


# ----------------------------------- kinds of values: what is expected, or None if the value is right


def a_text(value: object) -> str | None:
    return None if isinstance(value, (str, int, float)) and not isinstance(value, bool) else "a text"


def a_name(value: object) -> str | None:
    """A text that may not be blank."""
    return a_text(value) or (None if str(value).strip() else "a text that is not empty")


def a_flag(value: object) -> str | None:
    return None if is_true(value) or isinstance(value, (str, int, float)) and value in FALSE else "true or false"


def is_true(value: object) -> bool:
    return isinstance(value, (str, int, float)) and value in TRUE


def a_number(value: object) -> str | None:
    """A whole number, of either sign."""
    number = whole(value)
    if number is None:
        return "a whole number"
    return None if abs(number) <= MOST else f"at most {MOST:,}"


def a_count(value: object) -> str | None:
    """A whole number from 0."""
    return a_number(value) or ("at least 0" if (whole(value) or 0) < 0 else None)


def whole(value: object) -> int | None:
    """A whole number as the platform reads it: 4, 4.0, "4" and "4.0" are the same. None: it is not one."""
    try:
        return None if isinstance(value, bool) else int(re.sub(r"\.0*\s*$", "", str(value)))
    except ValueError:
        return None


def an_index(value: object) -> str | None:
    """A task's index: anything by which phases can name it."""
    return None if isinstance(value, (int, str)) else "a whole number"


def a_uuid(value: object) -> str | None:
    return None if is_uuid(value) else "a key, that is, a UUID such as 6b1e5ad8-9f3c-4c39-a5a0-3a4a5d8c7f10"


def is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def an_email(value: object) -> str | None:
    return None if isinstance(value, str) and (not value or EMAIL.fullmatch(value.strip())) else "an email address"


def a_list(value: object) -> str | None:
    return None if isinstance(value, list) else "a list"


def a_filled_list(value: object) -> str | None:
    return a_list(value) or (None if value else "a list that is not empty")


def anything(value: object) -> None:
    """Checked elsewhere."""


def one_of(*choices: str) -> Callable[[object], str | None]:
    return lambda value: None if value in choices else f"one of {', '.join(choices)}"


def version(value: object) -> str | None:
    return None if str(value) == "2" else "2"


# ------------------------------------------------------------------------------------------ the keys


class Field(NamedTuple):
    """A key's value: its kind, whether it is required, whether it may be null, and its most characters."""

    kind: Callable[[object], str | None]
    required: bool = False
    nullable: bool = False
    longest: int | None = None


NAME, TEXT, FLAG = Field(a_name, required=True), Field(a_text, nullable=True), Field(a_flag)
COUNT, NUMBER, ANYTHING = Field(a_count), Field(a_number), Field(anything)
RULES = ("Add", "Add_And_Delete", "Add_And_Delete_Multiple", "Force_Last", "Force_Latest_Multiple", "Force_Best")
FIELDS: dict[str, dict[str, Field]] = {
    "competition": {
        "version": Field(version, required=True),
        "title": Field(a_name, required=True, longest=255),
        "image": NAME,
        "terms": NAME,
        "pages": Field(a_filled_list, required=True),
        "tasks": Field(a_filled_list, required=True),
        "phases": Field(a_filled_list, required=True),
        "leaderboards": Field(a_filled_list, required=True),
        "description": TEXT,
        "docker_image": Field(a_name, longest=128),
        "registration_auto_approve": FLAG,
        "enable_detailed_results": FLAG,
        "show_detailed_results_in_submission_panel": FLAG,
        "show_detailed_results_in_leaderboard": FLAG,
        "auto_run_submissions": FLAG,
        "make_programs_available": FLAG,
        "make_input_data_available": FLAG,
        "contact_email": Field(an_email, nullable=True, longest=256),
        "forum_enabled": FLAG,
        "queue": Field(a_uuid, nullable=True),
        "fact_sheet": Field(anything, nullable=True),
        "can_participants_make_submissions_public": FLAG,
        "competition_type": Field(one_of("competition", "benchmark")),
        "reward": Field(a_text, nullable=True, longest=256),
        "solutions": Field(a_list),
        "is_public": FLAG,
    },
    "page": {"title": Field(a_name, required=True, longest=255), "file": NAME},
    "task": {
        "index": Field(an_index, required=True),
        "name": Field(a_name, required=True, longest=256),
        "description": TEXT,
        "key": Field(a_uuid),
        "scoring_program": NAME,
        "reference_data": Field(a_name),
        "input_data": Field(a_name),
        "ingestion_program": Field(a_name),
        "ingestion_only_during_scoring": FLAG,
        "is_public": FLAG,
    },
    "phase": {
        "index": NUMBER,
        "name": Field(a_name, required=True, longest=256),
        "description": TEXT,
        "start": Field(anything, required=True),
        "end": Field(anything, nullable=True),
        "tasks": Field(a_filled_list, required=True),
        "auto_migrate_to_this_phase": FLAG,
        "hide_prediction_output": FLAG,
        "hide_output": FLAG,
        "hide_score_output": FLAG,
        "accepts_only_result_submissions": FLAG,
        "max_submissions": Field(a_count, nullable=True),
        "max_submissions_per_day": Field(a_count, nullable=True),
        "execution_time_limit": COUNT,
        "starting_kit": Field(a_name),
        "public_data": Field(a_name),
        "solutions": Field(a_list),
    },
    "leaderboard": {
        "index": NUMBER,
        "primary_index": COUNT,
        "title": Field(a_name, required=True, longest=64),
        "key": Field(a_name, required=True, longest=36),
        "submission_rule": Field(one_of(*RULES)),
        "hidden": FLAG,
        "columns": Field(a_filled_list, required=True),
    },
    "column": {
        "title": Field(a_name, required=True, longest=36),
        "key": Field(a_name, required=True, longest=36),
        "index": Field(a_count, required=True),
        "sorting": Field(one_of("asc", "desc")),
        "precision": NUMBER,
        "hidden": FLAG,
        "computation": Field(one_of("sum", "avg", "min", "max")),
        "computation_indexes": Field(a_list),
    },
    "solution": {
        "index": Field(an_index, required=True),
        "tasks": Field(a_filled_list, required=True),
        "path": NAME,
        "name": Field(a_text, longest=256),
        "description": TEXT,
        "key": ANYTHING,
    },
}
LISTS = {"pages": "page", "tasks": "task", "phases": "phase", "leaderboards": "leaderboard", "solutions": "solution"}
QUESTION = ("key", "type", "title", "selection", "is_required", "is_on_leaderboard")  # of a fact sheet: exactly these
QUESTIONS = ("checkbox", "text", "select")


def problems(bundle: Bundle) -> Iterator[Problem]:
    """Keys that are unknown or missing, and values that the platform refuses, everywhere in the configuration."""
    config = bundle.config
    yield from _entry(config, "competition", CONFIG)
    for key, kind in LISTS.items():
        yield from _entries(config, key, kind, f"{CONFIG}: {key}")
    for where, board in bundle.entries("leaderboards"):
        yield from _entries(board, "columns", "column", f"{where}.columns")
    if config.get("fact_sheet"):
        yield from _fact_sheet(config["fact_sheet"], f"{CONFIG}: fact_sheet")


def _entries(parent: Mapping, key: str, kind: str, where: str) -> Iterator[Problem]:
    entries = parent.get(key)
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        yield from _entry(entry, kind, f"{where}[{index}]")


def _entry(entry: object, kind: str, where: str) -> Iterator[Problem]:
    fields = FIELDS[kind]
    if not isinstance(entry, dict):
        yield Problem("wrong-type", where, f"found {show(entry)}; expected a mapping with {some(list(fields), 3)}")
        return
    for key in entry:
        if key not in fields and not str(key).startswith("x-"):  # by convention for YAML's anchors
            message = f"the platform knows no key {show(key)} here and would ignore it"
            yield Problem("unknown-key", where, message, hint=_meant(key, kind))
    is_on_platform = kind == "task" and entry.get("key")
    for key, field in fields.items():
        if key in entry:
            yield from _value(entry[key], field, f"{where}: {key}")
        elif field.required and not is_on_platform:
            hint = "The kit's own competition.yaml has every required key."
            yield Problem("missing-key", where, f"no {key}; the platform requires it", hint=hint)


def _value(value: object, field: Field, where: str) -> Iterator[Problem]:
    if value is None:
        if not field.nullable:
            message = "empty; expected a value, since the platform refuses null"
            yield Problem("empty", where, message, hint="Leave the key out, or give it a value.")
        return
    expected = field.kind(value)
    if expected:
        yield Problem("wrong-value", where, f"found {show(value)}; expected {expected}")
    elif field.longest and len(str(value).strip()) > field.longest:
        yield Problem("too-long", where, f"{len(str(value)):,} characters; expected at most {field.longest}")
    elif isinstance(value, str) and "\0" in value:
        yield Problem("wrong-value", where, "a NUL character; expected text", hint="Type it again.")


def _meant(key: object, kind: str) -> str:
    """A hint: where a misplaced key belongs, or which key a misspelt one resembles."""
    elsewhere = [name for name, fields in FIELDS.items() if key in fields]
    if elsewhere:
        return f"It belongs in a {' or a '.join(elsewhere)}."
    near = get_close_matches(str(key), list(FIELDS[kind]), n=1)
    return f"Did you mean {near[0]}?" if near else "Remove it."


def _fact_sheet(sheet: object, where: str) -> Iterator[Problem]:
    hint = f"Under its key, a question has {', '.join(QUESTION)}."
    if not isinstance(sheet, dict):
        yield Problem("fact-sheet", where, f"found {show(sheet)}; expected a mapping of questions", hint=hint)
        return
    for key, question in sheet.items():
        place = f"{where}.{key}"
        if not isinstance(question, dict) or set(question) != set(QUESTION):
            yield Problem("fact-sheet", place, f"found {show(question)}; expected exactly {', '.join(QUESTION)}")
        elif question["key"] != key:
            yield Problem("fact-sheet", place, f"the question's key is {show(question['key'])}; expected {show(key)}")
        elif question["type"] not in QUESTIONS:
            expected = f"expected one of {', '.join(QUESTIONS)}"
            yield Problem("fact-sheet", place, f"the question's type is {show(question['type'])}; {expected}")
