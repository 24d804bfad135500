"""Engines: every task has one outcome, whatever becomes of the processes that work at it."""

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

# A job whose tasks are numbers: some kill their process, be it where they run alone or beside others.
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
        found = [one for one in CALL if not isinstance(one, processes.Part)]
        print(sorted(found, key=str))
    except Exception as error:
        print(type(error).__name__, error)
"""


def run(tmp_path, tasks, options):
    call, job = ("processes.stream", "Streaming()") if "stream" in options else ("engines.run", "Job()")
    call = f"{call}({job}, {tasks}, {options.removeprefix('stream, ')})"
    (tmp_path / "job.py").write_text(SCRIPT.replace("CALL", call))
    done = subprocess.run([sys.executable, tmp_path / "job.py"], capture_output=True, text=True, timeout=300)
    return done.stdout or done.stderr


@pytest.mark.parametrize("options", ["workers=1", "workers=3", "stream, workers=3", "engine='dask', workers=2"])
def test_each_task_is_done_once(tmp_path, options):
    if "dask" in options:
        pytest.importorskip("distributed")
    assert run(tmp_path, list(range(40)), options) == f"{sorted(range(40), key=str)}\n"


@pytest.mark.parametrize("options", ["workers=3", "stream, workers=3", "stream, workers=1"])
def test_a_deadly_task_is_found_among_others(tmp_path, options):
    out = run(tmp_path, [*range(9), -1, *range(9, 12), -2, 12], options)
    lost = [(task, "its process died (exit code -9). Too little memory, or a fault in a decoder.") for task in (-1, -2)]
    assert out == f"{sorted([*range(13), *lost], key=str)}\n"


# One worker that does two tasks at once: a slow one beside a deadly one sees every end of the worker that dask counts.
TWO_AT_ONCE = """
    engine="dask",
    scheduler=(cluster := __import__("distributed").LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None)).scheduler_address
"""


@pytest.mark.parametrize(
    "tasks, options", [([0, 1, -1, 2, 3], "engine='dask', workers=2"), ([-1, 500, 1], TWO_AT_ONCE)]
)
def test_dask_gives_a_deadly_task_up_and_no_other(tmp_path, tasks, options, long):
    pytest.importorskip("distributed")
    if not long:
        pytest.skip("workers start again eight times: with --long")
    out = run(tmp_path, tasks, options)
    rest = str(sorted([task for task in tasks if task >= 0], key=str))[1:]
    assert out.startswith("[(-1, 'its workers died, the last one of them tcp://127.0.0.1:") and out.endswith(
        f", {rest}\n"
    )


@pytest.mark.parametrize("options", ["workers=1", "workers=3", "stream, workers=3", "engine='dask', workers=2"])
def test_what_a_job_raises_ends_the_run(tmp_path, options):
    if "dask" in options:
        pytest.importorskip("distributed")
    assert run(tmp_path, [0, 1, 1000, 2, 3], options) == "FileError there: the disk is full\n"


@pytest.mark.parametrize("place", ["load", "__call__"])
def test_an_interrupt_that_a_library_drops_ends_the_run_all_the_same(place):
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
    assert out.startswith("ValidationError tcp://127.0.0.1:9: no dask scheduler answers there")


def test_parts_come_whole_and_in_order_before_their_outcome():
    sizes = [
        1,
        5,
        processes.SLOT // 8,
        processes.SLOT // 8 + 1,
        3,
        *range(1, 50),
    ]  # the fourth is too large to be shared
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


def test_a_process_gets_no_further_ahead_than_its_memory_allows(tmp_path):
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
