"""Clips, decoded once: small frames and the sound, for all folds and all runs that see them at the same size.

A clip is one file, `DIR/<kind>/<clip>.safetensors`, written whole or not at all, from which the frames of a view are
read without the others. It says from what it was made, by size and time of change: a clip that changed is decoded
again. A kind is what was cut out, at which size, and whether there is sound: `faces-160-sound`, `frames-224`, `sound`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from blemore.errors import BlemoreError, FileError, Problem, ValidationError, some
from blemore.io import write_atomic
from blemore.labels import MEDIA_SUFFIXES, SOUND_SUFFIXES
from blemore.signature import digest
from blemore_baselines import engines
from blemore_baselines.clips.media import SAMPLE_RATE, Clip
from blemore_baselines.encoders.frames import centre
from blemore_baselines.encoders.hicmae import face_files, read_picture, resized
from blemore_baselines.extract import Failure, choose, find_clips
from blemore_baselines.finetuning.family import Stored

PROBED = 50  # clips that the estimate of the size looks into
HINTS = {
    "no-faces": "`blemore-baselines faces` writes them, where OpenFace is installed.",
    "no-audio": "This model needs sound: leave these clips out of the metadata, or fine-tune one that sees alone.",
    "no-video": "This model needs a picture: leave these clips out of the metadata, or fine-tune one that hears alone.",
    "missing-file": "Are those the clips of the other partition, train or test?",
}


class Source(NamedTuple):
    """Where a clip comes from. faces: the folder of all clips' faces; None: the middle of the clip's own frames."""

    clip: str
    path: Path
    faces: Path | None

    @property
    def is_sound(self) -> bool:
        return self.path.suffix.lower() in SOUND_SUFFIXES

    @property
    def identity(self) -> str:
        """What changes when a file of the source does. Raises MediaError: it has no faces."""
        files = [self.path, *(face_files(self.faces, self.clip) if self.faces else [])]
        stats = [(file.name, file.stat()) for file in files]
        return digest(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}" for name, stat in stats)


class Kind(NamedTuple):
    """What of a clip is kept. side: of its frames; None: none."""

    side: int | None
    sound: bool

    def name(self, faces: bool) -> str:
        pictures = "faces" if faces else "frames"
        return "-".join([*[f"{pictures}-{self.side}"] * bool(self.side), *["sound"] * self.sound])

    def decode(self, source: Source) -> Stored:
        """Raises MediaError: the clip cannot be read, or lacks what is needed."""
        clip = Clip(source.path)
        wave = clip.audio() if self.sound else np.zeros(0, np.float32)
        sound = np.clip(np.round(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        if not self.side:
            return Stored(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0, np.int64), sound)
        offset = clip.offset if self.sound and not source.is_sound else 0.0
        if source.faces:
            frames = [resized(read_picture(file), self.side) for file in face_files(source.faces, source.clip)]
            # A sound file does not say when they are shown: evenly, over all of it.
            times = np.arange(len(frames)) * (
                len(sound) / SAMPLE_RATE / len(frames) if source.is_sound else 1 / clip.fps
            )
        else:
            timed = [
                (time, resized(centre(frame, min(frame.shape[:2])), self.side)) for time, frame in clip.timed_frames()
            ]
            times, frames = np.array([time for time, _ in timed]), [frame for _, frame in timed]
        return Stored(np.stack(frames), np.round((times - offset) * SAMPLE_RATE).astype(np.int64), sound)


class Cache(NamedTuple):
    folder: Path

    def file(self, clip: str) -> Path:
        return self.folder / f"{clip}.safetensors"

    def read(self, clip: str) -> Stored:
        """Its frames are read when they are asked for."""
        file = safe_open(self.file(clip), framework="numpy")
        return Stored(file.get_slice("frames"), file.get_tensor("at"), file.get_tensor("sound"))

    def holds(self, clip: str, identity: str) -> bool:
        try:
            with safe_open(self.file(clip), framework="numpy") as file:
                return (file.metadata() or {}).get("source") == identity
        except (OSError, SafetensorError):
            return False


@dataclass
class Decoding:
    """The unit of work: a clip into the cache. Gives the failure, if it is one of the clip."""

    kind: Kind
    cache: Cache

    def load(self) -> None:
        pass

    def __call__(self, source: Source) -> Failure | None:
        try:
            identity, stored = source.identity, self.kind.decode(source)
        except BlemoreError as error:
            return failure(source.clip, error)
        content = save(
            {name: np.ascontiguousarray(part) for name, part in stored._asdict().items()}, {"source": identity}
        )
        write_atomic(self.cache.file(source.clip), content)
        return None

    def lost(self, source: Source, reason: str) -> Failure:
        return Failure(source.clip, "crashed", reason)


def failure(clip: str, error: BlemoreError) -> Failure:
    return Failure(clip, error.problems[0].code, error.problems[0].message)


def find_sources(ids: Sequence[str], clips: Path, faces: Path | None, modality: str) -> list[Source]:
    """The clips' files, in the order of the ids.

    Raises FileError: a folder cannot be read; ValidationError, for every kind of failure: clips without a file, or
    without faces.
    """
    if faces and not faces.is_dir():
        raise FileError(Problem("cannot-open", str(faces), "no such folder", hint="Expected the folder of the faces."))
    files = find_clips(clips, MEDIA_SUFFIXES)
    sources, failures = [], []
    for clip in ids:
        path = choose(clip, files.get(clip, []), modality)
        if isinstance(path, Failure):
            failures.append(path)
            continue
        sources.append(Source(clip, path, faces))
        if faces:
            try:
                face_files(faces, clip)
            except BlemoreError as error:
                failures.append(failure(clip, error))
    demand_none(failures, len(ids), str(faces or clips))
    return sources


def demand_none(failures: Sequence[Failure], count: int, where: str) -> None:
    """ValidationError, a problem for each kind of failure."""
    problems = []
    for kind, group in groupby(sorted(failures, key=lambda one: (one.kind, one.clip)), key=lambda one: one.kind):
        members = list(group)
        message = f"{len(members):,} of {count:,} clips cannot be used ({some([one.clip for one in members])}): "
        problems.append(Problem(kind, where, message + members[0].message, hint=HINTS.get(kind)))
    if problems:
        raise ValidationError(problems)


def fill(kind: Kind, cache: Cache, sources: Sequence[Source], workers: int) -> list[Failure]:
    """Decode what is not in the cache yet, or is there from a file that has changed; clips that failed.

    Raises FileError: there is no room for it, or it cannot be written; what is decoded stays.
    """
    with ThreadPoolExecutor(8) as pool:  # it waits for the disk
        identities = list(pool.map(lambda source: source.identity, sources))
    missing = [one for one, identity in zip(sources, identities) if not cache.holds(one.clip, identity)]
    if not missing:
        return []
    _demand_room(kind, cache, missing)
    outcomes = engines.run(Decoding(kind, cache), missing, workers=workers)
    progress = tqdm(outcomes, desc="decode", total=len(missing), unit="clip")
    return [outcome for outcome in progress if outcome]


def _demand_room(kind: Kind, cache: Cache, sources: Sequence[Source]) -> None:
    """Say how large the cache will be. FileError: there is less room."""
    looked_at = sources[:: max(1, len(sources) // PROBED)]
    sizes = [size for size in map(partial(_size, kind), looked_at) if size]
    cache.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.folder).free
    total = int(np.mean(sizes) * len(sources)) if sizes else 0
    text = f"{len(sources):,} clips to decode, about {total / 1e9:,.2f} GB; {free / 1e9:,.1f} GB are free"
    print(f"cache {cache.folder}: {text}", file=sys.stderr)
    if total > free:
        hint = "Make room on that disk, or name a folder on another one with --cache."
        raise FileError(Problem("disk-full", str(cache.folder), text, hint=hint))


def _size(kind: Kind, source: Source) -> float | None:
    """About how many bytes a clip takes, by its header; None: it does not say."""
    clip = Clip(source.path)
    try:
        seconds = source.path.stat().st_size / (2 * SAMPLE_RATE) if source.is_sound else clip.probe()
        size = 2 * SAMPLE_RATE * seconds * kind.sound
        if kind.side:
            frames = len(face_files(source.faces, source.clip)) if source.faces else seconds * clip.fps
            size += 3 * kind.side**2 * frames
    except BlemoreError:
        return None
    return size
