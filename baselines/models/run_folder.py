"""A run folder: which run it belongs to, and the tables of its results.

    config.json         what was run, with digests of its inputs; a second call with the same config resumes it
    folds/              the logits and losses of finished folds, until all are finished
    labels.csv          the clips' true labels (index in blemore.labels.LABELS), actors and folds
    oof_logits.npz      (epochs, N, 6) float32, with filenames and folds
    oof_logits.csv      the same at the final model's number of epochs (at the last one, if there are fewer)
    model.safetensors   the final model's head and scaler (artefact.py)
    model.json          everything else that a prediction needs
    test_logits.csv     written by the last `predict` with this model
    learning_curves.csv training loss, and the validation fold's loss and published score, per epoch
    metrics.json, folds.csv   the published and the nested figures; metrics.json is written last

A run with several seeds has a run folder per seed inside it (seed_0, …; seeds.py).
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from blemore.errors import Problem, ValidationError, show
from blemore.io import csv_text, to_json, write_atomic
from blemore.version import VERSION
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import fit_grid
from blemore_baselines.features import MADE_BY, RUN_OOF, Features, scores_csv
from blemore_baselines.models.heads import row_losses
from blemore_baselines.sources.npz import npz_bytes

OPTIONAL = {"normalise", "decoder", "structured_weight"}  # keys that config.json may lack


def claim(out: Path, config: dict) -> None:
    """Make `out` the folder of the run with this config, unless it is already.

    Raises ValidationError: it holds another run, with every difference, or something else.
    """
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        before = None
    except ValueError:
        before = {}
    if before is None and not (out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())):
        write_atomic(out / "config.json", to_json(config))
        return
    if not isinstance(before, dict) or set(before) - OPTIONAL != set(config) - OPTIONAL:
        message = "the folder is not empty and holds no run"
        raise ValidationError(Problem("other-run", str(out), message, hint="Choose another --out."))
    problems = _differences(_settings(before), _settings(config), str(out / "config.json"))
    if problems:
        raise ValidationError(problems)


def _differences(before: Mapping[str, object], now: Mapping[str, object], where: str) -> list[Problem]:
    """A problem for each setting that has changed. A recipe follows from its preset and method."""
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if {"preset", "method"} & set(names):
        names = [name for name in names if not name.startswith("recipe")]
    hint = "Choose another --out, or delete the folder."
    messages = [f"the folder holds a run {_difference(name, before.get(name), now.get(name))}" for name in names]
    return [Problem("other-run", where, message, hint=hint) for message in messages]


def _difference(name: str, before: object, now: object) -> str:
    if name == "train digest":
        return "with different clips, labels, folds or actors"
    match = re.fullmatch(r"features (\d+) (\w+)", name)
    if match and match[2] == "digest":
        return f"that was trained on different features (source {match[1]})"
    label = f"{match[2]} of source {match[1]}" if match else {"train clips": "number of clips"}.get(name, name)
    return f"with another {label}: {show(before)}; now {show(now)}"


def _settings(value: object, name: str = "") -> dict[str, object]:
    """What must be the same in a second call, by names such as `features 1 digest`. Paths and versions may change.

    Precision is left out, because the digest covers it and earlier versions did not record it.
    """
    if isinstance(value, dict):
        parts = [(str(key), part) for key, part in value.items() if key not in ("versions", "path", "precision")]
    elif isinstance(value, list) and all(isinstance(part, dict) for part in value):
        parts = [(str(number), part) for number, part in enumerate(value, start=1)]
    else:
        return {name: value}
    return {
        inner: setting for outer, part in parts for inner, setting in _settings(part, f"{name} {outer}".strip()).items()
    }


# ---------------------------------------------------------------------------- parts of config.json


def describe(source: Features, path: Path) -> dict:
    """How features were made, where they are, and a digest of their content."""
    return {
        **{key: source.meta[key] for key in MADE_BY if source.meta.get(key) is not None},
        "path": str(path),
        "digest": source.digest,
    }


def describe_clips(dataset: Dataset, metadata: Path | None = None) -> dict:
    """How many clips there are, a digest of their metadata, and its path if it is known."""
    path = {"path": str(metadata)} if metadata else {}
    return {"clips": len(dataset.ids), "digest": dataset.digest, **path}


def decoder_config(decoder: str, options: Mapping[str, float]) -> dict:
    """The decoder. The first two are written as `structured_weight` (null: thresholds), as in earlier versions."""
    if decoder in ("thresholds", "structured"):
        return {"structured_weight": options.get("weight")}
    return {"decoder": {"name": decoder, **options}}


def versions() -> dict:
    return {
        "blemore": VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------------------------- the tables


def write_results(
    dataset: Dataset,
    logits: np.ndarray,
    losses: Mapping[int, Sequence[float]],
    last: np.ndarray,
    metrics: dict,
    out: Path,
) -> None:
    """Write the tables, metrics.json last.

    logits: (epochs, N, 6), out of fold
    losses: fold → mean training losses (epochs,)
    last:   (N, 6), the out-of-fold logits that correspond to the final model
    """
    write_atomic(out / "labels.csv", _labels_csv(dataset))
    write_atomic(out / "oof_logits.npz", npz_bytes(logits=logits, filenames=np.array(dataset.ids), folds=dataset.folds))
    write_atomic(out / RUN_OOF, scores_csv(dataset.ids, last))
    write_atomic(out / "learning_curves.csv", _learning_curves(dataset, logits, losses))
    write_atomic(out / "folds.csv", _folds_csv(metrics))
    write_atomic(out / "metrics.json", to_json(metrics))


def _labels_csv(dataset: Dataset) -> str:
    return csv_text(
        [("filename", "label", "actor", "fold"), *zip(dataset.ids, dataset.labels, dataset.actors, dataset.folds)]
    )


def _learning_curves(dataset: Dataset, logits: np.ndarray, losses: Mapping[int, Sequence[float]]) -> str:
    rows: list[tuple] = [("fold", "epoch", "train_loss", "validation_loss", "published_score")]
    for fold, fold_losses in losses.items():
        inside = dataset.folds == fold
        targets = torch.from_numpy(dataset.targets[inside])
        for epoch, loss in enumerate(fold_losses):
            validation = row_losses(torch.from_numpy(logits[epoch, inside]), targets).mean().item()
            _, score = fit_grid(softmax(logits[epoch, inside]), dataset.labels[inside])
            rows.append((fold, epoch + 1, f"{loss:.6f}", f"{validation:.6f}", f"{score:.6f}"))
    return csv_text(rows)


def _folds_csv(metrics: dict) -> str:
    names = ["fold", "epoch", "alpha", "beta", "acc_presence", "acc_salience", "score", "n", "n_blends"]
    rows = [
        [account, *(fold[name] for name in names)]
        for account in ("published", "nested")
        for fold in metrics[account]["folds"]
    ]
    return csv_text([["account", *names], *rows])
