"""A picture for checking clusters of clips by eye: a row per person, a frame per clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, some
from blemore.labels import VIDEO_SUFFIXES
from blemore_baselines.clips.find import find_clips
from blemore_baselines.clips.media import Clip, MediaError, spellings
from blemore_baselines.results.plots import figure, png
from blemore_baselines.survey.persons import Clusters

SHOWN = 6  # clips per person
HEIGHT = 160  # of a frame, in pixels
WIDEST = 26  # of a clip's name, in characters


def find_samples(clusters: Clusters, folder: Path) -> dict[str, list[Path]]:
    """The videos of some clips of each person, evenly spaced from the most to the least typical.

    Raises FileError: no such folder; ValidationError: a clip has no video, or several.
    """
    files = find_clips(folder, VIDEO_SUFFIXES)
    samples = {person: _spaced(clusters, person) for person in clusters.sizes}
    clips = {clip: files.get(spellings(clip)[0], []) for clips in samples.values() for clip in clips}
    problems = []
    for code, fault, names in (
        ("missing-clips", "no video", [clip for clip, paths in clips.items() if not paths]),
        ("duplicate-clip", "several videos", [clip for clip, paths in clips.items() if len(paths) > 1]),
    ):
        if names:
            message = f"{len(names):,} clips to be drawn have {fault}: {some(names)}; expected one video per clip"
            problems.append(Problem(code, str(folder), message, hint="Give the folder with these clips' videos."))
    if problems:
        raise ValidationError(problems)
    return {person: [clips[clip][0] for clip in names] for person, names in samples.items()}


def _spaced(clusters: Clusters, person: str) -> list[str]:
    own = [row for row, name in enumerate(clusters.persons) if name == person]
    own.sort(key=lambda row: (clusters.distances[row], clusters.ids[row]))
    places = np.unique(np.linspace(0, len(own) - 1, SHOWN).round().astype(int))
    return [clusters.ids[own[place]] for place in places]


def draw(clusters: Clusters, samples: dict[str, list[Path]]) -> bytes:
    """PNG: the middle frame of each sample, one row per person; a video that cannot be read is marked as such."""
    canvas, axes = figure(1.4 * SHOWN + 1.2, 1.5 * len(samples) + 0.6, rows=len(samples), columns=SHOWN)
    paths = [(row, column, path) for row, own in enumerate(samples.values()) for column, path in enumerate(own)]
    for axis in axes.flat:
        axis.set_axis_off()
    for row, column, path in tqdm(paths, desc="frames", unit="clip", disable=None):
        axis = axes[row, column]
        axis.set_title(path.stem if len(path.stem) <= WIDEST else f"…{path.stem[1 - WIDEST :]}", fontsize=5.5, pad=2)
        try:
            axis.imshow(_middle(path))
        except MediaError as error:
            axis.text(0.5, 0.5, f"cannot be read:\n{error.kind}", ha="center", va="center", fontsize=7)
    for axis, person in zip(axes[:, 0], samples):
        label = f"{person}\n{clusters.sizes[person]:,} clips"
        axis.text(-0.08, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=8)
    canvas.suptitle("One row, one person? From the most typical clip (left) to the least (right).", fontsize=9)
    return png(canvas)


def _middle(path: Path) -> np.ndarray:
    """The frame in the middle of a clip, HEIGHT pixels high."""
    clip = Clip(path)
    middle = clip.probe() / 2
    frame = None
    for time, frame in clip.timed_frames():  # noqa: B007  # else the last one is shown
        if time >= middle:
            break
    assert frame is not None  # a clip without frames raises an error
    height, width = frame.shape[:2]
    return cv2.resize(frame, (max(1, round(width * HEIGHT / height)), HEIGHT), interpolation=cv2.INTER_AREA)
