"""Small encoders with a torch model, for the tests of extraction; other processes import them from here."""

import os
import signal

import numpy as np
import torch

from blemore_baselines.encoders.frames import bilinear, windows
from blemore_baselines.encoders.torch_encoder import TorchEncoder


class Net(TorchEncoder):
    """A row is a frame after a small network. Clips named `deadly…` kill their process at frame 20."""

    name, modality, dim, unit, weights = "net", "video", 3, "frame", "none"
    revision, batch_size, packages = "1", 16, ("torch",)

    def _load(self):
        torch.manual_seed(0)
        self.model, self.side = torch.nn.Conv2d(3, 3, 8), 8

    def items(self, clip):
        for number, frame in enumerate(clip.frames()):
            if number == 20 and clip.id.startswith("deadly"):
                os.kill(os.getpid(), signal.SIGKILL)
            yield bilinear(frame, (self.side, self.side))

    def forward(self, batch):
        return self.model(batch.movedim(-1, 1) / 255).flatten(1)


class Windows(Net):
    """A row is the mean over ten frames."""

    name, unit = "windows", "10 frames"

    def items(self, clip):
        return map(np.stack, windows(super().items(clip), 10, 10))

    def forward(self, batch):
        return super().forward(batch.flatten(0, 1)).unflatten(0, batch.shape[:2]).mean(1)


class Small(Net):
    """Runs out of memory with more than four items."""

    name = "small"

    def forward(self, batch):
        if len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(batch)


class Picky(Net):
    """Fails on batches with a black frame, and gives NaN for a white frame."""

    name = "picky"

    def forward(self, batch):
        means = batch.mean(dim=(1, 2, 3))
        if (means == 0).any():
            raise RuntimeError("too dark")
        rows = super().forward(batch)
        rows[means == 255] = torch.nan
        return rows


class Sound(TorchEncoder):
    """A row is the mean and the deviation of 100 samples. Batches are padded with zeros."""

    name, modality, dim, unit, weights = "sound", "audio", 2, "100 samples", "none"
    revision, batch_size, has_one_shape, packages = "1", 4, False, ("torch",)

    def _load(self):
        self.model = torch.nn.Identity()

    def items(self, clip):
        yield clip.audio()

    def forward(self, batch):
        steps = batch[:, : batch.shape[1] // 100 * 100].unflatten(1, (-1, 100))
        return torch.stack([steps.mean(-1), steps.std(-1)], dim=-1)

    def encode_batch(self, items):
        assert len(items) <= self.batch_size
        longest = max(map(len, items))
        padded = torch.stack([torch.nn.functional.pad(item, (0, longest - len(item))) for item in items])
        return [rows[: len(item) // 100] for rows, item in zip(self.forward(padded), items)]
