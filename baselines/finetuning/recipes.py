"""How an encoder is trained: the recipe, the parameter groups and the learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import nn

FLOOR = 1e-3  # the final learning rate as a share of the peak


class Recipe(NamedTuple):
    """Settings for AdamW (β 0.9 and 0.999, ε 1e-8) with layer-wise learning rates, and for the augmentation.

    The number of epochs is fixed in advance: nothing is chosen on the clips that are scored.
    """

    learning_rate: float  # the peak for 256 clips per batch; proportional to the batch size
    weight_decay: float
    layer_decay: float  # a layer's rate as a share of the rate of the layer above it
    batch_size: int  # clips on all devices together
    epochs: int
    warmup: float  # epochs during which the rate rises from 0
    drop_path: float  # the probability that a clip skips a branch of the last layer; smaller in lower layers
    max_norm: float | None = None  # larger gradients are scaled down to this norm
    operations: int = 0  # RandAugment draws per clip
    area: float = 1.0  # the smallest crop, as a share of the picture's area
    erasing: float = 0.0  # the probability that noise replaces a box of the clip
    gain: bool = False  # whether loudness varies in training
    published: bool = False  # whether frames are sampled as in the challenge's code
    last_layer: bool = False  # whether a speech model uses its last layer only, not the weighted sum of all layers

    def changed(self, **values: Any) -> Recipe:
        """The recipe with the given values; None keeps its own. At most a quarter of the epochs are warm-up."""
        recipe = self._replace(**{name: value for name, value in values.items() if value is not None})
        return recipe._replace(warmup=min(recipe.warmup, recipe.epochs / 4))

    @property
    def peak(self) -> float:
        return self.learning_rate * self.batch_size / 256

    def rates(self, steps: int) -> np.ndarray:
        """(epochs · steps,) the last layer's learning rate at each update.

        It rises linearly from 0 to `peak` (both included), then falls along half a cosine towards `FLOOR` · `peak`.

        steps: updates per epoch
        """
        rising = round(min(self.warmup, self.epochs) * steps)
        falling = self.epochs * steps - rising
        low = self.peak * FLOOR
        cosine = [low + 0.5 * (self.peak - low) * (1 + math.cos(math.pi * i / falling)) for i in range(falling)]
        return np.concatenate([np.linspace(0, self.peak, rising), cosine])


def parameter_groups(model: nn.Module, recipe: Recipe, layer: Callable[[str], int], last: int) -> list[dict]:
    """The groups for torch's AdamW: two per layer, with and without weight decay.

    In addition to AdamW's keys, a group has the `names` of its parameters and its `scale`, the factor of the learning
    rate. Biases and other vectors have no weight decay. Frozen parameters are left out.

    layer: a parameter's name → the number of its layer, from 0 to `last`
    """
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not name.endswith(".bias")
        scale = recipe.layer_decay ** (last - layer(name))
        rates = {"scale": scale, "lr": recipe.peak * scale, "weight_decay": recipe.weight_decay * decays}
        group = groups.setdefault((layer(name), decays), {"params": [], "names": [], **rates})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())
