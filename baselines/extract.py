"""Features of many clips by one or more encoders, in a way that survives bad clips, crashes and kills.

What it writes, under `OUT/<encoder>/`:
- `<clip>.npy`: float32 (T, dim), whole or not at all: written under a temporary name and renamed;
- `meta.json`: what the features are (encoder, revision, preset, dim, unit) and with which packages they were made;
- `failures.csv`: `clip,kind,message`, by clip; a clip that succeeds later leaves it.

A later run does what is not done. A file counts as done if its header says float32, (T ≥ 1, dim) and its size
agrees; any other is made anew. Nothing is ever added to a folder that holds other features than those asked for.
Runs side by side may share a folder, be it for the same clips or for others.

A clip's file is found by its id anywhere under the folder of the clips. Where a picture file and a sound file bear the
same id (`x.mov`, `x.wav`), the one of the encoder's own modality is read; any other double is a failure that names
both.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from blemore.errors import BlemoreError, FileError, Problem, ValidationError, some
from blemore.io import csv_text, read_json, read_table, to_json, write_atomic
from blemore.labels import MEDIA_SUFFIXES, SOUND_SUFFIXES, clip_id
from blemore_baselines import engines
from blemore_baselines.clips.media import Clip, spellings
from blemore_baselines.clips.streams import Reader, StreamedClip, WatchedClip, share
from blemore_baselines.encoders.base import Encoder

META, FAILURES = "meta.json", "failures.csv"
TABLE_SUFFIX = ".csv"


class Failure(NamedTuple):
    """A clip without features: `kind` is a stable word (see `media`), `message` says what was found."""

    clip: str
    kind: str
    message: str


class Summary(NamedTuple):
    """What a run came to for an encoder: every id asked for is in exactly one of the three.

    `done`: clips encoded now; `skipped`: done before; `failures`: by clip.
    """

    folder: Path
    done: list[str]
    skipped: list[str]
    failures: list[Failure]


def extract(
    ids: Collection[str] | None,
    clips: Path,
    encoders: Sequence[Encoder],
    out: Path,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
    engine: str = "local",
    scheduler: str | None = None,
) -> list[Summary]:
    """Encode the clips of these ids (None: all), found under the folder `clips`, into `out/<encoder.name>/` each.

    workers:           clips at once on this machine: a process each, or one process where the encoders run on a GPU
    shard:             (i, n): only every n-th clip, from the i-th
    engine, scheduler: see `engines.run`

    Encoders of one modality share one decoding of a clip. A clip that fails, or even kills its process, is recorded
    and the rest goes on. Progress is shown on stderr. One summary an encoder, in their order.

    Raises ValidationError: none of the clips is there, a folder holds features of another kind, or an encoder cannot be
    loaded.
    FileError: `clips` cannot be read, or nothing can be written (a full disk): what is done stays done.
    """
    stores = [Store(Path(out) / encoder.name) for encoder in encoders]
    groups: dict[tuple, list[int]] = {}
    for index, encoder in enumerate(encoders):
        groups.setdefault((encoder.modality, encoder.suffixes), []).append(index)
    files = {group: find_clips(clips, group[1]) for group in groups}
    clip_ids = None if ids is None else _clip_ids(ids, files.values())
    _demand_clips(clips, {suffixes: paths for (_, suffixes), paths in files.items()}, clip_ids)
    for store, encoder in zip(stores, encoders):
        store.claim(copy(encoder))  # what it loads does not stay in this process
    summaries: dict[int, Summary] = {}
    for group, indices in groups.items():
        part = sorted(files[group] if clip_ids is None else clip_ids)[shard[0] - 1 :: shard[1]]
        job = Job([encoders[index] for index in indices], [stores[index].folder for index in indices])
        run = _extract(job, [stores[index] for index in indices], part, files[group], workers, engine, scheduler)
        summaries.update(zip(indices, run))
    return [summaries[index] for index in range(len(encoders))]


def _clip_ids(names: Collection[str], files: Collection[Mapping[str, list[Path]]]) -> set[str]:
    """A file's name is its clip's, once its suffix is gone; so is the id of a file that ends in another suffix."""
    names = {spellings(name)[0] for name in names}
    return {name if any(name in paths for paths in files) else clip_id(name) for name in names}


def _extract(
    job: Job,
    stores: list[Store],
    clips: list[str],
    files: dict[str, list[Path]],
    workers: int,
    engine: str,
    scheduler: str | None,
) -> list[Summary]:
    """By encoders of one modality."""
    skipped = [{clip for clip in clips if is_done(store.folder, clip, store.dim)} for store in stores]
    tasks, outcomes = _plan(clips, files, skipped, job.encoders[0].modality)
    for store, failures, before in zip(stores, outcomes, skipped):
        store.record(dict.fromkeys(before) | failures)

    on_gpu = any(str(getattr(encoder, "device", "cpu")).startswith("cuda") for encoder in job.encoders)
    frames, seconds, start = 0, 0.0, time.monotonic()
    names = ", ".join(encoder.name for encoder in job.encoders)
    pause = 0.1 if sys.stderr.isatty() else 30.0  # seconds; a log keeps every line that is drawn
    bar = {"total": len(clips), "initial": len(clips) - len(tasks), "desc": names, "unit": "clip"}
    with tqdm(**bar, file=sys.stderr, mininterval=pause) as progress:
        for outcome in engines.run(job, tasks, engine, workers, on_gpu, scheduler):
            for index, failure in outcome.failures.items():
                stores[index].record({outcome.clip: failure})
                outcomes[index][outcome.clip] = failure
            frames, seconds = frames + outcome.frames, seconds + outcome.seconds
            amount, unit = (frames, "frames/s") if frames else (seconds, "s of sound/s")
            progress.set_postfix_str(f"{amount / (time.monotonic() - start):.1f} {unit}", refresh=False)
            progress.update()
    return [
        Summary(
            store.folder,
            sorted(clip for clip, failure in results.items() if not failure),
            sorted(before),
            sorted(failure for failure in results.values() if failure),
        )
        for store, results, before in zip(stores, outcomes, skipped)
    ]


def _plan(
    clips: list[str], files: dict[str, list[Path]], skipped: list[set[str]], modality: str
) -> tuple[list[Task], list[dict[str, Failure | None]]]:
    """What is to be done, and for each store the failures that are known before anything is."""
    tasks: list[Task] = []
    outcomes: list[dict[str, Failure | None]] = [{} for _ in skipped]  # by clip; None: encoded now
    for clip in clips:
        indices = tuple(index for index, before in enumerate(skipped) if clip not in before)
        path = choose(clip, files.get(clip, []), modality) if indices else None
        if isinstance(path, Failure):
            for index in indices:
                outcomes[index][clip] = path
        elif path:
            tasks.append(Task(clip, path, indices))
    return tasks, outcomes


# -------------------------------------------------------------------------------- the unit of work


class Task(NamedTuple):
    clip: str
    path: Path
    encoders: tuple[int, ...]  # which of the job's have not encoded it yet


class Outcome(NamedTuple):
    clip: str
    failures: dict[int, Failure | None]  # by encoder; None: its features are written
    frames: int = 0  # decoded
    seconds: float = 0.0  # of sound decoded


@dataclass
class Job:
    """The unit of work of every engine: a clip, by encoders of one modality, in one pass over its file."""

    encoders: list[Encoder]
    folders: list[Path]

    def load(self) -> None:
        for encoder in self.encoders:
            load(encoder)

    def __call__(self, task: Task) -> Outcome:
        """Raises FileError: features cannot be written, which is no fault of the clip."""
        watched = WatchedClip(task.path)

        def encode(index: int, clip: Clip) -> Failure | None:
            return self._encode(task.clip, self.encoders[index], clip, self.folders[index])

        if len(task.encoders) == 1 or self.encoders[0].modality == "audio":  # sound is kept: it takes little
            failures = [encode(index, watched) for index in task.encoders]
        else:
            readers = share(watched.timed_frames(), len(task.encoders))

            def read(index: int, reader: Reader) -> Failure | None:
                try:
                    return encode(index, StreamedClip(task.path, reader))
                finally:
                    reader.close()

            with ThreadPoolExecutor(len(readers)) as pool:
                failures = list(pool.map(read, task.encoders, readers))
        return Outcome(task.clip, dict(zip(task.encoders, failures)), watched.frames_read, watched.seconds_heard)

    def lost(self, task: Task, reason: str) -> Outcome:
        return Outcome(task.clip, dict.fromkeys(task.encoders, Failure(task.clip, "crashed", reason)))

    @staticmethod
    def _encode(name: str, encoder: Encoder, clip, folder: Path) -> Failure | None:
        """One clip to one feature file; gives the failure, if it is one of the clip."""
        engines.one_thread()  # the same features, however many clips are encoded at once
        try:
            features = encoder.encode(clip)
        except BlemoreError as error:
            problem = error.problems[0]
            return Failure(name, problem.code, _one_line(problem.message, problem.hint))
        except Exception as error:  # whatever an encoder does wrong must not stop the other clips
            return Failure(name, "encoder-error", _one_line(f"{type(error).__name__}: {error}"))
        content = io.BytesIO()
        np.save(content, features, allow_pickle=False)
        write(folder / f"{name}.npy", content.getvalue())
        return None


def _one_line(*parts: str | None) -> str:
    return ". ".join(" ".join(part.split()) for part in parts if part)


def load(encoder: Encoder) -> None:
    """Load an encoder's weights: a failure here is one of the run, not of its first clip."""
    try:
        encoder.load()
    except BlemoreError:
        raise
    except Exception as error:
        message = _one_line(f"{type(error).__name__}: {error}")
        raise ValidationError(Problem("cannot-load", f"encoder {encoder.name!r}", message)) from error


# ------------------------------------------------------------------------------ finding the clips


def find_clips(folder: Path, suffixes: tuple[str, ...] = MEDIA_SUFFIXES) -> dict[str, list[Path]]:
    """Every file of these kinds under a folder, by clip id, which is in Unicode's composed form. Links are followed.

    Hidden files are left out: archivers put shadows of clips there.

    Raises FileError: there is no such folder, or it cannot be read.
    """

    def give_up(error: OSError) -> None:
        raise FileError(
            Problem(
                "cannot-open",
                str(error.filename),
                f"cannot be read: {error.strerror}",
                hint="Expected the folder that holds the clips.",
            )
        )

    files: dict[str, list[Path]] = {}
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=give_up, followlinks=True):
        if os.path.realpath(place) in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(os.path.realpath(place))
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                clip = spellings(name.rpartition(".")[0])[0]
                files.setdefault(clip, []).append(Path(place, name))
    return files


def _demand_clips(folder: Path, files: dict[tuple[str, ...], dict[str, list[Path]]], ids: set[str] | None) -> None:
    """ValidationError: there is no clip at all by these suffixes, or none of these ids."""
    problems = []
    for suffixes, clips in files.items():
        if not clips:
            problems.append(
                Problem(
                    "no-clips",
                    str(folder),
                    f"no file in it, or in its subfolders, that ends in {', '.join(suffixes)}",
                    hint="Expected the folder that holds the clips.",
                )
            )
        elif ids is not None and ids.isdisjoint(clips):
            message = (
                f"none of the {len(ids):,} clips wanted is there ({some(sorted(ids))}); found {len(clips):,}"
                f" others ({some(sorted(clips))})"
            )
            problems.append(
                Problem(
                    "missing-clips",
                    str(folder),
                    message,
                    hint="Are those the clips of the other partition, train or test?",
                )
            )
    if problems:
        raise ValidationError(problems)


def choose(clip: str, paths: list[Path], modality: str) -> Path | Failure:
    """The file to read for a clip, or why there is none. Tables come before clips, for encoders that read both."""
    own = [path for path in paths if path.suffix.lower() == TABLE_SUFFIX]
    own = own or [path for path in paths if (path.suffix.lower() in SOUND_SUFFIXES) == (modality == "audio")]
    if len(paths) == 1 or len(own) == 1:
        return (own or paths)[0]
    if not paths:
        return Failure(clip, "missing-file", "no media file of this name under the folder of the clips")
    folder = os.path.commonpath([path.parent for path in own or paths])  # long paths would be cut before they differ
    doubles = sorted(str(path.relative_to(folder)) for path in own or paths)
    message = f"{len(doubles)} files have this name ({some(doubles)}); expected one. Move the others elsewhere."
    return Failure(clip, "ambiguous", message)


# --------------------------------------------------------------------------------- the folder


class Store:
    """An encoder's feature folder: what it holds, and which clips failed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.dim = 0  # known once it is claimed
        self._on_record: set[str] = set()  # clips, as far as this run has seen

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
        self.dim = meta["dim"]
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
    """Whether a clip's features stand there, whole and of the right kind (told without reading them)."""
    try:
        features = np.load(Path(folder) / f"{clip}.npy", mmap_mode="r", allow_pickle=False)  # fails where bytes lack
    except (OSError, ValueError, EOFError):
        return False
    return features.dtype == np.float32 and features.ndim == 2 and features.shape[1] == dim and len(features) > 0


def describe(encoder: Encoder) -> dict:
    """What stands in meta.json: what the features are, and the versions of the packages behind them."""
    about = {key: getattr(encoder, key) for key in ("dim", "weights", "licence")}
    return {**identity(encoder), **about, "versions": versions(encoder)}


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
