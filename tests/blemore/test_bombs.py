"""Malicious archives: the installed command refuses each within 2 s and 200 MB, measured in a process of its own."""

import json
import resource
import struct
import subprocess
import sys
import zipfile

import pytest
from helpers import mapping, zipped

from blemore.evaluate import check

GOOD = json.dumps(mapping({"a": "sad 100"}))
MIB = 2**20
# ru_maxrss would include the parent process; the kernel's own high-water mark starts at zero.
RUN = """
import re, sys
from blemore.cli import main
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def listing(entries):
    """A zip that lists many files and holds none."""
    records = [
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0x21, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
        + b"%07d" % k
        for k in range(entries)
    ]
    raw = b"".join(records)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, len(raw), 0) + struct.pack(
        "<4sLQL", b"PK\x06\x07", 0, len(raw), 1
    )
    return b"PK\x03\x04" + raw + end64 + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(raw), 0, 0)


def claims(raw, size):
    """The same zip with a false size for its last file."""
    changed = bytearray(raw)
    struct.pack_into("<I", changed, raw.rindex(b"PK\x01\x02") + 24, size)
    return bytes(changed)


def link():
    entry = zipfile.ZipInfo("s.json")
    entry.external_attr = 0o120777 << 16
    return zipped([(entry, "/etc/passwd")])


BOMBS = [
    ("a million entries", lambda: listing(1_000_000), "10,000 files"),
    (
        "just too many entries",
        lambda: zipped([("s.json", GOOD), *((f"{k}", "") for k in range(10_000))]),
        "10,000 files",
    ),
    ("blanks", lambda: zipped([("s.json", b" " * (60 * MIB) + b"{}")]), "300-fold"),
    ("empty lists", lambda: zipped([("s.json", b"[" + b"[]," * (20 * MIB) + b"[]]")]), "300-fold"),
    ("beyond the limit", lambda: zipped([("s.json", b" " * (65 * MIB))]), "at most 64 MiB"),
    ("far beyond the limit", lambda: zipped([("s.json", b"0" * (300 * MIB))]), "at most 64 MiB"),
    ("another large file", lambda: claims(zipped([("s.json", GOOD), ("other.bin", b"x")]), 2**31), "when extracted"),
    ("a lie about the size", lambda: claims(zipped([("s.json", b" " * (60 * MIB))]), 10), ""),
    ("stored, too large", lambda: zipped([("s.json", b" " * (64 * MIB))], zipfile.ZIP_STORED), "at most 64 MiB"),
    ("absolute", lambda: zipped([("/etc/s.json", GOOD)]), "absolute"),
    ("absolute, Windows", lambda: zipped([("C:/s.json", GOOD)]), "absolute"),
    ("traversal", lambda: zipped([("../s.json", GOOD)]), "no JSON file"),
    ("deep traversal", lambda: zipped([("a/../../s.json", GOOD)]), "no JSON file"),
    ("a link", link, "not JSON"),
    ("zip in zip", lambda: zipped([("s.json", zipped([("s.json", GOOD)]))]), "not text"),
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("make, words", [pytest.param(*case[1:], id=case[0]) for case in BOMBS])
def test_bombs_are_refused_quickly_in_little_memory(tmp_path, make, words):
    (tmp_path / "s.zip").write_bytes(make())
    cost = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = cost.ru_utime + cost.ru_stime
    result = subprocess.run(
        [sys.executable, "-c", RUN, "--check", tmp_path / "s.zip"], capture_output=True, text=True, timeout=60
    )
    cost = resource.getrusage(resource.RUSAGE_CHILDREN)
    *messages, kilobytes = result.stderr.strip().splitlines()
    assert (
        result.returncode == 1
        and result.stdout == ""
        and words in "\n".join(messages)
        and "Traceback" not in result.stderr
    ), result.stderr
    assert cost.ru_utime + cost.ru_stime - start < 2  # processor time, since the machine may be busy
    assert int(kilobytes) < 200 * 1024


@pytest.mark.parametrize("indent", [None, 8])
def test_honest_zips_are_far_from_the_limits(tmp_path, indent):
    clips = mapping({f"test_{k:06d}.mov": "ang 50.0 hap 50.0" for k in range(20_000)})
    raw = zipped([("s.json", json.dumps({"predictions": clips}, indent=indent))])
    (tmp_path / "s.zip").write_bytes(raw)
    assert len(check(tmp_path / "s.zip")) == 20_000
