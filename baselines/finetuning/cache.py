"""Clips decoded once, to small frames and sound, for all folds and all runs that use the same size.

A clip is one file, `DIR/<kind>/<clip>.safetensors`, written whole or not at all; a view reads only its own frames. The
file records the sizes and modification times of its sources: a clip that has changed is decoded again. Kinds are named
for what they contain: `faces-160-sound`, `frames-224`, `sound`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
from blemore_baselines.clips.find import Failure, choose, find_clips
from blemore_baselines.clips.media import SAMPLE_RATE, Clip
from blemore_baselines.encoders.frames import centre
from blemore_baselines.encoders.hicmae import face_files, read_picture, resized
from blemore_baselines.finetuning.family import Stored

PROBED = 50  # clips whose headers are read to estimate the size of the cache
HINTS = {
    "no-faces": "`blemore-baselines faces` writes them; it needs OpenFace.",
    "no-audio": "This model needs sound: remove these clips from the metadata, or fine-tune a model without sound.",
    "no-video": "This model needs frames: remove these clips from the metadata, or fine-tune a model without frames.",
    "missing-file": "Are those the clips of the other partition, train or test?",
}


class Source(NamedTuple):
    """The files of a clip. faces: the folder with all clips' faces; None: the centre of the clip's own frames."""

    clip: str
    path: Path
    faces: Path | None

    @property
    def is_sound(self) -> bool:
        return self.path.suffix.lower() in SOUND_SUFFIXES

    @property
    def identity(self) -> str:
        """A digest that changes when a file changes. Raises MediaError: the clip has no faces."""
        files = [self.path, *(face_files(self.faces, self.clip) if self.faces else [])]
        stats = [(file.name, file.stat()) for file in files]
        return digest(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}" for name, stat in stats)


class Cache(NamedTuple):
    """Decoded clips of one kind. As a job of `engines`, it decodes a clip and returns the failure, if any.

    side: of the square frames, in pixels; None: no frames are stored
    """

    folder: Path
    side: int | None
    has_sound: bool

    @classmethod
    def of_kind(cls, parent: Path, side: int | None, has_sound: bool, has_faces: bool) -> Cache:
        pictures = "faces" if has_faces else "frames"
        parts = [f"{pictures}-{side}" if side else "", "sound" if has_sound else ""]
        return cls(parent / "-".join(filter(None, parts)), side, has_sound)

    def file(self, clip: str) -> Path:
        return self.folder / f"{clip}.safetensors"

    def read(self, clip: str) -> Stored:
        """The clip; its frames are read when they are used."""
        file = safe_open(self.file(clip), framework="numpy")
        return Stored(file.get_slice("frames"), file.get_tensor("at"), file.get_tensor("sound"))

    def holds(self, clip: str, identity: str) -> bool:
        try:
            with safe_open(self.file(clip), framework="numpy") as file:
                return (file.metadata() or {}).get("source") == identity
        except (OSError, SafetensorError):
            return False

    def load(self) -> None:
        pass

    def __call__(self, source: Source) -> Failure | None:
        try:
            identity, stored = source.identity, self.decode(source)
        except BlemoreError as error:
            return failure(source.clip, error)
        parts = {name: np.ascontiguousarray(part) for name, part in stored._asdict().items()}
        write_atomic(self.file(source.clip), save(parts, {"source": identity}))
        return None

    def lost(self, source: Source, reason: str) -> Failure:
        return Failure(source.clip, "crashed", reason)

    def decode(self, source: Source) -> Stored:
        """Raises MediaError: the clip cannot be read, or lacks frames or sound."""
        clip = Clip(source.path)
        wave = clip.audio() if self.has_sound else np.zeros(0, np.float32)
        sound = np.clip(np.round(wave * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        if not self.side:
            return Stored(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0, np.int64), sound)
        if source.faces:
            frames = [resized(read_picture(file), self.side) for file in face_files(source.faces, source.clip)]
            # A sound file has no frame rate: its faces are spread evenly over it.
            seconds = len(sound) / SAMPLE_RATE if source.is_sound else len(frames) / clip.fps
            times = np.arange(len(frames)) * seconds / len(frames)
        else:
            timed = [(at, resized(centre(frame, min(frame.shape[:2])), self.side)) for at, frame in clip.timed_frames()]
            times, frames = np.array([at for at, _ in timed]), [frame for _, frame in timed]
        offset = clip.offset if self.has_sound and not source.is_sound else 0.0
        return Stored(np.stack(frames), np.round((times - offset) * SAMPLE_RATE).astype(np.int64), sound)


def failure(clip: str, error: BlemoreError) -> Failure:
    return Failure(clip, error.problems[0].code, error.problems[0].message)


def find_sources(ids: Sequence[str], clips: Path, faces: Path | None, modality: str) -> list[Source]:
    """The clips' files, in the order of the ids.

    Raises FileError: a folder cannot be read; ValidationError: clips have no file or no faces.
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
    _demand_none(failures, len(ids), faces or clips)
    return sources


def _demand_none(failures: Sequence[Failure], count: int, where: Path) -> None:
    """ValidationError: there are failures; a problem per kind."""
    problems = []
    for kind, group in groupby(sorted(failures, key=lambda failure: failure.kind), key=lambda failure: failure.kind):
        members = sorted(group)
        message = f"{len(members):,} of {count:,} clips cannot be used ({some([clip for clip, *_ in members])}): "
        problems.append(Problem(kind, str(where), message + members[0].message, hint=HINTS.get(kind)))
    if problems:
        raise ValidationError(problems)


def fill(cache: Cache, sources: Sequence[Source], workers: int) -> None:
    """Decode the clips that are not in the cache, or whose files have changed.

    Raises FileError: the disk is full or not writable; what is decoded stays. ValidationError: clips cannot be used.
    """
    with ThreadPoolExecutor(8) as pool:  # waits for the disk
        identities = list(pool.map(lambda source: source.identity, sources))
    missing = [source for source, identity in zip(sources, identities) if not cache.holds(source.clip, identity)]
    if not missing:
        return
    _demand_room(cache, missing)
    outcomes = engines.run(cache, missing, workers=workers)
    progress = tqdm(outcomes, desc="decode", total=len(missing), unit="clip")
    _demand_none([outcome for outcome in progress if outcome], len(sources), sources[0].path.parent)


def _demand_room(cache: Cache, sources: Sequence[Source]) -> None:
    """Print the expected size of the cache. FileError: the disk has less room."""
    sizes = [size for source in sources[:: max(1, len(sources) // PROBED)] if (size := _size(cache, source))]
    cache.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.folder).free
    total = int(np.mean(sizes) * len(sources)) if sizes else 0
    text = f"{len(sources):,} clips to decode, about {total / 1e9:,.2f} GB; {free / 1e9:,.1f} GB are free"
    print(f"cache {cache.folder}: {text}", file=sys.stderr)
    if total > free:
        hint = "Make room on that disk, or choose a folder on another disk with --cache."
        raise FileError(Problem("disk-full", str(cache.folder), text, hint=hint))


def _size(cache: Cache, source: Source) -> float | None:
    """The approximate size of a decoded clip in bytes, from its header; None: unknown."""
    clip = Clip(source.path)
    try:
        seconds = source.path.stat().st_size / (2 * SAMPLE_RATE) if source.is_sound else clip.probe()
        size = 2 * SAMPLE_RATE * seconds * cache.has_sound
        if cache.side:
            frames = len(face_files(source.faces, source.clip)) if source.faces else seconds * clip.fps
            size += 3 * cache.side**2 * frames
    except BlemoreError:
        return None
    return size
