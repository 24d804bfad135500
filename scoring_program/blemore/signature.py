"""A line that travels with a score and holds everything that could change it (cf. sacrebleu's signature).

`clips:594|blends:334|subset:all|rule:ranking|preds:5b0c…|labels:9e1a…|version:0.1.0`

The hashes are of what was scored, not of the files: clips sorted by id with their labels. Order,
spelling of ids, white space and a zip around the file do not change them.

A plain hash of hidden labels is an oracle: anyone who knows all but a few of them can test guesses of the
others. So the hash is keyed (`labels:keyed-9e1a…`) if the labels come with a secret. Two scores with the
same keyed hash used the same labels. Nobody can compute that hash without the secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from blemore.labels import Label, Prediction
from blemore.metrics import Counts
from blemore.version import VERSION


def digest(lines: Iterable[str], secret: str | None = None) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of lines; with a secret, `keyed-` and those of the HMAC."""
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    if secret is None:
        return hashlib.sha256(text).hexdigest()[:16]
    return f"keyed-{hmac.new(secret.encode('utf-8', 'surrogatepass'), text, hashlib.sha256).hexdigest()[:16]}"


def digest_predictions(predictions: Mapping[str, Prediction]) -> str:
    return digest(f"{clip}\t{entry.label}\t{entry.rounded}" for clip, entry in sorted(predictions.items()))


def digest_labels(labels: Mapping[str, Label], secret: str | None = None) -> str:
    return digest((f"{clip}\t{label}" for clip, label in sorted(labels.items())), secret)


def signature(
    predictions: Mapping[str, Prediction],
    labels: Mapping[str, Label],
    counts: Counts,
    subset: str,
    settings: Mapping[str, object] = {},
    secret: str | None = None,
) -> str:
    """The signature of a score over `subset` (`all`, or which folds); `settings` are those of its intervals."""
    fields = {
        "clips": counts.n,
        "blends": counts.n_blends,
        "subset": subset,
        "rule": "ranking",
        "preds": digest_predictions(predictions),
        "labels": digest_labels(labels, secret),
        **settings,
        "version": VERSION,
    }
    return line(fields)


def hidden_signature(
    predictions: Mapping[str, Prediction], labels: Mapping[str, Label], secret: str | None = None
) -> str:
    """The public signature of a score on hidden labels. Only a keyed hash in it depends on them."""
    fields = {
        "clips": len(labels),
        "rule": "ranking",
        "preds": digest_predictions(predictions),
        "labels": "hidden" if secret is None else digest_labels(labels, secret),
        "version": VERSION,
    }
    return line(fields)


def line(fields: Mapping[str, object]) -> str:
    """Named values as one line: `clips:594|version:0.1.0`."""
    return "|".join(f"{key}:{value}" for key, value in fields.items())
