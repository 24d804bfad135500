"""The embedded demo: a small dataset in the challenge's own format, generated on the spot.

180 short clips (.mov, h264 and AAC) of drawn faces with voice-like sounds, by 15 invented actors: 12 with labels
and five actor-disjoint folds (train), 3 anonymous (test). It is made for trying the whole path, so it is about as
hard as the real thing, and as tempting: what an actor looks and sounds like is stronger than what they express.

How a clip comes to be:
- an emotion is a row of `EXPRESSIONS`: how far it moves each parameter of the face and of the voice;
- a *score* is a matrix (frames, parameters): the expression unfolds from rest and decays again. A blend weighs two
  rows by their salience; the weights sway over time, and the face sways apart from the voice;
- an actor adds habits of their own, a clip its chance variation;
- `draw` turns each row into a picture, `speak` the matrix into sound (a source of harmonics and breath, shaped by
  formants). Both see the same score, so lips and voice move together.

Everything follows from `SEED`: the same machine gives the same bytes again.
"""

from __future__ import annotations

import io
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import av
import cv2
import numpy as np
from tqdm import tqdm

from blemore.errors import FileError, Problem, ValidationError
from blemore.io import csv_text, to_json, write_atomic
from blemore.labels import BLENDS, NEUTRAL, SINGLES, Label, to_entry

SEED = 2026
REVISION = 1  # of everything below: a folder of another revision is not continued
MARKER = "demo.json"  # says that a folder is a demo, and of which revision

TRAIN_ACTORS, TEST_ACTORS, FOLDS, CLIPS_PER_ACTOR = 12, 3, 5, 12
FPS, SIDE, RATE = 25, 128, 24_000  # frames a second, pixels, sound samples a second
COLUMNS = ("filename", "video_id", "mix", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience",
           "version", "intensity_level", "situation", "fold")  # fmt: skip

# Face: 0 is at rest and 1 as far as it goes. Voice: pitch and fall in semitones, loud in dB, rate in bursts a
# second, the rest in shares.
FACE = ("brow_in", "brow_out", "knit", "eye", "cheek", "smile", "open", "wide", "sneer", "tilt", "nod", "lean",
        "shake", "bob", "gaze")  # fmt: skip
VOICE = ("pitch", "fall", "loud", "rate", "duty", "breath", "rough", "tremor", "vowel", "front", "bright")
PARAMETERS = FACE + VOICE
AT = {name: column for column, name in enumerate(PARAMETERS)}
EXPRESSIONS = {
    "ang": dict(brow_in=-.7, knit=1., eye=.35, smile=-.45, open=.45, wide=.2, sneer=.35, nod=-.3, lean=.6, shake=.5,
                pitch=3, fall=-4, loud=6, rate=2.2, duty=.75, breath=.1, rough=1., vowel=.6, front=0, bright=.9),
    "disg": dict(brow_in=-.3, brow_out=-.2, knit=.5, eye=-.55, cheek=.3, smile=-.5, open=.25, wide=-.3, sneer=1.,
                 tilt=.4, nod=.5, lean=-.4,
                 pitch=-2, fall=-6, loud=0, rate=1.3, duty=.8, breath=.25, rough=.6, vowel=-.2, front=.5),
    "fea": dict(brow_in=.9, brow_out=.7, knit=.3, eye=1., smile=-.35, open=.5, wide=.4, nod=.3, lean=-.6, shake=.7,
                pitch=9, fall=2, loud=2, rate=3., duty=.5, breath=.5, tremor=1., vowel=.3, front=.3, bright=.5),
    "hap": dict(brow_out=.3, eye=-.1, cheek=1., smile=1., open=.5, wide=.6, tilt=.2, nod=.2, bob=1.,
                pitch=6, fall=-2, loud=3, rate=4.5, duty=.45, breath=.25, vowel=.4, front=.6, bright=.5),
    "sad": dict(brow_in=1., brow_out=-.4, knit=.2, eye=-.5, smile=-.9, open=.15, wide=-.3, tilt=-.3, nod=-.7, gaze=-1.,
                pitch=2, fall=-3, loud=-3, rate=1.6, duty=.6, breath=.8, tremor=.6, vowel=-.3, front=-.3, bright=-.6),
    "neu": dict(loud=-3, rate=1., duty=.7, breath=.1, fall=-1, vowel=-.1),
}  # fmt: skip
# How far chance and habit move a parameter: these set how hard the demo is.
SPREAD = np.array([.30] * len(FACE) + [2.2, 1.6, 2., .55, .09, .18, .25, .28, .28, .28, .28])
CHANCE, HABIT, SWAY, WEIGHT_SPREAD = .25, .2, .12, .02
CONTRAST = 1.2  # how much clearer than its share the dominant emotion of a blend shows


class Take(NamedTuple):
    """One clip to be made: its name, who acts, what is expressed, and how."""

    name: str
    actor: int
    label: Label
    version: int
    intensity: Optional[int]
    situation: Optional[int]
    number: int  # seeds its chance


class Demo(NamedTuple):
    """What `make_demo` leaves behind; `made` clips in this call, `kept` from an earlier one."""

    train: Path
    test: Path
    train_metadata: Path
    test_metadata: Path
    test_labels: Path
    made: int
    kept: int


def make_demo(out: Path, *, workers: int = 2) -> Demo:
    """Generate the demo dataset in the folder `out`, or complete it where an earlier call was interrupted.

    Layout: `train/*.mov`, `test/*.mov`, `train_metadata.csv`, `test_metadata.csv`, `test_labels.json`. The tables
    come last: where they stand, everything does. `workers` processes draw at once; 1: this process alone.

    Raises ValidationError: `out` holds something else than this demo. FileError: it cannot be written.
    """
    out = Path(out)
    _claim(out)
    train, test = plan()
    paths = {out / "train" / f"{take.name}.mov": take for take in train}
    paths |= {out / "test" / f"{take.name}.mov": take for take in test}
    todo = [(path, take) for path, take in paths.items() if not path.exists()]
    with tqdm(total=len(paths), initial=len(paths) - len(todo), desc="demo", unit="clip", disable=None if todo else True) as progress:
        for _ in _make_clips(todo, workers):
            progress.update()
    tables = out / "train_metadata.csv", out / "test_metadata.csv", out / "test_labels.json"
    demo = Demo(out / "train", out / "test", *tables, made=len(todo), kept=len(paths) - len(todo))
    for path, content in zip(tables, _tables(train, test)):
        if not path.exists():
            write_atomic(path, content)
    return demo


def _claim(out: Path) -> None:
    """Mark the folder as a demo, or see that it is one."""
    marker, wanted = out / MARKER, {"dataset": "BLEMORE demo", "revision": REVISION, "seed": SEED}
    try:
        found = json.loads(marker.read_text("utf-8")) if marker.exists() else None
        holds = sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) if out.exists() else []
    except (OSError, ValueError) as error:
        raise FileError(Problem("cannot-open", str(out), f"cannot be read as a folder of the demo: {error}")) from None
    if found == wanted:
        return
    if holds:
        what = "a demo of another revision" if found else f"other files ({', '.join(holds[:3])})"
        raise ValidationError(Problem("not-a-demo", str(out), f"holds {what}; expected an empty folder or this demo",
                                      hint="Choose another folder, or delete this one yourself."))
    write_atomic(marker, to_json(wanted))


def _make_clips(todo: list[tuple[Path, Take]], workers: int) -> Iterator[None]:
    if workers <= 1 or len(todo) <= 1:
        yield from (_make_clip(*job) for job in todo)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        try:
            yield from (future.result() for future in as_completed([pool.submit(_make_clip, *job) for job in todo]))
        except BaseException:  # an interrupt, too: begin no other clip
            pool.shutdown(cancel_futures=True)
            raise


# ------------------------------------------------------------------------------- who acts what


def plan() -> tuple[list[Take], list[Take]]:
    """The takes of train, by name, and of test, in an order that says nothing. All 36 labels are in train."""
    takes, blend = [], 0
    for actor in range(TRAIN_ACTORS + TEST_ACTORS):
        # Every second actor leaves a single out: so blends are 54 in 100, as in the dataset itself.
        left_out = actor // 2 % 6 if actor % 2 else None
        singles = [single for turn, single in enumerate(SINGLES) if turn != left_out]
        blends = [BLENDS[(blend + step) * 7 % len(BLENDS)] for step in range(CLIPS_PER_ACTOR - len(singles))]
        blend += len(blends)
        takes += [_take(actor, label, turn, len(takes) + turn) for turn, label in enumerate(singles + blends)]
    train = sorted((take for take in takes if take.actor < TRAIN_ACTORS), key=lambda take: take.name)
    test = [take for take in takes if take.actor >= TRAIN_ACTORS]
    order = np.random.default_rng(SEED).permutation(len(test))
    return train, [test[index]._replace(name=f"test_{place:04d}") for place, index in enumerate(order, start=1)]


def _take(actor: int, label: Label, turn: int, number: int) -> Take:
    level = (actor + turn) % 4 + 1
    neutral = label.emotions == (NEUTRAL,)
    if label.is_blend:
        what = "mix_{}_{}_{}_{}".format(*label.emotions, *label.saliences)
    else:
        what = f"neu_sit{level}" if neutral else f"{label.emotions[0]}_int{level}"
    intensity, situation = (None if neutral or label.is_blend else level), (level if neutral else None)
    return Take(f"{actor_id(actor)}_{what}_ver1", actor, label, 1, intensity, situation, number)


def actor_id(actor: int) -> str:
    """`A901` for actor 0: of the dataset's form, but none of its actors."""
    return f"A{901 + actor}"


def _tables(train: list[Take], test: list[Take]) -> tuple[str, str, str]:
    """The texts of train_metadata.csv, test_metadata.csv and test_labels.json."""
    rows = [COLUMNS]
    for take in train:
        first, second = (*take.label.emotions, "")[:2]
        saliences = take.label.saliences if take.label.is_blend else ("", "")
        rows.append((take.name, actor_id(take.actor), int(take.label.is_blend), first, second, *saliences, take.version,
                     take.intensity or "", take.situation or "", take.actor % FOLDS))
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


def compose(take: Take, actor: "Actor", rng: np.random.Generator) -> np.ndarray:
    """The score of a take: (frames, parameters)."""
    length = int(rng.integers(30, 51))
    time = np.linspace(0, 1, length)
    rest, rows = _row(NEUTRAL), np.stack([_row(emotion) for emotion in take.label.emotions])
    target = np.empty((length, len(PARAMETERS)))
    # Face and voice weigh a blend apart: neither alone shows its salience well.
    for channel in (slice(0, len(FACE)), slice(len(FACE), None)):
        target[:, channel] = _weights(take.label, time, rng) @ rows[:, channel]
    strength = actor.expressivity * (.55 + .15 * (take.intensity or 4)) * rng.uniform(.85, 1.15)
    unfold = _smooth(time / rng.uniform(.15, .4)) * _smooth((1 - time) / rng.uniform(.1, .25) + .3)
    score = rest + strength * unfold[:, None] * (target - rest)
    score += SPREAD * (actor.habit + CHANCE * rng.standard_normal(len(PARAMETERS)))
    return score + SPREAD * .4 * _drift(length, len(PARAMETERS), rng)


def _row(emotion: str) -> np.ndarray:
    return np.array([EXPRESSIONS[emotion].get(name, 0.0) for name in PARAMETERS])


def _weights(label: Label, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How much of each emotion shows over time: (frames, emotions), rows sum to 1."""
    if not label.is_blend:
        return np.ones((len(time), 1))
    sway = SWAY * np.sin(2 * np.pi * (rng.uniform(.8, 2) * time + rng.random()))
    first = np.clip(.5 + CONTRAST * (label.saliences[0] / 100 - .5) + WEIGHT_SPREAD * rng.standard_normal() + sway, 0, 1)
    return np.stack([first, 1 - first], axis=1)


def _smooth(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 without a corner, for x from 0 to 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _drift(length: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Slow chance, (length, width), of about unit deviation: white noise seen through half a second."""
    window = np.hanning(15)
    noise = rng.standard_normal((length + 14, width))
    return np.stack([np.convolve(column, window / np.linalg.norm(window), "valid") for column in noise.T], axis=1)


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


# ---------------------------------------------------------------------------------- the actors


class Actor(NamedTuple):
    """What stays the same in all clips of an actor, and says nothing of their emotion. Colours are RGB."""

    skin: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray
    wall: np.ndarray
    iris: np.ndarray
    style: int  # of the hair: 0 cropped, 1 fringe, 2 long, 3 bald
    beard: bool
    glasses: bool
    width: float  # of the head
    height: float
    eyes: float  # their size
    brow: float  # its thickness
    light: tuple[float, float]  # brightness, and how much more from the right
    base_pitch: float  # Hz
    tract: float  # length of the vocal tract, 1 is average
    gain: float  # of the recording, dB
    expressivity: float
    habit: np.ndarray  # where each parameter rests, in spreads

    @classmethod
    def invent(cls, number: int) -> "Actor":
        rng = np.random.default_rng((SEED, 0, number))
        skins = [(255, 224, 198), (241, 194, 155), (224, 172, 128), (190, 132, 92), (146, 95, 62), (104, 66, 44)]
        hairs = [(38, 28, 26), (84, 52, 32), (150, 96, 48), (222, 184, 112), (168, 70, 40), (150, 150, 156)]
        cloths = [(196, 74, 68), (62, 98, 150), (66, 128, 104), (228, 178, 76), (120, 84, 146), (70, 74, 84)]
        walls = [(178, 206, 222), (222, 208, 184), (188, 212, 188), (214, 192, 208), (150, 160, 178), (232, 224, 208)]
        irises = [(84, 56, 36), (70, 108, 150), (84, 122, 82), (60, 42, 30)]
        pick = lambda colours: np.array(colours[rng.integers(len(colours))]) + rng.uniform(-10, 10, 3)  # noqa: E731
        low = rng.random() < .5  # voice and beard go together a little, as they do
        return cls(
            skin=np.array(skins[number * 5 % 6]) + rng.uniform(-8, 8, 3),
            hair=pick(hairs), cloth=pick(cloths), wall=pick(walls), iris=pick(irises),
            style=number % 4 if low or number % 4 != 3 else 2, beard=bool(low and rng.random() < .5),
            glasses=number % 5 == 2,
            width=rng.uniform(.92, 1.1), height=rng.uniform(.94, 1.08), eyes=rng.uniform(.9, 1.15),
            brow=rng.uniform(.7, 1.3), light=(rng.uniform(.8, 1.), rng.uniform(-.18, .18)),
            base_pitch=rng.uniform(95, 140) if low else rng.uniform(165, 240),
            tract=rng.uniform(1., 1.1) if low else rng.uniform(.86, .98),
            gain=rng.uniform(-7, 5), expressivity=rng.uniform(.75, 1.2),
            habit=HABIT * rng.standard_normal(len(PARAMETERS)),
        )  # fmt: skip


# ------------------------------------------------------------------------------------ the face
# Drawn at three times the size and shrunk, which smooths the edges. Coordinates of the head: its centre is (0, 0),
# y goes down, the unit is a tenth of a standard head's width.

ZOOM = 3
UNIT = SIDE * ZOOM / 15.5  # pixels


class Pen:
    """Draws on a canvas in the coordinates of a head that is moved, turned and scaled."""

    def __init__(self, canvas: np.ndarray, shift=(0.0, 0.0), turn: float = 0.0, scale: float = 1.0):
        self.canvas, self.scale = canvas, UNIT * scale
        cos, sin = np.cos(turn) * self.scale, np.sin(turn) * self.scale
        self.matrix = np.array([[cos, sin], [-sin, cos]])
        self.origin = np.array([SIDE * ZOOM / 2, SIDE * ZOOM * .5]) + UNIT * np.array(shift)

    def _pixels(self, points) -> np.ndarray:
        return np.round((np.asarray(points) @ self.matrix + self.origin) * 16).astype(np.int32)  # 4 bits of fraction

    def fill(self, points, colour) -> None:
        cv2.fillPoly(self.canvas, [self._pixels(points)], _rgb(colour), cv2.LINE_AA, 4)

    def line(self, points, colour, width: float) -> None:
        thick = max(1, round(width * self.scale))
        cv2.polylines(self.canvas, [self._pixels(points)], False, _rgb(colour), thick, cv2.LINE_AA, 4)


def _rgb(colour) -> tuple[float, ...]:
    return tuple(float(np.clip(part, 0, 255)) for part in colour)


def _oval(x, y, rx, ry, start=0.0, end=2 * np.pi, points=36) -> np.ndarray:
    angle = np.linspace(start, end, points)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _bow(left, middle, right, points=14) -> np.ndarray:
    """A curve from left to right *through* the middle point."""
    left, middle, right = map(np.asarray, (left, middle, right))
    control = 2 * middle - (left + right) / 2
    t = np.linspace(0, 1, points)[:, None]
    return (1 - t) ** 2 * left + 2 * t * (1 - t) * control + t**2 * right


def draw(score: np.ndarray, actor: Actor, rng: np.random.Generator) -> np.ndarray:
    """The pictures of a score: (frames, SIDE, SIDE, 3) uint8."""
    rows = np.clip(score[:, : len(FACE)], -1.3, 1.3)
    bursts, gate = _bursts(score, 1 / FPS)
    blink, grain = int(rng.integers(4, len(score) - 4)), rng.normal(0, 2.5, (4, SIDE, SIDE, 1))
    across = np.linspace(-1, 1, SIDE)[None, :, None]
    light = actor.light[0] * (1 + actor.light[1] * across)
    frames = []
    for number, row in enumerate(rows):
        face = dict(zip(FACE, row))
        # The jaw follows the voice: open within a burst of sound, nearly shut between two.
        face["open"] = max(0.0, face["open"] * (.35 + .75 * gate[number]) + .12 * gate[number])
        if abs(number - blink) <= 1:
            face["eye"] = -1.4
        large = _draw_one(face, actor, number / FPS, bursts[number])
        small = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        frames.append(np.clip(small * light + grain[number % 4], 0, 255).astype(np.uint8))
    return np.stack(frames)


def _draw_one(face: dict, actor: Actor, time: float, bursts: float) -> np.ndarray:
    canvas = np.empty((SIDE * ZOOM, SIDE * ZOOM, 3), np.uint8)
    canvas[:] = np.clip(actor.wall * np.linspace(1.06, .88, SIDE * ZOOM)[:, None, None], 0, 255)
    shake = .22 * max(face["shake"], 0) * np.sin(2 * np.pi * 5.5 * time)
    bounce = .3 * max(face["bob"], 0) * np.sin(2 * np.pi * bursts)
    shift = np.array([.5 * face["tilt"] + shake, .35 - .6 * face["nod"] + bounce])
    body = Pen(canvas, (0.3 * shift[0], .3 + bounce))
    head = Pen(canvas, shift, turn=-.16 * face["tilt"] - .03 * shake, scale=1 + .07 * face["lean"])
    _draw_body(body, head, actor)
    _draw_head(head, actor, face)
    for side in (-1, 1):
        _draw_eye(head, actor, face, side)
        _draw_brow(head, actor, face, side)
    _draw_nose(head, actor, face)
    _draw_mouth(head, actor, face)
    return canvas


def _draw_body(body: Pen, head: Pen, actor: Actor) -> None:
    if actor.style == 2:  # long hair hangs behind
        head.fill(_oval(0, 1.2, 5.9 * actor.width, 7.4 * actor.height), actor.hair * .8)
    body.fill(_oval(0, 10.6, 7.6, 4.0), actor.cloth)
    body.fill(_oval(0, 6.9, 2.5, 1.5), actor.skin * .84)
    body.fill([(-2.0, 3), (2.0, 3), (2.2, 7), (-2.2, 7)], actor.skin * .84)
    body.line(_oval(0, 6.9, 2.6, 1.6, 0, np.pi), actor.cloth * .8, .3)


def _draw_head(pen: Pen, actor: Actor, face: dict) -> None:
    w, h = 4.7 * actor.width, 5.7 * actor.height
    for side in (-1, 1):
        pen.fill(_oval(side * w, .3, .95, 1.35), actor.skin * .93)
        pen.line(_oval(side * w, .3, .45, .8), actor.skin * .8, .12)
    jaw = .45 * face["open"]
    outline = _oval(0, 0, w, h, points=60)
    below = np.clip(outline[:, 1], 0, None) / h
    outline[:, 0] *= 1 - .2 * below**2  # the chin is narrower than the temples
    outline[:, 1] += jaw * below
    pen.fill(outline, actor.skin)
    if actor.beard:
        low = outline[outline[:, 1] > 1.6]
        low = low[np.argsort(low[:, 0])]
        edge = _bow((low[-1, 0], 1.6), (0, 3.0), (low[0, 0], 1.6))
        pen.fill(np.concatenate([low, edge]), .55 * actor.hair + .45 * actor.skin * .7)
    for side in (-1, 1):  # cheeks rise and redden with a smile
        lift, warm = .5 * max(face["cheek"], 0), .1 + .12 * max(face["cheek"], 0)
        blush = actor.skin * (1 - warm) + np.array([232, 96, 88]) * warm
        pen.fill(_oval(side * 2.75 * actor.width, 1.55 - lift, 1.05, .75), blush)
    if actor.style == 3:
        pen.line(_oval(-1.4, -4.1 * actor.height, 1.2, .5, 3.6, 4.7), np.minimum(actor.skin * 1.12, 255), .3)
        return
    hairline = {0: (-1.9, -4.1), 1: (-1.6, -2.7), 2: (-1.0, -4.3)}[actor.style]  # at the temples, in the middle
    start = np.arcsin((-.15 - hairline[0]) / (h * 1.09))  # where the hair's outline meets the temple
    top = _oval(0, -.15, w * 1.05, h * 1.09, np.pi + start, 2 * np.pi - start)
    pen.fill(np.concatenate([top, _bow(top[-1], (0, hairline[1]), top[0])]), actor.hair)
    pen.line(_oval(-.5, -.5, w * .72, h * .88, np.pi * 1.22, np.pi * 1.45), actor.hair * 1.08 + 12, .3)


def _draw_eye(pen: Pen, actor: Actor, face: dict, side: int) -> None:
    x, y, rx, ry = side * 1.95 * actor.width, -.55, 1.08 * actor.eyes, .95 * actor.eyes
    squeeze = max(face["cheek"], 0) * .35 + max(face["sneer"], 0) * .2
    upper = y - ry * float(np.clip(.62 + .38 * face["eye"] - .3 * squeeze, -.05, 1.05))
    lower = y + ry * float(np.clip(.62 + .12 * face["eye"] - squeeze, .1, .8))
    if upper > lower - .12:
        upper = lower - .02
    pen.fill(_oval(x, y, rx, ry), (250, 250, 246))
    look = y + .1 - .22 * face["gaze"]
    pen.fill(_oval(x, look, .55, .55), actor.iris)
    pen.fill(_oval(x, look, .27, .27), (18, 16, 18))
    pen.fill(_oval(x - .18, look - .2, .14, .14), (255, 255, 255))
    # Skin above the upper lid and below the lower one hides what is shut.
    lid = _bow((x - rx * 1.05, y + .1), (x, upper), (x + rx * 1.05, y + .1))
    bottom = _bow((x - rx * 1.05, y + .1), (x, lower), (x + rx * 1.05, y + .1))
    pen.fill(np.concatenate([lid, _oval(x, y, rx * 1.12, ry * 1.15, 0, -np.pi)]), actor.skin * .95)
    pen.fill(np.concatenate([bottom, _oval(x, y, rx * 1.12, ry * 1.15, 0, np.pi)]), actor.skin)
    pen.line(bottom[2:-2], actor.skin * .76, .08)
    pen.line(lid, (34, 26, 28), .24)
    if actor.glasses:
        pen.line(_oval(x, y + .1, 1.6, 1.45), (52, 50, 58), .17)
        pen.line([(0, y - .1), (side * .4, y - .1)], (52, 50, 58), .17)


def _draw_brow(pen: Pen, actor: Actor, face: dict, side: int) -> None:
    y = -2.15 + .35 * max(face["knit"], 0)
    inner = np.array([.95 - .3 * face["knit"], y - .75 * face["brow_in"] + .3 * max(face["knit"], 0) + .25])
    outer = np.array([3.15 * actor.width, y - .6 * face["brow_out"] + .2])
    middle = (inner + outer) / 2 - (0, .38 + .15 * face["brow_out"])
    thick = .3 * actor.brow
    above = _bow(inner - (0, thick), middle - (0, thick * 1.1), outer)
    below = _bow(outer, middle + (0, thick * .7), inner + (0, thick))
    colour = np.minimum(actor.hair * .8, 118) if actor.style != 3 else np.array([52, 40, 36])
    pen.fill(np.concatenate([above, below]) * (side, 1), colour)
    if face["knit"] > .45:  # the furrow between the brows
        x = side * .38
        pen.line([(x, -2.3), (x * .8, -1.5)], actor.skin * .78, .12)


def _draw_nose(pen: Pen, actor: Actor, face: dict) -> None:
    lift = .28 * max(face["sneer"], 0)
    shade = actor.skin * .78
    pen.line(_bow((-.75, 1.25 - lift), (0, 1.75 - lift), (.75, 1.25 - lift)), shade, .17)
    pen.line(_bow((.2, -.2), (.42, .6), (.5, 1.0 - lift)), actor.skin * .88, .12)
    if face["sneer"] > .4:  # wrinkles over the bridge
        for y in (-.5, -.1):
            pen.line(_bow((-.5, y), (0, y - .18), (.5, y)), actor.skin * .8, .1)


def _draw_mouth(pen: Pen, actor: Actor, face: dict) -> None:
    smile, gape, sneer = face["smile"], face["open"], max(face["sneer"], 0)
    half = 1.55 + .55 * face["wide"] + .25 * max(smile, 0)
    y = 3.1 + .15 * gape - .12 * sneer
    corner = y - .62 * smile
    top = y + .26 * smile - .35 * gape - .42 * sneer
    bottom = top + 1.75 * gape + .16 * sneer + .02
    left, right = (-half, corner), (half, corner)
    lips = actor.skin * .52 + np.array([186, 62, 70]) * .44
    upper, lower = _bow(left, (0, top), right), _bow(right, (0, bottom), left)
    pen.fill(np.concatenate([_bow((-half * 1.06, corner), (0, top - .3), (half * 1.06, corner)),
                             _bow((half * 1.06, corner), (0, bottom + .42), (-half * 1.06, corner))]), lips)
    if bottom - top > .1:
        pen.fill(np.concatenate([upper, lower]), (72, 22, 30))
        teeth = min(.42, .45 * (bottom - top))
        pen.fill(np.concatenate([upper[2:-2], _bow(upper[-3], (0, top + teeth), upper[2])]), (250, 248, 242))
        tongue = .3 * (bottom - top)
        pen.fill(np.concatenate([lower[4:-4], _bow(lower[-5], (0, bottom - tongue), lower[4])]), (208, 94, 98))
    pen.line(upper, lips * .62, .12)
    fold = max(sneer, smile)
    if fold > .35:  # from the nose to the corners
        for side in (-1, 1):
            crease = _bow((1.15, 1.35), (half * .75 + .75, 2.1), (half + .45, corner - .1))
            pen.line(crease * (side, 1), actor.skin * .84, .12)


# ----------------------------------------------------------------------------------- the voice


def speak(score: np.ndarray, actor: Actor, rng: np.random.Generator) -> np.ndarray:
    """The sound of a score: float32 (samples,) at RATE, within ±1."""
    count = len(score) * RATE // FPS
    where = np.linspace(0, len(score) - 1, count)
    fine = np.stack([np.interp(where, np.arange(len(score)), column) for column in score.T], axis=1)
    part = {name: fine[:, AT[name]] for name in VOICE}
    time = np.arange(count) / RATE
    bursts, gate = _bursts(fine, 1 / RATE)
    tremor = np.clip(part["tremor"], 0, 1.3) * np.sin(2 * np.pi * (7.5 * time + .6 * np.sin(2 * np.pi * 1.3 * time)))
    steps = np.arange(0, time[-1] + .02, .01)
    jitter = np.interp(time, steps, rng.standard_normal(len(steps))) * (.25 + .5 * np.clip(part["rough"], 0, 1))
    pitch = part["pitch"] + part["fall"] * (bursts % 1) + .8 * tremor + jitter
    phase = 2 * np.pi * np.cumsum(actor.base_pitch * 2 ** (pitch / 12)) / RATE
    source = _harmonics(phase, part) * (1 + .35 * tremor)
    breath = np.clip(part["breath"], .03, 1.2) * rng.standard_normal(count)
    voice = _formants(.5 * source + .22 * breath, part, actor) * gate
    edges = _smooth(time / .08) * _smooth((time[-1] - time) / .1)
    level = 10 ** ((actor.gain + part["loud"] - 16) / 20)
    return np.tanh(voice * edges * level + .0015 * rng.standard_normal(count)).astype(np.float32)


def _bursts(score: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """How many bursts of voice have begun (a running count, with fraction), and how open the voice is, 0 to 1."""
    count = np.cumsum(np.clip(score[:, AT["rate"]], .6, 6)) * step
    within, duty = count % 1, np.clip(score[:, AT["duty"]], .25, .9)
    return count, _smooth(within / .12) * _smooth((duty - within) / .2)


def _harmonics(phase: np.ndarray, part: dict, highest: float = 9000.0) -> np.ndarray:
    """A voiced source: harmonics that fade with their number, slower if bright; a rough voice beats at half its pitch."""
    step = np.gradient(phase) * RATE / (2 * np.pi)  # the pitch in Hz
    fade = 1.5 - .5 * np.clip(part["bright"], -1, 1)
    total = np.zeros_like(phase)
    for number in range(1, 41):
        inside = number * step < highest
        if not inside.any():
            break
        total += inside * np.cos(number * phase) * number**-fade
    rough = np.clip(part["rough"], 0, 1.2)
    return total * (1 + .6 * rough * np.cos(phase / 2))


def _formants(sound: np.ndarray, part: dict, actor: Actor, window: int = 512) -> np.ndarray:
    """The sound through four resonances that move with the vowel: overlapping windows, each shaped in frequency."""
    hop = window // 4
    padded = np.pad(sound, (window, window))
    starts = np.arange(0, len(padded) - window, hop)
    middle = np.clip(starts - window // 2, 0, len(sound) - 1)
    resonances = np.stack([
        560 * (1 + .4 * np.clip(part["vowel"][middle], -1.2, 1.2)),
        1500 * (1 + .3 * np.clip(part["front"][middle], -1.2, 1.2)),
        np.full(len(middle), 2600), np.full(len(middle), 3700),
    ], axis=1)[:, None, :] / actor.tract
    frequency = np.fft.rfftfreq(window, 1 / RATE)[None, :, None] / resonances
    width = np.array([110, 140, 190, 260]) / resonances
    shape = np.prod(1 / np.sqrt((1 - frequency**2) ** 2 + (frequency * width) ** 2), axis=2)
    taper = np.hanning(window + 1)[:-1]
    pieces = np.fft.irfft(np.fft.rfft(padded[starts[:, None] + np.arange(window)] * taper) * shape, window) * taper
    out = np.zeros_like(padded)
    for start, piece in zip(starts, pieces):
        out[start : start + window] += piece
    return out[window : window + len(sound)] / 1.5  # the squared windows overlap to 1.5
