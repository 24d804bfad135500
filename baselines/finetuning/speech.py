"""HuBERT, WavLM and similar models: sound, the mean over time, a linear layer.

The convolutions below the layers are frozen. The layers' outputs are summed with the softmax of learned weights, as in
SUPERB (Yang et al. 2021); the recipe `last-layer` uses only the last layer. The dropout, masking and layer drop of the
pre-training are off, because every random number must follow from the clip; `drop_path` replaces them.

A training view is 4 s of the clip, or all of a shorter clip; the test view is the whole clip. Padding would change the
output of these models, so sounds of different length are encoded separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from blemore.errors import Problem, ValidationError
from blemore.labels import EMOTIONS
from blemore_baselines.clips.media import SAMPLE_RATE
from blemore_baselines.encoders.speech import EPSILON, HFAudio, filled, normalised
from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.encoders.weights import build
from blemore_baselines.finetuning.augment import Plan
from blemore_baselines.finetuning.family import DropPath, Family, Stored, View, graded
from blemore_baselines.finetuning.recipes import Recipe

WINDOW = 4 * SAMPLE_RATE  # samples of a training view
DROPOUTS = (
    *("layerdrop", "mask_time_prob", "mask_feature_prob", "hidden_dropout"),
    *("attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"),
)

REFERENCE = Recipe(
    learning_rate=8e-4,
    weight_decay=0.01,
    layer_decay=0.9,
    batch_size=32,
    epochs=30,
    warmup=3,
    drop_path=0.1,
    max_norm=1.0,
    gain=True,
)


class Classifier(nn.Module):
    """Sounds (B, samples) with lengths (B,) in samples to logits (B, 6)."""

    def __init__(self, config: dict, last_layer: bool):
        super().__init__()
        still = {**config, **dict.fromkeys(DROPOUTS, 0.0), "apply_spec_augment": False}
        self.trunk = AutoModel.from_config(AutoConfig.for_model(**still))
        self.trunk.freeze_feature_encoder()
        layers = None if last_layer else nn.Parameter(torch.zeros(config["num_hidden_layers"] + 1))
        self.layer_weights = layers
        self.head = nn.Linear(config["hidden_size"], len(EMOTIONS))
        self.paths: DropPath | None = None

    def forward(self, sound: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        groups = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
        logits, rows = [], self.paths.rows if self.paths else None
        for members in groups:
            if self.paths and rows is not None:
                self.paths.rows = rows[members]
            logits.append(self._encode(sound[members, : int(lengths[members[0]])]))
        return torch.cat(logits)[torch.cat(groups).argsort()]

    def _encode(self, sound: torch.Tensor) -> torch.Tensor:
        if self.layer_weights is None:
            return self.head(self.trunk(sound).last_hidden_state.mean(1))
        output = self.trunk(sound, output_hidden_states=True)
        # Not hidden_states[-1]: large models normalise the last layer's output once more.
        layers = torch.stack([*output.hidden_states[:-1], output.last_hidden_state])
        return self.head(torch.einsum("lbtc,l->bc", layers, self.layer_weights.softmax(0)) / layers.shape[2])


class SpeechFamily(Family):
    recipes = {"reference": REFERENCE, "last-layer": REFERENCE._replace(last_layer=True)}
    has_sound = True
    layer_pattern = r"trunk\.encoder\.layers\.(\d+)\."
    first_pattern = r"trunk\.(feature_projection|encoder\.pos_conv_embed|masked_spec_embed)"
    side = None

    @classmethod
    def pretrained(cls, encoder: TorchEncoder, recipe: Recipe) -> tuple[Family, dict[str, torch.Tensor]]:
        encoder.load()
        model: Any = encoder.model
        is_normalised = True
        if isinstance(encoder, HFAudio):
            is_normalised = bool(getattr(encoder.extractor, "do_normalize", False))
            rate = encoder.extractor.sampling_rate
            if not hasattr(model, "freeze_feature_encoder") or rate != SAMPLE_RATE:
                message = (
                    f"a {model.config.model_type} model for sound at {rate:,} Hz; expected wav2vec2, hubert or wavlm"
                    f" at {SAMPLE_RATE:,} Hz"
                )
                raise ValidationError(Problem("bad-weights", str(encoder.checkpoint), message))
        config = model.config.to_dict()
        state = {f"trunk.{name}": value for name, value in model.state_dict().items()}
        state["layer_weights"] = torch.zeros(config["num_hidden_layers"] + 1)
        family = cls({"config": config, "normalised": is_normalised, "last_layer": recipe.last_layer})
        own = family.build().state_dict()  # without the embedding of masked sound and unused weights
        return family, {name: value for name, value in state.items() if name in own}

    @property
    def depth(self) -> int:
        return self.settings["config"]["num_hidden_layers"]

    def build(self) -> nn.Module:
        last_layer = self.settings.get("last_layer", False)  # absent in older runs
        return build(Classifier, self.settings["config"], last_layer)

    def branches(self, model: Any) -> list[tuple[nn.Module, float]]:
        return graded(model.trunk.encoder.layers, lambda layer: (layer.attention, layer.feed_forward.output_dense))

    def train_view(self, stored: Stored, recipe: Recipe, rng: np.random.Generator) -> View:
        sound = self._sound(stored)
        start = int(rng.integers(max(1, len(sound) - WINDOW + 1)))
        gain = rng.beta(10, 10) + 0.5 if recipe.gain else 1
        return _view(sound[start : start + WINDOW] * np.float32(gain))

    def test_views(self, stored: Stored, recipe: Recipe) -> list[View]:
        return [_view(self._sound(stored))]

    def _sound(self, stored: Stored) -> np.ndarray:
        """The model's input, padded to at least one row's field of view."""
        return normalised(stored.wave, EPSILON["reference"]) if self.settings["normalised"] else filled(stored.wave)

    def inputs(self, views: View, plans: Sequence[Plan | None]) -> View:
        return views


def _view(sound: np.ndarray) -> View:
    return {"sound": torch.from_numpy(sound), "lengths": torch.tensor(len(sound))}
