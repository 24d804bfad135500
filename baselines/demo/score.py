"""What an invented actor does in a clip: a matrix (frames, parameters) for both face and voice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blemore.labels import NEUTRAL, Label

SEED = 2026  # of all random numbers in the demo's modules

FPS = 25  # frames per second
SIDE = 128  # width and height of a frame, in pixels
RATE = 24_000  # sound samples per second

# ------------------------------------------------------------------------------- parameters

# Face: 0 is at rest and 1 the maximum. Voice: pitch and fall in semitones, loud in dB, rate in bursts per second, the
# rest as shares.
FACE = ("brow_in", "brow_out", "knit", "eye", "cheek", "smile", "open", "wide", "sneer", "tilt", "nod", "lean", "shake",
        "bob", "gaze")  # fmt: skip
VOICE = ("pitch", "fall", "loud", "rate", "duty", "breath", "rough", "tremor", "vowel", "front", "bright")
PARAMETERS = FACE + VOICE
AT = {name: column for column, name in enumerate(PARAMETERS)}

# How far an emotion moves each parameter; the others stay at rest.
EXPRESSIONS = {
    "ang": {"brow_in": -.7, "knit": 1., "eye": .35, "smile": -.45, "open": .45, "wide": .2, "sneer": .35, "nod": -.3,
            "lean": .6, "shake": .5,
            "pitch": 3, "fall": -4, "loud": 6, "rate": 2.2, "duty": .75, "breath": .1, "rough": 1., "vowel": .6,
            "front": 0, "bright": .9},
    "disg": {"brow_in": -.3, "brow_out": -.2, "knit": .5, "eye": -.55, "cheek": .3, "smile": -.5, "open": .25,
             "wide": -.3, "sneer": 1., "tilt": .4, "nod": .5, "lean": -.4,
             "pitch": -2, "fall": -6, "loud": 0, "rate": 1.3, "duty": .8, "breath": .25, "rough": .6, "vowel": -.2,
             "front": .5},
    "fea": {"brow_in": .9, "brow_out": .7, "knit": .3, "eye": 1., "smile": -.35, "open": .5, "wide": .4, "nod": .3,
            "lean": -.6, "shake": .7,
            "pitch": 9, "fall": 2, "loud": 2, "rate": 3., "duty": .5, "breath": .5, "tremor": 1., "vowel": .3,
            "front": .3, "bright": .5},
    "hap": {"brow_out": .3, "eye": -.1, "cheek": 1., "smile": 1., "open": .5, "wide": .6, "tilt": .2, "nod": .2,
            "bob": 1.,
            "pitch": 6, "fall": -2, "loud": 3, "rate": 4.5, "duty": .45, "breath": .25, "vowel": .4, "front": .6,
            "bright": .5},
    "sad": {"brow_in": 1., "brow_out": -.4, "knit": .2, "eye": -.5, "smile": -.9, "open": .15, "wide": -.3,
            "tilt": -.3, "nod": -.7, "gaze": -1.,
            "pitch": 2, "fall": -3, "loud": -3, "rate": 1.6, "duty": .6, "breath": .8, "tremor": .6, "vowel": -.3,
            "front": -.3, "bright": -.6},
    "neu": {"loud": -3, "rate": 1., "duty": .7, "breath": .1, "fall": -1, "vowel": -.1},
}  # fmt: skip

# How hard the demo is: how far chance and habit move a parameter (SPREAD, times the shares below), how much a blend's
# weights drift within a clip and differ between clips, and how much the dominant emotion exceeds its share.
SPREAD = np.array([0.30] * len(FACE) + [2.2, 1.6, 2.0, 0.55, 0.09, 0.18, 0.25, 0.28, 0.28, 0.28, 0.28])
CHANCE, HABIT = 0.25, 0.2
SWAY, WEIGHT_SPREAD = 0.12, 0.02
CONTRAST = 1.2

# ------------------------------------------------------------------------------- a clip's score


class Take(NamedTuple):
    """One clip to make: its name, the actor, the label, and how it is expressed."""

    name: str
    actor: int
    label: Label
    version: int
    intensity: int | None
    situation: int | None
    number: int  # seeds its random numbers


def compose(take: Take, actor: Actor, rng: np.random.Generator) -> np.ndarray:
    """The score of a take: (frames, parameters)."""
    length = int(rng.integers(30, 51))
    time = np.linspace(0, 1, length)
    rest, rows = _row(NEUTRAL), np.stack([_row(emotion) for emotion in take.label.emotions])
    target = np.empty((length, len(PARAMETERS)))
    # Face and voice weight a blend differently, so neither alone shows its salience well.
    for channel in (slice(0, len(FACE)), slice(len(FACE), None)):
        target[:, channel] = _weights(take.label, time, rng) @ rows[:, channel]
    strength = actor.expressivity * (0.55 + 0.15 * (take.intensity or 4)) * rng.uniform(0.85, 1.15)
    unfold = smooth(time / rng.uniform(0.15, 0.4)) * smooth((1 - time) / rng.uniform(0.1, 0.25) + 0.3)
    score = rest + strength * unfold[:, None] * (target - rest)
    score += SPREAD * (actor.habit + CHANCE * rng.standard_normal(len(PARAMETERS)))
    return score + SPREAD * 0.4 * _drift(length, len(PARAMETERS), rng)


def _row(emotion: str) -> np.ndarray:
    return np.array([EXPRESSIONS[emotion].get(name, 0.0) for name in PARAMETERS])


def _weights(label: Label, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The weight of each emotion over time: (frames, emotions), rows sum to 1."""
    if not label.is_blend:
        return np.ones((len(time), 1))
    sway = SWAY * np.sin(2 * np.pi * (rng.uniform(0.8, 2) * time + rng.random()))
    first = np.clip(
        0.5 + CONTRAST * (label.saliences[0] / 100 - 0.5) + WEIGHT_SPREAD * rng.standard_normal() + sway, 0, 1
    )
    return np.stack([first, 1 - first], axis=1)


def smooth(x: np.ndarray) -> np.ndarray:
    """A smooth step from 0 to 1, for x from 0 to 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _drift(length: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Slow noise (length, width) of about unit deviation: white noise smoothed over half a second."""
    window = np.hanning(15)
    noise = rng.standard_normal((length + 14, width))
    return np.stack([np.convolve(column, window / np.linalg.norm(window), "valid") for column in noise.T], axis=1)


def voice_bursts(score: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """How many bursts of voice have begun (a running, fractional count), and how open the voice is, 0 to 1."""
    count = np.cumsum(np.clip(score[:, AT["rate"]], 0.6, 6)) * step
    within, duty = count % 1, np.clip(score[:, AT["duty"]], 0.25, 0.9)
    return count, smooth(within / 0.12) * smooth((duty - within) / 0.2)


# ------------------------------------------------------------------------------- who acts


# Colours to choose from, as in Actor
SKINS = ((255, 224, 198), (241, 194, 155), (224, 172, 128), (190, 132, 92), (146, 95, 62), (104, 66, 44))
HAIRS = ((38, 28, 26), (84, 52, 32), (150, 96, 48), (222, 184, 112), (168, 70, 40), (150, 150, 156))
CLOTHS = ((196, 74, 68), (62, 98, 150), (66, 128, 104), (228, 178, 76), (120, 84, 146), (70, 74, 84))
WALLS = ((178, 206, 222), (222, 208, 184), (188, 212, 188), (214, 192, 208), (150, 160, 178), (232, 224, 208))
IRISES = ((84, 56, 36), (70, 108, 150), (84, 122, 82), (60, 42, 30))


class Actor(NamedTuple):
    """Traits that are the same in all clips of an actor, independent of emotion. Colours are RGB."""

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
    light: tuple[float, float]  # brightness, and how much brighter from the right
    base_pitch: float  # Hz
    tract: float  # length of the vocal tract; 1 is average
    gain: float  # of the recording, dB
    expressivity: float
    habit: np.ndarray  # each parameter's resting value, in spreads

    @classmethod
    def invent(cls, number: int) -> Actor:
        """The actor with a number (0, 1, …): always the same."""
        rng = np.random.default_rng((SEED, 0, number))
        low = rng.random() < 0.5  # voice and beard are slightly correlated
        return cls(
            skin=np.array(SKINS[number * 5 % 6]) + rng.uniform(-8, 8, 3),
            hair=_tint(HAIRS, rng),
            cloth=_tint(CLOTHS, rng),
            wall=_tint(WALLS, rng),
            iris=_tint(IRISES, rng),
            style=number % 4 if low or number % 4 != 3 else 2,
            beard=bool(low and rng.random() < 0.5),
            glasses=number % 5 == 2,
            width=rng.uniform(0.92, 1.1),
            height=rng.uniform(0.94, 1.08),
            eyes=rng.uniform(0.9, 1.15),
            brow=rng.uniform(0.7, 1.3),
            light=(rng.uniform(0.8, 1.0), rng.uniform(-0.18, 0.18)),
            base_pitch=rng.uniform(95, 140) if low else rng.uniform(165, 240),
            tract=rng.uniform(1.0, 1.1) if low else rng.uniform(0.86, 0.98),
            gain=rng.uniform(-7, 5),
            expressivity=rng.uniform(0.75, 1.2),
            habit=HABIT * rng.standard_normal(len(PARAMETERS)),
        )


def _tint(colours: Sequence[tuple[int, int, int]], rng: np.random.Generator) -> np.ndarray:
    """One of the colours, slightly varied."""
    return np.array(colours[int(rng.integers(len(colours)))]) + rng.uniform(-10, 10, 3)
