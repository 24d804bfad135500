"""From an artefact and features to a checked submission."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import safetensors
import safetensors.torch

from blemore.errors import Problem, ValidationError, show, some
from blemore.evaluate import check
from blemore.io import read_bytes, to_json, write_atomic, zip_bytes
from blemore.labels import EMOTIONS, LABELS, to_entry
from blemore_baselines.crossval import clip_logits
from blemore_baselines.decode import softmax
from blemore_baselines.decoders import decode_by
from blemore_baselines.features import MADE_BY, Features, fuse, read_features
from blemore_baselines.heads import Scaler, build_head


def predict(model: Path, feature_paths: Sequence[Path], ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The artefact's logits (N, 6) and label indices (N,) for the clips `ids`.

    Raises FileError: the artefact or the features cannot be opened; ValidationError: the features do
    not match what the model was trained on (every difference is named), or are themselves wrong.
    """
    spec = _load(model / "model.json", _parse_spec)
    aggregated = spec["method"] == "aggregate"
    sources = match([read_features(path, ids, aggregated) for path in feature_paths], feature_paths, spec["features"])
    tensors = _load(model / "model.safetensors", safetensors.torch.load)
    scaler = Scaler(tensors.pop("scaler.mean").numpy(), tensors.pop("scaler.scale").numpy())
    head = build_head(spec["head"], len(scaler.mean), seed=0)
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items()})
    features = fuse(sources)
    # In float64 and rounded: in what order a processor adds up must not decide anything.
    logits = clip_logits(head.double(), scaler(features.X).astype(np.float64), features.owner, len(ids)).round(9)
    return logits, decode_by(spec["decoder"], softmax(logits), str(model / "model.json"))


def _load(path: Path, parse: Callable[[bytes], dict]) -> dict:
    """A parsed file of the artefact; ValidationError: it is damaged or something else."""
    raw = read_bytes(path)
    try:
        return parse(raw)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValidationError(Problem("bad-model", str(path), f"cannot be read: {error}", hint="Was it copied whole? Copy it again, or train again.")) from None


def _parse_spec(raw: bytes) -> dict:
    spec = json.loads(raw)
    if not isinstance(spec, dict) or spec.get("emotions") != list(EMOTIONS):
        raise ValueError("not an artefact of `train`, whose emotions are " + ", ".join(EMOTIONS))
    return spec


def match(sources: Sequence[Features], paths: Sequence[Path], wanted: Sequence[dict]) -> list[Features]:
    """The sources in the order in which the model wants them, told by how they were made.

    Raises ValidationError, with every difference: a source is wanted that is not there, or one is left over.
    """
    left = list(zip(sources, paths))
    ordered, missing = [], []
    for want in wanted:
        fitting = [place for place, (source, _) in enumerate(left) if not _differences(source.meta, want)]
        if fitting:
            # Of several, the one that agrees in most: a table that tells its width alone would fit in many places.
            best = max(fitting, key=lambda place: len(_comparable(left[place][0].meta, want)))
            ordered.append(left.pop(best)[0])
        else:
            missing.append(want)
    if missing or left:
        raise ValidationError([*(_unmatched(want, left) for want in missing), *(
            Problem("unwanted-features", str(path), "the model was not trained on features like these", hint="Leave them out.")
            for _, path in left  # what _unmatched has left of it
        )])
    return ordered


def _comparable(meta: dict, want: dict) -> list[str]:
    return [key for key in MADE_BY if meta.get(key) is not None and want.get(key) is not None]


def _differences(meta: dict, want: dict) -> list[str]:
    return [
        f"{key} is {show(str(meta[key]))}, the model's {show(str(want[key]))}"
        for key in _comparable(meta, want) if meta[key] != want[key]
    ]


def _unmatched(want: dict, left: list) -> Problem:
    """The problem with a source that is wanted; takes the nearest one out of `left`."""
    name = want.get("encoder") or want["path"]
    if not left:
        message = f"the model was trained on it (from {want['path']}); no --features given matches"
        return Problem("missing-features", name, message, hint="Give --features once for each encoder of the model.")
    nearest = min(range(len(left)), key=lambda place: len(_differences(left[place][0].meta, want)))
    features, path = left.pop(nearest)
    return Problem(
        "other-features", str(path), f"does not match the model's {name}: {'; '.join(_differences(features.meta, want))}",
        hint="Make test features with the same encoder, preset and aggregation as the train features.",
    )


def write_submission(ids: Sequence[str], labels: np.ndarray, out: Path) -> None:
    """Write label indices (N,) as a zipped submission, checked as `blemore-score --check` does before it gets its name.

    Raises FileError; ValidationError: what would be submitted is invalid, and is not left behind.
    """
    if any(not 0 <= label < len(LABELS) for label in labels):
        raise ValueError(f"label indices are 0 to {len(LABELS) - 1}")
    # The ids as the challenge's own template spells them.
    predictions = {f"{clip}.mov": to_entry(LABELS[label]) for clip, label in zip(ids, labels, strict=True)}
    if len(predictions) < len(ids):
        twice = [clip for clip, times in Counter(ids).items() if times > 1]
        message = f"{len(twice):,} clips would stand in it more than once: {some(twice)}; expected once"
        raise ValidationError(Problem("duplicate-clip", str(out), message))
    content = zip_bytes("predictions.json", to_json({"predictions": predictions}))
    with tempfile.TemporaryDirectory() as folder:
        unchecked = Path(folder) / "submission.zip"
        unchecked.write_bytes(content)
        check(unchecked, ids)
    write_atomic(out, content)
