"""Aligns the faces of clips with OpenFace 2's program `FeatureExtraction`, as for HiCMAE's training data:
similarity-aligned, not masked, 256 × 256.

The output folder contains:
    <clip>/frame_det_00_000001.png …   a picture per frame; the folder appears once it is complete
    faces.csv                          clip, frames, lost (frames without a face), longest (consecutive lost frames)
    failures.csv                       clip, kind, message; a clip that succeeds later is removed from it

A frame without a face gets the picture of the frame before it; frames before the first face get the first face. No
frame is dropped, so pictures and sound stay in sync.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from blemore.errors import FileError, Problem
from blemore.io import csv_text, read_table, write_atomic
from blemore.labels import VIDEO_SUFFIXES
from blemore_baselines import engines
from blemore_baselines.clips.find import Failure, choose, find_clips
from blemore_baselines.encoders.hicmae import PICTURES
from blemore_baselines.encoders.openface import PROGRAM
from blemore_baselines.extraction.store import FAILURES, read_failures

SIDE = 256  # pixels
TABLE = "faces.csv"
OPTIONS = ("-simalign", "-simsize", str(SIDE), "-nomask", "-nobadaligned", "-format_aligned", "png")


class Row(NamedTuple):
    """A clip's row in faces.csv."""

    clip: str
    frames: int
    lost: int
    longest: int


class Faces(NamedTuple):
    """The result of a run: clips aligned now, clips aligned earlier, and failures."""

    aligned: list[Row]
    skipped: list[str]
    failures: list[Failure]


def align(ids: Collection[str] | None, clips: Path, out: Path, workers: int = 1) -> Faces:
    """Align the faces of the given clips (None: all in the folder `clips`). A stopped run can be continued.

    Raises FileError: the program is not installed, `clips` cannot be read, or `out` cannot be written.
    """
    program = find_program()
    files = find_clips(clips, VIDEO_SUFFIXES)
    names = sorted(files if ids is None else set(ids))
    skipped = [clip for clip in names if (out / clip).is_dir()]
    paths = {clip: choose(clip, files.get(clip, []), "video") for clip in names if not (out / clip).is_dir()}
    failures = [path for path in paths.values() if isinstance(path, Failure)]
    tasks = [(clip, path) for clip, path in paths.items() if isinstance(path, Path)]
    rows, aligned = _read_rows(out / TABLE), []
    for leftover in out.glob(".*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    outcomes = engines.run(Aligning(program, out), tasks, workers=workers)
    for outcome in tqdm(outcomes, desc="faces", total=len(names), initial=len(names) - len(tasks), unit="clip"):
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            aligned.append(outcome)
            rows[outcome.clip] = outcome
            write_atomic(out / TABLE, csv_text([Row._fields, *sorted(rows.values())]))
            _finish(out, outcome.clip)  # only now, so that a clip that is done has its row even after a kill
    latest = {entry.clip: entry for entry in (*read_failures(out), *failures) if not (out / entry.clip).is_dir()}
    if latest or (out / FAILURES).exists():
        write_atomic(out / FAILURES, csv_text([Failure._fields, *sorted(latest.values())]))
    return Faces(sorted(aligned), skipped, sorted(failures))


def find_program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        hint = (
            "Get OpenFace 2.2 from https://github.com/TadasBaltrusaitis/OpenFace (free for academic use), build it and"
            " put its folder on PATH. Faces that were aligned elsewhere work too: one folder per clip, <clip> or"
            " <clip>_aligned, with a picture per frame, sorted by name."
        )
        raise FileError(Problem("no-program", PROGRAM, "OpenFace's program is not on PATH", hint=hint))
    return program


@dataclass
class Aligning:
    """The unit of work: aligns one clip. If that succeeds, its pictures are left for `_finish`."""

    program: str
    out: Path

    def load(self) -> None:
        pass

    def __call__(self, task: tuple[str, Path]) -> Row | Failure:
        clip, path = task
        part = _part(self.out, clip)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        outcome = None
        try:
            outcome = self._align(clip, path, part)
            return outcome
        finally:
            if not isinstance(outcome, Row):
                shutil.rmtree(part, ignore_errors=True)

    def _align(self, clip: str, path: Path, part: Path) -> Row | Failure:
        command = [self.program, "-f", str(path), "-out_dir", str(part), "-of", "clip", *OPTIONS]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if run.returncode:
            lines = (run.stderr.strip() or run.stdout.strip() or "no message").splitlines()
            return Failure(clip, "openface-error", f"{PROGRAM} ended with {run.returncode}: {lines[-1]}")
        return _bridge(clip, part)

    def lost(self, task: tuple[str, Path], reason: str) -> Failure:
        return Failure(task[0], "crashed", reason)


def _part(out: Path, clip: str) -> Path:
    """The folder of a clip that is not done yet."""
    return out / f".{clip}.part"


def _finish(out: Path, clip: str) -> None:
    """Move an aligned clip's pictures to their folder."""
    part = _part(out, clip)
    (part / "clip_aligned").rename(out / clip)
    shutil.rmtree(part, ignore_errors=True)


def _bridge(clip: str, part: Path) -> Row | Failure:
    """Give every frame in the program's table a picture."""
    try:
        has_face = _frames(part / "clip.csv")
    except (OSError, KeyError, ValueError) as error:
        return Failure(clip, "openface-error", f"{PROGRAM} left no table that can be read: {error}")
    pictures = {}
    for path in (part / "clip_aligned").glob("*"):
        digits = re.search(r"(\d+)$", path.stem)
        if digits and path.suffix.lower() in PICTURES:
            pictures[int(digits[1])] = path
    if unknown := sorted(set(pictures) - set(has_face)):
        return Failure(clip, "openface-error", f"there is a picture of frame {unknown[0]}, which is not in its table")
    numbers = sorted(has_face)
    faces = {number: pictures[number] for number in numbers if has_face[number] and number in pictures}
    if not faces:
        return Failure(clip, "no-faces", f"no face in any of {len(numbers):,} frames")
    latest = next(iter(faces.values()))
    for number in numbers:
        latest = faces.get(number, latest)
        if number not in faces:
            if number in pictures:
                pictures[number].unlink()
            shutil.copyfile(latest, latest.with_name(f"frame_det_00_{number:06}{latest.suffix}"))
    runs = [len(list(run)) for is_lost, run in groupby(number not in faces for number in numbers) if is_lost]
    return Row(clip, len(numbers), sum(runs), max(runs, default=0))


def _frames(table: Path) -> dict[int, bool]:
    """Frame number → whether it has a face. KeyError, ValueError: the table is not OpenFace's."""
    reader = csv.DictReader(io.StringIO(table.read_text()), skipinitialspace=True)
    frames = {int(row["frame"]): float(row["success"]) == 1 for row in reader}
    if sorted(frames) != list(range(1, len(frames) + 1)):
        raise ValueError(f"{len(frames):,} rows; expected frames numbered 1, 2, 3, …")
    return frames


def _read_rows(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    rows = read_table(path)
    return {row["clip"]: Row(row["clip"], *(int(row[name]) for name in Row._fields[1:])) for row in rows}
