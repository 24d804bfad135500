"""Scores to labels, and how well that goes.

Structured decoding, which needs torch, is imported from its own modules.
"""

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
