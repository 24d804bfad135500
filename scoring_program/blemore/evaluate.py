"""One evaluation: pairs predictions with the reference by id, scores them, and classifies errors per clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from blemore.errors import Problem, ReferenceLabelsError, ValidationError, some
from blemore.io import MAX_JSON_BYTES, read_json, read_table
from blemore.labels import BLEND_SALIENCES, EMOTIONS, PAIRS, SINGLES, Label, Prediction, clip_id
from blemore.metrics import Counts, count
from blemore.validate import Reference, validate, validate_labels, validate_metadata


class Report(NamedTuple):
    """The result of an evaluation.

    counts:      the summed record; `counts.acc_presence`, `.acc_salience`, `.acc_salience_exact`, `.score`
    predictions: by clip id
    labels:      by clip id, the reference's clips in its order
    subset:      `all`, or which folds, e.g. `fold 0,3`
    groups:      actors by clip id, if the reference gives them
    secret:      the key of the labels' hash in the signature, if the reference gives one
    """

    counts: Counts
    predictions: dict[str, Prediction]
    labels: dict[str, Label]
    subset: str = "all"
    groups: Mapping[str, str] = MappingProxyType({})
    secret: str | None = None


def evaluate(
    predictions: object, labels: Reference | object, folds: Iterable[int] = (), where: str = "predictions"
) -> Report:
    """Score `predictions` against `labels`.

    predictions: parsed JSON in the submission's form (see `blemore.validate`)
    labels:      a `Reference`, or parsed JSON in the labels' form (see `validate_labels`)
    folds:       score only these folds; clips of other folds are then unknown
    where:       the name of the predictions' source, for messages

    Raises ValidationError with every problem in the labels or, if these are valid, in the predictions.
    """
    reference = labels if isinstance(labels, Reference) else validate_labels(labels)
    reference, subset = restrict(reference, folds)
    entries = validate(predictions, ids=reference.labels, where=where)
    return Report(
        count(entries, reference.labels), entries, reference.labels, subset, reference.groups, reference.secret
    )


def restrict(reference: Reference, folds: Iterable[int]) -> tuple[Reference, str]:
    """The reference restricted to the given folds, and the subset's name. Without folds: the whole reference.

    Raises ValidationError: the reference has no folds, or lacks one of the given ones.
    """
    folds = sorted(set(folds))
    if not folds:
        return reference, "all"
    all_folds = sorted(set(reference.folds.values()))
    absent = [fold for fold in folds if fold not in all_folds]
    if absent:
        expected = (
            f"folds {', '.join(map(str, all_folds))}"
            if all_folds
            else "a reference with folds, such as the dataset's train metadata"
        )
        raise ValidationError(
            Problem("no-fold", "labels", f"no fold {', '.join(map(str, absent))}; expected {expected}")
        )
    clips = [clip for clip in reference.labels if reference.folds.get(clip) in folds]
    restricted = Reference(
        {clip: reference.labels[clip] for clip in clips},
        {clip: reference.groups[clip] for clip in clips if clip in reference.groups},
        {clip: reference.folds[clip] for clip in clips},
        reference.secret,
    )
    return restricted, f"fold {','.join(map(str, folds))}"


def check(path: Path, ids: Iterable[str] | None = None, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Prediction]:
    """The predictions in a file, JSON or zip, with all checks: those of `blemore-score --check` and of every writer.

    Raises FileError; ValidationError with every problem.
    """
    data, where = read_json(path, max_bytes)
    return validate(data, None if ids is None else set(ids), where)


def read_reference(path: Path | str, max_bytes: int = MAX_JSON_BYTES) -> Reference:
    """Labels JSON, or the dataset's metadata CSV. ReferenceLabelsError: they are invalid."""
    try:
        if str(path).lower().endswith(".csv"):
            return validate_metadata(read_table(path), str(path))
        return validate_labels(*read_json(path, max_bytes))
    except ValidationError as error:
        raise ReferenceLabelsError(error.problems) from None


def read_ids(path: Path | str) -> list[str]:
    """The clips that a submission must contain: the `filename` column of a CSV, or the keys of labels or a template."""
    if str(path).lower().endswith(".csv"):
        rows = read_table(path)
        names = [row.get("filename", "") for row in rows]
    else:
        data, _ = read_json(path)
        root = data if isinstance(data, dict) else {}
        names = list(next((root[key] for key in ("predictions", "labels") if isinstance(root.get(key), dict)), root))
    problems = []
    if not names or not all(names):
        problems.append(
            Problem(
                "no-ids",
                str(path),
                "not every row names a clip; expected a CSV with a column filename, or a JSON of clips",
            )
        )
    ids = [clip_id(name) for name in names if name]
    duplicates = [clip for clip, times in Counter(ids).items() if times > 1]
    if duplicates:
        message = f"{len(duplicates):,} clips occur more than once: {some(duplicates)}; expected each once"
        problems.append(
            Problem(
                "duplicate-clip",
                str(path),
                message,
                hint="Names that differ only in a media suffix mean the same clip. Keep one row per clip.",
            )
        )
    if problems:
        raise ValidationError(problems)
    return ids


def error_kind(prediction: Label, truth: Label) -> str | None:
    """Why a prediction is wrong; None if it is right.

    missed: an emotion of the truth was left out · extra: an emotion was added · wrong set: an emotion was taken
    for another · wrong relation: the set is right, but the relation of the saliences is not.
    """
    if prediction == truth:
        return None
    if prediction.emotions == truth.emotions:
        return "wrong relation"
    predicted, true = set(prediction.emotions), set(truth.emotions)
    if predicted < true:
        return "missed"
    return "extra" if predicted > true else "wrong set"


# ------------------------------------------------------------------------------- confusions

SETS = tuple(single.emotions for single in SINGLES) + PAIRS  # the 16 composite labels, in index order
RELATIONS = ("first dominates", "equal", "second dominates")  # in the order of labels.BLEND_SALIENCES


class Detection(NamedTuple):
    """How well one emotion was detected: the clips where it is rightly predicted, predicted, and true."""

    right: int
    predicted: int
    true: int

    @property
    def precision(self) -> float | None:
        """In [0, 1]; None if it was never predicted."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """In [0, 1]; None if no clip has it."""
        return self.right / self.true if self.true else None


def detections(report: Report) -> dict[str, Detection]:
    """The presence of each emotion over all clips, alone or in a blend."""
    predicted, true, right = Counter[str](), Counter[str](), Counter[str]()
    for clip, truth in report.labels.items():
        emotions = report.predictions[clip].label.emotions
        predicted.update(emotions)
        true.update(truth.emotions)
        right.update(set(emotions) & set(truth.emotions))
    return {emotion: Detection(right[emotion], predicted[emotion], true[emotion]) for emotion in EMOTIONS}


def set_confusion(report: Report) -> list[list[int]]:
    """Clips by true (row) and predicted (column) set of emotions, 16 × 16 in the order of `SETS`."""
    cells = Counter((truth.emotions, report.predictions[clip].label.emotions) for clip, truth in report.labels.items())
    return [[cells[true, predicted] for predicted in SETS] for true in SETS]


def relation_confusion(report: Report) -> list[list[int]]:
    """True blends by true (row) and predicted (column) relation, as in `RELATIONS`; the last column: a wrong set."""
    cells: Counter[tuple[tuple[int, ...], tuple[int, ...] | None]] = Counter()
    for clip, truth in report.labels.items():
        predicted = report.predictions[clip].label
        if truth.is_blend:
            cells[truth.saliences, predicted.saliences if predicted.emotions == truth.emotions else None] += 1
    return [[cells[true, predicted] for predicted in (*BLEND_SALIENCES, None)] for true in BLEND_SALIENCES]
