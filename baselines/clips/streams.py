"""Reading a clip once for several encoders, and ahead of whoever computes, without holding more than a few items.

>>> [list(reader) for reader in share(range(3), readers=1)]
[[0, 1, 2]]
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from blemore_baselines.clips.media import SAMPLE_RATE, Clip

AHEAD = 8  # items; a frame of 1080p takes 6 MB
END = object()


class Reader:
    """One of the readers of a shared stream. It must be read to its end or closed, or the others wait for it."""

    def __init__(self, ahead: int):
        self._queue: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(ahead)
        self.closed = False

    def put(self, item: object, error: BaseException | None = None) -> None:
        if not self.closed:
            self._queue.put((item, error))  # if it is closed just now, `close` makes room

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if self.closed:
            raise StopIteration
        item, error = self._queue.get()
        if item is not END:
            return item
        self.closed = True
        raise error or StopIteration

    def close(self) -> None:
        self.closed = True
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()


def share(source: Iterable, readers: int = 1, ahead: int = AHEAD) -> list[Reader]:
    """Iterate `source` once, in a thread, at most `ahead` items before the slowest of the readers.

    Each reader gets every item, then the error in which `source` ended, if it did.
    """
    every = [Reader(ahead) for _ in range(readers)]

    def run() -> None:
        error = None
        try:
            for item in source:
                for reader in every:
                    reader.put(item)
                if all(reader.closed for reader in every):
                    break
        except BaseException as raised:  # raised where the items are awaited
            error = raised
        for reader in every:
            reader.put(END, error)

    threading.Thread(target=run, daemon=True).start()
    return every


class WatchedClip(Clip):
    """A clip that is decoded once, and counts what was decoded: `frames_read`, `seconds_heard`."""

    frames_read, seconds_heard = 0, 0.0

    def timed_frames(self) -> Iterator[tuple[float, np.ndarray]]:
        for item in super().timed_frames():
            self.frames_read += 1
            yield item

    @cached_property
    def _sound(self) -> np.ndarray:
        sound = super().audio()
        self.seconds_heard = len(sound) / SAMPLE_RATE
        return sound

    def audio(self) -> np.ndarray:
        return self._sound


class StreamedClip(Clip):
    """A clip whose frames come from a shared stream, the first time that they are asked for; all else from the file."""

    def __init__(self, path: Path, frames: Reader):
        super().__init__(path)
        self._shared: Reader | None = frames

    def timed_frames(self) -> Iterator[tuple[float, np.ndarray]]:
        if self._shared is None:
            return super().timed_frames()
        frames, self._shared = self._shared, None
        return iter(frames)
