"""Reads a clip once for several encoders, and ahead of the model, without holding more than a few items.

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

AHEAD = 8  # items; a 1080p frame takes 6 MB
END = object()


class Reader:
    """One reader of a shared stream. Read it to its end or close it, or the other readers wait forever."""

    def __init__(self, ahead: int):
        self._queue: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(ahead)
        self.closed = False

    def put(self, item: object, error: BaseException | None = None) -> None:
        if not self.closed:
            self._queue.put((item, error))  # if it is closed at this moment, `close` makes room

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
    """Iterate over `source` once, in a thread, at most `ahead` items ahead of the slowest reader.

    Each reader gets every item. If `source` raises an error, each reader raises it after the last item.
    """
    outputs = [Reader(ahead) for _ in range(readers)]

    def run() -> None:
        error = None
        try:
            for item in source:
                for reader in outputs:
                    reader.put(item)
                if all(reader.closed for reader in outputs):
                    break
        except BaseException as raised:
            error = raised
        for reader in outputs:
            reader.put(END, error)

    threading.Thread(target=run, daemon=True).start()
    return outputs


class WatchedClip(Clip):
    """A clip that counts what was decoded (`frames_read`, `seconds_heard`) and keeps its sound."""

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
    """A clip whose frames come from a shared stream when first read, and everything else from the file."""

    def __init__(self, path: Path, frames: Reader):
        super().__init__(path)
        self._shared: Reader | None = frames

    def timed_frames(self) -> Iterator[tuple[float, np.ndarray]]:
        if self._shared is None:
            return super().timed_frames()
        frames, self._shared = self._shared, None
        return iter(frames)
