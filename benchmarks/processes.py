"""Measures time and memory of a Python program as a whole process, from the start of Python to its end.

Run as a script, it measures one program. The peak memory of a process includes that of the process that starts it, so
the latter must be small.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Run(NamedTuple):
    """wall: seconds until the program ends; cpu: seconds, of all its processes; peak: memory of the largest of them in
    MiB; output: what it printed.
    """

    wall: float
    cpu: float
    peak: float
    output: str


def measure(program: str, *arguments: object) -> Run:
    """Runs a program, given as code, once."""
    command = [sys.executable, __file__, program, *map(str, arguments)]
    process = subprocess.run(command, stdout=subprocess.PIPE)
    if process.returncode:
        sys.exit(f"failed with {process.returncode}")
    return Run(*json.loads(process.stdout))


def _measure(program: str, *arguments: str) -> Run:
    if sys.platform == "linux":  # a server of worker processes outlives the program; it becomes this process's child
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    usages = {}
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=output)
        with suppress(ChildProcessError):  # none is left
            while True:
                pid, status, usages[pid] = os.wait4(-1, 0)
                if pid == process.pid:
                    wall = time.perf_counter() - start
                    process.returncode = os.waitstatus_to_exitcode(status)  # it is reaped; Popen must not wait for it
        if process.returncode:
            sys.exit(process.returncode)
        output.seek(0)
        text = output.read()
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages.values())
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return Run(wall, cpu, max(usage.ru_maxrss for usage in usages.values()) / unit, text)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
