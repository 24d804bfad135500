"""Studies of a run: what `analyse` wrote, checked to be of the run's clips."""

from __future__ import annotations

import shlex
from pathlib import Path

from blemore.errors import BlemoreError, Problem, ValidationError, show
from blemore_baselines.results.run import Run
from blemore_baselines.results.study_files import Study, read

# What a study's signature and the run's have in common, and what it means where they differ.
SHARED = {
    "train": "other clips, labels, folds or actors",
    "features": "other features",
    "head": "another head",
    "recipe": "another recipe",
}


def read_studies(folder: Path, run: Run) -> dict[str, Study]:
    """All studies in a folder, by name; none where there is no folder.

    Raises ValidationError: a study is damaged, or of other clips than the run, or that of identity of another model.
    """
    studies: dict[str, Study] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.json")):
        try:
            studies[path.stem] = read(path)
            problems += _differences(studies[path.stem], path, run)
        except BlemoreError as error:
            problems += error.problems
    if problems:
        raise ValidationError(problems)
    return studies


def command(study: str, run: Run, folder: Path) -> str:
    """The call that writes a study of this run into a folder."""
    if study != "identity":
        return f"blemore-baselines analyse {study} --metadata CSV … --out {shlex.quote(str(folder))}"
    sources = " ".join(f"--features {shlex.quote(source['path'])}" for source in run.config["features"])
    return (
        f"blemore-baselines analyse identity --metadata CSV {sources} --preset {run.config['preset']} --head"
        f" {run.config['head']} --out {shlex.quote(str(folder))}"
    )


def _differences(study: Study, path: Path, run: Run) -> list[Problem]:
    """In what a study is of another run.

    Identity alone speaks of the run's own model; the others bring theirs, or compare several.
    """
    if study.name == "identity" and run.config["method"] != "aggregate":
        return [
            Problem(
                "other-study",
                str(path),
                f"is of aggregated features; the run was trained with the method {run.config['method']}",
                hint="Keep the study in another folder: none of this run can be had.",
            )
        ]
    expected = {key: str(run.fields[key]) for key in (SHARED if study.name == "identity" else ["train"])}
    return [
        Problem(
            "other-study",
            str(path),
            f"is of {SHARED[key]} than the run: {key} {show(study.fields.get(key))}; expected {show(value)}",
            hint=f"Write it for this run: {command(study.name, run, path.parent)}. Or keep it elsewhere.",
        )
        for key, value in expected.items()
        if study.fields.get(key) != value
    ]
