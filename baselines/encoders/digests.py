"""SHA-256 of large files, computed once: reading several gigabytes would dominate the start of a run.

A record in the folder of the weights keeps the digests by path. A digest is valid while the file's size and times of
change stay the same. If the record cannot be read, digests are computed again; if it cannot be written, they are not
kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from blemore.errors import BlemoreError
from blemore.io import read_json, to_json, write_atomic
from blemore_baselines.encoders.download import weights_folder

RECORD = "digests.json"  # {path: [SHA-256, size, time of the last write, time of the last change of any kind]}
LARGE = 2**26  # bytes; smaller files are read in no time
SETTLED = 2 * 10**9  # nanoseconds; a younger file may change again without a change of its times


def file_digest(path: Path) -> bytes:
    """The SHA-256 of a file's content, 32 bytes. Raises OSError."""
    name, state, start = os.path.realpath(path), _state(path), time.time_ns()
    if state[0] < LARGE:
        return _compute(path)
    entry = _read().get(name)
    if isinstance(entry, list) and entry[1:] == state and re.fullmatch("[0-9a-f]{64}", str(entry[0])):
        return bytes.fromhex(entry[0])
    digest = _compute(path)
    if _state(path) == state and start - max(state[1:]) > SETTLED:
        entries = {path: entry for path, entry in _read().items() if os.path.exists(path)}
        with suppress(BlemoreError):
            write_atomic(weights_folder() / RECORD, to_json({**entries, name: [digest.hex(), *state]}))
    return digest


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _compute(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _read() -> dict:
    with suppress(BlemoreError):
        content = read_json(weights_folder() / RECORD).data
        return content if isinstance(content, dict) else {}
    return {}
