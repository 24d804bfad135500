"""Finds files in the folder that the dataset was unpacked into. Names and depth may differ between releases.

- metadata:  the first `train_metadata.csv` and `test_metadata.csv`, at most one folder down;
- features:  folders `<encoder>_train` and `<encoder>_test` with a file per clip, at most three folders down; then the
             aggregated files `<encoder>_static_features.npz`, which belong to train unless their path contains test;
- videos:    the folder that contains the first and the last clip of the metadata.

Paths are compared by code point, independent of the system's language.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore.errors import FileError, Problem
from blemore.evaluate import read_ids
from blemore.labels import VIDEO_SUFFIXES, clip_id
from blemore_baselines.encoders import create
from blemore_baselines.engines import available_cores
from blemore_baselines.extract import extract

BEST_PAIRS = (("ImageBind", "WavLM_large"), ("VideoMAEv2", "WavLM_large"))  # of the paper's validation table
ANYWHERE = ("gray_flow", "logmel")  # encoders without weights


class Located(NamedTuple):
    """What was found in a dataset's folder.

    train_features, test_features: encoder → folder or aggregated file
    """

    train_metadata: Path
    test_metadata: Path | None
    train_features: dict[str, Path]
    test_features: dict[str, Path]
    train_videos: Path | None
    test_videos: Path | None


def locate(folder: Path) -> Located:
    """What is in the folder.

    Raises FileError: no such folder, or no train_metadata.csv in it; ValidationError: a metadata table is invalid.
    """
    folder = Path(folder)
    if not folder.is_dir():
        message = "a file; expected a folder" if folder.exists() else "no such folder"
        hint = "Give the folder that the dataset was unpacked into."
        raise FileError(Problem("cannot-open", str(folder), message, hint=hint))
    files, folders = list_files(folder)
    train, test = (_metadata(folder, files, part) for part in ("train", "test"))
    if train is None:
        message = "contains no train_metadata.csv, nor do its subfolders"
        hint = "Give the folder that the dataset was unpacked into (see data/README.md)."
        raise FileError(Problem("cannot-open", str(folder), message, hint=hint))
    train_features, test_features = (
        dict(reversed([*list_features(folder, files, folders, part)])) for part in ("train", "test")
    )
    return Located(train, test, train_features, test_features, _videos(train, files), _videos(test, files))


def choose_encoders(features: Collection[str]) -> list[str]:
    """The encoders to use, given the available features: the paper's best pair, else its best pair without ImageBind,
    else all, else encoders that need no weights.
    """
    pairs = [list(pair) for pair in BEST_PAIRS if set(pair) <= set(features)]
    return pairs[0] if pairs else sorted(features) or list(ANYWHERE)


def gather(data: Located, encoders: Sequence[str], out: Path) -> tuple[list[Path], list[Path]]:
    """Features of train and test, one path per encoder: the dataset's own if it has any, otherwise extracted from its
    videos to `out/train/<encoder>` and `out/test/<encoder>`. The second list omits encoders whose features the dataset
    has only for train.

    Raises FileError: there are neither features nor videos; ValidationError: an encoder cannot be loaded.
    """
    own = [name for name in encoders if name in data.train_features]
    to_extract = [create(name) for name in encoders if name not in own]
    if to_extract and not data.train_videos:
        names = ", ".join(encoder.name for encoder in to_extract)
        message = f"contains neither features of {names} nor videos of the clips"
        hint = f"Features of train that were found: {', '.join(sorted(data.train_features)) or 'none'}."
        raise FileError(Problem("cannot-open", str(data.train_metadata.parent), message, hint=hint))
    train = dict(data.train_features)
    test = {name: data.test_features[name] for name in own if name in data.test_features}
    for part, features, metadata, videos in (
        ("train", train, data.train_metadata, data.train_videos),
        ("test", test, data.test_metadata, data.test_videos),
    ):
        if to_extract and metadata and videos:
            extract(read_ids(metadata), videos, to_extract, out / part, workers=available_cores())
            features.update({encoder.name: out / part / encoder.name for encoder in to_extract})
    return [train[name] for name in encoders if name in train], [test[name] for name in encoders if name in test]


def list_files(folder: Path, deepest: int = 4) -> tuple[list[Path], list[Path]]:
    """Files and folders down to `deepest` levels, sorted by path; unreadable folders are skipped."""
    files: list[Path] = []
    folders: list[Path] = []
    for place, subfolders, names in os.walk(folder, followlinks=True):
        files += [Path(place, name) for name in names]
        folders += [Path(place, name) for name in subfolders]
        if _depth(Path(place), folder) == deepest - 1:
            subfolders.clear()
    return sorted(files, key=str), sorted(folders, key=str)


def list_features(folder: Path, files: list[Path], folders: list[Path], part: str) -> Iterator[tuple[str, Path]]:
    """(encoder, path) for a partition, preferred paths first."""
    with_clips = {
        path.parent
        for path in files
        if path.suffix == ".npy" or path.suffix == ".csv" and not path.name.endswith("_metadata.csv")
    }
    for path in folders:
        if path.name.endswith(f"_{part}") and path in with_clips and _depth(path, folder) <= 3:
            yield path.name.removesuffix(f"_{part}"), path
    for path in files:
        if path.name.endswith("_static_features.npz"):
            of_test = re.search(r"[/_.-]test[/_.-]", f"/{path.relative_to(folder).as_posix()}") is not None
            if of_test == (part == "test"):
                yield path.name.removesuffix("_static_features.npz").removesuffix(f"_{part}"), path


def _depth(path: Path, folder: Path) -> int:
    return len(path.relative_to(folder).parts)


def _metadata(folder: Path, files: list[Path], part: str) -> Path | None:
    return next((path for path in files if path.name == f"{part}_metadata.csv" and _depth(path, folder) <= 2), None)


def _videos(metadata: Path | None, files: list[Path]) -> Path | None:
    ids = read_ids(metadata) if metadata else []
    ends = {*ids[:1], *ids[-1:]}
    folders = {
        clip_id(path.name): path.parent
        for path in reversed(files)
        if path.suffix.lower() in VIDEO_SUFFIXES and clip_id(path.name) in ends
    }
    return Path(os.path.commonpath(folders.values())) if folders else None
