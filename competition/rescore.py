"""Scores submissions again after labels were corrected: old and new scores, and how ranks change."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from blemore.codabench import read_submission
from blemore.errors import BlemoreError, printable
from blemore.evaluate import evaluate
from blemore.io import csv_text, read_bytes
from blemore.validate import Reference
from blemore_codabench.simulate import predict

DECIMALS = 10  # of a score, as the server stores it


class Row(NamedTuple):
    """One submission. Scores, ranks and changes are None if it is invalid for those labels; `reason` then says why.

    rank:        1 is best; equal scores share a rank, and the next ranks are left out
    rank_change: how many ranks it rises
    """

    submission: str
    old_rank: int | None
    rank: int | None
    rank_change: int | None
    old_score: float | None
    score: float | None
    score_change: float | None
    old_acc_presence: float | None
    acc_presence: float | None
    old_acc_salience: float | None
    acc_salience: float | None
    reason: str | None


class Rescored(NamedTuple):
    """The submissions by new rank, those without a rank last; and the clips whose labels differ, by id."""

    rows: list[Row]
    changes: dict[str, str]


class _Scores(NamedTuple):
    score: float | None = None
    acc_presence: float | None = None
    acc_salience: float | None = None


def rescore(submissions: Sequence[Path], labels: Reference, old_labels: Reference) -> Rescored:
    """Score submissions' zips with both sets of labels, as the platform would. FileError: one cannot be opened."""
    scored = {path.name: _score(path, labels, old_labels) for path in submissions}
    new = _ranks({name: scores[0].score for name, scores in scored.items()})
    old = _ranks({name: scores[1].score for name, scores in scored.items()})
    rows = [_row(name, *scores, old.get(name), new.get(name)) for name, scores in scored.items()]
    rows.sort(key=lambda row: (row.rank is None, row.rank, row.submission))
    return Rescored(rows, _changes(labels, old_labels))


def _score(path: Path, labels: Reference, old_labels: Reference) -> tuple[_Scores, _Scores, str | None]:
    """New and old scores, and why one of them is missing."""
    with tempfile.TemporaryDirectory() as folder:
        end = predict(read_bytes(path), Path(folder) / "res")
        if end:
            return _Scores(), _Scores(), f"{end.status}: {end.reason}"
        try:
            predictions, where = read_submission(Path(folder) / "res")
        except BlemoreError as error:
            return _Scores(), _Scores(), _first(error)
    scores, reasons = [], []
    for reference in (labels, old_labels):
        try:
            counts = evaluate(predictions, reference, where=where).counts
        except BlemoreError as error:
            scores.append(_Scores())
            reasons.append(_first(error))
        else:
            values = (getattr(counts, figure) for figure in _Scores._fields)
            scores.append(_Scores(*(None if value is None else round(value, DECIMALS) for value in values)))
    return scores[0], scores[1], reasons[0] if reasons else None


def _first(error: BlemoreError) -> str:
    first, n_more = error.problems[0], len(error.problems) - 1
    return printable(f"{first.where}: {first.message}") + (f" (and {n_more:,} more problems)" if n_more else "")


def _ranks(scores: dict[str, float | None]) -> dict[str, int]:
    """1 plus the number of better scores."""
    values = [value for value in scores.values() if value is not None]
    return {name: 1 + sum(other > value for other in values) for name, value in scores.items() if value is not None}


def _row(name: str, new: _Scores, old: _Scores, reason: str | None, old_rank: int | None, rank: int | None) -> Row:
    return Row(
        name,
        old_rank,
        rank,
        None if old_rank is None or rank is None else old_rank - rank,
        old.score,
        new.score,
        None if old.score is None or new.score is None else round(new.score - old.score, DECIMALS),
        old.acc_presence,
        new.acc_presence,
        old.acc_salience,
        new.acc_salience,
        reason,
    )


def _changes(labels: Reference, old_labels: Reference) -> dict[str, str]:
    """By clip, `old → new`; `absent` if only one of the two has the clip."""
    clips = sorted(set(labels.labels) | set(old_labels.labels))
    pairs = ((clip, old_labels.labels.get(clip), labels.labels.get(clip)) for clip in clips)
    return {clip: f"{old or 'absent'} → {new or 'absent'}" for clip, old, new in pairs if old != new}


# --------------------------------------------------------------------------------------- tables


def to_dict(rescored: Rescored) -> dict[str, object]:
    return {"submissions": [row._asdict() for row in rescored.rows], "labels_changed": rescored.changes}


def to_csv(rescored: Rescored) -> str:
    """Unrounded; None is an empty cell."""
    return csv_text([Row._fields, *(["" if value is None else value for value in row] for row in rescored.rows)])


def to_text(rescored: Rescored) -> str:
    """A table with the old figures after the new ones, then the reasons why submissions have no score."""
    header = ["rank", "was", "moves", "submission", "score", "was", "change", "presence", "was", "salience", "was"]
    rows = [header, *(_cells(row) for row in rescored.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    name = header.index("submission")
    lines = ["  ".join(_padded(row, widths, to_the_left=name)) for row in rows]
    reasons = [f"{printable(row.submission)}: {row.reason}" for row in rescored.rows if row.reason]
    return "\n".join([*(line.rstrip() for line in lines), *(["", "Without a score:"] if reasons else []), *reasons])


def _padded(cells: list[str], widths: list[int], to_the_left: int) -> list[str]:
    return [
        cell.ljust(width) if column == to_the_left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths))
    ]


def _cells(row: Row) -> list[str]:
    figures = [
        (row.score, row.old_score, row.score_change),
        (row.acc_presence, row.old_acc_presence),
        (row.acc_salience, row.old_acc_salience),
    ]
    score, presence, salience = ([_number(value, ".4f") for value in values[:2]] for values in figures)
    ranks = [_number(row.rank, "d"), _number(row.old_rank, "d"), _number(row.rank_change, "+d")]
    return [*ranks, printable(row.submission), *score, _number(row.score_change, "+.4f"), *presence, *salience]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
