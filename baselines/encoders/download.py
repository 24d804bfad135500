"""Where weights are kept, and where they are published.

`get` fetches an encoder's weights from where its authors publish them. Files must have the length and the hash that
the publisher states (the hub for large files, torchvision in the file name). They are then pinned: the lock file next
to the weights keeps the address and the hash of each file, and a later download must match them. huggingface_hub lists
the files of a repository on the hub.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from blemore.errors import FileError, Problem, ValidationError
from blemore.io import read_json, to_json, write_atomic
from blemore_baselines.download import CONNECTED, Publisher, Remote, digest, fetch, first_line

HUB = "https://huggingface.co/"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FORMATS = ("*.safetensors", "pytorch_model*.bin")  # of a model's weights, the better format first
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # the first digits of a file's SHA-256
LOCK = "weights.lock.json"
CONSENT = "Does its page ask for an account, or for consent to the licence?"
CHANGED = f"If this persists, the publisher has changed the file: {LOCK} has the pinned hash."


class Publication(NamedTuple):
    """All files of an encoder's weights; `commit` is that of the repository on the hub, None for files elsewhere."""

    files: list[Remote]
    commit: str | None = None


def weights_folder() -> Path:
    """Where checkpoints are kept: $BLEMORE_WEIGHTS, or ~/.cache/blemore."""
    return Path(os.environ.get("BLEMORE_WEIGHTS") or "~/.cache/blemore").expanduser()


def snapshot(hub_id: str, fetch: bool) -> Path:
    """The folder in the hub's own cache with a model's configuration and its weights, in one format.

    `fetch`: download them if they are not here yet. Raises the hub's own errors, which have no common class.
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
    """Fetch the weights of an encoder into `weights_folder()` and pin them. Existing files are only checked.

    weights: a hub id; a page of the hub, with `file` in its repository; or a URL that ends in `file`

    Raises FileError: they cannot be fetched, or differ from what was stated or pinned; ValidationError: see
    `read_lock`.
    """
    folder = weights_folder()
    pin = read_lock(folder).get(name, {})
    publication = published(name, weights, file, pin.get("commit"))
    files = {}
    for remote in publication.files:
        if entry := pin.get("files", {}).get(remote.path):
            remote = remote._replace(checksum=f"sha256:{entry['sha256']}")
        path = fetch(remote, folder, _publisher(remote.url))
        files[remote.path] = {"url": remote.url, "size": path.stat().st_size, "sha256": digest(path, "sha256")}
    note(name, commit=publication.commit, files=files)
    return [folder / path for path in files]


def _publisher(url: str) -> Publisher:
    """How to fetch from this publisher. For files on the hub, it sends the account's token, if there is one."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers

    headers = build_hf_headers() if url.startswith(constants.ENDPOINT + "/") else {}
    return Publisher(headers, CONSENT, "BLEMORE_WEIGHTS", CHANGED)


def read_lock(folder: Path) -> dict[str, dict]:
    """The facts recorded for each encoder's weights: the accepted `licence`, and the `commit` and `files` fetched.

    Raises ValidationError: the file was not written by `note`.
    """
    path = folder / LOCK
    if not path.exists():
        return {}
    lock = read_json(path).data
    if not (isinstance(lock, dict) and all(map(_is_entry, lock.values()))):
        message = "not a lock file; expected the files and hashes of each encoder's weights"
        raise ValidationError(Problem("bad-lock", str(path), message, hint="Delete it to pin the weights again."))
    return lock


def _is_entry(entry: object) -> bool:
    files = entry.get("files", {}) if isinstance(entry, dict) else None
    return isinstance(files, dict) and all(
        isinstance(file, dict) and isinstance(file.get("sha256"), str) for file in files.values()
    )


def note(name: str, **facts: object) -> None:
    """Record facts of an encoder's weights in the lock file."""
    folder = weights_folder()
    lock = read_lock(folder)
    write_atomic(folder / LOCK, to_json({**lock, name: {**lock.get(name, {}), **facts}}))


# ------------------------------------------------------------------------------ what is published


def published(name: str, weights: str, file: str | None, commit: str | None = None) -> Publication:
    """The files that `get` fetches. `commit`: of the repository on the hub; None: the newest. Raises FileError."""
    if HUB_ID.fullmatch(weights):
        return _on_hub(weights, None, commit)
    if file and weights.startswith(HUB):
        return _on_hub(weights.removeprefix(HUB), file, commit)
    if not is_by_hand(weights, file):
        digits = HASH_IN_NAME.search(weights)
        return Publication([Remote(weights, str(file), checksum=f"sha256:{digits[1]}" if digits else "")])
    message = f"its authors publish them on a page, not as a file: {weights}"
    hint = f"Download {file or 'them'} there by hand, and put the file into {weights_folder()}."
    raise FileError(Problem("by-hand", f"weights of encoder {name!r}", message, hint=hint))


def is_by_hand(weights: str, file: str | None) -> bool:
    """Whether weights are published in a way that only a person can fetch."""
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
        hint = f"Does it exist? {CONSENT}"
        raise FileError(Problem("http-error", HUB + hub_id, message, hint=hint)) from None
    except Exception as error:  # from the network, without a common class
        problem = Problem("no-network", HUB + hub_id, f"cannot be reached: {first_line(error)}", hint=CONNECTED)
        raise FileError(problem) from None
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    names = [path for path in siblings if path.rpartition("/")[2] == file] if file else _model_files(list(siblings))
    if not names:
        message = f"has no {file or 'weights in a known format'} among its {len(siblings)} files"
        raise FileError(Problem("not-published", HUB + hub_id, message, hint="Have they moved? Look at the page."))
    files = [
        Remote(
            hf_hub_url(hub_id, path, revision=info.sha),
            file or f"{hub_id}/{path}",
            siblings[path].size,
            f"sha256:{lfs.sha256}" if (lfs := siblings[path].lfs) else "",
        )
        for path in names
    ]
    return Publication(files, info.sha)


def _model_files(paths: list[str]) -> list[str]:
    """The settings and the weights among a repository's files, in one format."""
    top = [path for path in paths if "/" not in path]
    for pattern in HUB_FORMATS:
        weights = [path for path in top if Path(path).match(pattern)]
        if weights:
            return [path for path in top if path.endswith(".json")] + weights
    return []
