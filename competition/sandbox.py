"""Runs a participant's command where it cannot reach this machine.

The platform runs such a command in a container. Here util-linux's unshare gives it namespaces of its own: it sees the
system's programs, read-only, and its own two folders at /app, but no network, no other process and no other file, and
so no labels. Only Linux has such namespaces, and some systems forbid them to users.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SETUP = r"""
set -e
root=$1 program=$2 output=$3 prefix=$4 ready=$5
shift 5
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p app/program app/output tmp dev proc old
for folder in /usr /bin /sbin /lib /lib32 /lib64 "$prefix"; do
    if [ -L "$folder" ]; then
        cp -P "$folder" ".$folder"
    elif [ -d "$folder" ] && [ ! -d ".$folder" ]; then
        mkdir -p ".$folder"
        mount --bind "$folder" ".$folder"
        mount -o remount,bind,ro ".$folder"
    fi
done
mount --bind "$program" app/program
mount --bind "$output" app/output
for device in null zero random urandom; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount -t proc proc proc || true
: > "$ready"
pivot_root . old
cd /
umount -l old
cd /app/program
# An inner user namespace: there, the command is nobody, who can neither mount nor change mounts.
exec unshare --user --mount -- "$@"
"""


class NoSandbox(Exception):
    """This machine cannot run a sandbox."""


def run(
    words: Sequence[str], program: Path, output: Path, log: Path, time_limit: float, python: str = sys.executable
) -> int | None:
    """The exit code of a command that runs in `program` and may write to `output`; None: it took too long.

    log: an empty folder for the command's stdout.txt and stderr.txt. The command may leave anything in `output`, even
    links to this machine's files. Raises NoSandbox.
    """
    unshare = shutil.which("unshare")
    if unshare is None or not sys.platform.startswith("linux"):
        raise NoSandbox
    ready, root = log / "sandbox_ready", log / "sandbox"
    root.mkdir()
    prefix = Path(python).resolve().parent.parent
    outer = [unshare, "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"]
    places = map(str, (root, program, output, prefix, ready))
    environment = {"PATH": f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp"}
    try:
        code = capture([*outer, "--", "/bin/sh", "-c", SETUP, "sh", *places, *words], log, environment, time_limit)
    except OSError:
        raise NoSandbox from None
    if code is not None and not ready.exists():
        raise NoSandbox
    return code


def capture(
    argv: Sequence[str], log: Path, environment: Mapping[str, str], time_limit: float, folder: Path | None = None
) -> int | None:
    """Run a command in `folder`, and write its output to stdout.txt and stderr.txt in `log`.

    Returns its exit code; None: it took more than `time_limit` seconds. Raises OSError: it cannot be run.
    """
    with open(log / "stdout.txt", "wb") as out, open(log / "stderr.txt", "wb") as err:
        try:
            return subprocess.run(
                argv,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=time_limit,
            ).returncode
        except subprocess.TimeoutExpired:
            return None
