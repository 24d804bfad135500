"""What the encoders with torch models share: weights, device, precision, batches.

Precision is that of the model's arithmetic: fp32; tf32, which rounds the factors of products to 10 bits on the GPU; or
bf16, whose numbers have 8 bits. `auto` is bf16 on a GPU that computes with it and fp32 elsewhere, and fp32 for the
preset `published`, whose features are mixed with the challenge's own. On the CPU nothing changes with the hardware.

A clip is turned into *items*, each one input of the model: a frame, 16 frames, or a whole sound. Items are made one at
a time while the clip is decoded (`items`), and encoded in batches (`forward`); a batch may hold items of several clips.
How items are batched does not change a row by more than rounding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import copy
from functools import cache, cached_property, wraps
from itertools import islice
from pathlib import Path
from threading import RLock

import numpy as np
import torch

from blemore.errors import Problem, ValidationError
from blemore_baselines.clips.media import Clip
from blemore_baselines.clips.streams import share
from blemore_baselines.encoders.base import Encoder
from blemore_baselines.encoders.kernels import accelerate
from blemore_baselines.encoders.weights import digest, find

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}  # → the type of a model's numbers
_FLAGS = RLock()  # torch's switches of TF32 are the whole process's


def is_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


@contextmanager
def arithmetic(device: str, precision: str) -> Iterator[None]:
    """While it lasts, products and convolutions of float32 are exact on a GPU, or TF32 where `precision` says so.

    torch's own default is TF32 for convolutions alone.
    """
    if not is_gpu(device):
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with _FLAGS:
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before


def inference(method: Callable) -> Callable:
    """A method of a TorchEncoder that computes: without gradients, in the encoder's arithmetic."""

    @wraps(method)
    def compute(encoder: TorchEncoder, *arguments):
        with torch.inference_mode(), arithmetic(encoder.device, encoder.precision):
            return method(encoder, *arguments)

    return compute


def has_tf32(device: str) -> bool:
    return is_gpu(device) and torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)


class TorchEncoder(Encoder, abstract=True):
    """An encoder with a torch model; a subclass fills `_load` (sets `self.model`), `items` and `forward`.

    weights:   a hub id, a local folder or a local file; None: the encoder's own source
    device:    "cpu", "cuda", "cuda:1"; or several GPUs, as "cuda:0,cuda:1", for `extract` alone: all others take the
               first. "auto" takes CUDA where there is one.
    precision: "auto", "fp32", "tf32" or "bf16", of the model's arithmetic; rows are float32 always
    compile:   fuse the model's operations by torch.compile, which takes a minute: on a GPU, for items of one shape

    Items are encoded in batches of `cpu_batch_size` or `gpu_batch_size`; `batch_size` is the one that applies.
    """

    weights: str = "its authors' page"  # a hub id; a page; or a URL that ends in `file`
    file: str | None = None  # the checkpoint's file name; None: `weights` is a hub id
    computation = "1"  # raised when the same weights come to give other features
    cpu_batch_size = 32  # items; 1 where items differ in length
    gpu_batch_size = 32  # items that keep a large card busy
    has_one_shape = True  # all items; compiling for many shapes would not pay
    packages: tuple[str, ...] = ("torch", "transformers")

    def __init__(
        self,
        preset: str | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
    ):
        super().__init__(preset)
        self.weights_path = weights
        self._device, self._precision, self._compile = device, precision, compile
        self.model: torch.nn.Module

    def __getstate__(self) -> dict:
        """Without the model: another process loads its own, on its own device, but computes in the same precision."""
        own = {name: value for name, value in self.__dict__.items() if name not in ("model", "device")}
        return {**own, "precision": self.precision, "_loaded": False}

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
    def precision(self) -> str:
        """Of the arithmetic, once `auto` is settled. Raises ValidationError: the device cannot compute in it."""
        if self._precision == "auto":
            has_bf16 = is_gpu(self.device) and torch.cuda.is_bf16_supported(including_emulation=False)
            return "bf16" if has_bf16 and self.preset != "published" else "fp32"
        if self._precision == "tf32" and not has_tf32(self.device):
            message = f"precision tf32 on the device {self.device}, which has none; expected auto, fp32 or bf16"
            hint = (
                "TF32 is a way in which GPUs of NVIDIA's Ampere generation and later multiply. Leave --precision out."
            )
            raise ValidationError(Problem("no-tf32", f"encoder {self.name!r}", message, hint=hint))
        return self._precision

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]

    @cached_property
    def batch_size(self) -> int:
        return self.gpu_batch_size if is_gpu(self.device) else self.cpu_batch_size

    @cached_property
    def checkpoint(self) -> Path:
        """The file or folder of the weights. Raises FileError: they are not there."""
        return find(self)

    @cached_property
    def revision(self) -> str:
        """Of the computation and of the very weights. Raises FileError: they are not there."""
        return f"{self.computation}-{digest(self.checkpoint)}"

    def load(self) -> None:
        if self._loaded:
            return
        if self._compile and not (self.has_one_shape and is_gpu(self.device)):
            reason = f"the device is {self.device}" if self.has_one_shape else "its items differ in length"
            message = f"cannot be compiled: {reason}; expected a GPU, and an encoder whose items have one shape"
            raise ValidationError(Problem("no-compile", f"encoder {self.name!r}", message, hint="Leave --compile out."))
        super().load()
        if is_gpu(self.device):
            self.accelerate()
        if self._compile:
            self.model.compile()

    def accelerate(self) -> None:
        """Fit the loaded model for a GPU: the same rows, up to rounding."""
        accelerate(self.model)

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

    @inference
    def encode_batch(self, items: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The rows (T, dim) of each item: float32, on the device, where they may still be in the making.

        Items that do not have one shape come one at a time.
        """
        batch = torch.empty((len(items), *items[0].shape), dtype=items[0].dtype, pin_memory=is_gpu(self.device))
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
    if not is_gpu(device):
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
