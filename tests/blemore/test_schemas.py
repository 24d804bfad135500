"""The published schemas, the validator and an independent set of rules agree on a corpus of 10,000 documents."""

import json
import math
import random
from collections import Counter

import pytest
from jsonschema.validators import Draft202012Validator

from blemore.errors import ValidationError
from blemore.labels import EMOTIONS, LABELS, to_entry
from blemore.validate import schema, validate, validate_labels

BEYOND = {"sum", "emotion-twice", "duplicate-clip", "missing-clips", "unknown-clips"}  # what no schema can say
ODD_VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    0.5,
    50,
    70,
    100,
    99.99,
    99.98,
    100.01,
    100.02,
    1e308,
    -0.0,
    math.inf,
    "",
    "sad",
    "100",
    [],
    {},
    [[]],
    ["sad"],
    10**400,
]
KEYS = ["emotion", "salience", "Emotion", "predictions", "labels", "groups", "secret", "x"]


def plain_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def sound_part(part, single, canonical):
    """Whether one emotion of an entry is valid, by the rules of the challenge."""
    if not isinstance(part, dict) or set(part) != {"emotion", "salience"} or not plain_number(part["salience"]):
        return False
    if not isinstance(part["emotion"], str) or part["emotion"] not in (EMOTIONS if single else EMOTIONS[:5]):
        return False
    salience = part["salience"]
    if canonical:
        return salience in ((100,) if single else (70, 50, 30))
    return 99.99 <= salience <= 100.01 if single else 0 < salience < 100


def sound_clips(clips, canonical):
    return (
        isinstance(clips, dict)
        and len(clips) > 0
        and all(
            isinstance(entry, list)
            and len(entry) in (1, 2)
            and all(sound_part(part, len(entry) == 1, canonical) for part in entry)
            for entry in clips.values()
        )
    )


def sound(document, key):
    """Whether a document is valid, as far as a schema can judge."""
    if not isinstance(document, dict):
        return False
    if key not in document:
        return sound_clips(document, key == "labels")
    groups = document.get("groups", {}) if key == "labels" else {}
    keys = {key, "groups", "secret"} if key == "labels" else {key}
    secret = document.get("secret", "s" * 32) if key == "labels" else "s" * 32
    return (
        set(document) <= keys
        and isinstance(secret, str)
        and len(secret) >= 32
        and sound_clips(document[key], key == "labels")
        and (isinstance(groups, dict) and all(isinstance(actor, str) and actor for actor in groups.values()))
    )


def mutate(node, rng):
    """One random change somewhere inside."""
    place, nodes = node, [node]
    while isinstance(place, (dict, list)) and place and rng.random() < 0.8:
        place = rng.choice(list(place.values()) if isinstance(place, dict) else place)
        nodes.append(place)
    targets = [item for item in nodes if isinstance(item, (dict, list))]
    target = rng.choice(targets[-2:]) if targets else None
    if isinstance(target, dict):
        key = rng.choice([*target, rng.choice(KEYS)])
        if rng.random() < 0.25:
            target.pop(key, None)
        else:
            target[key] = rng.choice(ODD_VALUES)
    elif isinstance(target, list):
        change = rng.randrange(3)
        if change == 0 and target:
            target.pop()
        elif change == 1:
            target.append(
                rng.choice([*ODD_VALUES, {"emotion": rng.choice(EMOTIONS), "salience": rng.choice([30, 50, 70])}])
            )
        elif target:
            target[rng.randrange(len(target))] = rng.choice(ODD_VALUES)


def documents(rng, key, n):
    for _ in range(n):
        clips = {f"c{k}{rng.choice(['', '.mov'])}": to_entry(rng.choice(LABELS)) for k in range(rng.randint(0, 4))}
        document = {key: clips} if rng.random() < 0.5 else clips
        if key == "labels" and key in document and rng.random() < 0.4:
            document["groups"] = dict.fromkeys(clips, "A1")
        if key == "labels" and key in document and rng.random() < 0.2:
            document["secret"] = rng.choice("ab") * rng.choice([31, 32, 64])
        parts = [part for entry in clips.values() for part in entry]
        if parts and rng.random() < 0.2:  # valid by itself, but seldom with the other part
            rng.choice(parts).update(
                rng.choice([{"salience": rng.choice([30, 50, 70])}, {"emotion": rng.choice(EMOTIONS[:5])}])
            )
        document = json.loads(json.dumps(document))
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 4])):
            mutate(document, rng)
        yield document if rng.random() < 0.98 else rng.choice(ODD_VALUES)


@pytest.mark.parametrize(
    "key, name, check", [("predictions", "submission", validate), ("labels", "labels", validate_labels)]
)
def test_schema_validator_and_plain_rules_agree(key, name, check):
    by_schema = Draft202012Validator(schema(name))
    tally = Counter()
    for document in documents(random.Random(5), key, 5000):
        expected = sound(document, key)
        assert by_schema.is_valid(document) == expected, document
        try:
            check(document)
            codes = set()
        except ValidationError as error:
            codes = {problem.code for problem in error.problems}
        assert bool(codes - BEYOND) != expected, (
            document,
            codes,
        )  # the validator finds what the schema finds, and what a schema cannot say
        tally[expected, bool(codes)] += 1
    assert min(tally[True, False], tally[True, True], tally[False, True]) > 100, tally


SOUND = [{"emotion": "ang", "salience": 1}, {"emotion": "hap", "salience": 99}]


@pytest.mark.parametrize(
    "part",
    [{"emotion": "ang", "salience": True}, {"emotion": "ang", "salience": "1"}, {"emotion": "ANG", "salience": 1}],
)
@pytest.mark.parametrize("clips", ["ab", "ba"])
def test_an_entry_that_resembles_a_valid_one_is_checked_too(part, clips):
    """Equal entries are checked once, and for Python True equals 1."""
    entries = {"a": [part, SOUND[1]], "b": SOUND}
    with pytest.raises(ValidationError) as caught:
        validate({clip: entries[clip] for clip in clips})
    assert [problem.clip for problem in caught.value.problems] == ["a"]
