"""What `decode` does with each decoder: fit on out-of-fold scores, account for it, decode new clips.

Structured decoding is always shown beside thresholds on the same scores: both nested, on the same clips,
with the difference paired over actors.
"""

from __future__ import annotations

import csv
import io
from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np

from blemore.evaluate import Report
from blemore.labels import LABELS, Prediction
from blemore.metrics import count
from blemore.report import to_dict, to_text
from blemore.significance import bootstrap, compare
from blemore_baselines import structured as model
from blemore_baselines.accounts import figures_to_text, structured_to_text
from blemore_baselines.dataset import Dataset
from blemore_baselines.decode import accuracies, average, decode_thresholds, figures, fit_grid, nested_folds

Scores = Sequence[np.ndarray]
Names = Sequence[object]


class Decoded(NamedTuple):
    """A fitted decoder: its figures for JSON and as text, and how it decodes other clips.

    apply: several models' scores (N, 6) and their names → label indices (N,), and each clip's expected
           score (N,) where the decoder knows it
    """

    figures: dict
    text: str
    apply: Callable[[Scores, Names], tuple[np.ndarray, Optional[np.ndarray]]]


def thresholds(dataset: Dataset, scores: Scores, names: Names) -> Decoded:
    """The published rule, with one (α, β) fitted by the published grid on all out-of-fold scores together."""
    probabilities = average(scores, names)
    fitted, _ = fit_grid(probabilities, dataset.labels)
    found = figures(probabilities[np.newaxis], dataset.labels, dataset.folds)
    found["final"] = {**fitted._asdict(), "fitted_on": "pooled out-of-fold scores"}
    return Decoded(found, figures_to_text(found), lambda new, where: (decode_thresholds(average(new, where), fitted), None))


def structured(dataset: Dataset, scores: Scores, names: Names, weight: float) -> Decoded:
    """The label with the highest expected score, under a posterior fitted on the out-of-fold scores."""
    result = model.cross_validate(model.log_probabilities(scores, names), dataset.labels, dataset.folds)
    ours = scored(dataset, model.decide_out_of_fold(result, dataset.folds, weight))
    theirs = scored(dataset, _nested_thresholds(average(scores, names), dataset))
    intervals, difference = bootstrap(ours), compare(ours, theirs)
    found = {
        "weight": weight,
        "nested": {**to_dict(ours, intervals, difference), "folds": _by_fold(dataset, ours, result)},
        "nested_thresholds": to_dict(theirs, bootstrap(theirs)),
        "calibration": model.calibration(result.posterior, dataset.labels),
        "final": {"strength": result.final.strength, "share_of_blends": result.final.share},
    }

    def apply(new: Scores, where: Names) -> tuple[np.ndarray, np.ndarray]:
        return model.decide(model.posterior(result.final, model.log_probabilities(new, where)), result.final.share, weight)

    text = structured_to_text(found) + to_text(ours, intervals, difference, "thresholds on the same scores, nested as well")
    return Decoded(found, text, apply)


def expected_csv(ids: Sequence[str], labels: np.ndarray, expected: np.ndarray) -> str:
    """One row a clip: filename, label, expected_score (what this clip is expected to add, times the number of clips)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["filename", "label", "expected_score"])
    writer.writerows([clip, LABELS[label], f"{value:.6f}"] for clip, label, value in zip(ids, labels, expected))
    return buffer.getvalue()


def _nested_thresholds(probabilities: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Each clip's label by the thresholds that the other folds chose."""
    predicted = np.zeros(len(dataset.labels), dtype=int)
    for fold in nested_folds(probabilities[np.newaxis], dataset.labels, dataset.folds):
        inside = dataset.folds == fold.fold
        predicted[inside] = decode_thresholds(probabilities[inside], fold.thresholds)
    return predicted


def scored(dataset: Dataset, predicted: np.ndarray) -> Report:
    """Label indices (N,) of the dataset's clips, scored."""
    predictions = {clip: Prediction(LABELS[label], LABELS[label]) for clip, label in zip(dataset.ids, predicted)}
    labels = {clip: LABELS[label] for clip, label in zip(dataset.ids, dataset.labels)}
    return Report(count(predictions, labels), predictions, labels, groups=dict(zip(dataset.ids, dataset.actors)))


def _by_fold(dataset: Dataset, report: Report, result: model.CrossValidated) -> list[dict]:
    folds = []
    for fold, strength in result.strengths.items():
        counts = count(report.predictions, {clip: report.labels[clip] for clip, its in zip(dataset.ids, dataset.folds) if its == fold})
        folds.append({"fold": fold, "strength": strength, **accuracies(counts)})
    return folds
