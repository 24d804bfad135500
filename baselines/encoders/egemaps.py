"""eGeMAPS: 88 measures of a voice by openSMILE; one row per clip, and no weights.

The functionals of the set v02 (Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set", 2016), computed by the
package `opensmile` (github.com/audeering/opensmile-python, free for non-commercial research). It is an extra:
pip install 'blemore[opensmile]'. A sound that is too short to measure (about 50 ms) is refused.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np

from blemore.errors import Problem, ValidationError
from blemore_baselines.clips.media import SAMPLE_RATE, Clip, MediaError
from blemore_baselines.encoders.base import Encoder


class EGeMAPS(Encoder):
    name = "egemaps"
    modality = "audio"
    dim = 88
    unit = "clip"
    revision = "v02"
    packages = ("opensmile", "soxr")

    def __init__(self, preset: str | None = None):
        super().__init__(preset)
        if importlib.util.find_spec("opensmile") is None:
            raise ValidationError(
                Problem(
                    "missing-package",
                    f"encoder {self.name!r}",
                    "the package opensmile is not installed",
                    hint="pip install 'blemore[opensmile]'; it is free for non-commercial research only.",
                )
            )

    def _load(self) -> None:
        import opensmile

        self._smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

    def _encode(self, clip: Clip) -> np.ndarray:
        sound = clip.audio()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openSMILE warns of what it could not measure; see below
            row = self._smile.process_signal(sound, SAMPLE_RATE).to_numpy()
        if np.isnan(row).all():
            message = f"{len(sound) / SAMPLE_RATE:.4g} s of sound, too short for openSMILE; expected 0.1 s or more"
            raise MediaError("too-short", clip.path, message)
        return row
