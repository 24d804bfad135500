"""The feature store: everything that can hold features or scores of clips, keyed by clip id.

| source                                   | what it holds                                             |
|------------------------------------------|-----------------------------------------------------------|
| folder of `<clip>.npy`                   | (T, D) a clip, as `extract` and the dataset's own folders |
| folder of `<clip>.csv`                   | OpenFace 3, as in the dataset                             |
| `.npz` with `X` and `filenames`          | one row a clip: `aggregate`, `*_static_features.npz`      |
| `.csv` with `filename` and columns       | one row a clip                                            |
| `.csv` with `id,label,pred`              | HiCMAE's raw output, as emotion scores                    |
| folder of such `.csv`                    | their rows together, e.g. a file a fold                   |

Who reads names the clips that must be there. A clip that is missing, unknown, there twice, not
finite or of another shape is refused, with names and counts; rows are never paired by position.

`meta` tells how the features came about (encoder, revision, preset, statistics, columns) as far as
the source knows it; a model keeps it, and refuses features that were made otherwise.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, show, some
from blemore.io import SAVE_WITH_COMMAS, csv_text, other_separator, read_bytes, write_atomic
from blemore.labels import EMOTIONS, clip_id
from blemore.validate import folders_hint
from blemore_baselines.clips.media import spellings
from blemore_baselines.encoders.openface import is_openface3_csv, read_openface3_csv

STATISTICS = ("mean", "std", "p10", "p25", "p50", "p75", "p90")  # of each dimension over time
PERCENTILES = np.array([10, 25, 50, 75, 90]) / 100
MADE_BY = ("encoder", "revision", "preset", "statistics", "columns", "dim")  # what must agree between train and test
META = "meta.json"  # of a folder that `extract` wrote
RUN_OOF, RUN_TEST = "oof_logits.csv", "test_logits.csv"  # the score tables in a run folder
HICMAE_ORDER = ("neu", "ang", "disg", "fea", "hap", "sad")


class Features(NamedTuple):
    """Rows of features, and whose they are.

    ids:   the clips, in the order that was asked for
    X:     (rows, D) float32; float64 from a CSV table
    owner: (rows,) the index in `ids` of each row's clip; aggregated features have a row a clip
    meta:  how they came about; `statistics` is None for features that are not aggregated
    """

    ids: list[str]
    X: np.ndarray
    owner: np.ndarray
    meta: dict

    @property
    def digest(self) -> str:
        """Of the rows and whose they are: 16 hexadecimal digits."""
        return hashlib.sha256(np.ascontiguousarray(self.X).tobytes() + self.owner.tobytes()).hexdigest()[:16]


def read_features(path: Path | str, ids: Sequence[str] | None = None, aggregated: bool = True) -> Features:
    """The features of `ids` from any source.

    ids:        None takes the source's own clips, in its order
    aggregated: one row a clip; a folder of (T, D) files is aggregated on the way. False: every row
                of a folder's (T, D) files, for subsampling.

    Raises FileError: the source cannot be opened; ValidationError: see the module's text.
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
                "holds one row a clip; subsampling expected a folder with a (T, D) file a clip",
                hint="Give the folder that `extract` wrote, or --method aggregate.",
            )
        )
    if path.is_file() and path.suffix.lower() not in (".npz", ".csv"):
        raise ValidationError(
            Problem(
                "no-features",
                str(path),
                "not a source; expected a folder with a .npy or .csv file a clip, an .npz file, or a .csv table",
                hint="Is it one of a folder's files, or its meta.json? Give the folder.",
            )
        )
    names, X, meta = _read_npz(path) if path.suffix.lower() == ".npz" else _read_tables(path)
    clips = named(names, ids or ())
    ids = clips if ids is None else ids
    X = X[_order(clips, ids, str(path))]
    finite = np.isfinite(X).all(axis=1)
    if not finite.all():
        bad = [clip for clip, fine in zip(ids, finite) if not fine]
        raise ValidationError(_not_finite(str(path), bad))
    return Features(list(ids), X, np.arange(len(ids)), {**meta, "dim": X.shape[1]})


def read_scores(path: Path | str, ids: Sequence[str] | None = None, test: bool = False) -> Features:
    """Scores (N, 6) in the emotions' index order, from a table, HiCMAE's raw files, or a run folder.

    Of a run folder it takes what the final model corresponds to: the out-of-fold logits at its number
    of epochs, or with `test` the logits of the last `predict`.

    Raises as `read_features`, and ValidationError where the columns are not the six emotions.
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
                hint="Name the columns so: their order alone would not tell which is which.",
            )
        )
    return features


def scores_csv(ids: Sequence[str], scores: np.ndarray) -> str:
    """A table that `read_scores` reads back to the same numbers."""
    return csv_text([["filename", *EMOTIONS], *([clip, *row] for clip, row in zip(ids, scores.tolist(), strict=True))])


def aggregate(folder: Path, ids: Sequence[str]) -> Features:
    """Seven statistics over time of each dimension, concatenated: (N, 7 D), ordered as `STATISTICS`, each D wide.

    mean, std (ddof 0), and the percentiles 10, 25, 50, 75, 90 (linear), after Lachmann et al. 2026.
    """
    rows = [statistics(sequence) for sequence in _sequences(folder, ids)]
    X = np.stack(rows)
    return Features(
        list(ids), X, np.arange(len(ids)), {**_folder_meta(folder), "statistics": list(STATISTICS), "dim": X.shape[1]}
    )


def statistics(sequence: np.ndarray, dtype=np.float32) -> np.ndarray:
    """(T, D) → (7 D,), computed in float64: what numpy's mean, std and percentile give, from one sort."""
    ordered = sequence.T.copy()  # each dimension's numbers side by side: four times as quick to sort
    ordered.sort(axis=1)
    place = (len(sequence) - 1) * PERCENTILES
    below = np.floor(place).astype(int)
    low = ordered[:, below].T.astype(np.float64)
    high = ordered[:, np.minimum(below + 1, len(sequence) - 1)].T.astype(np.float64)
    share = (place - below)[:, np.newaxis]
    # From the nearer of the two, as numpy does, so that no bit differs.
    percentiles = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    centred = sequence.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    centred *= centred
    return np.concatenate([mean, np.sqrt(centred.mean(axis=0)), *percentiles]).astype(dtype)


def save(features: Features, path: Path) -> None:
    """Write aggregated features as `.npz` (X, filenames, meta), whole or not at all; the same features give the same
    bytes.
    """
    meta = json.dumps(features.meta, sort_keys=True)
    write_atomic(path, npz_bytes(X=features.X, filenames=np.array(features.ids), meta=np.array(meta)))


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """The content of an `.npz` file; the same arrays give the same bytes."""
    buffer, contents = io.BytesIO(), dict[str, Any](arrays)
    np.savez(buffer, **contents)
    return buffer.getvalue()


def fuse(sources: Sequence[Features]) -> Features:
    """Early fusion: the columns of several aggregated sources of the same clips beside one another."""
    first = sources[0]
    if len(sources) == 1:
        return first
    if any(source.meta.get("statistics") is None and len(source.owner) != len(source.ids) for source in sources):
        raise ValidationError(
            Problem(
                "cannot-fuse",
                "features",
                f"{len(sources)} sources that are not aggregated; expected one, since their rows do not belong together"
                " in time",
                hint="Fuse with --method aggregate.",
            )
        )
    return Features(first.ids, np.hstack([source.X for source in sources]), first.owner, {})


# --------------------------------------------------------------------- folders of sequences


def _sequences(folder: Path, ids: Sequence[str]) -> Iterator[np.ndarray]:
    """Each clip's (T, D), in the order of `ids`, read one at a time; every unsound file is named at the end."""
    files = clip_files(folder, ids)
    order = _order([clip for clip, _ in files], ids, str(folder), _failures_hint(folder))
    problems: dict[str, list[str]] = {}
    shapes: dict[int, list[str]] = {}
    for clip, index in tqdm(list(zip(ids, order)), desc=f"reading {folder.name}", unit="clip", disable=None):
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
                        f"{len(clips):,} of {len(ids):,} files {what}: {some(clips)}",
                        hint="Delete them and extract again.",
                    )
                    for what, clips in problems.items()
                ),
                *_shape_problems(folder, shapes),
            ]
        )


def read_sequence(path: Path) -> np.ndarray:
    """(T, D) float32 from a file; ValueError says what is wrong with it."""
    if path.suffix == ".csv":
        return read_openface3_csv(path)
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy, zipfile and tokenize each raise their own
        # What is no such file at all, numpy takes for a pickle, and advises to load it unsafely.
        raise ValueError("not a .npy file of numbers" if "pickle" in str(error) else str(error)) from None
    if not isinstance(array, np.ndarray):
        raise ValueError("an .npz archive; expected one array")
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fiu":
        raise ValueError(f"shape {array.shape}, type {array.dtype}; expected numbers of shape (T, D)")
    # A vector is one row; what has more than two axes (some of the official VideoMAE V2 arrays) is rows of its last.
    return np.ascontiguousarray(array.reshape(-1, array.shape[-1]), dtype=np.float32)


def _shape_problems(folder: Path, shapes: dict[int, list[str]]) -> Iterator[Problem]:
    if len(shapes) > 1:
        common = max(shapes, key=lambda dim: len(shapes[dim]))
        for dim, clips in shapes.items():
            if dim != common:
                yield Problem(
                    "wrong-shape",
                    str(folder),
                    f"{len(clips):,} files have {dim} columns: {some(clips)}; expected {common}, as the others",
                )


def _read_rows(folder: Path, ids: Sequence[str]) -> Features:
    sequences = list(_sequences(folder, ids))
    owner = np.repeat(np.arange(len(ids)), [len(sequence) for sequence in sequences])
    X = np.concatenate(sequences)
    return Features(list(ids), X, owner, {**_folder_meta(folder), "statistics": None, "dim": X.shape[1]})


def clip_files(folder: Path, ids: Collection[str] = ()) -> list[tuple[str, Path]]:
    """The feature files of a folder with their clips; `.npy` where there are any, else `.csv`. `ids`: see `named`."""
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
            "no .npy or .csv files in it; expected one a clip",
            hint="Give the folder that holds the clips' files itself, e.g. features/train/logmel.",
        )
    )


def unfinished(folder: Path) -> Problem | None:
    """What to say of the folder of a run that was stopped; None if it is something else."""
    if not (folder / "config.json").exists() or (folder / "metrics.json").exists():
        return None
    return Problem(
        "unfinished-run",
        str(folder),
        "holds a run that has not ended; expected one that has",
        hint="The same `train` command goes on with it.",
    )


def _folder_meta(folder: Path) -> dict:
    """What a folder's meta.json says; for the dataset's own folders, the encoder from the folder's name."""
    path = folder / META
    if not path.exists():
        return {"encoder": encoder_name(folder)}
    meta = _parse_meta(read_bytes(path), str(path))
    return {key: meta[key] for key in ("encoder", "revision", "preset") if key in meta}


def _parse_meta(text: str | bytes, where: str) -> dict:
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise ValidationError(
            Problem("bad-meta", where, f"not JSON: {error}", hint="Extract or aggregate these features again.")
        ) from None
    if not isinstance(meta, dict):
        raise ValidationError(
            Problem("bad-meta", where, f"found {show(meta)}; expected an object that tells the encoder")
        )
    return meta


def encoder_name(path: Path) -> str:
    """The encoder that a folder or file of the dataset is named after.

    >>> encoder_name(Path("WavLM_large_train")), encoder_name(Path("imagebind_static_features.npz"))
    ('WavLM_large', 'imagebind')
    """
    return re.sub(r"(_static_features|_train|_test)+$", "", Path(path).name.split(".")[0])


def _failures_hint(folder: Path) -> str | None:
    return "failures.csv beside them says why clips failed." if (folder / "failures.csv").exists() else None


# -------------------------------------------------------------------------- npz and tables


def _read_npz(path: Path) -> tuple[list[str], np.ndarray, dict]:
    raw = read_bytes(path)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            X, names = arrays["X"], arrays["filenames"]
            meta = str(arrays["meta"]) if "meta" in arrays else None
    except KeyError as error:
        raise ValidationError(
            Problem("bad-npz", str(path), f"{error.args[0]}; expected the arrays X and filenames")
        ) from None
    except Exception as error:  # numpy, zipfile and zlib each raise their own
        hint = (
            "Load it once with allow_pickle=True and save filenames as text: np.array(filenames, dtype=str)."
            if "pickle" in str(error)
            else None
        )
        raise ValidationError(Problem("bad-npz", str(path), f"cannot be read: {error}", hint=hint)) from None
    if X.ndim != 2 or names.shape != X.shape[:1] or X.dtype.kind not in "fiu" or not X.size:
        raise ValidationError(
            Problem(
                "wrong-shape",
                str(path),
                f"X is {X.dtype} {X.shape}, filenames {names.shape}; expected numbers (N, D) and (N,)",
            )
        )
    about = (
        {"encoder": encoder_name(path), "statistics": list(STATISTICS)}
        if meta is None
        else _parse_meta(meta, f"{path}: meta")
    )
    # Bytes, where they were saved so, are text in disguise.
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names], X.astype(np.float32), about


def holds_sequences(path: Path) -> bool:
    """Whether the source is a folder with a (T, D) file a clip."""
    return path.is_dir() and not _is_table_folder(path)


def _is_table_folder(folder: Path) -> bool:
    """Whether a folder's CSV files are tables of many clips each."""
    files = [path for path in sorted(folder.glob("*.csv")) if not path.name.startswith(".")]
    return bool(files) and not any(folder.glob("*.npy")) and not is_openface3_csv(files[0])


def _read_tables(path: Path) -> tuple[list[str], np.ndarray, dict]:
    """One table, or those of a folder together."""
    files = sorted(file for file in path.glob("*.csv") if not file.name.startswith(".")) if path.is_dir() else [path]
    tables = [_read_table(file) for file in files]
    columns = tables[0][2]
    for file, table in zip(files, tables):
        if table[2] != columns:
            raise ValidationError(
                Problem(
                    "wrong-shape",
                    str(file),
                    f"its columns are {some(table[2], 8)}; expected {some(columns, 8)}, as in {files[0].name}",
                )
            )
    return (
        [clip for table in tables for clip in table[0]],
        np.concatenate([table[1] for table in tables]),
        {"columns": columns},
    )


def _read_table(path: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Clips, numbers (N, D) and columns of one CSV; columns that are the six emotions come in index order."""
    where = str(path)
    table = _parse_csv(read_bytes(path), where)
    names = list(table.columns)
    if {"id", "pred"} <= set(names):
        return _parse_hicmae(table, where)
    if "filename" not in names or len(names) < 2:
        raise ValidationError(
            Problem(
                "bad-table",
                where,
                f"found the columns {some(names, 8)}; expected filename and at least one of numbers, or id,label,pred",
            )
        )
    ids = _named(table["filename"], "filename", where)
    numbers = table.drop(columns="filename")
    text = [name for name in numbers if numbers[name].dtype.kind not in "fiu"]
    if text:
        raise ValidationError(
            Problem(
                "bad-table", where, f"the columns {some(text)} hold text; expected a filename and numbers in every row"
            )
        )
    columns = list(EMOTIONS) if set(numbers.columns) == set(EMOTIONS) else list(numbers.columns)
    return ids, numbers[columns].to_numpy(np.float64), columns


def _parse_csv(raw: bytes, where: str) -> pd.DataFrame:
    """A table of at least one row. Raises ValidationError."""
    try:
        with io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig", newline="") as stream:
            names = [name.strip() for name in next(csv.reader(stream, skipinitialspace=True), [])]
        _demand_names(names, where)
        # Texts stay as they are: 007 does not become 7, nor NA an empty cell.
        as_text = {name: str for name in ("filename", "id", "pred") if name in names}
        empty = {name: ["", "nan", "NaN"] for name in names if name not in as_text}
        table = pd.read_csv(
            io.BytesIO(raw),
            names=names,
            header=0,
            dtype=as_text,
            na_values=empty,
            keep_default_na=False,
            skipinitialspace=True,
        )
    except ValidationError:
        raise
    except Exception as error:  # pandas has many of its own
        raise ValidationError(
            Problem(
                "bad-table",
                where,
                f"not a CSV table: {error}",
                hint="Save it as CSV in UTF-8, with a header and commas.",
            )
        ) from None
    if not len(table):
        raise ValidationError(Problem("bad-table", where, "no rows; expected one a clip"))
    if not isinstance(table.index, pd.RangeIndex):  # what pandas makes of cells beyond the header
        message = f"its rows have more cells than its header, which has {len(names)}"
        raise ValidationError(Problem("bad-table", where, message, hint="Name every column in the header."))
    return table


def _demand_names(names: Sequence[str], where: str) -> None:
    """ValidationError: the header is not separated by commas, or a column has no name."""
    separated = other_separator(names)
    if separated:
        raise ValidationError(Problem("bad-table", where, separated, hint=SAVE_WITH_COMMAS))
    unnamed = [place for place, name in enumerate(names, 1) if not name or name.startswith("Unnamed: ")]
    if unnamed:
        message = f"column {', '.join(map(str, unnamed))} has no name; expected one for each"
        raise ValidationError(
            Problem(
                "bad-table",
                where,
                message,
                hint="Is it the index of a pandas table? Write that with to_csv(…, index=False).",
            )
        )


def _named(column: pd.Series, name: str, where: str) -> list[str]:
    """The names of a table's rows."""
    column = column.str.strip()
    without = int((column == "").sum())
    if without:
        raise ValidationError(
            Problem("bad-table", where, f"{without:,} rows have no {name}; expected one in every row")
        )
    return list(column)


def _parse_hicmae(table: pd.DataFrame, where: str) -> tuple[list[str], np.ndarray, list[str]]:
    """HiCMAE's raw table: `id` is a path, `pred` six scores in brackets that can wrap over lines, neutral first."""
    ids = _named(table["id"].str.replace("\\", "/").str.rstrip("/").str.rpartition("/")[2], "id", where)
    rows, bad = [], []
    for clip, cell in zip(ids, table["pred"]):
        try:
            rows.append([float(number) for number in re.findall(r"[^\s\[\],]+", cell)])
        except ValueError:
            rows.append([])
        if len(rows[-1]) != len(HICMAE_ORDER):
            bad.append(clip)
    if bad:
        message = f"pred is not a list of six numbers in {len(bad):,} rows: {some(bad)}"
        raise ValidationError(
            Problem("bad-table", where, message, hint="Was the file cut short? Take it as HiCMAE's tool writes it.")
        )
    return ids, np.array(rows)[:, [HICMAE_ORDER.index(emotion) for emotion in EMOTIONS]], list(EMOTIONS)


# ------------------------------------------------------------------------------ pairing by id


def named(names: Sequence[str], ids: Collection[str]) -> list[str]:
    """The clips that names stand for, in Unicode's composed form: one of `ids` itself, any other without its suffix.

    >>> named(["a.mov", "IMG_1.MOV", "b"], ["IMG_1.MOV"])
    ['a', 'IMG_1.MOV', 'b']
    """
    clips = {spellings(clip)[0] for clip in ids}
    composed = (spellings(name)[0] for name in names)
    return [name if name in clips else clip_id(name) for name in composed]


def _order(clips: Sequence[str], ids: Sequence[str], where: str, hint: str | None = None) -> list[int]:
    """Where each of `ids` is in `clips`. ValidationError: missing, unknown or repeated clips."""
    place = {clip: index for index, clip in enumerate(clips)}
    composed = [spellings(clip)[0] for clip in ids]
    missing = [clip for clip in composed if clip not in place]
    extra = sorted(set(place) - set(composed))
    repeated = [clip for clip, count in Counter(clips).items() if count > 1]
    problems = []
    if missing:
        problems.append(
            Problem(
                "missing-clips",
                where,
                f"{len(missing):,} of {len(ids):,} clips have no features: {some(missing)}",
                hint=hint,
            )
        )
    if extra:
        problems.append(
            Problem(
                "unknown-clips",
                where,
                f"{len(extra):,} clips are not in the metadata: {some(extra)}",
                hint=folders_hint(extra)
                or "Are they of another partition? Keep each partition's features in a folder or file of its own.",
            )
        )
    if repeated:
        problems.append(
            Problem(
                "duplicate-clip",
                where,
                f"{len(repeated):,} clips are there more than once: {some(repeated)}; expected once",
            )
        )
    if problems:
        raise ValidationError(problems)
    return [place[clip] for clip in composed]


def _not_finite(where: str, clips: Sequence[str]) -> Problem:
    return Problem(
        "not-finite",
        where,
        f"{len(clips):,} clips hold NaN or Infinity (or empty cells): {some(clips)}; expected finite numbers",
    )
