"""The sound of a score: a source of harmonics and breath, shaped by formants that move with the vowel."""

from __future__ import annotations

import numpy as np

from blemore_baselines.demo.score import AT, FPS, RATE, VOICE, Actor, smooth, voice_bursts


def speak(score: np.ndarray, actor: Actor, rng: np.random.Generator) -> np.ndarray:
    """The sound of a score: float32 (samples,) at RATE, within ±1."""
    count = len(score) * RATE // FPS
    where = np.linspace(0, len(score) - 1, count)
    fine = np.stack([np.interp(where, np.arange(len(score)), column) for column in score.T], axis=1)
    part = {name: fine[:, AT[name]] for name in VOICE}
    time = np.arange(count) / RATE
    bursts, gate = voice_bursts(fine, 1 / RATE)
    tremor = np.clip(part["tremor"], 0, 1.3) * np.sin(2 * np.pi * (7.5 * time + 0.6 * np.sin(2 * np.pi * 1.3 * time)))
    steps = np.arange(0, time[-1] + 0.02, 0.01)
    jitter = np.interp(time, steps, rng.standard_normal(len(steps))) * (0.25 + 0.5 * np.clip(part["rough"], 0, 1))
    pitch = part["pitch"] + part["fall"] * (bursts % 1) + 0.8 * tremor + jitter
    phase = 2 * np.pi * np.cumsum(actor.base_pitch * 2 ** (pitch / 12)) / RATE
    source = _harmonics(phase, part) * (1 + 0.35 * tremor)
    breath = np.clip(part["breath"], 0.03, 1.2) * rng.standard_normal(count)
    voice = _formants(0.5 * source + 0.22 * breath, part, actor) * gate
    edges = smooth(time / 0.08) * smooth((time[-1] - time) / 0.1)
    level = 10 ** ((actor.gain + part["loud"] - 16) / 20)
    return np.tanh(voice * edges * level + 0.0015 * rng.standard_normal(count)).astype(np.float32)


def _harmonics(phase: np.ndarray, part: dict, highest: float = 9000.0) -> np.ndarray:
    """A voiced source: harmonics that fade with their number, more slowly in a bright voice. A rough voice beats at
    half its pitch.
    """
    step = np.gradient(phase) * RATE / (2 * np.pi)  # the pitch in Hz
    fade = 1.5 - 0.5 * np.clip(part["bright"], -1, 1)
    total = np.zeros_like(phase)
    for number in range(1, 41):
        inside = number * step < highest
        if not inside.any():
            break
        total += inside * np.cos(number * phase) * number**-fade
    rough = np.clip(part["rough"], 0, 1.2)
    return total * (1 + 0.6 * rough * np.cos(phase / 2))


def _formants(sound: np.ndarray, part: dict, actor: Actor, window: int = 512) -> np.ndarray:
    """Filters the sound by four resonances that move with the vowel: overlapping windows, each shaped in frequency."""
    hop = window // 4
    padded = np.pad(sound, (window, window))
    starts = np.arange(0, len(padded) - window, hop)
    middle = np.clip(starts - window // 2, 0, len(sound) - 1)
    resonances = (
        np.stack(
            [
                560 * (1 + 0.4 * np.clip(part["vowel"][middle], -1.2, 1.2)),
                1500 * (1 + 0.3 * np.clip(part["front"][middle], -1.2, 1.2)),
                np.full(len(middle), 2600),
                np.full(len(middle), 3700),
            ],
            axis=1,
        )[:, None, :]
        / actor.tract
    )
    frequency = np.fft.rfftfreq(window, 1 / RATE)[None, :, None] / resonances
    width = np.array([110, 140, 190, 260]) / resonances
    shape = np.prod(1 / np.sqrt((1 - frequency**2) ** 2 + (frequency * width) ** 2), axis=2)
    taper = np.hanning(window + 1)[:-1]
    pieces = np.fft.irfft(np.fft.rfft(padded[starts[:, None] + np.arange(window)] * taper) * shape, window) * taper
    out = np.zeros_like(padded)
    for start, piece in zip(starts, pieces):
        out[start : start + window] += piece
    return out[window : window + len(sound)] / 1.5  # the overlapping squared windows sum to 1.5
