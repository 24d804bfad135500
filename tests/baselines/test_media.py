"""Media: real clips, and hostile ones made here."""

import os
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import soundfile

from blemore_baselines.clips import media
from blemore_baselines.clips.media import ArrayClip, Clip, MediaError

WIDTH, HEIGHT = 64, 48


def picture(number: int) -> np.ndarray:
    """A bright top left corner, a red bottom left corner, and a grey that encodes the number."""
    frame = np.full((HEIGHT, WIDTH, 3), 20 + 4 * (number % 40), np.uint8)
    frame[:16, :16] = 250
    frame[-16:, :16] = (250, 0, 0)
    return frame


def write_clip(path: Path, frames: int = 10, sound=None, rate: int = 44_100, times=None, rotation: int = 0) -> Path:
    """A real file: h264 at 25 fps (or at `times`, in ms) and AAC of `sound`, (channels, samples)."""
    options = {"movflags": "faststart"}  # with the index first, a truncated file can still be opened
    with av.open(str(path), "w", format="mov", options=options) as container:
        streams = []
        if frames:
            video = container.add_stream("libx264", rate=25, options={"crf": "10"})
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            if times:
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
            streams.append((video, video_frames(frames, times)))
        if sound is not None:
            layout = "stereo" if len(sound) == 2 else "mono"
            audio = container.add_stream("aac", rate=rate, layout=layout, bit_rate=192_000)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            streams.append((audio, [frame]))
        for stream, contents in streams:
            for content in contents:
                container.mux(stream.encode(content))
            container.mux(stream.encode())
    return path


def video_frames(count: int, times=None):
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
        frame.pts, frame.time_base = (times[number], Fraction(1, 1000)) if times else (number, Fraction(1, 25))
        yield frame


def tone(seconds: float, rate: int, hertz: float = 440, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def level_and_pitch(samples: np.ndarray) -> tuple[float, float]:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(np.sqrt(2 * np.mean(middle**2))), float(np.argmax(spectrum) * 16_000 / len(middle))


def opencv_frames(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return frames


# ---------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("name", ["single_face.mp4", "no_face.mp4"])
def test_frames_equal_opencv(shared, name):
    expected = opencv_frames(shared / "media" / name)
    frames = list(Clip(shared / "media" / name).frames())
    assert len(frames) == len(expected) > 50
    assert all(
        frame.dtype == np.uint8 and np.array_equal(frame, reference) for frame, reference in zip(frames, expected)
    )


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path, rotation):
    path = write_clip(tmp_path / "turned.mov", rotation=rotation)
    frames, expected = list(Clip(path).frames()), opencv_frames(path)
    assert frames[0].shape == ((HEIGHT, WIDTH, 3) if rotation == 180 else (WIDTH, HEIGHT, 3))
    assert np.array_equal(frames, expected)
    # Turned back by hand, the bright corner is at the top left again.
    assert np.rot90(frames[0], -rotation // 90)[:8, :8].mean() > 200


def test_times_of_a_variable_frame_rate(tmp_path):
    times = [0, 40, 80, 280, 300, 700]
    clip = Clip(write_clip(tmp_path / "vfr.mov", frames=6, times=times))
    frame_times = [time for time, _ in clip.timed_frames()]
    assert frame_times == pytest.approx([time / 1000 for time in times], abs=2e-3)


def test_frames_rate_and_id(tmp_path):
    clip = Clip(write_clip(tmp_path / "A901_ang_int1_ver1.mov"))
    assert clip.id == "A901_ang_int1_ver1" and clip.fps == 25
    frames = list(clip.frames())
    assert len(frames) == 10 and frames[0].shape == (HEIGHT, WIDTH, 3)
    assert np.abs(frames[9].astype(int) - picture(9)).mean() < 6
    assert len(list(clip.frames())) == 10, "a clip can be read again"


def test_one_frame(tmp_path):
    assert len(list(Clip(write_clip(tmp_path / "one.mov", frames=1)).frames())) == 1


def test_memory_does_not_grow_with_length(tmp_path):
    def peak(frames):
        clip = Clip(write_clip(tmp_path / f"{frames}.mov", frames=frames))
        tracemalloc.start()
        assert sum(1 for _ in clip.frames()) == frames
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(10)  # allocates what is allocated only once
    assert peak(400) < peak(40) + 2 * WIDTH * HEIGHT * 3


# ----------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
def test_sound_keeps_length_level_and_pitch(tmp_path, rate):
    clip = Clip(write_clip(tmp_path / "tone.mov", sound=tone(2, rate)[None], rate=rate))
    samples = clip.audio()
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - 32_000) <= 1100 * 16_000 / rate  # AAC works in packets of 1024 samples
    assert level_and_pitch(samples) == (pytest.approx(0.5, rel=0.02), pytest.approx(440, abs=2))


@pytest.mark.parametrize("channels, level", [((1, 1), 0.5), ((1, 0), 0.25), ((1, -1), 0.0)])
def test_stereo_becomes_the_mean_of_its_channels(tmp_path, channels, level):
    sound = np.outer(channels, tone(1, 44_100))
    in_mov = Clip(write_clip(tmp_path / "stereo.mov", sound=sound)).audio()
    soundfile.write(tmp_path / "stereo.wav", sound.T, 44_100)
    for samples in (in_mov, Clip(tmp_path / "stereo.wav").audio()):
        assert level_and_pitch(samples)[0] == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_sample_formats_have_one_scale(tmp_path, subtype):
    soundfile.write(tmp_path / "tone.wav", tone(1, 16_000), 16_000, subtype=subtype)
    (tmp_path / "tone.wav").rename(tmp_path / "read_by_pyav.mov")  # this suffix is not read by soundfile
    soundfile.write(tmp_path / "tone.wav", tone(1, 16_000), 16_000, subtype=subtype)
    by_soundfile, by_pyav = Clip(tmp_path / "tone.wav").audio(), Clip(tmp_path / "read_by_pyav.mov").audio()
    assert len(by_soundfile) == 16_000
    assert np.allclose(by_soundfile, by_pyav, atol=1e-6) and np.allclose(by_soundfile, tone(1, 16_000), atol=0.01)


def test_the_sampling_rate_is_that_of_decoded_frames(tmp_path, monkeypatch):
    """An HE-AAC stream may declare the rate of its core, which decoding doubles."""
    frame = av.AudioFrame.from_ndarray(tone(1, 48_000)[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate = 48_000
    monkeypatch.setattr(media, "_sound_stream", lambda *_: SimpleNamespace(rate=24_000, sample_rate=24_000))
    monkeypatch.setattr(media, "_decode", lambda *_: [frame])
    samples = Clip(write_clip(tmp_path / "clip.mov")).audio()
    assert len(samples) == 16_000 and level_and_pitch(samples)[1] == pytest.approx(440, abs=2)


def test_resampling_does_not_alias(tmp_path):
    soundfile.write(tmp_path / "high.flac", tone(1, 48_000, hertz=12_000), 48_000)
    assert level_and_pitch(Clip(tmp_path / "high.flac").audio())[0] < 1e-3


def test_real_sound(shared):
    dog = Clip(shared / "media" / "dog_audio.wav").audio()
    assert len(dog) == round(115_110 * 16_000 / 44_100) and 0.01 < np.abs(dog).max() <= 1
    assert 70_000 < len(Clip(shared / "media" / "no_face.mp4").audio()) / 0.9 < 71_000


# --------------------------------------------------------------------------------- named failures


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def read_all(clip: Clip):
    return list(clip.frames()), clip.audio()


@pytest.mark.parametrize("share", [0.15, 0.6, 0.97])
@pytest.mark.parametrize("read", [lambda clip: list(clip.frames()), lambda clip: clip.audio()], ids=["frames", "sound"])
def test_truncated(tmp_path, share, read):
    whole = write_clip(tmp_path / "cut.mov", frames=60, sound=tone(2.4, 44_100)[None])
    with pytest.raises(MediaError) as caught:
        read(Clip(cut(whole, share)))
    assert caught.value.kind == "truncated" and "cut.mov" in str(caught.value)


@pytest.mark.parametrize("suffix, kind", [(".wav", "truncated"), (".flac", "unreadable")])
def test_truncated_sound_file(tmp_path, suffix, kind):
    path = tmp_path / f"cut{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 16_000)
    with pytest.raises(MediaError) as caught:
        Clip(cut(path, 0.6)).audio()
    assert caught.value.kind == kind


def test_missing_index(tmp_path):
    path = tmp_path / "cut.mov"
    with av.open(str(path), "w", format="mov") as container:  # the index comes last
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in video_frames(30):
            container.mux(video.encode(frame))
        container.mux(video.encode())
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.7, 0.8, 0.9, 0.99):
        path.write_bytes(whole)
        with pytest.raises(MediaError) as caught:
            list(Clip(cut(path, share)).frames())
        assert caught.value.kind == "truncated"


def test_damaged_in_the_middle(tmp_path):
    path = write_clip(tmp_path / "damaged.mov", frames=60)
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 400] = os.urandom(400)
    path.write_bytes(content)
    try:  # a decoder may conceal the damage, but must not lose frames silently
        assert len(list(Clip(path).frames())) == 60
    except MediaError as error:
        assert error.kind == "unreadable"


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"", "empty-file"),
        (b"these are words\n" * 100, "unreadable"),
        (b"\0" * 5000, "unreadable"),
        (None, "missing-file"),
    ],
)
@pytest.mark.parametrize("suffix", [".mov", ".wav", ".flac"])
def test_no_media(tmp_path, content, kind, suffix):
    path = tmp_path / f"clip{suffix}"
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: Clip(path).audio(), lambda: list(Clip(path).frames()), lambda: Clip(path).fps):
        with pytest.raises(MediaError) as caught:
            read()
        assert caught.value.kind == kind


def test_a_folder_is_not_a_clip(tmp_path):
    with pytest.raises(MediaError) as caught:
        Clip(tmp_path).audio()
    assert caught.value.kind == "unreadable"


def test_missing_streams(tmp_path):
    silent = Clip(write_clip(tmp_path / "silent.mov"))
    with pytest.raises(MediaError) as caught:
        silent.audio()
    assert caught.value.kind == "no-audio" and len(list(silent.frames())) == 10
    unseen = Clip(write_clip(tmp_path / "unseen.mov", frames=0, sound=tone(1, 44_100)[None]))
    with pytest.raises(MediaError) as caught:
        list(unseen.frames())
    assert caught.value.kind == "no-video" and len(unseen.audio())


def test_wrong_suffix_does_no_harm(tmp_path):
    path = write_clip(tmp_path / "clip.mov", sound=tone(1, 44_100)[None])
    expected = Clip(path).audio()
    path.rename(tmp_path / "clip.wav")
    assert np.array_equal(Clip(tmp_path / "clip.wav").audio(), expected)


def test_array_clip():
    clip = ArrayClip(frames=np.zeros((3, 4, 5, 3), np.uint8), audio=np.ones(10))
    assert [time for time, _ in clip.timed_frames()] == [0, 0.04, 0.08] and clip.audio().dtype == np.float32
    for read, kind in (
        (lambda: list(ArrayClip().frames()), "no-video"),
        (lambda: ArrayClip().audio(), "no-audio"),
        (lambda: list(ArrayClip(frames=np.zeros((0, 4, 5, 3), np.uint8)).frames()), "no-frames"),
    ):
        with pytest.raises(MediaError) as caught:
            read()
        assert caught.value.kind == kind
