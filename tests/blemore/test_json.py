"""Strict JSON and hostile submissions: each is refused with the right problems, at the right places, in order."""

import gzip
import json
import os
import subprocess
import sys
from unicodedata import normalize

import pytest
from helpers import entry, essentials, mapping, problems_of, read

from blemore.errors import Problem, printable, show, some
from blemore.io import json_path, parse_json
from blemore.validate import validate, validate_labels

SAD = '[{"emotion": "sad", "salience": 100}]'
AB = '[{"emotion": "ang", "salience": %s}, {"emotion": "hap", "salience": %s}]'


# ------------------------------------------------------------------------------- what passes


@pytest.mark.parametrize(
    "raw",
    [
        b'{"predictions": {"a.mov": [{"emotion": "sad", "salience": 100.0}]}}',
        b'{"a": [{"salience": 1e2, "emotion": "sad"}]}',
        b'\xef\xbb\xbf{"a": [{"emotion": "sad", "salience": 100}]}',  # a byte-order mark
        b' \r\n\t{"a":[{"emotion":"\\u0073ad","salience":100}]}\n\n',
    ],
    ids=["wrapped", "bare", "bom", "white space and escapes"],
)
def test_forms_that_pass(raw):
    assert [(clip, str(prediction.label)) for clip, prediction in read(raw).items()] == [("a", "sad")]


def test_a_clip_may_have_the_name_of_a_root_key():
    assert list(read('{"labels": %s, "groups": %s}' % (SAD, SAD))) == ["labels", "groups"]


# --------------------------------------------------------------- not JSON, or not JSON alone

UNREADABLE = [
    ("empty", b"", "not-json", "is empty"),
    ("blank", b" \n", "not-json", "is empty"),
    ("truncated", b'{"predictions": {"a": [{"emotion": "sad", "sal', "not-json", None),
    ("ends", b'{"predictions": {"a": [', "not-json", "cut short"),
    ("trailing comma in an object", b'{"a": 1, }', "not-json", "comma too many"),
    ("trailing comma in a list", b'{"a": [1, ]}', "not-json", "comma too many"),
    ("single quotes", b"{'a': [{'emotion': 'sad', 'salience': 100}]}", "not-json", "Python dict"),
    ("None", b'{"a": None}', "not-json", "Python dict"),
    ("html", b"<!DOCTYPE html><html><body>502</body></html>", "not-json", "web page"),
    ("two documents", b"{}{}", "not-json", None),
    ("comment", b'{"a": 1} // done', "not-json", None),
    ("bare word", b"hello", "not-json", None),
    ("control character", b'{"a\x01": 1}', "not-json", None),
    ("bad escape", b'{"a\\q": 1}', "not-json", None),
    ("csv", b"filename,emotion\na,sad\n", "not-json", None),
    ("utf-16", '{"a": 1}'.encode("utf-16"), "not-utf8", "UTF-16"),
    ("utf-16 big", b"\xfe\xff" + '{"a": 1}'.encode("utf-16-be"), "not-utf8", "UTF-16"),
    ("latin-1", '{"é": 1}'.encode("latin-1"), "not-utf8", "UTF-8"),
    ("surrogate as bytes", b'{"\xed\xa0\x80": 1}', "not-utf8", "UTF-8"),
    ("binary", bytes(range(256)), "not-json", "Zip the JSON file"),
    ("tar.gz", gzip.compress(b'{"a": []}'), "not-json", "Zip the JSON file"),
    ("mov", b"\0\0\0\x14ftypqt  \x20\x05\x03\0qt  \0\0\0\x08wide", "not-json", "Is it a video"),
    ("latin-1 with a control character", '{"é\x01": 1}'.encode("latin-1"), "not-utf8", "UTF-8"),
    ("deep list", b"[" * 100_000 + b"]" * 100_000, "not-json", "levels"),
    ("deep, never closed", b'{"a":' * 100_000, "not-json", "levels"),
    ("two boms", b"\xef\xbb\xbf\xef\xbb\xbf{}", "not-json", None),
]


@pytest.mark.parametrize("raw, code, hint", [pytest.param(*case[1:], id=case[0]) for case in UNREADABLE])
def test_unreadable(raw, code, hint):
    (problem,) = problems_of(read, raw)
    assert (problem.code, problem.where, problem.clip) == (code, "s", None)
    assert hint is None or hint in problem.hint


def test_the_place_in_the_text_is_reported():
    (problem,) = problems_of(read, '{"predictions":\n {"a": [{"emotion": "sad" "salience": 100}]}}')
    assert problem.message == 'not JSON at line 2, column 27: expecting \',\' delimiter; found ""salience": 100}]}}"'


@pytest.mark.parametrize("depth", [*range(700, 1000, 20), *range(960, 1000)])
def test_depths_near_pythons_limit(depth):
    """Nested just deeply enough to be read but not checked: refused, without a crash."""
    for text in ('{"a": [{"emotion": %s, "salience": 100}]}', '{"a": %s}', "%s"):
        assert problems_of(read, text % ("[" * depth + "]" * depth))
        assert problems_of(read, text % ('{"x":' * depth + "0" + "}" * depth))


def test_a_limit_of_size():
    raw = ('{"a": %s}' % SAD).encode()
    assert parse_json(raw, "s", len(raw))
    (problem,) = problems_of(parse_json, raw, "s", len(raw) - 1)
    assert problem.code == "too-large"


# ------------------------------------------------------------------ duplicates and non-finite numbers

FLAWED = [
    ("root", '{"predictions": {}, "predictions": {}}', [("duplicate-key", "$")]),
    ("clip", '{"predictions": {"a": 1, "b": 1, "a": 2}}', [("duplicate-key", "$.predictions")]),
    ("clip, bare", '{"a": %s, "a": %s}' % (SAD, SAD), [("duplicate-key", "$")]),
    (
        "part",
        '{"predictions": {"x.mov": [{"emotion": "sad", "salience": 100, "salience": 100}]}}',
        [("duplicate-key", '$.predictions["x.mov"][0]')],
    ),
    ("escaped alike", '{"a": 1, "\\u0061": 2}', [("duplicate-key", "$")]),
    ("two keys", '{"a": 1, "b": 1, "a": 1, "b": 1}', [("duplicate-key", "$")] * 2),
    ("nan", '{"a": [{"emotion": "sad", "salience": NaN}]}', [("not-finite", "$.a[0].salience")]),
    ("infinities", '{"a": [Infinity, {"b": -Infinity}]}', [("not-finite", "$.a[0]"), ("not-finite", "$.a[1].b")]),
    (
        "both",
        '{"b": [NaN], "a": {"c": 1, "c": 1}, "d": NaN}',
        [("not-finite", "$.b[0]"), ("duplicate-key", "$.a"), ("not-finite", "$.d")],
    ),
    ("alone", "NaN", [("not-finite", "$")]),
]


@pytest.mark.parametrize("text, expected", [pytest.param(*case[1:], id=case[0]) for case in FLAWED])
def test_repeated_keys_and_non_finite_numbers(text, expected):
    assert essentials(problems_of(read, text)) == [(code, path, None) for code, path in expected]


def test_repeated_keys_are_named_once_each():
    problems = problems_of(read, '{"a": 1, "b": 1, "a": 1, "b": 1, "a": 1}')
    assert [problem.message.split()[2] for problem in problems] == ['"a"', '"b"']


def test_nan_from_python_is_refused_too():
    for parts in (entry("ang 100"), entry("ang 50 hap 50")):
        parts[0]["salience"] = float("nan")
        assert essentials(problems_of(validate, {"a": parts})) == [("not-finite", "$.a", "a")]


# ------------------------------------------------------------------------ the shape and the values

SHAPES = [
    ("list", "[]", [("wrong-type", "$", None)]),
    ("list of entries", '[{"filename": "a", "emotion": "sad"}]', [("wrong-type", "$", None)]),
    ("string", '"sad"', [("wrong-type", "$", None)]),
    ("null", "null", [("wrong-type", "$", None)]),
    ("number", "1", [("wrong-type", "$", None)]),
    ("true", "true", [("wrong-type", "$", None)]),
    ("no clips", "{}", [("empty", "$", None)]),
    ("no predictions", '{"predictions": {}}', [("empty", "$.predictions", None)]),
    ("predictions a list", '{"predictions": [%s]}' % SAD, [("wrong-type", "$.predictions", None)]),
    ("predictions null", '{"predictions": null}', [("wrong-type", "$.predictions", None)]),
    ("an extra key", '{"predictions": {"a": %s}, "team": "x"}' % SAD, [("unknown-key", "$", None)]),
    ("labels in place of predictions", '{"labels": {"a": %s}}' % SAD, [("wrong-type", "$.labels", "labels")]),
    ("no list", '{"a": {"emotion": "sad", "salience": 100}}', [("wrong-type", "$.a", "a")]),
    ("a text", '{"a": "sad"}', [("wrong-type", "$.a", "a")]),
    ("null entry", '{"a": null}', [("wrong-type", "$.a", "a")]),
    ("empty list", '{"a": []}', [("empty", "$.a", "a")]),
    ("nested list", '{"a": [%s]}' % SAD, [("wrong-type", "$.a[0]", "a")]),
    ("texts", '{"a": ["sad", "ang"]}', [("wrong-type", "$.a[0]", "a"), ("wrong-type", "$.a[1]", "a")]),
    (
        "three emotions",
        '{"a": [%s]}'
        % ", ".join('{"emotion": "%s", "salience": %d}' % pair for pair in (("ang", 40), ("hap", 30), ("sad", 30))),
        [("too-many-emotions", "$.a", "a")],
    ),
    ("empty part", '{"a": [{}]}', [("missing-key", "$.a[0]", "a")]),
    ("no salience", '{"a": [{"emotion": "sad"}]}', [("missing-key", "$.a[0]", "a")]),
    (
        "other spelling",
        '{"a": [{"Emotion": "sad", "Salience": 100}]}',
        [("missing-key", "$.a[0]", "a"), ("unknown-key", "$.a[0]", "a")],
    ),
    ("an extra value", '{"a": [{"emotion": "sad", "salience": 100, "p": 1}]}', [("unknown-key", "$.a[0]", "a")]),
    ("unknown emotion", '{"a": [{"emotion": "joy", "salience": 100}]}', [("unknown-emotion", "$.a[0].emotion", "a")]),
    ("capital", '{"a": [{"emotion": "Sad", "salience": 100}]}', [("unknown-emotion", "$.a[0].emotion", "a")]),
    ("emotion null", '{"a": [{"emotion": null, "salience": 100}]}', [("unknown-emotion", "$.a[0].emotion", "a")]),
    ("emotion a list", '{"a": [{"emotion": ["sad"], "salience": 100}]}', [("unknown-emotion", "$.a[0].emotion", "a")]),
    ("quoted number", '{"a": [{"emotion": "sad", "salience": "100"}]}', [("wrong-type", "$.a[0].salience", "a")]),
    ("boolean", '{"a": [{"emotion": "sad", "salience": true}]}', [("wrong-type", "$.a[0].salience", "a")]),
    (
        "booleans in a blend",
        '{"a": %s}' % AB % ("true", "false"),
        [("wrong-type", "$.a[0].salience", "a"), ("wrong-type", "$.a[1].salience", "a")],
    ),
    ("null salience", '{"a": [{"emotion": "sad", "salience": null}]}', [("wrong-type", "$.a[0].salience", "a")]),
    ("single of 70", '{"a": [{"emotion": "sad", "salience": 70}]}', [("salience-range", "$.a[0].salience", "a")]),
    ("single of 101", '{"a": [{"emotion": "sad", "salience": 101}]}', [("salience-range", "$.a[0].salience", "a")]),
    ("overflow", '{"a": [{"emotion": "sad", "salience": 1e999}]}', [("salience-range", "$.a[0].salience", "a")]),
    (
        "huge integer",
        '{"a": [{"emotion": "sad", "salience": 1%s}]}' % ("0" * 5000),
        [("salience-range", "$.a[0].salience", "a")],
    ),
    (
        "huge negative",
        '{"a": %s}' % AB % ("-1" + "0" * 5000, "50"),
        [("sum", "$.a", "a"), ("salience-range", "$.a[0].salience", "a")],
    ),
    (
        "infinite difference",
        '{"a": %s}' % AB % ("1e999", "-1e999"),
        [("sum", "$.a", "a"), ("salience-range", "$.a[0].salience", "a"), ("salience-range", "$.a[1].salience", "a")],
    ),
    (
        "neutral in a blend",
        '{"a": [{"emotion": "neu", "salience": 50}, {"emotion": "sad", "salience": 50}]}',
        [("neutral-in-blend", "$.a[0].emotion", "a")],
    ),
    (
        "an emotion twice",
        '{"a": [{"emotion": "sad", "salience": 50}, {"emotion": "sad", "salience": 50}]}',
        [("emotion-twice", "$.a", "a")],
    ),
    (
        "100 and 0",
        '{"a": %s}' % AB % (100, 0),
        [("salience-range", "$.a[0].salience", "a"), ("salience-range", "$.a[1].salience", "a")],
    ),
    ("fractions", '{"a": %s}' % AB % (0.7, 0.3), [("sum", "$.a", "a")]),
    (
        "fraction of a single",
        '{"a": [{"emotion": "sad", "salience": 1.0}]}',
        [("salience-range", "$.a[0].salience", "a")],
    ),
    ("sum too small", '{"a": %s}' % AB % (70, 20), [("sum", "$.a", "a")]),
    ("sum too large", '{"a": %s}' % AB % (70, 30.02), [("sum", "$.a", "a")]),
    (
        "all in one clip",
        '{"a": [{"emotion": "neu", "salience": 120}, {"emotion": "joy", "salience": "3"}, {"emotion": "sad", "x": 1}]}',
        [
            ("too-many-emotions", "$.a", "a"),
            ("neutral-in-blend", "$.a[0].emotion", "a"),
            ("salience-range", "$.a[0].salience", "a"),
            ("unknown-emotion", "$.a[1].emotion", "a"),
            ("wrong-type", "$.a[1].salience", "a"),
            ("missing-key", "$.a[2]", "a"),
            ("unknown-key", "$.a[2]", "a"),
        ],
    ),
    (
        "all that two parts can have",
        '{"a": [{"emotion": "neu", "salience": 0}, {"emotion": "neu", "salience": 0}]}',
        [
            ("emotion-twice", "$.a", "a"),
            ("sum", "$.a", "a"),
            ("neutral-in-blend", "$.a[0].emotion", "a"),
            ("salience-range", "$.a[0].salience", "a"),
            ("neutral-in-blend", "$.a[1].emotion", "a"),
            ("salience-range", "$.a[1].salience", "a"),
        ],
    ),
    (
        "a clip under two spellings",
        '{"a.mov": %s, "b": %s, "a": %s}' % (SAD, SAD, SAD),
        [("duplicate-clip", "$.a", "a")],
    ),
    (
        "several clips",
        '{"z": [{"emotion": "joy", "salience": 100}], "a": %s, "m": []}' % SAD,
        [
            ("unknown-emotion", "$.z[0].emotion", "z"),
            ("empty", "$.m", "m"),
        ],
    ),
    ("control characters", '{"\\u001b[31mred": []}', [("empty", '$["\\x1b[31mred"]', "\x1b[31mred")]),
    (
        "lone surrogates",
        '{"\\ud800": [{"emotion": "\\udfff", "salience": 100}]}',
        [("unknown-emotion", '$["\\ud800"][0].emotion', "\ud800")],
    ),
]


@pytest.mark.parametrize("text, expected", [pytest.param(*case[1:], id=case[0]) for case in SHAPES])
def test_shapes_and_values(text, expected):
    problems = problems_of(read, text)
    assert essentials(problems) == expected
    for problem in problems:  # every problem can be printed, and does nothing to a terminal
        assert all(char.isprintable() or char == "\n" for char in str(problem))
        str(problem).encode()


@pytest.mark.parametrize(
    "text, hint",
    [
        ('{"a": %s}' % AB % (0.7, 0.3), "look like fractions"),
        ('{"a": [{"emotion": "sad", "salience": 1}]}', "look like fractions"),
        ('{"a": %s}' % AB % (100, 0), "is a single"),
        ('{"a": [{"emotion": "sad", "salience": 70}]}', "second emotion missing"),
        ('{"a": [{"emotion": "joy", "salience": 100}]}', '"hap" (happiness)'),
        ('{"a": [{"emotion": "Angry", "salience": 100}]}', '"ang" (anger)'),
        ('{"a": [{"emotion": "sadness", "salience": 100}]}', '"sad" (sadness)'),
        ('{"a": [{"emotion": "neu", "salience": 50}, {"emotion": "sad", "salience": 50}]}', "never occurs in a blend"),
        ('{"a": [{"emotion": "sad", "salience": "100"}]}', "without quotes"),
        ('{"a": {"emotion": "sad", "salience": 100}}', "into a list"),
        ('{"a": [{"Emotion": "sad", "salience": 100}]}', "spelt differently"),
        ("[]", "Map each clip"),
        ('{"predictions": {"a": %s}, "team": 1}' % SAD, "put the name of the team"),
    ],
)
def test_likely_causes(text, hint):
    assert any(hint in (problem.hint or "") for problem in problems_of(read, text))


def test_no_false_cause():
    (problem,) = problems_of(read, '{"a": %s}' % AB % (40, 30))
    assert problem.hint is None and "40 + 30" in problem.message and "70; expected 100" in problem.message


# ----------------------------------------------------------------------- missing and unknown clips


def test_missing_and_unknown_clips_with_counts_and_the_first_few():
    ids = [f"test_{k:04}" for k in range(1, 595)]
    predictions = {f"tset_{k:04}.mov" if k <= 7 else f"test_{k:04}": entry("sad 100") for k in range(1, 595)}
    missing, unknown = problems_of(validate, predictions, ids)
    assert (missing.code, unknown.code) == ("missing-clips", "unknown-clips")
    assert (
        missing.message
        == "7 of 594 clips are missing: test_0001, test_0002, test_0003, test_0004, test_0005 and 2 more"
    )
    assert unknown.message == "7 clips are not known: tset_0001, tset_0002, tset_0003, tset_0004, tset_0005 and 2 more"
    assert unknown.hint == 'The nearest missing clip to "tset_0001" is "test_0001".'


def test_clips_that_are_there_but_invalid_are_not_missing():
    assert essentials(problems_of(validate, {"a": [], "b": entry("sad 100")}, ["a", "b"])) == [("empty", "$.a", "a")]


def test_ids_may_carry_suffixes():
    assert list(validate({"a": entry("sad 100"), "b.wav": entry("sad 100")}, ["a.mov", "b"])) == ["a", "b"]


def test_folders_in_ids_are_reported():
    (_, unknown) = problems_of(validate, {"test/a.mov": entry("sad 100")}, ["a"])
    assert "without folders" in unknown.hint


def test_ids_that_look_alike_are_shown_in_codes():
    composed, decomposed = (normalize(form, "clip é one") for form in ("NFC", "NFD"))
    (_, unknown) = problems_of(validate, {composed: entry("sad 100")}, [decomposed])
    assert unknown.hint == r"The nearest missing clip to 'clip \xe9 one' is 'clip e\u0301 one'."
    (_, unknown) = problems_of(validate, {"clip é ome": entry("sad 100")}, [composed])
    assert unknown.hint == 'The nearest missing clip to "clip é ome" is "clip é one".'


# ------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"labels": {"a": %s}, "groups": {"a": "A1"}}' % SAD, []),
        ('{"labels": {"a": %s}, "groups": {}}' % SAD, []),
        (
            '{"labels": {"a": %s}, "groups": {"b": "A1"}}' % SAD,
            [("missing-clips", "$.groups", None), ("unknown-clips", "$.groups", None)],
        ),
        ('{"labels": {"a": %s}, "groups": {"a": ""}}' % SAD, [("empty", "$.groups.a", None)]),
        ('{"labels": {"a": %s}, "groups": {"a": 7}}' % SAD, [("wrong-type", "$.groups.a", None)]),
        ('{"labels": {"a": %s}, "groups": []}' % SAD, [("wrong-type", "$.groups", None)]),
        ('{"labels": {"a": %s}, "x": 1}' % SAD, [("unknown-key", "$", None)]),
        ('{"predictions": {"a": %s}}' % SAD, [("wrong-type", "$.predictions", "predictions")]),
        (
            '{"a": %s}' % AB % (60, 40),
            [("salience-range", "$.a[0].salience", "a"), ("salience-range", "$.a[1].salience", "a")],
        ),
        ('{"a": %s}' % AB % (70, 70), [("sum", "$.a", "a")]),
        ('{"a": [{"emotion": "sad", "salience": 99.99}]}', [("salience-range", "$.a[0].salience", "a")]),
        ('{"a": %s, "a.mov": %s}' % (SAD, SAD), [("duplicate-clip", '$["a.mov"]', "a")]),
    ],
)
def test_labels(text, expected):
    assert essentials(problems_of(validate_labels, json.loads(text))) == expected


def test_groups_are_keyed_like_the_labels():
    reference = validate_labels({"labels": mapping({"a.mov": "sad 100"}), "groups": {"a": "A1"}})
    assert reference.groups == {"a": "A1"} and list(reference.labels) == ["a"]


# ----------------------------------------------------------------------- order and safe printing


def test_problems_are_in_the_documents_order_whatever_the_hash_seed():
    # Clips whose sorted order is not their order in the document, each with problems of both checks; general ones last.
    clips = {
        name: entry(text)
        for name, text in (("z", "joy 100"), ("b", "ang 70 hap 20"), ("y.mov", "neu 50 sad 20"), ("c", "sad 3"))
    }
    program = (
        "import json, sys\nfrom blemore.validate import validate\n"
        "try: validate(json.load(sys.stdin), ['q', 'p', 'z', 'b'])\nexcept ValueError as error: print(error)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(clips),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "12345")
    }
    (text,) = runs
    codes = [problem.code for problem in problems_of(validate, clips, ["q", "p", "z", "b"])]
    assert codes == [
        "unknown-emotion",
        "sum",
        "sum",
        "neutral-in-blend",
        "salience-range",
        "missing-clips",
        "unknown-clips",
    ]
    places = [
        text.index(place) for place in ("$.z[0]", "$.b:", '$["y.mov"]:', '$["y.mov"][0]', "$.c[0]", "p, q", "c, y")
    ]
    assert places == sorted(places)


def test_text_for_people_is_printable_and_short():
    assert show("x" * 1000, 20) == '"' + "x" * 18 + "…"
    assert (show(None), show(True), show(1.5), show("é\x1b")) == ("null", "true", "1.5", '"é\\x1b"')
    # Unchanged: letters of any script. Escaped: what moves, hides or turns text, and what cannot be encoded.
    assert show("ä 感情 שָׁ 🙂") == '"ä 感情 שָׁ 🙂"'
    assert (
        show("\u202e\u2066\u200b\xad\ufeff\xa0\x9b\u2028\ud800")
        == r'"\u202e\u2066\u200b\xad\ufeff\xa0\x9b\u2028\ud800"'
    )
    assert show(["é\u202e"]) == r"['é\u202e']"
    assert show(10**5000) == "an integer of 16610 bits"
    assert some([f"\x1b{k}" for k in range(7)], 2) == "\\x1b0, \\x1b1 and 5 more"
    assert printable("a\u202eb\n\ud800é") == "a\\u202eb\\n\\ud800é"
    problem = Problem("x", "file\x1b[2J", "message\x07", "clip\r\n" + "x" * 10_000, "hint\x9b")
    assert (
        printable(str(problem).replace("\n    ", "")) == str(problem).replace("\n    ", "") and len(str(problem)) < 300
    )


def test_json_path():
    parts = ("predictions", "test_0001.mov", 0, "salience")
    assert json_path(parts) == '$.predictions["test_0001.mov"][0].salience'
    assert json_path(("é", "a b", "")) == '$["é"]["a b"][""]'
