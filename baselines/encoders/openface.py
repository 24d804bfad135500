"""OpenFace, from its output files: one CSV per clip, one row per frame. OpenFace 2 is also run, if it is installed.

OpenFace 2 (github.com/TadasBaltrusaitis/OpenFace): the intensities of 17 action units, then the head's pose Rx, Ry, Rz
(radians), Tx, Ty, Tz (mm), then 8 columns of gaze: two vectors and two angles. Features are (frames, 31) in this order,
which is not the file's. As in the challenge's features, a frame is good if `success` is 1 and `confidence` is at least
0.85. The two are applied one after the other: enough frames must be good by `success`, the others are interpolated;
then the same by `confidence`. Older versions of OpenFace wrote no angles. They are computed from the vectors as later
versions do: atan2(x, −z) and atan2(y, −z) of the mean of the two vectors.

OpenFace 3 (github.com/CMU-MultiComp-Lab/OpenFace-3.0), as in the dataset's `OpenFace_3_*` folders: the columns
`emotion_index`, `gaze_yaw`, `gaze_pitch` and `action_units`, a bracketed list of 8 numbers in one cell. Features are
(frames, 11) in this order. A frame on which OpenFace failed holds `nan`.

A frame that is not good is interpolated over time between its good neighbours; frames before the first good one or
after the last one repeat it. A clip with too few good frames is refused rather than filled with invented values.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from blemore.io import SAVE_WITH_COMMAS, other_separator
from blemore.labels import MEDIA_SUFFIXES
from blemore_baselines.clips.media import Clip, MediaError
from blemore_baselines.encoders.base import Encoder

GOOD_SHARE = 0.85  # of frames; a clip with fewer is refused
CONFIDENCE = 0.85  # the least confidence of a good frame (OpenFace 2)
PROGRAM = "FeatureExtraction"
GAZE = tuple(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz")
GAZE_ANGLES = ("gaze_angle_x", "gaze_angle_y")
MEASURED = (
    *(f"AU{number:02}_r" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)),
    *(f"pose_{name}" for name in ("Rx", "Ry", "Rz", "Tx", "Ty", "Tz")),
    *GAZE,
)
SCALARS = ("emotion_index", "gaze_yaw", "gaze_pitch")
N_ACTION_UNITS = 8


class TooFewGoodFrames(ValueError):
    """Too few frames of a clip are good."""


class OpenFace3(Encoder):
    name = "openface3"
    modality = "video"
    dim = len(SCALARS) + N_ACTION_UNITS
    unit = "frame"
    revision = "1"
    weights = "CSV files of OpenFace 3, as in the dataset's folders"
    licence = "see github.com/CMU-MultiComp-Lab/OpenFace-3.0"
    presets = ("published",)
    suffixes: tuple[str, ...] = (".csv",)

    def _encode(self, clip: Clip) -> np.ndarray:
        return _read(read_openface3_csv, clip.path, clip)


class OpenFace2(OpenFace3):
    """Reads OpenFace 2's CSV files, and runs OpenFace 2 on any other file.

    weights: the program `FeatureExtraction`; None: the one on the PATH
    """

    name = "openface2"
    dim = len(MEASURED) + len(GAZE_ANGLES)
    revision = "2"
    weights = "CSV files of OpenFace 2, or its program FeatureExtraction"
    licence = "academic, non-commercial"
    suffixes = (".csv", *MEDIA_SUFFIXES)

    def __init__(self, preset: str | None = None, weights: str | Path | None = None):
        super().__init__(preset)
        self.program = str(weights or PROGRAM)

    def _encode(self, clip: Clip) -> np.ndarray:
        if clip.path.suffix.lower() == ".csv":
            return _read(read_openface2_csv, clip.path, clip)
        with TemporaryDirectory() as folder:
            return _read(read_openface2_csv, self._run(clip, Path(folder)), clip)

    def _run(self, clip: Clip, folder: Path) -> Path:
        """The CSV file that OpenFace writes into a folder."""
        program = shutil.which(self.program)
        if program is None:
            raise MediaError(
                "no-openface",
                clip.path,
                f"not a CSV file of OpenFace 2, and its program {self.program} is not installed",
                "Install it from github.com/TadasBaltrusaitis/OpenFace and put it on the PATH, or name it with"
                " --weights; or run it elsewhere and give the folder of its CSV files.",
            )
        try:
            command = [program, "-f", str(clip.path.absolute()), "-out_dir", str(folder), "-aus", "-pose", "-gaze"]
            run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        except OSError as error:
            raise MediaError("no-openface", clip.path, f"{program} cannot be run: {error.strerror}") from None
        files = sorted(folder.glob("*.csv"))
        if run.returncode or len(files) != 1:
            words = (run.stderr.strip() or run.stdout.strip() or "nothing").splitlines()[-1]
            message = f"{PROGRAM} exited with {run.returncode} and wrote {len(files)} CSV files; it printed: {words}"
            raise MediaError("openface-failed", clip.path, message)
        return files[0]


def _read(read: Callable[[Path], np.ndarray], path: Path, clip: Clip) -> np.ndarray:
    """The features of a clip from an OpenFace file. Raises MediaError."""
    try:
        return read(path)
    except FileNotFoundError:
        raise MediaError("missing-file", clip.path, "there is no such file") from None
    except OSError as error:
        raise MediaError("unreadable", clip.path, f"cannot be read: {error.strerror}") from None
    except TooFewGoodFrames as error:
        hint = "Is the face hidden, turned away, or out of the picture?"
        raise MediaError("few-good-frames", clip.path, str(error), hint) from None
    except ValueError as error:
        raise MediaError("bad-openface-file", clip.path, str(error)) from None


# -------------------------------------------------------------------------------- OpenFace 2


def read_openface2_csv(path: Path) -> np.ndarray:
    """(frames, 31) float32. Raises ValueError: the file is not OpenFace 2's, or too few of its frames are good."""
    header, rows = _read_cells(path)
    angles = GAZE_ANGLES if set(GAZE_ANGLES) <= set(header) else ()
    names = ("frame", "success", "confidence", *MEASURED, *angles)
    _check(header, rows, names)
    places = [header.index(name) for name in names]
    table = np.array([[_number(cells[place], line) for place in places] for line, cells in rows])
    number, success, confidence, features = table[:, 0], table[:, 1], table[:, 2], table[:, 3:]
    if not angles:
        x, y, z = features[:, -len(GAZE) :].reshape(-1, 2, 3).mean(axis=1).T
        features = np.column_stack([features, np.arctan2(x, -z), np.arctan2(y, -z)])
    if not (np.diff(number) > 0).all() or (number % 1 != 0).any() or number[0] < 0:
        raise ValueError("its frame numbers do not rise; expected one row per frame, of one face")
    # A frame without a row is not good either. OpenFace counts from 1, some tools from 0.
    at = (number - min(number[0], 1)).astype(int)
    goods = {
        "success": (success == 1) & np.isfinite(features).all(axis=1),
        "confidence": confidence >= CONFIDENCE,
    }
    for measure, good in goods.items():
        _check_share(good.sum(), at[-1] + 1, measure)
    frames = np.zeros((at[-1] + 1, features.shape[1]))
    frames[at] = features
    for good in goods.values():
        everywhere = np.zeros(len(frames), bool)
        everywhere[at] = good
        frames = interpolate(frames, everywhere)
    return frames.astype(np.float32)


def _number(cell: str, line: int) -> float:
    try:
        return float("nan" if not cell or "nan" in cell.lower() else cell)  # "-nan(ind)" on Windows
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from None


# -------------------------------------------------------------------------------- OpenFace 3


def is_openface3_csv(path: Path) -> bool:
    """Whether a CSV file's header is OpenFace 3's."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        return "action_units" in (name.strip() for name in next(csv.reader(file), []))


def read_openface3_csv(path: Path) -> np.ndarray:
    """(frames, 11) float32. Raises ValueError: the file is not OpenFace 3's, or too few of its frames are good."""
    header, rows = _read_cells(path)
    _check(header, rows, (*SCALARS, "action_units"))
    frames = np.array([_parse_row(header, cells, line) for line, cells in rows])
    return interpolate(frames, np.isfinite(frames).all(axis=1)).astype(np.float32)


def _parse_row(header: list[str], cells: list[str], line: int) -> list[float]:
    row = dict(zip(header, cells))
    units = row["action_units"].strip("[] ").replace(",", " ").split()
    # An empty or missing list means a frame without a face; any other length means a broken file.
    if len(units) not in (0, N_ACTION_UNITS) and units != ["nan"]:
        raise ValueError(f"line {line}: {len(units)} action units; expected {N_ACTION_UNITS}")
    values = [row[name] or "nan" for name in SCALARS] + (
        units if len(units) == N_ACTION_UNITS else ["nan"] * N_ACTION_UNITS
    )
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from None


# -------------------------------------------------------------------------------------- both


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with its line number, without the spaces that older versions put around cells."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in cells] for cells in csv.reader(file, skipinitialspace=True) if cells]
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from None
    header, *rows = lines or [[]]
    return header, list(enumerate(rows, start=2))


def _check(header: list[str], rows: list[tuple[int, list[str]]], columns: tuple[str, ...]) -> None:
    separated = other_separator(header)
    if separated:
        raise ValueError(f"{separated}. {SAVE_WITH_COMMAS}")
    absent = [name for name in columns if name not in header]
    if absent or not rows:
        raise ValueError(f"has no column {', '.join(absent)}" if absent else "has no frames")
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"line {line}: {len(cells)} cells; expected {len(header)}, as in the header")


def interpolate(frames: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Frames (T, D), with those that are not `good` (T,) linearly interpolated between their good neighbours.

    Raises TooFewGoodFrames: less than `GOOD_SHARE` of the frames are good.
    """
    _check_share(good.sum(), len(good))
    times = np.arange(len(frames))
    return np.stack([np.interp(times, times[good], column[good]) for column in frames.T], axis=1)


def _check_share(good: int, frames: int, measure: str | None = None) -> None:
    if good / frames < GOOD_SHARE:
        by = f"by {measure}, " if measure else ""
        raise TooFewGoodFrames(f"{by}{good} of {frames} frames are good; expected at least {GOOD_SHARE:.0%}")
