"""The published threshold rule, on the mean of the models' probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.accounts import figures_with_intervals, predict_account
from blemore_baselines.decoding.decoders import Answers, Decoded, bad_spec
from blemore_baselines.decoding.scores import Models, softmax
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact


def demand(dataset: Dataset) -> None:
    """Thresholds can be fitted on any clips."""


def fit(dataset: Dataset, models: Models) -> Decoded:
    """Both accounts on the published grid, and one (α, β) for new clips.

    The latter is the middle of the best plateau on all out-of-fold scores; a point at an edge generalises worse.
    """
    probabilities = models.average()
    epochs = probabilities[np.newaxis]  # a single epoch
    accounts = figures_with_intervals(dataset, epochs)
    thresholds = fit_exact(probabilities, dataset.labels).thresholds
    results = {
        **accounts,
        "final": {**thresholds._asdict(), "fitted_on": "pooled out-of-fold scores"},
        "models": [
            {"path": str(path), "weight": 1 / len(models.paths), "missing": missing}
            for path, missing in zip(models.paths, models.missing)
        ],
    }
    nested = predict_account(epochs, dataset.folds, accounts["nested"])
    return Decoded(results, nested, to_spec(thresholds), lambda new: _decode(new.average(), thresholds))


def to_spec(thresholds: Thresholds) -> dict:
    """The spec that `read` reads."""
    return {"name": "thresholds", **thresholds._asdict()}


def read(spec: dict, where: str) -> Callable[[np.ndarray], Answers]:
    if not all(isinstance(spec.get(key), float) for key in Thresholds._fields):
        raise bad_spec(spec, where)
    thresholds = Thresholds(spec["alpha"], spec["beta"])

    def decode(logits: np.ndarray) -> Answers:
        by_model = softmax(logits).reshape(-1, *logits.shape[-2:])
        return _decode(by_model.mean(axis=0), thresholds)

    return decode


def _decode(probabilities: np.ndarray, thresholds: Thresholds) -> Answers:
    return Answers(decode_thresholds(probabilities, thresholds), None)
