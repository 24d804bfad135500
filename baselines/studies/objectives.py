"""Four training objectives for a head, and how its outputs are decoded.

- *soft labels*: the published head; KL divergence from targets such as 0.7 and 0.3
- *regression*: the shares of the six emotions, by squared error
- *ranking*: a score per emotion, by the margins of all pairs (RankNet, Burges et al. 2005): the larger share wins,
  equal shares tie
- *multi-task*: the set of emotions (16) and the relation within each pair (3), by the likelihood of both

The first three are decoded by the threshold rule on probabilities, shares or margins, the last by the label with the
highest expected score. A fold's epoch and thresholds come only from the other folds. Each objective also predicts the
first emotion's share of a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from blemore.labels import BLEND_SALIENCES, EMOTIONS, PAIRS
from blemore_baselines.dataset import IS_BLEND, N_RELATIONS, N_SETS, TARGETS, Dataset
from blemore_baselines.decoding.accounts import count, nested_folds, predict_folds
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.structured import decide
from blemore_baselines.models.heads import row_losses
from blemore_baselines.models.loop import Loss

SHARES = np.array([first for first, _ in BLEND_SALIENCES]) / 100  # of the first emotion, by relation
_PAIR = np.array([[EMOTIONS.index(emotion) for emotion in pair] for pair in PAIRS])  # (10, 2)
_ONE, _OTHER = map(list, zip(*combinations(range(len(EMOTIONS)), 2)))  # all pairs of the six


class Decoded(NamedTuple):
    """Nested: predicted labels (N,), and the epoch (from 0) of the outputs that they were decoded from (N,)."""

    labels: np.ndarray
    epochs: np.ndarray


class Objective(NamedTuple):
    """outputs: number of outputs
    shares:  (rows, outputs), pairs (rows,) → the first emotion's share of its pair (rows,), in [0, 1]
    """

    outputs: int
    loss: Loss
    decode: Callable[[np.ndarray, Dataset], Decoded]  # of outputs (epochs, N, outputs)
    shares: Callable[[np.ndarray, np.ndarray], np.ndarray]


# ---------------------------------------------------------------------------------- losses


def soft_label_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return row_losses(outputs, _targets(labels)).mean()


def regression_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (outputs - _targets(labels)).square().sum(dim=1).mean()


def ranking_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log σ(margin) for each pair of emotions, toward the larger share; half of it each way for equal shares.

    A third of the sum over the 15 pairs. At equal scores its gradient is then as large as that of soft labels, so
    weight decay has the same effect.
    """
    targets = _targets(labels)
    wins = (1 + torch.sign(targets[:, _ONE] - targets[:, _OTHER])) / 2
    return (len(EMOTIONS) - 1) * F.binary_cross_entropy_with_logits(outputs[:, _ONE] - outputs[:, _OTHER], wins)


def multi_task_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.nll_loss(log_posterior(outputs), labels)


def log_posterior(outputs: torch.Tensor) -> torch.Tensor:
    """(…, 16 + 30) → log P(label) (…, 36): log P(set), plus log P(relation | pair) for a blend."""
    sets = torch.log_softmax(outputs[..., :N_SETS], dim=-1)
    relations = torch.log_softmax(outputs[..., N_SETS:].unflatten(-1, (len(PAIRS), N_RELATIONS)), dim=-1)
    return torch.cat([sets[..., : len(EMOTIONS)], (sets[..., len(EMOTIONS) :, None] + relations).flatten(-2)], dim=-1)


def _targets(labels: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(TARGETS).to(labels.device)[labels]


# -------------------------------------------------------------------------------- decoding


def margins(scores: np.ndarray) -> np.ndarray:
    """Ranking scores (…, 6) as input of the threshold rule: the second value is the second's lead over the third, and
    the gap is the first's lead over the second, each as tanh(margin / 2) in [0, 1).
    """
    first, second, third = (np.sort(scores, axis=-1)[..., -k, None].astype(np.float64) for k in (1, 2, 3))
    values = np.tanh((scores - third) / 2)
    top = np.tanh((second - third) / 2) + np.tanh((first - second) / 2)
    np.put_along_axis(values, scores.argmax(axis=-1)[..., None], top, axis=-1)
    return values


def by_thresholds(values: np.ndarray, dataset: Dataset) -> Decoded:
    """values: (epochs, N, 6), out of fold."""
    nested = nested_folds(values, dataset.labels, dataset.folds)
    epochs = {fold.fold: fold.epoch - 1 for fold in nested}
    labels = predict_folds(values, dataset.folds, nested)
    return Decoded(labels, np.array([epochs[fold] for fold in dataset.folds.tolist()]))


def by_posterior(posteriors: np.ndarray, dataset: Dataset) -> Decoded:
    """posteriors: (epochs, N, 36), out of fold. Decisions also use the other folds' share of blends."""
    decoded = Decoded(*np.zeros((2, len(dataset.ids)), dtype=int))
    for fold in np.unique(dataset.folds):
        inside, truth = dataset.folds == fold, dataset.labels[dataset.folds != fold]
        share = float(IS_BLEND[truth].mean())
        labels = np.stack([decide(posterior, share)[0] for posterior in posteriors])
        scores = np.array([count(predicted, truth).score for predicted in labels[:, ~inside]], dtype=float)
        epoch = int(np.argmax(scores))
        decoded.epochs[inside], decoded.labels[inside] = epoch, labels[epoch, inside]
    return decoded


# ---------------------------------------------------------------------------------- shares


def by_difference(values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(1 + p − q) / 2 for a pair's values p and q, in [0, 1]: exact if they sum to 1, and 1/2 if both are 0."""
    first, second = np.take_along_axis(values, _PAIR[pairs], axis=1).T
    return np.clip((1 + first - second) / 2, 0, 1)


def by_margin(scores: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The share follows from σ(margin), the probability that the first emotion dominates (ties count half)."""
    return SHARES.min() + np.ptp(SHARES) * softmax(np.take_along_axis(scores, _PAIR[pairs], axis=1))[:, 0]


def by_relation(outputs: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The expected share over the pair's relations."""
    relations = outputs[:, N_SETS:].reshape(len(outputs), len(PAIRS), N_RELATIONS)
    return softmax(relations[np.arange(len(pairs)), pairs]) @ SHARES


OBJECTIVES = {
    "soft labels": Objective(
        len(EMOTIONS),
        soft_label_loss,
        lambda out, data: by_thresholds(softmax(out), data),
        lambda out, pairs: by_difference(softmax(out), pairs),
    ),
    "regression": Objective(
        len(EMOTIONS), regression_loss, lambda out, data: by_thresholds(np.clip(out, 0, 1), data), by_difference
    ),
    "ranking": Objective(len(EMOTIONS), ranking_loss, lambda out, data: by_thresholds(margins(out), data), by_margin),
    "multi-task": Objective(
        N_SETS + len(PAIRS) * N_RELATIONS,
        multi_task_loss,
        lambda out, data: by_posterior(log_posterior(torch.from_numpy(out)).exp().numpy(), data),
        by_relation,
    ),
}
