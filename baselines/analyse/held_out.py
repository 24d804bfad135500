"""Each fold's held-out clips with the model that did not see them, so that its input can be changed."""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple

import numpy as np

from blemore_baselines.analyse.actors import outcomes
from blemore_baselines.crossval import Recipe, clip_logits, cross_validate, fit_model, fold_seed
from blemore_baselines.dataset import Dataset
from blemore_baselines.decode import decode_thresholds, nested_folds, softmax
from blemore_baselines.features import Features
from blemore_baselines.heads import fit_scaler, one_thread_each


class HeldOut(NamedTuple):
    """inside: (N,) which clips; X: their standardised rows, where 0 is the training's mean and 1 its standard deviation;
    judge: rows like X → their outcomes (rows, 4), by the model at its nested epoch and thresholds; seed: the fold's own"""

    inside: np.ndarray
    X: np.ndarray
    judge: Callable[[np.ndarray], np.ndarray]
    seed: int


def held_out(dataset: Dataset, features: Features, recipe: Recipe, head: str, seed: int, title: str = "cross-validation") -> Iterator[HeldOut]:
    """Cross-validate, then train each fold's model once more, to the epoch that the other folds chose.

    features: aggregated, of the dataset's clips, in its order
    """
    logits = cross_validate(dataset, features, recipe, [head], [seed], title=title).logits[0, 0]
    for fold in nested_folds(softmax(logits), dataset.labels, dataset.folds):
        inside, own = dataset.folds == fold.fold, fold_seed(seed, fold.fold)
        scaler = fit_scaler(features.X[~inside])
        with one_thread_each():
            model = fit_model(scaler(features.X[~inside]), dataset.targets[~inside], head, recipe, fold.epoch, own)

        def judge(rows: np.ndarray, truth=dataset.labels[inside], model=model, thresholds=fold.thresholds) -> np.ndarray:
            return outcomes(decode_thresholds(softmax(clip_logits(model, rows, np.arange(len(rows)), len(rows))), thresholds), truth)

        yield HeldOut(inside, scaler(features.X[inside]), judge, own)
