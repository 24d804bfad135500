"""Runs tasks: in this process, in several processes on this machine, or on the workers of a dask cluster.

An engine yields each task's outcome as soon as it is known. An exception in a job ends the run.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from typing import Any, NoReturn, TypeVar

from blemore.errors import Problem, ValidationError
from blemore_baselines.engines.processes import DIED, Job, in_processes

WINDOW = 2000  # tasks handed to a cluster at a time: it holds millions badly

Task = TypeVar("Task", contravariant=True)
Outcome = TypeVar("Outcome", covariant=True)


def run(
    job: Job[Task, Outcome],
    tasks: Sequence[Task],
    engine: str = "local",
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """The outcomes of the tasks, in no particular order.

    workers:   tasks at once on this machine, each in a process of its own
    scheduler: the address of a dask scheduler; None: a cluster on this machine

    Raises what the job raises, and ValidationError: processes that die before their first task, no such scheduler.
    """
    if engine == "dask":
        return _on_dask(job, tasks, workers, scheduler)
    at_once = min(workers, len(tasks))
    return _here(job, tasks) if at_once <= 1 else in_processes(job, tasks, at_once)


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
