"""Tables of results, formatted for the terminal, CSV, LaTeX and HTML pages, each with its signature.

A cell is a text, a whole number, a fraction (four digits; CSV keeps them all) or None, which shows as a dash. A
signature says in one line what the figures were computed from.

Names of columns matter in two cases. `p`, `Holm p` and `p of …` are p-values, which never show as 0. Neighbours that
end in `low` and `high`, or in `from` and `to`, are the ends of an interval, which LaTeX and pages show in one column.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional, Union

from blemore.errors import printable
from blemore.io import csv_text

CELLS = (str, int, float, type(None))
Cell = Optional[Union[str, int, float]]  # in this form for Python 3.9


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


P_VALUE = re.compile(r"(Holm )?p( of .*)?")


def p_text(p: float | None) -> str:
    """A p-value as people read it: 0.012, < 0.001."""
    if p is None:
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _shown_cells(table: Table, row: Sequence[Cell], digits: int = 4) -> list[str]:
    return [
        p_text(cell) if isinstance(cell, float) and P_VALUE.fullmatch(name) else shown(cell, digits)
        for name, cell in zip(table.columns, row)
    ]


def to_text(table: Table, signature: str | None = None) -> str:
    """For the terminal: texts to the left, numbers to the right."""
    rows = [list(map(printable, _shown_cells(table, row))) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows)]
    right = [any(isinstance(row[k], (int, float)) for row in table.rows) for k in range(len(table.columns))]
    lines = [table.title]
    for row in [table.columns, *rows]:
        lines.append(
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(row, widths, right)
            ).rstrip()
        )
    return "\n".join(lines + ([signature] if signature else [])) + "\n"


def to_csv(table: Table, signature: str) -> str:
    """Unrounded, for machines; None is an empty cell, and the signature is the last line, after a #."""
    return csv_text([table.columns, *([_unrounded(cell) for cell in row] for row in table.rows)]) + f"# {signature}\n"


def _unrounded(cell: Cell) -> str | int:
    if cell is None:
        return ""
    return repr(float(cell)) if isinstance(cell, float) else cell


LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\to$",
    "−": r"$-$",
    "–": "--",
    "α": r"$\alpha$",
    "β": r"$\beta$",
}


ENDS = {
    "low": ("high", "95 % interval"),
    "from": ("to", "from – to"),
}  # an interval's columns in LaTeX: first, second, both
MINUS = re.compile(r"(?<![\w.)–-])-(?=\.?\d)")  # before a number


def to_latex(table: Table, signature: str, label: str) -> str:
    """A booktabs table to paste into a paper; the signature is a comment.

    label: for `\\ref`; characters other than letters, digits and `:_-` become hyphens
    """
    columns, rows = _joined(table, 3)
    comments = (signature, r"\usepackage{booktabs}")
    lines = [
        *(f"% {printable(' '.join(text.split()))}" for text in comments),
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\label{{{re.sub('[^A-Za-z0-9:_-]+', '-', label)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        _latex_row(columns),
        r"\midrule",
        *map(_latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _joined(table: Table, digits: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows as texts, with one column for both ends of an interval."""
    columns, rows = list(table.columns), [_shown_cells(table, row, digits) for row in table.rows]
    for first in reversed(range(len(columns) - 1)):
        prefix, _, name = columns[first].rpartition(" ")
        second, title = ENDS.get(name, ("", ""))
        if second and columns[first + 1] == " ".join(filter(None, (prefix, second))):
            columns[first : first + 2] = [" ".join(filter(None, (prefix, title)))]
            for row in rows:
                low, high = row[first : first + 2]
                row[first : first + 2] = [low if low == high == shown(None) else f"[{low}, {high}]"]
    return columns, rows


def _latex_row(row: Sequence[str]) -> str:
    return " & ".join(map(_latex, row)) + r" \\"


def _latex(text: str) -> str:
    """Any text, escaped for LaTeX; a hyphen before a number becomes a minus sign."""
    characters = MINUS.sub("−", " ".join(text.split()))
    return "".join(LATEX.get(character, character) for character in printable(characters))


def to_files(name: str, table: Table, signature: str) -> dict[str, str]:
    """The files that a table is written to, by their names: CSV and LaTeX."""
    return {f"{name}.csv": to_csv(table, signature), f"{name}.tex": to_latex(table, signature, f"tab:{name}")}


def to_html(table: Table) -> str:
    """For a page in the style of `blemore.page`. A table wider than the page scrolls."""
    columns, rows = _joined(table, 4)
    header = _html_cells("th", columns)
    body = "".join(f"<tr>{_html_cells('th', row[:1])}{_html_cells('td', row[1:])}</tr>" for row in rows)
    title = f'<p class="soft">{html.escape(table.title)}</p>'  # a caption would scroll away
    content = f'<table class="rows"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'
    return f'{title}<div class="wide">{content}</div>'


def _html_cells(tag: str, cells: Iterable[str]) -> str:
    return "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)
