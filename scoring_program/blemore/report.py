"""What an evaluation looks like: text, JSON, a table per clip. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blemore.errors import Problem
from blemore.evaluate import Report, error_kind
from blemore.io import csv_text
from blemore.labels import Label
from blemore.signature import hidden_signature, signature
from blemore.significance import FIGURES, Bootstrap, Comparison, Interval

NO_BLENDS = "the reference holds no blend, so acc_salience and score are undefined"


def signed(report: Report, bootstrap: Bootstrap | None = None) -> str:
    """The report's signature, with the settings of its intervals."""
    settings = (
        {"ci": f"{bootstrap.unit}s {bootstrap.units}", "resamples": bootstrap.resamples, "seed": bootstrap.seed}
        if bootstrap
        else {}
    )
    return signature(report.predictions, report.labels, report.counts, report.subset, settings, report.secret)


def signed_hidden(report: Report) -> str:
    """The report's signature where its labels are hidden."""
    return hidden_signature(report.predictions, report.labels, report.secret)


def hidden_text(report: Report) -> str:
    """The three totals and the signature: all that may be said of a score on hidden labels."""
    counts = report.counts
    totals = (("ACC_presence", counts.acc_presence), ("ACC_salience", counts.acc_salience), ("score", counts.score))
    return "\n".join([*(f"{name:<13} {_four(value):>7}" for name, value in totals), "", signed_hidden(report)])


def to_dict(report: Report, bootstrap: Bootstrap | None = None, comparison: Comparison | None = None) -> dict[str, Any]:
    """The figures, unrounded, as one object for JSON; intervals and a comparison where they are given."""
    counts = report.counts
    figures: dict[str, Any] = {
        "acc_presence": counts.acc_presence,
        "acc_salience": counts.acc_salience,
        "acc_salience_exact": counts.acc_salience_exact,
        "score": counts.score,
        "n": counts.n,
        "n_blends": counts.n_blends,
        "subset": report.subset,
        "signature": signed(report, bootstrap),
    }
    if not counts.n_blends:
        figures["reason"] = NO_BLENDS
    if bootstrap:
        figures["ci"] = {**bootstrap._asdict(), "note": bootstrap.note}
    if comparison:
        differences = {figure: difference._asdict() for figure, difference in comparison.differences.items()}
        figures["against"] = {**comparison._asdict(), "differences": differences, "note": comparison.note}
    return figures


def to_text(
    report: Report,
    bootstrap: Bootstrap | None = None,
    comparison: Comparison | None = None,
    other: str = "the other submission",
) -> str:
    """The figures as a table to read; with 95 % intervals and a comparison with `other` where they are given."""
    counts = report.counts
    rows = [
        ("ACC_presence", "acc_presence", f"{counts.presence:,} of {counts.n:,} clips with the right set of emotions"),
        (
            "ACC_salience",
            "acc_salience",
            f"{counts.salience:,} of {counts.n_blends:,} blends with the right set and relation",
        ),
    ]
    if any(entry.rounded != entry.label for entry in report.predictions.values()):
        rows.append(
            (
                "  exact",
                "acc_salience_exact",
                f"{counts.salience_exact:,} of {counts.n_blends:,} blends with the right rounded percentages",
            )
        )
    rows.append(("score", "score", "mean of ACC_presence and ACC_salience"))
    lines = []
    for name, figure, note in rows:
        value = getattr(counts, figure)
        interval = f"{_interval(bootstrap.intervals.get(figure)):<18}" if bootstrap else ""
        lines.append(f"{name:<13} {_four(value):>7}   {interval}{note}")
    if not counts.n_blends:
        lines.append(f"Note: {NO_BLENDS}.")
    if report.subset != "all":
        lines.append(f"Scored on {report.subset} alone.")
    if bootstrap:
        lines.append(
            f"95 % intervals over {bootstrap.units:,}"
            f" {bootstrap.unit}s{f'; {bootstrap.note}' if bootstrap.note else ''}."
        )
    if comparison:
        lines += ["", *comparison_lines(comparison, other)]
    return "\n".join(["", *lines, "", signed(report, bootstrap)])


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _interval(interval: Interval | None, width: str = ".4f") -> str:
    return "–" if interval is None else f"[{interval.low:{width}}, {interval.high:{width}}]"


def comparison_lines(comparison: Comparison, other: str) -> list[str]:
    """Differences, their 95 % intervals and p-values."""
    lines = [
        f"Difference to {other}, paired over {comparison.units:,} {comparison.unit}s ({comparison.resamples:,}"
        " resamples):"
    ]
    for figure, name in zip(FIGURES, ("ACC_presence", "ACC_salience", "score")):
        if figure in comparison.differences:
            delta, interval, p = comparison.differences[figure]
            lines.append(f"{name:<13} {delta:+7.4f}   {_interval(interval, '+.4f'):<20} p = {p:.4f}")
    return [*lines, f"{comparison.note[0].upper()}{comparison.note[1:]}."] if comparison.note else lines


def per_clip_csv(report: Report) -> str:
    """One row a clip: filename, truth, prediction, error (see `blemore.evaluate.error_kind`; empty where right)."""
    answers = ((clip, truth, report.predictions[clip].label) for clip, truth in report.labels.items())
    rows = ((clip, truth, predicted, error_kind(predicted, truth) or "") for clip, truth, predicted in answers)
    return csv_text([("filename", "truth", "prediction", "error"), *rows])


def problems_to_text(problems: Sequence[Problem]) -> str:
    """Every problem, and their count by kind where there are many."""
    lines = [str(problem) for problem in problems]
    if len(problems) > 10:
        kinds: dict[str, int] = {}
        for problem in problems:
            kinds[problem.code] = kinds.get(problem.code, 0) + 1
        lines.append(
            f"\n{len(problems):,} problems: " + ", ".join(f"{count:,} {code}" for code, count in kinds.items())
        )
    return "\n".join(lines)


def problems_to_dict(problems: Sequence[Problem]) -> dict[str, Any]:
    return {"valid": False, "problems": [problem._asdict() for problem in problems]}


def composition(labels: Mapping[str, Label]) -> str:
    """How many singles and blends there are."""
    blends = sum(label.is_blend for label in labels.values())
    return f"{len(labels):,} clips: {len(labels) - blends:,} single emotions, {blends:,} blends"
