"""What the encoders with torch models share: weights, device, precision, batches.

A clip is turned into *items*, each one input of the model: a frame, 16 frames, or a whole sound. Items are made one at
a time while the clip is decoded (`items`), and encoded in batches (`forward`); a batch may hold items of several clips.
How items are batched does not change a row by more than rounding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from copy import copy
from functools import cache, cached_property
from itertools import islice
from pathlib import Path

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
    device:    "cpu", "cuda", "cuda:1"; or several GPUs, as "cuda:0,cuda:1", for `extract` alone: all others take the
               first. "auto" takes CUDA where there is one.
    precision: "fp32" or "bf16", of the model's arithmetic; rows are float32 always
    """

    weights: str = "its authors' page"  # a hub id; a page; or a URL that ends in `file`
    file: str | None = None  # the checkpoint's file name; None: `weights` is a hub id
    computation = "1"  # raised when the same weights come to give other features
    batch_size = 32  # items; 1 where items differ in length
    has_one_shape = True  # all items
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
        own = {name: value for name, value in self.__dict__.items() if name not in ("model", "device")}
        return {**own, "_loaded": False}

    @property
    def devices(self) -> tuple[str, ...]:
        if self._device == "auto":
            return ("cuda" if torch.cuda.is_available() else "cpu",)
        return tuple(self._device.split(","))

    @cached_property
    def device(self) -> str:
        return self.devices[0]

    def on(self, device: str) -> TorchEncoder:
        """The same encoder on another device, not yet loaded."""
        encoder = copy(self)
        encoder._device = device
        return encoder

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
        """The model's inputs from a clip's frames, its sound or both.

        It may run in another process, which has all that `_load` sets save the model.
        """

    @abstractmethod
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Items (B, …) on the device, in the encoder's precision, to rows (B, dim); a whole sound to (1, T, dim)."""

    @torch.inference_mode()
    def encode_batch(self, items: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The rows (T, dim) of each item: float32, on the device, where they may still be in the making.

        Items that do not have one shape come one at a time.
        """
        batch = torch.empty(
            (len(items), *items[0].shape), dtype=items[0].dtype, pin_memory=self.device.startswith("cuda")
        )
        torch.stack(list(items), out=batch)
        # Small pixels travel faster than large numbers: to the device first.
        rows = self.forward(moved(batch, self.device).to(self.dtype)).float()
        return list(rows.reshape(len(items), -1, self.dim))

    def encode_items(self, items: list[np.ndarray]) -> np.ndarray:
        """Rows (B, dim) of a batch of items, or (T, dim) of one whole sound: float32."""
        tensors = [torch.from_numpy(np.ascontiguousarray(item)) for item in items]
        return torch.cat(self.encode_batch(tensors)).cpu().numpy()

    def _encode(self, clip: Clip) -> np.ndarray:
        [items] = share(self.items(clip), ahead=self.batch_size)  # read while the batch before is encoded
        with closing(items):
            batches = iter(lambda: list(islice(items, self.batch_size)), [])
            return np.concatenate([self.encode_items(batch) for batch in batches])


def moved(batch: torch.Tensor, device: str) -> torch.Tensor:
    """A batch on the device. A GPU copies it from pinned memory while it still computes the one before."""
    if not device.startswith("cuda"):
        return batch.to(device)
    computing, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):
        copied = batch.to(device, non_blocking=True)
    computing.wait_stream(copying)
    copied.record_stream(computing)  # its memory is free when this stream has used it
    return copied


@cache
def _copying(device: str) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
