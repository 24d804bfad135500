"""A folder with a (T, D) file per clip: `.npy`, as in the dataset and from `extract`, or OpenFace 3's `.csv`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, some
from blemore.io import read_bytes
from blemore_baselines.encoders.openface import is_openface3_csv, read_openface3_csv
from blemore_baselines.sources.meta import META, encoder_name, parse_meta
from blemore_baselines.sources.pairing import named, order


def holds_sequences(path: Path) -> bool:
    """Whether the source is a folder with a (T, D) file per clip."""
    return path.is_dir() and not _is_table_folder(path)


def _is_table_folder(folder: Path) -> bool:
    """Whether a folder's CSV files are tables with many clips each."""
    files = [path for path in sorted(folder.glob("*.csv")) if not path.name.startswith(".")]
    return bool(files) and not any(folder.glob("*.npy")) and not is_openface3_csv(files[0])


def read_sequences(folder: Path, ids: Sequence[str]) -> Iterator[np.ndarray]:
    """Each clip's (T, D), in the order of `ids`, read one at a time. Every bad file is reported at the end."""
    files = clip_files(folder, ids)
    indices = order([clip for clip, _ in files], ids, str(folder), _failures_hint(folder))
    problems: dict[str, list[str]] = {}
    shapes: dict[int, list[str]] = {}
    for clip, index in tqdm(list(zip(ids, indices)), desc=f"reading {folder.name}", unit="clip", disable=None):
        try:
            sequence = read_sequence(files[index][1])
        except (ValueError, OSError) as error:
            problems.setdefault(f"cannot be read ({error})", []).append(clip)
            continue
        if not np.isfinite(sequence).all():
            problems.setdefault("hold NaN or Infinity", []).append(clip)
            continue
        shapes.setdefault(sequence.shape[1], []).append(clip)
        if not problems and len(shapes) == 1:
            yield sequence
    if problems or len(shapes) > 1:
        raise ValidationError(
            [
                *(
                    Problem(
                        "bad-feature-file",
                        str(folder),
                        f"{len(clips):,} of {len(ids):,} files {fault}: {some(clips)}",
                        hint="Delete them and extract again.",
                    )
                    for fault, clips in problems.items()
                ),
                *_shape_problems(folder, shapes),
            ]
        )


def read_sequence(path: Path) -> np.ndarray:
    """(T, D) float32 from a file. ValueError: what is wrong with it."""
    if path.suffix == ".csv":
        return read_openface3_csv(path)
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy, zipfile and tokenize each raise their own
        # numpy takes any other file for a pickle, and advises loading it unsafely.
        raise ValueError("not a .npy file of numbers" if "pickle" in str(error) else str(error)) from None
    if not isinstance(array, np.ndarray):
        raise ValueError("an .npz archive; expected one array")
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fiu":
        raise ValueError(f"shape {array.shape}, type {array.dtype}; expected numbers of shape (T, D)")
    # A vector is one row. Arrays with more axes (some official VideoMAE V2 files) become rows of their last axis.
    return np.ascontiguousarray(array.reshape(-1, array.shape[-1]), dtype=np.float32)


def _shape_problems(folder: Path, shapes: dict[int, list[str]]) -> Iterator[Problem]:
    if len(shapes) > 1:
        common = max(shapes, key=lambda dim: len(shapes[dim]))
        for dim, clips in shapes.items():
            if dim != common:
                yield Problem(
                    "wrong-shape",
                    str(folder),
                    f"{len(clips):,} files have {dim} columns: {some(clips)}; expected {common}, like the others",
                )


def clip_files(folder: Path, ids: Collection[str] = ()) -> list[tuple[str, Path]]:
    """The feature files of a folder with their clips; `.npy` if there are any, else `.csv`. `ids`: see `named`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for suffix in (".npy", ".csv"):
        own = [path for path in files if path.suffix == suffix]
        if own:
            stems = [path.stem for path in own]
            return list(zip(named(stems, stems if (folder / META).exists() else ids), own))
    raise ValidationError(
        unfinished(folder)
        or Problem(
            "no-features",
            str(folder),
            "contains no .npy or .csv files; expected one per clip",
            hint="Give the folder that directly contains the clips' files, e.g. features/train/logmel.",
        )
    )


def unfinished(folder: Path) -> Problem | None:
    """The problem with a folder of an unfinished run; None for any other folder."""
    if not (folder / "config.json").exists() or (folder / "metrics.json").exists():
        return None
    return Problem(
        "unfinished-run",
        str(folder),
        "holds an unfinished run; expected a finished one",
        hint="The same `train` command continues it.",
    )


def folder_meta(folder: Path) -> dict:
    """The contents of a folder's meta.json; for the dataset's own folders, the encoder in the folder's name."""
    path = folder / META
    if not path.exists():
        return {"encoder": encoder_name(folder)}
    meta = parse_meta(read_bytes(path), str(path))
    return {key: meta[key] for key in ("encoder", "revision", "preset", "precision") if key in meta}


def _failures_hint(folder: Path) -> str | None:
    return "failures.csv in that folder says why clips failed." if (folder / "failures.csv").exists() else None
