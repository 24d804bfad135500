"""Tables of results: one form for the terminal, for CSV, for LaTeX and for pages, each with its signature.

A cell is a text, a whole number, a fraction (four digits; CSV keeps them all) or None, which shows as a dash. A
signature says in one line what the figures were computed from.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from blemore.errors import printable
from blemore.io import csv_text

Cell = str | int | float | None


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


def to_text(table: Table, signature: str | None = None) -> str:
    """For the terminal: texts to the left, numbers to the right."""
    rows = [[printable(shown(cell)) for cell in row] for row in table.rows]
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
    "\n": " ",
}


def to_latex(table: Table, signature: str) -> str:
    """A tabular with the rules of booktabs, to be pasted; the title and the signature are comments."""
    lines = [
        *(f"% {' '.join(text.split())}" for text in (table.title, signature)),
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
    ]
    lines += [_latex_row(table.columns), r"\midrule", *(_latex_row(row) for row in table.rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_row(row: Sequence[Cell]) -> str:
    escaped = ("".join(LATEX.get(char, char) for char in shown(cell, 3)) for cell in row)
    return " & ".join(escaped) + r" \\"


def to_files(name: str, table: Table, signature: str) -> dict[str, str]:
    """The files that a table is written to, by their names: CSV and LaTeX."""
    return {f"{name}.csv": to_csv(table, signature), f"{name}.tex": to_latex(table, signature)}


def to_html(table: Table) -> str:
    """For a page in the style of `blemore.page`; wider than the page, it scrolls."""
    header = _html_cells("th", table.columns)
    body = "".join(f"<tr>{_html_cells('th', row[:1])}{_html_cells('td', row[1:])}</tr>" for row in table.rows)
    title = f'<p class="soft">{html.escape(table.title)}</p>'  # a caption would scroll away
    rows = f'<table class="rows"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'
    return f'{title}<div class="wide">{rows}</div>'


def _html_cells(tag: str, cells: Iterable[Cell]) -> str:
    return "".join(f"<{tag}>{html.escape(shown(cell))}</{tag}>" for cell in cells)
