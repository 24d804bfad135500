"""The interface of a family of encoders that can be trained end to end.

A *view* is one input of the model, cut from a clip: a dictionary of tensors without a batch axis. Training draws one
view per clip and epoch. The logits of a clip are the mean over its test views.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from blemore_baselines.encoders.torch_encoder import TorchEncoder
from blemore_baselines.finetuning.augment import Plan
from blemore_baselines.finetuning.recipes import Recipe

View = dict[str, torch.Tensor]


class Stored(NamedTuple):
    """A decoded clip.

    frames: (n, side, side, 3) uint8, or a slice of a file
    at:     (n,) int64, the sample of the sound at which each frame is shown; can be outside the sound
    sound:  (samples,) int16 at 16 kHz
    """

    frames: Any
    at: np.ndarray
    sound: np.ndarray

    def pictures(self, numbers: Sequence[int] | np.ndarray) -> torch.Tensor:
        """(len(numbers), side, side, 3) uint8."""
        return torch.from_numpy(np.concatenate([self.frames[int(k) : int(k) + 1] for k in numbers]))

    @property
    def wave(self) -> np.ndarray:
        """The sound as float32, full scale at ±1."""
        return self.sound.astype(np.float32) / 2**15


class Family(ABC):
    """A subclass sets the class attributes and implements the abstract methods.

    settings: JSON values that determine the model's sizes and its input
    """

    recipes: ClassVar[Mapping[str, Recipe]]
    has_sound: ClassVar[bool]
    layer_pattern: ClassVar[str]  # matches parameters in numbered layers; group 1 is the number
    first_pattern: ClassVar[str]  # matches parameters below all layers

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = settings

    @classmethod
    @abstractmethod
    def pretrained(cls, encoder: TorchEncoder, recipe: Recipe) -> tuple[Family, dict[str, torch.Tensor]]:
        """The family for an encoder's weights, and these weights, without a head.

        Raises FileError: they are missing; ValidationError: they belong to another model.
        """

    @property
    @abstractmethod
    def side(self) -> int | None:
        """The side of the model's square frames in pixels; None: it has no frames."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """The number of layers."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The model with a head, its weights not yet set: `forward(**inputs)` returns logits (B, 6)."""

    @abstractmethod
    def branches(self, model: Any) -> list[tuple[nn.Module, float]]:
        """The residual branches, as modules, each with its share of the recipe's `drop_path`."""

    @abstractmethod
    def train_view(self, stored: Stored, recipe: Recipe, rng: np.random.Generator) -> View: ...

    @abstractmethod
    def test_views(self, stored: Stored, recipe: Recipe) -> list[View]: ...

    @abstractmethod
    def inputs(self, views: View, plans: Sequence[Plan | None]) -> View:
        """The model's inputs from a batch of views on its device. plans: how to augment each; None: not at all."""

    @property
    def last_layer(self) -> int:
        return self.depth + 1

    def layer(self, name: str) -> int:
        """The number of a parameter's layer: 0 below all layers, `last_layer` above them."""
        match = re.match(self.layer_pattern, name)
        if match:
            return int(match[1]) + 1
        return 0 if re.match(self.first_pattern, name) else self.last_layer


class DropPath:
    """Lets clips skip branches at random (stochastic depth, Huang et al. 2016), and scales the branches of the others.

    The random numbers come with the batch, so a clip's do not depend on the rest of the batch.
    """

    def __init__(self, branches: Sequence[tuple[nn.Module, float]], rate: float):
        self.rows: torch.Tensor | None = None  # (B, branches) in [0, 1); None: nothing is skipped
        self.branches = len(branches)
        for column, (module, share) in enumerate(branches):
            module.register_forward_hook(partial(self._drop, column, share * rate))

    def _drop(self, column: int, rate: float, module: nn.Module, inputs: tuple, output: Any) -> Any:
        if self.rows is None or not rate:
            return output
        branch, *rest = output if isinstance(output, tuple) else (output,)  # attention may also return its weights
        factors = (self.rows[:, column] >= rate).to(branch.dtype) / (1 - rate)
        branch = branch * factors.view(-1, *[1] * (branch.ndim - 1))
        return (branch, *rest) if isinstance(output, tuple) else branch


def graded(layers: Sequence[Any], branches: Callable[[Any], Sequence[nn.Module]]) -> list[tuple[nn.Module, float]]:
    """The branches of all layers, with shares that grow linearly from 0 in the first layer to 1 in the last."""
    shares = np.linspace(0, 1, len(layers)).tolist()
    return [(branch, share) for layer, share in zip(layers, shares) for branch in branches(layer)]


def sampled(n: int, first: int, frames: int, every: int) -> np.ndarray:
    """(frames,) indices: every `every`-th of n frames from `first` on; the last frame is repeated as needed.

    >>> sampled(10, 1, 4, 4)
    array([1, 5, 9, 9])
    """
    return np.minimum(first + every * np.arange(frames), n - 1)


def test_starts(n: int, span: int, most: int = 5) -> list[int]:
    """The first frames of at most `most` evenly spread windows of `span` frames that cover a clip of n frames.

    >>> test_starts(50, 61), test_starts(130, 61)
    ([0], [0, 34, 69])
    """
    last = max(0, n - span)
    windows = min(most, -(-max(n, 1) // span)) if last else 1
    return np.linspace(0, last, windows).astype(int).tolist()
