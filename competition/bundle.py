"""A competition's bundle: a zip with competition.yaml at its root, and what that names. Reading and writing.

A task's or phase's data is a zip or a folder inside the bundle; both are read as a mapping of relative
paths to contents.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from blemore.errors import BlemoreError, Problem, show
from blemore.io import read_bytes

CONFIG = "competition.yaml"
LARGEST = 2**30  # bytes of a bundle, a member or a submission when extracted
MOST_FILES = 10_000
START_FROM = "Start from the kit's own competition.yaml."


class BundleError(BlemoreError):
    """The organiser's side is at fault: the bundle, its configuration or what goes into it."""

    exit_code = 4


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of the files, sorted by name. The same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # whatever machine builds it
            archive.writestr(entry, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(raw: bytes, where: str) -> dict[str, bytes]:
    """The files of a zip. BundleError: it is not a sound one, or is larger than any bundle would be."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > LARGEST:
                raise BundleError(
                    Problem(
                        "bad-zip",
                        where,
                        f"more than {MOST_FILES:,} files or {LARGEST / 2**20:,.0f} MiB when extracted",
                        hint="A bundle takes less than 1 MiB: is it the right file?",
                    )
                )
            return {entry.filename: archive.read(entry) for entry in entries}
    except BlemoreError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds, down to struct.error
        raise BundleError(
            Problem("bad-zip", where, f"not a readable zip: {error}", hint="Zip it again, without a password.")
        ) from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {show(key.value)} stands twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_yaml(raw: bytes, where: str) -> dict:
    """A mapping. BundleError: it is none, is not YAML, or has a key twice."""
    try:
        data = yaml.load(raw.decode("utf-8-sig"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise BundleError(Problem("not-yaml", where, f"not YAML: {text[:300]}", hint=START_FROM)) from None
    if not isinstance(data, dict):
        raise BundleError(Problem("not-yaml", where, "expected a mapping of keys to values", hint=START_FROM))
    return data


class Bundle:
    """A bundle's files and its parsed competition.yaml."""

    def __init__(self, path: Path):
        self.files = unpack(read_bytes(path), str(path))
        if CONFIG not in self.files:
            raise BundleError(_no_config(str(path), self.files))
        self.config = parse_yaml(self.files[CONFIG], CONFIG)

    def data(self, name: str) -> dict[str, bytes]:
        """The files of a zip or folder in the bundle. KeyError: neither is there. BundleError: no sound zip."""
        if name in self.files:
            return unpack(self.files[name], name)
        folder = name.rstrip("/") + "/"
        inside = {path[len(folder) :]: raw for path, raw in self.files.items() if path.startswith(folder)}
        if not inside:
            raise KeyError(name)
        return inside


def _no_config(where: str, files: Mapping[str, bytes]) -> Problem:
    near = [name for name in files if name.lower().endswith(("competition.yaml", "competition.yml"))]
    found = f"found {show(near[0])}" if near else "not found"
    hint = "Zip the content of the folder, not the folder itself, and name the file exactly so." if near else None
    return Problem("no-config", where, f"{found}; expected {CONFIG} at the root of the zip", hint=hint)
