"""Video Swin Transformer, trained on Kinetics-400 (Liu et al., 2022).

https://github.com/SwinTransformer/Video-Swin-Transformer (Apache 2.0). The weights are torchvision's (BSD 3-clause),
and the modules below have torchvision's names. Checkpoints of the authors' own code, which builds on mmaction, can be
read as well.

A row stands for 32 consecutive frames, with a new row every 16: the mean over all tokens after the last norm. Pixels:
the shorter side resized to 256 (bilinear without antialiasing), the centre 224, ImageNet's mean and deviation.

Preset `reference`: the last row sees the clip's last 32 frames, and a shorter clip repeats its last frame. `published`,
as the challenge's features were made: the clip is cut into chunks of 10 s, the last one is completed with black frames,
and a chunk gives only the rows whose 32 frames lie within it. At 25 frames per second, a chunk has 14 rows. These
features still cannot be reproduced: they came from a model fine-tuned on 13 classes that was never released.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention

from blemore_baselines.clips.media import Clip
from blemore_baselines.encoders.frames import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    bilinear,
    centre,
    filled,
    full_windows,
    normalise,
    short_side,
    windows,
)
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import Rule, State, build, count, fill, read, sizes

FRAMES, STRIDE = 32, 16
RESIZED, SIDE = 256, 224
CHUNK = 10  # seconds, in the preset `published`
WINDOW = (8, 7, 7)  # of attention: time, height, width, in patches
PATCH = (2, 4, 4)


class VideoSwinT(TorchEncoder):
    name = "videoswin-t"
    modality = "video"
    dim = 768
    unit = "32 frames, every 16"
    rows = "1 + ⌈(frames − 32) / 16⌉, at least 1; published: 14 per chunk of 10 s at 25 frames per second"
    weights = "https://download.pytorch.org/models/swin3d_t-7615ae03.pth"
    file = "swin3d_t-7615ae03.pth"
    licence = "BSD 3-clause (torchvision); trained on Kinetics-400"
    presets = ("reference", "published")
    computation = "2"
    cpu_batch_size, gpu_batch_size = 4, 8
    packages = ("torch", "opencv-python-headless")

    def _load(self) -> None:
        path = self.checkpoint
        state = read(path)
        names = layout(state)
        width = sizes(state, f"{names.prefix}patch_embed.proj.weight", path, axes=5)[0]
        stages = [names.stage.format(number) for number in names.numbers]
        depths = [count(state, rf"{re.escape(stage)}\.(\d+)\.") for stage in stages]
        tables = [f"{stage}.0.attn.relative_position_bias_table" for stage in stages]
        heads = [sizes(state, table, path, axes=2)[1] for table in tables]
        self.model = build(Swin3D, width, depths, heads)
        fill(self.model, state, path, names.rules, unused=r"(cls_)?head\.")
        self.model.eval().to(self.device, self.dtype)
        self.dim = width * 2 ** (len(stages) - 1)

    def items(self, clip: Clip) -> Iterator[np.ndarray]:
        """(32, 224, 224, 3) uint8."""
        frames = (centre(bilinear(frame, short_side(frame, RESIZED)), SIDE) for frame in clip.frames())
        rows = (
            chunked(frames, round(CHUNK * clip.fps)) if self.preset == "published" else windows(frames, FRAMES, STRIDE)
        )
        return map(np.stack, rows)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.model(normalise(batch, IMAGENET_MEAN, IMAGENET_STD).transpose(1, 2))


class VideoSwinS(VideoSwinT):
    name = "videoswin-s"
    weights = "https://download.pytorch.org/models/swin3d_s-da41c237.pth"
    file = "swin3d_s-da41c237.pth"


class VideoSwinB(VideoSwinT):
    name = "videoswin"
    dim = 1024
    weights = "https://download.pytorch.org/models/swin3d_b_1k-24f7c7c6.pth"
    file = "swin3d_b_1k-24f7c7c6.pth"


def chunked(frames: Iterable[np.ndarray], length: int) -> Iterator[Sequence[np.ndarray]]:
    """The full windows of each chunk of `length` frames, or of one window if that is longer."""
    length = max(length, FRAMES)
    rest = filled(frames, length)
    while chunk := list(islice(rest, length)):
        yield from full_windows(chunk, FRAMES, STRIDE)


# ------------------------------------------------------------------------------ the checkpoint


class Layout(NamedTuple):
    """The names in a checkpoint: the blocks of stage i are under `stage`, formatted with `numbers[i]`."""

    prefix: str
    stage: str
    numbers: Sequence[int]
    rules: list[Rule]


def layout(state: State) -> Layout:
    """torchvision: `features` holds stages at even indices and the mergers between them at odd ones. mmaction: a merger
    belongs to the stage before it, and everything may be under `backbone`.
    """
    prefix = "backbone." if any(key.startswith("backbone.") for key in state) else ""
    number = count(state, rf"{re.escape(prefix)}layers\.(\d+)\.")
    if not number:
        return Layout("", "features.{}", range(0, count(state, r"features\.(\d+)\."), 2), [])
    rules: list[Rule] = []
    for i in range(number):
        stage, block = rf"features\.{2 * i}\.(\d+)\.", rf"{prefix}layers.{i}.blocks.\1."
        rules += [
            (stage + r"mlp\.0\.(.*)", block + r"mlp.fc1.\2", None),
            (stage + r"mlp\.3\.(.*)", block + r"mlp.fc2.\2", None),
            (stage + "(.*)", block + r"\2", None),
            (rf"features\.{2 * i + 1}\.(.*)", rf"{prefix}layers.{i}.downsample.\1", None),
        ]
    return Layout(prefix, prefix + "layers.{}.blocks", range(number), [*rules, ("(.*)", prefix + r"\1", None)])


# ----------------------------------------------------------------------------------- the model
# Tokens are (B, T, H, W, C): time, height and width in patches.


class Swin3D(nn.Module):
    """Pixels (B, 3, T, H, W) to (B, C), where C is `width`, doubled after each stage but the last.

    `depths`, `heads`: for each stage, its number of blocks, and the number of attention heads per block.
    """

    def __init__(self, width: int, depths: list[int], heads: list[int]):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, PATCH, PATCH), "norm": nn.LayerNorm(width)})
        features: list[nn.Module] = []
        for stage, (depth, n) in enumerate(zip(depths, heads)):
            if stage:
                features.append(Merger(width))
                width *= 2
            features.append(nn.Sequential(*(Block(width, n, shifted=i % 2 == 1) for i in range(depth))))
        self.features = nn.Sequential(*features)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed["proj"](pixels).movedim(1, -1)
        tokens = self.features(self.patch_embed["norm"](tokens))
        return self.norm(tokens).mean((1, 2, 3))


class Merger(nn.Module):
    """Merges each 2 × 2 neighbouring tokens into one token of twice the width."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 2 or x.shape[3] % 2:
            x = pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        four = [x[:, :, top::2, left::2] for left in (0, 1) for top in (0, 1)]
        return self.reduction(self.norm(torch.cat(four, -1)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, shifted: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, shifted)
        # The dropout does nothing; it keeps the numbers in the layers' names.
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WindowAttention(nn.Module):
    """Attention among the tokens of a window. In every other block, windows are shifted by half their size."""

    def __init__(self, width: int, heads: int, shifted: bool):
        super().__init__()
        self.heads, self.shifted = heads, shifted
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        t, h, w = WINDOW
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * t - 1) * (2 * h - 1) * (2 * w - 1), heads))
        # The row of the table for each pair of places in a window. It is in the checkpoint.
        self.relative_position_index: torch.Tensor
        self.register_buffer("relative_position_index", torch.empty(t * h * w, t * h * w, dtype=torch.long))
        self._biases: dict[tuple, list[torch.Tensor]] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, *size, width = x.shape
        cut = windows_of(tuple(size), batch, self.shifted, x.device)
        x = pad(x, (0, 0, *cut.padding)) if any(cut.padding) else x
        x = x.flatten(0, 3).index_select(0, cut.places).view(-1, cut.length, width)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        kinds = zip(*(tensor.split(cut.counts) for tensor in (q, k, v)), self._prepared(tuple(size), cut, x))
        parts = [scaled_dot_product_attention(q, k, v, bias).transpose(1, 2) for q, k, v, bias in kinds]
        x = torch.cat(parts) if len(parts) > 1 else parts[0]
        return self.proj(x.flatten(2)).flatten(0, 1).index_select(0, cut.origins).view(batch, *size, width)

    def _prepared(self, size: tuple[int, ...], cut: Windows, x: torch.Tensor) -> list[torch.Tensor]:
        """The bias of attention in each kind of window, (1, heads, places, places)."""
        key = size, x.device, x.dtype
        if key not in self._biases:
            index = self.relative_position_index[: cut.length, : cut.length]
            bias = self.relative_position_bias_table[index].permute(2, 0, 1)[None]
            # Only the latest size is kept: inputs of one size follow each other.
            self._biases = {key: [(bias + mask.to(x.dtype)).contiguous() for mask in cut.masks]}
        return self._biases[key]


class Windows(NamedTuple):
    """How the tokens of a batch are put into windows. Windows are ordered by kind, across all clips.

    padding: of the axes from the last to the first, as `pad` takes it
    length:  number of places in a window
    places:  for each place in each window, the index of its token in the padded batch
    origins: for each token of the batch without padding, its index in `places`
    counts:  number of windows of each kind
    masks:   for each kind, (places, places): −100 if two places are in one window only because of the shift
    """

    padding: tuple[int, ...]
    length: int
    places: torch.Tensor
    origins: torch.Tensor
    counts: list[int]
    masks: list[torch.Tensor]


@lru_cache(maxsize=32)  # bounded, as clips differ in size
@torch.compiler.assume_constant_result  # a compiled model would bypass the cache
def windows_of(size: tuple[int, ...], batch: int, shifted: bool, device: torch.device) -> Windows:
    """The windows of tokens of the shape (batch, *size)."""
    window = [min(pair) for pair in zip(WINDOW, size)]
    shift = [side // 2 if shifted and side < length else 0 for side, length in zip(window, size)]
    over = [-length % side for side, length in zip(window, size)]
    padded = [length + more for length, more in zip(size, over)]
    with torch.inference_mode(False):
        rolled = torch.arange(prod(padded)).view(padded).roll([-s for s in shift], (0, 1, 2))
        regions = _cut(_regions(padded, window, shift), window)
        kinds, kind_of = torch.unique(regions, dim=0, return_inverse=True)
        counts = batch * kind_of.bincount()
        places = _cut(rolled, window)[kind_of.argsort(stable=True)]
        places = (places[:, None] + prod(padded) * torch.arange(batch)[:, None]).flatten()
        origins = places.argsort().view(batch, *padded)[:, : size[0], : size[1], : size[2]].flatten()
        masks = [torch.where(kind[:, None] == kind, 0.0, -100.0).to(device) for kind in kinds]
    padding = tuple(side for more in reversed(over) for side in (0, more))
    return Windows(padding, prod(window), places.to(device), origins.to(device), counts.tolist(), masks)


def _regions(padded: list[int], window: list[int], shift: list[int]) -> torch.Tensor:
    """A region's number for each of the shifted tokens, of size `padded`. The shift did not tear a region apart."""
    region = torch.zeros(padded)
    for axis, (length, side, by) in enumerate(zip(padded, window, shift)):
        if by:
            place = torch.arange(length) - length
            part = (place >= -side).float() + (place >= -by).float()
            region = 3 * region + part.view([-1 if n == axis else 1 for n in range(3)])
    return region


def _cut(x: torch.Tensor, window: list[int]) -> torch.Tensor:
    """(T, H, W) to (windows, places)."""
    t, h, w = window
    x = x.unflatten(2, (-1, w)).unflatten(1, (-1, h)).unflatten(0, (-1, t))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(0, 2)
