"""How an encoder is trained: the recipe, its parameter groups and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import nn

FLOOR = 1e-3  # the last learning rate, as a share of the highest


class Recipe(NamedTuple):
    """AdamW (0.9, 0.999; ε 1e-8) with a learning rate that falls from layer to layer, towards the input.

    Numbers of epochs are fixed beforehand: nothing is chosen on the clips that are scored.
    """

    learning_rate: float  # the highest, for batches of 256 clips; in proportion for others
    weight_decay: float
    layer_decay: float  # the rate of a layer, as a share of that of the layer above it
    batch_size: int  # clips, on all devices together
    epochs: int
    warmup: float  # epochs in which the rate rises from 0
    drop_path: float  # the probability that a clip skips a branch of the last layer; in proportion in those below
    max_norm: float | None = None  # gradients of a larger norm are scaled down to it
    operations: int = 0  # of RandAugment, for each clip
    area: float = 1.0  # of the smallest crop, as a share of the picture
    erasing: float = 0.0  # the probability that a box of a clip is replaced by noise
    gain: bool = False  # whether a clip's loudness varies, in training alone
    published: bool = False  # whether frames are taken as the challenge's code does
    last_layer: bool = False  # whether a speech model's last layer alone is read, not the weighted sum of all

    def changed(self, epochs: int | None, batch_size: int | None, learning_rate: float | None) -> Recipe:
        """With what is not None in place of its own; of few epochs a quarter at most are for the warm-up."""
        epochs = epochs or self.epochs
        return self._replace(
            epochs=epochs,
            warmup=min(self.warmup, epochs / 4),
            batch_size=batch_size or self.batch_size,
            learning_rate=learning_rate or self.learning_rate,
        )

    @property
    def peak(self) -> float:
        return self.learning_rate * self.batch_size / 256

    def rates(self, steps: int) -> np.ndarray:
        """(epochs · steps,) the last layer's learning rate at each update: linear from 0 to `peak`, both included, then
        half a cosine towards `FLOOR` of it.

        steps: updates in an epoch
        """
        rising = round(min(self.warmup, self.epochs) * steps)
        falling = self.epochs * steps - rising
        low = self.peak * FLOOR
        cosine = [low + 0.5 * (self.peak - low) * (1 + math.cos(math.pi * i / falling)) for i in range(falling)]
        return np.concatenate([np.linspace(0, self.peak, rising), cosine])


def parameter_groups(model: nn.Module, recipe: Recipe, layer: Callable[[str], int], last: int) -> list[dict]:
    """The groups for torch's AdamW: parameters of one layer, with and without decay.

    Beside what AdamW reads, a group has the `names` of its parameters and its `scale`, the share of the learning rate.
    Biases and all other vectors have no weight decay; frozen parameters are in no group.

    layer: the number of the layer that a parameter is of, by its name; from 0 to `last`
    """
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not name.endswith(".bias")
        scale = recipe.layer_decay ** (last - layer(name))
        empty = {
            "params": [],
            "names": [],
            "scale": scale,
            "lr": recipe.peak * scale,
            "weight_decay": recipe.weight_decay * decays,
        }
        group = groups.setdefault((layer(name), decays), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())
