"""An `.npz` file with `X` (N, D) and `filenames` (N,): what `aggregate` writes, and the dataset's static features."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.io import read_bytes
from blemore_baselines.sources.meta import STATISTICS, encoder_name, parse_meta


def read_npz(path: Path) -> tuple[list[str], np.ndarray, dict]:
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
        else parse_meta(meta, f"{path}: meta")
    )
    # Names may have been saved as bytes.
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names], X.astype(np.float32), about


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """The content of an `.npz` file; the same arrays give the same bytes."""
    buffer, contents = io.BytesIO(), dict[str, Any](arrays)
    np.savez(buffer, **contents)
    return buffer.getvalue()
