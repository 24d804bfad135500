"""Reads features or scores from any source, keyed by clip id. sources/ has one reader per format.

| source                                   | what it holds                                             |
|------------------------------------------|-----------------------------------------------------------|
| folder of `<clip>.npy`                   | (T, D) per clip: `extract`, the dataset's own folders    |
| folder of `<clip>.csv`                   | OpenFace 3, as in the dataset                             |
| `.npz` with `X` and `filenames`          | one row per clip: `aggregate`, `*_static_features.npz`    |
| `.csv` with `filename` and columns       | one row per clip                                          |
| `.csv` with `id,label,pred`              | HiCMAE's raw output, as emotion scores                    |
| folder of such `.csv`                    | all their rows, e.g. one file per fold                    |

The caller names the required clips. Missing, unknown or repeated clips, non-finite values and wrong shapes are refused,
with names and counts. Rows are never paired by position.

`meta` says how the features were made (encoder, revision, preset, precision, statistics, columns), if the source
records it. A model keeps it, and refuses features that were made differently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemore.errors import Problem, ValidationError, some
from blemore.io import csv_text, read_json, write_atomic
from blemore.labels import EMOTIONS
from blemore_baselines.sources.folder import clip_files, folder_meta, holds_sequences, read_sequences
from blemore_baselines.sources.meta import STATISTICS
from blemore_baselines.sources.npz import npz_bytes, read_npz
from blemore_baselines.sources.pairing import named, not_finite, order
from blemore_baselines.sources.table import read_tables

PERCENTILES = np.array([10, 25, 50, 75, 90]) / 100
# What must agree between train and test.
MADE_BY = ("encoder", "revision", "preset", "precision", "statistics", "columns", "dim")
RUN_OOF, RUN_TEST = "oof_logits.csv", "test_logits.csv"  # the score tables in a run folder


class Features(NamedTuple):
    """Rows of features and the clips that they belong to.

    ids:   the clips, in the requested order
    X:     (rows, D) float32; float64 from a CSV table
    owner: (rows,) the index in `ids` of each row's clip; aggregated features have one row per clip
    meta:  how they were made; `statistics` is None for features that are not aggregated
    """

    ids: list[str]
    X: np.ndarray
    owner: np.ndarray
    meta: dict

    @property
    def digest(self) -> str:
        """A digest of the rows and their owners: 16 hexadecimal digits."""
        return hashlib.sha256(np.ascontiguousarray(self.X).tobytes() + self.owner.tobytes()).hexdigest()[:16]


def read_features(path: Path | str, ids: Sequence[str] | None = None, aggregated: bool = True) -> Features:
    """The features of `ids` from any source.

    ids:        None takes the source's own clips, in its order
    aggregated: one row per clip; a folder of (T, D) files is aggregated while reading. False: every row of a folder's
                (T, D) files, for subsampling.

    Raises FileError: the source cannot be opened; ValidationError: see the module docstring.
    """
    path = Path(path)
    if holds_sequences(path):
        ids = [clip for clip, _ in clip_files(path)] if ids is None else ids
        return aggregate(path, ids) if aggregated else _read_rows(path, ids)
    if not aggregated:
        raise ValidationError(
            Problem(
                "not-a-sequence",
                str(path),
                "holds one row per clip; subsampling expected a folder with a (T, D) file per clip",
                hint="Give the folder that `extract` wrote, or --method aggregate.",
            )
        )
    if path.is_file() and path.suffix.lower() not in (".npz", ".csv"):
        raise ValidationError(
            Problem(
                "no-features",
                str(path),
                "not a source; expected a folder with a .npy or .csv file per clip, an .npz file, or a .csv table",
                hint="Is it a single file from a folder of features? Give the folder.",
            )
        )
    names, X, meta = read_npz(path) if path.suffix.lower() == ".npz" else read_tables(path)
    clips = named(names, ids or ())
    ids = clips if ids is None else ids
    X = X[order(clips, ids, str(path))]
    finite = np.isfinite(X).all(axis=1)
    if not finite.all():
        bad = [clip for clip, fine in zip(ids, finite) if not fine]
        raise ValidationError(not_finite(str(path), bad))
    return Features(list(ids), X, np.arange(len(ids)), {**meta, "dim": X.shape[1]})


def read_scores(path: Path | str, ids: Sequence[str] | None = None, test: bool = False) -> Features:
    """Scores (N, 6) in the emotions' index order, from a table, HiCMAE's raw files, or a run folder.

    From a run folder it takes the scores that correspond to the final model: the out-of-fold logits at its number of
    epochs or, with `test`, the logits of the last `predict`.

    Raises: see `read_features`; also ValidationError if the columns are not the six emotions.
    """
    path = Path(path)
    if (path / RUN_OOF).exists():
        path = path / (RUN_TEST if test else RUN_OOF)
    features = read_features(path, ids)
    columns = features.meta.get("columns")
    if columns != list(EMOTIONS):
        kind = f"the columns {some(columns, 8)}" if columns else f"{features.X.shape[1]} columns without names"
        raise ValidationError(
            Problem(
                "not-scores",
                str(path),
                f"found {kind}; expected filename and the six emotions {', '.join(EMOTIONS)}, in any order",
                hint="Name the columns after the emotions; their order alone does not identify them.",
            )
        )
    return features


def runs_of(path: Path) -> list[Path]:
    """The run folders behind a path: those of its seeds if `train` was given several, else the path itself.

    Raises ValidationError: the folder's model.json is damaged.
    """
    artefact = path / "model.json"
    data = read_json(artefact).data if artefact.exists() else None
    seeds = data.get("seeds") if isinstance(data, dict) else None
    return [seed_folder(path, seed) for seed in seeds] if isinstance(seeds, list) and seeds else [path]


def seed_folder(run: Path, seed: int) -> Path:
    """The folder of one seed in a run with several."""
    return run / f"seed_{seed}"


def scores_csv(ids: Sequence[str], scores: np.ndarray) -> str:
    """A table of scores that `read_scores` reads back exactly."""
    return csv_text([["filename", *EMOTIONS], *([clip, *row] for clip, row in zip(ids, scores.tolist(), strict=True))])


def aggregate(folder: Path, ids: Sequence[str]) -> Features:
    """Seven statistics over time for each dimension, concatenated: (N, 7 D), in the order of `STATISTICS`, each D wide.

    mean, std (ddof 0), and the percentiles 10, 25, 50, 75, 90 (linear), after Lachmann et al. 2026.
    """
    rows = [statistics(sequence) for sequence in read_sequences(folder, ids)]
    X = np.stack(rows)
    return Features(
        list(ids), X, np.arange(len(ids)), {**folder_meta(folder), "statistics": list(STATISTICS), "dim": X.shape[1]}
    )


def statistics(sequence: np.ndarray, dtype=np.float32) -> np.ndarray:
    """(T, D) → (7 D,), computed in float64: the same as numpy's mean, std and percentile, from one sort."""
    ordered = sequence.T.copy()  # with each dimension's numbers adjacent, sorting is four times as fast
    ordered.sort(axis=1)
    place = (len(sequence) - 1) * PERCENTILES
    below = np.floor(place).astype(int)
    low = ordered[:, below].T.astype(np.float64)
    high = ordered[:, np.minimum(below + 1, len(sequence) - 1)].T.astype(np.float64)
    share = (place - below)[:, np.newaxis]
    # Interpolated from the nearer neighbour, as in numpy, so results are bit-identical.
    percentiles = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    centred = sequence.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    centred *= centred
    return np.concatenate([mean, np.sqrt(centred.mean(axis=0)), *percentiles]).astype(dtype)


def save(features: Features, path: Path) -> None:
    """Write aggregated features as `.npz` (X, filenames, meta), complete or not at all.

    The same features give the same bytes.
    """
    meta = json.dumps(features.meta, sort_keys=True)
    write_atomic(path, npz_bytes(X=features.X, filenames=np.array(features.ids), meta=np.array(meta)))


def fuse(sources: Sequence[Features]) -> Features:
    """Early fusion: concatenate the columns of several aggregated sources of the same clips."""
    first = sources[0]
    if len(sources) == 1:
        return first
    if any(source.meta.get("statistics") is None and len(source.owner) != len(source.ids) for source in sources):
        raise ValidationError(
            Problem(
                "cannot-fuse",
                "features",
                f"{len(sources)} sources that are not aggregated; expected one, because rows of several sources are not"
                " aligned in time",
                hint="Fuse with --method aggregate.",
            )
        )
    return Features(first.ids, np.hstack([source.X for source in sources]), first.owner, {})


def _read_rows(folder: Path, ids: Sequence[str]) -> Features:
    sequences = list(read_sequences(folder, ids))
    owner = np.repeat(np.arange(len(ids)), [len(sequence) for sequence in sequences])
    X = np.concatenate(sequences)
    return Features(list(ids), X, owner, {**folder_meta(folder), "statistics": None, "dim": X.shape[1]})
