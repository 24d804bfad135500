"""HiCMAE: face and voice together. Parameters have the names of the authors' checkpoints.

Recipe `published`: as the challenge fine-tuned it (Sun et al. 2024; https://github.com/sunlicai/HiCMAE), with the same
frames, sound, augmentation, learning rates and 80 epochs, but without its defects. Targets are in 0…1 for singles and
blends alike (blends were in percent, which multiplied their gradients by 100), nothing is chosen on the fold that is
scored, and loudness does not vary in tests. Each test view has one crop; the original's two had identical pixels.

Recipe `reference`: our own. Training and test views both take every 4th frame, with the 2.56 s of sound from the first
frame on; test views cover long clips; crops keep at least half of the face.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from blemore.labels import EMOTIONS
from blemore_baselines.encoders.frames import IMAGENET_MEAN, IMAGENET_STD
from blemore_baselines.encoders.hicmae import (
    EVERY,
    FRAMES,
    HOP,
    SIDE,
    TIMES,
    WINDOW,
    HiCMAE,
    HiCMAEModel,
    Sizes,
    fbank,
    share_of_sound,
)
from blemore_baselines.encoders.kernels import replace_patching
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import build
from blemore_baselines.finetuning.augment import Plan, augment
from blemore_baselines.finetuning.family import Family, Stored, View, graded, sampled, test_starts
from blemore_baselines.finetuning.recipes import Recipe

SPAN = EVERY * FRAMES  # frames from which a view is sampled
PUBLISHED = Recipe(
    learning_rate=1e-3,
    weight_decay=0.05,
    layer_decay=0.75,
    batch_size=32,
    epochs=80,
    warmup=5,
    drop_path=0.1,
    operations=4,
    area=0.08,
    erasing=0.25,
    gain=True,
    published=True,
)


class Classifier(HiCMAEModel):
    """HiCMAE with a linear layer on its four pooled parts."""

    def __init__(self, *sizes: Any):
        super().__init__(*sizes)
        self.head = nn.Linear(self.fc_norm.normalized_shape[0], len(EMOTIONS))

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        return self.head(super().forward(video, audio))


class HiCMAEFamily(Family):
    recipes = {"published": PUBLISHED, "reference": PUBLISHED._replace(area=0.5, operations=2, published=False)}
    has_sound = True
    layer_pattern = r"encoder(?:_audio)?\.blocks\.(\d+)\."
    first_pattern = r"encoder(_audio)?\.patch_embed\."
    side = SIDE

    @classmethod
    def pretrained(cls, encoder: TorchEncoder, recipe: Recipe) -> tuple[Family, dict[str, torch.Tensor]]:
        assert isinstance(encoder, HiCMAE)
        encoder.load()
        return cls(encoder.sizes._asdict()), encoder.model.state_dict()

    @property
    def sizes(self) -> Sizes:
        return Sizes(**self.settings)

    @property
    def depth(self) -> int:
        return self.sizes.depth + self.sizes.fused

    def layer(self, name: str) -> int:
        match = re.match(r"encoder_fusion\.blocks(?:_audio)?\.(\d+)\.", name)
        return self.sizes.depth + 1 + int(match[1]) if match else super().layer(name)

    def build(self) -> nn.Module:
        return replace_patching(build(Classifier, *self.sizes))

    def branches(self, model: Any) -> list[tuple[nn.Module, float]]:
        fusion = model.encoder_fusion
        stacks = (model.encoder.blocks, model.encoder_audio.blocks, fusion.blocks, fusion.blocks_audio)
        return [branch for blocks in stacks for branch in graded(blocks, _branches)]

    def train_view(self, stored: Stored, recipe: Recipe, rng: np.random.Generator) -> View:
        n, wave = len(stored.at), stored.wave
        wave = (wave - wave.mean()) * (rng.beta(10, 10) + 0.5 if recipe.gain else 1)
        if recipe.published:
            numbers, first = published_train_frames(n, rng)
            return _view(stored, numbers, share_of_sound(wave, first, first + SPAN, n))
        return _view_from(stored, wave, int(rng.integers(max(1, n - SPAN + EVERY))))

    def test_views(self, stored: Stored, recipe: Recipe) -> list[View]:
        n, wave = len(stored.at), stored.wave
        wave = wave - wave.mean()
        if recipe.published:
            windows = [(numbers, numbers[-1] + EVERY) for numbers in published_test_frames(n)]
            return [_view(stored, numbers, share_of_sound(wave, numbers[0], last, n)) for numbers, last in windows]
        return [_view_from(stored, wave, first) for first in test_starts(n, SPAN - EVERY + 1)]

    def inputs(self, views: View, plans: Sequence[Plan | None]) -> View:
        pixels = augment(views["frames"], plans, IMAGENET_MEAN, IMAGENET_STD)
        return {"video": pixels.transpose(1, 2), "audio": views["spectrum"]}


def _branches(block: Any) -> list[nn.Module]:
    cross_attention = [block.cross_attn] if hasattr(block, "cross_attn") else []
    return [*cross_attention, block.attn, block.mlp["fc2"]]


def _view(stored: Stored, numbers: np.ndarray, sound: np.ndarray) -> View:
    return {"frames": stored.pictures(numbers), "spectrum": torch.from_numpy(fbank(sound))[None]}


def _view_from(stored: Stored, wave: np.ndarray, first: int) -> View:
    """Every 4th frame from `first` on, and the sound of a whole spectrogram; silence before the clip's sound begins."""
    begin, length = stored.at[first], WINDOW + (TIMES - 1) * HOP
    sound = np.pad(wave[max(0, begin) : max(0, begin + length)], (min(length, max(0, -begin)), 0))
    return _view(stored, sampled(len(stored.at), first, FRAMES, EVERY), sound)


def published_train_frames(n: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """(16,) the frames of a training view of a clip of n frames, and the frame at which its sound begins.

    Up to 64 frames: n // 4 evenly spread frames, then the last one, repeated. More frames: 16 of them, evenly spread
    over the 64 frames before a random one.
    """
    if n <= SPAN:
        spread = np.linspace(0, n, n // EVERY)
        numbers = np.concatenate([spread, np.full(FRAMES - len(spread), n)])
        return np.clip(numbers.astype(int), 0, n - 1), 0
    end = int(rng.integers(SPAN, n))
    numbers = np.linspace(end - SPAN, end, FRAMES).astype(int)
    return np.clip(numbers, end - SPAN, end - 1), end - SPAN


def published_test_frames(n: int) -> list[np.ndarray]:
    """(16,) per view. Of every 4th frame, repeating the last one up to 16: the first 16 and, if there are more, the
    last 16.
    """
    numbers = np.arange(0, n, EVERY)
    numbers = np.concatenate([numbers, np.full(max(0, FRAMES - len(numbers)), numbers[-1])])
    return [numbers[start : start + FRAMES] for start in sorted({0, len(numbers) - FRAMES})]
