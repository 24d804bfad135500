"""Measures time and memory of a Python program as a whole process, from the start of Python to its end.

Run as a script, it measures one program. The peak memory of a process includes that of the process that starts it, so
the latter must be small.
"""

import json
import os
import subprocess
import sys
import time
from typing import NamedTuple


class Run(NamedTuple):
    """wall, cpu: seconds; peak: memory of the program's largest process in MiB; output: what it printed."""

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
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 has reaped it, so Popen must not wait again
    if process.returncode:
        sys.exit(process.returncode)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
