"""Dates in a competition.yaml, as the platform reads them: with dateutil, as UTC, ignoring any offset.

Only dates that the platform reads correctly are accepted. The platform accepts others and misreads them: it replaces
a missing month by the current one, and drops an offset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

JUST_BEGUN = timedelta(days=1)  # how long ago a new phase may have started
FORM = "%Y-%m-%d %H:%M:%S"
EXPECTED = 'expected UTC as "YYYY-MM-DD HH:MM:SS"'
MONTHS = "january february march april may june july august september october november december".split()
TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(:(?P<second>\d{2})([.,]\d{1,6})?)?"
    r"(\s*(?P<half>[AaPp])\.?[Mm]\.?)?(\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
)
NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
# A year, a month and a day, with or without a time of day. The platform may misread the day in any other form.
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
    """A moment in UTC, or None and what is wrong with it. hint: the fix, or what a reader should know."""

    moment: datetime | None
    fault: str | None = None
    hint: str | None = None


def read(value: object) -> Reading:
    """Read a date as the platform does."""
    if isinstance(value, datetime):
        if value.hour or value.minute or value.second:
            hint = "Put it in quotes: otherwise YAML and the platform lose the time of day."
            return Reading(None, f'"{value}" is not quoted; {EXPECTED}', hint)
        return Reading(value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return Reading(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if not isinstance(value, str):
        return Reading(None, f"{value!r} is not a date; {EXPECTED}", "Put it in quotes, with hyphens.")
    text = value.strip()
    match = next(filter(None, (form.fullmatch(text) for form in FORMS)), None)
    if match is None:
        advice = "The platform swaps month and day, or takes missing parts from today." if _vague(text) else None
        return Reading(None, f"found {ascii(value)}; {EXPECTED}", advice)
    parts: dict[str, str | None] = match.groupdict()
    if re.search("[1-9]", parts.get("zone") or ""):
        hint = "The platform drops the offset and takes the time to be UTC."
        return Reading(None, f"found {ascii(value)}; {EXPECTED}", hint)
    moment = _moment(parts)
    if moment is None:
        return Reading(None, f"found {ascii(value)}, which is not a date; {EXPECTED}")
    as_read = moment.strftime(FORM)
    is_plain = text in (as_read, as_read.removesuffix(" 00:00:00"))
    return Reading(moment, None, None if is_plain else f"The platform reads it as {as_read} UTC.")


def _vague(text: str) -> bool:
    return bool(SLASHED.fullmatch(text) or re.fullmatch(r"\d{4}(-\d{1,2})?|[A-Za-z]+\.? \d{4}", text))


def _moment(parts: Mapping[str, str | None]) -> datetime | None:
    """The moment; None if the month, day or time of day does not exist."""
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
    """The number of a month, from its English name or the first three or four letters of it."""
    text = (name or "").lower()
    numbers = [str(number) for number, month in enumerate(MONTHS, 1) if text in (month, month[:3], month[:4])]
    return numbers[0] if numbers else None


def write(moment: datetime) -> str:
    """The moment in UTC, without an offset, which the platform would drop."""
    return moment.astimezone(UTC).strftime(FORM)
