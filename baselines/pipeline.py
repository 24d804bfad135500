"""The whole path, from clips or features to a checked submission and a report: `plan_path` lists the steps, and `run`
performs those that are not done yet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blemore.errors import FileError
from blemore_baselines.models.recipes import NORMALISATIONS
from blemore_baselines.steps import Step, perform, quote
from blemore_baselines.survey.locate import ANYWHERE, Located, choose_encoders, locate


class PipelineError(Exception):
    """Why the pipeline cannot continue, and what to do about it."""


class Plan(NamedTuple):
    """The steps in order, and what the summary needs.

    work, run:  the folder for everything from this dataset, and the run folder in it
    submission: None if features of the test clips are missing
    missing:    the encoders without features of the test clips
    labels:     of the test clips, if known
    """

    steps: list[Step]
    work: Path
    run: Path
    submission: Path | None
    missing: list[str]
    labels: Path | None


def run(data: str, encoders: Sequence[str], normalise: str, out: str, say: Callable[[str], None]) -> str:
    """Performs the steps that are not done yet, and returns a summary of the results.

    data:      the folder that the dataset was unpacked into; empty: the demo, which is made first
    encoders:  the features to use together, instead of those of `choose_encoders`; the demo has its own
    normalise: one of NORMALISATIONS; test clips are grouped by actor from their features
    out:       the output folder
    say:       shows a message

    Raises PipelineError: there is nothing to start from, or a step failed; ValidationError: a metadata table is
    invalid; KeyboardInterrupt: a step was interrupted.
    """
    if normalise not in NORMALISATIONS:
        raise PipelineError(f"BLEMORE_NORMALISE is {normalise}; expected one of {', '.join(NORMALISATIONS)}.")
    folder = Path(os.path.abspath(out))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise PipelineError(f"{reason}\n{folder} cannot be created: set BLEMORE_OUT to another folder.") from None
    say(f"Everything is written to {folder}")
    if data:
        located, encoders = find(data, encoders, say)
        plan = plan_path(located, encoders, folder / "real", normalise)
    else:
        plan = plan_demo(folder / "demo", normalise)
    for number, step in enumerate(plan.steps, 1):
        if not perform(step, f"[{number}] {step.title}", folder, say):
            raise PipelineError(
                f"\nStep {number} ({step.title}) failed; the lines above say why. The command was:\n"
                f"    {quote(step.command)}\n"
                "After fixing that, start the script again: it continues with this step."
            )
    return f"{summary(plan)}\nEverything was written to {folder}"


# ------------------------------------------------------------------------------------------- the start


def find(data: str, encoders: Sequence[str], say: Callable[[str], None]) -> tuple[Located, Sequence[str]]:
    """What the dataset's folder holds, and the encoders to use. Raises PipelineError: too little to start with."""
    folder = Path(os.path.abspath(data))
    if not folder.is_dir():
        raise PipelineError(f"BLEMORE_DATA is {data}: no such folder.")
    try:
        located = locate(folder)
    except FileError as error:
        if error.problems[0].where != str(folder):
            raise
        raise PipelineError(
            f"There is no train_metadata.csv in {folder} or its subfolders.\n"
            "BLEMORE_DATA must name the folder that the dataset was unpacked into (see data/README.md)."
        ) from None
    encoders = encoders or choose_encoders(located.train_features)
    say(f"Dataset: {folder}\nEncoders: {' '.join(encoders)}")
    absent = [] if located.train_videos else [name for name in encoders if name not in located.train_features]
    if absent:
        line = "{1} has neither features of {0} (such as a folder {0}_train) nor videos.\n"
        features = " ".join(sorted(located.train_features))
        raise PipelineError("".join(line.format(name, folder) for name in absent) + f"Features found: {features}")
    return located, encoders


def plan_demo(work: Path, normalise: str = "none") -> Plan:
    """Making the demo, and the path from its clips."""
    folder = work / "data"
    train, test, labels = folder / "train_metadata.csv", folder / "test_metadata.csv", folder / "test_labels.json"
    demo = Step("Make the demo dataset", labels, (), _baselines("demo", "--out", folder))
    plan = plan_path(Located(train, test, {}, {}, folder / "train", folder / "test"), ANYWHERE, work, normalise, labels)
    return plan._replace(steps=[demo, *plan.steps])


# -------------------------------------------------------------------------------------------- the path


def plan_path(
    data: Located, encoders: Sequence[str], work: Path, normalise: str = "none", labels: Path | None = None
) -> Plan:
    """From features or clips to a report.

    If the dataset has an encoder's features for train, its features are used for both partitions; otherwise they are
    extracted.
    """
    steps: list[Step] = []
    tables: dict[str, list[Path]] = {"train": [], "test": []}
    missing = []
    for encoder in encoders:
        has_features = encoder in data.train_features
        for part, metadata, features, videos in (
            ("train", data.train_metadata, data.train_features, data.train_videos),
            ("test", data.test_metadata, data.test_features, data.test_videos),
        ):
            source = features.get(encoder) if has_features else videos
            if metadata and source:
                make_table = _aggregate if has_features else _extract
                more_steps, table = make_table(part, encoder, metadata, source, work)
                steps += more_steps
                tables[part].append(table)
            else:
                missing.append(encoder)
    run = work / "-".join(["run", "+".join(encoders), *([] if normalise == "none" else [normalise])])
    submission = None if missing else run / "submission.zip"
    steps += _train(data.train_metadata, encoders, tables["train"], normalise, work, run)
    if data.test_metadata and submission:
        steps += _submit(data.test_metadata, tables["test"], normalise, run, submission)
    steps += _report(tables["train"], run, submission, labels)
    return Plan(steps, work, run, submission, missing, labels)


def _extract(part: str, encoder: str, metadata: Path, videos: Path, work: Path) -> tuple[list[Step], Path]:
    """The steps from clips to a table with a row per clip, and the table."""
    out = work / "features" / part
    features = out / encoder
    command = _baselines("extract", "--encoder", encoder, "--metadata", metadata, "--clips", videos, "--out", out)
    step = Step(f"Extract {encoder} ({part})", features / "meta.json", (metadata, videos), command)
    steps, table = _aggregate(part, encoder, metadata, features, work)
    return [step, *steps], table


def _aggregate(part: str, encoder: str, metadata: Path, features: Path, work: Path) -> tuple[list[Step], Path]:
    """The steps from features to a table with a row per clip, and the table; a single file already is such a table."""
    if features.is_file():
        return [], features
    table = work / "features" / part / f"{encoder}.npz"
    inputs = (metadata, features, features / "meta.json", features / "failures.csv")
    command = _baselines("aggregate", "--features", features, "--metadata", metadata, "--out", table)
    return [Step(f"Aggregate {encoder} ({part})", table, inputs, command)], table


def _train(
    metadata: Path, encoders: Sequence[str], tables: list[Path], normalise: str, work: Path, run: Path
) -> list[Step]:
    recipe = ["--method", "aggregate", "--head", "mlp512", "--preset", "published"]
    if normalise != "none":
        recipe += ["--normalise", normalise]
    train = _baselines("train", "--metadata", metadata, *_features(tables), *recipe, "--out", run)
    trivial = _baselines("trivial", "--metadata", metadata, "--fit", "scored")
    return [
        Step(f"Train on {' + '.join(encoders)}", run / "metrics.json", (metadata, *tables), train),
        Step("Trivial baselines", work / "trivial.txt", (metadata,), trivial, keep=True),
    ]


def _submit(metadata: Path, tables: list[Path], normalise: str, run: Path, submission: Path) -> list[Step]:
    steps: list[Step] = []
    inputs, options = [run / "metrics.json", metadata, *tables], list[object]()
    if normalise != "none":
        groups = run / "groups.csv"
        actors = _baselines("actors", *_features(tables), "--ids", metadata, "--out", groups)
        steps.append(Step("Group the test clips by actor", groups, (metadata, *tables), actors))
        inputs, options = [*inputs, groups], ["--groups", groups]
    predict = _baselines(
        "predict", "--model", run, *_features(tables), "--ids", metadata, *options, "--out", submission
    )
    check = _score("--check", submission, "--ids", metadata)
    return [
        *steps,
        Step("Predict the test clips", submission, tuple(inputs), predict),
        Step("Check the submission", run / "check.txt", (submission, metadata), check, keep=True),
    ]


def _report(tables: list[Path], run: Path, submission: Path | None, labels: Path | None) -> list[Step]:
    """The report and, if labels are known, the submission's score before it."""
    steps = []
    report = _baselines("report", run, *_features(tables))
    if submission and labels:
        score = _score(submission, labels, "--per-clip", run / "per_clip.csv")
        steps = [Step("Score the submission", run / "score.txt", (submission, labels), score, keep=True)]
        report += ("--labels", str(labels), "--submission", str(submission))
    inputs = (run / "metrics.json", *([submission] if submission else []))
    return [*steps, Step("Write the report", run / "report.html", inputs, report)]


def _features(tables: list[Path]) -> list[object]:
    return [word for table in tables for word in ("--features", table)]


def _baselines(*words: object) -> tuple[str, ...]:
    return ("blemore-baselines", *map(str, words))


def _score(*words: object) -> tuple[str, ...]:
    return ("blemore-score", *map(str, words))


# --------------------------------------------------------------------------------------------- the end


def summary(plan: Plan) -> str:
    """The floor, the figures, where the results are, and what to do next. All steps must be done."""
    lines = ["", "Trivial baselines, the floor for every system:", _read(plan.work / "trivial.txt"), ""]
    if plan.labels:
        lines.append("The score of the demo submission (invented clips: the figures say nothing about real ones):")
        lines.append(_read(plan.run / "score.txt"))
    else:
        lines.append("Nested figures on train (each fold is decoded with choices made on the other folds):")
        lines += _nested(plan.run / "metrics.json")
    lines += ["", f"Report:     {plan.run / 'report.html'}"]
    if plan.submission:
        lines.append(f"Submission: {plan.submission}")
    else:
        folders = ", ".join(f"{encoder}_test" for encoder in plan.missing)
        lines.append(f"Submission: none, because features of the test clips are missing for {' '.join(plan.missing)}")
        lines.append(f"            (expected test_metadata.csv, and folders such as {folders} next to those of train)")
    if plan.labels:
        lines.append(
            "Next: the real dataset (see data/README.md); give BLEMORE_DATA=/path/to/dataset and run this again"
        )
    elif plan.submission:
        lines.append("Next: upload it to the competition, https://www.codabench.org/competitions/14051/")
    return "\n".join(lines)


def _nested(metrics: Path) -> Iterator[str]:
    nested = json.loads(metrics.read_text("utf-8"))["nested"]
    for name in ("acc_presence", "acc_salience", "score"):
        folds = nested["over_folds"][name]
        yield f"  {name:<13} {nested[name]:.3f}   over folds {folds['mean']:.3f} ± {folds['std']:.3f}"


def _read(path: Path) -> str:
    return path.read_text("utf-8").removesuffix("\n")
