"""Builds a complete bundle from labels.

Next to `bundle.zip` it writes two trivial submissions that seed the leaderboard and, if the hidden labels stay on
the worker, the `labels.json` to put there. The same inputs, dates and secret included, give the same bytes.

Participants can download the clips' sorted ids, a template with the same answer for every clip, and a hash that is
keyed with a random secret. Nothing else in their downloads depends on the hidden labels.
"""

from __future__ import annotations

import copy
import hashlib
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import yaml

import blemore
from blemore import trivial
from blemore.codabench import hmac_of
from blemore.errors import Problem, some
from blemore.evaluate import read_ids, read_reference
from blemore.io import csv_text, read_bytes, to_json, write_atomic, zip_bytes
from blemore.labels import Label, parse_filename, to_entry
from blemore.validate import Reference
from blemore_codabench.bundle import CONFIG, BundleError, pack, parse_yaml
from blemore_codabench.dates import JUST_BEGUN
from blemore_codabench.dates import write as utc
from blemore_codabench.vendor import vendored

HERE = Path(__file__).parent
NOTEBOOK = HERE.parent / "starting_kit" / "blemore_starting_kit.ipynb"  # in a checkout
PRACTICE_LASTS = timedelta(days=28)
GAP = timedelta(seconds=1)  # phases must not touch
TEST_CLIPS = 594  # of the dataset
SECRET_BYTES = 32


class Options(NamedTuple):
    """What an organiser decides; see `blemore-codabench build --help`."""

    labels: Path
    out: Path
    practice_labels: Path | None = None
    labels_on_worker: bool = False
    queue: str | None = None
    ids: Path | None = None
    start: datetime | None = None
    end: datetime | None = None
    allow_past: bool = False
    config: Path = HERE / CONFIG
    wheels: Path | None = None
    report: str = "aggregate"


class Built(NamedTuple):
    """The files written, by kind; the content of each phase; and notes for the organiser."""

    files: dict[str, Path]
    phases: list[str]
    notes: list[str]


class Part(NamedTuple):
    """One phase: its name in file names, its labels as shipped, and how much its page shows."""

    name: str
    reference: Reference
    labels: bytes
    report: str


def build(options: Options) -> Built:
    """Write the bundle and the files that belong next to it.

    Raises ReferenceLabelsError: labels are wrong; BundleError: configuration, dates or wheels are wrong; FileError.
    """
    parts = _parts(options)
    config, notes = _config(options, len(parts))
    files = {
        "scoring_program.zip": pack(scoring_program(options.wheels)),
        "starting_kit.zip": pack(_starting_kit(notes)),
    }
    for part, task, phase in zip(parts, config["tasks"], config["phases"]):
        task.update(scoring_program="scoring_program.zip", reference_data=f"{part.name}_reference.zip")
        phase.update(starting_kit="starting_kit.zip", public_data=f"{part.name}_data.zip")
        shipped = not (options.labels_on_worker and part.name == "test")
        files[f"{part.name}_reference.zip"] = pack(_reference_data(part, shipped))
        files[f"{part.name}_data.zip"] = pack(_public_data(part.reference, part.name))
    files.update(_named_files(config, options.config.parent))
    files[CONFIG] = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100).encode()
    beside = _beside(parts[-1], options)
    for path, content in beside.values():
        write_atomic(path, content)
    write_atomic(options.out, pack(files))
    notes += _advice(parts[-1], config, options)
    paths = {"bundle": options.out, **{name: path for name, (path, _) in beside.items()}}
    return Built(paths, [_inventory(part) for part in parts], notes)


def _beside(part: Part, options: Options) -> dict[str, tuple[Path, bytes]]:
    """The files next to the bundle: the trivial submissions and, if they stay there, the labels for the worker."""
    files = {}
    if options.labels_on_worker:
        files["labels"] = (options.out.with_suffix(".labels.json"), part.labels)
    for name, label in _seeds():
        predictions = to_json({"predictions": {clip: to_entry(label) for clip in sorted(part.reference.labels)}})
        path = options.out.with_suffix(f".trivial_{name}.zip")
        files[f"always {label}"] = (path, zip_bytes("predictions.json", predictions))
    return files


# ---------------------------------------------------------------------------- the labels' side


def _parts(options: Options) -> list[Part]:
    """The practice phase, if there is one, and the test phase. BundleError: their labels are of the wrong clips."""
    hidden = read_labels(options.labels)
    problems = list(_wrong_clips(hidden, options))
    if options.report != "full" and hidden.secret is None:
        hidden = hidden._replace(secret=secrets.token_hex(SECRET_BYTES))
    parts = [Part("test", hidden, labels_json(hidden), options.report)]
    if options.practice_labels:
        practice = read_labels(options.practice_labels)
        problems += _shared(hidden, practice, options)
        parts.insert(0, Part("practice", practice, labels_json(practice), "full"))
    if problems:
        raise BundleError(problems)
    return parts


def read_labels(path: Path) -> Reference:
    """Labels to score against. ReferenceLabelsError: they are wrong; BundleError: none is a blend; FileError."""
    reference = read_reference(path)
    if not any(label.is_blend for label in reference.labels.values()):
        message = "no blend among the labels: ACC_salience and score would be undefined"
        raise BundleError(Problem("no-blends", str(path), message, hint="Is it the right file?"))
    return reference


def _wrong_clips(reference: Reference, options: Options) -> Iterator[Problem]:
    """Labels of clips that participants do not predict, missing labels, and clip names that reveal the label."""
    clips, where = set(reference.labels), str(options.labels)
    expected = set(read_ids(options.ids)) if options.ids else clips
    for kind, names in (("missing", sorted(expected - clips)), ("unknown", sorted(clips - expected))):
        if names:
            message = f"{len(names):,} clips are {kind}: {some(names)}; expected those of {options.ids}"
            hint = "Unless the clips are those that participants have, every complete submission would fail."
            yield Problem(f"{kind}-clips", where, message, hint=hint)
    if options.report != "full":
        revealing = sorted(clip for clip in clips if _reveals_label(clip))
        if revealing:
            leak = f"the names of {len(revealing):,} clips reveal their labels: {some(revealing)}"
            message = f"{leak}; expected anonymous names"
            hint = "Are --labels and --practice-labels swapped? Public labels go with --report full."
            yield Problem("not-hidden", where, message, hint=hint)


def _reveals_label(clip: str) -> bool:
    try:
        return bool(parse_filename(clip))
    except ValueError:
        return False


def _shared(hidden: Reference, practice: Reference, options: Options) -> Iterator[Problem]:
    clips = sorted(set(hidden.labels) & set(practice.labels))
    if clips:
        message = f"{len(clips):,} clips are in {options.practice_labels} as well: {some(clips)}; expected none"
        hint = "The practice phase shows its labels. Name the test phase's labels only with --labels."
        yield Problem("not-hidden", str(options.labels), message, hint=hint)


def labels_json(reference: Reference) -> bytes:
    """Labels and, where every clip has one, actors; sorted by id. With the secret, if there is one."""
    clips = sorted(reference.labels)
    data: dict[str, object] = {"labels": {clip: to_entry(reference.labels[clip]) for clip in clips}}
    if all(clip in reference.groups for clip in clips):
        data["groups"] = {clip: reference.groups[clip] for clip in clips}
    if reference.secret is not None:
        data["secret"] = reference.secret
    return to_json(data).encode()


def _reference_data(part: Part, with_labels: bool) -> dict[str, bytes]:
    """Settings, with or without the labels. Anyone can download them, so the hash of hidden labels is keyed."""
    digest = {"labels_sha256": hashlib.sha256(part.labels).hexdigest()}
    if part.reference.secret is not None:
        digest = {"labels_hmac_sha256": str(hmac_of(part.labels))}
    files = {"settings.json": to_json({"report": part.report, **digest}).encode()}
    return {**files, "labels.json": part.labels} if with_labels else files


def _inventory(part: Part) -> str:
    """How many clips, blends and actors a phase has."""
    reference = part.reference
    blends = sum(label.is_blend for label in reference.labels.values())
    actors = f"{len(set(reference.groups.values())):,} actors" if reference.groups else "actors not known"
    return f"{part.name} phase: {len(reference.labels):,} clips, {blends:,} blends, {actors}"


def _advice(part: Part, config: Mapping, options: Options) -> list[str]:
    """What an organiser should know of the test phase."""
    notes = []
    clips = len(part.reference.labels)
    if clips != TEST_CLIPS and not options.ids:
        notes.append(
            f"The dataset has {TEST_CLIPS} test clips, the labels have {clips:,}. To see which differ, name the clips"
            " that participants have with --ids test_metadata.csv."
        )
    if options.report == "full":
        notes.append("With --report full, participants can work out the labels. Use it only for public labels.")
    if options.labels_on_worker:
        notes.append(
            "Put the labels on your worker as <its data folder>/blemore/labels.json, with mode 0644 so that the"
            " worker's user can read them. The program accepts no other labels."
        )
        if not config.get("queue"):
            notes.append(
                "No queue is set, so every submission would fail. Add --queue with the key of your own, or set it in"
                " competition.yaml. Until then, blemore-codabench check refuses the bundle."
            )
    return notes


def _seeds() -> list[tuple[str, Label]]:
    """The constant answers of train: the most frequent single emotion, the most frequent blend."""
    answers = trivial.train_answers()
    return [(name, label) for name, label in (("single", answers.single), ("blend", answers.blend)) if label]


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
    """The submission's schema and, in a checkout, the notebook."""
    files = {
        "submission.schema.json": (Path(blemore.__file__).parent / "schemas" / "submission.schema.json").read_bytes(),
        "README.md": (HERE / "starting_kit.md").read_bytes(),
    }
    if NOTEBOOK.is_file():
        return {**files, NOTEBOOK.name: NOTEBOOK.read_bytes()}
    notes.append(
        "The starting kit holds only the submission's schema. To ship the notebook as well, build from a checkout."
    )
    return files


# --------------------------------------------------------------------------- the program's side


COMMAND_LINES = ("cli.py", "rank_cli.py")  # which need click


def scoring_program(wheels: Path | None = None) -> dict[str, bytes]:
    """The files of the scoring program: score.py, metadata.yaml, blemore without its command line, vendor/."""
    installed = HERE / "program"
    folder = installed if installed.is_dir() else HERE.parent / "scoring_program"
    files = {name: read_bytes(folder / name) for name in ("score.py", "metadata.yaml")}
    tree = _tree(Path(blemore.__file__).parent)
    files.update({f"blemore/{name}": raw for name, raw in tree.items() if name not in COMMAND_LINES})
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
    """The template with one dated phase per set of labels, and notes on the dates."""
    where = str(options.config)
    config = copy.deepcopy(parse_yaml(read_bytes(options.config), where))
    for key in ("tasks", "phases"):
        entries = config.get(key)
        if (
            not isinstance(entries, list)
            or len(entries) < phases
            or not all(isinstance(item, dict) for item in entries)
        ):
            message = f"expected a list of at least {phases} mappings"
            hint = "Start from the kit's own competition.yaml."
            raise BundleError(Problem("config", f"{where}: {key}", message, hint=hint))
        config[key] = [{**item, "index": index} for index, item in enumerate(entries[-phases:])]
    for index, phase in enumerate(config["phases"]):
        phase["tasks"] = [index]
    if options.queue:
        config["queue"] = options.queue
    return config, _date(config["phases"], options)


def _date(phases: list[dict], options: Options) -> list[str]:
    """Put start and end into the phases. Returns notes on them. Times are UTC."""
    now = datetime.now(UTC).replace(microsecond=0)
    practice = len(phases) > 1
    start = options.start or (now + PRACTICE_LASTS if practice else now)
    first = start - PRACTICE_LASTS if practice else start
    if not options.allow_past:
        _demand_future(start, start - GAP if practice else start + JUST_BEGUN, options, now)
        first = max(first, now)  # the four weeks of practice may have begun already
    if options.end is not None and options.end <= start:
        message = f"{utc(options.end)} is not after the start, {utc(start)}"
        hint = "Name both dates with --start and --end, in UTC."
        raise BundleError(Problem("dates", "--end", message, hint=hint))
    notes = []
    phases[-1].update(start=utc(start))
    phases[-1].pop("end", None)
    if practice:
        phases[0].update(start=utc(first), end=utc(start - GAP))
        notes.append(f"The practice phase runs from {phases[0]['start']} to {phases[0]['end']} UTC.")
    if options.end:
        phases[-1].update(end=utc(options.end))
    ends = f"ends {utc(options.end)}" if options.end else "has no end (set one with --end)"
    notes.append(
        f"The test phase starts {utc(start)}{'' if options.start else ' (set it with --start)'} and {ends}. All times"
        " are UTC."
    )
    return notes


def _demand_future(start: datetime, latest: datetime, options: Options, now: datetime) -> None:
    """BundleError: the end is past, or `latest` is, the last moment at which the start is accepted."""
    past = [("--start", start)] if now >= latest else []
    past += [("--end", options.end)] if options.end is not None and options.end <= now else []
    if past:
        dates = " and ".join(f"{option} {utc(moment)}" for option, moment in past)
        message = f"{dates} UTC is in the past (now: {utc(now)} UTC); expected future dates"
        hint = "To rebuild a competition that has begun, add --allow-past."
        raise BundleError(Problem("past", "dates", message, hint=hint))


def _named_files(config: dict, folder: Path) -> dict[str, bytes]:
    """Logo, terms and pages, from the configuration's folder or else from the kit."""
    pages = [page.get("file") for page in config.get("pages") or [] if isinstance(page, dict)]
    files = {}
    for name in [config.get("image"), config.get("terms"), *pages]:
        if isinstance(name, str):
            path = next((path for path in (folder / name, HERE / name) if path.is_file()), folder / name)
            files[name] = read_bytes(path)
    return files
