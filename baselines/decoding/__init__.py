"""Turning scores into labels, and measuring the result.

The names below are imported when one of them is first used, so that a command's help can list the decoders without
numpy. Structured decoding, which needs torch, is imported from its own modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemore_baselines.decoding.accounts import (
        accuracies,
        choose,
        count,
        figures,
        nested_folds,
        predict_folds,
        published_folds,
    )
    from blemore_baselines.decoding.scores import average, log_softmax, softmax, to_log_probabilities, to_probabilities
    from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds, fit_exact, fit_grid

__all__ = [
    "Thresholds",
    "accuracies",
    "average",
    "choose",
    "count",
    "decode_thresholds",
    "figures",
    "fit_exact",
    "fit_grid",
    "log_softmax",
    "nested_folds",
    "predict_folds",
    "published_folds",
    "softmax",
    "to_log_probabilities",
    "to_probabilities",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("scores", "thresholds", "accounts"):
            home = import_module(f"{__name__}.{module}")
            if hasattr(home, name):
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
