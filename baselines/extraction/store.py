"""The feature folder of one encoder: the features, what they are, and which clips failed.

- `<clip>.npy`: float32 (T, dim), complete or absent: written under a temporary name and renamed;
- `meta.json`: what the features are (encoder, revision, preset, dim, unit) and which package versions made them;
- `failures.csv`: `clip,kind,message`, sorted by clip; a clip that succeeds later is removed.

A clip is done if the header of its file says float32 and (T ≥ 1, dim), and the file's size agrees; otherwise it is
encoded again. Features of different kinds never share a folder. Concurrent runs may.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from blemore.errors import BlemoreError, FileError, Problem, ValidationError
from blemore.io import csv_text, read_json, read_table, to_json, write_atomic
from blemore_baselines.clips.find import Failure
from blemore_baselines.encoders.base import Encoder, is_gpu
from blemore_baselines.sources.meta import META

FAILURES = "failures.csv"


class Store:
    """An encoder's feature folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.dim = 0  # set by `claim`, as is batch_size
        self.batch_size: int | None = None  # with which the features were encoded; None: not recorded
        self._on_record: set[str] = set()  # clips in failures.csv, as this run last saw it

    def __getstate__(self) -> dict:
        """Leaves out what only the process that records needs."""
        return {**self.__dict__, "_on_record": set()}

    def claim(self, encoder: Encoder) -> None:
        """Write meta.json, or check that the existing one matches. Removes temporary files of killed runs.

        Raises ValidationError: the folder holds other features, or the encoder cannot be loaded.
        """
        path = self.folder / META
        if not path.exists():
            if any(self.folder.glob("*.npy")):
                message = f"holds .npy files, but no {META} to say what they are"
                raise ValidationError(
                    Problem("other-features", str(self.folder), message, hint="Choose another output folder.")
                )
            load(encoder)  # only a loaded encoder is sure of its number of columns
            write(path, to_json(describe(encoder)), once=True)
        content = read_json(path).data
        meta = content if isinstance(content, dict) else {}
        differences = [
            f"{key} {meta.get(key)!r} (expected {value!r})"
            for key, value in identity(encoder).items()
            if meta.get(key) != value
        ]
        if not isinstance(meta.get("dim"), int):
            differences.append(f"dim {meta.get('dim')!r} (expected a number)")
        if differences:
            message = f"the folder holds features of another kind: {', '.join(differences)}"
            raise ValidationError(Problem("other-features", str(path), message, hint="Choose another output folder."))
        before = meta.get("versions", {})
        updated = [name for name, version in versions(encoder).items() if before.get(name) != version]
        if updated:
            print(f"note: {self.folder} was started with other versions of {', '.join(updated)}", file=sys.stderr)
        self.dim, self.batch_size = meta["dim"], meta.get("batch_size")
        self._on_record = {failure.clip for failure in read_failures(self.folder)}
        for leftover in self.folder.glob(".*.tmp"):
            with suppress(OSError):  # if it belongs to a concurrent run, that run writes it again
                leftover.unlink()

    def record(self, outcomes: dict[str, Failure | None]) -> None:
        """Add failures to failures.csv, and remove clips that no longer fail."""
        if not any(outcomes.values()) and self._on_record.isdisjoint(outcomes):
            return
        with self._alone():  # concurrent runs would lose each other's rows
            failures = {failure.clip: failure for failure in read_failures(self.folder)} | outcomes
            rows = sorted(failure for failure in failures.values() if failure)
            write(self.folder / FAILURES, csv_text([Failure._fields, *rows]))
        self._on_record = {failure.clip for failure in rows}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other run is in this block. Without effect where files cannot be locked."""
        with ExitStack() as stack:
            with suppress(ImportError, OSError):
                import fcntl

                fcntl.lockf(stack.enter_context(open(self.folder / META, "r+b")), fcntl.LOCK_EX)
            yield  # the lock ends when the file is closed or the process dies


def record_batch_size(folder: Path, batch_size: int) -> None:
    """Record the batch size that is used from now on. Raises FileError."""
    meta = read_json(folder / META).data
    write(folder / META, to_json({**(meta if isinstance(meta, dict) else {}), "batch_size": batch_size}))


def save(folder: Path, clip: str, features: np.ndarray) -> None:
    """Write a clip's features. Raises FileError."""
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    write(folder / f"{clip}.npy", content.getvalue())


def write(path: Path, content: bytes | str, once: bool = False) -> None:
    """`write_atomic`, tried again if a run that just started removed the temporary file as a leftover.

    `once`: keep the file if another run wrote it first. Raises FileError.
    """
    for last in (False, False, True):
        try:
            return _write_once(path, content) if once else write_atomic(path, content)
        except FileError as error:
            if last or not isinstance(error.__context__, FileNotFoundError):
                raise


def _write_once(path: Path, content: bytes | str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_atomic(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except FileNotFoundError:  # see `write`
        return _write_once(path, content)
    except OSError:  # a file system without links
        write_atomic(path, content)
    draft.unlink(missing_ok=True)


def is_done(folder: Path, clip: str, dim: int) -> bool:
    """Whether a clip's features exist, complete and of the right shape, judged by the file's header and size."""
    try:
        features = np.load(
            Path(folder) / f"{clip}.npy", mmap_mode="r", allow_pickle=False
        )  # fails if bytes are missing
    except (OSError, ValueError, EOFError):
        return False
    return features.dtype == np.float32 and features.ndim == 2 and features.shape[1] == dim and len(features) > 0


def describe(encoder: Encoder) -> dict:
    """The content of meta.json: what the features are, and the versions of the packages behind them."""
    about = {key: getattr(encoder, key) for key in ("dim", "weights", "licence")}
    if computes_on_gpu(encoder):
        about["batch_size"] = getattr(encoder, "batch_size", 1)
    return {**identity(encoder), **about, "versions": versions(encoder)}


def computes_on_gpu(encoder: Encoder) -> bool:
    return is_gpu(getattr(encoder, "device", "cpu"))


def identity(encoder: Encoder) -> dict[str, str]:
    """Features that differ in one of these never share a folder. They determine the number of columns."""
    return {
        "encoder": encoder.name,
        "revision": encoder.fingerprint,
        **{key: getattr(encoder, key) for key in ("preset", "precision", "modality", "unit")},
    }


def versions(encoder: Encoder) -> dict[str, str]:
    """The versions of the packages behind an encoder's features. Raises ValidationError: one is not installed."""
    names = sorted({"av", "numpy", *encoder.packages})
    try:
        return {name: importlib.metadata.version(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        message = f"needs the package {error.name}, which is not installed"
        raise ValidationError(Problem("missing-package", f"encoder {encoder.name!r}", message)) from None


def read_failures(folder: Path) -> list[Failure]:
    """The failures recorded in a feature folder; an empty list if there is no record.

    Raises ValidationError: the record lacks one of its columns.
    """
    path = Path(folder) / FAILURES
    rows = read_table(path) if path.exists() else []
    if rows and not set(Failure._fields) <= set(rows[0]):
        raise ValidationError(
            Problem(
                "bad-table",
                str(path),
                f"expected the columns {', '.join(Failure._fields)}",
                hint="Delete it: the next run writes it again.",
            )
        )
    return [Failure(*(row[column] for column in Failure._fields)) for row in rows]


def one_line(*parts: str | None) -> str:
    return ". ".join(" ".join(part.split()) for part in parts if part)


def load(encoder: Encoder) -> None:
    """Load an encoder's weights: a failure ends the run, rather than being blamed on its first clip."""
    try:
        encoder.load()
    except BlemoreError:
        raise
    except Exception as error:
        message = one_line(f"{type(error).__name__}: {error}")
        raise ValidationError(Problem("cannot-load", f"encoder {encoder.name!r}", message)) from error
