"""Engines: every task has one outcome, whatever becomes of the processes that work at it."""

import signal
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

from blemore_baselines import engines

# A job whose tasks are numbers: some kill their process, be it where they run alone or beside others.
SCRIPT = """
import os, sys, time
from blemore.errors import FileError, Problem
from blemore_baselines import engines

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

if __name__ == "__main__":
    try:
        found = list(engines.run(Job(), TASKS, OPTIONS))
        print(sorted(found, key=str))
    except Exception as error:
        print(type(error).__name__, error)
"""


def run(tmp_path, tasks, options):
    (tmp_path / "job.py").write_text(SCRIPT.replace("TASKS", repr(tasks)).replace("OPTIONS", options))
    done = subprocess.run([sys.executable, tmp_path / "job.py"], capture_output=True, text=True, timeout=300)
    return done.stdout or done.stderr


@pytest.mark.parametrize("options", ["workers=1", "workers=3", "workers=3, together=True", "engine='dask', workers=2"])
def test_each_task_is_done_once(tmp_path, options):
    if "dask" in options:
        pytest.importorskip("distributed")
    assert run(tmp_path, list(range(40)), options) == f"{sorted(range(40), key=str)}\n"


@pytest.mark.parametrize("together", [False, True])
def test_a_deadly_task_is_found_among_others(tmp_path, together):
    out = run(tmp_path, [*range(9), -1, *range(9, 12), -2, 12], f"workers=3, together={together}")
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


@pytest.mark.parametrize("options", ["workers=1", "workers=3", "workers=3, together=True", "engine='dask', workers=2"])
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


def test_gathered_batches_are_full_and_rows_go_back_to_who_asked():
    from blemore_baselines.encoders.torch_encoder import Gathered

    sizes = []

    def encode(items):
        sizes.append({item.shape for item in items})
        if any(item.max() > 900 for item in items):
            raise RuntimeError("too large")
        return np.array([[item.sum()] for item in items]) * (1 if len(items) == 8 else np.nan)

    gathered, results = Gathered(encode, 8), {}

    def clip(number, shape=(2,)):
        items = [np.full(shape, number) for _ in range(5)]
        results[number] = gathered(items).ravel().tolist()

    threads = [threading.Thread(target=clip, args=(number, (2,) if number % 5 else (3,))) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: [number * (2 if number % 5 else 3)] * 5 for number in range(20)}
    assert all(len(shapes) == 1 for shapes in sizes), "items of different shapes do not meet"
    assert len(sizes) < 40, "clips share batches"
    with pytest.raises(RuntimeError, match="too large"):
        gathered([np.full(2, 999)])
    assert gathered([np.full(2, 1)]).tolist() == [[2]], "and it goes on"
