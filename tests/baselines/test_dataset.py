"""The metadata as arrays: labels, targets, folds and actors, keyed by clip; refused if any are missing."""

import numpy as np
import pytest

from blemore.errors import FileError, ValidationError
from blemore.labels import LABELS
from blemore_baselines.dataset import TARGETS, read_dataset, read_groups

HEADER = (
    "filename,video_id,mix,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience,"
    "version,intensity_level,situation,fold"
)
ROWS = [
    "A1_ang_int1_ver1,A1,0,ang,,,,1,1,,0",
    "A1_mix_ang_hap_70_30_ver1.mov,A1,1,ang,hap,70,30,1,,,0",
    "A22_mix_sad_disg_30_70_ver1,A22,1,sad,disg,30,70,1,,,1",  # not in index order: disg 70, sad 30
    "A22_mix_fea_hap_50_50_ver1,A22,1,fea,hap,50.0,50.0,1,,,1",
    "A22_neu_sit1_ver1,A22,0,neu,,100,,1,,1,1",
]


@pytest.fixture
def metadata(tmp_path):
    def write(rows=ROWS, header=HEADER):
        path = tmp_path / "train_metadata.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def test_the_dataset_by_hand(metadata):
    dataset = read_dataset(metadata())
    assert dataset.ids == [row.split(",")[0].removesuffix(".mov") for row in ROWS]
    assert [str(LABELS[label]) for label in dataset.labels] == [
        "ang",
        "ang+hap 70/30",
        "disg+sad 70/30",
        "fea+hap 50/50",
        "neu",
    ]
    assert dataset.folds.tolist() == [0, 0, 1, 1, 1] and dataset.actors == ["A1", "A1", "A22", "A22", "A22"]
    #                                     ang  disg fea  hap  sad  neu
    assert dataset.targets.tolist() == [
        [1, 0, 0, 0, 0, 0],
        pytest.approx([0.7, 0, 0, 0.3, 0, 0]),
        pytest.approx([0, 0.7, 0, 0, 0.3, 0]),
        [0, 0, 0.5, 0.5, 0, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert dataset.targets.dtype == np.float32


def test_every_label_has_its_own_target():
    assert TARGETS.shape == (36, 6) and len({tuple(row) for row in TARGETS.tolist()}) == 36
    assert TARGETS.sum(axis=1) == pytest.approx(1)
    for label, target in zip(LABELS, TARGETS):
        assert sorted(target[target > 0].round(2).tolist()) == pytest.approx(
            sorted(salience / 100 for salience in label.saliences)
        )


def test_the_label_comes_from_the_table_and_not_from_the_name(metadata):
    first, *others = ROWS
    dataset = read_dataset(metadata([first.replace(",ang,", ",sad,"), *others]))
    assert str(LABELS[dataset.labels[0]]) == "sad"


@pytest.mark.parametrize(
    "rows, message",
    [
        ([ROWS[0], ROWS[2].removesuffix("1"), ROWS[3]], "1 clips have no fold: A22_mix_sad_disg_30_70_ver1"),
        ([ROWS[0], ROWS[2].replace(",A22,", ",,")], "1 clips have no video_id: A22_mix_sad_disg_30_70_ver1"),
        (ROWS[:2], "found one fold"),
        ([*ROWS, ROWS[0]], "is in an earlier row already"),
        ([*ROWS, ROWS[0].replace("ver1,", "ver1.MP4,", 1)], "is in an earlier row already"),
        ([*ROWS, "A3_x,A3,0,joy,,,,1,1,,1"], "not one of the 36 labels"),
        ([*ROWS, "A3_x,A3,1,ang,neu,50,50,1,1,,1"], "not one of the 36 labels"),
        ([*ROWS, "A3_x,A3,1,ang,hap,60,40,1,1,,1"], "not one of the 36 labels"),
        ([*ROWS, "A3_x,A3,0,ang,,,,1,1,,one"], "fold is"),
        ([], "no rows"),
    ],
)
def test_unsound_metadata_is_refused(metadata, rows, message):
    with pytest.raises(ValidationError) as error:
        read_dataset(metadata(rows))
    assert message in str(error.value)


def test_all_problems_are_reported_at_once(metadata):
    with pytest.raises(ValidationError) as error:
        read_dataset(metadata([ROWS[0].removesuffix("0"), *(row.replace("A22,", ",", 1) for row in ROWS[2:])]))
    assert [problem.message.split(":")[0] for problem in error.value.problems] == [
        "1 clips have no fold",
        "3 clips have no video_id",
    ]


def test_test_metadata_cannot_be_trained_on(metadata):
    with pytest.raises(ValidationError, match="only ids"):
        read_dataset(metadata(["test_0001"], "filename"))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError):
        read_dataset(tmp_path / "none.csv")


def test_the_real_train_metadata(shared):
    dataset = read_dataset(shared / "blemore-real" / "train_metadata.csv")
    assert len(dataset.ids) == 2456 and len(set(dataset.actors)) == 47 and int((dataset.labels >= 6).sum()) == 1326
    assert np.bincount(dataset.folds).tolist() == [522, 486, 468, 472, 508]
    for actor in set(dataset.actors):  # folds share no actor
        assert len({fold for fold, name in zip(dataset.folds, dataset.actors) if name == actor}) == 1


def problems_of(tmp_path, rows):
    path = tmp_path / "train_metadata.csv"
    path.write_text(HEADER + "\n" + "".join(row + "\n" for row in rows))
    with pytest.raises(ValidationError) as caught:
        read_dataset(path)
    return [(problem.code, problem.message) for problem in caught.value.problems]


def test_an_actor_in_two_folds_is_a_leak(tmp_path):
    # A1 is in folds 0 and 1, A2 in fold 1 alone.
    rows = ["x,A1,0,ang,,,,1,1,,0", "y,A1,0,ang,,,,1,1,,1", "z,A2,0,ang,,,,1,1,,1"]
    assert problems_of(tmp_path, rows) == [("leak", "actors in more than one fold (1): A1; expected each in one")]


def test_a_label_that_disagrees_with_the_name_is_refused(tmp_path):
    # The first name has 30/70, its row 70/30; the second agrees with its row; the third has no label.
    rows = [
        "A10_mix_ang_hap_30_70_ver1,A10,1,ang,hap,70,30,1,,,0",
        "A11_sad_int1_ver1,A11,0,sad,,,,1,1,,1",
        "clip,A12,0,fea,,,,1,1,,1",
    ]
    assert problems_of(tmp_path, rows) == [
        ("other-label", "labels that disagree with the clip's name (1): A10_mix_ang_hap_30_70_ver1 is ang+hap 70/30")
    ]


# --------------------------------------------------------------------------------------------- groups


@pytest.fixture
def groups(tmp_path):
    def write(text):
        path = tmp_path / "groups.csv"
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return write


def test_groups_come_in_the_order_of_the_clips(groups):
    # Other orders of rows and columns, a byte-order mark, Windows line endings, suffixes, spaces, an extra column.
    path = groups(
        "\ufeffactor,note,filename\r\nperson_02,x,test_0003.mov\r\n person_01 ,,test_0001.MP4\r\nP,,test_0002\r\n"
    )
    assert read_groups(path, ["test_0001", "test_0002", "test_0003"]) == ["person_01", "P", "person_02"]


def test_groups_are_matched_in_either_unicode_form(groups):
    # é is one character in the list of clips and two in the table; another clip has an id that ends in a suffix.
    assert read_groups(groups("filename,actor\ne\u0301,A\nIMG_1.MOV,B\n"), ["\u00e9", "IMG_1.MOV"]) == ["A", "B"]


def test_all_problems_of_groups_are_reported_at_once(groups):
    #                             no actor    repeated      unknown  no filename (line 6)
    path = groups("filename,actor\na,\nb,P1\nb.mov,P1\nz,P2\n,P3\n")
    with pytest.raises(ValidationError) as error:
        read_groups(path, ["a", "b", "c", "d"])
    assert [(problem.code, problem.message) for problem in error.value.problems] == [
        ("bad-table", "lines without a filename: 6; expected one in each"),
        ("missing-clips", "2 clips are missing: c, d"),
        ("unknown-clips", "1 clips are not known: z"),
        ("duplicate-clip", "1 clips are listed more than once: b"),
        ("no-actor", "1 clips have no actor: a"),
    ]
    assert all(problem.hint for problem in error.value.problems[1:])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "an empty file"),
        ("filename,actor\n", "no rows"),
        ("filename;actor\na;P\n", "separated by semicolons"),
        ("filename,video_id\na,A1\n", "no column actor"),
        ("filename,video_id\na,A1\n", "Rename that column"),
        ("clip,person\na,A1\n", "no column filename and no column actor"),
        ("filename,actor\na\n", "1 cells; expected 2"),
        ("filename,actor\nfolder/a,P\n", "file name, without folders"),
    ],
)
def test_unsound_groups_are_refused(groups, text, expected):
    with pytest.raises(ValidationError) as error:
        read_groups(groups(text), ["a"])
    assert expected in str(error.value)


def test_a_missing_groups_file(tmp_path):
    with pytest.raises(FileError):
        read_groups(tmp_path / "none.csv", ["a"])
