"""OpenFace's output files.

OpenFace 3, as in the dataset's `OpenFace_3_*` folders: a CSV a clip, a row a frame, with the columns
`emotion_index`, `gaze_yaw`, `gaze_pitch` and `action_units`, a bracketed list of 8 numbers in one
cell. Features are (frames, 11) in this order. A frame on which OpenFace failed holds `nan`; it is
interpolated over time from its neighbours, so that no frame moves. A clip with too few good frames is
refused rather than filled with what was never measured.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

GOOD_SHARE = 0.85  # of frames; fewer, and a clip is refused
SCALARS = ("emotion_index", "gaze_yaw", "gaze_pitch")
N_ACTION_UNITS = 8


def is_openface3_csv(path: Path) -> bool:
    """Whether a CSV file's header is OpenFace 3's."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        return "action_units" in (name.strip() for name in next(csv.reader(file), []))


def read_openface3_csv(path: Path) -> np.ndarray:
    """(frames, 11) float32. ValueError: the file is not OpenFace 3's, or too few of its frames are good."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = [[cell.strip() for cell in cells] for cells in csv.reader(file, skipinitialspace=True) if cells] or [[]]
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from None
    absent = [name for name in (*SCALARS, "action_units") if name not in header]
    if absent or not rows:
        raise ValueError(f"no column {', '.join(absent)}" if absent else "no frames")
    frames = np.array([_parse_row(header, cells, line) for line, cells in enumerate(rows, start=2)])
    return interpolate(frames, np.isfinite(frames).all(axis=1)).astype(np.float32)


def _parse_row(header: list[str], cells: list[str], line: int) -> list[float]:
    if len(cells) != len(header):
        raise ValueError(f"line {line}: {len(cells)} cells; expected {len(header)}, as in the header")
    row = dict(zip(header, cells))
    units = row["action_units"].strip("[] ").replace(",", " ").split()
    # An empty or missing list is a frame without a face; any other length is a broken file.
    if len(units) not in (0, N_ACTION_UNITS) and units != ["nan"]:
        raise ValueError(f"line {line}: {len(units)} action units; expected {N_ACTION_UNITS}")
    values = [row[name] or "nan" for name in SCALARS] + (units if len(units) == N_ACTION_UNITS else ["nan"] * N_ACTION_UNITS)
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from None


def interpolate(frames: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Frames (T, D) with those that are not `good` (T,) put linearly between their good neighbours.

    ValueError: less than `GOOD_SHARE` of the frames are good.
    """
    if good.mean() < GOOD_SHARE:
        raise ValueError(f"{good.sum()} of {len(good)} frames are good; expected at least {GOOD_SHARE:.0%}")
    times = np.arange(len(frames))
    return np.stack([np.interp(times, times[good], column[good]) for column in frames.T], axis=1)
