"""Studies of a run: what `analyse` wrote, read back whole and checked to be of the run's clips.

A study is `<study>.json`, and beside it `<study>_<name>` as .csv and .tex for each table, as .png for each figure.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore.errors import BlemoreError, Problem, ValidationError, show
from blemore.io import read_bytes, read_json
from blemore_baselines.results.run import Run
from blemore_baselines.results.tables import Cell, Table


class Study(NamedTuple):
    """tables, figures (PNG bytes): by the names of their files."""

    name: str
    title: str
    findings: Sequence[str]
    signature: str
    tables: Mapping[str, Table]
    figures: Mapping[str, bytes]

    @property
    def fields(self) -> dict[str, str]:
        """What the signature holds."""
        return dict(part.partition(":")[::2] for part in self.signature.split("|"))


def read_studies(folder: Path, run: Run) -> dict[str, Study]:
    """All studies in a folder, by name; none where there is no folder.

    Raises ValidationError: a study is damaged, or of other clips than the run, or that of identity of another model.
    """
    found: dict[str, Study] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = _read(path)
            problems += _others(found[path.stem], path, run)
        except BlemoreError as error:
            problems += error.problems
    if problems:
        raise ValidationError(problems)
    return found


def command(study: str, run: Run, folder: Path) -> str:
    """The call that writes a study of this run into a folder."""
    if study != "identity":
        return f"blemore-baselines analyse {study} --metadata CSV … --out {shlex.quote(str(folder))}"
    sources = " ".join(f"--features {shlex.quote(source['path'])}" for source in run.config["features"])
    return (
        f"blemore-baselines analyse identity --metadata CSV {sources} --preset {run.config['preset']} --head"
        f" {run.config['head']} --out {shlex.quote(str(folder))}"
    )


def _others(study: Study, path: Path, run: Run) -> list[Problem]:
    """In what a study is of another run.

    Identity alone speaks of the run's own model; the others bring theirs, or compare several.
    """
    theirs, ours = study.fields, {key: str(value) for key, value in run.fields.items()}
    if study.name == "identity" and run.config["method"] != "aggregate":
        return [
            Problem(
                "other-study",
                str(path),
                f"is of aggregated features; the run was trained with the method {run.config['method']}",
                hint="Keep the study in another folder: none of this run can be had.",
            )
        ]
    of = {
        "train": "other clips, labels, folds or actors",
        "features": "other features",
        "head": "another head",
        "recipe": "another recipe",
    }
    return [
        Problem(
            "other-study",
            str(path),
            f"is of {of[key]} than the run: {key} {show(theirs.get(key))}; expected {show(ours[key])}",
            hint=f"Write it for this run: {command(study.name, run, path.parent)}. Or keep it elsewhere.",
        )
        for key in (of if study.name == "identity" else ["train"])
        if theirs.get(key) != ours[key]
    ]


# ------------------------------------------------------------------------------ the files


def _read(path: Path) -> Study:
    """Raises ValidationError: not a study, or without a file that it wrote, or with one of another."""
    content, name = read_json(path).data, path.stem
    content = content if isinstance(content, dict) else {}
    wrong = [
        key
        for key, kind in (("study", str), ("title", str), ("findings", list), ("signature", str))
        if not isinstance(content.get(key), kind)
    ]
    if wrong or content["study"] != name:
        raise _damaged(
            path, f"holds no {' and no '.join(wrong)}" if wrong else f"holds the study {show(content['study'])}"
        )
    files = sorted(file for file in path.parent.iterdir() if file.name.startswith(f"{name}_"))
    tables = sorted({file.stem for file in files if file.suffix in (".csv", ".tex")})
    missing = [
        file for table in tables for file in (f"{table}.csv", f"{table}.tex") if path.with_name(file) not in files
    ]
    if missing or not tables:
        raise _damaged(path, f"{', '.join(missing) or 'any table'} is missing beside it")
    return Study(
        name,
        content["title"],
        [str(text) for text in content["findings"]],
        content["signature"],
        {table: _table(path.with_name(table), content["signature"]) for table in tables},
        {file.stem: _picture(file) for file in files if file.suffix == ".png"},
    )


def _table(path: Path, signature: str) -> Table:
    """The table of `<path>.csv`, whose title is the first line of `<path>.tex`."""
    source = Path(f"{path}.csv")
    try:
        title, last = (read_bytes(Path(f"{path}{suffix}")).decode().rstrip("\n") for suffix in (".tex", ".csv"))
        body, _, last = last.rpartition("\n")
        header, *rows = csv.reader(io.StringIO(body), strict=True)
    except (ValueError, csv.Error) as error:  # FileError is neither
        raise _damaged(source, f"is no table of a study ({error})") from None
    if last != f"# {signature}":
        raise _damaged(source, f"ends with {show(last, 200)}; expected the signature of its study, # {signature}")
    if any(len(row) != len(header) for row in rows):
        raise _damaged(source, f"has rows of other lengths than its header, {len(header)} cells")
    return Table(title.partition("\n")[0].removeprefix("% "), header, [[_cell(text) for text in row] for row in rows])


def _cell(text: str) -> Cell:
    """What was written so."""
    for kind in (int, float):
        try:
            if repr(kind(text)) == text:
                return kind(text)
        except ValueError:
            pass
    return text or None


def _picture(path: Path) -> bytes:
    png = read_bytes(path)
    if not png.startswith(b"\x89PNG") or png[-8:-4] != b"IEND":
        raise _damaged(path, "is no whole PNG")
    return png


def _damaged(path: Path, message: str) -> ValidationError:
    return ValidationError(
        Problem(
            "damaged-study",
            str(path),
            message,
            hint=(
                f"Write the study again: blemore-baselines analyse … --out {path.parent}. What is no study belongs"
                " elsewhere."
            ),
        )
    )
