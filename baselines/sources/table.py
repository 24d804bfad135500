"""A CSV table with one row per clip, HiCMAE's raw table of scores, or a folder of such tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from blemore.errors import Problem, ValidationError, some
from blemore.io import SAVE_WITH_COMMAS, other_separator, read_bytes
from blemore.labels import EMOTIONS

HICMAE_ORDER = ("neu", "ang", "disg", "fea", "hap", "sad")


def read_tables(path: Path) -> tuple[list[str], np.ndarray, dict]:
    """One table, or all tables of a folder combined."""
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
                f"found the columns {some(names, 8)}; expected filename and a column of numbers, or id,label,pred",
            )
        )
    ids = _row_names(table["filename"], "filename", where)
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
        # Text is kept unchanged: 007 does not become 7, nor NA an empty cell.
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
    except Exception as error:  # pandas raises many types
        raise ValidationError(
            Problem(
                "bad-table",
                where,
                f"not a CSV table: {error}",
                hint="Save it as CSV in UTF-8, with a header and commas.",
            )
        ) from None
    if not len(table):
        raise ValidationError(Problem("bad-table", where, "no rows; expected one per clip"))
    if not isinstance(table.index, pd.RangeIndex):  # pandas makes an index of cells beyond the header
        message = f"rows have more cells than the header, which has {len(names)}; expected the same number"
        raise ValidationError(Problem("bad-table", where, message, hint="Name every column in the header."))
    return table


def _demand_names(names: Sequence[str], where: str) -> None:
    """ValidationError: the header is not separated by commas, or a column has no name."""
    separated = other_separator(names)
    if separated:
        raise ValidationError(Problem("bad-table", where, separated, hint=SAVE_WITH_COMMAS))
    unnamed = [place for place, name in enumerate(names, 1) if not name or name.startswith("Unnamed: ")]
    if unnamed:
        message = f"column {', '.join(map(str, unnamed))} has no name; expected a name for each column"
        raise ValidationError(
            Problem(
                "bad-table",
                where,
                message,
                hint="Is it the index of a pandas table? Save the table with to_csv(…, index=False).",
            )
        )


def _row_names(column: pd.Series, name: str, where: str) -> list[str]:
    """The names of a table's rows."""
    column = column.str.strip()
    without = int((column == "").sum())
    if without:
        raise ValidationError(
            Problem("bad-table", where, f"{without:,} rows have no {name}; expected one in every row")
        )
    return list(column)


def _parse_hicmae(table: pd.DataFrame, where: str) -> tuple[list[str], np.ndarray, list[str]]:
    """HiCMAE's raw table: `id` is a path, `pred` six scores in brackets that may span lines, neutral first."""
    ids = _row_names(table["id"].str.replace("\\", "/").str.rstrip("/").str.rpartition("/")[2], "id", where)
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
            Problem(
                "bad-table", where, message, hint="Was the file cut short? Use the file that HiCMAE wrote, unchanged."
            )
        )
    return ids, np.array(rows)[:, [HICMAE_ORDER.index(emotion) for emotion in EMOTIONS]], list(EMOTIONS)
