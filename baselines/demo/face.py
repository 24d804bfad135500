"""The pictures of a score: a drawn face.

It is drawn at ZOOM times the final size and then shrunk, which smooths the edges. In the head's coordinates the centre
is (0, 0), y points down, and UNIT is about a tenth of a head's width.
"""

from __future__ import annotations

import cv2
import numpy as np

from blemore_baselines.demo.score import FACE, FPS, SIDE, Actor, voice_bursts

ZOOM = 3
UNIT = SIDE * ZOOM / 15.5  # in pixels of the large picture


class Pen:
    """Draws on a canvas in the coordinates of a head that is moved, turned and scaled."""

    def __init__(self, canvas: np.ndarray, shift=(0.0, 0.0), turn: float = 0.0, scale: float = 1.0):
        self.canvas, self.scale = canvas, UNIT * scale
        cos, sin = np.cos(turn) * self.scale, np.sin(turn) * self.scale
        self.matrix = np.array([[cos, sin], [-sin, cos]])
        self.origin = np.array([SIDE * ZOOM / 2, SIDE * ZOOM * 0.5]) + UNIT * np.array(shift)

    def _pixels(self, points) -> np.ndarray:
        return np.round((np.asarray(points) @ self.matrix + self.origin) * 16).astype(np.int32)  # 4 fractional bits

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
    bursts, gate = voice_bursts(score, 1 / FPS)
    blink, grain = int(rng.integers(4, len(score) - 4)), rng.normal(0, 2.5, (4, SIDE, SIDE, 1))
    across = np.linspace(-1, 1, SIDE)[None, :, None]
    light = actor.light[0] * (1 + actor.light[1] * across)
    frames = []
    for number, row in enumerate(rows):
        face = dict(zip(FACE, row))
        # The jaw follows the voice: open during a burst of sound, nearly shut between bursts.
        face["open"] = max(0.0, face["open"] * (0.35 + 0.75 * gate[number]) + 0.12 * gate[number])
        if abs(number - blink) <= 1:
            face["eye"] = -1.4
        large = _draw_one(face, actor, number / FPS, bursts[number])
        small = cv2.resize(large, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        frames.append(np.clip(small * light + grain[number % 4], 0, 255).astype(np.uint8))
    return np.stack(frames)


def _draw_one(face: dict, actor: Actor, time: float, bursts: float) -> np.ndarray:
    canvas = np.empty((SIDE * ZOOM, SIDE * ZOOM, 3), np.uint8)
    canvas[:] = np.clip(actor.wall * np.linspace(1.06, 0.88, SIDE * ZOOM)[:, None, None], 0, 255)
    shake = 0.22 * max(face["shake"], 0) * np.sin(2 * np.pi * 5.5 * time)
    bounce = 0.3 * max(face["bob"], 0) * np.sin(2 * np.pi * bursts)
    shift = np.array([0.5 * face["tilt"] + shake, 0.35 - 0.6 * face["nod"] + bounce])
    body = Pen(canvas, (0.3 * shift[0], 0.3 + bounce))
    head = Pen(canvas, shift, turn=-0.16 * face["tilt"] - 0.03 * shake, scale=1 + 0.07 * face["lean"])
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
        head.fill(_oval(0, 1.2, 5.9 * actor.width, 7.4 * actor.height), actor.hair * 0.8)
    body.fill(_oval(0, 10.6, 7.6, 4.0), actor.cloth)
    body.fill(_oval(0, 6.9, 2.5, 1.5), actor.skin * 0.84)
    body.fill([(-2.0, 3), (2.0, 3), (2.2, 7), (-2.2, 7)], actor.skin * 0.84)
    body.line(_oval(0, 6.9, 2.6, 1.6, 0, np.pi), actor.cloth * 0.8, 0.3)


def _draw_head(pen: Pen, actor: Actor, face: dict) -> None:
    w, h = 4.7 * actor.width, 5.7 * actor.height
    for side in (-1, 1):
        pen.fill(_oval(side * w, 0.3, 0.95, 1.35), actor.skin * 0.93)
        pen.line(_oval(side * w, 0.3, 0.45, 0.8), actor.skin * 0.8, 0.12)
    jaw = 0.45 * face["open"]
    outline = _oval(0, 0, w, h, points=60)
    below = np.clip(outline[:, 1], 0, None) / h
    outline[:, 0] *= 1 - 0.2 * below**2  # the chin is narrower than the temples
    outline[:, 1] += jaw * below
    pen.fill(outline, actor.skin)
    if actor.beard:
        low = outline[outline[:, 1] > 1.6]
        low = low[np.argsort(low[:, 0])]
        edge = _bow((low[-1, 0], 1.6), (0, 3.0), (low[0, 0], 1.6))
        pen.fill(np.concatenate([low, edge]), 0.55 * actor.hair + 0.45 * actor.skin * 0.7)
    for side in (-1, 1):  # cheeks rise and redden with a smile
        lift, warm = 0.5 * max(face["cheek"], 0), 0.1 + 0.12 * max(face["cheek"], 0)
        blush = actor.skin * (1 - warm) + np.array([232, 96, 88]) * warm
        pen.fill(_oval(side * 2.75 * actor.width, 1.55 - lift, 1.05, 0.75), blush)
    if actor.style == 3:
        pen.line(_oval(-1.4, -4.1 * actor.height, 1.2, 0.5, 3.6, 4.7), np.minimum(actor.skin * 1.12, 255), 0.3)
        return
    hairline = {0: (-1.9, -4.1), 1: (-1.6, -2.7), 2: (-1.0, -4.3)}[actor.style]  # at the temples, in the middle
    start = np.arcsin((-0.15 - hairline[0]) / (h * 1.09))  # where the hair's outline meets the temple
    top = _oval(0, -0.15, w * 1.05, h * 1.09, np.pi + start, 2 * np.pi - start)
    pen.fill(np.concatenate([top, _bow(top[-1], (0, hairline[1]), top[0])]), actor.hair)
    pen.line(_oval(-0.5, -0.5, w * 0.72, h * 0.88, np.pi * 1.22, np.pi * 1.45), actor.hair * 1.08 + 12, 0.3)


def _draw_eye(pen: Pen, actor: Actor, face: dict, side: int) -> None:
    x, y, rx, ry = side * 1.95 * actor.width, -0.55, 1.08 * actor.eyes, 0.95 * actor.eyes
    squeeze = max(face["cheek"], 0) * 0.35 + max(face["sneer"], 0) * 0.2
    upper = y - ry * float(np.clip(0.62 + 0.38 * face["eye"] - 0.3 * squeeze, -0.05, 1.05))
    lower = y + ry * float(np.clip(0.62 + 0.12 * face["eye"] - squeeze, 0.1, 0.8))
    if upper > lower - 0.12:
        upper = lower - 0.02
    pen.fill(_oval(x, y, rx, ry), (250, 250, 246))
    look = y + 0.1 - 0.22 * face["gaze"]
    pen.fill(_oval(x, look, 0.55, 0.55), actor.iris)
    pen.fill(_oval(x, look, 0.27, 0.27), (18, 16, 18))
    pen.fill(_oval(x - 0.18, look - 0.2, 0.14, 0.14), (255, 255, 255))
    # Skin above the upper lid and below the lower lid covers the closed part of the eye.
    lid = _bow((x - rx * 1.05, y + 0.1), (x, upper), (x + rx * 1.05, y + 0.1))
    bottom = _bow((x - rx * 1.05, y + 0.1), (x, lower), (x + rx * 1.05, y + 0.1))
    pen.fill(np.concatenate([lid, _oval(x, y, rx * 1.12, ry * 1.15, 0, -np.pi)]), actor.skin * 0.95)
    pen.fill(np.concatenate([bottom, _oval(x, y, rx * 1.12, ry * 1.15, 0, np.pi)]), actor.skin)
    pen.line(bottom[2:-2], actor.skin * 0.76, 0.08)
    pen.line(lid, (34, 26, 28), 0.24)
    if actor.glasses:
        pen.line(_oval(x, y + 0.1, 1.6, 1.45), (52, 50, 58), 0.17)
        pen.line([(0, y - 0.1), (side * 0.4, y - 0.1)], (52, 50, 58), 0.17)


def _draw_brow(pen: Pen, actor: Actor, face: dict, side: int) -> None:
    y = -2.15 + 0.35 * max(face["knit"], 0)
    inner = np.array([0.95 - 0.3 * face["knit"], y - 0.75 * face["brow_in"] + 0.3 * max(face["knit"], 0) + 0.25])
    outer = np.array([3.15 * actor.width, y - 0.6 * face["brow_out"] + 0.2])
    middle = (inner + outer) / 2 - (0, 0.38 + 0.15 * face["brow_out"])
    thick = 0.3 * actor.brow
    above = _bow(inner - (0, thick), middle - (0, thick * 1.1), outer)
    below = _bow(outer, middle + (0, thick * 0.7), inner + (0, thick))
    colour = np.minimum(actor.hair * 0.8, 118) if actor.style != 3 else np.array([52, 40, 36])
    pen.fill(np.concatenate([above, below]) * (side, 1), colour)
    if face["knit"] > 0.45:  # the furrow between the brows
        x = side * 0.38
        pen.line([(x, -2.3), (x * 0.8, -1.5)], actor.skin * 0.78, 0.12)


def _draw_nose(pen: Pen, actor: Actor, face: dict) -> None:
    lift = 0.28 * max(face["sneer"], 0)
    shade = actor.skin * 0.78
    pen.line(_bow((-0.75, 1.25 - lift), (0, 1.75 - lift), (0.75, 1.25 - lift)), shade, 0.17)
    pen.line(_bow((0.2, -0.2), (0.42, 0.6), (0.5, 1.0 - lift)), actor.skin * 0.88, 0.12)
    if face["sneer"] > 0.4:  # wrinkles over the bridge
        for y in (-0.5, -0.1):
            pen.line(_bow((-0.5, y), (0, y - 0.18), (0.5, y)), actor.skin * 0.8, 0.1)


def _draw_mouth(pen: Pen, actor: Actor, face: dict) -> None:
    smile, gape, sneer = face["smile"], face["open"], max(face["sneer"], 0)
    half = 1.55 + 0.55 * face["wide"] + 0.25 * max(smile, 0)
    y = 3.1 + 0.15 * gape - 0.12 * sneer
    corner = y - 0.62 * smile
    top = y + 0.26 * smile - 0.35 * gape - 0.42 * sneer
    bottom = top + 1.75 * gape + 0.16 * sneer + 0.02
    left, right = (-half, corner), (half, corner)
    lips = actor.skin * 0.52 + np.array([186, 62, 70]) * 0.44
    upper, lower = _bow(left, (0, top), right), _bow(right, (0, bottom), left)
    pen.fill(
        np.concatenate(
            [
                _bow((-half * 1.06, corner), (0, top - 0.3), (half * 1.06, corner)),
                _bow((half * 1.06, corner), (0, bottom + 0.42), (-half * 1.06, corner)),
            ]
        ),
        lips,
    )
    if bottom - top > 0.1:
        pen.fill(np.concatenate([upper, lower]), (72, 22, 30))
        teeth = min(0.42, 0.45 * (bottom - top))
        pen.fill(np.concatenate([upper[2:-2], _bow(upper[-3], (0, top + teeth), upper[2])]), (250, 248, 242))
        tongue = 0.3 * (bottom - top)
        pen.fill(np.concatenate([lower[4:-4], _bow(lower[-5], (0, bottom - tongue), lower[4])]), (208, 94, 98))
    pen.line(upper, lips * 0.62, 0.12)
    fold = max(sneer, smile)
    if fold > 0.35:  # from the nose to the corners
        for side in (-1, 1):
            crease = _bow((1.15, 1.35), (half * 0.75 + 0.75, 2.1), (half + 0.45, corner - 0.1))
            pen.line(crease * (side, 1), actor.skin * 0.84, 0.12)
