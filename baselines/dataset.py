"""The dataset's metadata as arrays.

A clip's label is its index in `blemore.labels.LABELS` (0 to 35), its target the soft vector over the six emotions in
index order (70/30 → 0.7 and 0.3). Everything is keyed by clip id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from blemore.errors import Problem, ValidationError, some
from blemore.io import read_table
from blemore.labels import BLEND_SALIENCES, EMOTIONS, LABEL_INDEX, LABELS, PAIRS, clip_id, parse_filename
from blemore.signature import digest
from blemore.validate import Reference, folders_hint, validate_metadata

# (36, 6): the soft target of each label
TARGETS = np.zeros((len(LABELS), len(EMOTIONS)), dtype=np.float32)
for _index, _label in enumerate(LABELS):
    for _emotion, _salience in zip(*_label):
        TARGETS[_index, EMOTIONS.index(_emotion)] = _salience / 100

# (36,) each: whether a label is a blend, its set of emotions, and the indices of its emotions in PAIRS and of its
# saliences in BLEND_SALIENCES (−1: a single emotion)
_SETS = list(dict.fromkeys(label.emotions for label in LABELS))
N_SETS, N_RELATIONS = len(_SETS), len(BLEND_SALIENCES)
IS_BLEND = np.array([label.is_blend for label in LABELS])
SET_OF_LABEL = np.array([_SETS.index(label.emotions) for label in LABELS])
PAIR_OF_LABEL = np.array([PAIRS.index(label.emotions) if label.is_blend else -1 for label in LABELS])
RELATION_OF_LABEL = np.array([BLEND_SALIENCES.index(label.saliences) if label.is_blend else -1 for label in LABELS])

GROUP_COLUMNS = ("filename", "actor")  # of a groups CSV


class Dataset(NamedTuple):
    """The labelled clips of one partition, in the metadata's order."""

    ids: list[str]
    labels: np.ndarray  # (N,) label indices
    folds: np.ndarray  # (N,) the predefined folds
    actors: list[str]

    @property
    def targets(self) -> np.ndarray:
        """(N, 6) soft targets."""
        return TARGETS[self.labels]

    @property
    def digest(self) -> str:
        """A digest of everything: clips, labels, folds and actors."""
        return digest("\t".join(map(str, row)) for row in zip(*self))


def read_dataset(path: Path | str) -> Dataset:
    """The train metadata.

    Raises ValidationError: the content is invalid, a clip has no fold or actor, an actor is in several folds, or a
    clip's name disagrees with the label in its row.
    """
    reference = validate_metadata(read_table(path), str(path))
    problems = []
    for name, column in (("fold", reference.folds), ("video_id", reference.groups)):
        without = [clip for clip in reference.labels if clip not in column]
        if without:
            problems.append(
                Problem(
                    "bad-table",
                    str(path),
                    f"{len(without):,} clips have no {name}: {some(without)}; expected one for each",
                    hint="Training needs the dataset's own train metadata with its predefined folds.",
                )
            )
    if not problems and len(set(reference.folds.values())) < 2:
        problems.append(Problem("bad-table", str(path), "found one fold; expected at least two, to train and validate"))
    problems += [*_leaks(reference, str(path)), *_misnamed(reference, str(path))]
    if problems:
        raise ValidationError(problems)
    ids = list(reference.labels)
    return Dataset(
        ids,
        np.array([LABEL_INDEX[reference.labels[clip]] for clip in ids]),
        np.array([reference.folds[clip] for clip in ids]),
        [reference.groups[clip] for clip in ids],
    )


def read_groups(path: Path, ids: Sequence[str]) -> list[str]:
    """Who is in each clip of `ids`, in their order: the column `actor` of a CSV with `filename` and `actor`.

    Rows may be in any order, and there may be other columns.

    Raises FileError: it cannot be opened; ValidationError: a column is missing, or a clip is missing, unknown, repeated
    or without an actor. Every problem is listed.
    """
    rows, where = read_table(path), str(path)
    absent = [name for name in GROUP_COLUMNS if rows and name not in rows[0]]
    if not rows or absent:
        fault = f"no column {' and no column '.join(absent)}" if rows else "no rows"
        hint = "The dataset's metadata calls the actor video_id. Rename that column, or write a table with both."
        raise ValidationError(
            Problem(
                "bad-table",
                where,
                f"{fault}; expected the columns {' and '.join(GROUP_COLUMNS)}",
                hint=hint if rows and "video_id" in rows[0] else None,
            )
        )
    expected = [normalize("NFC", clip) for clip in ids]
    names = [normalize("NFC", row["filename"]) for row in rows]
    known_clips = set(expected)
    clips = [name if name in known_clips else clip_id(name) for name in names]
    problems = list(_group_problems(rows, clips, expected, where))
    if problems:
        raise ValidationError(problems)
    actors = {clip: row["actor"] for clip, row in zip(clips, rows)}
    return [actors[clip] for clip in expected]


def _group_problems(
    rows: Sequence[Mapping[str, str]], clips: Sequence[str], expected: Sequence[str], where: str
) -> Iterator[Problem]:
    """What is wrong with a groups CSV; `clips` are the clips in its rows, `expected` the required ones."""
    nameless = [row[""] for row, clip in zip(rows, clips) if not clip]
    if nameless:
        yield Problem("bad-table", where, f"lines without a filename: {some(nameless)}; expected one in each")
    present, needed = Counter(filter(None, clips)), set(expected)
    unknown = sorted(set(present) - needed)
    faults = [
        (
            "missing-clips",
            [clip for clip in expected if clip not in present],
            "are missing",
            "Each clip needs an actor. Was the table written for other clips?",
        ),
        ("unknown-clips", unknown, "are not known", folders_hint(unknown) or "Are they from another partition?"),
        (
            "duplicate-clip",
            [clip for clip, count in present.items() if count > 1],
            "are listed more than once",
            "Names that differ only in a media suffix are the same clip. Keep one row per clip.",
        ),
        (
            "no-actor",
            [clip for row, clip in zip(rows, clips) if clip and not row["actor"]],
            "have no actor",
            "If the person is unknown, give the clip an actor of its own.",
        ),
    ]
    for code, names, fault, hint in faults:
        if names:
            yield Problem(code, where, f"{len(names):,} clips {fault}: {some(names)}", hint=hint)


def _leaks(reference: Reference, where: str) -> Iterator[Problem]:
    """Actors in more than one fold, on whom a model would be both trained and validated."""
    folds: dict[str, set[int]] = {}
    for clip, actor in reference.groups.items():
        if clip in reference.folds:
            folds.setdefault(actor, set()).add(reference.folds[clip])
    several = [actor for actor, numbers in folds.items() if len(numbers) > 1]
    if several:
        yield Problem(
            "leak",
            where,
            f"actors in more than one fold ({len(several):,}): {some(several)}; expected each in one",
            hint="Use the dataset's own folds. If folds share actors, every figure is too high.",
        )


def _misnamed(reference: Reference, where: str) -> Iterator[Problem]:
    """Clips whose name follows the train partition's pattern but disagrees with the table's label."""
    wrong = []
    for clip, label in reference.labels.items():
        try:
            label_in_name = parse_filename(clip).label
        except ValueError:
            continue  # other names have no label in them
        if label_in_name != label:
            wrong.append(f"{clip} is {label}")
    if wrong:
        yield Problem(
            "other-label",
            where,
            f"labels that disagree with the clip's name ({len(wrong):,}): {some(wrong, 3)}",
            hint="Were rows sorted or pasted without their labels?",
        )
