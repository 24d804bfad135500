"""VideoMAE and VideoMAE V2: 16 faces or frames, every 4th; the mean over all tokens, a norm and a linear layer.

The recipe is similar to VideoMAE V2's for ViT-B (Wang et al. 2023), with fewer epochs and without mixing clips, which
would blend emotions that were not blended. It has not been tuned on BLEMORE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import VideoMAEConfig, VideoMAEModel

from blemore.labels import EMOTIONS
from blemore_baselines.encoders.frames import IMAGENET_MEAN, IMAGENET_STD
from blemore_baselines.encoders.huggingface_video import HFVideo
from blemore_baselines.encoders.kernels import replace_patching
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.videomaev2 import Pooled
from blemore_baselines.encoders.weights import build
from blemore_baselines.finetuning.augment import Plan, augment
from blemore_baselines.finetuning.family import Family, Stored, View, graded, sampled, test_starts
from blemore_baselines.finetuning.recipes import Recipe

EVERY = 4


class Classifier(Pooled):
    """Pixels (B, 16, 3, side, side) to logits (B, 6)."""

    def __init__(self, config: VideoMAEConfig):
        super().__init__(config)
        self.head = nn.Linear(config.hidden_size, len(EMOTIONS))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(super().forward(pixels))


class VideoFamily(Family):
    recipes = {
        "reference": Recipe(
            learning_rate=1e-3,
            weight_decay=0.05,
            layer_decay=0.75,
            batch_size=32,
            epochs=50,
            warmup=5,
            drop_path=0.1,
            operations=2,
            area=0.5,
            erasing=0.25,
        )
    }
    has_sound = False
    layer_pattern = r"trunk\.encoder\.layer\.(\d+)\."
    first_pattern = r"trunk\.embeddings\."

    @classmethod
    def pretrained(cls, encoder: TorchEncoder, recipe: Recipe) -> tuple[Family, dict[str, torch.Tensor]]:
        encoder.load()
        model, mean, std = encoder.model, IMAGENET_MEAN, IMAGENET_STD
        if isinstance(encoder, HFVideo):
            processor: Any = encoder.processor
            mean, std = processor.image_mean, processor.image_std
        trunk = next(part for part in model.modules() if isinstance(part, VideoMAEModel))
        config = {**trunk.config.to_dict(), "use_mean_pooling": True}
        config |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
        family = cls({"config": config, "mean": list(mean), "std": list(std)})
        norm = getattr(model, "fc_norm", None) or nn.LayerNorm(trunk.config.hidden_size)  # a new norm: weight 1, bias 0
        state = {f"trunk.{name}": value for name, value in trunk.state_dict().items()}
        state |= {f"fc_norm.{name}": value for name, value in norm.state_dict().items()}
        own = family.build().state_dict()  # without the norm that some models have instead of the pooled one
        return family, {name: value for name, value in state.items() if name in own}

    @property
    def config(self) -> VideoMAEConfig:
        return VideoMAEConfig(**self.settings["config"])

    @property
    def side(self) -> int:
        return self.settings["config"]["image_size"]

    @property
    def depth(self) -> int:
        return self.settings["config"]["num_hidden_layers"]

    def build(self) -> nn.Module:
        return replace_patching(build(Classifier, self.config))

    def branches(self, model: Any) -> list[tuple[nn.Module, float]]:
        return graded(model.trunk.encoder.layer, lambda layer: (layer.attention, layer.output.dense))

    def train_view(self, stored: Stored, recipe: Recipe, rng: np.random.Generator) -> View:
        n = len(stored.at)
        return self._view(stored, int(rng.integers(max(1, n - self._span + 1))))

    def test_views(self, stored: Stored, recipe: Recipe) -> list[View]:
        return [self._view(stored, first) for first in test_starts(len(stored.at), self._span)]

    @property
    def _span(self) -> int:
        return EVERY * (self.settings["config"]["num_frames"] - 1) + 1

    def _view(self, stored: Stored, first: int) -> View:
        numbers = sampled(len(stored.at), first, self.settings["config"]["num_frames"], EVERY)
        return {"frames": stored.pictures(numbers)}

    def inputs(self, views: View, plans: Sequence[Plan | None]) -> View:
        return {"pixels": augment(views["frames"], plans, self.settings["mean"], self.settings["std"])}
