"""Formats an evaluation as text, JSON and a table of clips. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from blemore.errors import Problem, printable
from blemore.evaluate import Report, error_kind
from blemore.io import csv_text
from blemore.labels import Label
from blemore.signature import hidden_signature, signature
from blemore.significance import FIGURES, LEVEL, METHOD, Comparison, Difference, Interval, Intervals
from blemore.tables import p_text

NO_BLENDS = "the reference has no blend, so acc_salience and score are undefined"
FIGURE_NAMES = dict(zip(FIGURES, ("ACC_presence", "ACC_salience", "score")))


def signed(
    report: Report, intervals: Intervals | None = None, comparisons: Mapping[str, Comparison] = MappingProxyType({})
) -> str:
    """The report's signature, with the hashes of the submissions compared with it, and the inference."""
    settings: dict[str, object] = {}
    if comparisons:
        settings["against"] = ",".join(comparison.against for comparison in comparisons.values())
    for inference in (intervals, *comparisons.values()):
        if inference:
            settings.update({"method": METHOD, "level": LEVEL, f"{inference.unit}s": inference.units})
    if len(comparisons) > 1:
        settings["p_holm"] = f"{len(comparisons)} a figure"
    return signature(report.predictions, report.labels, report.counts, report.subset, settings, report.secret)


def signed_hidden(report: Report) -> str:
    """The report's signature if its labels are hidden."""
    return hidden_signature(report.predictions, report.labels, report.secret)


def hidden_text(report: Report) -> str:
    """The three totals and the signature: all that may be shown of a score on hidden labels."""
    counts = report.counts
    totals = (("ACC_presence", counts.acc_presence), ("ACC_salience", counts.acc_salience), ("score", counts.score))
    return "\n".join([*(f"{name:<13} {_four(value):>7}" for name, value in totals), "", signed_hidden(report)])


def to_dict(
    report: Report, intervals: Intervals | None = None, comparisons: Mapping[str, Comparison] = MappingProxyType({})
) -> dict[str, Any]:
    """The figures, unrounded, as one object for JSON; with intervals, and comparisons by the other's name."""
    counts = report.counts
    figures: dict[str, Any] = {
        "acc_presence": counts.acc_presence,
        "acc_salience": counts.acc_salience,
        "acc_salience_exact": counts.acc_salience_exact,
        "score": counts.score,
        "n": counts.n,
        "n_blends": counts.n_blends,
        "subset": report.subset,
        "signature": signed(report, intervals, comparisons),
    }
    if not counts.n_blends:
        figures["reason"] = NO_BLENDS
    if intervals:
        figures["ci"] = intervals_to_dict(intervals)
    if comparisons:
        figures["against"] = [
            {"name": name, "preds": comparison.against, **comparison_to_dict(comparison)}
            for name, comparison in comparisons.items()
        ]
    return figures


def intervals_to_dict(intervals: Intervals) -> dict[str, Any]:
    """Intervals by figure. If a figure has none, `reasons` says why."""
    return {
        "intervals": intervals.intervals,
        "reasons": {figure: estimate.reason for figure, estimate in intervals.estimates.items() if estimate.reason},
        "method": METHOD,
        "level": LEVEL,
        "unit": intervals.unit,
        "units": intervals.units,
        "without_blends": intervals.without_blends,
        "note": intervals.note,
    }


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """Differences by figure. If one has no interval and no p, `reason` says why."""
    return {
        "differences": {
            figure: _difference_to_dict(difference) for figure, difference in comparison.differences.items()
        },
        "method": METHOD,
        "level": LEVEL,
        "unit": comparison.unit,
        "units": comparison.units,
        "without_blends": comparison.without_blends,
        "note": comparison.note,
    }


def _difference_to_dict(difference: Difference) -> dict[str, Any]:
    estimate, flips = difference.estimate, difference.sign_flip
    return {
        "delta": estimate.value,
        "interval": estimate.interval,
        "p": estimate.p,
        "p_holm": difference.p_holm,
        "sign_flip": flips and flips._asdict(),
        "reason": estimate.reason,
    }


def to_text(
    report: Report,
    intervals: Intervals | None = None,
    comparisons: Mapping[str, Comparison] = MappingProxyType({}),
) -> str:
    """The figures as a table to read; with 95 % intervals, and comparisons by the other's name."""
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
        interval = f"{_of_figure(intervals, figure):<18}" if intervals else ""
        lines.append(f"{name:<13} {_four(getattr(counts, figure)):>7}   {interval}{note}")
    if not counts.n_blends:
        lines.append(f"Note: {NO_BLENDS}.")
    if report.subset != "all":
        lines.append(f"Scored only on {report.subset}.")
    if intervals:
        lines += intervals_in_words(intervals)
    if comparisons:
        lines += ["", *comparison_lines(comparisons)]
    return "\n".join(["", *lines, "", signed(report, intervals, comparisons)])


def intervals_in_words(intervals: Intervals) -> list[str]:
    """What the intervals are, and why some figures have none."""
    note = f"; {intervals.note}" if intervals.note else ""
    lines = [f"95 % intervals: jackknife over {intervals.units:,} {intervals.unit}s, Student's t{note}."]
    reasons = {estimate.reason: None for estimate in intervals.estimates.values() if estimate.reason}
    return [*lines, *(f"n/a: no interval, {reason}." for reason in reasons)]


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _of_figure(intervals: Intervals, figure: str) -> str:
    estimate = intervals.estimates.get(figure)
    return interval_text(estimate.interval) if estimate else "–"


def interval_text(interval: Interval | None, width: str = ".4f") -> str:
    return "n/a" if interval is None else f"[{interval.low:{width}}, {interval.high:{width}}]"


def equals_p(p: float | None) -> str:
    """`p = 0.012`, `p < 0.001`."""
    text = "n/a" if p is None else p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def comparison_lines(comparisons: Mapping[str, Comparison]) -> list[str]:
    """Differences from each other submission, by its name: 95 % intervals and p-values, then what these mean."""
    lines = [
        line
        for other, comparison in comparisons.items()
        for line in difference_lines(other, comparison, len(comparisons) > 1)
    ]
    return [*lines, *inference_in_words(comparisons)]


def difference_lines(other: str, comparison: Comparison, with_holm: bool = False) -> list[str]:
    """The differences from one other submission, one line per figure."""
    note = f" ({comparison.note})" if comparison.note else ""
    lines = [f"Difference from {printable(other)}, paired over {comparison.units:,} {comparison.unit}s{note}:"]
    for figure, name in FIGURE_NAMES.items():
        if figure in comparison.differences:
            lines.append(_difference_line(name, comparison.differences[figure], with_holm))
    return lines


def _difference_line(name: str, difference: Difference, with_holm: bool) -> str:
    estimate, flips = difference.estimate, difference.sign_flip
    start = f"{name:<13} {estimate.value:+7.4f}   "
    if estimate.reason:
        return f"{start}n/a: {estimate.reason}"
    holm = f"   Holm {equals_p(difference.p_holm)}" if with_holm else ""
    check = f"   sign flips {equals_p(flips.p)}" if flips else ""
    return f"{start}{interval_text(estimate.interval, '+.4f'):<20} {equals_p(estimate.p)}{holm}{check}"


def inference_in_words(comparisons: Mapping[str, Comparison]) -> list[str]:
    """What the intervals and p-values of a set of comparisons are."""
    flips = "Sign flips: a check that assumes no distribution."
    lines = [f"Intervals (95 %) and p: jackknife over actors, Student's t. {flips}"]
    if len(comparisons) > 1:
        lines.append(
            f"Holm p: corrected for the {len(comparisons):,} comparisons of each figure. Intervals, p and sign flips"
            " are not corrected."
        )
    return lines


def per_clip_csv(report: Report) -> str:
    """One row per clip: filename, truth, prediction, error (see `blemore.evaluate.error_kind`; empty if right)."""
    answers = ((clip, truth, report.predictions[clip].label) for clip, truth in report.labels.items())
    rows = ((clip, truth, predicted, error_kind(predicted, truth) or "") for clip, truth, predicted in answers)
    return csv_text([("filename", "truth", "prediction", "error"), *rows])


def problems_to_text(problems: Sequence[Problem]) -> str:
    """Every problem, and the counts by kind if there are more than ten."""
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
