"""Tasks that take turns on threads: all finish, or the first error ends all."""

import signal
import threading
import time

import pytest

from blemore_baselines.engines import take_turns


def counting(steps, log):
    for step in range(steps):
        time.sleep(0.01)
        log.append(step)
        yield


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_each_task_runs_to_its_end(workers):
    logs = [[] for _ in range(4)]
    take_turns([counting(k, log) for k, log in enumerate(logs)], workers)
    assert [len(log) for log in logs] == [0, 1, 2, 3]
    take_turns([], workers)


def failing():
    yield
    raise ValueError("of no use")


def interrupted():
    yield
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    yield


@pytest.fixture
def interrupts():
    """Interrupts are received even if the tests were started with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("task, error", [(failing, ValueError), (interrupted, KeyboardInterrupt)])
def test_the_first_error_ends_all(task, error, interrupts):
    log = []
    with pytest.raises(error):
        take_turns([task(), counting(300, log)], 2)
    assert len(log) < 300
