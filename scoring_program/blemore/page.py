"""One self-contained HTML page: figures, intervals, baselines and confusions, or the problems of a submission.

The page loads no script, font or other file. It adapts to a light or dark scheme, to a frame 320 px wide
and to paper. All text from participants is escaped.

`level` decides how much the page shows:
- `full`: everything. Only for public labels, since a reader of many such pages can work them out;
- `aggregate`: only the three totals, for a hidden test set;
- `none`: only that the submission was scored.

Below `full`, only the totals and a keyed hash depend on the labels. An interval would reveal which actors were
right. A count of blends, a baseline on the reference or a plain hash would reveal something, too.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from blemore import trivial
from blemore.errors import Problem, printable
from blemore.evaluate import RELATIONS, SETS, Report, detections, relation_confusion, set_confusion
from blemore.labels import EMOTION_NAMES
from blemore.report import (
    FIGURE_NAMES,
    composition,
    inference_in_words,
    interval_text,
    intervals_in_words,
    signed,
    signed_hidden,
)
from blemore.significance import FIGURES, Comparison, Difference, Interval, Intervals
from blemore.tables import p_text

LEVELS = ("full", "aggregate", "none")
NAMES = {"acc_presence": "ACC<sub>presence</sub>", "acc_salience": "ACC<sub>salience</sub>", "score": "score"}
TOTALS = ("score", "acc_presence", "acc_salience")  # in the order of the page
NO_FIGURES = "<p>The submission is valid and was scored. The organisers show no further figures in this phase.</p>"
MOST_PROBLEMS = 1000  # on the page; the others are in the log

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5b6470; --line: #d5dae0;
  --shade: 37, 99, 175; --deep: #fff; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa4af; --line: #343a41;
    --shade: 88, 156, 240; --deep: #0b0d0f; --bad: #ff8a80 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem .75rem 2rem; max-width: 52rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.35rem; margin: 0 0 .25rem } h2 { font-size: 1.05rem; margin: 2rem 0 .25rem }
p { margin: .4rem 0 } .soft { color: var(--soft); font-size: .87rem } .bad { color: var(--bad) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.2rem, 1fr)); gap: .5rem; margin: 1rem 0 }
.figures div { border: 1px solid var(--line); border-radius: 8px; padding: .5rem .5rem; white-space: nowrap;
  font-size: clamp(12.5px, 3.4vw, 15px) }
.figures .soft { font-size: .92em }
.figures b { display: block; font-size: clamp(17px, 4.9vw, 25px); line-height: 1.4; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); font-size: .87rem; padding-bottom: .3rem }
th { font-weight: 500; text-align: left } td { text-align: right; white-space: nowrap }
thead th { overflow-wrap: normal }
.wide { overflow-x: auto; overflow-wrap: normal } .wide table { width: auto; min-width: min(100%, 30rem) }
.rows th, .rows td { border-top: 1px solid var(--line); padding: .3rem .25rem }
.wide th, .wide td { white-space: nowrap; padding-right: .75rem }
.wide thead th { white-space: normal; min-width: 3.4rem; vertical-align: bottom } .wide caption { white-space: normal }
.rows thead th { border: 0; color: var(--soft); font-size: .87rem }
.rows thead th + th { text-align: right }
.shaded { table-layout: fixed } .shaded td { text-align: center; border: 1px solid var(--line); padding: .15rem 0 }
.shaded td.deep { color: var(--deep) } .shaded td.none { color: transparent }
.shaded td.right { outline: 1.5px solid var(--ink); outline-offset: -1.5px }
.shaded thead td, .shaded thead th { border: 0 }
.sets { font-size: clamp(7.5px, 2.2vw, 12.5px) } .sets col:first-child { width: 6.1em }
.sets thead th { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4em .1em 0; white-space: nowrap;
  line-height: 1 }
.sets tbody th { white-space: nowrap; padding-right: .3em; text-align: right }
.relations col:first-child { width: 32% }
.relations th { font-size: .87rem; padding: .15rem .3rem .15rem 0; overflow-wrap: normal }
.relations thead th { text-align: center; vertical-align: bottom; padding-right: 0 } .relations td { padding: .4rem 0 }
pre { overflow-x: auto } .wide, pre { background:
  linear-gradient(to right, var(--paper) 40%, transparent) left / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 40%, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to right, rgba(var(--shade), .5), transparent) left / .7rem 100% no-repeat,
  linear-gradient(to left, rgba(var(--shade), .5), transparent) right / .7rem 100% no-repeat }
code { font: 12px/1.5 ui-monospace, "SF Mono", Consolas, "Liberation Mono", monospace }
ol { padding-left: 1.6rem } li { margin: .5rem 0 } li .soft { display: block }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --shade: 37, 99, 175; --deep: #fff }
  body { max-width: none; font-size: 11pt } table, .figures { break-inside: avoid } h2 { break-after: avoid }
  .wide, pre { background: none } * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
}
"""


def scored(
    report: Report,
    intervals: Intervals | None = None,
    comparisons: Mapping[str, Comparison] = MappingProxyType({}),
    level: str = "full",
) -> str:
    """The page of a scored submission. ValueError: no such level, or `full` without its intervals."""
    if level not in LEVELS:
        raise ValueError(f"level {level!r}; expected one of {', '.join(LEVELS)}")
    if level != "full":
        return _signed_page([_totals(report) if level == "aggregate" else NO_FIGURES], signed_hidden(report))
    if intervals is None:
        raise ValueError("the full page needs intervals")
    parts = (_baselines, _detections, _sets, _relations)
    body = [_figures(report, intervals), _comparisons(comparisons), *(part(report) for part in parts)]
    return _signed_page(body, signed(report, intervals, comparisons))


def _signed_page(body: Sequence[str], line: str) -> str:
    return document("BLEMORE: scored", [*body, *signature_part(line)])


def signature_part(line: str) -> list[str]:
    code = safe(line).replace("|", "|<wbr>")
    return ["<h2>Signature</h2>", f"<p><code>{code}</code></p>"]


def failed(problems: Sequence[Problem], organiser: bool = False) -> str:
    """The page of a submission without a score: every problem. organiser: whether the organisers are at fault."""
    advice = (
        "This is not your fault: please tell the organisers."
        if organiser
        else "It does not count as scored: fix it and submit it again."
    )
    items = [f"<li>{problem_part(problem)}</li>" for problem in problems[:MOST_PROBLEMS]]
    n_more = len(problems) - len(items)
    return document(
        "BLEMORE: no score",
        [
            (
                f'<p class="bad"><strong>The submission got no score: {len(problems):,}'
                f" problem{'s' if len(problems) != 1 else ''}.</strong></p><p>{advice}</p>"
            ),
            f"<ol>{''.join(items)}</ol>",
            f"<p>{n_more:,} more are listed in the log (stderr).</p>" if n_more else "",
        ],
    )


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page from parts that are HTML already. title: HTML"""
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            # If something slips through the escaping after all, a browser still loads and runs nothing.
            """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<h1>{title}</h1>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def safe(text: str) -> str:
    """Any text, escaped for HTML."""
    return html.escape(printable(text))


def problem_part(problem: Problem) -> str:
    text, hint = str(problem._replace(hint=None)), problem.hint
    return safe(text) + (f'<span class="soft">{safe(hint)}</span>' if hint else "")


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _range(interval: Interval | None) -> str:
    return f"{interval.low:.3f} – {interval.high:.3f}" if interval else "n/a"


def _totals(report: Report) -> str:
    tiles = "".join(f"<div>{NAMES[figure]}<b>{_number(getattr(report.counts, figure))}</b></div>" for figure in TOTALS)
    note = "The labels of this phase are hidden: anything beyond these totals would help to work them out."
    return f'<div class="figures">{tiles}</div><p class="soft">{note}</p>'


def _figures(report: Report, intervals: Intervals) -> str:
    tiles = "".join(
        f"<div>{NAMES[figure]}<b>{_number(getattr(report.counts, figure))}</b><span"
        f' class="soft">{_range(intervals.intervals.get(figure))}</span></div>'
        for figure in TOTALS
    )
    subset = "" if report.subset == "all" else f" Scored only on {safe(report.subset)}."
    exact = ""
    if any(entry.rounded != entry.label for entry in report.predictions.values()):
        by_percentages = _number(report.counts.acc_salience_exact)
        exact = (
            f"<p>By rounded percentages instead of the relation, ACC<sub>salience</sub> would be {by_percentages}.</p>"
        )
    return (
        f'<p class="soft">Reference: {safe(composition(report.labels))}.{subset}</p><div'
        f' class="figures">{tiles}</div>{exact}<p class="soft">Below each figure: its interval.'
        f" {safe(' '.join(intervals_in_words(intervals)))}</p>"
    )


def _comparisons(comparisons: Mapping[str, Comparison]) -> str:
    if not comparisons:
        return ""
    rows = [
        [safe(name), FIGURE_NAMES[figure], *_difference(difference)]
        for name, comparison in comparisons.items()
        for figure, difference in comparison.differences.items()
    ]
    header = ["", "figure", "difference", "95 % interval", "p", "Holm p", "p of sign flips"]
    notes = [
        *inference_in_words(comparisons),
        *{f"{comparison.note}." for comparison in comparisons.values() if comparison.note},
    ]
    return (
        "<h2>Compared with other submissions</h2>"
        f'<div class="wide">{_rows(header, rows)}</div><p class="soft">{safe(" ".join(notes))}</p>'
    )


def _difference(difference: Difference) -> list[str]:
    estimate, flips = difference.estimate, difference.sign_flip
    if estimate.reason:
        return [f"{estimate.value:+.4f}", f"n/a: {safe(estimate.reason)}", "n/a", "n/a", "n/a"]
    p_values = (estimate.p, difference.p_holm, flips and flips.p)
    cells = [f"{estimate.value:+.4f}", interval_text(estimate.interval, "+.4f"), *map(p_text, p_values)]
    return [safe(cell.replace("-", "−")) for cell in cells]


def _baselines(report: Report) -> str:
    answers = trivial.train_answers()
    counts = {"this submission": report.counts}
    for name, record in trivial.evaluate(answers, report.labels).items():
        counts.setdefault(f"always {getattr(answers, name)}", record)
    rows = [[name, *(_number(getattr(record, figure)) for figure in FIGURES)] for name, record in counts.items()]
    note = (
        "The constant answers are the most frequent ones of the train partition; nothing was fitted on the reference."
    )
    return (
        "<h2>Compared with trivial answers</h2>"
        + _rows(["", "presence", "salience", "score"], rows)
        + f'<p class="soft">{note}</p>'
    )


def _detections(report: Report) -> str:
    rows = [
        [
            EMOTION_NAMES[emotion],
            _number(detection.precision, 3),
            _number(detection.recall, 3),
            f"{detection.predicted:,}",
            f"{detection.true:,}",
        ]
        for emotion, detection in detections(report).items()
    ]
    return "<h2>Presence by emotion</h2>" + _rows(["", "precision", "recall", "predicted", "true"], rows)


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells. The first cell of each row is its heading."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>" for first, *rest in rows)
    return f'<table class="rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _sets(report: Report) -> str:
    names = ["+".join(emotions) for emotions in SETS]
    return "<h2>Which emotions were confused</h2>" + _shaded(
        "sets",
        "Clips by true (row) and predicted (column) set of emotions; shade: share of the row.",
        names,
        names,
        set_confusion(report),
    )


def _relations(report: Report) -> str:
    if not report.counts.n_blends:
        return ""
    return "<h2>Salience of the true blends</h2>" + _shaded(
        "relations",
        "Blends by true (row) and predicted (column) relation: which emotion dominates. First and second follow the"
        " order ang, disg, fea, hap, sad.",
        RELATIONS,
        ["first", "equal", "second", "wrong set"],
        relation_confusion(report),
    )


def _shaded(
    kind: str, caption: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[int]]
) -> str:
    head = "".join(f"<th>{name}</th>" for name in columns)
    lines = (
        "".join(_cell(value, sum(line), row == column) for column, value in enumerate(line))
        for row, line in enumerate(cells)
    )
    body = "".join(f"<tr><th>{name}</th>{line}</tr>" for name, line in zip(rows, lines))
    layout = "<col>" + "<col>" * len(columns)
    return (
        f'<table class="shaded {kind}"><caption>{caption}</caption>{layout}'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: int, row_total: int, right: bool) -> str:
    share = value / row_total if row_total else 0
    classes = " ".join(name for name, holds in (("right", right), ("deep", share > 0.6), ("none", not value)) if holds)
    return f'<td class="{classes}" style="background:rgba(var(--shade),{share:.2f})">{value}</td>'
