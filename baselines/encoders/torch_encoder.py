"""What the encoders with torch models share: weights, device, precision, batches.

A clip is turned into *items*, each one input of the model: a frame, 16 frames, or a whole sound. Items
are made one at a time from the decoded stream (`items`), and encoded in batches (`forward`); a batch may
hold items of several clips. How items are batched does not change a row by more than rounding.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, Optional

import numpy as np
import torch

from blemore_baselines.encoders.base import Encoder
from blemore_baselines.encoders.weights import digest, find
from blemore_baselines.media import Clip

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TorchEncoder(Encoder):
    """An encoder with a torch model; a subclass fills `_load` (sets `self.model`), `items` and `forward`.

    weights:   a hub id, a local folder or a local file; None: the encoder's own source
    device:    "auto" takes CUDA where there is one
    precision: "fp32" or "bf16", of the model's arithmetic; rows are float32 always
    """

    file: Optional[str] = None  # the checkpoint's file name; None: `weights` is a hub id
    computation = "1"  # raised when the same weights come to give other features
    batch_size = 32  # items; 1 where items differ in length
    packages = ("torch", "transformers")

    def __init__(self, preset: Optional[str] = None, weights: Optional[str | Path] = None, device: str = "auto", precision: str = "fp32"):
        super().__init__(preset)
        self.weights_path = weights
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.dtype = PRECISIONS[precision]
        self.model: torch.nn.Module

    def __getstate__(self) -> dict:
        """Without the model: another process loads its own."""
        return {**{name: value for name, value in self.__dict__.items() if name != "model"}, "_loaded": False}

    @cached_property
    def checkpoint(self) -> Path:
        """The file or folder of the weights. Raises FileError: they are not there."""
        return find(self)

    @cached_property
    def revision(self) -> str:
        """Of the computation and of the very weights. Raises FileError: they are not there."""
        return f"{self.computation}-{digest(self.checkpoint)}"

    def items(self, stream: Iterable[np.ndarray] | np.ndarray) -> Iterator[np.ndarray]:
        """The model's inputs from a clip's frames (an iterable of RGB uint8 (H, W, 3)) or sound ((samples,) at 16 kHz)."""
        raise NotImplementedError

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Items (B, …) on the device, in the encoder's precision, to rows (B, dim), or (1, T, dim) for a whole sound."""
        raise NotImplementedError

    def stream(self, clip: Clip) -> Iterable[np.ndarray] | np.ndarray:
        return clip.frames() if self.modality == "video" else clip.audio()

    @torch.inference_mode()
    def encode_items(self, items: list[np.ndarray]) -> np.ndarray:
        """Rows (B, dim) of a batch of items, or (T, dim) of one whole sound: float32."""
        # Small pixels travel faster than large numbers: to the device first.
        batch = torch.from_numpy(np.stack(items)).to(self.device).to(self.dtype)
        return self.forward(batch).float().cpu().numpy().reshape(-1, self.dim)

    def _encode(self, clip: Clip) -> np.ndarray:
        items = self.items(self.stream(clip))
        return np.concatenate([self.encode_items(batch) for batch in iter(lambda: list(islice(items, self.batch_size)), [])])
