"""The choices for training: heads, methods, presets and test protocols. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from blemore.signature import digest

HEADS: dict[str, int | None] = {"linear": None, "mlp256": 256, "mlp512": 512}  # width of the hidden layer
METHODS = ("aggregate", "subsample")
NORMALISATIONS = ("none", "centre", "standardise")  # per actor (decoding/normalise.py)
TEST_PROTOCOLS = ("pooled", "retrain", "best-fold")  # how the final model is made (train.py)


class Recipe(NamedTuple):
    """How to train: Adam, whose weight decay is added to the gradient."""

    learning_rate: float
    weight_decay: float
    batch_size: int  # rows
    epochs: int  # in cross-validation
    final_epochs: int  # on all of train, with the published test protocol `retrain`
    span: int | None = None  # write rows in a basis of their span (basis.py), of at most this many dimensions

    @property
    def oof_epoch(self) -> int:
        """The epoch (from 1) whose out-of-fold logits correspond best to the final model of `retrain`: its last, or the
        last in cross-validation if that has fewer.
        """
        return min(self.final_epochs, self.epochs)

    @property
    def digest(self) -> str:
        return recipe_digest(self._asdict())


def recipe_digest(recipe: Mapping[str, object]) -> str:
    return digest(f"{name}\t{value!r}" for name, value in recipe.items())


PRESETS = {
    # Lachmann et al. 2026
    "published": {
        "aggregate": Recipe(5e-6, 1e-3, 32, 200, 100),
        "subsample": Recipe(5e-6, 1e-3, 512, 300, 300),
    },
    # Chosen by nested figures (benchmarks/README.md): a few large steps on shorter rows, with strong weight decay
    "fast": {
        "aggregate": Recipe(1.5e-3, 3e-2, 32, 9, 9, span=1024),
        "subsample": Recipe(1.5e-3, 3e-2, 128, 9, 9, span=1024),
    },
}
