"""Reads and writes a competition's bundle: a zip with competition.yaml at its root and the files that it names.

A task's or phase's data is a zip or a folder inside the bundle; both are read as a mapping of relative
paths to contents.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import yaml

from blemore.errors import BlemoreError, Problem, show, some
from blemore.io import read_bytes

CONFIG = "competition.yaml"
LARGEST = 2**30  # bytes of a bundle, or of a zip in it, when extracted
MOST_FILES = 10_000
START_FROM = "Start from the kit's own competition.yaml."


class BundleError(BlemoreError):
    """The organiser's side is at fault: the bundle, its configuration or its inputs."""

    exit_code = 4


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of the files, sorted by name. The same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # the same on every machine
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(raw: bytes, where: str) -> dict[str, bytes]:
    """The files of a zip. BundleError: it is damaged, or larger than any bundle."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _demand_sane(entries, where)
            return {entry.filename: archive.read(entry) for entry in entries}
    except BlemoreError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds, even struct.error
        raise BundleError(
            Problem("bad-zip", where, f"not a readable zip: {error}", hint="Zip it again, without a password.")
        ) from None


# A check reads the same zips many times.
_unpacked = lru_cache(maxsize=8)(unpack)


def _demand_sane(entries: list[zipfile.ZipInfo], where: str) -> None:
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > LARGEST:
        message = f"more than {MOST_FILES:,} files or {LARGEST / 2**20:,.0f} MiB when extracted"
        raise BundleError(
            Problem("bad-zip", where, message, hint="A bundle takes less than 1 MiB: is it the right file?")
        )
    duplicates = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
    if duplicates:
        message = f"{some(duplicates)} is in it more than once; expected each once"
        raise BundleError(Problem("bad-zip", where, message, hint="Zip the files again."))


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys. YAML would silently keep the last."""

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key, _ in node.value:
            if str(key.value) in keys:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {show(key.value)} occurs twice", problem_mark=key.start_mark
                )
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_yaml(raw: bytes, where: str) -> dict:
    """A mapping. BundleError: not a mapping, not YAML, a key twice, or text that is not Unicode."""
    try:
        data = yaml.load(raw.decode("utf-8-sig"), _Loader)
        for text in _texts(data):
            text.encode()  # fails for half a surrogate pair
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise BundleError(Problem("not-yaml", where, f"not YAML: {text[:300]}", hint=START_FROM)) from None
    if not isinstance(data, dict):
        raise BundleError(Problem("not-yaml", where, "expected a mapping of keys to values", hint=START_FROM))
    return data


def _texts(data: object) -> Iterator[str]:
    """All texts in parsed YAML. Not recursive, and each part only once, since a part may contain itself."""
    todo, past = [data], set()
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, (dict, list)) and id(node) not in past:
            past.add(id(node))
            todo += [*node, *node.values()] if isinstance(node, dict) else node


class Bundle:
    """A bundle's files and its parsed competition.yaml."""

    def __init__(self, path: Path):
        self.files = unpack(read_bytes(path), str(path))
        if CONFIG not in self.files:
            raise BundleError(_no_config(str(path), self.files))
        self.config = parse_yaml(self.files[CONFIG], CONFIG)

    def read(self, name: str) -> bytes | None:
        """A file by its name in the configuration, even `./pages//a.md`; None: it does not exist."""
        return self.files.get(posixpath.normpath(name))

    def is_folder(self, name: str) -> bool:
        return any(self._inside(name))

    def data(self, name: str) -> dict[str, bytes]:
        """The files of a zip or folder in the bundle. KeyError: there is neither. BundleError: the zip is damaged."""
        raw = self.read(name)
        if raw is not None:
            return dict(_unpacked(raw, name))
        inside = {path: self.files[f"{posixpath.normpath(name)}/{path}"] for path in self._inside(name)}
        if not inside:
            raise KeyError(name)
        return inside

    def _inside(self, name: str) -> Iterator[str]:
        folder = posixpath.normpath(name) + "/"
        return (path[len(folder) :] for path in self.files if path.startswith(folder))

    def entries(self, key: str) -> list[tuple[str, dict]]:
        """The mappings in a list of the configuration, each with its place."""
        return entries_of(self.config, key, f"{CONFIG}: {key}")

    def phases(self) -> list[tuple[str, dict]]:
        """The phases in the platform's order: by index, or in the listed order if indexes are equal or missing."""
        phases = self.entries("phases")
        try:
            return sorted(phases, key=lambda phase: phase[1].get("index", 0))
        except TypeError:  # indexes of several types, which `check` reports
            return phases


def entries_of(parent: Mapping, key: str, where: str) -> list[tuple[str, dict]]:
    """The mappings in a list of a mapping, each with its place."""
    entries = parent.get(key)
    numbered = enumerate(entries if isinstance(entries, list) else [])
    return [(f"{where}[{index}]", entry) for index, entry in numbered if isinstance(entry, dict)]


def _no_config(where: str, files: Mapping[str, bytes]) -> Problem:
    near = [name for name in files if name.lower().endswith(("competition.yaml", "competition.yml"))]
    fault = f"found {show(near[0])}" if near else "not found"
    hint = "Zip the content of the folder, not the folder itself, and use exactly this name." if near else None
    return Problem("no-config", where, f"{fault}; expected {CONFIG} at the root of the zip", hint=hint)
