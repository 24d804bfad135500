"""Where work is done: in this process, in processes of this machine, or on the workers of a dask cluster.

A job is anything that can be pickled and has `load()`, once a process; `job(task)` for a task's outcome; and
`lost(task, reason)` for that of a task which a process died of. An engine gives the outcomes as they become known; an
exception of a job ends the run.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection, get_context, resource_tracker
from typing import NamedTuple

from blemore.errors import BlemoreError, Problem, ValidationError

WINDOW = 2000  # tasks handed to a cluster at a time: it holds millions badly
DIED = "Too little memory, or a fault in a decoder."


def run(
    job, tasks: Sequence, engine: str = "local", workers: int = 1, together: bool = False, scheduler: str | None = None
) -> Iterator:
    """The outcomes of the tasks, in no particular order.

    workers:   tasks at once on this machine
    together:  they share one process (one copy of a model), rather than have one each
    scheduler: the address of a dask scheduler; None: a cluster on this machine

    Raises what the job raises, and ValidationError: processes that die before their first task, no such scheduler.
    """
    if engine == "dask":
        return _on_dask(job, tasks, workers, scheduler)
    if min(workers, len(tasks)) <= 1:
        return _here(job, tasks)
    return _in_processes(job, tasks, *((1, workers) if together else (min(workers, len(tasks)), 1)))


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> None:
    """The libraries that are loaded compute on one thread from now on, if called from this thread.

    torch's results depend on the number of threads in their last bits; and where each task has a core, it is quickest.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)


# ------------------------------------------------------------------------------- this machine


def _here(job, tasks: Sequence) -> Iterator:
    job.load()
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    try:
        yield from map(job, tasks)
    finally:
        if torch:
            torch.set_num_threads(before)


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


class _Worker(NamedTuple):
    process: object
    tasks: list  # what it has in hand
    ready: threading.Event


def _in_processes(job, tasks: Sequence, processes: int, threads: int) -> Iterator:
    """`threads` tasks at once in each of the processes.

    When a process dies, that was the fault of a task that it had in hand. If it had several, they are done again one
    at a time, so that the guilty one is known.
    """
    waiting, suspects, context = deque(tasks), deque(), get_context("spawn")
    running: dict[connection.Connection, _Worker] = {}  # by our end of their pipes

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, job, threads), daemon=True)
        with _interrupts_held():
            process.start()
        theirs.close()  # so that the pipe ends when the process does
        running[ours] = _Worker(process, [], threading.Event())

    def feed(pipe, worker: _Worker) -> None:
        while (suspects or waiting) and len(worker.tasks) < (1 if suspects else threads):
            worker.tasks.append((suspects or waiting).popleft())
            pipe.send(worker.tasks[-1])
        if not worker.tasks:
            pipe.send(None)
            worker.process.join()
            del running[pipe]

    try:
        for _ in range(processes):
            start()
        while running:
            for pipe in connection.wait(list(running)):
                worker = running[pipe]
                try:
                    task, outcome, error = pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    del running[pipe]
                    died = f"its process died (exit code {worker.process.exitcode})"
                    if not worker.ready.is_set():
                        hint = "Is there enough memory for so many workers? Try one."
                        raise ValidationError(
                            Problem("cannot-load", "the encoders", f"{died} before the first clip", hint=hint)
                        ) from None
                    if len(worker.tasks) == 1:
                        yield job.lost(worker.tasks[0], f"{died}. {DIED}")
                    else:
                        suspects.extend(worker.tasks)
                    if suspects or waiting:
                        start()
                    continue
                if error:
                    raise error
                if worker.ready.is_set():
                    worker.tasks.remove(task)
                    yield outcome
                worker.ready.set()
                feed(pipe, worker)
    finally:
        for worker in running.values():
            worker.process.terminate()


def _work(pipe, job, threads: int) -> None:
    """A process's life: load, say so, then tasks in and outcomes out until None comes.

    Sends (task, outcome, error), which is (None, None, None) for being ready.
    """
    sending = threading.Lock()

    def send(task=None, outcome=None, error=None) -> None:
        with sending:
            pipe.send((task, outcome, error))

    def do(task) -> None:
        try:
            send(task, job(task))
        except BlemoreError as error:
            send(error=error)
        except Exception as error:  # it might not cross to another process
            send(error=RuntimeError(f"{type(error).__name__}: {error}"))

    try:
        job.load()
        send()
        with ThreadPoolExecutor(threads) as pool:
            while (task := pipe.recv()) is not None:
                pool.submit(do, task)
    except BlemoreError as error:
        send(error=error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the run itself has ended


# ------------------------------------------------------------------------------- many machines


def _on_dask(job, tasks: Sequence, workers: int, scheduler: str | None) -> Iterator:
    """What a worker that is lost had in hand goes to others; dask gives up a task that was in hand at four such ends.

    It may only have stood beside the guilty one each time, so it is done again with no other; if workers die of it
    then, too, it is lost.
    """
    try:
        from distributed import Client, KilledWorker, LocalCluster, as_completed
    except ImportError:
        raise ValidationError(
            Problem(
                "missing-package",
                "engine dask",
                "the package distributed is not installed",
                hint="pip install 'blemore[cluster]'",
            )
        ) from None
    token, suspects = uuid.uuid4().hex, []
    cluster = None if scheduler else LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    try:
        client = Client(cluster or scheduler, set_as_default=False)
    except OSError as error:
        raise ValidationError(
            Problem(
                "no-scheduler",
                str(scheduler),
                f"no dask scheduler answers there: {error}",
                hint="Expected an address such as tcp://10.0.0.1:8786.",
            )
        ) from None

    def attempt(tasks: Sequence, window: int) -> Iterator:
        """Each task with its future, once that is done; `window` of them at a time."""
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

    try:
        for task, future in attempt(tasks, WINDOW):
            try:
                yield future.result()
            except KilledWorker:
                suspects.append(task)
        for task, future in attempt(suspects, 1):
            try:
                yield future.result()
            except KilledWorker as error:
                yield job.lost(task, f"its workers died, the last one of them {error.last_worker.address}. {DIED}")
    finally:
        client.close()
        if cluster:
            cluster.close()


_loaded: dict[str, object] = {}  # in a worker: the job that it works at, by the run's token
_loading = threading.Lock()


def _work_on_dask(token: str, job, task):
    with _loading:
        if token not in _loaded:
            job.load()
            _loaded.clear()  # one set of models at a time
            _loaded[token] = job
        job = _loaded[token]
    return job(task)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch compute on one thread: quicker for small steps, and the same bytes on any number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_turns(tasks: Sequence[Iterator], workers: int) -> None:
    """Run tasks to their ends, a step of each in turn, on so many threads: all are busy until the last few steps.

    The first error, or an interrupt, ends them all.
    """
    waiting: queue.SimpleQueue[Iterator] = queue.SimpleQueue()
    stopped = threading.Event()
    for one in tasks:
        waiting.put(one)

    def work() -> None:
        while not stopped.is_set():
            try:
                one = waiting.get_nowait()
            except queue.Empty:
                return  # the rest are in the hands of others, who go on with them
            if next(one, _ENDED) is not _ENDED:
                waiting.put(one)

    with ThreadPoolExecutor(max(1, min(workers, len(tasks)))) as pool:
        try:
            for finished in as_completed([pool.submit(work) for _ in range(min(workers, len(tasks)))]):
                finished.result()
        except BaseException:
            stopped.set()
            raise


_ENDED = object()
