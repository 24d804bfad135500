"""The contract of encoders, for those without weights; the others have their own tests."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError
from blemore_baselines.encoders import ENCODERS as REGISTRY
from blemore_baselines.encoders import create, encoder_class
from blemore_baselines.encoders.base import Encoder

# eGeMAPS needs a package that may be absent.
ENCODERS = [name for name in REGISTRY if encoder_class(name).weights is None and name != "egemaps"]
VIDEO = [name for name in ENCODERS if encoder_class(name).modality == "video"]
AUDIO = [name for name in ENCODERS if encoder_class(name).modality == "audio"]
SECONDS = [1 / 16_000, 0.02, 0.0201, 1, 5, 30]
# The documented number of rows, from the number of frames or samples.
ROWS = {
    "gray_flow": lambda frames: frames,
    "looks": lambda frames: frames,
    "logmel": lambda samples: 1 + samples // 320,
}


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A soft blob that moves from left to right over noise."""
    rng = np.random.default_rng(frames)
    y, x = np.mgrid[:height, :width]
    blob = [np.exp(-((x - 10 - n % 40) ** 2 + (y - 20) ** 2) / 60) for n in range(frames)]
    return (np.stack(blob)[..., None] * 180 + rng.uniform(0, 60, (height, width, 3))).astype(np.uint8)


def sound(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).uniform(-0.3, 0.3, samples).astype(np.float32)


def cases():
    assert set(ROWS) == set(ENCODERS) and VIDEO and AUDIO, "every encoder needs an entry in ROWS"
    yield from ((name, frames) for name in VIDEO for frames in (1, 15, 16, 17, 200))
    yield from ((name, round(seconds * 16_000)) for name in AUDIO for seconds in SECONDS)


@pytest.mark.parametrize("name, length", list(cases()))
def test_contract(name, length):
    encoder = create(name)
    clip = ArrayClip(frames=moving(length)) if name in VIDEO else ArrayClip(audio=sound(length))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = encoder.encode(clip)
    assert features.dtype == np.float32 and features.shape == (ROWS[name](length), encoder.dim)
    assert np.isfinite(features).all()
    assert np.array_equal(encoder.encode(clip), features), "the same when repeated"
    encoder.encode(ArrayClip(frames=moving(3), audio=sound(700)))
    assert np.array_equal(encoder.encode(clip), features), "the same after another clip"
    assert np.array_equal(create(name).encode(clip), features), "the same from a new encoder"


@pytest.mark.parametrize("name", REGISTRY)
def test_declares_what_it_is(name):
    encoder = encoder_class(name)
    assert encoder.name == name and encoder.modality in ("video", "audio", "video+audio") and encoder.dim > 0
    assert encoder.unit and encoder.rows and encoder.revision and encoder.presets
    assert (encoder.weights is None) == (encoder.licence is None)


@pytest.mark.parametrize("name", ENCODERS)
def test_extremes_are_finite(name):
    for value in (0, 255):
        clip = ArrayClip(frames=np.full((3, 20, 30, 3), value, np.uint8), audio=np.full(4000, value / 255))
        assert np.isfinite(create(name).encode(clip)).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_missing_stream_is_reported(name):
    with pytest.raises(MediaError) as caught:
        create(name).encode(ArrayClip())
    assert caught.value.kind == ("no-video" if name in VIDEO else "no-audio")


def test_real_clips(shared):
    for file in ("single_face.mp4", "no_face.mp4"):
        clip = Clip(shared / "media" / file)
        assert len(create("gray_flow").encode(clip)) == sum(1 for _ in clip.frames())
        assert len(create("logmel").encode(clip)) == 1 + len(clip.audio()) // 320


def test_gray_flow_sees_direction_and_stillness():
    flow = slice(-64, None)
    still = create("gray_flow").encode(ArrayClip(frames=np.repeat(moving(1), 5, axis=0)))
    assert np.allclose(still[:, flow], 0, atol=1e-3)
    rightward = create("gray_flow").encode(ArrayClip(frames=moving(10, 64, 64)))
    leftward = create("gray_flow").encode(ArrayClip(frames=moving(10, 64, 64)[::-1]))
    assert rightward[1:, -64:-48].sum() > 0.1 and leftward[1:, -64:-48].sum() < -0.1
    assert not rightward[0, flow].any(), "the first frame has no motion"


def test_the_thumbnail_of_gray_flow_ignores_brightness():
    frames = moving(2)
    bright, dark = (create("gray_flow").encode(ArrayClip(frames=f))[:, :258] for f in (frames, frames // 2))
    assert np.allclose(bright[:, :256], dark[:, :256], atol=0.1)
    assert dark[0, 256] == pytest.approx(bright[0, 256] / 2, abs=0.01)


@pytest.mark.parametrize("hertz", [100, 440, 3000])
def test_logmel_finds_a_tone(hertz):
    features = create("logmel").encode(ArrayClip(audio=0.5 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)))
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    expected = (mel(hertz) - mel(30)) / (mel(8000) - mel(30)) * 81 - 1
    assert abs(features[25].argmax() - expected) <= 1


def test_logmel_pads_a_clip_with_silence():
    features = create("logmel").encode(ArrayClip(audio=sound(16_000)))
    assert np.exp(features[0]).sum() < 0.8 * np.exp(features[1:-1]).sum(axis=1).min()


def test_doubling_the_level_adds_log_4_to_logmel():
    quiet, loud = (create("logmel").encode(ArrayClip(audio=level * sound(8000))) for level in (0.5, 1))
    assert np.allclose(loud - quiet, np.log(4), atol=1e-3)


def test_importing_the_registry_is_light():
    code = "import sys, blemore_baselines.encoders; print(*{'torch', 'cv2', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_unknown_names_are_refused():
    with pytest.raises(ValidationError, match="gray_flow, looks, logmel"):
        create("grey_flow")
    with pytest.raises(ValidationError, match="no preset 'published'.*reference"):
        create("logmel", "published")


class Wrong(Encoder):
    name, modality, dim, unit, rows, revision = "wrong", "audio", 3, "clip", "one", "1"

    def __init__(self, result):
        super().__init__()
        self.result, self.loads = result, 0

    def _load(self):
        self.loads += 1

    def _encode(self, clip):
        return self.result


@pytest.mark.parametrize("result, match", [
    (np.zeros((2, 4)), "shape"), (np.zeros(3), "shape"), (np.zeros((0, 3)), "shape"),
    (np.array([[0, 1, 2], [0, np.nan, 1]]), "1 of 2 rows, first in row 1"),
])  # fmt: skip
def test_features_that_differ_from_the_declaration_are_refused(result, match):
    with pytest.raises(ValidationError, match=match):
        Wrong(result).encode(ArrayClip())


def test_loads_once():
    encoder = Wrong(np.zeros((2, 3)))
    assert encoder.loads == 0
    for _ in range(3):
        encoder.encode(ArrayClip())
    assert encoder.loads == 1
