"""A line that travels with a score and holds everything that could change it (cf. sacrebleu's signature).

`clips:594|blends:334|subset:all|rule:ranking|preds:5b0c…|labels:9e1a…|version:0.1.0`

The hashes are of what was scored, not of the files: clips sorted by id with their labels. Order,
spelling of ids, white space and a zip around the file leave them as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from blemore.labels import Label, Prediction
from blemore.metrics import Counts
from blemore.version import VERSION


def digest(lines: Iterable[str]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of lines."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def signature(
    predictions: Mapping[str, Prediction],
    labels: Mapping[str, Label],
    counts: Counts,
    subset: str,
    settings: Mapping[str, object] = {},
) -> str:
    """The signature of a score over `subset` (`all`, or which folds); `settings` are those of its intervals."""
    fields = {
        "clips": counts.n,
        "blends": counts.n_blends,
        "subset": subset,
        "rule": "ranking",
        "preds": digest(f"{clip}\t{entry.label}\t{entry.rounded}" for clip, entry in sorted(predictions.items())),
        "labels": digest(f"{clip}\t{label}" for clip, label in sorted(labels.items())),
        **settings,
        "version": VERSION,
    }
    return line(fields)


def line(fields: Mapping[str, object]) -> str:
    """Named values as one line: `clips:594|version:0.1.0`."""
    return "|".join(f"{key}:{value}" for key, value in fields.items())
