"""Log-mel spectrogram: an audio encoder without weights.

There is a row every 20 ms (0, 20, 40 … ms), from a window of 40 ms centred on that time; silence is added before the
start and after the end. A row holds the natural logarithm of the power in 80 mel bands from 30 Hz to 8 kHz. A clip of n
samples at 16 kHz gives 1 + n // 320 rows, even if it is shorter than a window.
"""

from __future__ import annotations

import numpy as np
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from blemore_baselines.clips.media import SAMPLE_RATE, Clip
from blemore_baselines.encoders.base import Encoder

WINDOW = 640  # samples: long enough to tell the harmonics of a low voice apart
HOP = 320
FFT = 1024
BANDS = 80
FLOOR = 1e-6  # of the power, before the logarithm: about 100 dB below a full-scale tone


class LogMel(Encoder):
    name = "logmel"
    modality = "audio"
    dim = BANDS
    unit = "20 ms"
    rows = "1 + samples // 320, at 16 kHz"
    revision = "1"
    packages = ("transformers", "soxr")

    def _load(self) -> None:
        self._window = window_function(WINDOW, "hann")
        self._filters = mel_filter_bank(
            num_frequency_bins=FFT // 2 + 1,
            num_mel_filters=BANDS,
            min_frequency=30.0,
            max_frequency=8000.0,
            sampling_rate=SAMPLE_RATE,
            mel_scale="htk",
        )

    def _encode(self, clip: Clip) -> np.ndarray:
        # Padded with zeros: mirroring would fail for very short sounds.
        power = spectrogram(
            clip.audio(),
            self._window,
            frame_length=WINDOW,
            hop_length=HOP,
            fft_length=FFT,
            power=2.0,
            center=True,
            pad_mode="constant",
            mel_filters=self._filters,
            mel_floor=0.0,
            dtype=np.dtype(np.float64),
        )
        return np.log(np.maximum(power.T, FLOOR))
