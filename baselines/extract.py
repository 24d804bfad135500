"""Extract features of many clips with one or more encoders. Survives bad clips, crashes and kills.

Each encoder has a folder `OUT/<encoder>/`; `extraction/store.py` describes it. A later run does what is missing. Runs
may share a folder, for the same clips or different ones. On a GPU, clips are encoded together: see
`extraction/gpu.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from blemore.errors import BlemoreError
from blemore.labels import clip_id
from blemore_baselines import engines
from blemore_baselines.clips.find import Failure, choose, demand_clips, find_clips
from blemore_baselines.clips.media import Clip, spellings
from blemore_baselines.clips.streams import Reader, StreamedClip, WatchedClip, share
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.engines.processes import preload
from blemore_baselines.extraction.store import Store, computes_on_gpu, is_done, load, one_line, save


class Summary(NamedTuple):
    """The result of a run for one encoder. Every requested clip is in exactly one of the three lists.

    `done`: encoded in this run; `skipped`: encoded before; `failures`: sorted by clip.
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
    """Encode the clips with these ids (None: all) under the folder `clips` into `out/<encoder.name>/`, per encoder.

    workers:   clips at a time on this machine, one process each; with a GPU, these decode and one process encodes
    shard:     (i, n): every n-th clip, starting from the i-th
    engine:    "local", "dask" or "gpu"; "local" becomes "gpu" if an encoder computes on a GPU
    scheduler: see `engines.run`

    Encoders of one modality share the decoding of a clip. A clip that fails, or even kills its process, is recorded,
    and the others go on. Progress is shown on stderr. Returns one summary per encoder, in the same order.

    Raises ValidationError: none of the clips exists, a folder holds features of another kind, or an encoder cannot be
    loaded.
    FileError: `clips` cannot be read, or features cannot be written (a full disk): finished clips stay done.
    """
    stores = [Store(Path(out) / encoder.name) for encoder in encoders]
    groups: dict[tuple, list[int]] = {}
    for index, encoder in enumerate(encoders):
        groups.setdefault((encoder.modality, encoder.suffixes), []).append(index)
    files = {group: find_clips(clips, group[1]) for group in groups}
    clip_ids = None if ids is None else _clip_ids(ids, files.values())
    demand_clips(clips, {suffixes: paths for (_, suffixes), paths in files.items()}, clip_ids)
    if engine == "local" and any(map(computes_on_gpu, encoders)):
        engine = "gpu"
    run = _runner(engine, workers, scheduler, encoders)
    for store, encoder in zip(stores, encoders):
        is_here = engine == "gpu" or (engine == "local" and workers == 1)
        is_alone = len(getattr(encoder, "devices", ["cpu"])) == 1
        # Claiming can load the model. Keep it only if this process will encode with it.
        store.claim(encoder if is_here and is_alone else copy(encoder))
    summaries: dict[int, Summary] = {}
    for group, indices in groups.items():
        part = sorted(files[group] if clip_ids is None else clip_ids)[shard[0] - 1 :: shard[1]]
        job = Job([encoders[index] for index in indices], [stores[index] for index in indices])
        summaries.update(zip(indices, _extract(job, part, files[group], run)))
    return [summaries[index] for index in range(len(encoders))]


def _clip_ids(names: Collection[str], files: Collection[Mapping[str, list[Path]]]) -> set[str]:
    """The clip ids that these names stand for: a name is an id itself, or a file name with a media suffix."""
    names = {spellings(name)[0] for name in names}
    return {name if any(name in paths for paths in files) else clip_id(name) for name in names}


def _runner(engine: str, workers: int, scheduler: str | None, encoders: Sequence[Encoder]) -> Runner:
    """The function that runs a job. Its processes start importing while this one loads the encoders."""
    modules = {type(encoder).__module__ for encoder in encoders}
    package = __name__.partition(".")[0]
    own_modules = sorted(name for name in modules if name.partition(".")[0] == package)
    if engine == "gpu":
        from blemore_baselines.extraction import gpu

        gpu.demand_devices(encoders)
        preload(gpu.__name__, *own_modules)
        return lambda job, tasks: gpu.run(job, tasks, workers)
    if engine == "local" and workers > 1:
        preload(__name__, *own_modules)
    return lambda job, tasks: engines.run(job, tasks, engine, workers, scheduler)


def _extract(job: Job, clips: list[str], files: dict[str, list[Path]], run: Runner) -> list[Summary]:
    """Encode clips with encoders of one modality."""
    skipped = [{clip for clip in clips if is_done(store.folder, clip, store.dim)} for store in job.stores]
    tasks, outcomes = _plan(clips, files, skipped, job.encoders[0].modality)
    for store, failures, before in zip(job.stores, outcomes, skipped):
        store.record(dict.fromkeys(before) | failures)

    frames, seconds, start = 0, 0.0, time.monotonic()
    names = ", ".join(encoder.name for encoder in job.encoders)
    pause = 0.1 if sys.stderr.isatty() else 30.0  # seconds; in a log, every update adds to the file
    bar = {"total": len(clips), "initial": len(clips) - len(tasks), "desc": names, "unit": "clip"}
    with tqdm(**bar, file=sys.stderr, mininterval=pause) as progress:
        for outcome in run(job, tasks):
            for index, failure in outcome.failures.items():
                job.stores[index].record({outcome.clip: failure})
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
        for store, results, before in zip(job.stores, outcomes, skipped)
    ]


def _plan(
    clips: list[str], files: dict[str, list[Path]], skipped: list[set[str]], modality: str
) -> tuple[list[Task], list[dict[str, Failure | None]]]:
    """The tasks, and for each store the failures that are known before any task runs."""
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
    encoders: tuple[int, ...]  # indices of the job's encoders that have not encoded it yet


class Outcome(NamedTuple):
    clip: str
    failures: dict[int, Failure | None]  # by the encoder's index; None: its features are written
    frames: int = 0  # decoded
    seconds: float = 0.0  # of sound decoded


@dataclass
class Job:
    """The unit of work of every engine: encoders of one modality encode a clip in one pass over its file."""

    encoders: list[Encoder]
    stores: list[Store]

    def load(self) -> None:
        for encoder in self.encoders:
            load(encoder)

    def __call__(self, task: Task) -> Outcome:
        """Raises FileError: features cannot be written, which is not the clip's fault."""
        return read(task, self.encoders[0].modality, lambda index, clip: self.encode(task.clip, index, clip))

    def lost(self, task: Task, reason: str) -> Outcome:
        return Outcome(task.clip, dict.fromkeys(task.encoders, Failure(task.clip, "crashed", reason)))

    def encode(self, name: str, index: int, clip: Clip) -> Failure | None:
        """Encode one clip into one feature file. Returns the failure if the clip cannot be encoded."""
        engines.one_thread()  # features must not depend on how many clips are encoded at a time
        try:
            features = self.encoders[index].encode(clip)
        except Exception as error:  # an encoder's mistake must not stop the other clips
            return failure(name, error)
        save(self.stores[index].folder, name, features)
        return None


Runner = Callable[[Job, Sequence[Task]], Iterator[Outcome]]


def read(task: Task, modality: str, encode: Callable[[int, Clip], Failure | None]) -> Outcome:
    """Decode a clip once for all encoders of the task. `encode` is called with each encoder's index."""
    watched = WatchedClip(task.path)
    if len(task.encoders) == 1 or modality == "audio":  # decoded sound is small, so the clip keeps it
        failures = [encode(index, watched) for index in task.encoders]
    else:
        readers = share(watched.timed_frames(), len(task.encoders))

        def encode_stream(index: int, reader: Reader) -> Failure | None:
            try:
                return encode(index, StreamedClip(task.path, reader))
            finally:
                reader.close()

        with ThreadPoolExecutor(len(readers)) as pool:
            failures = list(pool.map(encode_stream, task.encoders, readers))
    return Outcome(task.clip, dict(zip(task.encoders, failures)), watched.frames_read, watched.seconds_heard)


def failure(clip: str, error: Exception) -> Failure:
    """An encoder's exception as a failure of the clip."""
    if isinstance(error, BlemoreError):
        problem = error.problems[0]
        return Failure(clip, problem.code, one_line(problem.message, problem.hint))
    return Failure(clip, "encoder-error", one_line(f"{type(error).__name__}: {error}"))
