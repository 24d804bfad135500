"""eGeMAPS, whose package may not be installed."""

import importlib.util

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError
from blemore_baselines.encoders.egemaps import EGeMAPS

needs_opensmile = pytest.mark.skipif(importlib.util.find_spec("opensmile") is None, reason="opensmile is not installed")


def sound(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.3, 0.3, samples).astype(np.float32)


def test_a_missing_package_is_reported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"opensmile is not installed\n    pip install 'blemore\[opensmile\]'"):
        EGeMAPS()


@needs_opensmile
@pytest.mark.parametrize("seconds", [0.1, 1, 30])
def test_one_row(seconds):
    clip = ArrayClip(audio=sound(round(seconds * 16_000)))
    features = EGeMAPS().encode(clip)
    assert features.shape == (1, 88) and features.dtype == np.float32
    assert np.array_equal(EGeMAPS().encode(clip), features)


@needs_opensmile
@pytest.mark.parametrize("samples", [1, 320, 800])
@pytest.mark.filterwarnings("error")
def test_a_sound_that_is_too_short_is_refused(samples):
    with pytest.raises(MediaError, match="too short for openSMILE") as caught:
        EGeMAPS().encode(ArrayClip(audio=sound(samples)))
    assert caught.value.kind == "too-short"


@needs_opensmile
def test_silence_is_finite():
    EGeMAPS().encode(ArrayClip(audio=np.zeros(16_000, np.float32)))


@needs_opensmile
def test_a_low_and_a_high_voice():
    """The first figure is the mean pitch, in semitones above 27.5 Hz."""
    at = np.arange(16_000) / 16_000
    for hertz in (110, 220):
        voice = sum(np.sin(2 * np.pi * hertz * k * at) / k for k in range(1, 10)).astype(np.float32) / 5
        assert EGeMAPS().encode(ArrayClip(audio=voice))[0, 0] == pytest.approx(12 * np.log2(hertz / 27.5), abs=0.3)


@needs_opensmile
def test_real_sounds(shared):
    for file in ("dog_audio.wav", "single_face.mp4", "no_face.mp4"):
        assert EGeMAPS().encode(Clip(shared / "media" / file)).shape == (1, 88)
