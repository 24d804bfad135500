"""Structured decoding of one or more models, always compared with thresholds on the same scores.

Both are nested and use the same clips; their difference is paired over actors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from blemore.evaluate import Report
from blemore.metrics import count
from blemore.report import to_dict
from blemore.significance import compare, intervals
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL, Dataset
from blemore_baselines.decoding import calibration, posterior
from blemore_baselines.decoding.accounts import accuracies, nested_folds, predict_folds, scored
from blemore_baselines.decoding.decoders import Answers, Decoded, bad_spec
from blemore_baselines.decoding.scores import Models, log_softmax
from blemore_baselines.decoding.structured import CrossValidated, cross_validate, decide, demand_folds

RIVAL = "thresholds on the same scores, nested as well"


def demand(dataset: Dataset) -> None:
    """ValidationError: blends in too few folds."""
    demand_folds(dataset.labels, dataset.folds)


def fit(dataset: Dataset, models: Models, weight: float) -> Decoded:
    """A decoder that picks the label with the highest expected score, under a posterior fitted on the out-of-fold
    scores.

    weight: of ACC_presence in the score to be maximised, in [0, 1]
    """
    result = cross_validate(models.logs, dataset.labels, dataset.folds)
    final = result.final
    labels, expected = decide(result.posterior, result.share_of(dataset.folds), weight)
    report, rival = scored(dataset, labels), scored(dataset, _nested_thresholds(dataset, models))
    figures = {
        "weight": weight,
        "models": [
            {"path": str(path), "inverse_temperature": factor, "weight": part, "missing": missing}
            for path, factor, part, missing in zip(
                models.paths, final.inverse_temperatures.tolist(), final.weights.tolist(), models.missing
            )
        ],
        "nested": {
            **to_dict(report, intervals(report), {RIVAL: compare(report, rival)}),
            "folds": _by_fold(dataset, report, result),
        },
        "nested_thresholds": to_dict(rival, intervals(rival)),
        "calibration": _calibration(dataset, result, labels, expected, weight),
        "final": {"strength": final.strength, "share_of_blends": final.share},
    }
    spec = {"name": "structured", "weight": weight, **posterior.to_dict(final)}
    return Decoded(figures, labels, spec, lambda new: _decode(final, new.logs, weight))


def read(spec: dict, where: str) -> Callable[[np.ndarray], Answers]:
    weight = spec.get("weight")
    if not isinstance(weight, (int, float)) or not 0 <= weight <= 1:
        raise bad_spec(spec, where)
    model = posterior.from_dict(spec, where)
    return lambda logits: _decode(model, log_softmax(logits), weight)


def _decode(model: posterior.Model, logs: np.ndarray, weight: float) -> Answers:
    return Answers(*decide(posterior.posterior(model, logs), model.share, weight), posterior.excess(model, logs))


def _nested_thresholds(dataset: Dataset, models: Models) -> np.ndarray:
    """Each clip's label (N,) by thresholds chosen on the other folds."""
    epochs = models.average()[np.newaxis]  # a single epoch
    return predict_folds(epochs, dataset.folds, nested_folds(epochs, dataset.labels, dataset.folds))


def _by_fold(dataset: Dataset, report: Report, result: CrossValidated) -> list[dict]:
    rows = []
    for fold, strength in result.strengths.items():
        labels = {clip: report.labels[clip] for clip, home in zip(dataset.ids, dataset.folds) if home == fold}
        rows.append({"fold": fold, "strength": strength, **accuracies(count(report.predictions, labels))})
    return rows


def _calibration(
    dataset: Dataset, result: CrossValidated, labels: np.ndarray, expected: np.ndarray, weight: float
) -> dict:
    """How reliable the posterior and the expected score are out of fold, next to the other folds' label frequencies
    alone.
    """
    frequencies = np.empty_like(result.posterior)
    for fold in np.unique(dataset.folds):
        frequencies[dataset.folds == fold] = calibration.frequencies(dataset.labels[dataset.folds != fold])
    sets = SET_OF_LABEL[labels]
    set_right = sets == SET_OF_LABEL[dataset.labels]
    blend_right = (labels == dataset.labels) & IS_BLEND[labels]
    gains = weight * set_right + (1 - weight) * blend_right / result.share_of(dataset.folds)
    chances = posterior.set_probabilities(result.posterior)[np.arange(len(sets)), sets]
    by_set, by_score = calibration.reliability(chances, set_right), calibration.reliability(expected, gains)
    return {
        "posterior": calibration.calibration(result.posterior, dataset.labels),
        "frequencies": calibration.calibration(frequencies, dataset.labels),
        "set_error": calibration.calibration_error(by_set),
        "score_error": calibration.calibration_error(by_score),
        "expected_score": float(expected.mean()),
        "sets": [entry._asdict() for entry in by_set],
        "scores": [entry._asdict() for entry in by_score],
    }
