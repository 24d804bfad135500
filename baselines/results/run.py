"""Reads a run folder that `train` wrote, and checks that all its files belong to one run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from blemore.errors import FileError, Problem, ValidationError
from blemore.io import read_bytes, read_json, read_table
from blemore.signature import line
from blemore.tables import shown
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.accounts import accuracies, predict_account, scored
from blemore_baselines.decoding.scores import read_models, softmax
from blemore_baselines.features import runs_of
from blemore_baselines.models.recipes import Recipe, recipe_digest
from blemore_baselines.results.text import METRICS
from blemore_baselines.sources.folder import unfinished
from blemore_baselines.sources.meta import encoder_name

CURVES = ["fold", "epoch", "train_loss", "validation_loss", "published_score"]
NEEDED = ("config.json", "learning_curves.csv", "labels.csv", "oof_logits.npz")  # in addition to metrics.json
AGAIN = "Train again, into another folder: blemore-baselines train … --out RUN"


class Run(NamedTuple):
    """The contents of a run folder, or the equivalent for given scores (scores.py).

    curves:        None for scores, and for several seeds together
    probabilities: (epochs, N, 6), out of fold, for the dataset's clips in order; one epoch if there are no curves
    """

    folder: Path
    config: Mapping
    metrics: Mapping
    curves: pd.DataFrame | None
    dataset: Dataset
    probabilities: np.ndarray

    @property
    def encoders(self) -> list[str]:
        return [str(source.get("encoder") or encoder_name(Path(source["path"]))) for source in self.config["features"]]

    @property
    def fields(self) -> dict[str, object]:
        """Everything that determines the figures, with the same names as in studies."""
        config, digests = self.config, "+".join(source["digest"] for source in self.config["features"])
        fields = {"clips": config["train"]["clips"], "train": config["train"]["digest"]}
        if self.is_of_scores:
            return {**fields, "scores": digests, "version": config["versions"]["blemore"]}
        return {
            **fields,
            "features": digests,
            "head": config["head"],
            "recipe": recipe_digest(config["recipe"]) if self.is_finetuned else Recipe(**config["recipe"]).digest,
            "seed": self.seeds,
            **({"normalise": config["normalise"]} if "normalise" in config else {}),
            "version": config["versions"]["blemore"],
        }

    @property
    def seeds(self) -> str:
        """The seed, or all seeds as "0, 1, 2"."""
        seed = self.config["seed"]
        return ", ".join(map(str, seed)) if isinstance(seed, list) else str(seed)

    @property
    def is_finetuned(self) -> bool:
        return self.config["method"] == "fine-tuned"

    @property
    def is_of_scores(self) -> bool:
        return self.config["method"] == "scores"

    @property
    def signature(self) -> str:
        return line(self.fields)

    def decoded(self, account: str) -> np.ndarray:
        """(N,) the labels that an account predicts, with each fold's epoch, α and β."""
        return predict_account(self.probabilities, self.dataset.folds, self.metrics[account])


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises FileError: no finished run, or a file that a report needs is missing; ValidationError: files disagree or are
    damaged.
    """
    if not (folder / "metrics.json").exists():
        raise FileError(_no_run(folder))
    if runs_of(folder) != [folder]:
        return _read_seeds(folder)
    absent = [name for name in NEEDED if not (folder / name).exists()]
    if absent:
        raise FileError(
            [
                Problem("incomplete-run", str(folder / name), "is missing; expected for the report", hint=f"{AGAIN}.")
                for name in absent
            ]
        )
    config, metrics = (_read_json(folder / name) for name in ("config.json", "metrics.json"))
    try:
        curves = pd.read_csv(io.BytesIO(read_bytes(folder / "learning_curves.csv")))[CURVES]
        dataset = _read_clips(folder / "labels.csv")
        logits, ids = _read_logits(folder / "oof_logits.npz")
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:  # FileError is none of these
        message = f"labels.csv, learning_curves.csv or oof_logits.npz is damaged: {error}"
        raise ValidationError(_mixed(folder, message)) from None
    if set(ids) != set(dataset.ids):
        raise ValidationError(_mixed(folder, "labels.csv and oof_logits.npz hold different clips"))
    if len(curves) != (expected := len(logits) * len(np.unique(dataset.folds))):
        raise ValidationError(
            _mixed(
                folder, f"learning_curves.csv has {len(curves):,} rows; expected {expected:,}, one per fold and epoch"
            )
        )
    place = {clip: row for row, clip in enumerate(ids)}
    probabilities = softmax(logits[:, [place[clip] for clip in dataset.ids]])
    run = Run(folder, config, metrics, curves, dataset, probabilities)
    _demand_agreement(run)
    return run


def _read_seeds(folder: Path) -> Run:
    """Several seeds as one run, with their mean probabilities."""
    dataset = read_run(runs_of(folder)[0]).dataset
    config, metrics = (_read_json(folder / name) for name in ("config.json", "metrics.json"))
    probabilities = read_models([folder], dataset.ids).average()[np.newaxis]
    run = Run(folder, config, metrics, None, dataset, probabilities)
    _demand_agreement(run)
    return run


def _read_json(path: Path) -> dict:
    data = read_json(path).data
    return data if isinstance(data, dict) else {}


def _read_clips(path: Path) -> Dataset:
    """The labelled clips. Raises KeyError, ValueError: a column is missing, or does not hold numbers."""
    rows = read_table(path)
    ids, labels, folds, actors = ([row[column] for row in rows] for column in ("filename", "label", "fold", "actor"))
    return Dataset(ids, np.array(list(map(int, labels))), np.array(list(map(int, folds))), actors)


def _read_logits(path: Path) -> tuple[np.ndarray, list[str]]:
    """(epochs, N, 6), and the ids of the N clips. Raises KeyError, ValueError, EOFError, BadZipFile: damaged file."""
    with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as stored:
        return stored["logits"], stored["filenames"].tolist()


def _demand_agreement(run: Run) -> None:
    """ValidationError: config or metrics lack a key, or the logits give another nested score than the metrics state."""
    try:
        _, _, nested = run.encoders, run.fields, run.metrics["nested"]
        counts = scored(run.dataset, run.decoded("nested")).counts
        same = all(accuracies(counts)[name] == nested[name] for name in METRICS)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValidationError(_mixed(run.folder, f"config.json or metrics.json is damaged: {error!r}")) from None
    if not same:
        message = (
            f"the out-of-fold logits give a nested score of {shown(counts.score)}; expected {shown(nested['score'])},"
            " as in metrics.json"
        )
        raise ValidationError(_mixed(run.folder, message))


def _mixed(folder: Path, message: str) -> Problem:
    return Problem("mixed-run", str(folder), message, hint=f"Were files of several runs mixed? {AGAIN}.")


def _no_run(folder: Path) -> Problem:
    """The problem with a folder that holds no finished run; a folder of `reproduce` looks like an unfinished one."""
    results = None
    if (folder / "results.txt").exists():
        results = folder
    elif (folder / "figures.json").exists():
        results = folder.parent
    if results:
        hint = (
            "It is a folder of `reproduce`, which writes its own results: see"
            f" {results / 'results.txt'} and results.png next to it."
        )
        return Problem("no-run", str(folder), "holds no run of `train` (no metrics.json)", hint=hint)
    return unfinished(folder) or Problem(
        "no-run",
        str(folder),
        "holds no run (no metrics.json)",
        hint="Train first: blemore-baselines train … --out RUN.",
    )
