"""A ranking as one self-contained HTML page, in the style of `blemore.page`, with a drawing of the ranks' stability.

The page loads nothing, and names are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from blemore.page import document, problem_part, safe, signature_part
from blemore.rank_report import LeftOut, pairs_table, rank_in_words, ranking_table
from blemore.ranking import Ranking, System
from blemore.significance import LEVEL
from blemore.tables import p_text, to_html

STYLE = """body { max-width: 62rem }
.stability { display: block; width: 100%; max-width: 44rem; margin: .75rem 0; font-size: 11px }
.stability text { fill: var(--ink) } .stability .soft { fill: var(--soft); font-size: 10px }
.stability .grid { stroke: var(--line) } .stability .reach { stroke: var(--soft); stroke-width: 1.5 }
.stability .share { fill: rgb(var(--shade)) }
.stability .own { fill: none; stroke: var(--ink); stroke-width: 1.5 }
.apart td { text-align: center; min-width: 1.6rem; border: 1px solid var(--line); padding: .1rem .2rem }
.apart td.yes { background: rgba(var(--shade), .55); color: var(--deep) } .apart td.no { color: var(--soft) }
.wide tbody th { white-space: normal; min-width: 7rem; position: sticky; left: 0; background: var(--paper) }
.apart tbody th { min-width: 9rem } .apart thead td { border: 0 } .apart thead th { text-align: center; min-width: 0 }
details { margin: .75rem 0 } summary { cursor: pointer }
"""
WIDTH, NAMES, EDGE, TOP, ROW = 470, 150, 14, 22, 20  # of the drawing: whole, names, margin, axis and each row
MOST_PROBLEMS = 10  # per submission; the command prints all of them
LONGEST_NAME = 24  # characters that fit into NAMES


def rank_page(ranking: Ranking, left_out: Sequence[LeftOut]) -> str:
    """The whole page."""
    words = "".join(f"<p>{safe(line)}</p>" for line in rank_in_words(ranking, left_out))
    body = [
        to_html(ranking_table(ranking)),
        words,
        *_stability(ranking),
        *_pairs(ranking),
        *_left_out(left_out),
        *signature_part(ranking.signature),
    ]
    return document("BLEMORE: ranking", body, STYLE)


# ------------------------------------------------------------------------------- the drawing


def _stability(ranking: Ranking) -> list[str]:
    if len(ranking.systems) < 2 or not ranking.resamples:
        return []
    text = (
        f"Ranks over {ranking.resamples:,} resamples of the {ranking.units:,} {ranking.unit}s. The area of a dot shows"
        " the share of resamples with that rank, a line the middle 95 % of ranks, a ring the rank on all clips."
    )
    return ["<h2>How stable the ranks are</h2>", f'<p class="soft">{text}</p>', stability_svg(ranking.systems)]


def stability_svg(systems: Sequence[System]) -> str:
    """Systems from top to bottom, ranks from left to right."""
    height = TOP + ROW * len(systems) + 4
    rows = "\n".join(_row(system, place, len(systems)) for place, system in enumerate(systems))
    label = "Ranks of each system over resampled actors"
    return (
        f'<svg class="stability" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">\n'
        f"{_axis(len(systems), height)}\n{rows}\n</svg>"
    )


def _x(rank: int, systems: int) -> float:
    span = WIDTH - NAMES - 2 * EDGE
    return NAMES + EDGE + span * (rank - 1) / max(systems - 1, 1)


def _axis(systems: int, height: int) -> str:
    """A line for each labelled rank: the first, the last, and round numbers in between."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if systems <= 16 * step)
    ranks = sorted({1, systems, *(rank for rank in range(step, systems, step) if systems - rank >= step / 2)})
    lines = []
    for rank in ranks:
        x = f"{_x(rank, systems):.1f}"
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{height}"/>')
        lines.append(f'<text class="soft" x="{x}" y="{TOP - 9}" text-anchor="middle">{rank}</text>')
    return "\n".join(lines)


def _row(system: System, place: int, systems: int) -> str:
    if system.stability is None:
        return ""
    y = TOP + ROW * (place + 0.5)
    largest = max(1.5, min(0.42 * ROW, 0.5 * (_x(2, systems) - _x(1, systems))))
    low, high = (f"{_x(rank, systems):.1f}" for rank in system.stability[:2])
    total = sum(system.stability.ranks)
    dots = [
        f'<circle class="share" cx="{_x(rank, systems):.1f}" cy="{y}" r="{largest * math.sqrt(times / total):.2f}"/>'
        for rank, times in enumerate(system.stability.ranks, 1)
        if times
    ]
    own = f'<circle class="own" cx="{_x(system.rank, systems):.1f}" cy="{y}" r="{largest:.2f}"/>'
    reach = f'<line class="reach" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
    name = system.name if len(system.name) <= LONGEST_NAME else f"{system.name[: LONGEST_NAME - 1]}…"
    share = f"{safe(system.name)}: first in {system.stability.first:.1%} of resamples"
    return f'<g><title>{share}</title><text x="0" y="{y + 4}">{safe(name)}</text>{reach}{"".join(dots)}{own}</g>'


# ---------------------------------------------------------------------------------- the pairs


def _pairs(ranking: Ranking) -> list[str]:
    if not ranking.pairs:
        return []
    text = (
        "Rows and columns are in the order of the ranking. Shaded: the row is better than the column beyond chance"
        f" (Holm p < {1 - LEVEL:.2f}); a dot: the two cannot be told apart."
    )
    table = to_html(pairs_table(ranking))
    return [
        "<h2>Which systems can be told apart</h2>",
        f'<p class="soft">{safe(text)}</p>',
        _map(ranking),
        f"<details><summary>All pairs with their differences in score</summary>{table}</details>",
    ]


def _map(ranking: Ranking) -> str:
    names = [system.name for system in ranking.systems]
    cells = {(pair.first, pair.second): (pair.apart, pair.p_holm) for pair in ranking.pairs}
    head = "".join(f"<th>{place}</th>" for place in range(1, len(names) + 1))
    rows = "".join(
        f"<tr><th>{place} {safe(row)}</th>{''.join(_cell(cells.get((row, column))) for column in names)}</tr>"
        for place, row in enumerate(names, 1)
    )
    table = f'<table class="apart"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _cell(pair: tuple[bool, float | None] | None) -> str:
    """A pair's cell; empty below the diagonal."""
    if pair is None:
        return "<td></td>"
    apart, p = pair
    kind, sign = ("yes", "&gt;") if apart else ("no", "·")
    return f'<td class="{kind}" title="Holm p {safe(p_text(p))}">{sign}</td>'


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return []
    items = "".join(
        f"<li>{safe(entry.name)}: {len(entry.problems):,} problem{'s' if len(entry.problems) > 1 else ''}"
        f"<ul>{''.join(f'<li>{problem_part(problem)}</li>' for problem in entry.problems[:MOST_PROBLEMS])}</ul></li>"
        for entry in left_out
    )
    return ['<h2 class="bad">Left out, since they are invalid</h2>', f"<ol>{items}</ol>"]
