"""Runs tasks in processes on this machine, and yields every outcome even if a process is killed.

A job may also *stream*: send arrays through shared memory while it works on a task.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver, get_context, resource_tracker
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from blemore.errors import BlemoreError, Problem, ValidationError

AHEAD = 2  # tasks in hand per streaming process, so that it need not wait for the next one
SLOTS, SLOT = 3, 2**23  # arrays that a process shares at a time, and the bytes of the largest
DIED = "Likely causes: too little memory, or a fault in a decoder."

# On Linux, processes are forked from one that has imported what they need and done nothing else. On macOS, some system
# libraries do not survive a fork, and Windows has none.
_START = "forkserver" if sys.platform == "linux" else "spawn"

Task = TypeVar("Task", contravariant=True)
Outcome = TypeVar("Outcome", covariant=True)


class Job(Protocol[Task, Outcome]):
    """Does tasks. Jobs, tasks and outcomes must be picklable."""

    def load(self) -> None:
        """Get ready: called once in each process, before its first task."""

    def __call__(self, task: Task, /) -> Outcome:
        """Do one task."""

    def lost(self, task: Task, reason: str, /) -> Outcome:
        """The outcome of a task that killed its process."""


Emit = Callable[[Any, Sequence[np.ndarray]], None]  # a label, and arrays of one shape


class StreamingJob(Protocol[Task, Outcome]):
    """A job whose tasks send arrays while they run, more than memory could hold."""

    def load(self) -> None:
        """Get ready: called once in each process, before its first task."""

    def __call__(self, task: Task, emit: Emit, /) -> Outcome:
        """Do one task. `emit` sends arrays of one shape, under a label, to the consumer of the stream."""

    def lost(self, task: Task, reason: str, /) -> Outcome:
        """The outcome of a task that killed its process. Some of its parts may have been sent before."""


def stream(job: StreamingJob[Task, Outcome], tasks: Sequence[Task], workers: int) -> Iterator[Part | Outcome]:
    """The parts that each task emits, followed by its outcome. Tasks always run in their own processes.

    A process waits while `SLOTS` of its parts are not consumed yet. Raises what the job raises. Raises ValidationError:
    a process dies before its first task.
    """
    return in_processes(job, tasks, min(workers, len(tasks)), streams=True)


def in_processes(job: Job | StreamingJob, tasks: Sequence[Any], processes: int, streams: bool = False) -> Iterator[Any]:
    """The outcomes of tasks and, if the job streams, their parts. Each process does one task at a time."""
    pool = _Pool(job, streams, deque(tasks), {}, set())
    try:
        for _ in range(processes):
            pool.start()
        while pool.workers:
            ready = connection.wait(list(pool.workers))
            for pipe in [pipe for pipe in pool.workers if pipe in ready]:
                yield from pool.receive(pipe)
    finally:
        for worker in pool.workers.values():
            worker.process.terminate()


class _Worker(NamedTuple):
    process: Any  # a process of multiprocessing
    memory: Any  # shared with it; None: its job does not stream
    in_hand: deque[Any]  # tasks, in the order of their execution


class _Message(NamedTuple):
    """From a process: it is ready, a part, an outcome, the error that ends the run, or it has finished."""

    kind: str  # "ready", "part", "outcome", "error" or "end"
    content: Any = None


class _Pool(NamedTuple):
    """The workers of a run, and the tasks that wait."""

    job: Job | StreamingJob
    streams: bool
    waiting: deque[Any]  # tasks
    workers: dict[connection.Connection, _Worker]  # by this process's end of their pipes
    loading: set[connection.Connection]  # pipes of workers that are not ready yet

    def start(self) -> None:
        context: Any = get_context(_START)
        memory = context.RawArray("B", SLOTS * SLOT) if self.streams else None
        pipe, worker_end = context.Pipe()
        process = context.Process(target=_work, args=(worker_end, self.job, memory, dict(os.environ)), daemon=True)
        with _interrupts_held():
            process.start()
        worker_end.close()  # the pipe then ends when the process does
        self.workers[pipe] = _Worker(process, memory, deque())
        self.loading.add(pipe)

    def feed(self, pipe: connection.Connection) -> None:
        """Give a worker as many tasks as it takes, or end it if none is left."""
        worker = self.workers[pipe]
        try:
            while self.waiting and len(worker.in_hand) < (AHEAD if self.streams else 1):
                pipe.send(self.waiting[0])
                worker.in_hand.append(self.waiting.popleft())
            if not worker.in_hand:
                pipe.send(None)
                worker.process.join()
                del self.workers[pipe]
        except ConnectionError:
            pass  # it has died; `receive` notices

    def receive(self, pipe: connection.Connection) -> Iterator[Any]:
        """Read a worker's message. Yields the part or outcome in it or, if the worker died, the outcome of its task."""
        try:
            kind, content = pipe.recv()
        except (EOFError, OSError):
            yield from self.handle_death(pipe)
            return
        if kind == "error":
            raise content
        if kind == "part":
            worker = self.workers[pipe]
            yield Part(worker.in_hand[0], content.label, content.array(worker.memory))
            if content.slot >= 0:
                with suppress(ConnectionError):  # it has died; the next call notices
                    pipe.send(_Free(content.slot))
            return
        if kind == "ready":
            self.loading.remove(pipe)
        else:
            self.workers[pipe].in_hand.popleft()
            yield content
        self.feed(pipe)

    def handle_death(self, pipe: connection.Connection) -> Iterator[Any]:
        """A worker died: the first task that it had in hand is lost, and the others wait again."""
        worker = self.workers.pop(pipe)
        worker.process.join()
        end = f"its process died (exit code {worker.process.exitcode})"
        if pipe in self.loading:
            hint = "Is there enough memory for this many workers? Try --workers 1."
            problem = Problem("cannot-load", "the encoders", f"{end} before the first clip", hint=hint)
            raise ValidationError(problem) from None
        self.waiting.extendleft(reversed(list(worker.in_hand)[1:]))
        if worker.in_hand:
            yield self.job.lost(worker.in_hand[0], f"{end}. {DIED}")
        if self.waiting:
            self.start()


def preload(*modules: str) -> None:
    """Start importing modules in the background, once for all processes of this run and later ones.

    Without effect where processes are not forked: there, each process imports what it needs.
    """
    if _START == "forkserver":
        with _interrupts_held():
            get_context(_START).set_forkserver_preload(list(modules))
            forkserver.ensure_running()


def side_by_side(iterations: Sequence[tuple[str, Callable[[], Iterator[Outcome]]]]) -> Iterator[Outcome]:
    """Everything that these iterations yield. Each has a name, runs in its own process, and may start other processes.

    Raises what an iteration raises. Raises ValidationError, with the iteration's name: its process dies.
    """
    context, runs = get_context("spawn"), {}
    try:
        for name, iteration in iterations:
            pipe, worker_end = context.Pipe(duplex=False)
            process = context.Process(target=_iterate, args=(worker_end, iteration))
            with _interrupts_held():
                process.start()
            worker_end.close()  # the pipe then ends when the process does
            runs[pipe] = name, process
        while runs:
            ready = connection.wait(list(runs))
            for pipe in [pipe for pipe in runs if pipe in ready]:
                name, process = runs[pipe]
                try:
                    kind, content = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    message = f"its process died (exit code {process.exitcode}). {DIED}"
                    raise ValidationError(Problem("crashed", name, message)) from None
                if kind == "error":
                    raise content
                if kind == "end":
                    del runs[pipe]
                else:
                    yield content
    finally:
        for _, process in runs.values():
            process.terminate()


def _iterate(pipe: connection.Connection, iteration: Callable[[], Iterator[Any]]) -> None:
    """The main function of a process of `side_by_side`."""
    with suppress(ConnectionError):  # the run itself has ended
        try:
            for outcome in iteration():
                pipe.send(_Message("outcome", outcome))
            pipe.send(_Message("end"))
        except Exception as error:
            pipe.send(_Message("error", _portable(error)))


def _portable(error: Exception) -> Exception:
    """The error in a form that can be sent to another process."""
    return error if isinstance(error, BlemoreError) else RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start in this block never receive an interrupt, not even while they import.

    This process receives it after the block, and ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: connection.Connection, job: Any, memory: Any, environment: dict[str, str]) -> None:
    """The main function of a worker: load, say so, then do tasks until None comes.

    environment: of the process that started the run. A forked process has that of the time when the first run began.
    """
    os.environ.update(environment)
    channel = _Channel(pipe, memory)
    try:
        job.load()
        channel.send("ready")
        while (task := channel.next_task()) is not None:
            channel.send("outcome", job(task, channel.emit) if memory is not None else job(task))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        pass  # the run itself has ended
    except Exception as error:
        channel.send("error", _portable(error))


# ------------------------------------------------------------------------------- streams of arrays


class Part(NamedTuple):
    """What a streaming job emitted. `array` is overwritten when the next part is read."""

    task: Any
    label: Any
    array: np.ndarray


class _Free(NamedTuple):
    """To a worker: it may write to this slot again."""

    slot: int


class _Shared(NamedTuple):
    """A part in transit: its array is in a slot of the shared memory or, if too large for one, in `content`."""

    label: Any
    slot: int  # -1: none
    dtype: str
    shape: tuple[int, ...]
    content: np.ndarray | None = None

    def array(self, memory: Any) -> np.ndarray:
        if self.content is not None:
            return self.content
        size = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return np.frombuffer(memory, np.uint8, size, self.slot * SLOT).view(self.dtype).reshape(self.shape)


class _Channel:
    """A worker's end: tasks and freed slots come in, in any order; messages go out, from any thread."""

    def __init__(self, pipe: connection.Connection, memory: Any):
        self._pipe, self._memory = pipe, memory
        self._lock = threading.Lock()
        self._tasks: deque[Any] = deque()
        self._free = list(range(SLOTS))

    def send(self, kind: str, content: Any = None) -> None:
        self._pipe.send(_Message(kind, content))

    def next_task(self) -> Any:
        while not self._tasks:
            self._receive()
        return self._tasks.popleft()

    def emit(self, label: Any, items: Sequence[np.ndarray]) -> None:
        """Send items of one shape as one array. Waits for a free slot."""
        dtype, shape = items[0].dtype.str, (len(items), *items[0].shape)
        with self._lock:
            if sum(item.nbytes for item in items) > SLOT:
                self.send("part", _Shared(label, -1, dtype, shape, np.stack(items)))
                return
            while not self._free or self._pipe.poll():
                self._receive()
            part = _Shared(label, self._free.pop(), dtype, shape)
            np.stack(items, out=part.array(self._memory))
            self.send("part", part)

    def _receive(self) -> None:
        message = self._pipe.recv()
        if isinstance(message, _Free):
            self._free.append(message.slot)
        else:
            self._tasks.append(message)
