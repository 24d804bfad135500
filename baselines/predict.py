"""From an artefact and features to a checked submission."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blemore.errors import Problem, ValidationError, show, some
from blemore.evaluate import check
from blemore.io import csv_text, to_json, write_atomic, zip_bytes
from blemore.labels import LABELS, to_entry
from blemore_baselines.decoding.decoders import Answers, read
from blemore_baselines.decoding.normalise import normalise
from blemore_baselines.features import MADE_BY, Features, fuse, read_features, runs_of
from blemore_baselines.models.artefact import COPY_AGAIN, read_artefact, read_model, read_spec
from blemore_baselines.models.heads import clip_logits


def predict(
    model: Path, feature_paths: Sequence[Path], ids: Sequence[str], actors: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 6) and label indices (N,) for the clips `ids`; a model of several seeds gives logits (seeds, N, 6).

    model:  a run folder, or a copy of its artefact
    actors: who is in each clip; needed if and only if the model was trained on features that are normalised per actor

    Raises FileError: the artefact or the features cannot be opened; ValidationError: the artefact or the features are
    damaged, or the features do not match those that the model was trained on (every difference is named).
    """
    if "finetuned" in read_artefact(model):
        message = "was fine-tuned on clips; expected a model of features"
        hint = "Give it the clips themselves: predict --model RUN --clips DIR …"
        raise ValidationError(Problem("fine-tuned-model", str(model), message, hint=hint))
    runs = runs_of(model)
    specs = [read_spec(run) for run in runs]
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
    head, scaler, reference = read_model(run, spec)
    X = features.X
    if reference and actors:
        X = normalise(X, np.array(actors)[features.owner], spec["normalise"], reference, features.owner)
    with np.errstate(all="ignore"):  # overflow is refused below
        # In float64 and rounded, so the order in which a processor adds decides nothing.
        logits = clip_logits(head, scaler(X).astype(np.float64), features.owner, n_clips).round(9)
    if not np.isfinite(logits).all():
        message = "turns these features into NaN or Infinity; expected finite scores"
        raise ValidationError(Problem("bad-model", str(run / "model.safetensors"), message, hint=COPY_AGAIN))
    return logits


def decode(model: Path, logits: np.ndarray) -> Answers:
    """The logits from `predict`, decoded by the artefact's own decoder. Raises as `predict`."""
    return read(read_artefact(model)["decoder"], str(model / "model.json"))(logits)


def _demand_one_input(runs: Sequence[Path], specs: Sequence[dict]) -> None:
    """ValidationError: the seeds' models were not trained on the same features."""
    for run, spec in zip(runs, specs):
        names = [name for name in ("features", "method", "normalise") if spec.get(name) != specs[0].get(name)]
        if names:
            message = f"its {' and '.join(names)} differ from those of {runs[0] / 'model.json'}; expected one training"
            hint = "Were folders of several runs put together? Train again."
            raise ValidationError(Problem("mixed-run", str(run / "model.json"), message, hint=hint))


def _demand_groups(model: Path, method: str, actors: Sequence[str] | None) -> None:
    """ValidationError: the model needs groups and has none, or has groups that it does not need."""
    if method != "none" and actors is None:
        message = f"was trained with --normalise {method}; expected the actor of each clip"
        hint = (
            "Give --groups CSV (filename,actor), such as `blemore-baselines actors` writes; or --without-groups, which"
            " takes each clip as it is."
        )
        raise ValidationError(Problem("no-groups", str(model), message, hint=hint))
    if method == "none" and actors is not None:
        message = "was trained without --normalise, so it has no use for groups"
        raise ValidationError(Problem("unwanted-groups", str(model), message, hint="Leave the groups out."))


def match(sources: Sequence[Features], paths: Sequence[Path], wants: Sequence[dict]) -> list[Features]:
    """The sources in the order in which the model was trained on them, recognised by how they were made.

    Raises ValidationError, with every difference: a source is missing, does not match or is not needed.
    """
    rest = list(zip(sources, paths))
    ordered, missing = [], []
    for want in wants:
        fitting = [place for place, (source, _) in enumerate(rest) if not _differences(source.meta, want)]
        if fitting:
            # The source that agrees in most: a table that records only its width would fit in many places.
            best = max(fitting, key=lambda place: len(_comparable(rest[place][0].meta, want)))
            ordered.append(rest.pop(best)[0])
        else:
            missing.append(want)
    problems = [_unmatched(want, rest) for want in missing]  # takes sources out of the rest
    message = "the model was not trained on features like these"
    problems += [Problem("unwanted-features", str(path), message, hint="Leave them out.") for _, path in rest]
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


def _unmatched(want: dict, rest: list) -> Problem:
    """The problem with a source that the model needs; takes the most similar one out of `rest`."""
    name = want.get("encoder") or want["path"]
    if not rest:
        message = f"the model was trained on it (from {want['path']}); no --features given matches"
        return Problem("missing-features", name, message, hint="Give --features once for each encoder of the model.")
    nearest = min(range(len(rest)), key=lambda place: len(_differences(rest[place][0].meta, want)))
    features, path = rest.pop(nearest)
    return Problem(
        "other-features",
        str(path),
        f"does not match the model's {name}: {'; '.join(_differences(features.meta, want))}",
        hint="Make test features with the same encoder, preset, precision and aggregation as the train features.",
    )


def write_submission(ids: Sequence[str], labels: np.ndarray | Sequence[int], out: Path) -> None:
    """Write label indices (N,) as a zipped submission, after checking it as `blemore-score --check` does.

    Raises FileError: it cannot be written; ValidationError: it would be invalid, and nothing is written.
    """
    if any(not 0 <= label < len(LABELS) for label in labels):
        raise ValueError(f"label indices are 0 to {len(LABELS) - 1}")
    # With the suffix, as in the challenge's own template.
    predictions = {f"{clip}.mov": to_entry(LABELS[label]) for clip, label in zip(ids, labels, strict=True)}
    if len(predictions) < len(ids):
        repeated = [clip for clip, times in Counter(ids).items() if times > 1]
        message = f"{len(repeated):,} clips are in it more than once: {some(repeated)}; expected once"
        raise ValidationError(Problem("duplicate-clip", str(out), message))
    content = zip_bytes("predictions.json", to_json({"predictions": predictions}))
    with tempfile.TemporaryDirectory() as folder:
        unchecked = Path(folder) / "submission.zip"
        unchecked.write_bytes(content)
        check(unchecked, ids)
    write_atomic(out, content)


def expected_csv(ids: Sequence[str], labels: np.ndarray, expected: np.ndarray) -> str:
    """One row per clip: filename, label, expected_score (its expected contribution, times the number of clips)."""
    rows = [(clip, LABELS[label], f"{value:.6f}") for clip, label, value in zip(ids, labels, expected)]
    return csv_text([("filename", "label", "expected_score"), *rows])
