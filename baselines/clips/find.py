"""Finds the files of clips under a folder, by clip id.

A clip's file may be anywhere under the folder. If a video file and a sound file have the same id (`x.mov`, `x.wav`),
the one that fits the encoder's modality is chosen; any other duplicate is a failure that names the files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from blemore.errors import FileError, Problem, ValidationError, some
from blemore.labels import MEDIA_SUFFIXES, SOUND_SUFFIXES
from blemore_baselines.clips.media import spellings

TABLE_SUFFIX = ".csv"


class Failure(NamedTuple):
    """A clip that cannot be used: `kind` is a stable code (see `media`), `message` says what was found."""

    clip: str
    kind: str
    message: str


def find_clips(folder: Path, suffixes: tuple[str, ...] = MEDIA_SUFFIXES) -> dict[str, list[Path]]:
    """Every file with one of these suffixes under a folder, by clip id in Unicode's composed form. Follows links.

    Hidden files are left out: archive programs store metadata in hidden files named after the clips.

    Raises FileError: the folder does not exist, or cannot be read.
    """

    def give_up(error: OSError) -> None:
        raise FileError(
            Problem(
                "cannot-open",
                str(error.filename),
                f"cannot be read: {error.strerror}",
                hint="Expected the folder that holds the clips.",
            )
        )

    files: dict[str, list[Path]] = {}
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=give_up, followlinks=True):
        if os.path.realpath(place) in visited:  # a link back to a folder above
            folders.clear()
            continue
        visited.add(os.path.realpath(place))
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in names:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                clip = spellings(name.rpartition(".")[0])[0]
                files.setdefault(clip, []).append(Path(place, name))
    return files


def demand_clips(folder: Path, files: dict[tuple[str, ...], dict[str, list[Path]]], ids: set[str] | None) -> None:
    """Raises ValidationError: there is no clip with one of these suffixes, or none with one of these ids."""
    problems = []
    for suffixes, clips in files.items():
        if not clips:
            problems.append(
                Problem(
                    "no-clips",
                    str(folder),
                    f"neither it nor its subfolders hold a file that ends in {', '.join(suffixes)}",
                    hint="Expected the folder that holds the clips.",
                )
            )
        elif ids is not None and ids.isdisjoint(clips):
            message = (
                f"holds none of the {len(ids):,} requested clips ({some(sorted(ids))}); found {len(clips):,}"
                f" others ({some(sorted(clips))})"
            )
            problems.append(
                Problem(
                    "missing-clips",
                    str(folder),
                    message,
                    hint="Is this the folder of the other partition, train or test?",
                )
            )
    if problems:
        raise ValidationError(problems)


def choose(clip: str, paths: list[Path], modality: str) -> Path | Failure:
    """The file to read for a clip, or why there is none. Tables win over media, for encoders that read both."""
    candidates = [path for path in paths if path.suffix.lower() == TABLE_SUFFIX]
    candidates = candidates or [
        path for path in paths if (path.suffix.lower() in SOUND_SUFFIXES) == (modality == "audio")
    ]
    candidates = candidates or paths
    if len(candidates) == 1:
        return candidates[0]
    if not paths:
        return Failure(clip, "missing-file", "no media file of this name under the folder of the clips")
    folder = os.path.commonpath([path.parent for path in candidates])  # messages cut long paths before they differ
    names = sorted(str(path.relative_to(folder)) for path in candidates)
    message = f"{len(names)} files have this name ({some(names)}); expected one. Move the others elsewhere."
    return Failure(clip, "ambiguous", message)
