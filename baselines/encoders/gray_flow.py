"""Small grey frames and statistics of dense optical flow: a video encoder without weights.

A row is one frame: its appearance (a contrast-normalised thumbnail, with the brightness and contrast before
normalisation) and its motion since the previous frame (flow over a coarse grid, in shares of the frame's side). The
motion of the first frame is zero.
"""

from __future__ import annotations

import cv2
import numpy as np

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.base import Encoder

SIDE = 64  # pixels; of the grey frame on which flow is computed
THUMB = 16  # pixels; of the thumbnail
GRID = 4  # cells along a side
# Farneback's method: pyramid scale and levels, window, iterations, neighbourhood and its smoothing, flags.
FLOW = (0.5, 3, 11, 2, 5, 1.1, 0)


class GrayFlow(Encoder):
    name = "gray_flow"
    modality = "video"
    dim = THUMB * THUMB + 2 + 4 * GRID * GRID
    unit = "frame"
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
    """The thumbnail at mean 0 and deviation 1 (zeros for a uniform frame), then its mean and deviation, in [0, 1]."""
    thumb = cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    mean, deviation = thumb.mean(), thumb.std()
    return np.concatenate([(thumb - mean) / max(deviation, 1e-3), [mean, deviation]])


def _motion(before: np.ndarray | None, gray: np.ndarray) -> np.ndarray:
    """For each cell of the grid: the mean motion to the right and down, the mean and deviation of its length."""
    if before is None:
        return np.zeros(4 * GRID * GRID, np.float32)
    blank = np.zeros((*gray.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(before, gray, blank, *FLOW) / SIDE
    length = np.linalg.norm(flow, axis=2)
    fields = np.stack([flow[..., 0], flow[..., 1], length])
    cells = fields.reshape(3, GRID, SIDE // GRID, GRID, SIDE // GRID)
    return np.concatenate([cells.mean(axis=(2, 4)).ravel(), cells[2].std(axis=(1, 3)).ravel()])
