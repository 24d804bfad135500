"""Dates as the platform reads them, compared with dateutil, its own reader, if that is installed."""

from datetime import UTC, date, datetime

import pytest

from blemore_codabench import dates

RIGHT = {
    "2027-01-05": "2027-01-05 00:00:00",
    "2027-01-05 10:00:00": "2027-01-05 10:00:00",
    "2027-01-05T10:00:00": "2027-01-05 10:00:00",
    "2027-01-05T10:00:00Z": "2027-01-05 10:00:00",
    "2027-01-05 10:00:00 UTC": "2027-01-05 10:00:00",
    "2027-01-05 10:00+00:00": "2027-01-05 10:00:00",
    "2027-01-05 10:00": "2027-01-05 10:00:00",
    "2027-01-05 10:00:00.5": "2027-01-05 10:00:00",
    "2027-01-05 10:00:00,5": "2027-01-05 10:00:00",
    "2027-01-05 10:00 PM": "2027-01-05 22:00:00",
    "2027-01-05 12:30 am": "2027-01-05 00:30:00",
    "2027-1-5 9:00": "2027-01-05 09:00:00",
    "2027/01/05 9:00": "2027-01-05 09:00:00",
    " 2027-01-05 10:00:00 ": "2027-01-05 10:00:00",
    "20270105T100000": "2027-01-05 10:00:00",
    "20270105": "2027-01-05 00:00:00",
    "January 5, 2027": "2027-01-05 00:00:00",
    "Jan 5, 2027 10:00": "2027-01-05 10:00:00",
    "5 September 2027": "2027-09-05 00:00:00",
    "5th Sept 2027, 3:05 PM": "2027-09-05 15:05:00",
    "2028-02-29": "2028-02-29 00:00:00",
}


@pytest.mark.parametrize("text", RIGHT)
def test_dates_that_are_accepted(text):
    moment, fault, hint = dates.read(text)
    assert fault is None and moment.strftime(dates.FORM) == RIGHT[text] and moment.tzinfo is UTC
    assert (hint is None) == (text.strip() in (RIGHT[text], RIGHT[text][:10])) and RIGHT[text] in (hint or RIGHT[text])


@pytest.mark.parametrize("text", RIGHT)
def test_dateutil_reads_the_same(text):
    parser = pytest.importorskip("dateutil.parser", reason="comes with pandas and matplotlib")
    assert parser.parse(text).strftime(dates.FORM) == RIGHT[text]


@pytest.mark.parametrize(
    "value, words",
    [
        ("2027-02-30 00:00:00", "not a date"),
        ("2027-02-29", "not a date"),
        ("2027-01-05 24:00:00", "not a date"),
        ("2027-01-05 13:00 PM", "not a date"),
        ("2027-W02-1", "expected UTC"),
        ("10000-01-01 00:00:00", "expected UTC"),
        ("soon", "expected UTC"),
        ("", "expected UTC"),
        ("2027", "missing parts from today"),
        ("2027-01", "missing parts from today"),
        ("January 2027", "missing parts from today"),
        ("01/05/2027", "swaps month and day"),
        ("5.1.2027", "swaps month and day"),
        ("2027-01-05 10:00:00+02:00", "drops the offset"),
        ("2027-01-05T10:00:00-0530", "drops the offset"),
        ("Foo 5, 2027", "not a date"),
        (20270105, "quotes"),
        (2027.5, "quotes"),
        (False, "quotes"),
        (datetime(2027, 1, 5, 12), "quotes"),
    ],
)
def test_dates_that_are_refused(value, words):
    moment, fault, hint = dates.read(value)
    assert moment is None and "expected UTC" in fault and words in f"{fault} {hint}"


@pytest.mark.parametrize("value", [date(2027, 1, 5), datetime(2027, 1, 5)])
def test_an_unquoted_day_loses_nothing(value):
    assert dates.read(value) == (datetime(2027, 1, 5, tzinfo=UTC), None, None)


def test_written_dates_are_read_back():
    moment = datetime.fromisoformat("2027-01-05T01:30:00+02:00")
    assert dates.write(moment) == "2027-01-04 23:30:00" and dates.read(dates.write(moment)).moment == moment
