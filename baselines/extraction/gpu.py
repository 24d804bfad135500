"""Extraction on a GPU: several processes decode the clips, and one process per GPU encodes them.

    clips → frames → items          │ items of any clips → full batches → GPU → rows per clip │ → files
    processes (--workers), on CPUs  │ this process                                            │ threads

An item is one input of a model, small and mostly uint8, made by the encoder's `items`. It travels in shared memory,
is copied to the GPU while the previous batch is encoded, and is normalised there. All batches of one item shape have
the same size; a partial batch is filled with copies of its last item, so the arithmetic on an item does not depend on
its neighbours. Whole sounds differ in length: several hundred are sorted by length to make each batch nearly even.

Compared with engines that encode one clip at a time, only the speed differs. Files, failures, kills and restarts work
the same, and rows are equal up to rounding. Encoders without a torch model run in the process that decodes the clip.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from blemore.errors import Problem, ValidationError
from blemore_baselines import engines
from blemore_baselines.clips.find import Failure
from blemore_baselines.clips.media import SAMPLE_RATE, Clip
from blemore_baselines.encoders.base import Encoder, is_gpu
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.engines import processes
from blemore_baselines.extract import Job, Outcome, Task, failure, read
from blemore_baselines.extraction.store import load, record_batch_size, save

IN_FLIGHT = 2  # batches that the GPU has yet to finish while the next one is filled
WRITERS = 8  # threads; they mostly wait for the disk
SORTED_TOGETHER = 8  # batches of sounds
LONG = 10 * SAMPLE_RATE  # samples; if sounds are longer on average, fewer are sorted together
SHAPES = 8  # different item shapes collected at a time


def demand_devices(encoders: Sequence[Encoder]) -> None:
    """Raises ValidationError: an encoder names a GPU that this machine does not have."""
    count = torch.cuda.device_count()
    for device in sorted({device for encoder in encoders for device in getattr(encoder, "devices", ())}):
        if is_gpu(device) and (torch.device(device).index or 0) >= count:
            gpus = ", ".join(f"cuda:{number}" for number in range(count))
            message = (
                f"PyTorch finds only {gpus}; expected one of these" if gpus else "PyTorch finds no GPU; expected cpu"
            )
            hint = None if gpus else "Is the driver installed, and is this a build of PyTorch for CUDA?"
            raise ValidationError(Problem("no-device", f"device {device}", message, hint=hint))


def run(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """Yield the outcome of each task once its features are written, in no particular order.

    workers: processes that decode, in total for all GPUs

    Raises FileError: features cannot be written; ValidationError: an encoder cannot be loaded, or a GPU's process died.
    """
    devices = next((encoder.devices for encoder in job.encoders if isinstance(encoder, TorchEncoder)), ("cpu",))
    if not tasks:
        return iter(())
    if len(devices) == 1:
        return encode(job, tasks, workers)
    share = max(1, workers // len(devices))
    return processes.side_by_side(
        [
            (device, partial(encode, on(job, device), tasks[number :: len(devices)], share))
            for number, device in enumerate(devices)
        ]
    )


def on(job: Job, device: str) -> Job:
    """The same job with its models on `device`."""
    encoders = [encoder.on(device) if isinstance(encoder, TorchEncoder) else encoder for encoder in job.encoders]
    return Job(encoders, job.stores)


def encode(job: Job, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """As `run`, on the encoders' one device."""
    batched = {index: encoder for index, encoder in enumerate(job.encoders) if isinstance(encoder, TorchEncoder)}
    decoding = Decoding(job, batched)
    for encoder in batched.values():
        load(encoder)
    with ThreadPoolExecutor(WRITERS) as pool:
        encoding = Encoding(decoding, pool)
        try:
            for event in processes.stream(decoding, tasks, workers):
                if isinstance(event, processes.Part):
                    encoding.add(event.task.clip, event.label, event.array)
                else:
                    encoding.end(event)
                yield from encoding.written()
            encoding.finish()
            yield from encoding.written(wait=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


# ----------------------------------------------------------------------------- in the processes that decode


class Decoding(NamedTuple):
    """The job of a process that decodes: a clip to items for the `batched` encoders, and to features of the others."""

    job: Job
    batched: dict[int, TorchEncoder]  # by index in the job

    def load(self) -> None:
        for index, encoder in enumerate(self.job.encoders):
            if index not in self.batched:
                load(encoder)

    def __call__(self, task: Task, emit: processes.Emit) -> Outcome:
        """In the outcome, an encoder that was sent all its items has no failure."""

        def send(index: int, clip: Clip) -> Failure | None:
            if index not in self.batched:
                return self.job.encode(task.clip, index, clip)
            engines.one_thread()
            try:
                for chunk in chunks(self.batched[index].items(clip)):
                    emit(index, chunk)
            except Exception as error:  # an encoder's mistake must not stop the other clips
                return failure(task.clip, error)
            return None

        return read(task, self.job.encoders[0].modality, send)

    def lost(self, task: Task, reason: str) -> Outcome:
        return self.job.lost(task, reason)


def chunks(items: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Consecutive items of one shape, as many as can be sent together."""
    chunk: list[np.ndarray] = []
    for item in items:
        if chunk and (item.shape != chunk[0].shape or (len(chunk) + 1) * item.nbytes > processes.SLOT):
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk


# ----------------------------------------------------------------------------- in the process that encodes


@dataclass
class Rows:
    """The rows of a clip from one encoder, which arrive batch by batch."""

    clip: str
    parts: dict[int, np.ndarray] = field(default_factory=dict)  # by item number
    count: int = 0  # items
    error: Exception | None = None  # raised while encoding them

    def are_missing(self) -> bool:
        return self.error is None and len(self.parts) < self.count


class Entry(NamedTuple):
    """An item, and where its rows belong."""

    rows: Rows
    number: int
    item: torch.Tensor


@dataclass
class OpenClip:
    """A clip whose rows are not complete yet."""

    rows: dict[int, Rows] = field(default_factory=dict)  # by the encoder's index
    outcome: Outcome | None = None  # of decoding; None: more items may come


@dataclass
class Lane:
    """One encoder's items that wait for a batch, by shape; sounds, which differ in length, wait together."""

    index: int
    encoder: TorchEncoder
    size: int  # items per batch
    waiting: dict[tuple[int, ...], list[Entry]] = field(default_factory=dict)

    def add(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        """Add items of one shape; yield the batches that are now full."""
        shape = tuple(entries[0].item.shape) if self.encoder.has_one_shape else ()
        waiting = self.waiting.setdefault(shape, [])
        waiting += entries
        if not self.encoder.has_one_shape:
            samples = sum(entry.item.numel() for entry in waiting)
            if len(waiting) >= SORTED_TOGETHER * self.size or samples >= SORTED_TOGETHER * self.size * LONG:
                yield from self.flush()
            return
        while len(waiting) >= self.size:
            batch, waiting[: self.size] = waiting[: self.size], []
            yield batch
        if len(self.waiting) > SHAPES:
            yield from self.batches(self.waiting.pop(next(iter(self.waiting))))

    def flush(self) -> Iterator[list[Entry]]:
        """Yield all waiting items in batches."""
        while self.waiting:
            yield from self.batches(self.waiting.popitem()[1])

    def batches(self, entries: list[Entry]) -> Iterator[list[Entry]]:
        if not self.encoder.has_one_shape:
            entries = sorted(entries, key=lambda entry: entry.item.numel())
        rest = iter(entries)
        yield from iter(lambda: list(islice(rest, self.size)), [])


class Flight(NamedTuple):
    """A batch that was sent to the GPU."""

    entries: list[Entry]
    lengths: list[int]  # rows of each entry
    rows: torch.Tensor  # (all rows, dim) in this process's memory; complete after `event`
    event: torch.cuda.Event | None  # None: complete

    def has_landed(self) -> bool:
        return self.event is None or self.event.query()


class Encoding:
    """Items in, files out: the items that wait for a batch, the batches on the GPU, and the files being written."""

    def __init__(self, decoding: Decoding, pool: ThreadPoolExecutor):
        self._job, self._pool = decoding.job, pool
        sizes = [store.batch_size for store in self._job.stores]  # recorded by earlier runs
        self._lanes = {
            index: Lane(index, encoder, sizes[index] or encoder.batch_size)
            for index, encoder in decoding.batched.items()
        }
        self._clips: dict[str, OpenClip] = {}
        self._flights: deque[Flight] = deque()
        self._writing: deque[Future[Outcome]] = deque()

    def add(self, name: str, index: int, array: np.ndarray) -> None:
        """Add items of a clip. They are copied."""
        rows = self._clips.setdefault(name, OpenClip()).rows.setdefault(index, Rows(name))
        first = rows.count
        rows.count += len(array)
        items = torch.from_numpy(array.copy())
        for batch in self._lanes[index].add([Entry(rows, first + n, item) for n, item in enumerate(items)]):
            self._encode(self._lanes[index], batch)

    def end(self, outcome: Outcome) -> None:
        """Decoding of a clip has ended: no more of its items will come."""
        self._clips.setdefault(outcome.clip, OpenClip()).outcome = outcome
        self._write_if_whole(outcome.clip)

    def finish(self) -> None:
        """Encode all waiting items."""
        for lane in self._lanes.values():
            for batch in lane.flush():
                self._encode(lane, batch)
        self._land(0)

    def written(self, wait: bool = False) -> Iterator[Outcome]:
        """Outcomes of clips whose files are written; `wait`: wait for those that are being written."""
        while self._flights and self._flights[0].has_landed():
            self._land(len(self._flights) - 1)
        many = len(self._writing) > 4 * WRITERS  # wait for one then, or features pile up in front of a slow disk
        for number in range(len(self._writing)):
            future = self._writing.popleft()
            if wait or future.done() or (many and number == 0):
                yield future.result()
            else:
                self._writing.append(future)

    # ---------------------------------------------------------------- batches

    def _encode(self, lane: Lane, batch: list[Entry]) -> None:
        """Send a batch to the GPU. If that fails, encode its clips separately; those that fail again are failures."""
        error = None
        try:
            self._flights.append(self._send(lane, batch))
        except Exception as raised:
            error = raised.with_traceback(None)  # the traceback's frames would hold on to GPU memory
        if isinstance(error, torch.OutOfMemoryError) and lane.size > 1:
            self._halve(lane)
            for part in lane.batches(batch):
                self._encode(lane, part)
        elif error:
            clips = {id(entry.rows): entry.rows for entry in batch}
            for rows in clips.values():
                if len(clips) == 1:
                    self._fail(rows, error)
                else:
                    self._encode(lane, [entry for entry in batch if entry.rows is rows])
        self._land(IN_FLIGHT)

    def _send(self, lane: Lane, batch: list[Entry]) -> Flight:
        items = [entry.item for entry in batch]
        if lane.encoder.has_one_shape:
            items += items[-1:] * (lane.size - len(items))
        parts = lane.encoder.encode_batch(items)[: len(batch)]
        rows, event = torch.cat(parts), None
        if rows.is_cuda:
            rows = torch.empty(rows.shape, pin_memory=True).copy_(rows, non_blocking=True)
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(parts[0].device))
        return Flight(batch, [len(part) for part in parts], rows, event)

    def _halve(self, lane: Lane) -> None:
        self._land(0)
        lane.size //= 2
        name = lane.encoder.name
        print(f"note: {name}: the GPU ran out of memory; batches now have {lane.size} items", file=sys.stderr)
        record_batch_size(self._job.stores[lane.index].folder, lane.size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _land(self, most: int) -> None:
        """Fetch rows from the GPU until at most `most` batches are left there."""
        while len(self._flights) > most:
            flight = self._flights.popleft()
            if flight.event:
                flight.event.synchronize()
            parts = flight.rows.split(flight.lengths)
            for entry, part in zip(flight.entries, parts):
                entry.rows.parts[entry.number] = part.numpy().copy()
            for name in dict.fromkeys(entry.rows.clip for entry in flight.entries):
                self._write_if_whole(name)

    def _fail(self, rows: Rows, error: Exception) -> None:
        rows.error = error
        self._write_if_whole(rows.clip)

    # ------------------------------------------------------------------ files

    def _write_if_whole(self, name: str) -> None:
        """Start writing a clip's features once all its rows have arrived."""
        clip = self._clips.get(name)
        if clip is None or clip.outcome is None:
            return
        if any(rows.are_missing() for index, rows in clip.rows.items() if clip.outcome.failures[index] is None):
            return
        del self._clips[name]
        self._writing.append(self._pool.submit(self._write, clip.outcome, clip.rows))

    def _write(self, outcome: Outcome, rows: dict[int, Rows]) -> Outcome:
        failures = dict(outcome.failures)
        for index in self._lanes:
            if index in failures and failures[index] is None:
                failures[index] = self._write_features(outcome.clip, index, rows.get(index, Rows(outcome.clip)))
        return outcome._replace(failures=failures)

    def _write_features(self, name: str, index: int, rows: Rows) -> Failure | None:
        encoder = self._job.encoders[index]
        try:
            if rows.error:
                raise rows.error
            features = encoder.checked(np.concatenate([rows.parts[number] for number in range(rows.count)]), name)
        except Exception as error:  # as in `Job.encode`
            return failure(name, error)
        save(self._job.stores[index].folder, name, features)
        return None
