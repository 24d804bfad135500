"""What a source records about how its features were made."""

from __future__ import annotations

import json
import re
from pathlib import Path

from blemore.errors import Problem, ValidationError, show

META = "meta.json"  # beside the features that `extract` wrote
STATISTICS = (
    "mean",
    "std",
    "p10",
    "p25",
    "p50",
    "p75",
    "p90",
)  # of each dimension over time, in aggregated rows


def encoder_name(path: Path) -> str:
    """The encoder that a folder or file of the dataset is named after.

    >>> encoder_name(Path("WavLM_large_train")), encoder_name(Path("imagebind_static_features.npz"))
    ('WavLM_large', 'imagebind')
    """
    return re.sub(r"(_static_features|_train|_test)+$", "", Path(path).name.split(".")[0])


def parse_meta(text: str | bytes, where: str) -> dict:
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise ValidationError(
            Problem("bad-meta", where, f"not JSON: {error}", hint="Extract or aggregate these features again.")
        ) from None
    if not isinstance(meta, dict):
        raise ValidationError(
            Problem("bad-meta", where, f"found {show(meta)}; expected an object that names the encoder")
        )
    return meta
