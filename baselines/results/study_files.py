"""A study as its files: `analyse` writes them, and the report reads them back.

`<study>.json` holds all of a study but its figures, which are beside it as `<study>_<name>.png` and `.pdf`. For people,
each table is there as `<study>_<name>.csv` and `.tex`, too.
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
    tables, figures: by the short names that their files get
    findings: paragraphs that say what was found, with intervals over actors
    values:   everything unrounded, for machines
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
        """What the signature holds."""
        return dict(part.partition(":")[::2] for part in self.signature.split("|"))


def write(study: Study, out: Path) -> None:
    """Write `out/<study>.json`, and each table as CSV and LaTeX and each figure as PNG and PDF beside it."""
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
    """Tables, then findings."""
    return "\n".join([*(to_text(table) for table in study.tables.values()), *study.findings, study.signature])


# -------------------------------------------------------------------------------- read back

KINDS = {"study": str, "title": str, "findings": list, "signature": str, "tables": dict, "figures": list}


def read(path: Path) -> Study:
    """The study of `<study>.json`.

    Raises FileError: it cannot be opened; ValidationError: it is no study, or a file that it wrote is missing, damaged
    or another study's.
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
        raise _damaged(path, f"{', '.join(missing) or 'any table'} is missing beside it")
    for file, text in texts.items():  # LaTeX is for pasting: it may be edited
        if file.endswith(".csv") and read_bytes(folder / file).decode("utf-8", "replace") != text:
            raise _damaged(folder / file, f"differs from the table in {path.name}; expected both of one study")
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
    """A study's JSON. Raises ValidationError: it is none, or names files or holds tables that `write` does not."""
    data = read_json(path).data
    content = data if isinstance(data, dict) else {}
    absent = [key for key, kind in KINDS.items() if not isinstance(content.get(key), kind)]
    if absent:
        raise _damaged(path, f"holds no {' and no '.join(absent)}")
    if content["study"] != path.stem:
        raise _damaged(path, f"holds the study {show(content['study'])}")
    for name in (*content["tables"], *content["figures"]):
        if not (isinstance(name, str) and name.isidentifier()):
            raise _damaged(path, f"names a table or a figure {show(name)}; expected letters, digits and _ alone")
    for name, table in content["tables"].items():
        if not _is_table(table):
            raise _damaged(path, f"holds no whole table {name}")
    return content


def _is_table(content: object) -> bool:
    """Whether it is what `Table._asdict` gives: a title, a header, and rows of as many cells."""
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
    """Each file whole, by how it begins and ends."""
    picture = Picture(read_bytes(png_path), read_bytes(pdf_path))
    if not picture.png.startswith(b"\x89PNG") or picture.png[-8:-4] != b"IEND":
        raise _damaged(png_path, "is no whole PNG")
    if not picture.pdf.startswith(b"%PDF-") or not picture.pdf.rstrip().endswith(b"%%EOF"):
        raise _damaged(pdf_path, "is no whole PDF")
    return picture


def _damaged(path: Path, message: str) -> ValidationError:
    hint = (
        "Was it changed, or written by an earlier version? Write the study again: blemore-baselines analyse … --out"
        f" {path.parent}. What is no study belongs elsewhere."
    )
    return ValidationError(Problem("damaged-study", str(path), message, hint=hint))
