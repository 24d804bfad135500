"""From an artefact and features to a checked submission."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Sequence

import numpy as np
import safetensors.torch

from blemore.errors import Problem, ValidationError, show
from blemore.evaluate import check
from blemore.io import read_bytes, to_json, write_atomic, zip_bytes
from blemore.labels import LABELS, to_entry
from blemore_baselines.decode import Thresholds, decode_thresholds, softmax
from blemore_baselines.features import MADE_BY, Features, fuse, read_features
from blemore_baselines.heads import Scaler, build_head
from blemore_baselines.train import clip_logits


def predict(model: Path, feature_paths: Sequence[Path], ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The artefact's logits (N, 6) and label indices (N,) for the clips `ids`.

    Raises FileError: the artefact or the features cannot be opened; ValidationError: the features do
    not match what the model was trained on (every difference is named), or are themselves wrong.
    """
    spec = json.loads(read_bytes(model / "model.json"))
    aggregated = spec["method"] == "aggregate"
    sources = match([read_features(path, ids, aggregated) for path in feature_paths], feature_paths, spec["features"])
    tensors = safetensors.torch.load(read_bytes(model / "model.safetensors"))
    scaler = Scaler(tensors.pop("scaler.mean").numpy(), tensors.pop("scaler.scale").numpy())
    head = build_head(spec["head"], len(scaler.mean), seed=0)
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items()})
    features = fuse(sources)
    logits = clip_logits(head, scaler(features.X), features.owner, len(ids))
    thresholds = Thresholds(spec["decoder"]["alpha"], spec["decoder"]["beta"])
    return logits, decode_thresholds(softmax(logits), thresholds)


def match(sources: Sequence[Features], paths: Sequence[Path], wanted: Sequence[dict]) -> list[Features]:
    """The sources in the order in which the model wants them, told by how they were made.

    Raises ValidationError, with every difference: a source is wanted that is not there, or one is left over.
    """
    left = list(zip(sources, paths))
    ordered, problems = [], []
    for want in wanted:
        fitting = next((pair for pair in left if not _differences(pair[0].meta, want)), None)
        if fitting:
            left.remove(fitting)
            ordered.append(fitting[0])
        else:
            problems.append(want)
    if problems or left:
        raise ValidationError([*(_unmatched(want, left) for want in problems), *(
            Problem("unwanted-features", str(path), "the model was not trained on features like these", hint="Leave them out.")
            for _, path in left[len(problems):]
        )])
    return ordered


def _differences(meta: dict, want: dict) -> list[str]:
    return [
        f"{key} is {show(str(meta[key]))}, the model's {show(str(want[key]))}"
        for key in MADE_BY if meta.get(key) is not None and want.get(key) is not None and meta[key] != want[key]
    ]


def _unmatched(want: dict, left: list) -> Problem:
    name = want.get("encoder") or want["path"]
    if not left:
        return Problem("missing-features", name, f"the model was trained on it (from {want['path']}); no --features given matches")
    features, path = min(left, key=lambda pair: len(_differences(pair[0].meta, want)))
    return Problem(
        "other-features", str(path), f"does not match the model's {name}: {'; '.join(_differences(features.meta, want))}",
        hint="Make test features with the same encoder, preset and aggregation as the train features.",
    )


def write_submission(ids: Sequence[str], labels: np.ndarray, out: Path) -> None:
    """Write label indices (N,) as a zipped submission, checked as `blemore-score --check` does before it gets its name.

    Raises FileError; ValidationError: what would be submitted is invalid, and is not left behind.
    """
    # The ids as the challenge's own template spells them.
    predictions = {f"{clip}.mov": to_entry(LABELS[label]) for clip, label in zip(ids, labels)}
    unchecked = out.with_name(f".{out.name}.unchecked")
    try:
        write_atomic(unchecked, zip_bytes("predictions.json", to_json({"predictions": predictions})))
        check(unchecked, ids)
        os.replace(unchecked, out)
    finally:
        unchecked.unlink(missing_ok=True)
