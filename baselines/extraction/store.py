"""The feature folder of one encoder: what it holds, of what kind that is, and which clips failed.

- `<clip>.npy`: float32 (T, dim), whole or not at all: written under a temporary name and renamed;
- `meta.json`: what the features are (encoder, revision, preset, dim, unit) and with which packages they were made;
- `failures.csv`: `clip,kind,message`, by clip; a clip that succeeds later leaves it.

A file counts as done if its header says float32, (T ≥ 1, dim) and its size agrees; any other is made again. Nothing is
ever added to a folder of other features. Runs side by side may share a folder.
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
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.sources.meta import META

FAILURES = "failures.csv"


class Store:
    """An encoder's feature folder: what it holds, and which clips failed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.dim = 0  # known once it is claimed, as is the next
        self.batch_size: int | None = None  # in which the features were encoded; None: it is not on record
        self._on_record: set[str] = set()  # clips, as far as this run has seen

    def __getstate__(self) -> dict:
        """Without what only the process that records needs."""
        return {**self.__dict__, "_on_record": set()}

    def claim(self, encoder: Encoder) -> None:
        """Write meta.json, or see that the folder's own says the same. Removes what killed runs left.

        Raises ValidationError: it holds other features, or the encoder cannot be loaded.
        """
        path = self.folder / META
        if not path.exists():
            if any(self.folder.glob("*.npy")):
                message = f"holds .npy files, but no {META} that says what they are"
                raise ValidationError(
                    Problem("other-features", str(self.folder), message, hint="Choose another output folder.")
                )
            load(encoder)  # only then is it certain how many columns it gives
            write(path, to_json(describe(encoder)), once=True)
        content = read_json(path).data
        meta = content if isinstance(content, dict) else {}
        other = [
            f"{key} {meta.get(key)!r} (expected {own!r})"
            for key, own in identity(encoder).items()
            if meta.get(key) != own
        ]
        if not isinstance(meta.get("dim"), int):
            other.append(f"dim {meta.get('dim')!r} (expected a number)")
        if other:
            message = f"the folder holds features of another kind: {', '.join(other)}"
            raise ValidationError(Problem("other-features", str(path), message, hint="Choose another output folder."))
        before = meta.get("versions", {})
        updated = [name for name, version in versions(encoder).items() if before.get(name) != version]
        if updated:
            print(f"note: {self.folder} was begun with other versions of {', '.join(updated)}", file=sys.stderr)
        self.dim, self.batch_size = meta["dim"], meta.get("batch_size")
        self._on_record = {failure.clip for failure in read_failures(self.folder)}
        for left in self.folder.glob(".*.tmp"):
            with suppress(OSError):  # should it belong to a run beside this one, that run writes it again
                left.unlink()

    def record(self, outcomes: dict[str, Failure | None]) -> None:
        """Put clips' failures on record, and take clips off that have none any more."""
        if not any(outcomes.values()) and self._on_record.isdisjoint(outcomes):
            return
        with self._alone():  # or runs side by side would lose each other's rows
            on_record = {failure.clip: failure for failure in read_failures(self.folder)} | outcomes
            rows = sorted(failure for failure in on_record.values() if failure)
            write(self.folder / FAILURES, csv_text([Failure._fields, *rows]))
        self._on_record = {failure.clip for failure in rows}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other run is in here. Where files cannot be locked, go in all the same."""
        with ExitStack() as stack:
            with suppress(ImportError, OSError):
                import fcntl

                fcntl.lockf(stack.enter_context(open(self.folder / META, "r+b")), fcntl.LOCK_EX)
            yield  # closing the file unlocks it, as does the death of this process


def record_batch_size(folder: Path, batch_size: int) -> None:
    """Put on record that batches are smaller from now on. Raises FileError."""
    meta = read_json(folder / META).data
    write(folder / META, to_json({**(meta if isinstance(meta, dict) else {}), "batch_size": batch_size}))


def save(folder: Path, clip: str, features: np.ndarray) -> None:
    """Write a clip's features. Raises FileError."""
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    write(folder / f"{clip}.npy", content.getvalue())


def write(path: Path, content: bytes | str, once: bool = False) -> None:
    """`write_atomic`, and again where a run that has just begun took the temporary file for that of a dead run.

    `once`: a file that another run was quicker to write stays as it is. Raises FileError.
    """
    for last in (False, False, True):
        try:
            return _write_once(path, content) if once else write_atomic(path, content)
        except FileError as error:
            if last or not isinstance(error.__context__, FileNotFoundError):
                raise


def _write_once(path: Path, content: bytes | str) -> None:
    own = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_atomic(own, content)
    try:
        os.link(own, path)
    except FileExistsError:
        pass
    except FileNotFoundError:  # see `write`
        return _write_once(path, content)
    except OSError:  # a file system without links
        write_atomic(path, content)
    own.unlink(missing_ok=True)


def is_done(folder: Path, clip: str, dim: int) -> bool:
    """Whether a clip's features are there, complete and of the right kind, judged by the header and the size."""
    try:
        features = np.load(Path(folder) / f"{clip}.npy", mmap_mode="r", allow_pickle=False)  # fails where bytes lack
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
    return str(getattr(encoder, "device", "cpu")).startswith("cuda")


def identity(encoder: Encoder) -> dict[str, str]:
    """Features that differ in one of these never mix; how many columns there are follows from them."""
    return {
        "encoder": encoder.name,
        "revision": encoder.fingerprint,
        **{key: getattr(encoder, key) for key in ("preset", "precision", "modality", "unit")},
    }


def versions(encoder: Encoder) -> dict[str, str]:
    """Of the packages behind an encoder's features. Raises ValidationError: one of them is not installed."""
    names = sorted({"av", "numpy", *encoder.packages})
    try:
        return {name: importlib.metadata.version(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        message = f"names the package {error.name}, which is not installed"
        raise ValidationError(Problem("missing-package", f"encoder {encoder.name!r}", message)) from None


def read_failures(folder: Path) -> list[Failure]:
    """The failures on record in a feature folder; none where there is no record.

    Raises ValidationError: the record is not such a table.
    """
    path = Path(folder) / FAILURES
    rows = read_table(path) if path.exists() else []
    if rows and not set(Failure._fields) <= set(rows[0]):
        raise ValidationError(
            Problem(
                "bad-table",
                str(path),
                f"expected the columns {', '.join(Failure._fields)}",
                hint="Delete it: the next run writes it anew.",
            )
        )
    return [Failure(*(row[column] for column in Failure._fields)) for row in rows]


def one_line(*parts: str | None) -> str:
    return ". ".join(" ".join(part.split()) for part in parts if part)


def load(encoder: Encoder) -> None:
    """Load an encoder's weights: a failure here is one of the run, not of its first clip."""
    try:
        encoder.load()
    except BlemoreError:
        raise
    except Exception as error:
        message = one_line(f"{type(error).__name__}: {error}")
        raise ValidationError(Problem("cannot-load", f"encoder {encoder.name!r}", message)) from error
