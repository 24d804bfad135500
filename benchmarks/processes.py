"""What a Python program takes, measured as a whole process from the start of Python to its end."""

import os
import subprocess
import sys
import time
from typing import NamedTuple


class Run(NamedTuple):
    """wall, cpu: seconds; peak: memory of the largest of its processes in MiB; output: what it printed."""

    wall: float
    cpu: float
    peak: float
    output: bytes


def measure(program: str, *arguments: object) -> Run:
    """Run a program, given as code, once."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it: Popen must not look for it again
    if process.returncode:
        sys.exit(f"failed with {process.returncode}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output)
