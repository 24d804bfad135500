"""What a study gives, and the files that it is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.io import to_json, write_atomic
from blemore.signature import line
from blemore.version import VERSION
from blemore_baselines.dataset import IS_BLEND, Dataset
from blemore_baselines.features import Features
from blemore_baselines.results.tables import Table, to_csv, to_latex, to_text


class Study(NamedTuple):
    """A finished study.

    name:     of the command
    tables, figures (PNG bytes): by the short names that their files get
    findings: paragraphs that say what was found, with intervals over actors
    values:   everything unrounded, for machines
    """

    name: str
    title: str
    tables: Mapping[str, Table]
    figures: Mapping[str, bytes]
    findings: Sequence[str]
    values: Mapping
    signature: str


def signed(number: float) -> str:
    """A difference, as findings tell it: `+0.012`, `−0.012`."""
    return f"{number:+.3f}".replace("-", "−")


def check_folds(dataset: Dataset, least: int) -> None:
    """ValidationError: fewer folds than `least`, or one without blends, on which nothing can be said of salience."""
    folds, blends = np.unique(dataset.folds), set(dataset.folds[IS_BLEND[dataset.labels]].tolist())
    without = [str(fold) for fold in folds.tolist() if fold not in blends]
    problems = []
    if len(folds) < least:
        problems.append(
            Problem(
                "too-few-folds",
                "folds",
                f"found {len(folds)}; expected at least {least}",
                hint="Use the dataset's own folds.",
            )
        )
    if without:
        problems.append(
            Problem(
                "no-blends",
                "folds",
                f"no blends in fold {', '.join(without)}; expected some in each, or there is no ACC_salience",
            )
        )
    if problems:
        raise ValidationError(problems)


def signature(study: str, dataset: Dataset, **settings: object) -> str:
    """A line that holds what a study was computed from: clips with labels, folds and actors, and settings, digests of
    its inputs among them.
    """
    return line({"study": study, "clips": len(dataset.ids), "train": dataset.digest, **settings, "version": VERSION})


def digests(sources: Sequence[Features]) -> str:
    """What a signature holds of features or scores."""
    return "+".join(source.digest for source in sources)


def write(study: Study, out: Path) -> None:
    """Write `out/<study>.json`, and each table as CSV and LaTeX and each figure as PNG beside it."""
    for name, table in study.tables.items():
        write_atomic(out / f"{study.name}_{name}.csv", to_csv(table, study.signature))
        write_atomic(out / f"{study.name}_{name}.tex", to_latex(table, study.signature))
    for name, png in study.figures.items():
        write_atomic(out / f"{study.name}_{name}.png", png)
    content = {
        "study": study.name,
        "title": study.title,
        "findings": list(study.findings),
        "signature": study.signature,
        **study.values,
    }
    write_atomic(out / f"{study.name}.json", to_json(content))


def told(study: Study) -> str:
    """For the terminal: tables, then findings."""
    return "\n".join([*(to_text(table) for table in study.tables.values()), *study.findings, study.signature])
