"""What `decode` does with each decoder: fit on out-of-fold scores, account for it, decode new clips.

Structured decoding is always shown beside thresholds on the same scores: both nested, on the same clips,
with the difference paired over actors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from blemore.errors import Problem, ValidationError, show
from blemore.evaluate import Report
from blemore.io import csv_text
from blemore.labels import LABELS, Prediction
from blemore.metrics import count
from blemore.report import to_dict
from blemore.significance import bootstrap, compare
from blemore_baselines.dataset import IS_BLEND, SET_OF_LABEL, Dataset
from blemore_baselines.decoding import calibration, posterior
from blemore_baselines.decoding import structured as model
from blemore_baselines.decoding.accounts import accuracies, figures, nested_folds, predict_folds
from blemore_baselines.decoding.scores import Models, log_softmax, softmax
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact


class Decoded(NamedTuple):
    """A fitted decoder: its figures for JSON, and how it decodes other clips.

    spec:  what `decode_by` needs of it, for JSON; of one model's scores alone
    apply: the same models' scores of N clips → label indices (N,), and each clip's expected score (N,)
           where the decoder knows it
    """

    figures: dict
    spec: dict
    apply: Callable[[Models], tuple[np.ndarray, np.ndarray | None]]


def thresholds(dataset: Dataset, models: Models) -> Decoded:
    """The published rule on the mean of probabilities. Its accounts search the published grid; new clips are decoded by
    one (α, β), the middle of the best plateau of all on all out-of-fold scores together: a point at an edge travels
    worse.
    """
    probabilities = models.average()
    fitted = fit_exact(probabilities, dataset.labels).thresholds
    found = figures(probabilities[np.newaxis], dataset.labels, dataset.folds)
    found["final"] = {**fitted._asdict(), "fitted_on": "pooled out-of-fold scores"}
    found["models"] = [
        {"path": str(path), "weight": 1 / len(models.paths), "missing": missing}
        for path, missing in zip(models.paths, models.missing)
    ]
    spec = {"name": "thresholds", **fitted._asdict()}
    return Decoded(found, spec, lambda new: (decode_thresholds(new.average(), fitted), None))


def structured(dataset: Dataset, models: Models, weight: float = 0.5) -> Decoded:
    """The label with the highest expected score, under a posterior fitted on the out-of-fold scores.

    weight: of ACC_presence in the score that is aimed at, in [0, 1]
    """
    result = model.cross_validate(models.logs, dataset.labels, dataset.folds)
    shares, final = result.share_of(dataset.folds), result.final
    chosen, expected = model.decide(result.posterior, shares, weight)
    ours, theirs = scored(dataset, chosen), scored(dataset, _nested_thresholds(models.average(), dataset))
    intervals, difference = bootstrap(ours), compare(ours, theirs)
    found = {
        "weight": weight,
        "models": [
            {"path": str(path), "inverse_temperature": factor, "weight": weight, "missing": missing}
            for path, factor, weight, missing in zip(
                models.paths, final.inverse_temperatures.tolist(), final.weights.tolist(), models.missing
            )
        ],
        "nested": {**to_dict(ours, intervals, difference), "folds": _by_fold(dataset, ours, result)},
        "nested_thresholds": to_dict(theirs, bootstrap(theirs)),
        "calibration": _calibration(dataset, result.posterior, chosen, expected, shares, weight),
        "final": {"strength": final.strength, "share_of_blends": final.share},
    }

    def apply(new: Models) -> tuple[np.ndarray, np.ndarray]:
        return model.decide(posterior.posterior(final, new.logs), final.share, weight)

    return Decoded(found, {"name": "structured", "weight": weight, **posterior.to_dict(final)}, apply)


def decode_by(spec: dict, logits: np.ndarray, where: str = "decoder") -> tuple[np.ndarray, np.ndarray | None]:
    """The labels (N,) of one model's logits (N, 6) by a decoder that was fitted before, and as in `Decoded.apply` each
    clip's expected score.

    Raises ValidationError, with `where`: the spec is damaged, or of a decoder that is not known.
    """
    name, weight = spec.get("name"), spec.get("weight")
    if name == "thresholds" and all(isinstance(spec.get(key), float) for key in Thresholds._fields):
        return decode_thresholds(softmax(logits), Thresholds(spec["alpha"], spec["beta"])), None
    if name == "structured" and isinstance(weight, (int, float)) and 0 <= weight <= 1:
        fitted = posterior.from_dict(
            {key: value for key, value in spec.items() if key not in ("name", "weight")}, where
        )
        return model.decide(posterior.posterior(fitted, log_softmax(logits)), fitted.share, weight)
    raise ValidationError(
        Problem(
            "bad-decoder",
            where,
            f"found {show(str(spec))}; expected thresholds with alpha and beta, or structured with its weight and"
            " parameters",
            hint="Was the file copied whole? Copy it again, or train again.",
        )
    )


def _calibration(
    dataset: Dataset,
    posteriors: np.ndarray,
    chosen: np.ndarray,
    expected: np.ndarray,
    shares: np.ndarray,
    weight: float,
) -> dict:
    """How far the posterior and the expected score can be believed, out of fold, beside knowing the other folds'
    frequencies alone.
    """
    frequencies = np.empty_like(posteriors)
    for fold in np.unique(dataset.folds):
        frequencies[dataset.folds == fold] = calibration.frequencies(dataset.labels[dataset.folds != fold])
    sets = SET_OF_LABEL[chosen]
    right = sets == SET_OF_LABEL[dataset.labels]
    blend_right = (chosen == dataset.labels) & IS_BLEND[chosen]
    by_set = calibration.reliability(posterior.set_probabilities(posteriors)[np.arange(len(sets)), sets], right)
    by_score = calibration.reliability(expected, weight * right + (1 - weight) * blend_right / shares)
    return {
        "posterior": calibration.calibration(posteriors, dataset.labels),
        "frequencies": calibration.calibration(frequencies, dataset.labels),
        "set_error": calibration.calibration_error(by_set),
        "score_error": calibration.calibration_error(by_score),
        "expected_score": float(expected.mean()),
        "sets": [one._asdict() for one in by_set],
        "scores": [one._asdict() for one in by_score],
    }


def expected_csv(ids: Sequence[str], labels: np.ndarray, expected: np.ndarray) -> str:
    """One row a clip: filename, label, expected_score (what this clip is expected to add, times the number of clips)."""
    return csv_text(
        [
            ("filename", "label", "expected_score"),
            *((clip, LABELS[label], f"{value:.6f}") for clip, label, value in zip(ids, labels, expected)),
        ]
    )


def _nested_thresholds(probabilities: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Each clip's label by the thresholds that the other folds chose."""
    one = probabilities[np.newaxis]  # epoch
    return predict_folds(one, dataset.folds, nested_folds(one, dataset.labels, dataset.folds))


def scored(dataset: Dataset, predicted: np.ndarray) -> Report:
    """Label indices (N,) of the dataset's clips, scored."""
    predictions = {clip: Prediction(LABELS[label], LABELS[label]) for clip, label in zip(dataset.ids, predicted)}
    labels = {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}
    return Report(count(predictions, labels), predictions, labels, groups=dict(zip(dataset.ids, dataset.actors)))


def _by_fold(dataset: Dataset, report: Report, result: model.CrossValidated) -> list[dict]:
    folds = []
    for fold, strength in result.strengths.items():
        counts = count(
            report.predictions,
            {clip: report.labels[clip] for clip, its in zip(dataset.ids, dataset.folds) if its == fold},
        )
        folds.append({"fold": fold, "strength": strength, **accuracies(counts)})
    return folds
