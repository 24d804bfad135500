"""Reads the studies that `analyse` wrote for a run, and checks that they use the run's clips."""

from __future__ import annotations

import shlex
from pathlib import Path

from blemore.errors import BlemoreError, Problem, ValidationError, show
from blemore_baselines.results.run import Run
from blemore_baselines.results.study_files import Study, read

# The fields shared by signatures of studies and runs, and what a difference means.
SHARED = {
    "train": "other clips, labels, folds or actors",
    "features": "other features",
    "head": "another head",
    "recipe": "another recipe",
}


def read_studies(folder: Path, run: Run) -> dict[str, Study]:
    """All studies in a folder, by name; none if there is no folder.

    Raises ValidationError: a study is damaged or uses other clips than the run, or the study of identity uses another
    model.
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
    """The command that writes this run's study of identity into a folder.

    None for runs up to version 0.2.0, which did not record the path of their metadata.
    """
    metadata = run.config["train"].get("path")
    if not metadata:
        return None
    words = ["blemore-baselines", "analyse", "identity", "--metadata", metadata, *features_options(run)]
    words += ["--preset", run.config["preset"], "--head", run.config["head"], "--out", str(folder)]
    return shlex.join(words)


def features_options(run: Run) -> list[str]:
    """The features that the run was trained on, as options of a command."""
    return [word for source in run.config["features"] for word in ("--features", source["path"])]


def _differences(study: Study, path: Path, run: Run) -> list[Problem]:
    """The differences between a study and the run.

    Only identity is about the run's own model; other studies train their own, or compare several.
    """
    if study.name == "identity" and run.config["method"] != "aggregate":
        return [
            Problem(
                "other-study",
                str(path),
                f"uses aggregated features; expected none, because the run was trained with the method"
                f" {run.config['method']}",
                hint="Keep the study in another folder; it cannot be made for this run.",
            )
        ]
    expected = {key: str(run.fields[key]) for key in (SHARED if study.name == "identity" else ["train"])}
    return [
        Problem(
            "other-study",
            str(path),
            f"uses {SHARED[key]} than the run: {key} {show(study.fields.get(key))}; expected {show(value)}",
            hint=f"Keep it in another folder, or write it for this run: {_again(study, run, path.parent)}",
        )
        for key, value in expected.items()
        if study.fields.get(key) != value
    ]


def _again(study: Study, run: Run, folder: Path) -> str:
    """The command that writes a study for this run; a run records the inputs only for identity."""
    call = identity_command(run, folder) if study.name == "identity" else None
    return call or f"blemore-baselines analyse {study.name}, with the metadata and features given to train"
