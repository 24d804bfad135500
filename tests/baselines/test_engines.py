"""Engines: every task has exactly one outcome, whatever happens to the processes."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from jobs import Counting, Noting, broken, counted

from blemore.errors import FileError, ValidationError
from blemore_baselines import engines
from blemore_baselines.engines import processes

# A job whose tasks are numbers. Negative ones kill their process.
SCRIPT = """
import os, sys, time
import numpy as np
from blemore.errors import FileError, Problem
from blemore_baselines import engines
from blemore_baselines.engines import processes

SLOW = 500

class Job:
    def load(self):
        self.loaded = True
    def __call__(self, task):
        assert self.loaded
        if task < 0:
            time.sleep(0.1)
            os.kill(os.getpid(), 9)
        if task == 1000:
            raise FileError(Problem("cannot-write", "there", "the disk is full"))
        time.sleep(0.5 if task == SLOW else 0.01)
        return task
    def lost(self, task, reason):
        return task, reason

class Streaming(Job):
    def __call__(self, task, emit):
        emit("all of it", [np.full(2, task)] * 5)
        return super().__call__(task)

if __name__ == "__main__":
    try:
        events = CALL
        outcomes = [event for event in events if not isinstance(event, processes.Part)]
        print(sorted(outcomes, key=str))
    except Exception as error:
        print(type(error).__name__, error)
"""


def run(tmp_path, tasks, options):
    call, job = ("processes.stream", "Streaming()") if "stream" in options else ("engines.run", "Job()")
    call = f"{call}({job}, {tasks}, {options.removeprefix('stream, ')})"
    (tmp_path / "job.py").write_text(SCRIPT.replace("CALL", call))
    process = subprocess.run([sys.executable, tmp_path / "job.py"], capture_output=True, text=True, timeout=300)
    return process.stdout or process.stderr


@pytest.mark.parametrize("options", ["workers=1", "workers=3", "stream, workers=3", "engine='dask', workers=2"])
def test_each_task_is_done_once(tmp_path, options):
    if "dask" in options:
        pytest.importorskip("distributed")
    assert run(tmp_path, list(range(40)), options) == f"{sorted(range(40), key=str)}\n"


@pytest.mark.parametrize("options", ["workers=3", "stream, workers=3", "stream, workers=1"])
def test_only_deadly_tasks_are_lost(tmp_path, options):
    out = run(tmp_path, [*range(9), -1, *range(9, 12), -2, 12], options)
    reason = "its process died (exit code -9). Likely causes: too little memory, or a fault in a decoder."
    losses = [(task, reason) for task in (-1, -2)]
    assert out == f"{sorted([*range(13), *losses], key=str)}\n"


# One worker does two tasks at a time: the slow task is there each time that the deadly one kills the worker.
TWO_AT_ONCE = """
    engine="dask",
    scheduler=(cluster := __import__("distributed").LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None)).scheduler_address
"""


@pytest.mark.parametrize(
    "tasks, options", [([0, 1, -1, 2, 3], "engine='dask', workers=2"), ([-1, 500, 1], TWO_AT_ONCE)]
)
def test_dask_gives_up_only_deadly_tasks(tmp_path, tasks, options, long):
    pytest.importorskip("distributed")
    if not long:
        pytest.skip("workers restart eight times: with --long")
    out = run(tmp_path, tasks, options)
    rest = str(sorted([task for task in tasks if task >= 0], key=str))[1:]
    assert out.startswith("[(-1, 'its workers died, the last one was tcp://127.0.0.1:") and out.endswith(f", {rest}\n")


@pytest.mark.parametrize("options", ["workers=1", "workers=3", "stream, workers=3", "engine='dask', workers=2"])
def test_an_error_in_a_job_ends_the_run(tmp_path, options):
    if "dask" in options:
        pytest.importorskip("distributed")
    assert run(tmp_path, [0, 1, 1000, 2, 3], options) == "FileError there: the disk is full\n"


@pytest.mark.parametrize("place", ["load", "__call__"])
def test_an_interrupt_that_a_library_swallows_still_ends_the_run(place):
    class Job:
        def load(self):
            self.reach("load")

        def __call__(self, task):
            self.reach("__call__")
            return task

        def reach(self, name):
            if name == place:
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)

    outcomes = []
    with pytest.raises(KeyboardInterrupt):
        outcomes.extend(engines.run(Job(), [1, 2, 3]))
    assert not outcomes
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_scheduler(tmp_path, long):
    pytest.importorskip("distributed")
    if not long:
        pytest.skip("dask tries for half a minute: with --long")
    out = run(tmp_path, [0], "engine='dask', scheduler='tcp://127.0.0.1:9'")
    assert out.startswith("ValidationError tcp://127.0.0.1:9: no dask scheduler answers at this address")


def test_parts_arrive_complete_and_in_order_before_their_outcome():
    limit = processes.SLOT // 8  # numbers that fit into a slot
    sizes = [1, 5, limit, limit + 1, 3, *range(1, 50)]
    events, outcomes = {task: [] for task in (10, 20, 30)}, []
    for event in processes.stream(Counting(sizes), list(events), workers=2):
        if not isinstance(event, processes.Part):
            outcomes.append(event)
            continue
        assert event.task not in outcomes, "the outcome comes last"
        assert event.array.dtype == np.float32 and event.array.shape == (2, sizes[event.label])
        expected = np.arange(sizes[event.label], dtype=np.float32) + event.task
        expected[0] = event.label
        assert np.array_equal(event.array, [expected, -expected])
        events[event.task].append(event.label)
    assert sorted(outcomes) == [10, 20, 30] and all(labels == list(range(len(sizes))) for labels in events.values())


def test_a_process_waits_while_its_slots_are_full(tmp_path):
    path = tmp_path / "sent"
    events = processes.stream(Noting([]), [path], workers=1)
    next(events)
    while not path.exists() or int(path.read_text() or 0) < processes.SLOTS:
        time.sleep(0.01)
    time.sleep(0.2)
    assert int(path.read_text()) == processes.SLOTS
    assert len(list(events)) == 20 and path.read_text() == "20"


def test_iterations_side_by_side():
    calls = [(str(number), partial(counted, number)) for number in (3, 0, 5)]
    assert sorted(processes.side_by_side(calls)) == [0, 0, 1, 1, 2, 2, 3, 4]
    with pytest.raises(FileError, match="the disk is full"):
        list(processes.side_by_side([("one", partial(counted, 1)), ("other", partial(broken, "full"))]))
    with pytest.raises(ValidationError, match=r"other: its process died \(exit code -9\)"):
        list(processes.side_by_side([("other", partial(broken, "dead"))]))
