"""What the encoders with torch models share: weights, device, precision, batches.

Precision is that of the model's arithmetic: fp32; tf32, which rounds the factors of products to 10 bits on a GPU; or
bf16, whose numbers have 8 bits. `auto` is bf16 on a GPU that supports it and fp32 elsewhere, and always fp32 for the
preset `published`, whose features are mixed with the challenge's own. On the CPU, precision does not depend on the
hardware.

A clip becomes *items*, each one input of the model: a frame, 16 frames, or a whole sound. Items are made one at a time
while the clip is decoded (`items`) and encoded in batches (`forward`), which may hold items of several clips. Batching
changes a row by no more than rounding.
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
from blemore_baselines.encoders.base import Encoder, is_gpu
from blemore_baselines.encoders.kernels import accelerate
from blemore_baselines.encoders.weights import digest, find

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}  # → the type of a model's numbers
_FLAGS = RLock()  # torch's TF32 flags apply to the whole process


@contextmanager
def arithmetic(device: str, precision: str) -> Iterator[None]:
    """In this block, float32 products and convolutions on a GPU use TF32 if `precision` is tf32, and are exact if not.

    torch's own default is TF32 for convolutions only.
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
    """Decorates a TorchEncoder's method that computes: without gradients, in the encoder's precision."""

    @wraps(method)
    def compute(encoder: TorchEncoder, *arguments):
        with torch.inference_mode(), arithmetic(encoder.device, encoder.precision):
            return method(encoder, *arguments)

    return compute


def has_tf32(device: str) -> bool:
    return is_gpu(device) and torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)


class TorchEncoder(Encoder, abstract=True):
    """An encoder with a torch model. A subclass defines `_load` (which sets `self.model`), `items` and `forward`.

    weights:   a hub id, a local folder or a local file; None: the encoder's own source
    device:    "cpu", "cuda" or "cuda:1"; "auto": CUDA if there is a GPU. Several GPUs, such as "cuda:0,cuda:1", are for
               `extract` only; everything else uses the first.
    precision: "auto", "fp32", "tf32" or "bf16", of the model's arithmetic; rows are always float32
    compile:   fuse the model's operations with torch.compile, which takes a minute: on a GPU, for items of one shape

    Items are encoded in batches of `cpu_batch_size` or `gpu_batch_size`; `batch_size` is the one that applies.
    """

    weights: str = "its authors' page"  # a hub id; a page; or a URL that ends in `file`
    file: str | None = None  # the checkpoint's file name; None: `weights` is a hub id
    computation = "1"  # raise it when the same weights give other features
    cpu_batch_size = 32  # items; 1 if items differ in length
    gpu_batch_size = 32  # items; enough to keep a large GPU busy
    has_one_shape = True  # whether all items have the same shape
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
        """Leaves out the model: another process loads it on its own device, but computes in the same precision."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("model", "device")}
        return {**state, "precision": self.precision, "_loaded": False}

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
        """The precision, with `auto` resolved. Raises ValidationError: the device does not support it."""
        if self._precision == "auto":
            has_bf16 = is_gpu(self.device) and torch.cuda.is_bf16_supported(including_emulation=False)
            return "bf16" if has_bf16 and self.preset != "published" else "fp32"
        if self._precision == "tf32" and not has_tf32(self.device):
            message = f"the device {self.device} does not support the precision tf32; expected auto, fp32 or bf16"
            hint = "TF32 needs a GPU of NVIDIA's Ampere generation or later. Leave --precision out."
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
        """The file or folder of the weights. Raises FileError: it is not on this machine, and cannot be fetched."""
        return find(self)

    @cached_property
    def revision(self) -> str:
        """The revision of the computation, and a digest of the weights. Raises FileError: see `checkpoint`."""
        return f"{self.computation}-{digest(self.checkpoint)}"

    def load(self) -> None:
        if self._loaded:
            return
        if self._compile and not (self.has_one_shape and is_gpu(self.device)):
            reason = f"the device is {self.device}" if self.has_one_shape else "its items differ in length"
            message = f"cannot be compiled: {reason}; expected a GPU and an encoder whose items have one shape"
            raise ValidationError(Problem("no-compile", f"encoder {self.name!r}", message, hint="Leave --compile out."))
        super().load()
        if is_gpu(self.device):
            self.accelerate()
        if self._compile:
            self.model.compile()

    def accelerate(self) -> None:
        """Optimise the loaded model for a GPU: the same rows, up to rounding."""
        accelerate(self.model)

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """The model's inputs from a clip's frames, its sound or both.

        It may run in a process that has everything that `_load` sets, except the model.
        """

    @abstractmethod
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Items (B, …) on the device, in the encoder's precision, to rows (B, dim); one whole sound to (1, T, dim)."""

    @inference
    def encode_batch(self, items: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The rows (T, dim) of each item: float32, on the device, which may still be computing them.

        This implementation takes items of one shape.
        """
        batch = torch.empty((len(items), *items[0].shape), dtype=items[0].dtype, pin_memory=is_gpu(self.device))
        torch.stack(list(items), out=batch)
        # Copied to the device before conversion: uint8 pixels are smaller than floats.
        rows = self.forward(moved(batch, self.device).to(self.dtype)).float()
        return list(rows.reshape(len(items), -1, self.dim))

    def encode_items(self, items: list[np.ndarray]) -> np.ndarray:
        """Rows (B, dim) of a batch of items, or (T, dim) of one whole sound: float32."""
        tensors = [torch.from_numpy(np.ascontiguousarray(item)) for item in items]
        return torch.cat(self.encode_batch(tensors)).cpu().numpy()

    def _encode(self, clip: Clip) -> np.ndarray:
        [items] = share(self.items(clip), ahead=self.batch_size)  # read while the previous batch is encoded
        with closing(items):
            batches = iter(lambda: list(islice(items, self.batch_size)), [])
            return np.concatenate([self.encode_items(batch) for batch in batches])


def moved(batch: torch.Tensor, device: str) -> torch.Tensor:
    """A batch on the device. A GPU copies it from pinned memory while it computes the previous one."""
    if not is_gpu(device):
        return batch.to(device)
    computing, copying = torch.cuda.current_stream(device), _copying(device)
    with torch.cuda.stream(copying):
        copied = batch.to(device, non_blocking=True)
    computing.wait_stream(copying)
    copied.record_stream(computing)  # its memory is free once this stream has used it
    return copied


@cache
def _copying(device: str) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
