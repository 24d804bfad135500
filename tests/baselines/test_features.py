"""Reading features: every kind of source gives the same arrays, paired by id; invalid sources are refused by name."""

import io
import json
import random

import numpy as np
import pytest

from blemore.errors import FileError, ValidationError
from blemore_baselines.features import (
    Features,
    aggregate,
    fuse,
    read_features,
    read_scores,
    save,
    scores_csv,
    statistics,
)
from blemore_baselines.sources.meta import STATISTICS, encoder_name

IDS = ["c", "a", "b"]  # not in alphabetical order, to detect code that sorts or relies on the order of files
EMOTIONS = ["ang", "disg", "fea", "hap", "sad", "neu"]


def sequence(clip, dim=2):
    """A few frames with different numbers per clip: a has 1 frame, b 2, c 3."""
    return np.arange(("abc".index(clip) + 1) * dim, dtype=np.float32).reshape(-1, dim) + 100 * "abc".index(clip)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "logmel"
    path.mkdir()
    for clip in IDS:
        np.save(path / f"{clip}.npy", sequence(clip))
    return path


def refusal(call, *arguments, **options):
    with pytest.raises(ValidationError) as caught:
        call(*arguments, **options)
    return str(caught.value)


# ------------------------------------------------------------------------ statistics


def test_statistics_by_hand():
    # One dimension over five frames: 0 1 2 3 14. Mean 4; deviations -4 -3 -2 -1 10, squares 16 9 4 1 100, 130 / 5 = 26.
    # Percentiles between ranks 0…4: p10 at 0.4, p25 at 1, p50 at 2, p75 at 3, p90 at 3.6: 3 + 0.6 · 11 = 9.6.
    result = statistics(np.array([[3], [0], [14], [1], [2]], np.float32))
    assert result == pytest.approx([4, 26**0.5, 0.4, 1, 2, 3, 9.6]) and result.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 3, 10, 11, 101, 250])
def test_statistics_equal_numpys(length, dtype):
    rng = np.random.default_rng(length)
    columns = [
        rng.normal(size=length),
        rng.integers(0, 3, length),
        np.full(length, 0.1),
        1e6 + rng.normal(size=length),
        rng.normal(size=length) * 1e-30,
    ]
    sequence = np.stack(columns, axis=1).astype(dtype)
    before, x = sequence.copy(), sequence.astype(np.float64)
    expected = [x.mean(axis=0), x.std(axis=0), *np.percentile(x, [10, 25, 50, 75, 90], axis=0)]
    assert statistics(sequence, dtype=np.float64).tolist() == np.concatenate(expected).tolist()
    assert statistics(sequence[:, :1], dtype=np.float64) == pytest.approx([row[0] for row in expected], rel=1e-12)
    assert (sequence == before).all(), "the input is unchanged"


def test_statistics_against_plain_loops():
    x = np.random.default_rng(0).normal(size=(37, 4)).astype(np.float32)
    expected = [[] for _ in STATISTICS]
    for column in x.T.astype(float).tolist():
        n, ordered, mean = len(column), sorted(column), sum(column) / len(column)
        expected[0].append(mean)
        expected[1].append((sum((value - mean) ** 2 for value in column) / n) ** 0.5)
        for place, percent in enumerate((10, 25, 50, 75, 90), start=2):
            rank = percent / 100 * (n - 1)
            low = int(rank)
            expected[place].append(ordered[low] + (rank - low) * (ordered[min(low + 1, n - 1)] - ordered[low]))
    assert statistics(x) == pytest.approx(
        np.concatenate(expected), rel=1e-6
    )  # mean of all dimensions, then std of all, …


def test_one_frame_has_no_spread():
    assert statistics(np.array([[5, 7]], np.float32)).tolist() == [5, 7, 0, 0] + [5, 7] * 5


# -------------------------------------------------------------------- folders of arrays


def test_a_folder_is_aggregated_in_the_order_asked_for(folder):
    features = read_features(folder, IDS)
    assert features.ids == IDS and features.owner.tolist() == [0, 1, 2] and features.X.dtype == np.float32
    for row, clip in zip(features.X, IDS):
        assert row.tolist() == statistics(sequence(clip)).tolist()
    assert features.meta == {"encoder": "logmel", "statistics": list(STATISTICS), "dim": 14}


def test_relevant_metadata_is_kept(folder):
    (folder / "meta.json").write_text(
        json.dumps(
            {"encoder": "logmel", "revision": "r1", "preset": "p", "precision": "bf16", "versions": {"numpy": "2"}}
        )
    )
    assert read_features(folder, IDS).meta == {
        "encoder": "logmel",
        "revision": "r1",
        "preset": "p",
        "precision": "bf16",
        "statistics": list(STATISTICS),
        "dim": 14,
    }


@pytest.mark.parametrize("content", ["{", "[]", "3", '"logmel"'])
def test_a_broken_meta_is_refused(folder, content):
    (folder / "meta.json").write_text(content)
    assert "meta.json: " in refusal(read_features, folder, IDS)


def test_official_folders_with_any_number_of_axes(tmp_path):
    path = tmp_path / "VideoMAEv2_train"
    path.mkdir()
    np.save(path / "a.npy", np.arange(4.0))  # a vector is one row
    np.save(path / "b.npy", np.arange(8, dtype=np.int64).reshape(2, 4))
    np.save(path / "c.npy", np.arange(24, dtype=np.float16).reshape(2, 3, 4))  # six rows of four
    rows = read_features(path, IDS, aggregated=False)
    assert rows.owner.tolist() == [0] * 6 + [1] + [2] * 2  # c, a, b
    assert rows.X.tolist() == [*np.arange(24.0).reshape(6, 4).tolist(), [0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert rows.meta == {"encoder": "VideoMAEv2", "statistics": None, "dim": 4}
    assert read_features(path, IDS).X[0].tolist() == statistics(np.arange(24.0).reshape(6, 4)).tolist()


@pytest.mark.parametrize("name", ["HiCMAE_train", "HiCMAE_test", "HiCMAE"])
def test_train_and_test_folders_belong_to_one_encoder(tmp_path, name):
    (tmp_path / name).mkdir()
    np.save(tmp_path / name / "a.npy", np.zeros(3))
    assert read_features(tmp_path / name, ["a"]).meta["encoder"] == "HiCMAE"


def test_openface_folders(tmp_path):
    path = tmp_path / "OpenFace_3_train"
    path.mkdir()
    for clip in IDS:
        lines = [f'{k},2,{k},0,"[1, 2, 3, 4, 5, 6, 7, 8]"' for k in range(8)]
        lines[3] = '3,nan,nan,nan,"[nan]"'
        (path / f"{clip}.csv").write_text("\n".join(["frame,emotion_index,gaze_yaw,gaze_pitch,action_units", *lines]))
    features = read_features(path, IDS, aggregated=False)
    assert (
        features.X.shape == (24, 11)
        and features.X[:8, 1].tolist() == list(range(8))
        and features.meta["encoder"] == "OpenFace_3"
    )
    assert read_features(path, IDS).X.shape == (3, 77)
    (path / "a.csv").write_text("frame,emotion_index,gaze_yaw,gaze_pitch,action_units\n0,1")
    assert "1 of 3 files cannot be read (line 2: 2 cells; expected 5, as in the header): a" in refusal(
        read_features, path, IDS
    )


def test_media_suffixes_are_removed_and_other_files_ignored(folder):
    (folder / "a.npy").rename(folder / "a.mov.npy")
    (folder / ".b.npy.tmp").write_bytes(b"half")
    (folder / "failures.csv").write_text("clip,kind,message\n")
    assert read_features(folder, IDS).X[1].tolist() == statistics(sequence("a")).tolist()


def test_without_ids_a_folder_gives_all_its_clips(folder):
    assert read_features(folder).ids == ["a", "b", "c"]


def test_missing_extra_and_repeated_clips_are_named_at_once(folder):
    (folder / "c.npy").unlink()
    np.save(folder / "zebra.npy", sequence("a"))
    np.save(folder / "b.mov.npy", sequence("b"))
    message = refusal(read_features, folder, IDS)
    assert "1 of 3 clips have no features: c" in message
    assert "1 clips are not in the metadata: zebra" in message
    assert "1 clips occur more than once: b" in message
    assert "failures.csv" not in message
    (folder / "failures.csv").write_text("clip,kind,message\n")
    assert "failures.csv in that folder" in refusal(read_features, folder, IDS)


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


NPY = npy_bytes(sequence("b"))


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "cannot be read"),
        (NPY[:60], "cannot be read"),  # cut in the header
        (NPY[:-3], "cannot be read"),  # cut in the data
        (b"not an array", "cannot be read"),
        (b"PK\x03\x04 cut", "cannot be read"),
        (npz_bytes(X=sequence("b")), "cannot be read"),  # another format under this name
        (npy_bytes(np.array([{"a": 1}], object)), "cannot be read"),
        (npy_bytes(np.array(["text", "more"])), "cannot be read"),
        (npy_bytes(np.array([1 + 2j])), "cannot be read"),
        (npy_bytes(np.float32(3)), "cannot be read"),
        (npy_bytes(np.zeros((0, 2))), "cannot be read"),
        (npy_bytes(np.array([[1, np.nan]])), "hold NaN or Infinity"),
        (npy_bytes(np.array([[1, -np.inf]])), "hold NaN or Infinity"),
        (npy_bytes(np.array([[1, 1e300]])), "hold NaN or Infinity"),  # beyond float32
    ],
)
@pytest.mark.parametrize("aggregated", [True, False])
@pytest.mark.filterwarnings("ignore:overflow")
def test_invalid_files_are_refused_by_name(folder, content, reason, aggregated):
    (folder / "b.npy").write_bytes(content)
    message = refusal(read_features, folder, IDS, aggregated)
    assert f"1 of 3 files {reason}" in message and message.rstrip().endswith("again.") and ": b\n" in message
    (folder / "c.npy").write_bytes(b"")
    assert "c" in refusal(read_features, folder, IDS, aggregated).split(": ", 2)[-1]  # both are named


def test_a_file_truncated_or_changed_anywhere_never_causes_a_traceback(folder, long):
    rng = random.Random(0)
    for _ in range(5000 if long else 300):
        raw = bytearray(NPY[: rng.randrange(len(NPY))] if rng.random() < 0.3 else NPY)
        for _ in range(rng.randrange(4) if raw else 0):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        (folder / "b.npy").write_bytes(raw)
        try:
            assert np.isfinite(read_features(folder, IDS, aggregated=False).X).all()
        except ValidationError as error:
            assert error.problems


def test_files_with_different_widths(folder):
    np.save(folder / "b.npy", np.zeros((4, 3)))
    assert "1 files have 3 columns: b; expected 2, like the others" in refusal(read_features, folder, IDS)


def test_an_empty_folder_and_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no .npy or .csv files" in refusal(read_features, tmp_path / "empty", IDS)
    with pytest.raises(FileError, match="cannot be opened"):
        read_features(tmp_path / "absent", IDS)


# --------------------------------------------------------------------------- subsampling


def test_rows_and_their_owners(folder):
    features = read_features(folder, IDS, aggregated=False)
    assert features.owner.tolist() == [0, 0, 0, 1, 2, 2]
    assert features.X.tolist() == np.concatenate([sequence(clip) for clip in IDS]).tolist()
    assert features.meta == {"encoder": "logmel", "statistics": None, "dim": 2}


def test_tables_have_no_rows_to_subsample(folder, tmp_path):
    save(read_features(folder, IDS), tmp_path / "x.npz")
    assert "subsampling expected a folder" in refusal(read_features, tmp_path / "x.npz", IDS, aggregated=False)


# ---------------------------------------------------------------------------------- npz


def test_saved_features_read_back_equal_and_saved_twice_give_the_same_bytes(folder, tmp_path):
    before = read_features(folder, IDS)
    save(before, tmp_path / "one.npz")
    save(read_features(folder, IDS), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    after = read_features(tmp_path / "one.npz")
    assert after.ids == before.ids and after.meta == before.meta and (after.X == before.X).all()
    subset = read_features(tmp_path / "one.npz", ["b", "c", "a"])
    assert (subset.X == before.X[[2, 0, 1]]).all()


def test_files_of_the_earlier_kit(tmp_path):
    path = tmp_path / "imagebind_static_features.npz"
    np.savez(path, X=np.arange(6.0).reshape(3, 2), filenames=np.array(["a.mov", "b", "c"]))
    features = read_features(path, IDS)
    assert features.X.tolist() == [[4, 5], [0, 1], [2, 3]] and features.X.dtype == np.float32
    assert features.meta == {"encoder": "imagebind", "statistics": list(STATISTICS), "dim": 2}


NAMES = np.array(["a", "b", "c"])
X = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    "content, reason",
    [
        (npz_bytes(X=X), "filenames"),
        (npz_bytes(filenames=NAMES), "X"),
        (npz_bytes(X=X, filenames=NAMES.astype(object)), "as text"),  # would need pickle; the hint says how to fix it
        (npz_bytes(X=X, filenames=NAMES[:2]), r"filenames (2,)"),
        (npz_bytes(X=X[0], filenames=NAMES), "expected numbers (N, D)"),
        (npz_bytes(X=X[:, :0], filenames=NAMES), "expected numbers (N, D)"),
        (npz_bytes(X=NAMES[:, None], filenames=NAMES), "expected numbers (N, D)"),
        (
            npz_bytes(X=np.where(np.arange(6).reshape(3, 2) == 2, np.nan, 0), filenames=NAMES),
            "1 clips hold NaN or Infinity (or empty cells): b",
        ),
        (npz_bytes(X=X, filenames=np.array(["a", "b", "b"])), "1 clips occur more than once: b"),
        (npz_bytes(X=X, filenames=np.array(["a", "b", "x"])), "1 of 3 clips have no features: c"),
        (npz_bytes(X=X, filenames=NAMES, meta=np.array("no json")), "meta"),
        (npz_bytes(X=X, filenames=NAMES, meta=np.array("[1]")), "meta"),
        (npz_bytes(X=X, filenames=NAMES)[:-40], "cannot be read"),
        (npy_bytes(X), "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_invalid_npz_files(tmp_path, content, reason):
    (tmp_path / "x.npz").write_bytes(content)
    message = refusal(read_features, tmp_path / "x.npz", IDS)
    assert "x.npz: " in message and reason in message


def test_npz_files_truncated_or_changed_anywhere(tmp_path, long):
    raw, rng = npz_bytes(X=X, filenames=NAMES, meta=np.array("{}")), random.Random(1)
    for _ in range(5000 if long else 300):
        mutant = bytearray(raw[: rng.randrange(len(raw))] if rng.random() < 0.3 else raw)
        for _ in range(rng.randrange(4) if mutant else 0):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        (tmp_path / "x.npz").write_bytes(mutant)
        try:
            read_features(tmp_path / "x.npz", IDS)
        except ValidationError as error:
            assert error.problems


# ------------------------------------------------------------------------------ CSV tables


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_table_of_features(table):
    path = table("f1,filename,f2\n1,a.mov,2.5\n3,b,4e-3\n5,c,-6\n")
    features = read_features(path, IDS)
    assert features.X.tolist() == [[5, -6], [1, 2.5], [3, 0.004]] and features.meta == {
        "columns": ["f1", "f2"],
        "dim": 2,
    }


def test_scores_come_in_the_emotions_order_whatever_the_columns(table):
    path = table("filename,neu,sad,hap,fea,disg,ang\na,6,5,4,3,2,1\n")
    assert read_scores(path).X.tolist() == [[1, 2, 3, 4, 5, 6]]


def test_numbers_are_read_exactly(table):
    # The nearest double to each text, exactly as float() gives it.
    texts = [repr(value) for value in np.random.default_rng(0).normal(size=600).tolist()]
    rows = [f"c{k}," + ",".join(texts[6 * k : 6 * k + 6]) for k in range(100)]
    features = read_scores(table("\n".join(["filename," + ",".join(EMOTIONS), *rows])))
    assert features.X.ravel().tolist() == [float(text) for text in texts]


def test_written_scores_are_read_back_equal(table):
    scores = np.random.default_rng(0).normal(size=(3, 6)) * [1e-30, 1, 1, 1, 1e20, 1]
    path = table(scores_csv(IDS, scores))
    assert (read_scores(path, IDS).X == scores).all() and read_scores(path).ids == IDS
    odd = ["a,b", 'say "x"', "c d"]
    assert read_scores(table(scores_csv(odd, scores))).ids == odd
    assert scores_csv(IDS, np.float32(scores)) == scores_csv(IDS, np.float64(np.float32(scores)))


def test_names_that_look_like_numbers_or_missing_values(table):
    # 007 is a name, not 7, and NA is not an empty cell.
    names = ["007", "7", "1e3", "NA", "nan", "None"]
    path = table("\n".join(["filename,x", *(f"{name},{k}" for k, name in enumerate(names))]))
    assert read_features(path).ids == names and read_features(path, names[::-1]).X[:, 0].tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "filename ,x\na,1\n",
        " filename, x\n a, 1\n",
        "\ufefffilename,x\na,1\n",
        "filename,x\r\na,1\r\n",
        "filename,x\na ,1\n",
    ],
)
def test_spaces_and_marks_around_names(table, text):
    features = read_features(table(text), ["a"])
    assert features.X.tolist() == [[1]] and features.meta["columns"] == ["x"]


def test_shuffled_rows_change_nothing(table):
    rng = np.random.default_rng(0)
    ids = [f"clip{k}" for k in range(40)]
    rows = scores_csv(ids, rng.normal(size=(40, 6))).splitlines()
    before = read_scores(table("\n".join(rows)), ids)
    lines = rows[1:]
    random.Random(3).shuffle(lines)
    after = read_scores(table("\n".join([rows[0], *lines])), ids)
    assert after.ids == ids and (after.X == before.X).all()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "not a CSV table"),
        (",filename,x\n0,a,1\n1,b,2\n2,c,3\n", "column 1 has no name"),
        ("Unnamed: 0,filename,x\n0,a,1\n1,b,2\n2,c,3\n", "to_csv(…, index=False)"),
        ("filename,x,\na,1,\nb,2,\nc,3,\n", "column 3 has no name"),
        ("filename;x\na;1\nb;2\nc;3\n", "separated by semicolons; expected commas"),
        ("filename;x;y\na;1,5;2,5\nb;2,5;3,5\nc;3,5;2,5\n", "separated by semicolons; expected commas"),
        ("filename\tx\na\t1\nb\t2\nc\t3\n", "separated by tabs; expected commas"),
        ("filename,x\ndata/train/a.mov,1\nb,2\nc,3\n", "A clip's id is its file name, without folders."),
        ("filename,x\n", "no rows"),
        ("filename\na\nb\nc\n", "expected filename and a column of numbers"),
        ("clip,x\na,1\nb,2\nc,3\n", "found the columns clip, x; expected filename"),
        ("filename,x,note\na,1,fine\nb,2,\nc,3,\n", "the columns note hold text"),
        ("filename,x\na,1\nb,--\nc,3\n", "the columns x hold text"),
        ("filename,x\na,True\nb,False\nc,True\n", "the columns x hold text"),
        ("filename,x\na,1\n,2\nc,3\n", "1 rows have no filename"),
        ("filename,x\na,1\nb,\nc,3\n", "1 clips hold NaN or Infinity (or empty cells): b"),
        ("filename,x\na,1\nb,nan\nc,inf\n", "2 clips hold NaN or Infinity (or empty cells): c, b"),
        ("filename,x\na,1\nb,2\nc,3\na.mov,1\n", "1 clips occur more than once: a"),
        ("filename,x\na,1\nb,2\n", "1 of 3 clips have no features: c"),
        ("filename,x\na,1\nb,2\nc,3\nd,4\n", "1 clips are not in the metadata: d"),
        ("filename,x\na,1\nb,2,3\nc,3\n", "not a CSV table"),
        ("filename,x\na,1,9\nb,2,9\nc,3,9\n", "more cells than the header"),  # it is unclear which column has no name
        ("filename,x,x\na,1,2\nb,1,2\nc,1,2\n", "Duplicate names"),
        ('filename,x\na,"1\nb,2\nc,3\n', "not a CSV table"),
    ],
)
def test_invalid_tables(table, text, reason):
    assert reason in refusal(read_features, table(text), IDS)


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"filename,x\na,\xff\xfe\n")
    assert "not a CSV table" in refusal(read_features, tmp_path / "table.csv", IDS)


def test_a_file_that_is_not_a_source_is_refused_with_the_formats(table, folder):
    (folder / "meta.json").write_text('{"encoder": "x"}')
    for path in (
        folder / "a.npy",
        folder / "meta.json",
        table("\x80\x04", "g.pkl"),
        table("filename,x\na,1\n", "table.txt"),
    ):
        for read in (read_features, read_scores):
            message = refusal(read, path)
            assert (
                message.startswith(f"{path}: not a source; expected a folder")
                and ".npz" in message
                and ".csv" in message
                and "Give the folder" in message
            )
    with pytest.raises(FileError, match="cannot be opened"):
        read_features(folder / "absent.npy")


def test_scores_need_the_six_emotions(table, folder):
    assert "found the columns ang, hap; expected filename and the six emotions" in refusal(
        read_scores, table("filename,ang,hap\na,1,2\n")
    )
    seven = table("filename," + ",".join(EMOTIONS) + ",joy\na,1,2,3,4,5,6,7\n")
    assert "not-scores" in {
        problem.code for problem in pytest.raises(ValidationError, read_scores, seven).value.problems
    }
    assert "14 columns without names" in refusal(read_scores, folder)


# ------------------------------------------------------------------- HiCMAE's raw files

RAW = """id,label,pred
/data/faces/a,[1. 0. 0. 0. 0. 0.],[-6.  1.  2.
  3.  4.  5.]
/data/faces/b,[0. 1. 0. 0. 0. 0.],"[-60, 10, 20, 30, 40, 50]"
C:\\faces\\c.mov,[0. 1. 0. 0. 0. 0.],[ -0.6 1e-1 2E-1 .3 .4 .5 ]
"""
# In the file: neu ang disg fea hap sad; here neutral comes last.
RAW_SCORES = {"a": [1, 2, 3, 4, 5, -6], "b": [10, 20, 30, 40, 50, -60], "c": [0.1, 0.2, 0.3, 0.4, 0.5, -0.6]}


def wrapped(text):
    """As the tool writes it: quotes around a cell that spans lines."""
    return text.replace("[-6.  1.  2.\n  3.  4.  5.]", '"[-6.  1.  2.\n  3.  4.  5.]"')


def test_raw_files_with_wrapped_lists(table):
    features = read_scores(table(wrapped(RAW)), IDS)
    assert features.X.tolist() == [RAW_SCORES[clip] for clip in IDS]


def test_a_folder_of_raw_files_is_read_as_one(table, tmp_path):
    header, *rows = wrapped(RAW).split("\n/")
    header, (a, b) = header + "\n", rows
    b, c = b.split("\nC:")
    table(header + "/" + b + "\nC:" + c, "raw/fold1.csv")
    table(header + "/" + a + "\n", "raw/fold0.csv")
    assert read_scores(tmp_path / "raw", IDS).X.tolist() == [RAW_SCORES[clip] for clip in IDS]
    table(header + "/" + a + "\n", "raw/fold2.csv")
    assert "1 clips occur more than once: a" in refusal(read_scores, tmp_path / "raw", IDS)
    table("filename,x\nd,1\n", "raw/fold2.csv")
    assert "fold2.csv: its columns are x; expected ang, disg" in refusal(read_scores, tmp_path / "raw", IDS)


@pytest.mark.parametrize(
    "cell, reason",
    [
        ("[1 2 3 4 5]", "pred is not a list of six numbers in 1 rows: b"),
        ("[1 2 3 4 5 6 7]", "pred is not a list of six numbers in 1 rows: b"),
        ("[1 2 3 4 5 six]", "pred is not a list of six numbers in 1 rows: b"),
        ("", "pred is not a list of six numbers in 1 rows: b"),
        ("[1 2 3 4 5 nan]", "1 clips hold NaN or Infinity"),
    ],
)
def test_invalid_raw_files(table, cell, reason):
    assert reason in refusal(read_scores, table(wrapped(RAW).replace('"[-60, 10, 20, 30, 40, 50]"', cell)), IDS)


def test_a_raw_file_without_rows(table):
    assert "no rows" in refusal(read_scores, table("id,label,pred\n"))


def test_a_raw_row_without_a_path(table):
    assert "no id" in refusal(read_scores, table(wrapped(RAW).replace("/data/faces/b", "")))


# ------------------------------------------------------------------------------ run folders


def test_a_run_folder_gives_its_score_tables(tmp_path):
    (tmp_path / "oof_logits.csv").write_text(scores_csv(IDS, np.ones((3, 6))))
    assert read_scores(tmp_path, IDS).X.tolist() == np.ones((3, 6)).tolist()
    with pytest.raises(FileError, match="test_logits.csv"):
        read_scores(tmp_path, test=True)
    (tmp_path / "test_logits.csv").write_text(scores_csv(["t"], np.zeros((1, 6))))
    assert read_scores(tmp_path, test=True).ids == ["t"] and read_scores(tmp_path).ids == IDS


# ---------------------------------------------------------------------------------- fusion


def test_fusion_concatenates_columns(folder, tmp_path):
    (tmp_path / "other").mkdir()
    for clip in IDS:
        np.save(tmp_path / "other" / f"{clip}.npy", -sequence(clip, 3))
    first, second = read_features(folder, IDS), read_features(tmp_path / "other", IDS)
    fusion = fuse([first, second])
    assert fusion.ids == IDS and fusion.X.shape == (3, 14 + 21)
    assert (fusion.X[:, :14] == first.X).all() and (fusion.X[:, 14:] == second.X).all()
    assert fuse([first]) is first


def test_sequences_are_not_fused(folder):
    rows = read_features(folder, IDS, aggregated=False)
    assert "rows of several sources are not aligned in time" in refusal(fuse, [rows, rows])


def test_aggregate_equals_reading_a_folder(folder):
    assert (aggregate(folder, IDS).X == read_features(folder, IDS).X).all()
    assert isinstance(aggregate(folder, IDS), Features) and encoder_name(folder) == "logmel"
