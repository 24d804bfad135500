"""The pure-Python packages that travel with the scoring program, which then needs no installed package.

They are a release of jsonschema whose dependencies have no compiled parts. Each file is pinned by its SHA-256; others
are refused.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from blemore.errors import Problem
from blemore.io import read_bytes
from blemore_codabench.bundle import BundleError, unpack

WHEELS = {
    "attrs-25.3.0-py3-none-any.whl": "427318ce031701fea540783410126f03899a97ffc6f61596ad581ac2e40e3bc3",
    "jsonschema-4.17.3-py3-none-any.whl": "a870ad254da1a8ca84b6a2905cac29d265f805acc57af304784962a2aa6508f6",
    "pyrsistent-0.20.0-py3-none-any.whl": "c55acc4733aad6560a7f5f818466631f07efc001fd023f34a6c203f8b6df0f0b",
}


def vendored(wheels: Path | None = None) -> dict[str, bytes]:
    """The files of vendor/, from the wheels in a folder or else fetched with pip.

    Raises BundleError: a wheel is missing, cannot be fetched, or has different content.
    """
    if wheels is not None:
        return _unpacked(wheels)
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder))
        return _unpacked(Path(folder))


def fetch(folder: Path) -> None:
    """Put the wheels into a folder, with pip."""
    pins = "".join("{}=={} --hash=sha256:{}\n".format(*name.split("-")[:2], sha256) for name, sha256 in WHEELS.items())
    requirements = folder / "requirements.txt"
    requirements.write_text(pins, encoding="utf-8")
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--platform=any",
            "--implementation=py",
            "--abi=none",
            "--python-version=3.9",
            "--dest",
            str(folder),
            "--requirement",
            str(requirements),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    requirements.unlink()
    if process.returncode:
        last = (process.stderr.strip() or process.stdout.strip() or "pip said nothing").splitlines()[-1]
        raise BundleError(
            Problem(
                "no-wheels",
                "vendor",
                f"pip could not fetch {', '.join(WHEELS)}: {last}",
                hint="Without a network, fetch these files elsewhere and name their folder with --wheels DIR.",
            )
        )


def _unpacked(folder: Path) -> dict[str, bytes]:
    files, problems = {}, []
    for name, sha256 in WHEELS.items():
        path = folder / name
        if not path.is_file():
            problems.append(
                Problem("no-wheels", str(path), "missing; expected this file", hint=f"Its SHA-256 is {sha256}.")
            )
            continue
        raw = read_bytes(path)
        if hashlib.sha256(raw).hexdigest() != sha256:
            problems.append(
                Problem(
                    "no-wheels",
                    str(path),
                    f"the SHA-256 is {hashlib.sha256(raw).hexdigest()}; expected {sha256}",
                    hint="Fetch it again.",
                )
            )
            continue
        files.update({inside: content for inside, content in unpack(raw, str(path)).items() if _needed(inside)})
    if problems:
        raise BundleError(problems)
    return files


def _needed(name: str) -> bool:
    """Modules, jsonschema's own schemas and licences; no type stubs, no benchmarks."""
    if ".dist-info/" in name:
        return "license" in name.lower() or "copying" in name.lower()
    return name.endswith(".py") and "/benchmarks/" not in name or "/schemas/" in name
