"""What the encoders with torch models share: weights, device, precision, batches.

A clip is turned into *items*, each one input of the model: a frame, 16 frames, or a whole sound. Items are made one at
a time while the clip is decoded (`items`), and encoded in batches (`forward`); a batch may hold items of several clips.
How items are batched does not change a row by more than rounding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np
import torch

from blemore_baselines.clips.media import Clip
from blemore_baselines.clips.streams import share
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.encoders.weights import digest, find

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TorchEncoder(Encoder, abstract=True):
    """An encoder with a torch model; a subclass fills `_load` (sets `self.model`), `items` and `forward`.

    weights:   a hub id, a local folder or a local file; None: the encoder's own source
    device:    "auto" takes CUDA where there is one
    precision: "fp32" or "bf16", of the model's arithmetic; rows are float32 always
    """

    weights: str = "its authors' page"  # a hub id; a page; or a URL that ends in `file`
    file: str | None = None  # the checkpoint's file name; None: `weights` is a hub id
    computation = "1"  # raised when the same weights come to give other features
    batch_size = 32  # items; 1 where items differ in length
    packages: tuple[str, ...] = ("torch", "transformers")

    def __init__(
        self,
        preset: str | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "fp32",
    ):
        super().__init__(preset)
        self.weights_path = weights
        self._device = device
        self.precision, self.dtype = precision, PRECISIONS[precision]
        self.model: torch.nn.Module

    def __getstate__(self) -> dict:
        """Without the model: another process loads its own, on its own device."""
        own = {name: value for name, value in self.__dict__.items() if name not in ("model", "device", "_gathered")}
        return {**own, "_loaded": False}

    @cached_property
    def device(self) -> str:
        if self._device != "auto":
            return self._device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def checkpoint(self) -> Path:
        """The file or folder of the weights. Raises FileError: they are not there."""
        return find(self)

    @cached_property
    def revision(self) -> str:
        """Of the computation and of the very weights. Raises FileError: they are not there."""
        return f"{self.computation}-{digest(self.checkpoint)}"

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """The model's inputs from a clip's frames, its sound or both."""

    @abstractmethod
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Items (B, …) on the device, in the encoder's precision, to rows (B, dim); a whole sound to (1, T, dim)."""

    @torch.inference_mode()
    def encode_items(self, items: list[np.ndarray]) -> np.ndarray:
        """Rows (B, dim) of a batch of items, or (T, dim) of one whole sound: float32."""
        # Small pixels travel faster than large numbers: to the device first.
        batch = torch.from_numpy(np.stack(items)).to(self.device).to(self.dtype)
        return self.forward(batch).float().cpu().numpy().reshape(-1, self.dim)

    def _encode(self, clip: Clip) -> np.ndarray:
        encode = self.encode_items if self.batch_size == 1 or self.device == "cpu" else self._gathered
        [items] = share(self.items(clip), ahead=self.batch_size)  # read while the batch before is encoded
        with closing(items):
            return np.concatenate([encode(batch) for batch in iter(lambda: list(islice(items, self.batch_size)), [])])

    @cached_property
    def _gathered(self) -> Gathered:
        return Gathered(self.encode_items, self.batch_size)


class Gathered:
    """Fills batches with items of clips that are encoded side by side, each in a thread of its own.

    A GPU does a full batch in little more than the time of one item. Batches always have the same size (the last item
    stands in for those that lack), so that the arithmetic on an item does not depend on what came with it.
    """

    WAIT = 0.01  # seconds for another item

    def __init__(self, encode: Callable[[list[np.ndarray]], np.ndarray], size: int):
        self._encode, self._size = encode, size
        self._waiting: SimpleQueue[tuple[np.ndarray, Future]] = SimpleQueue()
        Thread(target=self._serve, daemon=True).start()

    def __call__(self, items: list[np.ndarray]) -> np.ndarray:
        rows: list[Future] = [Future() for _ in items]
        for pair in zip(items, rows):
            self._waiting.put(pair)
        return np.stack([row.result() for row in rows])

    def _serve(self) -> None:
        following = None
        while True:
            batch = [following or self._waiting.get()]
            following = None
            with suppress(Empty):
                while len(batch) < self._size and not following:
                    pair = self._waiting.get(timeout=self.WAIT)
                    if pair[0].shape == batch[0][0].shape:
                        batch.append(pair)
                    else:
                        following = pair  # of a clip of another size
            items, futures = zip(*batch)
            try:
                rows = self._encode([*items, *items[-1:] * (self._size - len(items))])
            except Exception as error:
                for future in futures:
                    future.set_exception(error)
            else:
                for future, row in zip(futures, rows):
                    future.set_result(row)
