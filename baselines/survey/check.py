"""What a dataset's folder contains, what is missing, and where it differs from the challenge's papers and lists.

The embedded demo (recognised by its marker file) is checked only against its own tables, because its counts differ from
those of the challenge's dataset.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, some
from blemore.evaluate import read_ids
from blemore.io import write_atomic
from blemore.labels import BLEND_SALIENCES, LABELS, PAIRS, SINGLES, VIDEO_SUFFIXES, Label
from blemore.report import problems_to_text
from blemore.signature import digest, line
from blemore.tables import Table, to_text
from blemore.trivial import train_counts
from blemore.version import VERSION
from blemore_baselines.clips.find import find_clips
from blemore_baselines.clips.media import Clip, MediaError
from blemore_baselines.dataset import Dataset, read_dataset
from blemore_baselines.demo.generator import MARKER
from blemore_baselines.features import read_features
from blemore_baselines.results.pictures import Picture, write_figure
from blemore_baselines.results.plots import COLOURS, figure, label_counts, picture
from blemore_baselines.sources.folder import clip_files, holds_sequences, read_sequence
from blemore_baselines.survey.locate import Located, locate
from blemore_baselines.template import OFFICIAL_IDS

FOLDS = (522, 486, 468, 472, 508)  # clips in each, Lachmann et al. 2026
ACTORS = 47  # in train; those in test are not public
PARTITIONS = ("train", "test")
FEATURES = "Pre-extracted features"
CURRENT = "Get it from the current record (see data/README.md)."


class Survey(NamedTuple):
    """What is in a dataset's folder.

    demo:     whether it is the demo, which is checked only against its own tables
    dataset:  the labelled clips
    seconds:  durations by clip id, for every known clip whose video can be read
    tables:   what was found
    problems: what is wrong; empty if everything expected was found
    """

    folder: Path
    demo: bool
    dataset: Dataset
    seconds: dict[str, float]
    tables: list[Table]
    problems: list[Problem]


class Videos(NamedTuple):
    """The videos of a folder, by clip id."""

    seconds: dict[str, float]  # durations of those that can be read
    unreadable: dict[str, Problem]
    doubled: dict[str, list[Path]]  # clips with several files
    unknown: list[str]  # files of clips that are not in the metadata


class Source(NamedTuple):
    """Pre-extracted features of one encoder and partition."""

    encoder: str
    part: str  # train or test
    path: Path
    missing: list[str]  # clips of the partition without features
    unknown: list[str]  # clips with features that are not in the partition
    unreadable: dict[str, str]  # the reason, by clip
    shapes: dict[str, tuple[int, int]]  # (T, D) of the readable files, by clip


def survey(folder: Path, videos_of: Sequence[str] = PARTITIONS) -> Survey:
    """Checks everything in the folder: metadata, the header of every video, every file of the pre-extracted features.

    videos_of: the partitions whose videos are expected

    Raises FileError: there is no train_metadata.csv; ValidationError: a metadata table is invalid.
    """
    folder = Path(folder)
    located = locate(folder)
    demo = (located.train_metadata.parent / MARKER).exists()
    dataset = read_dataset(located.train_metadata)
    test = read_ids(located.test_metadata) if located.test_metadata else _expected_test(demo)
    parts = {"train": dataset.ids, "test": test}
    videos, sources = _probe(folder, located, [*dataset.ids, *test]), _sources(located, parts)
    problems = [] if demo else [*_deviations(dataset, str(located.train_metadata)), *_test_deviations(test, located)]
    problems += _video_problems(videos, {part: parts[part] for part in videos_of}, folder)
    problems += [problem for source in sources for problem in _feature_problems(source)]
    tables = [
        _partition_table(parts, videos, demo),
        _fold_table(dataset, demo),
        _label_table(dataset, demo),
        _duration_table(dataset, test, videos.seconds),
    ]
    if sources:
        tables.append(_feature_table(sources, parts, folder))
    return Survey(folder, demo, dataset, videos.seconds, tables, problems)


def report(outcome: Survey) -> str:
    """The survey as text."""
    kind = "compared with the counts of the challenge's dataset"
    if outcome.demo:
        kind = "the demo, not the challenge's dataset, so compared only with its own tables"
    parts = [f"{outcome.folder}: {kind}\n", *(to_text(_filled(table)) for table in outcome.tables if table.rows)]
    if outcome.tables[-1].title != FEATURES:
        parts.append("No pre-extracted features: `blemore-baselines extract` makes them from the videos.\n")
    if outcome.problems:
        return "\n".join([*parts, f"What is wrong\n{problems_to_text(outcome.problems)}"])
    return "\n".join([*parts, "Nothing is missing or wrong."])


def _filled(table: Table) -> Table:
    """The table without empty columns."""
    columns = [k for k in range(len(table.columns)) if any(row[k] is not None for row in table.rows)]
    return Table(table.title, [table.columns[k] for k in columns], [[row[k] for k in columns] for row in table.rows])


def write_figures(outcome: Survey, out: Path) -> list[Path]:
    """Draws labels and, if any clip could be read, durations, as PNG and PDF in the folder `out`, with a signature.txt.
    Raises FileError.
    """
    figures = {"labels": label_counts(outcome.dataset.labels)}
    if any(clip in outcome.seconds for clip in outcome.dataset.ids):
        figures["durations"] = durations(outcome)
    signature = _signature(outcome)
    paths = [path for name, drawing in figures.items() for path in write_figure(out, name, drawing, signature)]
    write_atomic(out / "signature.txt", f"{signature}\n")
    return paths


def _signature(outcome: Survey) -> str:
    """Identifies the data behind the figures."""
    seconds = sorted(outcome.seconds.items())
    fields = {
        "clips": len(outcome.dataset.ids),
        "train": outcome.dataset.digest,
        "videos": len(seconds),
        "durations": digest(f"{clip}\t{length}" for clip, length in seconds),
        "version": VERSION,
    }
    return line(fields)


def durations(outcome: Survey) -> Picture:
    """Histograms of the durations (seconds) of train's single emotions and blends, with medians."""
    kinds = _by_kind(outcome.dataset, [], outcome.seconds)
    longest = max(map(max, kinds.values()))
    edges = np.linspace(0, longest, 41)
    canvas, grid = figure(7.5, 4, rows=len(kinds), sharex=True, sharey=True)
    for axes, (kind, seconds), colour in zip(grid.flat, kinds.items(), (COLOURS[2], COLOURS[0])):
        median = float(np.median(seconds))
        axes.hist(seconds, bins=edges, color=colour)
        axes.axvline(median, color="black", linewidth=1)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(ylabel="clips", xlim=(0, longest))
        axes.set_title(f"{kind}: {len(seconds):,} clips, median {median:.1f} s (line)", loc="left", fontsize=11)
    grid[-1, 0].set_xlabel("seconds")
    return picture(canvas)


# ------------------------------------------------------------------------------------ metadata


def _expected_test(demo: bool) -> list[str]:
    """The test clips if there is no table of them."""
    return [] if demo else list(OFFICIAL_IDS)


def _deviations(dataset: Dataset, where: str) -> Iterator[Problem]:
    """Where the train metadata differs from the challenge's."""
    folds, expected_folds = Counter(dataset.folds.tolist()), dict(enumerate(FOLDS))
    labels, expected_labels = Counter(LABELS[label] for label in dataset.labels), train_counts()
    counts = [
        ("clips", len(dataset.ids), sum(expected_labels.values())),
        ("actors", len(set(dataset.actors)), ACTORS),
        *((f"clips in fold {k}", folds[k], expected_folds.get(k, 0)) for k in sorted({*folds, *expected_folds})),
        *((f"clips of {label}", labels[label], expected_labels[label]) for label in LABELS),
    ]
    other = [f"{count:,} {name}, not {expected:,}" for name, count, expected in counts if count != expected]
    if other:
        yield Problem(
            "other-counts",
            where,
            f"differs from the challenge's dataset: {'; '.join(other)}",
            hint=f"Was the table edited, or is it from another release? {CURRENT}",
        )


def _test_deviations(test: Sequence[str], located: Located) -> Iterator[Problem]:
    """Where the test metadata differs from the challenge's."""
    if located.test_metadata is None:
        yield Problem(
            "missing-file",
            str(located.train_metadata.parent),
            "no test_metadata.csv; expected it next to train_metadata.csv",
            hint=f"The first release contains only train. {CURRENT}",
        )
    missing, unknown = sorted(set(OFFICIAL_IDS) - set(test)), sorted(set(test) - set(OFFICIAL_IDS))
    for code, fault, clips in (
        ("missing-clips", "are missing", missing),
        ("unknown-clips", "are not in the challenge", unknown),
    ):
        if clips:
            message = f"{len(clips):,} clips {fault}: {some(clips)}; expected {OFFICIAL_IDS[0]} to {OFFICIAL_IDS[-1]}"
            yield Problem(code, str(located.test_metadata), message, hint=CURRENT)


def _fold_table(dataset: Dataset, demo: bool) -> Table:
    rows = []
    for fold in np.unique(dataset.folds).tolist():
        inside = dataset.folds == fold
        blends = int((dataset.labels[inside] >= len(SINGLES)).sum())
        actors = {actor for actor, is_inside in zip(dataset.actors, inside) if is_inside}
        expected = None if demo or fold >= len(FOLDS) else FOLDS[fold]
        rows.append((str(fold), expected, int(inside.sum()), int(inside.sum()) - blends, blends, len(actors)))
    total = tuple(sum(column) for column in list(zip(*rows))[2:])
    rows.append(("all", None if demo else sum(FOLDS), *total))
    return Table("Train by fold", ("fold", "expected", "clips", "singles", "blends", "actors"), rows)


def _label_table(dataset: Dataset, demo: bool) -> Table:
    counts, expected = Counter(LABELS[label] for label in dataset.labels), train_counts()

    def row(name: str, labels: Sequence[Label]) -> tuple:
        sizes = [counts[label] for label in labels]
        alone, by_salience = (sizes[0], [None] * 3) if len(labels) == 1 else (None, sizes)
        return (name, None if demo else sum(expected[label] for label in labels), sum(sizes), alone, *by_salience)

    rows = [row(str(single), [single]) for single in SINGLES]
    rows += [row("+".join(pair), [Label(pair, saliences) for saliences in BLEND_SALIENCES]) for pair in PAIRS]
    return Table(
        "Train by label",
        ("label", "expected", "clips", "alone", *("/".join(map(str, pair)) for pair in BLEND_SALIENCES)),
        rows,
    )


# -------------------------------------------------------------------------------------- videos


def _probe(folder: Path, located: Located, ids: Sequence[str]) -> Videos:
    """Reads the header of every known clip's video, anywhere in the folder."""
    files: dict[str, set[Path]] = defaultdict(set)
    for place in {folder, *filter(None, (located.train_videos, located.test_videos))}:  # the latter may be behind links
        for clip, paths in find_clips(place, VIDEO_SUFFIXES).items():
            files[clip] |= set(paths)
    seconds, unreadable = {}, {}
    for clip in tqdm([clip for clip in ids if clip in files], desc="checking videos", unit="clip", disable=None):
        try:
            seconds[clip] = Clip(min(files[clip])).probe()
        except MediaError as error:
            unreadable[clip] = error.problems[0]
    doubled = {clip: sorted(files[clip]) for clip in ids if len(files.get(clip, ())) > 1}
    return Videos(seconds, unreadable, doubled, sorted(set(files) - set(ids)))


def _video_problems(videos: Videos, parts: dict[str, list[str]], folder: Path) -> Iterator[Problem]:
    for part, ids in parts.items():
        missing = _without(ids, videos)
        if missing:
            message = f"{len(missing):,} of {len(ids):,} {part} clips have no video: {some(missing)}"
            hint = "Was every archive of the record unpacked? Pre-extracted features can be used without videos."
            yield Problem("missing-clips", str(folder), message, hint=hint)
    if videos.unknown:
        yield Problem(
            "unknown-clips",
            str(folder),
            f"{len(videos.unknown):,} videos belong to no clip in the metadata: {some(videos.unknown)}",
            hint="Were they renamed, or are they not from the dataset? Keep other videos in another folder.",
        )
    for clip, paths in videos.doubled.items():
        message = f"{len(paths)} videos of one clip: {some([str(path) for path in paths])}; expected one"
        yield Problem("duplicate-clip", str(folder), message, clip, "Keep one, and move the others to another folder.")
    yield from videos.unreadable.values()


def _without(ids: Sequence[str], videos: Videos) -> list[str]:
    return [clip for clip in ids if clip not in videos.seconds and clip not in videos.unreadable]


def _partition_table(parts: dict[str, list[str]], videos: Videos, demo: bool) -> Table:
    expected = {"train": sum(FOLDS), "test": len(OFFICIAL_IDS)}
    rows = []
    for part, ids in parts.items():
        missing, unreadable = len(_without(ids, videos)), sum(clip in videos.unreadable for clip in ids)
        rows.append((part, None if demo else expected[part], len(ids), len(ids) - missing, missing, unreadable))
    columns = ("partition", "expected", "in metadata", "videos", "missing", "unreadable")
    return Table("Clips and their videos", columns, rows)


def _by_kind(dataset: Dataset, test: Sequence[str], seconds: dict[str, float]) -> dict[str, list[float]]:
    """Durations by kind of clip, for the kinds that occur."""
    kinds: dict[str, list[float]] = {"singles": [], "blends": []}
    for clip, label in zip(dataset.ids, dataset.labels):
        if clip in seconds:
            kinds["blends" if LABELS[label].is_blend else "singles"].append(seconds[clip])
    kinds["test"] = [seconds[clip] for clip in test if clip in seconds]
    return {kind: lengths for kind, lengths in kinds.items() if lengths}


def _duration_table(dataset: Dataset, test: Sequence[str], seconds: dict[str, float]) -> Table:
    rows: list[Sequence[str | int]] = []
    for kind, lengths in _by_kind(dataset, test, seconds).items():
        figures = min(lengths), float(np.median(lengths)), max(lengths), sum(lengths) / 60
        rows.append((kind, len(lengths), *(f"{value:.1f}" for value in figures)))
    columns = ("clips of", "readable", "shortest", "median", "longest", "total minutes")
    return Table("Durations in the videos' headers (seconds)", columns, rows)


# ------------------------------------------------------------------------------------ features


def _sources(located: Located, parts: dict[str, list[str]]) -> list[Source]:
    sources = []
    for part, paths in (("train", located.train_features), ("test", located.test_features)):
        for encoder, path in paths.items():
            clips, unreadable, shapes = _sequences(path) if holds_sequences(path) else _rows(path)
            missing, unknown = sorted(set(parts[part]) - set(clips)), sorted(set(clips) - set(parts[part]))
            sources.append(Source(encoder, part, path, missing, unknown, unreadable, shapes))
    return sources


def _feature_table(sources: Sequence[Source], parts: dict[str, list[str]], folder: Path) -> Table:
    rows = []
    for encoder, part, path, missing, unknown, unreadable, shapes in sources:
        counts = len(parts[part]) - len(missing), len(missing), len(unknown), len(unreadable)
        rows.append((encoder, part, *counts, *_ranges(shapes), str(path.relative_to(folder))))
    columns = "encoder", "partition", "clips", "missing", "unknown", "unreadable", "rows per clip", "columns", "where"
    return Table(FEATURES, columns, rows)


def _sequences(folder: Path) -> tuple[list[str], dict[str, str], dict[str, tuple[int, int]]]:
    """The clips of a folder with one file per clip, why some cannot be read, and the shapes (T, D) of the others."""
    files = clip_files(folder)
    unreadable: dict[str, str] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for clip, path in tqdm(files, desc=f"reading {folder.name}", unit="clip", disable=None):
        try:
            sequence = read_sequence(path)
            shapes[clip] = len(sequence), sequence.shape[1]
            if not np.isfinite(sequence).all():
                unreadable[clip] = "holds NaN or Infinity"
        except (ValueError, OSError) as error:
            unreadable[clip] = str(error)
    return [clip for clip, _ in files], unreadable, shapes


def _rows(path: Path) -> tuple[list[str], dict[str, str], dict[str, tuple[int, int]]]:
    """Like `_sequences`, for a source with one row per clip."""
    try:
        ids, X, *_ = read_features(path)
    except ValidationError as error:
        return [], {path.name: str(error.problems[0].message)}, {}
    return ids, {}, dict.fromkeys(ids, (1, X.shape[1]))


def _ranges(shapes: dict[str, tuple[int, int]]) -> tuple[str | None, str | None]:
    """The ranges of T and D."""
    if not shapes:
        return None, None
    rows, columns = zip(*shapes.values())
    return _range(rows), _range(columns)


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _feature_problems(source: Source) -> Iterator[Problem]:
    _, part, path, missing, unknown, unreadable, shapes = source
    if missing:
        yield Problem(
            "missing-clips",
            str(path),
            f"{len(missing):,} {part} clips have no features: {some(missing)}",
            hint="Unpack the archive or extract the features again.",
        )
    if unknown:
        yield Problem(
            "unknown-clips",
            str(path),
            f"features of {len(unknown):,} clips that are not in {part}: {some(unknown)}",
            hint="Keep each partition's features in a folder of its own.",
        )
    for clip, reason in unreadable.items():
        yield Problem("bad-feature-file", str(path), reason, clip, "Unpack this file again.")
    widths = Counter(width for _, width in shapes.values())
    if len(widths) > 1:
        counts = ", ".join(f"{width} ({count:,} clips)" for width, count in widths.most_common())
        yield Problem(
            "wrong-shape",
            str(path),
            f"the number of columns differs between clips: {counts}; expected the same for all",
            hint="Does it mix features of two encoders?",
        )
