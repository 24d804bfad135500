"""What an evaluation looks like: text, JSON, a table per clip. Computes nothing."""

from __future__ import annotations

import csv
import io
from typing import Mapping, Sequence

from blemore.errors import Problem
from blemore.evaluate import Report, error_kind
from blemore.labels import Label
from blemore.signature import signature

NO_BLENDS = "the reference holds no blend, so acc_salience and score are undefined"


def to_dict(report: Report) -> dict:
    """The figures, unrounded, as one object for JSON."""
    counts = report.counts
    figures = {
        "acc_presence": counts.acc_presence,
        "acc_salience": counts.acc_salience,
        "acc_salience_exact": counts.acc_salience_exact,
        "score": counts.score,
        "n": counts.n,
        "n_blends": counts.n_blends,
        "subset": report.subset,
        "signature": signature(report.predictions, report.labels, counts, report.subset),
    }
    return figures if counts.n_blends else {**figures, "reason": NO_BLENDS}


def to_text(report: Report) -> str:
    """The figures as a table to read."""
    counts = report.counts
    rows = [
        ("ACC_presence", counts.acc_presence, f"{counts.presence:,} of {counts.n:,} clips with the right set of emotions"),
        ("ACC_salience", counts.acc_salience, f"{counts.salience:,} of {counts.n_blends:,} blends with the right set and relation"),
    ]
    if any(entry.rounded != entry.label for entry in report.predictions.values()):
        rows.append(("  exact", counts.acc_salience_exact, f"{counts.salience_exact:,} of {counts.n_blends:,} blends with the right rounded percentages"))
    rows.append(("score", counts.score, "mean of ACC_presence and ACC_salience"))
    lines = [f"{name:<13} {'–' if value is None else format(value, '.4f'):>7}   {note}" for name, value, note in rows]
    if not counts.n_blends:
        lines.append(f"Note: {NO_BLENDS}.")
    if report.subset != "all":
        lines.append(f"Scored on {report.subset} alone.")
    return "\n".join(["", *lines, "", signature(report.predictions, report.labels, counts, report.subset)])


def per_clip_csv(report: Report) -> str:
    """One row a clip: filename, truth, prediction, error (see `blemore.evaluate.error_kind`; empty where right)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["filename", "truth", "prediction", "error"])
    for clip, truth in report.labels.items():
        predicted = report.predictions[clip].label
        writer.writerow([clip, truth, predicted, error_kind(predicted, truth) or ""])
    return buffer.getvalue()


def problems_to_text(problems: Sequence[Problem]) -> str:
    """Every problem, and their count by kind where there are many."""
    lines = [str(problem) for problem in problems]
    if len(problems) > 10:
        kinds: dict[str, int] = {}
        for problem in problems:
            kinds[problem.code] = kinds.get(problem.code, 0) + 1
        lines.append(f"\n{len(problems):,} problems: " + ", ".join(f"{count:,} {code}" for code, count in kinds.items()))
    return "\n".join(lines)


def problems_to_dict(problems: Sequence[Problem]) -> dict:
    return {"valid": False, "problems": [problem._asdict() for problem in problems]}


def composition(labels: Mapping[str, Label]) -> str:
    """How many singles and blends there are."""
    blends = sum(label.is_blend for label in labels.values())
    return f"{len(labels):,} clips: {len(labels) - blends:,} single emotions, {blends:,} blends"
