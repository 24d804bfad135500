"""Colours and texture of hair, clothes and background: a video encoder without weights that tells people apart.

A row is one frame, and depends on that frame alone. It holds

- for each cell of a grid of GRID × GRID: the mean colour (L, a, b), and the detail at two scales: the mean absolute
  difference from a blurred frame;
- for each of three bands (hair at the top, the face in the middle, clothes at the bottom): how often each colour and
  each lightness occurs. Square roots of the shares make rare colours count; positions within a band do not matter.

Colours are CIE L*a*b*: L from 0 to 100, a and b about ±100. Everything is computed on the frame resized to SIDE × SIDE
pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.base import Encoder

SIDE = 96  # pixels
GRID = 6  # cells along a side
BANDS = 3
SCALES = (1.0, 3.0)  # of the blur, in pixels
# Bin edges. They are close together near grey, where most colours of a studio are.
TINTS = np.array([-24, -12, -6, -2, 2, 6, 12, 24, 48], dtype=np.float32)  # of a and of b
TONES = np.linspace(0, 100, 9, dtype=np.float32)[1:-1]  # of L


class Looks(Encoder):
    name = "looks"
    modality = "video"
    dim = GRID * GRID * (3 + len(SCALES)) + BANDS * ((len(TINTS) + 1) ** 2 + len(TONES) + 1)
    unit = "frame"
    revision = "1"
    packages = ("opencv-python-headless",)

    def _encode(self, clip: Clip) -> np.ndarray:
        return np.stack([_row(frame) for frame in clip.frames()])


def _row(frame: np.ndarray) -> np.ndarray:
    """(height, width, 3) RGB uint8 → (dim,)."""
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    colours = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    detail = [np.abs(colours[..., 0] - cv2.GaussianBlur(colours[..., 0], (0, 0), scale)) for scale in SCALES]
    cells = np.dstack([colours, *detail]).reshape(GRID, SIDE // GRID, GRID, SIDE // GRID, -1).mean(axis=(1, 3))
    return np.concatenate([cells.ravel(), *(_shares(band) for band in np.split(colours, BANDS))])


def _shares(band: np.ndarray) -> np.ndarray:
    """Square roots of the shares of colours, then of lightnesses, among the pixels of a band (height, width, 3)."""
    tones, a, b = band.reshape(-1, 3).T
    tints = np.searchsorted(TINTS, a) * (len(TINTS) + 1) + np.searchsorted(TINTS, b)
    counts = [
        np.bincount(tints, minlength=(len(TINTS) + 1) ** 2),
        np.bincount(np.searchsorted(TONES, tones), minlength=len(TONES) + 1),
    ]
    return np.sqrt(np.concatenate(counts) / len(tones))
