"""Dates in a competition.yaml, as the platform reads them: with dateutil, as UTC, whatever offset is given.

Only what it reads right is taken. It also takes what it reads wrong: a missing month becomes today's, and an
offset is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

JUST_BEGUN = timedelta(days=1)  # how long ago a phase may have started that is still to be uploaded
FORM = "%Y-%m-%d %H:%M:%S"
EXPECTED = 'expected UTC as "YYYY-MM-DD HH:MM:SS"'
MONTHS = "january february march april may june july august september october november december".split()
TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(:(?P<second>\d{2})([.,]\d{1,6})?)?"
    r"(\s*(?P<half>[AaPp])\.?[Mm]\.?)?(\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
)
NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
# A year, a month and a day, with or without a time of day; with any other form the platform may mean another day.
FORMS = [
    re.compile(pattern)
    for pattern in (
        rf"(?P<year>\d{{4}})(?P<separator>[-/.])(?P<month>\d{{1,2}})(?P=separator)(?P<day>\d{{1,2}})([T ]\s*{TIME})?",
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(T?(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})?)?",
        rf"{NAME}\s+(?P<day>\d{{1,2}})(st|nd|rd|th)?,?\s+(?P<year>\d{{4}})(,?\s+{TIME})?",
        rf"(?P<day>\d{{1,2}})(st|nd|rd|th)?\s+{NAME},?\s+(?P<year>\d{{4}})(,?\s+{TIME})?",
    )
]
SLASHED = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}\b.*")


class Reading(NamedTuple):
    """A moment in UTC or, where it is None, what is wrong; `hint`: the fix, or what a reader should know."""

    moment: datetime | None
    fault: str | None = None
    hint: str | None = None


def read(value: object) -> Reading:
    """What the platform makes of a date."""
    if isinstance(value, datetime):
        if value.hour or value.minute or value.second:
            hint = "Put it in quotes: YAML and the platform would lose its time of day."
            return Reading(None, f'"{value}" is not quoted; {EXPECTED}', hint)
        return Reading(value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return Reading(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if not isinstance(value, str):
        return Reading(None, f"{value!r} is no date; {EXPECTED}", "Put it in quotes, with hyphens.")
    text = value.strip()
    match = next(filter(None, (form.fullmatch(text) for form in FORMS)), None)
    if match is None:
        advice = "The platform takes the month for the day, or today's for what is missing." if _vague(text) else None
        return Reading(None, f"found {ascii(value)}; {EXPECTED}", advice)
    parts: dict[str, str | None] = match.groupdict()
    if re.search("[1-9]", parts.get("zone") or ""):
        hint = "The platform drops an offset and takes the wall time for UTC."
        return Reading(None, f"found {ascii(value)}; {EXPECTED}", hint)
    moment = _moment(parts)
    if moment is None:
        return Reading(None, f"found {ascii(value)}, which is no date; {EXPECTED}")
    as_read = moment.strftime(FORM)
    is_plain = text in (as_read, as_read.removesuffix(" 00:00:00"))
    return Reading(moment, None, None if is_plain else f"It is read as {as_read} UTC.")


def _vague(text: str) -> bool:
    return bool(SLASHED.fullmatch(text) or re.fullmatch(r"\d{4}(-\d{1,2})?|[A-Za-z]+\.? \d{4}", text))


def _moment(parts: Mapping[str, str | None]) -> datetime | None:
    """None: there is no such month, day or time of day."""
    name = parts.get("name")
    month = _month(name) if name else parts["month"]
    hour = int(parts.get("hour") or 0)
    if parts.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts["half"] in ("p", "P") else 0)
    year, day = int(parts["year"] or 0), int(parts["day"] or 0)
    minute, second = (int(parts.get(part) or 0) for part in ("minute", "second"))
    try:
        return datetime(year, int(month or 0), day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _month(name: str | None) -> str | None:
    """The number of a month by its English name, or its first three or four letters."""
    text = (name or "").lower()
    numbers = [str(number) for number, month in enumerate(MONTHS, 1) if text in (month, month[:3], month[:4])]
    return numbers[0] if numbers else None


def write(moment: datetime) -> str:
    """As the platform reads it: it takes the wall time for UTC and drops an offset."""
    return moment.astimezone(UTC).strftime(FORM)
