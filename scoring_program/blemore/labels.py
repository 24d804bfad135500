"""The challenge's labels: six emotions, ten blends, three saliences, 36 valid labels. No I/O.

Conventions, for the whole project:
- emotions are in the index order `ang disg fea hap sad neu` (0 to 5); `neu` is never in a blend;
- a label has one canonical form: emotions in index order, with their saliences in percent;
- the 36 labels are ordered: the six singles by index, then the pairs in index order, and within a
  pair 70/30 before 50/50 before 30/70. Ties go to the lowest label index;
- a clip's id is its file name without a media suffix: `A102_ang_int1_ver1.mov` → `A102_ang_int1_ver1`.

The rule that turns saliences into a label (the challenge's "correct ranking"): the two saliences of
a blend are equal if they differ by less than 1e-6, else the larger one dominates. So every valid
prediction is one of the 36 labels. A prediction also keeps its label by percentages
rounded to whole numbers (half to even), which the stricter figure `acc_salience_exact` compares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

EMOTIONS = ("ang", "disg", "fea", "hap", "sad", "neu")
EMOTION_NAMES = {
    "ang": "anger",
    "disg": "disgust",
    "fea": "fear",
    "hap": "happiness",
    "sad": "sadness",
    "neu": "neutral",
}
NEUTRAL = "neu"
BLENDABLE = EMOTIONS[:5]
BLEND_SALIENCES = ((70, 30), (50, 50), (30, 70))
EQUAL_WITHIN = 1e-6  # saliences closer than this are equal

VIDEO_SUFFIXES = (".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm")
SOUND_SUFFIXES = (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg")
MEDIA_SUFFIXES = VIDEO_SUFFIXES + SOUND_SUFFIXES


class Label(NamedTuple):
    """One of the 36 labels: emotions in index order, and their saliences in percent."""

    emotions: tuple[str, ...]
    saliences: tuple[int, ...]

    @property
    def is_blend(self) -> bool:
        return len(self.emotions) == 2

    def __str__(self) -> str:
        """`ang`, or `ang+hap 30/70`."""
        return self.emotions[0] if not self.is_blend else "{}+{} {}/{}".format(*self.emotions, *self.saliences)


class Prediction(NamedTuple):
    """The label of a valid entry: by ranking, and by rounded percentages (None if that is not one of the 36)."""

    label: Label
    rounded: Label | None


SINGLES = tuple(Label((emotion,), (100,)) for emotion in EMOTIONS)
PAIRS = tuple(combinations(BLENDABLE, 2))
BLENDS = tuple(Label(pair, saliences) for pair in PAIRS for saliences in BLEND_SALIENCES)
LABELS = SINGLES + BLENDS
LABEL_INDEX = {label: index for index, label in enumerate(LABELS)}

_EMOTION_INDEX = {emotion: index for index, emotion in enumerate(EMOTIONS)}
# The 36 labels by content: sharing these objects keeps 100,000 clips small and comparisons quick.
_CANONICAL: dict[tuple[tuple[str, ...], tuple[int, ...]], Label] = {label: label for label in LABELS}


def to_prediction(parts: Sequence[tuple[str, float]]) -> Prediction:
    """The label of one or two `(emotion, salience in percent)` parts, in any order.

    The parts must be valid already (`blemore.validate` checks that); an emotion that is not one of
    the six, neutral in a blend or an emotion twice raises ValueError or KeyError.
    """
    if len(parts) == 1:
        single = _CANONICAL[(parts[0][0],), (100,)]
        return Prediction(single, single)
    (first, a), (second, b) = sorted(parts, key=lambda part: _EMOTION_INDEX[part[0]])
    if first == second or second == NEUTRAL:
        raise ValueError(f"not a blend: {first} + {second}")
    dominant = (70, 30) if a > b else (30, 70)
    saliences = (50, 50) if abs(a - b) < EQUAL_WITHIN else dominant
    rounded = ((first, second), (round(a), round(b)))
    return Prediction(_CANONICAL[(first, second), saliences], _CANONICAL.get(rounded))


def to_entry(label: Label) -> list[dict[str, str | int]]:
    """A label in the submission's form.

    >>> to_entry(Label(("ang", "hap"), (30, 70)))
    [{'emotion': 'ang', 'salience': 30}, {'emotion': 'hap', 'salience': 70}]
    """
    return [{"emotion": emotion, "salience": salience} for emotion, salience in zip(*label)]


def clip_id(name: str) -> str:
    """A file name without a known media suffix (any case); any other name is its own id.

    >>> clip_id("test_0001.MOV"), clip_id("test_0001"), clip_id("take.2")
    ('test_0001', 'test_0001', 'take.2')
    """
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and (dot + suffix).lower() in MEDIA_SUFFIXES else name


class ClipName(NamedTuple):
    """The parts of a train clip's name. `intensity` (singles) and `situation` (neutral) are None if absent."""

    actor: str
    label: Label
    intensity: int | None
    situation: int | None
    version: int


_TRAIN_NAME = re.compile(
    r"(?P<actor>[A-Z]\d{2,4})_"
    r"(?:(?P<single>ang|disg|fea|hap|sad)_int(?P<intensity>\d+)"
    r"|neu_sit(?P<situation>\d+)"
    r"|mix_(?P<first>[a-z]+)_(?P<second>[a-z]+)_(?P<a>\d+)_(?P<b>\d+))"
    r"_ver(?P<version>\d+)",
    re.ASCII,
)


def parse_filename(name: str) -> ClipName:
    """Actor, label, intensity or situation, and version from the name of a *train* clip.

    Test clips are anonymous, so their names raise, as does every name without one of the three forms
    of the train partition. Scoring never uses this function: it takes labels from a table.

    >>> parse_filename("A411_mix_ang_hap_30_70_ver1.mov").label
    Label(emotions=('ang', 'hap'), saliences=(30, 70))

    Raises ValueError: the name is not that of a train clip, or its label does not exist.
    """
    match = _TRAIN_NAME.fullmatch(clip_id(name))
    if match is None:
        cause = (
            "test clips are anonymous: take labels from a table"
            if name.startswith("test_")
            else ("expected e.g. A102_ang_int1_ver1, A303_neu_sit2_ver1 or A411_mix_ang_hap_30_70_ver1")
        )
        raise ValueError(f"{name!r} is not the name of a train clip; {cause}")
    if match["first"]:
        emotions, saliences = (match["first"], match["second"]), (int(match["a"]), int(match["b"]))
        if saliences not in BLEND_SALIENCES or not set(emotions) <= set(BLENDABLE) or emotions[0] == emotions[1]:
            raise ValueError(
                f"{name!r} names a blend that does not exist; expected two different emotions of"
                f" {', '.join(BLENDABLE)} at 70/30, 50/50 or 30/70"
            )
        label = to_prediction(list(zip(emotions, saliences))).label
    else:
        label = to_prediction([(match["single"] or NEUTRAL, 100)]).label

    def number(group: str) -> int | None:
        return int(match[group]) if match[group] else None

    return ClipName(match["actor"], label, number("intensity"), number("situation"), int(match["version"]))
