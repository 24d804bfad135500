"""Video frames and sound of one clip, read as a stream. PyAV brings its own decoders: no ffmpeg program is needed.

Conventions:
- a frame is RGB, uint8, (height, width, 3), as a player shows it: rotated and mirrored by the file's display matrix,
  and widened if its pixels are not square; otherwise nothing is cropped or scaled;
- frames come one at a time, so a long clip takes no more memory than a short one; every frame that the file shows comes
  once, at its own time, even if the frame rate varies;
- sound is mono float32 at 16 kHz, full scale at ±1: the mean of the channels. (The decoder's own conversion to mono
  adds two channels with a weight of 0.707 each and would be √2 louder.) It starts at its own first sample; `offset`
  relates that to the first frame;
- if a file has several tracks of a kind, its default track is read, and a line on stderr says which; tracks that cannot
  be decoded do not count.

A clip that cannot be used raises `MediaError`. Its `kind` is one of
`missing-file`, `empty-file`, `unreadable`, `truncated`, `no-video`, `no-frames`, `no-audio`.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from itertools import groupby
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from av.sidedata.sidedata import Type as SideData

from blemore.errors import Problem, ValidationError
from blemore.labels import clip_id
from blemore_baselines.clips.whole import shortfall

SAMPLE_RATE = 16_000
SOUND_FILES = (".wav", ".flac")  # read by soundfile, which is exact and fast; others by PyAV
CUT_SHORT = "Was a download or a copy interrupted? Fetch the file again."


def spellings(name: str) -> list[str]:
    """A name in the Unicode forms that file systems use: é can be one character or two.

    >>> [len(form) for form in spellings("é")]
    [1, 2]
    """
    return [unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]


class MediaError(ValidationError):
    """A clip that cannot be used, and why."""

    def __init__(self, kind: str, where: object, message: str, hint: str | None = None):
        super().__init__(Problem(kind, str(where), message, hint=hint))

    @property
    def kind(self) -> str:
        return self.problems[0].code

    def __reduce__(self):  # errors cross from one process to another
        problem = self.problems[0]
        return MediaError, (problem.code, problem.where, problem.message, problem.hint)


class Clip:
    """One media file. It is opened only when needed, and each call reads it from the start.

    `path`: the file; `id`: its name without the media suffix.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.id = clip_id(self.path.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def fps(self) -> float:
        """The declared mean frame rate, in frames per second. Raises MediaError, also if there is none."""
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            rate = stream.average_rate or stream.guessed_rate
            if not rate:
                raise MediaError("unreadable", self.path, "its video has no frame rate; expected one", CUT_SHORT)
            return float(rate)

    def probe(self) -> float:
        """The clip's duration in seconds by its header, without decoding. Raises MediaError, also if video or sound is
        missing.
        """
        with _open(self.path) as container:
            _video_stream(container, self.path)
            _sound_stream(container, self.path)
            if not container.duration:
                raise MediaError(
                    "unreadable", self.path, "its header has no duration; expected more than 0 seconds", CUT_SHORT
                )
            return container.duration / av.time_base

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame in display order: RGB uint8 (H, W, 3). Raises MediaError."""
        return (frame for _, frame in self.timed_frames())

    def timed_frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """Every frame with its time in seconds since the first one. Raises MediaError."""
        first = None
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            for frame in _decode(container, stream, self.path):
                time = frame.time if frame.time is not None else first or 0.0
                if first is None:
                    first, orient = time, _orientation(frame, self.path)
                yield time - first, orient(_picture(frame, stream.sample_aspect_ratio))
        if first is None:
            raise MediaError(
                "no-frames", self.path, "its video stream holds no frame; expected at least one", CUT_SHORT
            )

    @property
    def offset(self) -> float:
        """The start of the sound in seconds after the first frame. Raises MediaError."""
        picture, sound = self._start(_video_stream), self._start(_sound_stream)
        return 0.0 if picture is None or sound is None else sound - picture

    def _start(self, choose: Callable) -> float | None:
        """The time of a stream's first decoded frame in seconds; None if it has none."""
        with _open(self.path) as container:
            first = next(_decode(container, choose(container, self.path), self.path), None)
            return None if first is None else first.time

    def audio(self) -> np.ndarray:
        """The whole sound: mono float32 (samples,) at 16 kHz. Raises MediaError."""
        runs = _read_sound_file(self.path) or _read_sound_stream(self.path)
        samples = np.concatenate([np.empty(0, np.float32), *(_resampled(*run) for run in runs)])
        if not samples.size:
            raise MediaError(
                "no-audio", self.path, "its sound stream holds no sample; expected at least one", CUT_SHORT
            )
        if not np.isfinite(samples).all():
            raise MediaError("unreadable", self.path, "its sound holds NaN or infinite samples; expected finite ones")
        return samples


class ArrayClip(Clip):
    """A clip from arrays, without a file.

    `frames`: (T, H, W, 3) uint8 or None; `audio`: (samples,) mono at 16 kHz or None.
    """

    def __init__(
        self, frames: np.ndarray | None = None, audio: np.ndarray | None = None, fps: float = 25.0, id: str = "arrays"
    ):
        super().__init__(id)
        self._frames, self._audio, self._fps = frames, audio, fps

    @property
    def fps(self) -> float:
        return self._fps

    def timed_frames(self) -> Iterator[tuple[float, np.ndarray]]:
        if self._frames is None:
            raise MediaError("no-video", self.id, "no video stream")
        if not len(self._frames):
            raise MediaError("no-frames", self.id, "no frame; expected at least one")
        yield from ((number / self._fps, frame) for number, frame in enumerate(self._frames))

    @property
    def offset(self) -> float:
        return 0.0

    def audio(self) -> np.ndarray:
        if self._audio is None or not len(self._audio):
            raise MediaError("no-audio", self.id, "no audio stream")
        return np.asarray(self._audio, np.float32)


# ------------------------------------------------------------------------------- reading files


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    """The opened container. Every error of the decoder or the file system in the block becomes a MediaError."""
    try:
        if path.stat().st_size == 0:
            raise MediaError("empty-file", path, "the file is empty (0 bytes)", CUT_SHORT)
        if message := shortfall(path):
            raise MediaError("truncated", path, message, CUT_SHORT)
        with av.open(str(path)) as container:
            if any(stream.codec_context and not stream.sample_rate for stream in container.streams.audio):
                raise _unreadable(path, ValueError("its sound has no sample rate"))  # no sound file, despite its name
            yield container
    except MediaError:
        raise
    except FileNotFoundError:
        raise MediaError("missing-file", path, "there is no such file") from None
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> MediaError:
    reason = getattr(error, "strerror", None) or str(error)
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return MediaError("unreadable", path, f"cannot be opened: {reason}", "Check the path and its permissions.")
    if head[4:8] in (b"ftyp", b"wide", b"mdat", b"moov"):
        message = f"starts like a media file, but cannot be read to the end: {reason}"
        return MediaError("truncated", path, message, CUT_SHORT)
    return MediaError(
        "unreadable",
        path,
        f"not a readable media file: {reason}",
        "Is it really a media file? Does it play?",
    )


def _video_stream(container, path: Path):
    # The cover picture of a sound file is a video stream, too.
    covers = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise MediaError("no-video", path, "has no video stream", "Video features need a file with video.")
    stream = _default(streams, path)
    stream.thread_type = "SLICE"  # frame threads would delay and buffer frames
    return stream


def _sound_stream(container, path: Path):
    if not container.streams.audio:
        raise MediaError("no-audio", path, "has no sound stream", "Sound features need a file with sound.")
    return _default(container.streams.audio, path)


def _default(streams: Sequence, path: Path):
    """The file's default stream, or the first, among those that can be decoded. Raises MediaError: there is none."""
    tracks = [stream for stream in streams if stream.codec_context]
    if not tracks:
        message = f"there is no decoder for the format of its {streams[0].type}"
        raise MediaError("unreadable", path, message, "Convert it, for instance to H.264 and AAC.")
    default = next((stream for stream in tracks if stream.disposition & av.stream.Disposition.default), tracks[0])
    if len(tracks) > 1:
        _say_which(path, default.type, tracks.index(default) + 1, len(tracks))
    return default


@cache  # a file is opened several times; print this once
def _say_which(path: Path, kind: str, number: int, count: int) -> None:
    print(f"note: {path}: has {count} {kind} tracks; reading number {number}", file=sys.stderr)


def _decode(container, stream, path: Path) -> Iterator:
    """The decoded frames of one stream. Raises MediaError, also if the decoder concealed damage in a frame."""
    number = 0
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                message = f"the {stream.type} is damaged in frame {number + 1}"
                raise MediaError("unreadable", path, message, CUT_SHORT)
            yield frame
            number += 1
    except av.error.FFmpegError as error:
        message = f"the {stream.type} cannot be decoded after frame {number}: {error.strerror}"
        raise MediaError("unreadable", path, message, CUT_SHORT) from None


Run = tuple[list[np.ndarray], int]  # parts of the samples, and their rate


def _resampled(parts: list[np.ndarray], rate: int) -> np.ndarray:
    samples = np.concatenate([np.empty(0, np.float32), *parts])
    return (
        samples if rate == SAMPLE_RATE or not samples.size else soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    )


def _read_sound_stream(path: Path) -> list[Run]:
    """One run per stretch of constant rate. The rate is the frames': a stream can declare half of it (HE-AAC)."""
    with _open(path) as container:
        frames = _decode(container, _sound_stream(container, path), path)
        return [
            ([_mono(frame) for frame in run], rate) for rate, run in groupby(frames, lambda frame: frame.sample_rate)
        ]


def _orientation(frame, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function that rotates and mirrors a stream's frames for display, by the matrix in its first frame.

    Call it for one frame only: reading a frame's side data keeps the frame in memory until the garbage collector runs.
    """
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return np.asarray
    # On the screen, one step to the right in the file is (a, b), and one step down is (c, d).
    a, b, _, c, d = np.sign(np.frombuffer(matrix, np.int32)[:5])
    if (a and d) and not (b or c):
        return lambda picture: np.ascontiguousarray(picture[::d, ::a])
    if (b and c) and not (a or d):
        return lambda picture: np.ascontiguousarray(picture.transpose(1, 0, 2)[::b, ::c])
    raise MediaError("unreadable", path, "its rotation is not a multiple of 90°", "Convert it to upright frames.")


def _picture(frame, pixel_shape: Fraction | None) -> np.ndarray:
    """A decoded frame as RGB (height, width, 3), in its true proportions.

    pixel_shape: a pixel's width over its height
    """
    width = round(frame.width * (pixel_shape or 1))
    return frame.to_ndarray(format="rgb24", width=max(1, width), height=frame.height)


def _mono(frame) -> np.ndarray:
    """The mean of a decoded frame's channels, float32 within ±1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) - 128
        scale = 2**7
    else:
        scale = 1 if samples.dtype.kind == "f" else 2 ** (8 * samples.dtype.itemsize - 1)
    return (samples.mean(axis=0, dtype=np.float64) / scale).astype(np.float32)


def _read_sound_file(path: Path) -> list[Run] | None:
    """The sound of a .wav or .flac file, read by soundfile; None for any other file, whatever its name."""
    if path.suffix.lower() not in SOUND_FILES or not path.is_file():
        return None
    try:
        with soundfile.SoundFile(path) as file:
            # libsndfile silently corrects a data size that exceeds the file; only its log says so.
            cut = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
            expected, rate = file.frames, file.samplerate
            parts = [
                block.mean(axis=1, dtype=np.float64).astype(np.float32)
                for block in file.blocks(2**16, dtype="float32", always_2d=True)
            ]
    except soundfile.LibsndfileError:
        return None
    # Recorders that write as they record leave the size at its maximum.
    if cut and int(cut[2]) < int(cut[1]) < 2**31 - 1:
        raise MediaError("truncated", path, f"{int(cut[2]):,} bytes of sound; expected {int(cut[1]):,}", CUT_SHORT)
    if sum(map(len, parts)) < expected:
        raise MediaError("truncated", path, f"{sum(map(len, parts)):,} samples; expected {expected:,}", CUT_SHORT)
    return [(parts, rate)]
