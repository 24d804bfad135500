"""Tables of results: one form for the terminal, for CSV, for LaTeX and for pages, each with its signature.

A cell is a text, a whole number, a fraction (four digits; CSV keeps them all) or None, which shows as a
dash. A signature says in one line what the figures were computed from.
"""

from __future__ import annotations

import csv
import html
import io
from typing import NamedTuple, Optional, Sequence, Union

Cell = Union[str, int, float, None]


class Table(NamedTuple):
    """title: in plain words; columns: the header; rows: cells, the first one names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def shown(cell: Cell, digits: int = 4) -> str:
    """A cell as people read it."""
    if cell is None:
        return "–"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def to_text(table: Table, signature: Optional[str] = None) -> str:
    """For the terminal: texts to the left, numbers to the right."""
    rows = [[shown(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows)]
    right = [any(isinstance(row[k], (int, float)) for row in table.rows) for k in range(len(table.columns))]
    lines = [table.title]
    for row in [table.columns, *rows]:
        lines.append("  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(row, widths, right)).rstrip())
    return "\n".join(lines + ([signature] if signature else [])) + "\n"


def to_csv(table: Table, signature: str) -> str:
    """Unrounded, for machines; the signature is the last line, after a #."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row] for row in table.rows])
    return buffer.getvalue() + f"# {signature}\n"


def to_latex(table: Table, signature: str) -> str:
    """A tabular with the rules of booktabs, to be pasted; the signature is a comment."""
    escaped = lambda text: "".join({"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$", "–": "--", "→": r"$\to$"}.get(c, c) for c in text)  # noqa: E731
    lines = [f"% {table.title}", f"% {signature}", rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, table.columns)) + r" \\", r"\midrule"]
    lines += [" & ".join(escaped(shown(cell, 3)) for cell in row) + r" \\" for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_html(table: Table) -> str:
    """For a page."""
    row = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"  # noqa: E731
    return f"<table>{row(table.columns, 'th')}{''.join(row(map(shown, cells), 'td') for cells in table.rows)}</table>"
