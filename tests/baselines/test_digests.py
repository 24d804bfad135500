"""Digests of large files are kept, but not used for a file that has changed."""

import hashlib
import json
import os

import pytest

from blemore_baselines.encoders import digests
from blemore_baselines.encoders.digests import file_digest

CONTENT = b"weights" * 100


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of weights in which every file counts as large, and none as too young."""
    monkeypatch.setenv("BLEMORE_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE", 1)
    monkeypatch.setattr(digests, "SETTLED", -1)
    return tmp_path


@pytest.fixture
def readings(monkeypatch):
    paths, compute = [], digests._compute
    monkeypatch.setattr(digests, "_compute", lambda path: paths.append(path.name) or compute(path))
    return paths


def of(content):
    return hashlib.sha256(content).digest()


def test_a_file_is_read_once(folder, readings):
    for name in ("a", "b"):
        (folder / name).write_bytes(CONTENT + name.encode())
    for _ in range(2):
        assert file_digest(folder / "a") == of(CONTENT + b"a") and file_digest(folder / "b") == of(CONTENT + b"b")
    assert readings == ["a", "b"]
    os.symlink(folder / "a", folder / "link")
    assert file_digest(folder / "link") == of(CONTENT + b"a") and readings == ["a", "b"]


def test_a_file_that_changed_is_read_again(folder, readings):
    path = folder / "a"
    path.write_bytes(CONTENT)
    file_digest(path)
    before = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and the same time of writing
    assert file_digest(path) == of(CONTENT[::-1]) and readings == ["a", "a"]


def test_no_digest_is_kept_for_a_file_that_was_just_written(folder, readings, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 10**15)
    (folder / "a").write_bytes(CONTENT)
    assert file_digest(folder / "a") == file_digest(folder / "a") == of(CONTENT) and readings == ["a", "a"]
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("record", ["", "[1, 2]", "{", '{"PATH": 3}', '{"PATH": []}', '{"PATH": ["00", 1, 2, 3]}'])
def test_an_invalid_record_is_replaced(folder, readings, record):
    path = folder / "a"
    path.write_bytes(CONTENT)
    (folder / "cache").mkdir()
    (folder / "cache" / digests.RECORD).write_text(record.replace("PATH", str(path)))
    assert file_digest(path) == file_digest(path) == of(CONTENT) and readings == ["a"]


def test_digests_of_deleted_files_are_removed(folder):
    for name in ("a", "b"):
        (folder / name).write_bytes(CONTENT)
    file_digest(folder / "a")
    (folder / "a").unlink()
    file_digest(folder / "b")
    assert list(json.loads((folder / "cache" / digests.RECORD).read_text())) == [str(folder / "b")]


def test_a_folder_that_cannot_be_written(folder, monkeypatch):
    monkeypatch.setenv("BLEMORE_WEIGHTS", "/proc/nowhere")
    (folder / "a").write_bytes(CONTENT)
    assert file_digest(folder / "a") == of(CONTENT)


def test_small_files_leave_no_record(folder, readings, monkeypatch):
    monkeypatch.setattr(digests, "LARGE", 2**26)
    (folder / "a").write_bytes(CONTENT)
    assert file_digest(folder / "a") == of(CONTENT) and not (folder / "cache").exists()
