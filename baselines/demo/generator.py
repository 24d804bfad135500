"""The embedded demo: a small dataset in the challenge's own format, generated on demand.

It has 180 short clips (.mov, h264 and AAC) of drawn faces with voice-like sounds, by 15 invented actors: 12 with labels
and five actor-disjoint folds (train), 3 anonymous (test). It is made for trying the whole path, so it is about as hard
as the real dataset, with the same pitfall: an actor's looks and voice are stronger than what they express.

How a clip is made:
- an emotion is a row of `score.EXPRESSIONS`: how far it moves each parameter of the face and of the voice;
- a *score* is a matrix (frames, parameters): the expression unfolds from rest and decays again. A blend weights two
  rows by their salience; the weights drift over time, differently for face and voice;
- each actor adds habits, and each clip random variation;
- `face.draw` turns each row into a picture, `voice.speak` the matrix into sound (a source of harmonics and breath,
  shaped by formants). Both use the same score, so lips and voice move together.

This module plans who acts what, and writes the files. Everything follows from `score.SEED`, so the same machine
produces the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from tqdm import tqdm

from blemore.errors import FileError, Problem, ValidationError
from blemore.io import csv_text, to_json, write_atomic
from blemore.labels import BLENDS, NEUTRAL, SINGLES, Label, to_entry
from blemore_baselines.demo.face import draw
from blemore_baselines.demo.score import FPS, RATE, SEED, SIDE, Actor, Take, compose
from blemore_baselines.demo.voice import speak

REVISION = 1  # of the output of all demo modules; a folder of another revision is not completed
MARKER = "demo.json"  # marks a folder as a demo, and gives its revision

TRAIN_ACTORS, TEST_ACTORS, FOLDS, CLIPS_PER_ACTOR = 12, 3, 5, 12
COLUMNS = ("filename", "video_id", "mix", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience",
           "version", "intensity_level", "situation", "fold")  # fmt: skip


class Demo(NamedTuple):
    """The result of `make_demo`. Numbers of clips: `made` in this call, `kept` from an earlier one."""

    train: Path
    test: Path
    train_metadata: Path
    test_metadata: Path
    test_labels: Path
    made: int
    kept: int


def make_demo(out: Path, *, workers: int = 2) -> Demo:
    """Generates the demo dataset in the folder `out`, or completes one after an interrupted call.

    Layout: `train/*.mov`, `test/*.mov`, `train_metadata.csv`, `test_metadata.csv`, `test_labels.json`. The tables are
    written last, so if they exist, everything does. `workers` processes draw in parallel; 1: only this process.

    Raises ValidationError: `out` holds something other than this demo; FileError: it cannot be written.
    """
    out = Path(out)
    _claim(out)
    train, test = plan()
    paths = {out / "train" / f"{take.name}.mov": take for take in train}
    paths |= {out / "test" / f"{take.name}.mov": take for take in test}
    todo = [(path, take) for path, take in paths.items() if not path.exists()]
    earlier = len(paths) - len(todo)
    with tqdm(total=len(paths), initial=earlier, desc="demo", unit="clip", disable=None if todo else True) as progress:
        for _ in _make_clips(todo, workers):
            progress.update()
    tables = out / "train_metadata.csv", out / "test_metadata.csv", out / "test_labels.json"
    demo = Demo(out / "train", out / "test", *tables, made=len(todo), kept=earlier)
    for path, content in zip(tables, _tables(train, test)):
        if not path.exists():
            write_atomic(path, content)
    return demo


def _claim(out: Path) -> None:
    """Marks the folder as a demo, or checks that it is one."""
    marker, identity = out / MARKER, {"dataset": "BLEMORE demo", "revision": REVISION, "seed": SEED}
    try:
        other = json.loads(marker.read_text("utf-8")) if marker.exists() else None
        names = sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) if out.exists() else []
    except (OSError, ValueError) as error:
        raise FileError(Problem("cannot-open", str(out), f"cannot be read as a folder of the demo: {error}")) from None
    if other == identity:
        return
    if names:
        contents = "a demo of another revision" if other else f"other files ({', '.join(names[:3])})"
        raise ValidationError(
            Problem(
                "not-a-demo",
                str(out),
                f"holds {contents}; expected an empty folder or this demo",
                hint="Choose another folder, or delete this one.",
            )
        )
    write_atomic(marker, to_json(identity))


def _make_clips(todo: list[tuple[Path, Take]], workers: int) -> Iterator[None]:
    """Yields after each clip."""
    if workers <= 1 or len(todo) <= 1:
        for path, take in todo:
            _make_clip(path, take)
            yield
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        try:
            for future in as_completed([pool.submit(_make_clip, path, take) for path, take in todo]):
                yield future.result()
        except BaseException:  # including an interrupt: start no more clips
            pool.shutdown(cancel_futures=True)
            raise


# ------------------------------------------------------------------------------- who acts what


def plan() -> tuple[list[Take], list[Take]]:
    """The takes of train, sorted by name, and of test, in an uninformative order. All 36 labels are in train."""
    takes: list[Take] = []
    blend = 0
    for actor in range(TRAIN_ACTORS + TEST_ACTORS):
        # Every second actor omits a single emotion, so 54 % of clips are blends, as in the real dataset.
        left_out = actor // 2 % 6 if actor % 2 else None
        singles = [single for turn, single in enumerate(SINGLES) if turn != left_out]
        blends = [BLENDS[(blend + step) * 7 % len(BLENDS)] for step in range(CLIPS_PER_ACTOR - len(singles))]
        blend += len(blends)
        takes += [_take(actor, label, turn, len(takes) + turn) for turn, label in enumerate(singles + blends)]
    train = sorted((take for take in takes if take.actor < TRAIN_ACTORS), key=lambda take: take.name)
    test = [take for take in takes if take.actor >= TRAIN_ACTORS]
    order = np.random.default_rng(SEED).permutation(len(test))
    return train, [test[index]._replace(name=f"test_{place:04d}") for place, index in enumerate(order, start=1)]


def is_demo(ids: Iterable[str]) -> bool:
    """Whether clips are the demo's: all are in its plan, and some are in train, whose names no other dataset has.

    Names of test clips alone prove nothing, because the challenge's begin in the same way.
    """
    train, test = ({take.name for take in takes} for takes in plan())
    clips = set(ids)
    return bool(clips & train) and clips <= train | test


def _take(actor: int, label: Label, turn: int, number: int) -> Take:
    level = (actor + turn) % 4 + 1
    neutral = label.emotions == (NEUTRAL,)
    if label.is_blend:
        description = "mix_{}_{}_{}_{}".format(*label.emotions, *label.saliences)
    else:
        description = f"neu_sit{level}" if neutral else f"{label.emotions[0]}_int{level}"
    intensity, situation = (None if neutral or label.is_blend else level), (level if neutral else None)
    return Take(f"{actor_id(actor)}_{description}_ver1", actor, label, 1, intensity, situation, number)


def actor_id(actor: int) -> str:
    """`A901` for actor 0: in the dataset's format, but not one of its actors."""
    return f"A{901 + actor}"


def _tables(train: list[Take], test: list[Take]) -> tuple[str, str, str]:
    """The contents of train_metadata.csv, test_metadata.csv and test_labels.json."""
    rows = [COLUMNS]
    for take in train:
        first, second = (*take.label.emotions, "")[:2]
        saliences = take.label.saliences if take.label.is_blend else ("", "")
        rows.append(
            (
                take.name,
                actor_id(take.actor),
                int(take.label.is_blend),
                first,
                second,
                *saliences,
                take.version,
                take.intensity or "",
                take.situation or "",
                take.actor % FOLDS,
            )
        )
    labels = {take.name: to_entry(take.label) for take in test}
    groups = {take.name: actor_id(take.actor) for take in test}
    names = [("filename",)] + [(take.name,) for take in test]
    return csv_text(rows), csv_text(names), to_json({"labels": labels, "groups": groups})


# ------------------------------------------------------------------------------------- one clip


def _make_clip(path: Path, take: Take) -> None:
    rng = np.random.default_rng((SEED, 1, take.number))
    actor = Actor.invent(take.actor)
    score = compose(take, actor, rng)
    write_atomic(path, _mov(draw(score, actor, rng), speak(score, actor, rng)))


def _mov(frames: np.ndarray, sound: np.ndarray) -> bytes:
    """The bytes of a .mov: frames (T, SIDE, SIDE, 3) uint8 at FPS, sound (samples,) float32 at RATE."""
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast"})
        video.width = video.height = SIDE
        video.pix_fmt, video.thread_count = "yuv420p", 1
        audio = container.add_stream("aac", rate=RATE, layout="mono", bit_rate=64_000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(samples))
        container.mux(audio.encode())
    return file.getvalue()
