"""Finding the files of clips under a folder, by the clips' ids.

A clip's file may be anywhere under the folder. Where a picture file and a sound file bear the same id (`x.mov`,
`x.wav`), the one of the reader's own modality is chosen; any other double is a failure that names both.
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
    """A clip that cannot be used: `kind` is a stable word (see `media`), `message` says what was found."""

    clip: str
    kind: str
    message: str


def find_clips(folder: Path, suffixes: tuple[str, ...] = MEDIA_SUFFIXES) -> dict[str, list[Path]]:
    """Every file of these kinds under a folder, by clip id, which is in Unicode's composed form. Links are followed.

    Hidden files are left out: archivers put shadows of clips there.

    Raises FileError: there is no such folder, or it cannot be read.
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
        if os.path.realpath(place) in visited:  # a link that leads back
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
    """ValidationError: there is no clip at all by these suffixes, or none of these ids."""
    problems = []
    for suffixes, clips in files.items():
        if not clips:
            problems.append(
                Problem(
                    "no-clips",
                    str(folder),
                    f"no file in it, or in its subfolders, that ends in {', '.join(suffixes)}",
                    hint="Expected the folder that holds the clips.",
                )
            )
        elif ids is not None and ids.isdisjoint(clips):
            message = (
                f"none of the {len(ids):,} clips wanted is there ({some(sorted(ids))}); found {len(clips):,}"
                f" others ({some(sorted(clips))})"
            )
            problems.append(
                Problem(
                    "missing-clips",
                    str(folder),
                    message,
                    hint="Are those the clips of the other partition, train or test?",
                )
            )
    if problems:
        raise ValidationError(problems)


def choose(clip: str, paths: list[Path], modality: str) -> Path | Failure:
    """The file to read for a clip, or why there is none. Tables come before clips, for encoders that read both."""
    own = [path for path in paths if path.suffix.lower() == TABLE_SUFFIX]
    own = own or [path for path in paths if (path.suffix.lower() in SOUND_SUFFIXES) == (modality == "audio")]
    if len(paths) == 1 or len(own) == 1:
        return (own or paths)[0]
    if not paths:
        return Failure(clip, "missing-file", "no media file of this name under the folder of the clips")
    folder = os.path.commonpath([path.parent for path in own or paths])  # long paths would be cut before they differ
    doubles = sorted(str(path.relative_to(folder)) for path in own or paths)
    message = f"{len(doubles)} files have this name ({some(doubles)}); expected one. Move the others elsewhere."
    return Failure(clip, "ambiguous", message)
