"""Small grey frames and statistics of dense optical flow: a video encoder without weights.

A row is one frame: how the face looks (a contrast-normalised thumbnail, and its brightness and contrast before
that) and how it moved since the frame before (flow over a coarse grid, in shares of the frame's side). The first
frame has nothing before it: its motion is zero.
"""

from __future__ import annotations

import cv2
import numpy as np

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.base import Encoder

SIDE = 64  # of the grey frame that flow is computed on, in pixels
THUMB = 16  # of the thumbnail
GRID = 4  # the flow's cells along a side
# Of Farneback's method: pyramid scale and levels, window, iterations, neighbourhood, its smoothing, flags.
FLOW = (0.5, 3, 11, 2, 5, 1.1, 0)


class GrayFlow(Encoder):
    name = "gray_flow"
    modality = "video"
    dim = THUMB * THUMB + 2 + 4 * GRID * GRID
    unit = "frame"
    rows = "one a frame"
    revision = "1"
    packages = ("opencv-python-headless",)

    def _encode(self, clip: Clip) -> np.ndarray:
        rows, before = [], None
        for frame in clip.frames():
            gray = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            rows.append(np.concatenate([_look(gray), _motion(before, gray)]))
            before = gray
        return np.stack(rows)


def _look(gray: np.ndarray) -> np.ndarray:
    """The thumbnail at mean 0 and deviation 1 (all zeros for an even frame), then its mean and deviation, in [0, 1]."""
    thumb = cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    mean, deviation = thumb.mean(), thumb.std()
    return np.concatenate([(thumb - mean) / max(deviation, 1e-3), [mean, deviation]])


def _motion(before: np.ndarray | None, gray: np.ndarray) -> np.ndarray:
    """For each cell of the grid: mean motion right and down, mean and deviation of its length."""
    if before is None:
        return np.zeros(4 * GRID * GRID, np.float32)
    blank = np.zeros((*gray.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(before, gray, blank, *FLOW) / SIDE
    length = np.linalg.norm(flow, axis=2)
    fields = np.stack([flow[..., 0], flow[..., 1], length])
    cells = fields.reshape(3, GRID, SIDE // GRID, GRID, SIDE // GRID)
    return np.concatenate([cells.mean(axis=(2, 4)).ravel(), cells[2].std(axis=(1, 3)).ravel()])
