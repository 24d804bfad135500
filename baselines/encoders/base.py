"""The one interface of every encoder: a clip in, float32 (T, dim) out.

An encoder declares what it is as class attributes, loads its weights once (in the process that uses them:
an unloaded encoder is small and can be sent to another process) and then encodes clip after clip. The
same clip gives the same features, whatever was encoded before it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore.labels import MEDIA_SUFFIXES
from blemore_baselines.clips.media import Clip


class Encoder(ABC):
    """An encoder; a subclass states the attributes below and fills `_encode`, and `_load` where it has weights."""

    name: str  # as in the registry, and the name of its feature folder
    modality: str  # "video", "audio" or "video+audio"
    dim: int  # the number of columns
    unit: str  # what one row is: "frame", "16 frames", "20 ms"
    rows: str  # how many rows a clip gives
    revision: str  # of the weights, or of the computation where there are none; other revision, other features
    weights: str | None = None  # where they come from; None: needs none
    licence: str | None = None  # of the weights
    precision: str = "fp32"  # of the arithmetic
    presets: tuple[str, ...] = ("reference",)  # the first is the default; "published": as the challenge's own features
    suffixes: tuple[str, ...] = MEDIA_SUFFIXES  # of the files that it reads
    packages: tuple[str, ...] = ()  # whose versions can change the features; they are noted beside them

    def __init__(self, preset: str | None = None):
        self.preset = self.presets[0] if preset is None else preset
        self._loaded = False
        if self.preset not in self.presets:
            message = f"has no preset {preset!r}; expected one of {', '.join(self.presets)}"
            raise ValidationError(Problem("unknown-preset", f"encoder {self.name!r}", message))

    def load(self) -> None:
        """Load the weights, once; `encode` does it where it was not done."""
        if not self._loaded:
            self._load()
            self._loaded = True

    def encode(self, clip: Clip) -> np.ndarray:
        """The features of a clip: float32 (T, dim), T ≥ 1, finite.

        Raises MediaError: the clip cannot be read; ValidationError: its features are not what was declared.
        """
        self.load()
        features = np.ascontiguousarray(self._encode(clip), dtype=np.float32)
        problem = None
        if features.ndim != 2 or features.shape[1] != self.dim or not len(features):
            message = f"gave the shape {features.shape}; expected (1 or more, {self.dim})"
            problem = Problem("wrong-shape", self.name, message, clip.id)
        elif not np.isfinite(features).all():
            rows = np.flatnonzero(~np.isfinite(features).all(axis=1))
            message = f"gave NaN or infinity in {len(rows)} of {len(features)} rows, first in row {rows[0]}"
            problem = Problem("not-finite", self.name, message, clip.id)
        if problem:
            raise ValidationError(problem)
        return features

    def _load(self) -> None:
        pass

    @abstractmethod
    def _encode(self, clip: Clip) -> np.ndarray: ...
