"""What training is chosen by: heads, methods, presets and test protocols, by name. Nothing heavy is imported."""

from __future__ import annotations

from typing import NamedTuple

from blemore.signature import digest

HEADS: dict[str, int | None] = {"linear": None, "mlp256": 256, "mlp512": 512}  # the hidden layer's width
METHODS = ("aggregate", "subsample")
TEST_PROTOCOLS = ("pooled", "retrain", "best-fold")  # of the model for new clips (train.py)


class Recipe(NamedTuple):
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int  # in cross-validation
    final_epochs: int  # on all of train
    span: int | None = None  # of rows written in a basis of their span (basis.py), at most so many dimensions

    @property
    def judged_epoch(self) -> int:
        """The epoch of cross-validation (from 1) that stands for the final model: where it trains for longer, the last."""
        return min(self.final_epochs, self.epochs)

    @property
    def digest(self) -> str:
        return digest(f"{name}\t{value!r}" for name, value in self._asdict().items())


PRESETS = {
    # Lachmann et al. 2026
    "published": {
        "aggregate": Recipe(5e-6, 1e-3, 32, 200, 100),
        "subsample": Recipe(5e-6, 1e-3, 512, 300, 300),
    },
    # Ours, chosen on nested figures (benchmarks/README.md): a few epochs of large steps on shorter rows, pulled harder
    # to zero
    "fast": {
        "aggregate": Recipe(1.5e-3, 3e-2, 32, 9, 9, span=1024),
        "subsample": Recipe(1.5e-3, 3e-2, 128, 9, 9, span=1024),
    },
}
