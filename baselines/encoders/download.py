"""Where weights are kept, and how they get there: everything that the kit downloads comes through here.

`get` takes an encoder's weights from where its authors publish them. What arrives must have the length and the hash
that the publisher states (the hub for large files, torchvision in a file's name). It is then pinned: the lock file
beside the weights keeps the address and the hash of each file, and a later download must give the same. An interrupted
download goes on where it stopped, as long as the publisher still has the same file. Plain files come by pooch;
huggingface_hub knows what is in a repository of the hub.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from blemore.errors import BlemoreError, FileError, Problem, ValidationError
from blemore.io import read_json, to_json, write_atomic

HUB = "https://huggingface.co/"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FORMATS = ("*.safetensors", "pytorch_model*.bin")  # of a model's weights, the better one first
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # the first digits of a file's SHA-256
LOCK = "weights.lock.json"
ATTEMPTS = 5  # at one file, as long as each brings something
TIMEOUT = 30  # seconds without an answer
BLOCK = 2**16  # bytes; what is broken off in the middle of one is lost
CONNECTED = "Is this machine connected to the internet? A proxy is named by HTTPS_PROXY."


class Remote(NamedTuple):
    """A file at its publisher's.

    url:    its address
    path:   where it goes, below the folder of the weights
    size:   in bytes; None where it is not stated
    sha256: as many of its first digits as are stated
    """

    url: str
    path: str
    size: int | None = None
    sha256: str = ""


class Publication(NamedTuple):
    """All files of an encoder's weights; `commit` is of the hub's repository, None for files elsewhere."""

    files: list[Remote]
    commit: str | None = None


def weights_folder() -> Path:
    """Where checkpoints are kept: $BLEMORE_WEIGHTS, or ~/.cache/blemore."""
    return Path(os.environ.get("BLEMORE_WEIGHTS") or "~/.cache/blemore").expanduser()


def snapshot(hub_id: str, fetch: bool) -> Path:
    """The folder in the hub's own cache with a model's configuration and its weights, in one format.

    `fetch`: from the hub, where they are not here yet. Raises the hub's own errors, which have no class in common.
    """
    from huggingface_hub import snapshot_download

    for pattern in HUB_FORMATS:
        folder = Path(
            snapshot_download(
                hub_id, local_files_only=not fetch, allow_patterns=["*.json", pattern], ignore_patterns="*/*"
            )
        )
        if any(folder.glob(pattern)):
            return folder
    raise FileNotFoundError("no weights in it")


def get(name: str, weights: str, file: str | None) -> list[Path]:
    """Fetch the weights of an encoder into the weights' folder, and pin them; what is there already is only checked.

    weights: a hub id; a page of the hub, with `file` in its repository; or a URL that ends in `file`

    Raises FileError: they cannot be fetched, or are not what was stated or pinned; ValidationError: see `read_lock`.
    """
    folder = weights_folder()
    pin = read_lock(folder).get(name, {})
    publication = published(name, weights, file, pin.get("commit"))
    hashes = {path: entry["sha256"] for path, entry in pin.get("files", {}).items()}
    files = {
        remote.path: fetch(remote._replace(sha256=hashes.get(remote.path, remote.sha256)), folder)
        for remote in publication.files
    }
    note(name, commit=publication.commit, files=files)
    return [folder / path for path in files]


def read_lock(folder: Path) -> dict[str, dict]:
    """What is known of each encoder's weights: `licence` that was agreed to, `commit` and `files` as they were fetched.

    Raises ValidationError: the file is not one that `note` wrote.
    """
    path = folder / LOCK
    if not path.exists():
        return {}
    lock = read_json(path).data
    if not (isinstance(lock, dict) and all(map(_is_entry, lock.values()))):
        message = "not a lock file; expected the files and hashes of each encoder's weights"
        raise ValidationError(Problem("bad-lock", str(path), message, hint="Delete it to pin anew."))
    return lock


def _is_entry(entry: object) -> bool:
    files = entry.get("files", {}) if isinstance(entry, dict) else None
    return isinstance(files, dict) and all(
        isinstance(file, dict) and isinstance(file.get("sha256"), str) for file in files.values()
    )


def note(name: str, **facts: object) -> None:
    """Keep facts of an encoder's weights in the lock file."""
    folder = weights_folder()
    lock = read_lock(folder)
    write_atomic(folder / LOCK, to_json({**lock, name: {**lock.get(name, {}), **facts}}))


# ------------------------------------------------------------------------------ what is published


def published(name: str, weights: str, file: str | None, commit: str | None = None) -> Publication:
    """See `get`. `commit`: of the hub's repository; None: the newest. Raises FileError."""
    if HUB_ID.fullmatch(weights):
        return _on_hub(weights, None, commit)
    if file and weights.startswith(HUB):
        return _on_hub(weights.removeprefix(HUB), file, commit)
    if not is_by_hand(weights, file):
        digits = HASH_IN_NAME.search(weights)
        return Publication([Remote(weights, str(file), sha256=digits[1] if digits else "")])
    message = f"its authors publish them on a page, not as a file: {weights}"
    hint = f"Download {file or 'them'} from there by hand, and put it into {weights_folder()}."
    raise FileError(Problem("by-hand", f"weights of encoder {name!r}", message, hint=hint))


def is_by_hand(weights: str, file: str | None) -> bool:
    """Whether weights are published in a way that no command can fetch."""
    on_hub = HUB_ID.fullmatch(weights) or (file and weights.startswith(HUB))
    return not (on_hub or (file and weights.endswith(f"/{file}")))


def _on_hub(hub_id: str, file: str | None, commit: str | None) -> Publication:
    """A model's settings and weights, or one file from anywhere in a repository."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().model_info(hub_id, revision=commit, files_metadata=True)
    except HfHubHTTPError as error:
        message = f"the hub answers {error.response.status_code}: {first_line(error)}"
        hint = "Does it exist? Does it ask for an account, or for consent to its licence, on its page?"
        raise FileError(Problem("http-error", HUB + hub_id, message, hint=hint)) from None
    except Exception as error:  # of the network; they have no class in common
        problem = Problem("no-network", HUB + hub_id, f"cannot be reached: {first_line(error)}", hint=CONNECTED)
        raise FileError(problem) from None
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    names = [path for path in siblings if path.rpartition("/")[2] == file] if file else _model_files(list(siblings))
    if not names:
        message = f"has no {file or 'weights in a format that is known'} among its {len(siblings)} files"
        raise FileError(Problem("not-published", HUB + hub_id, message, hint="Has it moved? Look at its page."))
    files = [
        Remote(
            hf_hub_url(hub_id, path, revision=info.sha),
            file or f"{hub_id}/{path}",
            siblings[path].size,
            lfs.sha256 if (lfs := siblings[path].lfs) else "",
        )
        for path in names
    ]
    return Publication(files, info.sha)


def _model_files(paths: list[str]) -> list[str]:
    """Of a repository's files the settings and the weights, in one format."""
    top = [path for path in paths if "/" not in path]
    for pattern in HUB_FORMATS:
        weights = [path for path in top if Path(path).match(pattern)]
        if weights:
            return [path for path in top if path.endswith(".json")] + weights
    return []


# --------------------------------------------------------------------------------- one file


def fetch(remote: Remote, folder: Path) -> dict[str, str | int]:
    """Have a file in a folder, whole and checked; gives its URL, size and SHA-256. Raises FileError."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    path = folder / remote.path
    whole = f"sha256:{remote.sha256}" if len(remote.sha256) == 64 else None
    with _told(remote, path):
        pooch.retrieve(
            remote.url, known_hash=whole, fname=path.name, path=path.parent, downloader=_Resuming(remote, path)
        )
        sha256 = pooch.file_hash(str(path), alg="sha256")
        _check_hash(remote, sha256, f"Delete {path} to download it anew.")
        return {"url": remote.url, "size": path.stat().st_size, "sha256": sha256}


def _check_hash(remote: Remote, sha256: str, hint: str) -> None:
    if not sha256.startswith(remote.sha256):
        message = f"its SHA-256 is {sha256}; expected {remote.sha256}{'…' if len(remote.sha256) < 64 else ''}"
        raise FileError(Problem("wrong-hash", remote.url, message, hint=hint))


@contextmanager
def _told(remote: Remote, path: Path) -> Iterator[None]:
    """Every error of a download in words."""
    from requests.exceptions import RequestException

    try:
        yield
    except BlemoreError:
        raise
    except RequestException as error:
        message = f"cannot be reached: {first_line(_innermost(error))}"
        raise FileError(Problem("no-network", remote.url, message, hint=CONNECTED)) from None
    except OSError as error:
        kind = "no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot-write"
        hint = "Make room there, or name another folder by BLEMORE_WEIGHTS."
        raise FileError(Problem(kind, str(path), f"cannot be written: {error.strerror or error}", hint=hint)) from None


def _innermost(error: BaseException) -> BaseException:
    """The system's own word, which the libraries wrap several times."""
    while error.__context__:
        error = error.__context__
    return error


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _Resuming:
    """A downloader for pooch that keeps what has come so far, in a hidden file beside the path."""

    def __init__(self, remote: Remote, path: Path):
        self.remote, self.path = remote, path
        self.part = path.with_name(f".{path.name}.part")
        self.tag = path.with_name(f".{path.name}.part.tag")  # by which the publisher knows the same file again

    def __call__(self, url: str, output_file: str, _: object) -> None:
        import pooch
        from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

        for attempt in range(ATTEMPTS):
            before = self._have()
            try:
                self._go_on()
                break
            except (ConnectionError, ChunkedEncodingError, Timeout) as error:
                if not (before or self._have()):
                    raise
                if self._have() <= before or attempt == ATTEMPTS - 1:
                    message = f"the connection broke off after {self._have():,} bytes: {first_line(_innermost(error))}"
                    hint = f"The same command {'goes on from there' if self.tag.exists() else 'starts anew'}."
                    raise FileError(Problem("broken-off", url, message, hint=hint)) from None
                time.sleep(1)
        try:
            hint = f"It was not kept. If that stays so, it has changed at its publisher's: {LOCK} has what was pinned."
            _check_hash(self.remote, pooch.file_hash(str(self.part), alg="sha256"), hint)
        except FileError:
            self._forget()
            raise
        self.tag.unlink(missing_ok=True)
        os.replace(self.part, output_file)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def _go_on(self) -> None:
        """Receive what lacks, or all of it where the publisher's file may be another by now."""
        import requests

        if not self.tag.exists():
            self._forget()
        have = self._have()
        headers = {"Accept-Encoding": "identity", **_authorization(self.remote.url)}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.tag.read_text()}
        with requests.get(self.remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:  # nothing lacks, or it has become shorter
                self._forget()
                return self._go_on()
            self._check_status(response.status_code, response.reason)
            have = have if response.status_code == 206 else 0
            rest = response.headers.get("Content-Length")
            size = have + int(rest) if rest else self.remote.size
            self._check_size(size)
            self._check_space((size or 0) - have)
            self._remember(response.headers)
            self._receive(response, have, size)
        self._check_size(self._have())

    def _check_status(self, status: int, reason: str) -> None:
        if status >= 400:
            hint = f"Has it moved? Look for it at its authors', and put it at {self.path}."
            if status in (401, 403):
                hint = "Does it ask for an account, or for consent to its licence, on its page?"
            message = f"its publisher answers {status} {reason}"
            raise FileError(Problem("http-error", self.remote.url, message, hint=hint))

    def _check_size(self, size: int | None) -> None:
        if self.remote.size is not None and size != self.remote.size:
            self._forget()
            message = f"{size or 0:,} bytes; its publisher states {self.remote.size:,}"
            raise FileError(Problem("wrong-length", self.remote.url, message, hint="Try again later."))

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed, {free:,} are free")

    def _remember(self, headers: Mapping[str, str]) -> None:
        """Without a tag, what has come is of no use to another attempt."""
        etag = headers.get("ETag", "")
        tag = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        if tag:
            self.tag.write_text(tag)
        else:
            self.tag.unlink(missing_ok=True)

    def _receive(self, response, have: int, size: int | None) -> None:
        with (
            open(self.part, "r+b" if have else "wb") as file,
            tqdm(total=size, initial=have, desc=self.path.name, unit="B", unit_scale=True, disable=None) as progress,
        ):
            file.seek(have)
            for block in response.iter_content(BLOCK):
                file.write(block)
                progress.update(len(block))


def _authorization(url: str) -> dict[str, str]:
    """The hub's own headers for its own files: an account's token, where there is one."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers() if url.startswith(constants.ENDPOINT + "/") else {}
