"""Lists and fetches the files of the dataset's record on Zenodo.

The record is read through Zenodo's public API (https://developers.zenodo.org), which states the length and the MD5 of
every file. A restricted record needs the access token of an account that may read it, in the environment variable
ZENODO_TOKEN. The token is sent only to the API's own host, and is never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from blemore.errors import FileError, Problem, ValidationError, show
from blemore_baselines.download import (
    Publisher,
    Remote,
    begun,
    cannot_write,
    demand_space,
    demand_success,
    fetch,
    get_response,
    unreachable,
)
from blemore_baselines.survey.unpack import is_archive, name_fault

API = "https://zenodo.org/api/records/"
PAGE = "https://zenodo.org/records/"
CURRENT = 17787362  # the current record; data/README.md has the earlier ones
TOKEN = "ZENODO_TOKEN"
CHECKSUM = re.compile(r"md5:[0-9a-f]{32}")
BY_HAND = "Download the files by hand from {page}, and unpack them as described in data/README.md."

PARTS = ("train", "test", "features")
# A file holds features if a word of its name begins with one of these.
FEATURE_WORDS = ("feature", "extracted", "preextracted", "hicmae", "hubert", "imagebind", "openface", "videomae",
                 "videoswin", "wavlm")  # fmt: skip


class Record(NamedTuple):
    """What Zenodo states about a record.

    title, licence: as stated; "" if missing
    files:          each with its size and MD5
    """

    number: int
    title: str
    licence: str
    files: list[Remote]

    @property
    def page(self) -> str:
        return f"{PAGE}{self.number}"


def read_record(number: int) -> Record:
    """Requests a record from Zenodo.

    Raises FileError: it cannot be reached, or refuses; ValidationError: the answer is not a list of files.
    """
    from requests.exceptions import JSONDecodeError, RequestException

    url = f"{API}{number}"
    try:
        publisher = _publisher(url, number)
        with get_response(url, publisher, {"Accept": "application/json"}) as response:
            demand_success(response, url, publisher, f"Is there a record with that number? See {PAGE}{number}.")
            data = response.json()
    except JSONDecodeError:
        raise _other_shape(number, ["not JSON; expected the record's list of files"]) from None
    except RequestException as error:
        raise unreachable(url, error) from None
    return _parse(data, number)


def _parse(data: object, number: int) -> Record:
    record = data if isinstance(data, dict) else {}
    metadata = record.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    files = record.get("files")
    if not files and metadata.get("access_right", "open") != "open":
        message = f"lists no files; its access is {show(metadata['access_right'])}"
        raise FileError(Problem("restricted", f"{PAGE}{number}", message, hint=_publisher(API, number).forbidden))
    if not isinstance(files, list) or not files:
        raise _other_shape(number, [f"files: {show(files)}; expected a list of the record's files"])
    faults = [f"files[{index}]: {fault}" for index, entry in enumerate(files) for fault in _faults(entry)]
    if faults:
        raise _other_shape(number, faults)
    remotes = [Remote(entry["links"]["self"], entry["key"], entry["size"], entry["checksum"]) for entry in files]
    names = [remote.path for remote in remotes]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise _other_shape(number, [f"{show(name)} is listed more than once; expected one file" for name in doubled])
    licence = metadata.get("license")
    licence = licence.get("id") if isinstance(licence, dict) else licence
    return Record(number, _text(record.get("title") or metadata.get("title")), _text(licence), remotes)


def _faults(entry: object) -> Iterator[str]:
    """Why an entry of the list is not a file that can be fetched and checked."""
    if not isinstance(entry, dict):
        yield f"{show(entry)}; expected an object"
        return
    key, size, checksum, links = (entry.get(name) for name in ("key", "size", "checksum", "links"))
    url = links.get("self") if isinstance(links, dict) else None
    if not isinstance(key, str) or name_fault(key):
        yield f"key: {show(key)}; expected a file's name, or a path without “..”"
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        yield f"size: {show(size)}; expected a number of bytes"
    if not isinstance(checksum, str) or not CHECKSUM.fullmatch(checksum):
        yield f"checksum: {show(checksum)}; expected md5: and 32 hexadecimal digits"
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        yield f"links.self: {show(url)}; expected an address"


def _other_shape(number: int, faults: Sequence[str]) -> ValidationError:
    hint = f"Has Zenodo's API changed? {BY_HAND.format(page=f'{PAGE}{number}')}"
    return ValidationError([Problem("other-shape", f"{API}{number}", fault, hint=hint) for fault in faults])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# --------------------------------------------------------------------------------- which of them


def part_of(name: str) -> str:
    """The part that a file belongs to, judged by the words in its name: one of PARTS, or "" for files such as metadata,
    which every part needs.

    >>> [part_of(name) for name in ("train_videos.zip", "pre_extracted_train_data.zip", "test_metadata.csv")]
    ['train', 'features', '']
    """
    words = re.findall("[a-z]+", name.lower())
    if "metadata" in words:
        return ""
    if any(word.startswith(FEATURE_WORDS) for word in words):
        return "features"
    parts = [part for part in ("train", "test") if any(word.startswith(part) for word in words)]
    return parts[0] if len(parts) == 1 else ""


def choose(files: Sequence[Remote], only: str | None) -> list[Remote]:
    """The files of a part, and those that belong to none; all if `only` is None."""
    return [remote for remote in files if not only or part_of(remote.path) in (only, "")]


def state(remote: Remote, folder: Path) -> str:
    """What will be done about a file, given what is in the folder already."""
    if (folder / remote.path).exists():
        return "exists, will be checked"
    if size := begun(remote, folder):
        return f"will resume after {size_text(size)}"
    return "will be fetched"


def size_text(size: int) -> str:
    """A number of bytes in decimal units: 1 kB is 1,000 bytes.

    >>> size_text(999), size_text(1_234_567), size_text(45_600_000_000)
    ('999 bytes', '1.2 MB', '45.6 GB')
    """
    for unit, power in (("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)):
        if size >= 1000**power:
            return f"{size / 1000**power:.1f} {unit}"
    return f"{size} bytes"


# ------------------------------------------------------------------------------------- fetching


def demand_room(files: Sequence[Remote], folder: Path) -> None:
    """FileError: the disk has too little room for the remaining downloads and for unpacking the archives.

    The unpacked size of an archive is not stated. Videos and features hardly compress, so the archive's size is used.
    """
    absent = [remote for remote in files if not (folder / remote.path).exists()]
    download = sum((remote.size or 0) - begun(remote, folder) for remote in absent)
    unpacked = sum(remote.size or 0 for remote in absent if is_archive(Path(remote.path)))
    purpose = f" ({size_text(download)} to download, and about {size_text(unpacked)} to unpack the archives)"
    try:
        demand_space(folder, download + unpacked, purpose)
    except OSError as error:
        hint = "Make room there, choose another --out, or fetch only a part with --only."
        raise cannot_write(folder, error, hint) from None


def fetch_all(record: Record, files: Sequence[Remote], folder: Path) -> list[Path]:
    """Downloads and checks these files of a record; existing files are checked first.

    Raises FileError: one cannot be fetched, or existing files differ from the record's (all of them are listed).
    """
    local_files = [remote for remote in files if (folder / remote.path).exists()]
    problems: list[Problem] = []
    for remote in local_files:
        try:
            fetch(remote, folder, _publisher(remote.url, record.number))
        except FileError as error:
            problems += error.problems
    if problems:
        raise FileError(problems)
    for remote in files:
        if remote not in local_files:
            fetch(remote, folder, _publisher(remote.url, record.number))
    return [folder / PurePosixPath(remote.path) for remote in files]


def _publisher(url: str, number: int) -> Publisher:
    """The publisher; the token is included only for addresses on the API's own host."""
    token = _token()
    is_own = urlsplit(url)[:2] == urlsplit(API)[:2]  # and the same protocol, so never unencrypted
    page = f"{PAGE}{number}"
    forbidden = f"The record is restricted: ask for access on {page}, then put an access token of your account"
    forbidden += f" (Applications, in its settings) into {TOKEN}."
    if token:
        forbidden = f"The account whose token is in {TOKEN} may not read it, or the token has expired: see {page}."
    return Publisher(
        headers={"Authorization": f"Bearer {token}"} if token and is_own else {},
        forbidden=forbidden,
        elsewhere="--out",
        changed=f"If this happens again, the record itself is faulty: see {page}.",
    )


def _token() -> str:
    """The token, or "". ValidationError: the variable's value is not a token."""
    token = os.environ.get(TOKEN, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        message = "contains spaces or other characters that no token has; expected only the token"
        raise ValidationError(Problem("bad-token", TOKEN, message, hint="Copy it again from your account's settings."))
    return token
