"""What a Python program takes, measured as a whole process from the start of Python to its end.

Run as a script, it measures one. A process counts the memory of the one that starts it into its own peak, so that has
to be a small one.
"""

import json
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
    output: str


def measure(program: str, *arguments: object) -> Run:
    """Run a program, given as code, once."""
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
    process.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it: Popen must not look for it again
    if process.returncode:
        sys.exit(process.returncode)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output)


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
