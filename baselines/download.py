"""Downloads one file from its publisher, completely and checked. All the kit's downloads go through this module.

A file must have the length and the hash that the publisher states. An interrupted download resumes where it stopped, as
long as the publisher still has the same file, judged by the stated hash or else the server's tag. An incomplete file is
kept under a hidden name in its target folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from blemore.errors import BlemoreError, FileError, Problem

ATTEMPTS = 5  # per file, as long as each receives something
TIMEOUT = 30  # seconds without an answer
BLOCK = 2**16  # bytes; a block that breaks off is lost
CONNECTED = "Is this machine connected to the internet? If it needs a proxy, set HTTPS_PROXY."
DIGITS = {"md5": 32, "sha256": 64}  # length of a full hash, by algorithm


class Remote(NamedTuple):
    """A file as its publisher describes it.

    url:      its address
    path:     its target, relative to the download folder
    size:     in bytes; None if not stated
    checksum: `md5:` or `sha256:` and the leading digits that are stated; "" if none are
    """

    url: str
    path: str
    size: int | None = None
    checksum: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether all digits are stated, so that they identify the file."""
        algorithm, _, digits = self.checksum.partition(":")
        return len(digits) == DIGITS.get(algorithm)


class Publisher(NamedTuple):
    """What differs between publishers.

    headers:   sent with each request, but never to a host that it is redirected to
    forbidden: what to do if access is refused
    elsewhere: how to choose another folder if this one is full
    changed:   what a hash other than the stated one means
    """

    headers: Mapping[str, str]
    forbidden: str
    elsewhere: str
    changed: str


def fetch(remote: Remote, folder: Path, publisher: Publisher) -> Path:
    """Downloads and checks a file; an existing file is only checked. Returns its path.

    Raises FileError: it cannot be fetched or written, or differs from what the publisher states.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    path = folder / remote.path
    with _in_words(remote, path, publisher):
        if path.exists():
            hint = f"Delete {path} to download it again."
            size = path.stat().st_size
            if remote.size not in (None, size):
                message = f"found {size:,} bytes in {path}; expected {remote.size:,}, as its publisher states"
                raise FileError(Problem("wrong-length", remote.url, message, hint=hint))
            _check_checksum(remote, path, hint)
        else:
            downloader = _Resuming(remote, path, publisher)
            whole = remote.checksum if remote.is_pinned else None
            pooch.retrieve(remote.url, known_hash=whole, fname=path.name, path=path.parent, downloader=downloader)
    return path


def begun(remote: Remote, folder: Path) -> int:
    """How many bytes an earlier download left for the next one to resume from, unless the server's file has changed."""
    return _Part(folder / remote.path).usable(remote)


def digest(path: Path, algorithm: str) -> str:
    """The hash of a file, as hexadecimal digits."""
    content = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file, progress_bar(path.stat().st_size, 0, f"checking {path.name}") as progress:
        while block := file.read(16 * BLOCK):
            content.update(block)
            progress.update(len(block))
    return content.hexdigest()


def progress_bar(total: int | None, initial: int, title: str) -> tqdm:
    """A progress bar of bytes, hidden for the first second."""
    return tqdm(total=total, initial=initial, desc=title, unit="B", unit_scale=True, disable=None, delay=1)


def demand_space(folder: Path, needed: int, purpose: str = "") -> None:
    """OSError: fewer than `needed` bytes are free where the folder is or will be. `purpose`: what needs them."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed{purpose}, {free:,} are free")


def get_response(url: str, publisher: Publisher, headers: Mapping[str, str]):
    """An open response, whatever its status. Raises the errors of requests.

    An account's token is in the headers, which requests drops when redirected to another host; `auth` keeps a .netrc
    from overriding it.
    """
    import requests

    return requests.get(url, headers={**headers, **publisher.headers}, auth=_as_it_is, stream=True, timeout=TIMEOUT)


def _as_it_is(request):
    return request


def demand_success(response, url: str, publisher: Publisher, missing: str) -> None:
    """FileError: the publisher refuses the request. `missing`: what to do if the file does not exist."""
    status = response.status_code
    if status < 400:
        return
    hint = missing
    if status in (401, 403):
        hint = publisher.forbidden
    elif status == 429 or status >= 500:
        hint = "Try again later: the same command resumes from here."
    message = f"the server answered {status} {response.reason}"
    raise FileError(Problem("http-error", url, message, hint=hint))


def unreachable(url: str, error: BaseException) -> FileError:
    """The error for a server that cannot be reached."""
    return FileError(Problem("no-network", url, f"cannot be reached: {first_line(_innermost(error))}", hint=CONNECTED))


def _check_checksum(remote: Remote, path: Path, hint: str) -> None:
    algorithm, _, digits = remote.checksum.partition(":")
    if not digits:
        return
    actual = digest(path, algorithm)
    if not actual.startswith(digits):
        name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
        message = f"its {name} is {actual}; expected {digits}{'' if remote.is_pinned else '…'}"
        raise FileError(Problem("wrong-hash", remote.url, message, hint=hint))


@contextmanager
def _in_words(remote: Remote, path: Path, publisher: Publisher) -> Iterator[None]:
    """Turns every error of a download into a FileError."""
    from requests.exceptions import RequestException

    try:
        yield
    except BlemoreError:
        raise
    except RequestException as error:
        raise unreachable(remote.url, error) from None
    except OSError as error:
        raise cannot_write(path, error, f"Make room there, or choose another folder ({publisher.elsewhere}).") from None


def cannot_write(path: Path, error: OSError, hint: str) -> FileError:
    kind = "no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot-write"
    return FileError(Problem(kind, str(path), f"cannot be written: {error.strerror or error}", hint=hint))


def _innermost(error: BaseException) -> BaseException:
    """The system's own error, which the libraries wrap several times."""
    while error.__context__:
        error = error.__context__
    return error


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _Part:
    """The part of a file received so far, in a hidden file next to its path, and which file it is a part of.

    The file `.tag` holds the server's tag, by which it recognises the file, and the stated hash.
    """

    def __init__(self, path: Path):
        self.content = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.tag")

    def size(self) -> int:
        return self.content.stat().st_size if self.content.exists() else 0

    def tag(self) -> str:
        return self._lines()[0]

    def usable(self, remote: Remote) -> int:
        """How many bytes are the beginning of the file as stated now; 0 if they belong to another file."""
        tag, checksum = self._lines()
        is_other = checksum != remote.checksum if checksum else not tag
        return 0 if is_other or self.size() > (remote.size or self.size()) else self.size()

    def _lines(self) -> tuple[str, str]:
        tag, _, checksum = self.note.read_text().partition("\n") if self.note.exists() else ("", "", "")
        return tag, checksum

    def remember(self, headers: Mapping[str, str], remote: Remote) -> None:
        """Saves tag and hash; without a tag or a full hash, another attempt cannot resume."""
        etag = headers.get("ETag", "")
        tag = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        checksum = remote.checksum if remote.is_pinned else ""
        if tag or checksum:
            self.note.write_text(f"{tag}\n{checksum}")
        else:
            self.note.unlink(missing_ok=True)

    def forget(self) -> None:
        self.content.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _Resuming:
    """A downloader for pooch that resumes partial files."""

    def __init__(self, remote: Remote, path: Path, publisher: Publisher):
        self.remote, self.path, self.publisher, self.part = remote, path, publisher, _Part(path)

    def __call__(self, url: str, output_file: str, _: object) -> None:
        from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

        for attempt in range(ATTEMPTS):
            before = self.part.size()
            try:
                self._go_on()
                break
            except (ConnectionError, ChunkedEncodingError, Timeout) as error:
                size = self.part.size()
                if not (before or size):
                    raise
                if size <= before or attempt == ATTEMPTS - 1:
                    message = f"the connection broke off after {size:,} bytes: {first_line(_innermost(error))}"
                    usable = self.part.usable(self.remote)
                    hint = f"The same command {'resumes from there' if usable else 'starts again from the beginning'}."
                    raise FileError(Problem("broken-off", url, message, hint=hint)) from None
                time.sleep(1)
        try:
            _check_checksum(self.remote, self.part.content, f"It was not kept. {self.publisher.changed}")
        except FileError:
            self.part.forget()
            raise
        self.part.note.unlink(missing_ok=True)
        os.replace(self.part.content, output_file)

    def _go_on(self) -> None:
        """Receives the rest of the file, or all of it if the publisher's file may have changed."""
        have = self.part.usable(self.remote)
        if self.part.size() > have:
            self.part.forget()
        if self.remote.is_pinned and have and have == self.remote.size:
            return  # complete, but stopped before it was checked
        headers = {"Accept-Encoding": "identity"}
        if have:
            tag = self.part.tag()
            headers |= {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})}
        with get_response(self.remote.url, self.publisher, headers) as response:
            if response.status_code == 416 and have:  # it is complete already, or has become shorter
                self.part.forget()
                return self._go_on()
            missing = f"Has it moved? Look for it on its authors' pages, and save it as {self.path}."
            demand_success(response, self.remote.url, self.publisher, missing)
            have = have if response.status_code == 206 else 0
            rest = response.headers.get("Content-Length")
            size = have + int(rest) if rest else self.remote.size
            self._check_size(size)
            demand_space(self.path.parent, (size or 0) - have)
            self.part.remember(response.headers, self.remote)
            self._receive(response, have, size)
        self._check_size(self.part.size())

    def _check_size(self, size: int | None) -> None:
        if self.remote.size is not None and size != self.remote.size:
            self.part.forget()
            message = f"found {size or 0:,} bytes; expected {self.remote.size:,}, as its publisher states"
            raise FileError(Problem("wrong-length", self.remote.url, message, hint="Try again later."))

    def _receive(self, response, have: int, size: int | None) -> None:
        with (
            open(self.part.content, "r+b" if have else "wb") as file,
            progress_bar(size, have, self.path.name) as progress,
        ):
            file.seek(have)
            for block in response.iter_content(BLOCK):
                file.write(block)
                progress.update(len(block))
