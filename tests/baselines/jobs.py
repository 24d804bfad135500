"""The jobs of the tests of engines; other processes import them from here."""

import os
import signal

import numpy as np

from blemore.errors import FileError, Problem


class Counting:
    """Emits one array of each size; its first number is the array's index."""

    def __init__(self, sizes):
        self.sizes = sizes

    def load(self):
        pass

    def __call__(self, task, emit):
        for number, size in enumerate(self.sizes):
            content = np.arange(size, dtype=np.float32) + task
            content[0] = number
            emit(number, [content, -content])
        return task

    def lost(self, task, reason):
        raise AssertionError(reason)


class Noting(Counting):
    """Records how many parts it has sent."""

    def __call__(self, task, emit):
        for number in range(20):
            emit(number, [np.zeros(1)])
            task.write_text(str(number + 1))
        return task


def counted(number):
    yield from range(number)


def broken(fault):
    yield 1
    if fault == "dead":
        os.kill(os.getpid(), signal.SIGKILL)
    raise FileError(Problem("cannot-write", "there", "the disk is full"))
