"""Each fold's held-out clips with the model that did not see them, to study what happens if its input changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import nn
from tqdm import tqdm

from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding.accounts import nested_folds
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import Thresholds, decode_thresholds
from blemore_baselines.engines import one_thread_each
from blemore_baselines.features import Features, fuse
from blemore_baselines.models.crossval import cross_validate, fold_seed
from blemore_baselines.models.heads import clip_logits, fit_scaler
from blemore_baselines.models.loop import fit_model
from blemore_baselines.models.recipes import Recipe
from blemore_baselines.studies.intervals import outcomes

# A modality's standardised rows → the rows that the model gets
DISTURB: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "zeroed": lambda X, rng: np.zeros_like(X),
    "noised": lambda X, rng: X + rng.standard_normal(X.shape, dtype=np.float32),
    "swapped": lambda X, rng: X[rng.permutation(len(X))],
}


class HeldOut(NamedTuple):
    """One fold's clips, and the model that did not see them.

    inside: (N,) mask of the clips
    X:      their standardised rows; 0 is the training mean and 1 the training standard deviation
    judge:  rows like X → outcomes (rows, 4) of the model at its nested epoch and thresholds
    seed:   of the fold
    """

    inside: np.ndarray
    X: np.ndarray
    judge: Callable[[np.ndarray], np.ndarray]
    seed: int


def held_out(
    dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int, title: str = "cross-validation"
) -> Iterator[HeldOut]:
    """Cross-validates, then trains each fold's model again, up to the epoch chosen on the other folds.

    features: aggregated, of the dataset's clips, in its order
    """
    logits = cross_validate(dataset, features, recipe, [head], [seed], title=title).logits[0, 0]
    for fold in nested_folds(softmax(logits), dataset.labels, dataset.folds):
        inside, own = dataset.folds == fold.fold, fold_seed(seed, fold.fold)
        scaler = fit_scaler(features.X[~inside])
        with one_thread_each():
            model = fit_model(scaler(features.X[~inside]), dataset.targets[~inside], head, recipe, fold.epoch, own)

        judge = partial(_judge, model, fold.thresholds, dataset.labels[inside])
        yield HeldOut(inside, scaler(features.X[inside]), judge, own)


def _judge(model: nn.Module, thresholds: Thresholds, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The outcomes (rows, 4) of clips with these standardised rows and labels."""
    logits = clip_logits(model, rows, np.arange(len(rows)), len(rows))
    return outcomes(decode_thresholds(softmax(logits), thresholds), labels)


def judge_all(dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int, title: str) -> np.ndarray:
    """Each clip's nested outcome (N, 4)."""
    records = np.zeros((len(dataset.ids), 4))
    for fold in held_out(dataset, features, recipe, head, seed, title):
        records[fold.inside] = fold.judge(fold.X)
    return records


def judge_disturbed(
    dataset: Dataset, modalities: Mapping[str, Features], recipe: Recipe, head: str, seed: int, repeats: int
) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """Outcomes (N, 4) of the model of both video and audio: for undisturbed clips, and for each modality and way of
    disturbing it as means over draws.
    """
    whole = np.zeros((len(dataset.ids), 4))
    disturbed = {(modality, disturbance): np.zeros_like(whole) for modality in modalities for disturbance in DISTURB}
    border = modalities["video"].X.shape[1]
    columns = {"video": slice(None, border), "audio": slice(border, None)}
    folds = held_out(dataset, fuse(list(modalities.values())), recipe, head, seed, "both")
    for fold in tqdm(folds, total=len(np.unique(dataset.folds)), desc="disturbing", unit="fold", disable=None):
        whole[fold.inside] = fold.judge(fold.X)
        for (modality, disturbance), records in disturbed.items():
            part, draws = columns[modality], 1 if disturbance == "zeroed" else repeats
            for draw in range(draws):
                rows = fold.X.copy()
                rows[:, part] = DISTURB[disturbance](rows[:, part], np.random.default_rng((fold.seed, draw)))
                records[fold.inside] += fold.judge(rows) / draws
    return whole, disturbed
