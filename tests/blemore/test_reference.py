"""The reference from the dataset's metadata CSV, its folds, and the trivial baselines on it."""

from collections import Counter
from fractions import Fraction

import pytest
from helpers import entry, mapping, problems_of

from blemore import evaluate
from blemore.errors import ReferenceLabelsError, ValidationError
from blemore.evaluate import read_ids, read_reference, restrict
from blemore.labels import LABELS, to_entry, to_prediction
from blemore.trivial import evaluate as evaluate_trivial
from blemore.trivial import fit
from blemore.validate import Reference, validate_metadata

HEADER = "filename,video_id,mix,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience,fold"
GOOD = [
    "A1_x,A1,0,ang,,,,0",
    "A1_y,A1,1,ang,hap,70.0,30.0,0",
    "A2_x,A2,1,sad,fea,70,30,1",  # against the index order: fea+sad 30/70
    "A2_y,A2,0,neu,,100,,1",
]


@pytest.fixture
def table(tmp_path):
    """Writes rows under the header and returns the reference, or the problems as (code, line, clip)."""

    def run(*rows, header=HEADER, newline="\n", bom=""):
        path = tmp_path / "metadata.csv"
        path.write_bytes((bom + newline.join([header, *rows]) + newline).encode())
        try:
            return read_reference(path)
        except ReferenceLabelsError as error:
            assert error.exit_code == 4
            return [(problem.code, problem.where.partition("line ")[2], problem.clip) for problem in error.problems]

    return run


@pytest.mark.parametrize("options", [{}, {"bom": "\ufeff"}, {"newline": "\r\n"}], ids=["plain", "bom", "crlf"])
def test_a_small_table(table, options):
    reference = table(*GOOD, **options)
    assert {clip: str(label) for clip, label in reference.labels.items()} == {
        "A1_x": "ang",
        "A1_y": "ang+hap 70/30",
        "A2_x": "fea+sad 30/70",
        "A2_y": "neu",
    }
    assert reference.groups == {"A1_x": "A1", "A1_y": "A1", "A2_x": "A2", "A2_y": "A2"}
    assert reference.folds == {"A1_x": 0, "A1_y": 0, "A2_x": 1, "A2_y": 1}


def test_optional_columns_may_be_absent(table):
    reference = table("a.mov,ang,,,", header="filename,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience")
    assert list(reference.labels) == ["a"] and not reference.groups and not reference.folds


@pytest.mark.parametrize(
    "row, code",
    [
        ("A1_x,A1,0,sad,,,,0", "duplicate-clip"),
        ("A1_x.mov,A1,0,sad,,,,0", "duplicate-clip"),
        ("z,A1,0,joy,,,,0", "not-a-label"),
        ("z,A1,1,ang,joy,50,50,0", "not-a-label"),
        ("z,A1,1,ang,neu,50,50,0", "not-a-label"),
        ("z,A1,1,ang,ang,50,50,0", "not-a-label"),
        ("z,A1,1,ang,hap,60,40,0", "not-a-label"),
        ("z,A1,1,ang,hap,0.7,0.3,0", "not-a-label"),
        ("z,A1,1,ang,hap,70,70,0", "not-a-label"),
        ("z,A1,1,ang,hap,,,0", "not-a-label"),
        ("z,A1,1,ang,hap,nan,nan,0", "not-a-label"),
        ("z,A1,1,ang,,,,0", "not-a-label"),  # mix says blend
        ("z,A1,0,ang,hap,70,30,0", "not-a-label"),  # mix says single
        ("z,A1,yes,ang,,,,0", "not-a-label"),
        ("z,A1,0,,ang,,,0", "not-a-label"),
        ("z,A1,0,,,,,0", "not-a-label"),
        ("z,A1,0,ang,,70,,0", "not-a-label"),
        ("z,A1,0,ang,,,,0.5", "bad-table"),
        ("z,A1,0,ang,,,,first", "bad-table"),
        ("z,A1,0,ang,,,,-1", "bad-table"),
        (",A1,0,ang,,,,0", "bad-table"),
        ("z,A1,0,ang", "bad-table"),
        ("z,A1,0,ang,,,,0,,", "bad-table"),
    ],
)
def test_a_broken_row_is_reported_with_its_line(table, row, code):
    ((problem_code, line, clip),) = table(*GOOD[:2], row, GOOD[2])
    assert (problem_code, line) == (code, "4")
    assert clip in (None, "z", "A1_x")


def test_every_broken_row_is_reported(table):
    problems = table("a,A1,0,joy,,,,0", GOOD[0], GOOD[0], "c,A1,1,ang,hap,60,40,x")
    assert problems == [
        ("not-a-label", "2", "a"),
        ("duplicate-clip", "4", "A1_x"),
        ("not-a-label", "5", "c"),
        ("bad-table", "5", "c"),
    ]


@pytest.mark.parametrize(
    "header, rows",
    [
        (HEADER.replace("filename", "file"), GOOD),
        (HEADER.replace("emotion_2,", "other,"), GOOD),
        (HEADER, []),
        ("filename", ["test_0001"]),
        (HEADER.replace(",", ";"), [row.replace(",", ";") for row in GOOD]),
    ],
)
def test_tables_without_what_is_needed(table, header, rows):
    ((code, _, _),) = table(*rows, header=header)
    assert code == "bad-table"


def test_an_empty_table(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"")
    with pytest.raises(ReferenceLabelsError, match="an empty file"):
        read_reference(tmp_path / "m.csv")


# --------------------------------------------------------------------------------------- folds


def reference_of(clips, folds):
    labels = {clip: to_prediction([tuple(part.values()) for part in entry(text)]).label for clip, text in clips.items()}
    return Reference(labels, {clip: clip.upper() for clip in clips}, folds)


def test_folds():
    reference = reference_of({"a": "ang 100", "b": "ang 50 sad 50", "c": "sad 100"}, {"a": 0, "b": 1, "c": 2})
    part, subset = restrict(reference, [2, 0, 2])
    assert (list(part.labels), list(part.groups), part.folds, subset) == (
        ["a", "c"],
        ["a", "c"],
        {"a": 0, "c": 2},
        "fold 0,2",
    )
    assert restrict(reference, []) == (reference, "all")
    report = evaluate(mapping({"b": "ang 50 sad 50"}), reference, folds=[1])
    assert (report.counts.score, report.subset) == (1.0, "fold 1")
    with pytest.raises(ValidationError, match="2 clips are not known: a, c"):
        evaluate(mapping({"a": "ang 100", "b": "ang 50 sad 50", "c": "sad 100"}), reference, folds=[1])


@pytest.mark.parametrize("folds, expected", [([3], "no fold 3; expected folds 0, 1"), ([0, 3, 4], "no fold 3, 4;")])
def test_unknown_folds(folds, expected):
    with pytest.raises(ValidationError, match=expected):
        restrict(reference_of({"a": "ang 100", "b": "sad 100"}, {"a": 0, "b": 1}), folds)


def test_a_reference_without_folds():
    with pytest.raises(ValidationError, match="such as the dataset's train metadata"):
        restrict(reference_of({"a": "ang 100"}, {}), [0])


# ----------------------------------------------------------------------------------- trivial


def labels_of(*texts):
    return reference_of({f"c{k}": text for k, text in enumerate(texts)}, {}).labels


def test_the_most_frequent_answers():
    #          singles: sad 2, ang 1    pairs: fea+hap 3, ang+sad 2    blends: ang+sad 50/50 2, the fea+hap ones 1 each
    labels = labels_of(
        "ang 100",
        "sad 100",
        "sad 100",
        "fea 70 hap 30",
        "fea 50 hap 50",
        "fea 30 hap 70",
        "ang 50 sad 50",
        "ang 50 sad 50",
    )
    trivial = fit(labels.values())
    assert [str(label) for label in trivial] == ["sad", "fea+hap 70/30", "ang+sad 50/50"]
    counts = evaluate_trivial(trivial, labels)
    assert (
        counts["single"].presence,
        counts["pair"].presence,
        counts["blend"].salience,
        counts["single"].salience,
    ) == (2, 3, 2, 0)


@pytest.mark.parametrize(
    "texts, expected",
    [
        (["sad 100", "disg 100", "neu 100"], ["disg", "None", "None"]),
        (["fea 50 sad 50", "ang 50 sad 50", "ang 50 disg 50"], ["None", "ang+disg 50/50", "ang+disg 50/50"]),
        (["ang 30 disg 70", "ang 50 disg 50", "ang 70 disg 30"], ["None", "ang+disg 70/30", "ang+disg 70/30"]),
        (["ang 30 disg 70", "ang 50 disg 50"], ["None", "ang+disg 50/50", "ang+disg 50/50"]),
        ([], ["None", "None", "None"]),
    ],
)
def test_ties_go_to_the_lowest_label_index_whatever_the_order(texts, expected):
    for order in (texts, texts[::-1]):
        assert [str(label) for label in fit(labels_of(*order).values())] == expected


def test_a_partition_without_a_kind_gives_no_figure_for_it():
    assert list(evaluate_trivial(fit(labels_of("sad 100").values()), labels_of("sad 100"))) == ["single"]


# ----------------------------------------------------------------------------- the real lists


@pytest.fixture(scope="module")
def train(shared):
    return read_reference(shared / "blemore-real" / "train_metadata.csv")


def test_the_real_train_list(train):
    assert len(train.labels) == len(train.folds) == len(train.groups) == 2456
    assert [count for _, count in sorted(Counter(train.folds.values()).items())] == [522, 486, 468, 472, 508]
    assert sum(label.is_blend for label in train.labels.values()) == 1326
    assert len(set(train.groups.values())) == 47 and set(train.labels.values()) == set(LABELS)
    actors = [{train.groups[clip] for clip, fold in train.folds.items() if fold == k} for k in range(5)]
    assert sum(map(len, actors)) == 47  # no actor in two folds


def test_the_real_trivial_figures(train):
    trivial = fit(train.labels.values())
    assert [str(label) for label in trivial] == ["fea", "ang+fea 50/50", "ang+fea 50/50"]
    counts = evaluate_trivial(trivial, train.labels)
    single, pair, blend = counts["single"], counts["pair"], counts["blend"]
    assert (single.presence, single.n, single.salience) == (192, 2456, 0)
    assert Fraction(pair.presence, pair.n) == Fraction(140, 2456)
    assert (blend.salience, blend.n_blends) == (47, 1326)
    assert (
        round(single.acc_presence, 4) == 0.0782
        and round(pair.acc_presence, 4) == 0.0570
        and round(blend.acc_salience, 4) == 0.0354
    )


def test_the_real_truth_scores_one_and_each_fold_is_scored_alone(train):
    truth = {clip: to_entry(label) for clip, label in train.labels.items()}
    assert evaluate(truth, train).counts == (2456, 2456, 1326, 1326, 1326)
    fold = {clip: parts for clip, parts in truth.items() if train.folds[clip] == 3}
    assert evaluate(fold, train, folds=[3]).counts.n == 472


def test_the_real_test_list_names_clips_but_no_labels(shared):
    path = shared / "blemore-real" / "test_metadata.csv"
    assert read_ids(path) == [f"test_{k:04}" for k in range(1, 595)]
    with pytest.raises(ReferenceLabelsError, match="labels are not public") as caught:
        read_reference(path)
    assert caught.value.exit_code == 4


# ------------------------------------------------------------------------------------- ids


def test_metadata_rows_need_no_file():
    rows = [{"filename": "a", "emotion_1": "sad", "emotion_2": "", "emotion_1_salience": "", "emotion_2_salience": ""}]
    assert str(validate_metadata(rows).labels["a"]) == "sad"


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("i.csv", "filename\na.mov\nb\n", ["a", "b"]),
        ("i.csv", "x,filename\n1,a\n", ["a"]),
        ("i.json", '{"predictions": {"a.mov": []}}', ["a"]),
        ("i.json", '{"labels": {"a": []}, "groups": {"b": ""}}', ["a"]),
        ("i.json", '{"a": [], "b.wav": []}', ["a", "b"]),
    ],
)
def test_ids(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    assert read_ids(tmp_path / name) == expected


@pytest.mark.parametrize(
    "name, content, code",
    [
        ("i.csv", "clip\na\n", "no-ids"),
        ("i.csv", "clip\na\nb\n", "no-ids"),
        ("i.csv", "filename;x\na;1\n", "bad-table"),
        ("i.csv", "filename\n", "no-ids"),
        ("i.csv", "filename,x\na,1\n,2\n", "no-ids"),
        ("i.csv", "filename\na\na.mov\n", "duplicate-clip"),
        ("i.json", "[]", "no-ids"),
        ("i.json", "{}", "no-ids"),
        ("i.json", "3", "no-ids"),
        ("i.json", '{"a": [], "a.mov": []}', "duplicate-clip"),
        ("i.json", "{", "not-json"),
    ],
)
def test_broken_ids(tmp_path, name, content, code):
    (tmp_path / name).write_text(content)
    assert [problem.code for problem in problems_of(read_ids, tmp_path / name)] == [code]
