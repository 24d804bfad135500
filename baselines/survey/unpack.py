"""Unpacks the dataset's archives: only regular files, and only below one folder.

An archive with a single file or a single top folder is unpacked into the folder itself; any other into a subfolder
named after the archive. Everything is checked before anything is written: a path that leads outside, a link, a repeated
name, or an existing file with other content stops the whole call. Existing files with the same content are kept.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from blemore.errors import FileError, Problem, ValidationError
from blemore_baselines.download import BLOCK, cannot_write, demand_space, progress_bar

OTHER_ARCHIVES = re.compile(r"\.(7z|rar|tar|t?gz|tgz|bz2|xz|zst|z\d\d|zip\.\d+)$", re.IGNORECASE)
CLUTTER = ("__MACOSX", ".DS_Store")  # added by the archiver of macOS
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
AT_FAULT = "The record itself is faulty: report it to its authors. If you trust the archive, unpack it by hand."


class Entry(NamedTuple):
    """A file in an archive, and its target."""

    archive: Path
    info: zipfile.ZipInfo
    path: Path

    @property
    def where(self) -> str:
        return f"{self.archive} › {self.info.filename}"


class Outcome(NamedTuple):
    """How many files were written, and how many existed already."""

    written: int
    there: int


def is_archive(path: Path) -> bool:
    """Whether the file is unpacked. A `.npz` is not, although it is a zip."""
    return path.suffix.lower() == ".zip"


def is_other_archive(path: Path) -> bool:
    """Whether the file is an archive that must be unpacked by hand."""
    return OTHER_ARCHIVES.search(path.name) is not None


def unpack(archives: Sequence[Path], folder: Path) -> Outcome:
    """Unpacks zips below a folder: all of them, or none if anything in them is wrong.

    Raises ValidationError: an archive is damaged or contains something that must not be unpacked, or a file exists
    already with other content; FileError: a file cannot be read or written.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    for archive in archives:
        try:
            entries += list(_entries(archive, folder))
        except ValidationError as error:
            problems += error.problems
    entries, collisions = _without_repeats(entries)
    problems += collisions
    missing, differences = _compare(entries)
    problems += differences
    unreadable = [entry for entry in missing if entry.info.flag_bits & 1 or entry.info.compress_type not in METHODS]
    problems += [_unreadable(archive, unreadable) for archive in archives if _of(archive, unreadable)]
    if problems:
        raise ValidationError(problems)
    _write(missing, folder)
    return Outcome(len(missing), len(entries) - len(missing))


def name_fault(name: str) -> str | None:
    """Why a path from an archive or a record must not be written below a folder; None if it may be."""
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or re.match("[A-Za-z]:", name):
        return "is an absolute path, or empty"
    if ".." in parts:
        return "leads outside its folder"
    return None if PurePosixPath(*parts).parts else "is no name"


def _entries(archive: Path, folder: Path) -> Iterator[Entry]:
    """The files in an archive. ValidationError: it is not a zip, or some of the files must not be unpacked."""
    try:
        with zipfile.ZipFile(archive) as file:
            infos = [info for info in file.infolist() if not _is_clutter(info.filename)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValidationError(_bad_zip(str(archive), f"cannot be read as a zip: {error}")) from None
    except OSError as error:
        raise FileError(Problem("cannot-open", str(archive), error.strerror or str(error))) from None
    problems = [problem for info in infos if (problem := _forbidden(archive, info))]
    if problems:
        raise ValidationError(problems)
    paths = {info: PurePosixPath(info.filename.replace("\\", "/")) for info in infos}
    files = [info for info in infos if not info.filename.endswith(("/", "\\"))]
    is_one = len({paths[info].parts[0] for info in files}) == 1
    target = folder if is_one else folder / archive.stem
    for info in files:
        yield Entry(archive, info, target / paths[info])


def _is_clutter(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return parts[0] == CLUTTER[0] or parts[-1] == CLUTTER[1]


def _forbidden(archive: Path, info: zipfile.ZipInfo) -> Problem | None:
    """The problem that forbids unpacking an entry anywhere, if there is one."""
    where = f"{archive} › {info.filename}"
    fault = name_fault(info.filename)
    if fault:
        return _bad_zip(where, f"{fault}; expected a path below the archive's own folder")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return _bad_zip(
            where, f"is {'a link' if stat.S_ISLNK(kind) else 'a special file'}; expected regular files only"
        )
    return None


def _bad_zip(where: str, message: str, hint: str = AT_FAULT) -> Problem:
    return Problem("bad-zip", where, message, hint=hint)


def _without_repeats(entries: Sequence[Entry]) -> tuple[list[Entry], list[Problem]]:
    """Each path once. Problems: the same path for two files of one archive or for different contents; a file where
    another entry needs a folder.
    """
    by_path: dict[Path, Entry] = {}
    problems = []
    for entry in entries:
        other = by_path.setdefault(entry.path, entry)
        if other is not entry and (other.archive == entry.archive or _content(other) != _content(entry)):
            message = f"has the same target as {other.where}: {entry.path}; expected one file per path"
            problems.append(_bad_zip(entry.where, message))
    folders = {parent for path in by_path for parent in path.parents}
    for path in sorted(folders & by_path.keys()):
        problems.append(_bad_zip(by_path[path].where, f"is a file where other entries need a folder: {path}"))
    return list(by_path.values()), problems


def _content(entry: Entry) -> tuple[int, int]:
    return entry.info.file_size, entry.info.CRC


def _compare(entries: Sequence[Entry]) -> tuple[list[Entry], list[Problem]]:
    """The files that do not exist yet, and a problem for each that exists with other content. Raises FileError."""
    missing: list[Entry] = []
    problems: list[Problem] = []
    try:
        sizes = {entry.path: entry.path.stat().st_size for entry in entries if entry.path.is_file()}
        with progress_bar(sum(sizes.values()), 0, "checking unpacked files") as progress:
            for entry in entries:
                barrier = next((place for place in entry.path.parents if place.exists() and not place.is_dir()), None)
                if barrier:
                    problems.append(_in_the_way(entry, barrier, "is a file; expected a folder"))
                elif not os.path.lexists(entry.path):
                    missing.append(entry)
                elif entry.path not in sizes:
                    problems.append(_in_the_way(entry, entry.path, "is not a file; expected one"))
                elif (sizes[entry.path], _crc(entry.path, progress)) != _content(entry):
                    message = (
                        f"exists with other content than in {entry.archive.name}; expected the same content, or no file"
                    )
                    problems.append(_in_the_way(entry, entry.path, message))
    except OSError as error:
        where, message = str(error.filename), f"cannot be read: {error.strerror or error}"
        raise FileError(
            Problem("cannot-open", where, message, hint="Check that you have permission to read it.")
        ) from None
    return missing, problems


def _in_the_way(entry: Entry, path: Path, message: str) -> Problem:
    hint = f"Nothing is overwritten. To unpack the file from {entry.archive.name}, move or delete this one."
    return Problem("different-file", str(path), message, hint=hint)


def _crc(path: Path, progress) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(16 * BLOCK):
            crc = zlib.crc32(block, crc)
            progress.update(len(block))
    return crc


def _of(archive: Path, entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.archive == archive]


def _unreadable(archive: Path, entries: Sequence[Entry]) -> Problem:
    """Why Python cannot read some entries of an archive."""
    inside = _of(archive, entries)
    info, path = inside[0].info, inside[0].path
    message = f"compressed by method {info.compress_type}; expected deflate or another that Python knows"
    hint = f"Unpack it by hand, for example with 7-Zip, to get {path}."
    if info.flag_bits & 1:
        message = "encrypted; expected no password"
        hint = f"Unpack it by hand with the password from its authors, to get {path}."
    return _bad_zip(str(archive), f"{len(inside):,} files are {message}", f"{hint} Then run the same command again.")


def _write(entries: Sequence[Entry], folder: Path) -> None:
    """Unpacks missing files, each completely or not at all."""
    total = sum(entry.info.file_size for entry in entries)
    path = folder
    try:
        demand_space(folder, total, f" to unpack {len(entries):,} files")
        with progress_bar(total, 0, "unpacking") as progress:
            for archive in dict.fromkeys(entry.archive for entry in entries):
                with zipfile.ZipFile(archive) as file:
                    for entry in _of(archive, entries):
                        path = entry.path
                        _write_one(file, entry, progress)
    except OSError as error:
        hint = "Make room there. The same command continues from here."
        raise cannot_write(path, error, hint) from None


def _write_one(file: zipfile.ZipFile, entry: Entry, progress) -> None:
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    part = entry.path.with_name(f".{entry.path.name}.part")  # left by a killed run, it is overwritten
    try:
        with file.open(entry.info) as source, open(part, "wb") as target:
            while block := source.read(BLOCK):
                target.write(block)
                progress.update(len(block))
        if os.path.lexists(entry.path):  # another entry's, if the file system ignores case
            raise ValidationError(_in_the_way(entry, entry.path, "exists already, under a name that differs in case"))
        os.replace(part, entry.path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValidationError(_bad_zip(entry.where, f"is damaged: {error}")) from None
    finally:
        part.unlink(missing_ok=True)
