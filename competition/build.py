"""From labels to a complete bundle.

Beside `bundle.zip` stand two trivial submissions that seed the leaderboard, and, where the labels stay
on the worker, the `labels.json` to put there. The same inputs, dates included, give the same bytes.

Nothing that participants can download is made of the labels: they get the clips' ids, sorted, and a
template with the same answer for each of them.
"""

from __future__ import annotations

import copy
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import yaml

import blemore
from blemore import trivial
from blemore.errors import Problem
from blemore.evaluate import read_reference
from blemore.io import csv_text, read_bytes, to_json, write_atomic, zip_bytes
from blemore.labels import Label, to_entry
from blemore.validate import Reference
from blemore_codabench.bundle import CONFIG, BundleError, pack, parse_yaml
from blemore_codabench.vendor import vendored

HERE = Path(__file__).parent
NOTEBOOK = HERE.parent / "starting_kit" / "blemore_starting_kit.ipynb"  # in a checkout
PRACTICE_LASTS = timedelta(days=28)
GAP = timedelta(seconds=1)  # phases must not touch


class Options(NamedTuple):
    """What an organiser decides; see `blemore-codabench build --help`."""

    labels: Path
    out: Path
    practice_labels: Path | None = None
    labels_on_worker: bool = False
    start: datetime | None = None
    end: datetime | None = None
    config: Path = HERE / CONFIG
    wheels: Path | None = None
    report: str = "aggregate"


class Built(NamedTuple):
    """The files written, by what they are, and what the organiser should know."""

    files: dict[str, Path]
    notes: list[str]


def build(options: Options) -> Built:
    """Write the bundle and what belongs beside it.

    Raises ReferenceLabelsError: labels are wrong; BundleError: the configuration, dates or wheels are; FileError.
    """
    references = [
        (_reference(path), report)
        for path, report in ((options.practice_labels, "full"), (options.labels, options.report))
        if path
    ]
    config, notes = _config(options, len(references))
    files = {
        "scoring_program.zip": pack(scoring_program(options.wheels)),
        "starting_kit.zip": pack(_starting_kit(notes)),
    }
    beside = {}
    for (reference, report), task, phase in zip(references, config["tasks"], config["phases"]):
        name = "test" if phase is config["phases"][-1] else "practice"
        labels, stay = labels_json(reference), options.labels_on_worker and name == "test"
        task.update(scoring_program="scoring_program.zip", reference_data=f"{name}_reference.zip")
        phase.update(starting_kit="starting_kit.zip", public_data=f"{name}_data.zip")
        files[f"{name}_reference.zip"] = pack(_reference_data(labels, report, stay))
        files[f"{name}_data.zip"] = pack(_public_data(reference, name))
        if stay:
            beside["labels"] = (options.out.with_suffix(".labels.json"), labels)
            notes.append(
                "Put the labels on your worker as <its data folder>/blemore/labels.json; the program accepts no others."
            )
    files.update(_named_files(config, options.config.parent))
    files[CONFIG] = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100).encode()
    for name, label in _seeds():
        predictions = to_json({"predictions": {clip: to_entry(label) for clip in sorted(references[-1][0].labels)}})
        beside[f"always {label}"] = (
            options.out.with_suffix(f".trivial_{name}.zip"),
            zip_bytes("predictions.json", predictions),
        )
    for path, content in beside.values():
        write_atomic(path, content)
    write_atomic(options.out, pack(files))
    return Built({"bundle": options.out, **{name: path for name, (path, _) in beside.items()}}, notes)


# ---------------------------------------------------------------------------- the labels' side


def _reference(path: Path) -> Reference:
    reference = read_reference(path)
    if not any(label.is_blend for label in reference.labels.values()):
        raise BundleError(
            Problem(
                "no-blends",
                str(path),
                "no blend among the labels: ACC_salience and score would be undefined",
                hint="Is it the right file?",
            )
        )
    return reference


def labels_json(reference: Reference) -> bytes:
    """Labels and, where every clip has one, actors; sorted by id."""
    clips = sorted(reference.labels)
    data = {"labels": {clip: to_entry(reference.labels[clip]) for clip in clips}}
    if all(clip in reference.groups for clip in clips):
        data["groups"] = {clip: reference.groups[clip] for clip in clips}
    return to_json(data).encode()


def _reference_data(labels: bytes, report: str, stay_on_worker: bool) -> dict[str, bytes]:
    settings = {"report": report, "labels_sha256": hashlib.sha256(labels).hexdigest()}
    files = {"settings.json": to_json(settings).encode()}
    return files if stay_on_worker else {**files, "labels.json": labels}


def _seeds() -> list[tuple[str, Label]]:
    """The constant answers of train: the most frequent single emotion, the most frequent blend."""
    answers = trivial.train_answers()
    return [("single", answers.single), ("blend", answers.blend)]


# ----------------------------------------------------------------------- the participants' side


def _public_data(reference: Reference, phase: str) -> dict[str, bytes]:
    clips = sorted(reference.labels)
    template = to_json({"predictions": {clip: to_entry(trivial.PLACEHOLDER) for clip in clips}})
    return {
        "README.md": (HERE / "public_data.md").read_bytes(),
        f"{phase}_clips.csv": csv_text([["filename"], *([clip] for clip in clips)]).encode("utf-8", "backslashreplace"),
        "submission_template.json": template.encode(),
        "submission_template.zip": zip_bytes("submission_template.json", template),
    }


def _starting_kit(notes: list[str]) -> dict[str, bytes]:
    """The submission's schema, and the notebook where this is a checkout."""
    files = {
        "submission.schema.json": (Path(blemore.__file__).parent / "schemas" / "submission.schema.json").read_bytes(),
        "README.md": (HERE / "starting_kit.md").read_bytes(),
    }
    if NOTEBOOK.is_file():
        return {**files, NOTEBOOK.name: NOTEBOOK.read_bytes()}
    notes.append(
        "The starting kit holds the submission's schema alone: build from a checkout to ship the notebook, too."
    )
    return files


# --------------------------------------------------------------------------- the program's side


def scoring_program(wheels: Path | None = None) -> dict[str, bytes]:
    """The files of the scoring program: score.py, metadata.yaml, blemore without its command line, vendor/."""
    installed = HERE / "program"
    folder = installed if installed.is_dir() else HERE.parent / "scoring_program"
    files = {name: read_bytes(folder / name) for name in ("score.py", "metadata.yaml")}
    files.update(
        {f"blemore/{name}": raw for name, raw in _tree(Path(blemore.__file__).parent).items() if name != "cli.py"}
    )
    files.update({f"vendor/{name}": raw for name, raw in vendored(wheels).items()})
    return files


def _tree(folder: Path) -> dict[str, bytes]:
    """A folder's files by relative path, without what tools leave behind."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder) for path in paths}
    return {
        name.as_posix(): path.read_bytes()
        for path, name in names.items()
        if not any(part.startswith((".", "__pycache__")) for part in name.parts)
    }


# ----------------------------------------------------------------------------- the configuration


def _config(options: Options, phases: int) -> tuple[dict, list[str]]:
    """The template with as many phases as there are references, dated; what to tell of it."""
    where = str(options.config)
    config = copy.deepcopy(parse_yaml(read_bytes(options.config), where))
    for key in ("tasks", "phases"):
        found = config.get(key)
        if not isinstance(found, list) or len(found) < phases or not all(isinstance(item, dict) for item in found):
            message = f"expected a list of at least {phases}"
            raise BundleError(
                Problem("config", f"{where}: {key}", message, hint="Start from the kit's own competition.yaml.")
            )
        config[key] = [{**item, "index": index} for index, item in enumerate(found[-phases:])]
    for index, phase in enumerate(config["phases"]):
        phase["tasks"] = [index]
    return config, _date(config["phases"], options)


def _date(phases: list[dict], options: Options) -> list[str]:
    """Put start and end into the phases; what to tell of it. Times are UTC."""
    now = datetime.now(UTC).replace(microsecond=0)
    practice = len(phases) > 1
    start = options.start or (now + PRACTICE_LASTS if practice else now)
    if options.end is not None and options.end <= start:
        raise BundleError(
            Problem(
                "dates",
                "--end",
                f"{_utc(options.end)} is not after the start, {_utc(start)}",
                hint="Name both dates with --start and --end, in UTC.",
            )
        )
    notes = []
    phases[-1].update(start=_utc(start))
    phases[-1].pop("end", None)
    if practice:
        phases[0].update(start=_utc(start - PRACTICE_LASTS), end=_utc(start - GAP))
        notes.append(f"The practice phase runs from {phases[0]['start']} to {phases[0]['end']} UTC.")
    if options.end:
        phases[-1].update(end=_utc(options.end))
    ends = f"ends {_utc(options.end)}" if options.end else "has no end (set one with --end)"
    notes.append(
        f"The test phase starts {_utc(start)}{'' if options.start else ' (set it with --start)'} and {ends}. All times"
        " are UTC."
    )
    return notes


def _utc(moment: datetime) -> str:
    """As the platform reads it: it takes the wall time for UTC and drops an offset."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _named_files(config: dict, folder: Path) -> dict[str, bytes]:
    """Logo, terms and pages, from the configuration's folder or else the kit's own."""
    pages = [page.get("file") for page in config.get("pages") or [] if isinstance(page, dict)]
    files = {}
    for name in [config.get("image"), config.get("terms"), *pages]:
        if isinstance(name, str):
            path = next((path for path in (folder / name, HERE / name) if path.is_file()), folder / name)
            files[name] = read_bytes(path)
    return files
