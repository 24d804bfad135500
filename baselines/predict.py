"""From an artefact and features to a checked submission."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from blemore.errors import FileError, Problem, ValidationError, show, some
from blemore.evaluate import check
from blemore.io import csv_text, read_bytes, to_json, write_atomic, zip_bytes
from blemore.labels import EMOTIONS, LABELS, to_entry
from blemore_baselines.decoding.decoders import Answers, read
from blemore_baselines.decoding.normalise import Reference, normalise
from blemore_baselines.features import MADE_BY, Features, fuse, read_features, runs_of
from blemore_baselines.models.heads import Scaler, build_head, clip_logits
from blemore_baselines.models.recipes import HEADS, NORMALISATIONS, PRESETS
from blemore_baselines.sources.folder import unfinished

COPY_AGAIN = "Was the run copied whole? Copy it again, or train again."


def predict(
    model: Path, feature_paths: Sequence[Path], ids: Sequence[str], actors: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The artefact's logits (N, 6) and label indices (N,) for the clips `ids`; of a model of several seeds, each one's
    logits (seeds, N, 6).

    actors: who is in each clip; needed if and only if the model was trained on features that are normalised per actor

    Raises FileError: the artefact or the features cannot be opened; ValidationError: the features do
    not match what the model was trained on (every difference is named), or are themselves wrong.
    """
    if "finetuned" in read_artefact(model):
        message = "was fine-tuned on clips; expected a model of features"
        hint = "Give it the clips themselves: predict --model RUN --clips DIR …"
        raise ValidationError(Problem("fine-tuned-model", str(model), message, hint=hint))
    runs = runs_of(model)
    specs = [parse_or_refuse(run / "model.json", _parse_spec) for run in runs]
    spec = specs[0]
    _demand_one_input(runs, specs)
    _demand_groups(model, spec.get("normalise", "none"), actors)
    aggregated = spec["method"] == "aggregate"
    sources = match([read_features(path, ids, aggregated) for path in feature_paths], feature_paths, spec["features"])
    features = fuse(sources)
    by_seed = [_logits(run, spec, features, actors, len(ids)) for run, spec in zip(runs, specs)]
    logits = by_seed[0] if runs == [model] else np.stack(by_seed)
    return logits, decode(model, logits).labels


def _logits(run: Path, spec: dict, features: Features, actors: Sequence[str] | None, n_clips: int) -> np.ndarray:
    """The logits (n_clips, 6) of one run's model."""
    head, scaler, reference = parse_or_refuse(run / "model.safetensors", lambda raw: _parse_tensors(raw, spec))
    X = features.X
    if actors:
        X = normalise(X, np.array(actors)[features.owner], spec["normalise"], reference, features.owner)
    with np.errstate(all="ignore"):  # refused below
        # In float64 and rounded: in what order a processor adds up must not decide anything.
        logits = clip_logits(head, scaler(X).astype(np.float64), features.owner, n_clips).round(9)
    if not np.isfinite(logits).all():
        message = "makes NaN or Infinity of the features; expected finite scores"
        raise ValidationError(Problem("bad-model", str(run / "model.safetensors"), message, hint=COPY_AGAIN))
    return logits


def decode(model: Path, logits: np.ndarray) -> Answers:
    """The artefact's logits, as `predict` gives them, decoded by its own decoder. Raises as `predict`."""
    return read(read_artefact(model)["decoder"], str(model / "model.json"))(logits)


def read_artefact(model: Path) -> dict:
    """What model.json holds: its `decoder` is there, all else is not yet looked at. Raises as `predict`."""
    _demand_artefact(model)
    return parse_or_refuse(model / "model.json", _parse_artefact)


def _demand_one_input(runs: Sequence[Path], specs: Sequence[dict]) -> None:
    """ValidationError: the seeds' models read other features than the first one's."""
    for run, spec in zip(runs, specs):
        names = [name for name in ("features", "method", "normalise") if spec.get(name) != specs[0].get(name)]
        if names:
            message = f"its {' and '.join(names)} differ from those of {runs[0] / 'model.json'}; expected one training"
            hint = "Were folders of several runs put together? Train again."
            raise ValidationError(Problem("mixed-run", str(run / "model.json"), message, hint=hint))


def _demand_groups(model: Path, method: str, actors: Sequence[str] | None) -> None:
    """ValidationError: the model needs groups and there are none, or the other way round."""
    if method != "none" and actors is None:
        message = f"was trained with --normalise {method}; expected to be told who is in each clip"
        hint = (
            "Give --groups CSV (filename,actor), such as `blemore-baselines actors` writes; or --without-groups, which"
            " takes each clip as it is."
        )
        raise ValidationError(Problem("no-groups", str(model), message, hint=hint))
    if method == "none" and actors is not None:
        message = "was trained without --normalise, so it has no use for groups"
        raise ValidationError(Problem("unwanted-groups", str(model), message, hint="Leave the groups out."))


def _demand_artefact(model: Path) -> None:
    """FileError: the path is there, but is no folder with a model."""
    if not model.exists() or (model / "model.json").exists():
        return
    content = "no model.json in it" if model.is_dir() else "a file"
    hint = "Give the run folder itself to --model, and folders of features to --features."
    raise FileError(
        unfinished(model)
        or Problem("no-model", str(model), f"{content}; expected a run folder, as `train` writes it", hint=hint)
    )


def parse_or_refuse(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """What a file of the artefact holds; ValidationError: it is damaged or something else."""
    raw = read_bytes(path)
    try:
        return parse(raw)
    except (ValueError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise ValidationError(Problem("bad-model", str(path), f"cannot be read: {error}", hint=COPY_AGAIN)) from None


def _parse_artefact(raw: bytes) -> dict:
    """What is common to models of features and fine-tuned ones; ValueError says what is wrong.

    What is in `decoder` is checked by the decoder itself.
    """
    spec = json.loads(raw, parse_constant=int)  # which refuses NaN and Infinity
    if not isinstance(spec, dict) or spec.get("emotions") != list(EMOTIONS):
        raise ValueError("not an artefact of `train`, whose emotions are " + ", ".join(EMOTIONS))
    demand_parts(spec, {"decoder": isinstance(spec.get("decoder"), dict)})
    return spec


def _parse_spec(raw: bytes) -> dict:
    """What model.json holds, as far as a prediction from features needs it; ValueError says what is wrong."""
    spec = _parse_artefact(raw)
    features = spec.get("features")
    sound = {
        "head": spec.get("head") in tuple(HEADS),
        "method": spec.get("method") in tuple(PRESETS["published"]),
        "features": isinstance(features, list) and bool(features) and all(map(_is_source, features)),
        "normalise": spec.get("normalise", "none") in NORMALISATIONS,
    }
    demand_parts(spec, sound)
    return spec


def demand_parts(spec: dict, sound: Mapping[str, bool]) -> None:
    """ValueError: parts of a spec are not as they should be, by their names."""
    wrong = [
        f"{key} is {show(str(spec[key])) if key in spec else 'missing'}" for key, fine in sound.items() if not fine
    ]
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; expected what `train` writes")


def _is_source(entry: object) -> bool:
    """Whether an entry of `features` is as `train.describe` writes it, as far as it is relied on here."""
    if not isinstance(entry, dict) or not isinstance(entry.get("encoder", ""), str):
        return False
    return isinstance(entry.get("path"), str) and isinstance(entry.get("dim"), int) and 0 < entry["dim"] < 2**31


def _parse_tensors(raw: bytes, spec: dict) -> tuple[nn.Module, Scaler, Reference | None]:
    """The head, in float64, the scaler, and what actors are normalised to; ValueError: there are other arrays, or of
    other shapes.
    """
    tensors, dim = safetensors.torch.load(raw), sum(source["dim"] for source in spec["features"])
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    with torch.device("meta"):  # without its numbers: whether there is room for so many columns is not known yet
        head = build_head(spec["head"], dim, seed=0)
    is_normalised = spec.get("normalise", "none") != "none"
    expected = {
        **({f"normalise.{name}": (dim,) for name in Reference._fields} if is_normalised else {}),
        "scaler.mean": (dim,),
        "scaler.scale": (dim,),
        **{f"head.{name}": tuple(one.shape) for name, one in head.state_dict().items()},
    }
    if shapes != expected:
        raise ValueError(f"found the arrays {show(str(shapes), 300)}; expected {expected}, as model.json tells them")
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    scaler = Scaler(tensors.pop("scaler.mean").numpy(), tensors.pop("scaler.scale").numpy())
    reference = None
    if is_normalised:
        reference = Reference(*(tensors.pop(f"normalise.{name}").numpy() for name in Reference._fields))
    head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items()}, assign=True)
    return head, scaler, reference


def match(sources: Sequence[Features], paths: Sequence[Path], wants: Sequence[dict]) -> list[Features]:
    """The sources in the order in which the model wants them, told apart by how they were made.

    Raises ValidationError, with every difference: a source is wanted that is not there, or one is left over.
    """
    left = list(zip(sources, paths))
    ordered, missing = [], []
    for want in wants:
        fitting = [place for place, (source, _) in enumerate(left) if not _differences(source.meta, want)]
        if fitting:
            # Of several, the one that agrees in most: a table that has only its width would fit in many places.
            best = max(fitting, key=lambda place: len(_comparable(left[place][0].meta, want)))
            ordered.append(left.pop(best)[0])
        else:
            missing.append(want)
    problems = [_unmatched(want, left) for want in missing]
    message = "the model was not trained on features like these"
    # What _unmatched has left of it.
    problems += [Problem("unwanted-features", str(path), message, hint="Leave them out.") for _, path in left]
    if problems:
        raise ValidationError(problems)
    return ordered


def _comparable(meta: dict, want: dict) -> list[str]:
    return [key for key in MADE_BY if meta.get(key) is not None and want.get(key) is not None]


def _differences(meta: dict, want: dict) -> list[str]:
    return [
        f"{key} is {show(str(meta[key]))}, the model's {show(str(want[key]))}"
        for key in _comparable(meta, want)
        if meta[key] != want[key]
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
        "other-features",
        str(path),
        f"does not match the model's {name}: {'; '.join(_differences(features.meta, want))}",
        hint="Make test features with the same encoder, preset, precision and aggregation as the train features.",
    )


def write_submission(ids: Sequence[str], labels: np.ndarray | Sequence[int], out: Path) -> None:
    """Write label indices (N,) as a zipped submission, checked as `blemore-score --check` does before it gets its name.

    Raises FileError; ValidationError: what would be submitted is invalid, and is not left behind.
    """
    if any(not 0 <= label < len(LABELS) for label in labels):
        raise ValueError(f"label indices are 0 to {len(LABELS) - 1}")
    # The ids as the challenge's own template spells them.
    predictions = {f"{clip}.mov": to_entry(LABELS[label]) for clip, label in zip(ids, labels, strict=True)}
    if len(predictions) < len(ids):
        repeated = [clip for clip, times in Counter(ids).items() if times > 1]
        message = f"{len(repeated):,} clips would stand in it more than once: {some(repeated)}; expected once"
        raise ValidationError(Problem("duplicate-clip", str(out), message))
    content = zip_bytes("predictions.json", to_json({"predictions": predictions}))
    with tempfile.TemporaryDirectory() as folder:
        unchecked = Path(folder) / "submission.zip"
        unchecked.write_bytes(content)
        check(unchecked, ids)
    write_atomic(out, content)


def expected_csv(ids: Sequence[str], labels: np.ndarray, expected: np.ndarray) -> str:
    """One row per clip: filename, label, expected_score (what it is expected to add, times the number of clips)."""
    rows = [(clip, LABELS[label], f"{value:.6f}") for clip, label, value in zip(ids, labels, expected)]
    return csv_text([("filename", "label", "expected_score"), *rows])
