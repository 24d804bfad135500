"""Video frames and sound of one clip, read as a stream. No ffmpeg program is needed: PyAV carries its own decoders.

Conventions:
- a frame is RGB, uint8, (height, width, 3), upright: rotation metadata is applied, nothing is cropped or scaled;
- frames come one at a time, so a long clip takes no more memory than a short one; every frame that the file
  shows comes once, at its own time, whatever the frame rate does in between;
- sound is mono float32 at 16 kHz, full scale at ±1: the mean of the channels. (The decoder's own way to mono
  adds two channels with a weight of 0.707 each and would be √2 louder.)

A clip that cannot be used raises `MediaError`, whose `kind` is one of
`missing-file`, `empty-file`, `unreadable`, `truncated`, `no-video`, `no-frames`, `no-audio`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from blemore.errors import Problem, ValidationError
from blemore.labels import clip_id

SAMPLE_RATE = 16_000
SOUND_FILES = (".wav", ".flac")  # read by soundfile, which is exact and quick; all else by PyAV
CUT_SHORT = "Was a download or a copy interrupted? Fetch the file again."


class MediaError(ValidationError):
    """A clip that cannot be used, and why."""

    def __init__(self, kind: str, where: object, message: str, hint: str | None = None):
        super().__init__(Problem(kind, str(where), message, hint=hint))

    @property
    def kind(self) -> str:
        return self.problems[0].code

    def __reduce__(self):  # so that it can cross from one process to another
        problem = self.problems[0]
        return MediaError, (problem.code, problem.where, problem.message, problem.hint)


class Clip:
    """One media file. Nothing is opened before it is asked for; each call reads the file from its start.

    `path`: the file; `id`: its name without the media suffix.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.id = clip_id(self.path.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def fps(self) -> float:
        """The mean number of frames a second that the file declares. Raises MediaError, also where it declares none."""
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            rate = stream.average_rate or stream.guessed_rate
            if not rate:
                raise MediaError("unreadable", self.path, "its picture has no frame rate; expected one", CUT_SHORT)
            return float(rate)

    def probe(self) -> float:
        """How many seconds the clip lasts, by its header: nothing is decoded.

        Raises MediaError, too, where picture or sound is missing.
        """
        with _open(self.path) as container:
            _video_stream(container, self.path)
            _sound_stream(container, self.path)
            if not container.duration:
                raise MediaError(
                    "unreadable", self.path, "its header tells no duration; expected more than 0 seconds", CUT_SHORT
                )
            return container.duration / av.time_base

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame in showing order: RGB uint8 (H, W, 3). Raises MediaError."""
        return (frame for _, frame in self.timed_frames())

    def timed_frames(self) -> Iterator[tuple[float, np.ndarray]]:
        """Every frame with its time in seconds since the first one. Raises MediaError."""
        first = None
        with _open(self.path) as container:
            stream = _video_stream(container, self.path)
            for frame in _decode(container, stream, self.path):
                time = frame.time if frame.time is not None else first or 0.0
                first = time if first is None else first
                upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # degrees, counter-clockwise
                yield time - first, np.ascontiguousarray(upright)
        if first is None:
            raise MediaError(
                "no-frames", self.path, "its video stream holds no frame; expected at least one", CUT_SHORT
            )

    def audio(self) -> np.ndarray:
        """The whole sound: mono float32 (samples,) at 16 kHz. Raises MediaError."""
        parts, rate = _read_sound_file(self.path) or _read_sound_stream(self.path)
        samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
        if not samples.size:
            raise MediaError(
                "no-audio", self.path, "its sound stream holds no sample; expected at least one", CUT_SHORT
            )
        if not np.isfinite(samples).all():
            raise MediaError("unreadable", self.path, "its sound holds NaN or infinite samples; expected finite ones")
        return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")


class ArrayClip(Clip):
    """A clip from arrays: what an encoder sees can be given without a file.

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

    def audio(self) -> np.ndarray:
        if self._audio is None or not len(self._audio):
            raise MediaError("no-audio", self.id, "no audio stream")
        return np.asarray(self._audio, np.float32)


# ------------------------------------------------------------------------------- reading files


@contextmanager
def _open(path: Path) -> Iterator[av.container.InputContainer]:
    """The opened container. Whatever goes wrong inside the block becomes a MediaError."""
    try:
        if path.stat().st_size == 0:
            raise MediaError("empty-file", path, "the file is empty (0 bytes)", CUT_SHORT)
        _check_length(path)
        with av.open(str(path)) as container:
            if any(not stream.sample_rate for stream in container.streams.audio):
                raise _unreadable(path, ValueError("its sound has no sample rate"))  # it only bears a sound file's name
            yield container
    except MediaError:
        raise
    except FileNotFoundError:
        raise MediaError("missing-file", path, "there is no such file") from None
    except (av.error.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None


def _check_length(path: Path) -> None:
    """Refuse a .mov or .mp4 that ends before its last part does: decoders make less of it, and some without a word.

    The file is a row of parts, each beginning with its size (4 bytes, or 8 more where that says 1) and its name.
    """
    length, at = path.stat().st_size, 0
    with open(path, "rb") as file:
        while at + 8 <= length:
            file.seek(at)
            head = file.read(16)
            size, name = int.from_bytes(head[:4], "big"), head[4:8]
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
            if name in (b"mdat", b"moov", b"moof") and at + size > length:
                raise MediaError("truncated", path, f"{length:,} bytes; expected at least {at + size:,}", CUT_SHORT)
            if size < 8 or not name.isalnum():  # the last part, or not such a file at all
                return
            at += size


def _unreadable(path: Path, error: Exception) -> MediaError:
    reason = getattr(error, "strerror", None) or str(error)
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return MediaError("unreadable", path, f"cannot be opened: {reason}", "Check the path and its permissions.")
    if head[4:8] in (b"ftyp", b"wide", b"mdat", b"moov"):
        message = f"begins like a media file, but cannot be read to its end: {reason}"
        return MediaError("truncated", path, message, CUT_SHORT)
    return MediaError(
        "unreadable",
        path,
        f"not a media file that can be read: {reason}",
        "Is it another kind of file under this name? Does it play?",
    )


def _video_stream(container, path: Path):
    # The cover picture of a sound file comes as a video stream, too.
    covers = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        raise MediaError("no-video", path, "has no video stream", "Video features need a file with a picture.")
    streams[0].thread_type = "SLICE"  # frame threads would delay and buffer frames
    return streams[0]


def _sound_stream(container, path: Path):
    if not container.streams.audio:
        raise MediaError("no-audio", path, "has no sound stream", "Sound features need a file with sound.")
    return container.streams.audio[0]


def _decode(container, stream, path: Path) -> Iterator:
    """The decoded frames of one stream."""
    number = 0
    try:
        for frame in container.decode(stream):
            yield frame
            number += 1
    except av.error.FFmpegError as error:
        message = f"the {stream.type} cannot be decoded after frame {number}: {error.strerror}"
        raise MediaError("unreadable", path, message, CUT_SHORT) from None


def _read_sound_stream(path: Path) -> tuple[list[np.ndarray], int]:
    with _open(path) as container:
        stream = _sound_stream(container, path)
        parts, rate = [], SAMPLE_RATE
        for frame in _decode(container, stream, path):
            rate = frame.sample_rate  # the frame's own: the stream can declare half of it (HE-AAC)
            parts.append(_mono(frame))
        return parts, rate


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


def _read_sound_file(path: Path) -> tuple[list[np.ndarray], int] | None:
    """A .wav or .flac by soundfile; None for any other file, also for one that only bears such a name."""
    if path.suffix.lower() not in SOUND_FILES or not path.is_file():
        return None
    try:
        with soundfile.SoundFile(path) as file:
            # libsndfile corrects a data size that goes beyond the file without a word, save in its log.
            cut = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
            expected, rate = file.frames, file.samplerate
            parts = [
                block.mean(axis=1, dtype=np.float64).astype(np.float32)
                for block in file.blocks(2**16, dtype="float32", always_2d=True)
            ]
    except soundfile.LibsndfileError:
        return None
    # Recorders that write as they go leave the size at its maximum.
    if cut and int(cut[2]) < int(cut[1]) < 2**31 - 1:
        raise MediaError("truncated", path, f"{int(cut[2]):,} bytes of sound; expected {int(cut[1]):,}", CUT_SHORT)
    if sum(map(len, parts)) < expected:
        raise MediaError("truncated", path, f"{sum(map(len, parts)):,} samples; expected {expected:,}", CUT_SHORT)
    return parts, rate
