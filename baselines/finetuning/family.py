"""What a family of encoders states so that its models can be trained end to end.

A *view* is one input of the model, cut out of a clip: a dictionary of tensors without a batch's axis. Training draws
one view of a clip in each epoch; the logits of a clip are the mean over its test views.
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

    frames: (n, side, side, 3) uint8, or what reads them from a file by slices
    at:     (n,) int64: the sample of the sound that is heard when a frame is shown; can lie outside the sound
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
    """A subclass states `recipes` and what it reads of a clip, and fills the abstract methods.

    settings: what decides the model's sizes and its input; JSON
    """

    recipes: ClassVar[Mapping[str, Recipe]]
    has_sound: ClassVar[bool]
    layer_pattern: ClassVar[str]  # the names of parameters in numbered layers; the number is group 1
    first_pattern: ClassVar[str]  # those of parameters below all layers

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = settings

    @classmethod
    @abstractmethod
    def pretrained(cls, encoder: TorchEncoder, recipe: Recipe) -> tuple[Family, dict[str, torch.Tensor]]:
        """The family with the settings of an encoder's weights, and these weights, without a head.

        Raises FileError, ValidationError: they are not there, or of another model.
        """

    @property
    @abstractmethod
    def side(self) -> int | None:
        """Of the square frames that the model sees, in pixels; None: it sees none."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """The number of layers."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The model with a head, its numbers still to be loaded: `forward(**inputs)` gives logits (B, 6)."""

    @abstractmethod
    def branches(self, model: Any) -> list[tuple[nn.Module, float]]:
        """The modules whose outputs are added to a layer's input, and their share of the recipe's `drop_path`."""

    @abstractmethod
    def train_view(self, stored: Stored, recipe: Recipe, rng: np.random.Generator) -> View: ...

    @abstractmethod
    def test_views(self, stored: Stored, recipe: Recipe) -> list[View]: ...

    @abstractmethod
    def inputs(self, views: View, plans: Sequence[Plan | None]) -> View:
        """The model's inputs from a batch of views, on its device. plans: how to augment each; None: not at all."""

    @property
    def last_layer(self) -> int:
        return self.depth + 1

    def layer(self, name: str) -> int:
        """The number of a parameter's layer: 0 below all layers, `last_layer` above."""
        match = re.match(self.layer_pattern, name)
        if match:
            return int(match[1]) + 1
        return 0 if re.match(self.first_pattern, name) else self.last_layer


class DropPath:
    """Has clips skip branches at random (stochastic depth, Huang et al. 2016); the other clips' are scaled up.

    The random numbers come with the batch, so that a clip's do not depend on what else is in it.
    """

    def __init__(self, branches: Sequence[tuple[nn.Module, float]], rate: float):
        self.rows: torch.Tensor | None = None  # (B, branches) in [0, 1); None: nothing is skipped
        self.branches = len(branches)
        for column, (module, share) in enumerate(branches):
            module.register_forward_hook(partial(self._drop, column, share * rate))

    def _drop(self, column: int, rate: float, module: nn.Module, inputs: tuple, output: Any) -> Any:
        if self.rows is None or not rate:
            return output
        branch, *rest = output if isinstance(output, tuple) else (output,)  # attention can tell its weights, too
        factors = (self.rows[:, column] >= rate).to(branch.dtype) / (1 - rate)
        branch = branch * factors.view(-1, *[1] * (branch.ndim - 1))
        return (branch, *rest) if isinstance(output, tuple) else branch


def graded(layers: Sequence[Any], branches: Callable[[Any], Sequence[nn.Module]]) -> list[tuple[nn.Module, float]]:
    """The branches of all layers, with shares that grow from 0 in the first layer to 1 in the last."""
    shares = np.linspace(0, 1, len(layers)).tolist()
    return [(branch, share) for layer, share in zip(layers, shares) for branch in branches(layer)]


def sampled(n: int, first: int, frames: int, every: int) -> np.ndarray:
    """(frames,) every so many frames of n from `first` on; the last one is held.

    >>> sampled(10, 1, 4, 4)
    array([1, 5, 9, 9])
    """
    return np.minimum(first + every * np.arange(frames), n - 1)


def test_starts(n: int, span: int, most: int = 5) -> list[int]:
    """The first frames of windows of `span` that cover a clip of n frames, evenly spread; at most `most`.

    >>> test_starts(50, 61), test_starts(130, 61)
    ([0], [0, 34, 69])
    """
    last = max(0, n - span)
    windows = min(most, -(-max(n, 1) // span)) if last else 1
    return np.linspace(0, last, windows).astype(int).tolist()
