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

WINDOW = 2000  # tasks submitted to a cluster at a time: it copes badly with millions

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

    workers:   tasks at a time on this machine, each in its own process
    scheduler: the address of a dask scheduler; None: a cluster on this machine

    Raises what the job raises. Raises ValidationError: a process dies before its first task, or there is no such
    scheduler.
    """
    if engine == "dask":
        return _on_dask(job, tasks, workers, scheduler)
    processes = min(workers, len(tasks))
    return _here(job, tasks) if processes <= 1 else in_processes(job, tasks, processes)


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
    """Gives a function that raises KeyboardInterrupt again if a library has swallowed it.

    Python raises KeyboardInterrupt in whatever Python code runs next. A library may ignore exceptions in that code:
    PyAV, compiled by Cython for any version of Python, runs such code at the end of every file.
    """
    interrupted = False

    def interrupt(number: int, frame: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def raise_dropped() -> None:
        if interrupted:
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()  # only this thread may set a handler
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
    """Make torch and OpenCV compute on one thread from now on, if they are loaded, for calls from this thread.

    The last bits of torch's results depend on the number of threads. One thread is also fastest if each task has a
    core. Libraries that are not loaded are not imported here: torch would take seconds.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Torch computes on one thread in this block: faster for small steps, and the same bytes on any number of cores."""
    import torch

    with _threads_restored():
        torch.set_num_threads(1)
        yield


@contextmanager
def _threads_restored() -> Iterator[None]:
    """After this block, torch computes on as many threads as before."""
    torch = sys.modules.get("torch")  # not imported: see `one_thread`
    before = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


_ENDED = object()


def take_turns(tasks: Sequence[Iterator], workers: int) -> None:
    """Run tasks to their ends on `workers` threads, one step of each in turn. No thread idles until the last steps.

    The first error, or an interrupt, ends all tasks.
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
                return  # other threads finish the remaining tasks
            if next(task, _ENDED) is not _ENDED:
                waiting.put(task)

    with ThreadPoolExecutor(max(1, min(workers, len(tasks)))) as pool:
        try:
            for future in as_completed([pool.submit(work) for _ in range(min(workers, len(tasks)))]):
                future.result()
        except BaseException:
            stopped.set()
            raise


# ------------------------------------------------------------------------------- many machines


def _on_dask(job: Job[Task, Outcome], tasks: Sequence[Task], workers: int, scheduler: str | None) -> Iterator[Outcome]:
    """The tasks of a lost worker go to other workers. Dask gives up a task after four lost workers.

    Such a task may be innocent: another task could have killed the worker each time. So it runs again, alone, and is
    lost only if it kills its workers then, too.
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
                yield job.lost(task, f"its workers died, the last one was {error.last_worker.address}. {DIED}")


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A client of the scheduler at this address; None: of a new cluster of `workers` processes on this machine."""
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        cluster = None
        if not scheduler:
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            stack.enter_context(closing(cluster))
        try:
            client = Client(cluster or scheduler, set_as_default=False)
        except OSError as error:
            message = f"no dask scheduler answers at this address: {error}"
            hint = "Expected an address such as tcp://10.0.0.1:8786."
            raise ValidationError(Problem("no-scheduler", str(scheduler), message, hint=hint)) from None
        yield stack.enter_context(closing(client))


def _futures(
    client: Any, token: str, job: Job[Task, Outcome], tasks: Iterable[Task], window: int
) -> Iterator[tuple[Task, Any]]:
    """Each task with its finished future; at most `window` tasks are submitted at a time."""
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


_loaded: dict[str, Job] = {}  # in a worker: its current job, by the run's token
_loading = threading.Lock()


def _work_on_dask(token: str, job: Job[Task, Outcome], task: Task) -> Outcome:
    with _loading:
        if token not in _loaded:
            job.load()
            _loaded.clear()  # one set of models at a time
            _loaded[token] = job
        job = _loaded[token]
    return job(task)
