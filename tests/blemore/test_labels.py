"""The 36 labels, their order and canonical form, file names, and the schemas that say the same."""

import json

import pytest
from helpers import entry
from jsonschema import Draft202012Validator

from blemore.io import read_table
from blemore.labels import (
    BLENDABLE,
    BLENDS,
    EMOTIONS,
    LABEL_INDEX,
    LABELS,
    SINGLES,
    Label,
    clip_id,
    parse_filename,
    to_entry,
    to_prediction,
)
from blemore.validate import schema, validate, validate_labels, validate_metadata


def label(text):
    """`ang 70 hap 30` → its label by ranking."""
    return to_prediction([tuple(part.values()) for part in entry(text)]).label


def rounded(text):
    label = to_prediction([tuple(part.values()) for part in entry(text)]).rounded
    return label and str(label)


def test_there_are_36_labels():
    assert (len(SINGLES), len(BLENDS), len(set(LABELS))) == (6, 30, 36)


def test_their_order():
    # Written by hand: throughout the project, ties go to the label that comes first here.
    pairs = [
        "ang+disg",
        "ang+fea",
        "ang+hap",
        "ang+sad",
        "disg+fea",
        "disg+hap",
        "disg+sad",
        "fea+hap",
        "fea+sad",
        "hap+sad",
    ]
    expected = ["ang", "disg", "fea", "hap", "sad", "neu"] + [
        f"{pair} {s}" for pair in pairs for s in ("70/30", "50/50", "30/70")
    ]
    assert [str(label) for label in LABELS] == expected
    assert [LABEL_INDEX[label] for label in LABELS] == list(range(36))


@pytest.mark.parametrize(
    "text, ranking, percentages",
    [
        ("ang 70 hap 30", "ang+hap 70/30", "ang+hap 70/30"),
        ("hap 30 ang 70", "ang+hap 70/30", "ang+hap 70/30"),  # the order of the two carries no meaning
        ("hap 70 ang 30", "ang+hap 30/70", "ang+hap 30/70"),
        ("sad 50 disg 50", "disg+sad 50/50", "disg+sad 50/50"),
        ("neu 100", "neu", "neu"),
        ("sad 99.99", "sad", "sad"),
        ("ang 60 hap 40", "ang+hap 70/30", None),
        ("ang 51 hap 49", "ang+hap 70/30", None),
        ("ang 50.3 hap 49.7", "ang+hap 70/30", "ang+hap 50/50"),  # ranked apart, rounded together
        ("ang 69.6 hap 30.4", "ang+hap 70/30", "ang+hap 70/30"),
        ("ang 30.5 hap 69.5", "ang+hap 30/70", "ang+hap 30/70"),  # half to even: 30 and 70
        ("ang 50.0000004 hap 49.9999996", "ang+hap 50/50", "ang+hap 50/50"),  # 0.8e-6 apart
        ("ang 50.0000006 hap 49.9999994", "ang+hap 70/30", "ang+hap 50/50"),  # 1.2e-6 apart
    ],
)
def test_canonical_form(text, ranking, percentages):
    assert (str(label(text)), rounded(text)) == (ranking, percentages)


@pytest.mark.parametrize("text", ["ang 50 ang 50", "ang 50 neu 50", "neu 50 ang 50", "joy 100", "ang 50 joy 50"])
def test_invalid_labels_have_no_canonical_form(text):
    with pytest.raises((ValueError, KeyError)):
        label(text)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("test_0001.mov", "test_0001"),
        ("test_0001.MP4", "test_0001"),
        ("a.b.wav", "a.b"),
        ("a.mov.mov", "a.mov"),
        ("a.tar", "a.tar"),
        ("a.", "a."),
        (".mov", ".mov"),
        ("", ""),
        ("mov", "mov"),
    ],
)
def test_clip_id(name, expected):
    assert clip_id(name) == expected


# ------------------------------------------------------------------------------ file names


def test_file_names_agree_with_the_real_metadata_row_by_row(shared):
    rows = read_table(shared / "blemore-real" / "train_metadata.csv")
    reference = validate_metadata(rows)
    assert len(rows) == 2456
    whole = lambda text: int(float(text)) if text else None  # noqa: E731
    for row in rows:
        parts = parse_filename(row["filename"] + ".mov")
        assert parts.label == reference.labels[row["filename"]], row
        expected = (row["video_id"], whole(row["intensity_level"]), whole(row["situation"]), whole(row["version"]))
        assert (parts.actor, parts.intensity, parts.situation, parts.version) == expected, row


@pytest.mark.parametrize(
    "name",
    [
        "test_0001",
        "test_0001.mov",
        "",
        "A102",
        "A1_ang_int1_ver1",
        "A12345_ang_int1_ver1",
        "A102_ang_ver1",
        "A102_ang_sit1_ver1",
        "A102_neu_int1_ver1",
        "A102_joy_int1_ver1",
        "A102_mix_ang_hap_60_40_ver1",
        "A102_mix_ang_neu_50_50_ver1",
        "A102_mix_ang_ang_50_50_ver1",
        "A102_mix_ang_hap_70_70_ver1",
        "A102_mix_ang_30_70_ver1",
        "A102_ang_int1_ver1.txt",
        "A102_ang_int1_ver1\n",
        " A102_ang_int1_ver1",
        "A102_ang_int1_ver1_extra",
        "folder/A102_ang_int1_ver1",
        "A102_ang_int١_ver1",
        "a102_ang_int1_ver1",
    ],
)
def test_names_without_a_label_are_refused(name):
    with pytest.raises(ValueError, match="train clip|does not exist"):
        parse_filename(name)


def test_no_test_name_is_parsed(shared):
    for row in read_table(shared / "blemore-real" / "test_metadata.csv"):
        with pytest.raises(ValueError, match="anonymous"):
            parse_filename(row["filename"])


# --------------------------------------------------------------------------------- schemas


@pytest.mark.parametrize("name", ["submission", "labels"])
def test_schemas_are_valid_and_agree_with_the_labels(name):
    document = schema(name)
    assert document["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(document)
    entry = document["$defs"]["entry"]
    single, blend = (branch["then"]["items"]["properties"] for branch in (entry, entry["else"]))
    assert entry["else"]["if"] == {"maxItems": len(EMOTIONS)}
    assert tuple(single["emotion"]["enum"]) == EMOTIONS
    assert tuple(blend["emotion"]["enum"]) == BLENDABLE
    if name == "labels":
        assert single["salience"]["enum"] == [100]
        assert blend["salience"]["enum"] == sorted({s for label in BLENDS for s in label.saliences}, reverse=True)


@pytest.mark.parametrize("label", LABELS, ids=str)
def test_every_label_passes_both_schemas_and_is_read_back(label):
    for parts in (to_entry(label), to_entry(label)[::-1]):
        clips = json.loads(json.dumps({"a": parts}))
        for name, key in (("submission", "predictions"), ("labels", "labels")):
            Draft202012Validator(schema(name)).validate(clips)
            Draft202012Validator(schema(name)).validate({key: clips})
        prediction = validate(clips)["a"]
        assert prediction.label == prediction.rounded == label == validate_labels(clips).labels["a"]


def test_labels_know_whether_they_are_blends():
    assert [label.is_blend for label in LABELS] == [False] * 6 + [True] * 30
    assert all(label == Label(*label) for label in LABELS)
