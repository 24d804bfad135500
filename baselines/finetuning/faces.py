"""Aligned faces of clips by OpenFace 2's program, `FeatureExtraction`, as HiCMAE was trained on: similarity-aligned,
not masked, 256 × 256.

Under the output folder:
    <clip>/frame_det_00_000001.png …   a picture for every frame of the clip, whole or not at all
    faces.csv                          clip, frames, lost (frames without a face), longest (run of them)
    failures.csv                       clip, kind, message; a clip that succeeds later leaves it

A frame in which the program lost the face gets the picture of the frame before it (at the beginning, of the first one
with a face): no frame is left out, so that pictures and sound stay together.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
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
from blemore_baselines.extraction.store import FAILURES, read_failures

PROGRAM = "FeatureExtraction"
SIDE = 256  # pixels
TABLE = "faces.csv"
OPTIONS = ("-simalign", "-simsize", str(SIDE), "-nomask", "-nobadaligned", "-format_aligned", "png")


class Row(NamedTuple):
    """A clip's line in faces.csv."""

    clip: str
    frames: int
    lost: int
    longest: int


class Faces(NamedTuple):
    """What a run came to: clips aligned now, clips that were there already, and clips that failed."""

    aligned: list[Row]
    skipped: list[str]
    failures: list[Failure]


def align(ids: Collection[str] | None, clips: Path, out: Path, workers: int = 1) -> Faces:
    """Write the faces of clips (None: of all that are under the folder `clips`); goes on where it was stopped.

    Raises FileError: the program is not installed, `clips` cannot be read, or nothing can be written.
    """
    program = find_program()
    files = find_clips(clips, VIDEO_SUFFIXES)
    names = sorted(files if ids is None else set(ids))
    skipped = [clip for clip in names if (out / clip).is_dir()]
    paths = {clip: choose(clip, files.get(clip, []), "video") for clip in names if clip not in set(skipped)}
    failures = [path for path in paths.values() if isinstance(path, Failure)]
    tasks = [(clip, path) for clip, path in paths.items() if isinstance(path, Path)]
    rows, aligned = _read_rows(out / TABLE), []
    for leftover in out.glob(".*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tqdm(total=len(names), initial=len(skipped), desc="faces", unit="clip", file=sys.stderr) as progress:
        for outcome in engines.run(Aligning(program, out), tasks, workers=workers):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                aligned.append(outcome)
                rows[outcome.clip] = outcome
                write_atomic(out / TABLE, csv_text([Row._fields, *sorted(rows.values())]))
            progress.update()
    on_record = {one.clip: one for one in (*read_failures(out), *failures) if not (out / one.clip).is_dir()}
    if on_record or (out / FAILURES).exists():
        write_atomic(out / FAILURES, csv_text([Failure._fields, *sorted(on_record.values())]))
    return Faces(sorted(aligned), skipped, sorted(failures))


def find_program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        hint = (
            "Get OpenFace 2.2 from https://github.com/TadasBaltrusaitis/OpenFace (free for academic use), build it and"
            " put the folder of this program on PATH. Faces that were aligned elsewhere serve as well: a folder for"
            " each clip, <clip> or <clip>_aligned, with a picture for every frame, in the order of their names."
        )
        raise FileError(Problem("no-program", PROGRAM, "OpenFace's program is not on PATH", hint=hint))
    return program


@dataclass
class Aligning:
    """The unit of work: a clip's faces, or why there are none."""

    program: str
    out: Path

    def load(self) -> None:
        pass

    def __call__(self, task: tuple[str, Path]) -> Row | Failure:
        clip, path = task
        part = self.out / f".{clip}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            command = [self.program, "-f", str(path), "-out_dir", str(part), "-of", "clip", *OPTIONS]
            run = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if run.returncode:
                lines = (run.stderr.strip() or run.stdout.strip() or "no message").splitlines()
                return Failure(clip, "openface-error", f"{PROGRAM} ended with {run.returncode}: {lines[-1]}")
            outcome = _bridge(clip, part)
            if isinstance(outcome, Row):
                (part / "clip_aligned").rename(self.out / clip)
            return outcome
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def lost(self, task: tuple[str, Path], reason: str) -> Failure:
        return Failure(task[0], "crashed", reason)


def _bridge(clip: str, part: Path) -> Row | Failure:
    """Give every frame a picture, from the program's pictures and its table, which has a row for every frame."""
    try:
        has_face = _frames(part / "clip.csv")
    except (OSError, KeyError, ValueError) as error:
        return Failure(clip, "openface-error", f"{PROGRAM} left no table of frames that can be read: {error}")
    pictures = {}
    for path in (part / "clip_aligned").glob("*"):
        digits = re.search(r"(\d+)$", path.stem)
        if digits and path.suffix.lower() in PICTURES:
            pictures[int(digits[1])] = path
    if unknown := sorted(set(pictures) - set(has_face)):
        return Failure(clip, "openface-error", f"pictures of frames that its table lacks, such as {unknown[0]}")
    whole = [number for number in sorted(has_face) if has_face[number] and number in pictures]
    if not whole:
        return Failure(clip, "no-faces", f"no face in any of {len(has_face):,} frames")
    latest = pictures[whole[0]]
    for number in sorted(has_face):
        if number in whole:
            latest = pictures[number]
        else:
            target = latest.with_name(f"frame_det_00_{number:06}{latest.suffix}")
            if number in pictures and pictures[number] != target:
                pictures[number].unlink()
            shutil.copyfile(latest, target)
    runs = [len(list(run)) for lost, run in groupby(sorted(has_face), lambda number: number not in whole) if lost]
    return Row(clip, len(has_face), sum(runs), max(runs, default=0))


def _frames(table: Path) -> dict[int, bool]:
    """Frame number → whether there is a face. KeyError, ValueError: the table is not OpenFace's."""
    reader = csv.DictReader(io.StringIO(table.read_text()), skipinitialspace=True)
    frames = {int(row["frame"]): float(row["success"]) == 1 for row in reader}
    if sorted(frames) != list(range(1, len(frames) + 1)):
        raise ValueError(f"{len(frames):,} rows; expected the frames 1, 2, 3 and so on")
    return frames


def _read_rows(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    rows = read_table(path)
    return {row["clip"]: Row(row["clip"], *(int(row[name]) for name in Row._fields[1:])) for row in rows}
