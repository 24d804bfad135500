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


def identity_command(run: Run, folder: Path) -> str | None:
    """The call that writes the study of identity of this run into a folder.

    None: up to version 0.2.0, runs did not note where their metadata was.
    """
    metadata = run.config["train"].get("path")
    if not metadata:
        return None
    words = ["blemore-baselines", "analyse", "identity", "--metadata", metadata, *features_options(run)]
    words += ["--preset", run.config["preset"], "--head", run.config["head"], "--out", str(folder)]
    return shlex.join(words)


def features_options(run: Run) -> list[str]:
    """What the run was trained on, as options of a command."""
    return [word for source in run.config["features"] for word in ("--features", source["path"])]


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
            hint=f"Keep it in another folder, or write it for this run: {_again(study, run, path.parent)}",
        )
        for key, value in expected.items()
        if study.fields.get(key) != value
    ]


def _again(study: Study, run: Run, folder: Path) -> str:
    """How to write a study for this run. What the others take than identity, a run does not tell."""
    call = identity_command(run, folder) if study.name == "identity" else None
    return call or f"blemore-baselines analyse {study.name}, with the metadata and features that train was given"
