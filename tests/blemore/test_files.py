"""Files: the one JSON in a zip, sizes, tables, atomic writing."""

import json
import os
import random
import stat
import struct
import threading
import tracemalloc
import zipfile

import pytest
from helpers import mapping, problems_of, zipped

from blemore import io
from blemore.errors import FileError, ValidationError
from blemore.io import MAX_JSON_BYTES, pick_json, read_json, read_table, to_json, write_atomic, zip_bytes

DATA = {"predictions": mapping({"test_0001.mov": "sad 100", "test_0002.mov": "ang 30 hap 70"})}
JSON = json.dumps(DATA).encode()


def read(folder, raw, name="s.zip", **options):
    path = folder / name
    path.write_bytes(raw)
    return read_json(path, **options)


def refusal(folder, raw, **options):
    (problem,) = problems_of(read, folder, raw, **options)
    assert problem.where.startswith(str(folder / "s.zip"))
    return problem


# -------------------------------------------------------------------------------------- zips


@pytest.mark.parametrize(
    "files",
    [
        [("s.json", JSON)],
        [("s.JSON", JSON)],
        [("a/s.json", JSON)],
        [("a/b/s.json", JSON)],
        [("a/", b""), ("a/s.json", JSON)],
        [("a\\s.json", JSON)],
        [("__MACOSX/._s.json", b"\0"), ("__MACOSX/s.json", b"{}"), ("s.json", JSON)],
        [(".hidden.json", b"{}"), (".git/x.json", b"{}"), ("s.json", JSON)],
        [("metadata", b"{}"), ("s.json", JSON)],
        [("metadata/s.json", JSON)],
        [("README.txt", b"hello"), ("code/run.py", b""), ("s.json", JSON)],
        [("a/b/c/too_deep.json", b"{}"), ("s.json", JSON)],
        [("résultats ✓.json", JSON)],
    ],
    ids=lambda files: files[0][0],
)
def test_the_only_json_is_found(tmp_path, files):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert read(tmp_path, zipped(files, method)).data == DATA


def test_a_zip_is_recognised_by_content_not_by_name(tmp_path):
    assert read(tmp_path, zipped([("s.json", JSON)]), "s.json").data == DATA
    assert read(tmp_path, JSON, "s.zip").data == DATA


def test_messages_name_the_file_inside(tmp_path):
    assert refusal(tmp_path, zipped([("a/s.json", b"{")])).where == f"{tmp_path / 's.zip'} › a/s.json"
    assert "\\x1b" in refusal(tmp_path, zipped([("\x1b.json", b"{")])).where


@pytest.mark.parametrize(
    "files, code",
    [
        ([], "no-json"),
        ([("s.txt", JSON)], "no-json"),
        ([("metadata", JSON)], "no-json"),
        ([("a/b/c/s.json", JSON)], "no-json"),
        ([("__MACOSX/s.json", JSON)], "no-json"),
        ([(".s.json", JSON)], "no-json"),
        ([("s.json/", b"")], "no-json"),
        ([("s.json", JSON), ("t.json", JSON)], "several-json"),
        ([("s.json", JSON), ("a/s.json", JSON)], "several-json"),
        ([("inner.zip", zipped([("s.json", JSON)]))], "no-json"),
    ],
)
def test_no_json_or_several(tmp_path, files, code):
    assert refusal(tmp_path, zipped(files)).code == code


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice(tmp_path):
    assert refusal(tmp_path, zipped([("s.json", JSON), ("s.json", b"{}")])).code == "several-json"


def test_an_encrypted_file(tmp_path):
    raw = bytearray(zipped([("s.json", JSON)]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, in both of a zip's headers
        raw[raw.index(signature) + offset] |= 1
    problem = refusal(tmp_path, bytes(raw))
    assert problem.code == "bad-zip" and "password" in problem.hint


def test_a_wrong_checksum(tmp_path):
    raw = bytearray(zipped([("s.json", JSON)], zipfile.ZIP_STORED))
    raw[raw.index(b"sad")] = ord("b")
    assert refusal(tmp_path, bytes(raw)).code == "bad-zip"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(tmp_path, method):
    pytest.importorskip({zipfile.ZIP_BZIP2: "bz2", zipfile.ZIP_LZMA: "lzma"}[method])
    problem = refusal(tmp_path, zipped([("s.json", JSON)], method))
    assert problem.code == "bad-zip" and "default settings" in problem.hint


def test_every_truncation(tmp_path):
    raw = zipped([("s.json", JSON)])
    for size in range(4, len(raw)):
        assert refusal(tmp_path, raw[:size]).code == "bad-zip", size


def test_a_bomb_is_stopped_at_the_limit(tmp_path):
    raw = zipped([("s.json", b" " * (MAX_JSON_BYTES + 1))])
    assert len(raw) < 100_000
    assert refusal(tmp_path, raw).code == "too-large"
    tracemalloc.start()
    assert refusal(tmp_path, raw, max_bytes=100_000).code == "too-large"
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20  # it was never decompressed as a whole
    tracemalloc.stop()
    assert read(tmp_path, zipped([("s.json", JSON + b" " * 1000)]), max_bytes=len(JSON) + 1000).data == DATA
    assert refusal(tmp_path, zipped([("s.json", JSON + b" " * 1001)]), max_bytes=len(JSON) + 1000).code == "too-large"


@pytest.mark.parametrize("claim", [10, 0, 2**31])
def test_a_header_that_lies_about_the_size(tmp_path, claim):
    raw = bytearray(zipped([("s.json", b" " * 100_000)]))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", raw, raw.index(signature) + offset, claim)
    assert refusal(tmp_path, bytes(raw), max_bytes=50_000).code in ("bad-zip", "too-large")


def test_a_header_that_points_beyond_the_end(tmp_path):
    raw = bytearray(zipped([("s.json", JSON)]))
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 42, len(raw) - 10)
    assert refusal(tmp_path, bytes(raw)).code == "bad-zip"


def test_pick_json_raises_with_the_names():
    with pytest.raises(ValidationError, match="2 JSON files in it .a.json, b.json."):
        pick_json(["b.json", "a.json"], "s")


def test_mutated_zips_and_tables_either_pass_or_are_refused(tmp_path, long):
    rng = random.Random(5)
    table = b'filename,mix,fold\r\na,0,1\r\n"b,c",1,2\r\n'
    outcomes = set()
    for seed, reader in (
        (zipped([("a/s.json", JSON)]), read_json),
        (zipped([("s.json", JSON)], zipfile.ZIP_STORED), read_json),
        (table, read_table),
    ):
        for _ in range(5000 if long else 400):
            raw = bytearray(seed)
            for _ in range(rng.randrange(1, 4)):
                raw[rng.randrange(len(raw))] = rng.choice([0, 1, 8, 255, 34, 44, 10, 13, rng.randrange(256)])
            path = tmp_path / "x"
            path.write_bytes(raw)
            try:
                reader(path)
                outcomes.add((reader, True))
            except ValidationError:
                outcomes.add((reader, False))
    assert len(outcomes) == 4


# ------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize("name", ["absent.json", ".", "absent/x.json", "nul\0.json"])
def test_what_cannot_be_opened(tmp_path, name):
    with pytest.raises(FileError, match="cannot be opened") as caught:
        read_json(tmp_path / name)
    assert caught.value.exit_code == 3 and isinstance(caught.value, OSError)


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.json"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)  # sparse: ten GiB that take no space
    (problem,) = problems_of(read_json, path)
    assert problem.code == "too-large"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_up_to_the_limit(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def pour():
        try:
            with open(path, "wb", buffering=0) as file:
                for _ in range(10_000):  # more than enough, but finite in case the limit fails
                    file.write(b" " * 4096)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    (problem,) = problems_of(read_json, path, 100_000)
    assert problem.code == "too-large"
    thread.join(10)


# -------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "raw",
    [
        b"a,b\n1,x\n",
        b"\xef\xbb\xbfa,b\n1,x\n",
        b"a,b\r\n1,x\r\n",
        b" a , b\n 1 , x \n",
        b'"a","b"\n"1","x"',
        b"a,b\n\n1,x\n\n",
    ],
    ids=["plain", "bom", "crlf", "spaces", "quotes, no newline at the end", "blank lines"],
)
def test_tables(tmp_path, raw):
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    (row,) = read_table(path)
    assert (row["a"], row["b"]) == ("1", "x")
    assert row[""] == ("3" if raw.startswith(b"a,b\n\n") else "2")


@pytest.mark.parametrize(
    "raw, places",
    [
        (b"", [("bad-table", "line 1")]),
        (b"a,a\n1,2\n", [("bad-table", "line 1")]),
        (b"a,b\n1\n1,2\n1,2,3\n", [("bad-table", "line 2"), ("bad-table", "line 4")]),
        (b'a,b\n"1,2\n', [("bad-table", "line 2")]),
        (b'a,b\n1,"2"x\n', [("bad-table", "line 2")]),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", [("bad-table", "line 2")]),
        (b"a,\xff\n", [("not-utf8", "")]),
        (b"a;b\n1,5;2\n1,7;3\n", [("bad-table", "line 1")]),
        (b"a\tb\n1\t2\n", [("bad-table", "line 1")]),
    ],
)
def test_broken_tables(tmp_path, raw, places):
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    assert [
        (problem.code, problem.where.partition(".csv")[2].lstrip(": ")) for problem in problems_of(read_table, path)
    ] == places


# ------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("sign, name", [(";", "semicolons"), ("\t", "tabs")])
def test_a_wrong_column_separator_is_named(tmp_path, sign, name):
    (tmp_path / "t.csv").write_text(sign.join(["filename", "fold"]))
    (problem,) = problems_of(read_table, tmp_path / "t.csv")
    assert f"separated by {name}" in problem.message and "with commas" in problem.hint


def test_a_column_without_a_name_does_not_hide_the_line(tmp_path):
    (tmp_path / "t.csv").write_text(",a\n0,x\n")
    assert read_table(tmp_path / "t.csv") == [{"": "2", "a": "x"}]


def test_write_atomic_writes_and_overwrites(tmp_path):
    path = tmp_path / "new folder" / "x.txt"
    write_atomic(path, "one")
    write_atomic(path, b"two \xff")
    assert path.read_bytes() == b"two \xff" and os.listdir(path.parent) == ["x.txt"]
    write_atomic(path, "\ud800")  # what UTF-8 cannot hold is escaped
    assert path.read_bytes() == b"\\ud800"


def test_the_umask_is_followed(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "x", "")
    finally:
        assert os.umask(before) == 0o027
    assert os.stat(tmp_path / "x").st_mode & 0o777 == 0o640


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function):
    path = tmp_path / "x.txt"
    path.write_text("before")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(io.os, function, full)
    with pytest.raises(FileError, match="cannot be written: No space left on device") as caught:
        write_atomic(path, "after")
    monkeypatch.undo()
    assert caught.value.exit_code == 3
    assert os.listdir(tmp_path) == ["x.txt"] and path.read_text() == "before"


def test_an_interrupt_leaves_no_temporary_file_either(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(io.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x.txt", "after")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(FileError, match="cannot be written"):
        write_atomic(tmp_path / "x", "")
    with pytest.raises(FileError, match="cannot be written"):
        write_atomic(tmp_path / "x" / ("n" * 300), "")
    assert os.listdir(tmp_path) == ["x"] and os.listdir(tmp_path / "x") == []


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("old.txt", "new.txt"):
        (tmp_path / f"to_{name}").symlink_to(f"there/{name}")
    (tmp_path / "there" / "old.txt").write_text("before")
    for name in ("old.txt", "new.txt"):
        write_atomic(tmp_path / f"to_{name}", "after")
        assert (tmp_path / f"to_{name}").is_symlink() and (tmp_path / "there" / name).read_text() == "after"
    assert sorted(os.listdir(tmp_path / "there")) == ["new.txt", "old.txt"], "nothing is left of the writing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_to_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # otherwise opening it for writing would block
        try:
            write_atomic(tmp_path / name, "words")
            assert os.read(reader, 100) == b"words"
        finally:
            os.close(reader)
    assert stat.S_ISFIFO(os.lstat(tmp_path / "pipe").st_mode) and (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_written_json_and_zips_are_reproducible_and_can_be_read_back(tmp_path):
    assert json.loads(to_json({"é\ud800\x1b": 0.1 + 0.2})) == {"é\ud800\x1b": 0.1 + 0.2}
    assert to_json({"é\ud800\x1b": 1}).isascii() and to_json({}).endswith("\n")
    with pytest.raises(ValueError):
        to_json(float("nan"))
    raw = zip_bytes("s.json", to_json(DATA))
    assert raw == zip_bytes("s.json", to_json(DATA))
    assert read(tmp_path, raw).data == DATA
