"""Where work is done: in this process, in processes of this machine, or on the workers of a dask cluster.

An engine yields each task's outcome as soon as it is known. An exception that a job raises ends the run.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from multiprocessing import connection, context, get_context, resource_tracker
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from blemore.errors import BlemoreError, Problem, ValidationError

WINDOW = 2000  # tasks handed to a cluster at a time: it holds millions badly
DIED = "Too little memory, or a fault in a decoder."

Task = TypeVar("Task", contravariant=True)
Outcome = TypeVar("Outcome", covariant=True)


class Job(Protocol[Task, Outcome]):
    """What is done with each task. Jobs, tasks and outcomes can be pickled."""

    def load(self) -> None:
        """Get ready: called once in each process, before its first task."""

    def __call__(self, task: Task, /) -> Outcome:
        """Do one task."""

    def lost(self, task: Task, reason: str, /) -> Outcome:
        """The outcome of a task that killed its process."""


def run(
    job: Job[Task, Outcome],
    tasks: Sequence[Task],
    engine: str = "local",
    workers: int = 1,
    together: bool = False,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """The outcomes of the tasks, in no particular order.

    workers:   tasks at once on this machine
    together:  they share one process (one copy of a model), rather than have one each
    scheduler: the address of a dask scheduler; None: a cluster on this machine

    Raises what the job raises, and ValidationError: processes that die before their first task, no such scheduler.
    """
    if engine == "dask":
        return _on_dask(job, tasks, workers, scheduler)
    at_once = min(workers, len(tasks))
    if at_once <= 1:
        return _here(job, tasks)
    return _in_processes(job, tasks, 1, workers) if together else _in_processes(job, tasks, at_once, 1)


# ------------------------------------------------------------------------------- this process


def _here(job: Job[Task, Outcome], tasks: Iterable[Task]) -> Iterator[Outcome]:
    with _interrupts_remembered() as raise_dropped:
        job.load()
        with _threads_restored():
            for task in tasks:
                outcome = job(task)
                raise_dropped()
                yield outcome


@contextmanager
def _interrupts_remembered() -> Iterator[Callable[[], None]]:
    """A function that raises KeyboardInterrupt again where a library has dropped it.

    Python raises it in whatever Python code runs next. That may be code that a library calls to report an error of its
    own, and whose exceptions it ignores: PyAV, compiled by Cython for any version of Python, has such code run at the
    end of every file.
    """
    interrupted = False

    def interrupt(number: int, frame: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def raise_dropped() -> None:
        if interrupted:
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()  # no other may set a handler
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield raise_dropped
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield raise_dropped
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# ------------------------------------------------------------------------------- threads


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> None:
    """The libraries that are loaded compute on one thread from now on, if called from this thread.

    torch's results depend on the number of threads in their last bits; and where each task has a core, it is quickest.
    A library that is not loaded is not needed: loading torch takes seconds.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch compute on one thread: quicker for small steps, and the same bytes on any number of cores."""
    import torch

    with _threads_restored():
        torch.set_num_threads(1)
        yield


@contextmanager
def _threads_restored() -> Iterator[None]:
    """Afterwards torch, where it is loaded, computes on as many threads as before."""
    torch = sys.modules.get("torch")  # not imported: see one_thread
    before = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


_ENDED = object()


def take_turns(tasks: Sequence[Iterator], workers: int) -> None:
    """Run tasks to their ends, a step of each in turn, on so many threads: all are busy until the last few steps.

    The first error, or an interrupt, ends them all.
    """
    waiting: queue.SimpleQueue[Iterator] = queue.SimpleQueue()
    stopped = threading.Event()
    for task in tasks:
        waiting.put(task)

    def work() -> None:
        while not stopped.is_set():
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                return  # the rest are in the hands of others, who go on with them
            if next(task, _ENDED) is not _ENDED:
                waiting.put(task)

    with ThreadPoolExecutor(max(1, min(workers, len(tasks)))) as pool:
        try:
            for finished in as_completed([pool.submit(work) for _ in range(min(workers, len(tasks)))]):
                finished.result()
        except BaseException:
            stopped.set()
            raise


# ------------------------------------------------------------------------------- processes


class _Worker(NamedTuple):
    process: context.SpawnProcess
    in_hand: list[Any]  # tasks


class _Message(NamedTuple):
    """From a worker: a task's outcome or, if it is about no task, that it is ready; or the error that ends the run."""

    task: Any = None
    outcome: Any = None
    error: Exception | None = None


class _Pool(NamedTuple):
    """The workers of a run, and what is left to do."""

    job: Job
    threads: int  # tasks at once in each worker
    waiting: deque[Any]  # tasks
    suspects: deque[Any]  # tasks that had company when their process died: done again, each alone in its process
    workers: dict[connection.Connection, _Worker]  # by our end of their pipes
    loading: set[connection.Connection]  # those of them that are not ready yet

    def start(self) -> None:
        spawn = get_context("spawn")
        pipe, worker_end = spawn.Pipe()
        process = spawn.Process(target=_work, args=(worker_end, self.job, self.threads), daemon=True)
        with _interrupts_held():
            process.start()
        worker_end.close()  # so that the pipe ends when the process does
        self.workers[pipe] = _Worker(process, [])
        self.loading.add(pipe)

    def feed(self, pipe: connection.Connection) -> None:
        """Give a worker what it can take, or let it go."""
        process, in_hand = self.workers[pipe]
        while (self.suspects or self.waiting) and len(in_hand) < (1 if self.suspects else self.threads):
            in_hand.append((self.suspects or self.waiting).popleft())
            pipe.send(in_hand[-1])
        if not in_hand:
            pipe.send(None)
            process.join()
            del self.workers[pipe]

    def hear(self, pipe: connection.Connection) -> Iterator[Any]:
        """Read a worker's message, and give the outcome that is in it or that follows from the worker's death."""
        try:
            task, outcome, error = pipe.recv()
        except (EOFError, OSError):
            yield from self.bury(pipe)
            return
        if error:
            raise error
        if pipe in self.loading:
            self.loading.remove(pipe)
        else:
            self.workers[pipe].in_hand.remove(task)
            yield outcome
        self.feed(pipe)

    def bury(self, pipe: connection.Connection) -> Iterator[Any]:
        """A worker died of a task that it had in hand. If it had several, each of them is a suspect."""
        process, in_hand = self.workers.pop(pipe)
        process.join()
        end = f"its process died (exit code {process.exitcode})"
        if pipe in self.loading:
            hint = "Is there enough memory for so many workers? Try one."
            problem = Problem("cannot-load", "the encoders", f"{end} before the first clip", hint=hint)
            raise ValidationError(problem) from None
        if len(in_hand) == 1:
            yield self.job.lost(in_hand[0], f"{end}. {DIED}")
        else:
            self.suspects.extend(in_hand)
        if self.suspects or self.waiting:
            self.start()


def _in_processes(job: Job[Task, Outcome], tasks: Sequence[Task], processes: int, threads: int) -> Iterator[Outcome]:
    """`threads` tasks at once in each of the processes."""
    pool = _Pool(job, threads, deque(tasks), deque(), {}, set())
    try:
        for _ in range(processes):
            pool.start()
        while pool.workers:
            ready = connection.wait(list(pool.workers))
            for pipe in [pipe for pipe in pool.workers if pipe in ready]:
                yield from pool.hear(pipe)
    finally:
        for worker in pool.workers.values():
            worker.process.terminate()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that are started meanwhile never hear an interrupt, not even while they import; this one does
    afterwards, and ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would let interrupts through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: connection.Connection, job: Job, threads: int) -> None:
    """A process's life: load, say so, then tasks in and messages out until None comes."""
    sending = threading.Lock()

    def send(*message: Any) -> None:
        with sending:
            pipe.send(_Message(*message))

    def do(task: Any) -> None:
        try:
            send(task, job(task))
        except BlemoreError as error:
            send(None, None, error)
        except Exception as error:  # it might not cross to another process
            send(None, None, RuntimeError(f"{type(error).__name__}: {error}"))

    try:
        job.load()
        send()
        with ThreadPoolExecutor(threads) as pool:
            while (task := pipe.recv()) is not None:
                pool.submit(do, task)
    except BlemoreError as error:
        send(None, None, error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the run itself has ended


# ------------------------------------------------------------------------------- many machines


def _on_dask(job: Job[Task, Outcome], tasks: Sequence[Task], workers: int, scheduler: str | None) -> Iterator[Outcome]:
    """What a worker that is lost had in hand goes to others; dask gives up a task that was in hand at four such ends.

    It may only have been beside the guilty one each time, so it is done again with no other; if workers die of it
    then, too, it is lost.
    """
    try:
        from distributed import KilledWorker
    except ImportError:
        message, hint = "the package distributed is not installed", "pip install 'blemore[cluster]'"
        raise ValidationError(Problem("missing-package", "engine dask", message, hint=hint)) from None
    token, suspects = uuid.uuid4().hex, []
    with _client(workers, scheduler) as client:
        for task, future in _futures(client, token, job, tasks, WINDOW):
            try:
                yield future.result()
            except KilledWorker:
                suspects.append(task)
        for task, future in _futures(client, token, job, suspects, 1):
            try:
                yield future.result()
            except KilledWorker as error:
                yield job.lost(task, f"its workers died, the last one of them {error.last_worker.address}. {DIED}")


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A client of the scheduler at this address; None: of a cluster of so many processes on this machine."""
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        cluster = None
        if not scheduler:
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            stack.enter_context(closing(cluster))
        try:
            client = Client(cluster or scheduler, set_as_default=False)
        except OSError as error:
            message, hint = (
                f"no dask scheduler answers there: {error}",
                "Expected an address such as tcp://10.0.0.1:8786.",
            )
            raise ValidationError(Problem("no-scheduler", str(scheduler), message, hint=hint)) from None
        yield stack.enter_context(closing(client))


def _futures(
    client: Any, token: str, job: Job[Task, Outcome], tasks: Iterable[Task], window: int
) -> Iterator[tuple[Task, Any]]:
    """Each task with its future, once that is done; `window` of them at a time."""
    from distributed import as_completed

    futures, waiting, in_hand = as_completed(loop=client.loop), iter(tasks), {}

    def submit(number: int) -> None:
        for task in islice(waiting, number):
            future = client.submit(_work_on_dask, token, job, task, pure=False)
            in_hand[future.key] = task
            futures.add(future)

    submit(window)
    for future in futures:
        yield in_hand.pop(future.key), future
        submit(1)


_loaded: dict[str, Job] = {}  # in a worker: the job that it works at, by the run's token
_loading = threading.Lock()


def _work_on_dask(token: str, job: Job[Task, Outcome], task: Task) -> Outcome:
    with _loading:
        if token not in _loaded:
            job.load()
            _loaded.clear()  # one set of models at a time
            _loaded[token] = job
        job = _loaded[token]
    return job(task)
