"""Mutated submissions: each is either valid, by an independent rule, or refused with a message.

Nothing else happens.
"""

import json
import re
import resource
import time
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive import is_valid

from blemore.errors import ValidationError
from blemore.evaluate import evaluate
from blemore.io import parse_json
from blemore.labels import LABELS, to_entry
from blemore.validate import validate_labels

MOST_SECONDS, MOST_MIB = 2, 200  # of processor time and of memory, per input

CLIPS = {f"test_{k:04}.mov": to_entry(Random(2026 + k).choice(LABELS)) for k in range(6)}
REFERENCE = validate_labels(
    {clip: [{"emotion": "ang", "salience": 70}, {"emotion": "hap", "salience": 30}] for clip in CLIPS}
)
SEEDS = [
    json.dumps({"predictions": CLIPS}).encode(),
    json.dumps(CLIPS, indent=1).encode(),
    json.dumps({"labels": CLIPS}).encode(),
]
# What breaks parsers: structure, numbers at their limits, text that is not text, keys, and depth.
PIECES = [
    b"",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"1e999",
    b"-",
    b"NaN",
    b"null",
    b"true",
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\x00",
    b"\xef\xbb\xbf",
    b'"emotion"',
    b'"salience"',
    b'"predictions"',
    b"100",
    b"30",
    b"99.99",
    b"neu",
    b"ang",
    b"9" * 400,
    b"[" * 50,
    b"[" * 5000,
]


# What can turn a valid document into another valid one: a different value, or the same value in another form.
VALUE = re.compile(rb'"[a-z]{3,4}"|\b\d+(\.\d+)?\b(?=})')
VALUES = [
    b'"ang"',
    b'"sad"',
    b'"neu"',
    b"100",
    b"100.0",
    b"1e2",
    b"50",
    b"70",
    b"30",
    b"50.005",
    b"99.99",
    b"0.7",
    b" 70 ",
    b'"70"',
]


@st.composite
def mutated(draw):
    """A valid document in which one to eight values or stretches were replaced."""
    raw = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3, 8]))):
        values = list(VALUE.finditer(raw)) if draw(st.booleans()) else []
        if values:
            value = draw(st.sampled_from(values))
            raw[value.start() : value.end()] = draw(st.sampled_from(VALUES))
            continue
        start = draw(st.integers(0, len(raw)))
        stop = min(len(raw), start + draw(st.sampled_from([0, 0, 1, 1, 2, 7, 40])))
        copied = draw(st.integers(0, len(raw)))
        raw[start:stop] = draw(st.sampled_from([*PIECES, bytes(raw[copied : copied + 30]), bytes([start % 256])]))
    return bytes(raw)


def is_sound(raw):
    """Whether every clip is there, once, with a valid entry: by the naive rule, on Python's own lenient reader."""
    data = json.loads(raw.decode("utf-8-sig"))
    clips = data.get("predictions", data)
    names = sorted(name.removesuffix(".mov") for name in clips)
    return names == sorted(REFERENCE.labels) and all(is_valid(entry) for entry in clips.values())


def timed(raw):
    """The processor seconds that an input took, and why it was refused (None if it was scored)."""
    start = time.process_time()
    try:
        evaluate(parse_json(raw, "s"), REFERENCE)
        problem = None
    except ValidationError as error:
        problem = error
    return time.process_time() - start, problem


def peak_mib():
    """The most memory that this process has ever used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_mutated_submissions_are_valid_or_refused(long):
    tally = {"scored": 0, "refused": 0, "slowest": 0.0, "largest": 0.0}

    @settings(
        max_examples=100_000 if long else 1500,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated())
    def judge(raw):
        peak = peak_mib()
        seconds, problem = timed(raw)
        if seconds > MOST_SECONDS:  # was it the input, or a collection of the whole process's garbage?
            seconds = min(timed(raw)[0] for _ in range(3))
        tally["slowest"], tally["largest"] = max(tally["slowest"], seconds), max(tally["largest"], peak_mib() - peak)
        tally["scored" if problem is None else "refused"] += 1
        if problem is None:
            assert is_sound(raw)
        else:
            assert problem.problems
            str(problem).encode()  # what is printed can be printed

    judge()
    assert min(tally["scored"], tally["refused"]) > 20, tally  # the mutations are neither all fatal nor all harmless
    assert tally["slowest"] < MOST_SECONDS and tally["largest"] < MOST_MIB, tally
    print(tally)
