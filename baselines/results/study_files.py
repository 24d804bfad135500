"""A study's files: `analyse` writes them, and the report reads them.

`<study>.json` holds everything except figures, which are next to it as `<study>_<name>.png` and `.pdf`. Each table is
also written as `<study>_<name>.csv` and `.tex`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore.errors import Problem, ValidationError, show
from blemore.io import read_bytes, read_json, to_json, write_atomic
from blemore.tables import CELLS, Table, to_files, to_text
from blemore_baselines.results.pictures import SUFFIXES, Picture, write_figure


class Study(NamedTuple):
    """A finished study.

    name:     of the command
    tables, figures: by the short names in their file names
    findings: paragraphs with the results and intervals over actors
    values:   everything unrounded, for further processing
    """

    name: str
    title: str
    tables: Mapping[str, Table]
    figures: Mapping[str, Picture]
    findings: Sequence[str]
    values: Mapping
    signature: str

    @property
    def fields(self) -> dict[str, str]:
        """The signature's fields."""
        return dict(part.partition(":")[::2] for part in self.signature.split("|"))


def write(study: Study, out: Path) -> None:
    """Writes `out/<study>.json`, and next to it each table as CSV and LaTeX and each figure as PNG and PDF."""
    for name, table in study.tables.items():
        for file, text in to_files(f"{study.name}_{name}", table, study.signature).items():
            write_atomic(out / file, text)
    for name, picture in study.figures.items():
        write_figure(out, f"{study.name}_{name}", picture, study.signature)
    content = {
        "study": study.name,
        "title": study.title,
        "findings": list(study.findings),
        "signature": study.signature,
        **study.values,
        "tables": {name: table._asdict() for name, table in study.tables.items()},
        "figures": list(study.figures),
    }
    write_atomic(out / f"{study.name}.json", to_json(content))


def to_terminal(study: Study) -> str:
    """The study as text: tables, then findings."""
    return "\n".join([*(to_text(table) for table in study.tables.values()), *study.findings, study.signature])


# ---------------------------------------------------------------------------------- reading

KINDS = {"study": str, "title": str, "findings": list, "signature": str, "tables": dict, "figures": list}


def read(path: Path) -> Study:
    """The study of `<study>.json`.

    Raises FileError: it cannot be opened; ValidationError: it is not a study, or one of its files is missing, damaged
    or from another study.
    """
    content, folder, name = _content(path), path.parent, path.stem
    tables = {key: Table(**table) for key, table in content["tables"].items()}
    texts: dict[str, str] = {}
    for key, table in tables.items():
        texts |= to_files(f"{name}_{key}", table, content["signature"])
    figures = {key: [f"{name}_{key}{suffix}" for suffix in SUFFIXES] for key in content["figures"]}
    files = [*texts, *(file for forms in figures.values() for file in forms)]
    missing = [file for file in files if not (folder / file).exists()]
    if missing or not tables:
        raise _damaged(path, f"{', '.join(missing) or 'any table'} is missing in the same folder")
    for file, text in texts.items():  # LaTeX is for pasting, so it may be edited
        if file.endswith(".csv") and read_bytes(folder / file).decode("utf-8", "replace") != text:
            raise _damaged(folder / file, f"differs from the table in {path.name}; expected the same table")
    return Study(
        name,
        content["title"],
        tables,
        {key: _picture(*(folder / file for file in forms)) for key, forms in figures.items()},
        [str(text) for text in content["findings"]],
        {key: value for key, value in content.items() if key not in KINDS},
        content["signature"],
    )


def _content(path: Path) -> dict:
    """A study's JSON. Raises ValidationError: it is not a study, or has names or tables that `write` does not write."""
    data = read_json(path).data
    content = data if isinstance(data, dict) else {}
    absent = [key for key, kind in KINDS.items() if not isinstance(content.get(key), kind)]
    if absent:
        raise _damaged(path, f"holds no {' and no '.join(absent)}")
    if content["study"] != path.stem:
        raise _damaged(path, f"holds the study {show(content['study'])}")
    for name in (*content["tables"], *content["figures"]):
        if not (isinstance(name, str) and name.isidentifier()):
            raise _damaged(path, f"names a table or a figure {show(name)}; expected only letters, digits and _")
    for name, table in content["tables"].items():
        if not _is_table(table):
            raise _damaged(path, f"holds no complete table {name}")
    return content


def _is_table(content: object) -> bool:
    """Whether the content is a table as from `Table._asdict`: a title, a header, and rows with as many cells."""
    if not isinstance(content, dict) or content.keys() != set(Table._fields):
        return False
    columns, rows = content["columns"], content["rows"]
    return (
        isinstance(content["title"], str)
        and isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(name, str) for name in columns)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
        and all(isinstance(cell, CELLS) for row in rows for cell in row)
    )


def _picture(png_path: Path, pdf_path: Path) -> Picture:
    """The figure, with both files checked to be complete by their first and last bytes."""
    picture = Picture(read_bytes(png_path), read_bytes(pdf_path))
    if not picture.png.startswith(b"\x89PNG") or picture.png[-8:-4] != b"IEND":
        raise _damaged(png_path, "is not a complete PNG")
    if not picture.pdf.startswith(b"%PDF-") or not picture.pdf.rstrip().endswith(b"%%EOF"):
        raise _damaged(pdf_path, "is not a complete PDF")
    return picture


def _damaged(path: Path, message: str) -> ValidationError:
    hint = (
        "Was it changed, or written by an earlier version? Write the study again: blemore-baselines analyse … --out"
        f" {path.parent}. Keep files that are not studies in another folder."
    )
    return ValidationError(Problem("damaged-study", str(path), message, hint=hint))
