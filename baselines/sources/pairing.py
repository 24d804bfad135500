"""Maps names of files and rows to clips, and clips to rows: by id, never by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from blemore.errors import Problem, ValidationError, some
from blemore.labels import clip_id
from blemore.validate import folders_hint
from blemore_baselines.clips.media import spellings


def named(names: Sequence[str], ids: Collection[str]) -> list[str]:
    """The clip that each name refers to, in Unicode's composed form: one of `ids` unchanged, others without suffix.

    >>> named(["a.mov", "IMG_1.MOV", "b"], ["IMG_1.MOV"])
    ['a', 'IMG_1.MOV', 'b']
    """
    clips = {spellings(clip)[0] for clip in ids}
    composed = (spellings(name)[0] for name in names)
    return [name if name in clips else clip_id(name) for name in composed]


def order(clips: Sequence[str], ids: Sequence[str], where: str, hint: str | None = None) -> list[int]:
    """The index in `clips` of each of `ids`. ValidationError: missing, unknown or repeated clips."""
    place = {clip: index for index, clip in enumerate(clips)}
    composed = [spellings(clip)[0] for clip in ids]
    missing = [clip for clip in composed if clip not in place]
    extra = sorted(set(place) - set(composed))
    repeated = [clip for clip, count in Counter(clips).items() if count > 1]
    problems = []
    if missing:
        problems.append(
            Problem(
                "missing-clips",
                where,
                f"{len(missing):,} of {len(ids):,} clips have no features: {some(missing)}",
                hint=hint,
            )
        )
    if extra:
        problems.append(
            Problem(
                "unknown-clips",
                where,
                f"{len(extra):,} clips are not in the metadata: {some(extra)}",
                hint=folders_hint(extra)
                or "Are they from another partition? Keep each partition's features in a folder or file of its own.",
            )
        )
    if repeated:
        problems.append(
            Problem(
                "duplicate-clip",
                where,
                f"{len(repeated):,} clips occur more than once: {some(repeated)}; expected each once",
            )
        )
    if problems:
        raise ValidationError(problems)
    return [place[clip] for clip in composed]


def not_finite(where: str, clips: Sequence[str]) -> Problem:
    return Problem(
        "not-finite",
        where,
        f"{len(clips):,} clips hold NaN or Infinity (or empty cells): {some(clips)}; expected finite numbers",
    )
