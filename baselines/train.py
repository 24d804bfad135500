"""Cross-validates a head over the predefined folds, then trains the final model, the one for new clips.

The preset `published` is the protocol of Lachmann et al. 2026: features are standardised by the training folds alone,
labels are soft, the loss is the KL divergence, and the optimizer is Adam with its coupled weight decay. The out-of-fold
logits of every epoch are kept, so later choices (epoch, α, β) can be made honestly; decoding/accounts.py has both
accounts.

Results go into a run folder (models/run_folder.py), and the final model with them (models/artefact.py). Several seeds
train in one pass, each with a run folder of its own, and the final model pools all of them (models/seeds.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from blemore.errors import Problem, ValidationError
from blemore_baselines.dataset import Dataset
from blemore_baselines.decoding import decoders
from blemore_baselines.decoding.accounts import figures_with_intervals
from blemore_baselines.decoding.normalise import Reference, fit_reference
from blemore_baselines.decoding.normalise import normalise as normalise_rows
from blemore_baselines.decoding.scores import models_of, softmax
from blemore_baselines.decoding.thresholds import Thresholds, fit_exact
from blemore_baselines.decoding.thresholds_decoder import to_spec
from blemore_baselines.engines import one_thread_each
from blemore_baselines.features import RUN_OOF, Features, fuse, seed_folder
from blemore_baselines.models.artefact import Model, save_model
from blemore_baselines.models.crossval import cross_validate, fold_seed
from blemore_baselines.models.heads import Scaler, fit_scaler
from blemore_baselines.models.loop import fit_models
from blemore_baselines.models.recipes import PRESETS, TEST_PROTOCOLS, Recipe
from blemore_baselines.models.run_folder import claim, decoder_config, describe, describe_clips, versions, write_results
from blemore_baselines.models.seeds import SeedRun, pool


def train(
    dataset: Dataset,
    sources: Sequence[Features],
    paths: Sequence[Path],
    *,
    method: str,
    head: str,
    preset: str,
    seed: int | Sequence[int],
    out: Path,
    test_protocol: str = "pooled",
    normalise: str = "none",
    decoder: str = "thresholds",
    metadata: Path | None = None,
    **options: float,
) -> dict:
    """Run or resume the run in the folder `out`; returns the contents of its metrics.json.

    sources:   features of the dataset's clips, in its order; several are fused early
    paths:     where the sources come from, for the record, as `metadata` is for the dataset
    seed:      of the initial weights and the order of rows; several seeds are trained in one pass and pooled
    normalise: the features, per actor; the figures are then transductive (decoding/normalise.py)
    decoder:   of the final model, with its `options` (decoders.py); fitted on the out-of-fold logits at the final
               model's number of epochs

    Raises ValidationError: `out` holds another run, the sources cannot be fused or do not vary, or the decoder cannot
    be fitted on the dataset. ValueError: see `_demand_protocol` and `decoders.complete`.
    """
    _demand_protocol(test_protocol, decoder, seed)
    options = decoders.complete(decoder, options)
    decoders.demand(decoder, dataset)  # now, not after the training
    demand_variation(sources, paths)
    config = {
        "method": method,
        "head": head,
        "preset": preset,
        "recipe": PRESETS[preset][method]._asdict(),
        "test_protocol": test_protocol,
        **({} if normalise == "none" else {"normalise": normalise}),
        **decoder_config(decoder, options),
        "seed": seed if isinstance(seed, int) else [*seed],
        "features": [describe(source, path) for source, path in zip(sources, paths)],
        "train": describe_clips(dataset, metadata),
        "versions": versions(),
    }
    claim(out, config)
    if not (out / "metrics.json").exists():
        _run(dataset, fuse(sources), config, decoder, options, out)
    shutil.rmtree(out / "folds", ignore_errors=True)
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def _demand_protocol(test_protocol: str, decoder: str, seed: int | Sequence[int]) -> None:
    """ValueError: the test protocol is unknown, or uses one fold's thresholds although there is another decoder or
    several seeds; there are no seeds, or one of them is repeated.
    """
    if test_protocol not in TEST_PROTOCOLS or decoder != "thresholds" and test_protocol != "pooled":
        raise ValueError(
            f"test protocol {test_protocol!r}, decoder {decoder!r}; expected one of {', '.join(TEST_PROTOCOLS)}, and"
            " pooled with a decoder other than thresholds"
        )
    if not isinstance(seed, int) and (not 0 < len(seed) == len(set(seed)) or test_protocol != "pooled"):
        message = f"seeds {[*seed]}, test protocol {test_protocol!r}; expected different seeds, and the protocol pooled"
        raise ValueError(message)


def demand_variation(sources: Sequence[Features], paths: Sequence[Path]) -> None:
    """ValidationError: a source is the same for all clips, so there is nothing to learn. A single column may be."""
    constant = [
        path for source, path in zip(sources, paths) if len(source.X) > 1 and not np.ptp(source.X, axis=0).any()
    ]
    message, hint = "every column is the same for all clips; expected features that vary", "Extract them again."
    if constant:
        raise ValidationError([Problem("constant-features", str(path), message, hint=hint) for path in constant])


def _run(
    dataset: Dataset, features: Features, config: dict, decoder: str, options: Mapping[str, float], out: Path
) -> None:
    """Train, and write the files of the run folder, metrics.json last."""
    features, reference = _normalised(dataset, features, config.get("normalise", "none"))
    is_pooled = isinstance(config["seed"], list)
    seeds = config["seed"] if is_pooled else [config["seed"]]
    recipe, head = Recipe(**config["recipe"]), config["head"]
    result = cross_validate(dataset, features, recipe, [head], seeds, keep=out / "folds")
    accounts = [_judge(dataset, config, logits) for logits in result.logits[0]]
    models, scaler = fit_finals(dataset, features, head, recipe, seeds, accounts[0][1])  # finals differ in thresholds
    runs = []
    for place, seed in enumerate(seeds):
        folder, own_config = seed_folder(out, seed) if is_pooled else out, {**config, "seed": seed}
        claim(folder, own_config)
        metrics, final = accounts[place]
        logits, losses = result.logits[0, place], {fold: loss[0, place] for fold, loss in result.losses.items()}
        last = logits[min(final.epochs, recipe.epochs) - 1]
        spec = fit_final_decoder(dataset, last, final, decoder, options, metrics)
        metrics["final"]["test_protocol"] = config["test_protocol"]
        if reference:
            metrics["normalise"] = {"method": config["normalise"], "account": "transductive"}
        trained_on = sorted({int(fold) for fold in dataset.folds if fold != final.without})
        save_model(Model(models[place], scaler, reference), own_config, spec, trained_on, final.epochs, folder)
        write_results(dataset, logits, losses, last, metrics, folder)
        runs.append(SeedRun(seed, folder, last, metrics))
    if is_pooled:
        pool(dataset, config, runs, decoder, options, out)


def _normalised(dataset: Dataset, features: Features, method: str) -> tuple[Features, Reference | None]:
    """The features, normalised per actor unless the method is none, and the reference for the actors of new clips."""
    if method == "none":
        return features, None
    actors = np.array(dataset.actors)[features.owner]
    reference = fit_reference(features.X, actors)
    return features._replace(X=normalise_rows(features.X, actors, method, reference, features.owner)), reference


def _judge(dataset: Dataset, config: dict, logits: np.ndarray) -> tuple[dict, Final]:
    """Both accounts of out-of-fold logits (epochs, N, 6), and the final model that follows from them."""
    protocol, recipe, probabilities = config["test_protocol"], Recipe(**config["recipe"]), softmax(logits)
    # The nested account is at the final model's epoch. With `best-fold`, the other folds choose it, as the best does.
    epoch = {"pooled": recipe.epochs, "retrain": recipe.oof_epoch, "best-fold": None}[protocol]
    metrics = figures_with_intervals(dataset, probabilities, epoch)
    if protocol == "pooled":
        return metrics, pooled_final(recipe, probabilities, dataset)
    return metrics, best_fold_final(protocol, recipe, metrics)


# -------------------------------------------------------------------------- the final model


class Final(NamedTuple):
    """How to make the final model: the fold that it is not trained on (−1: none), the epochs, and the thresholds."""

    without: int
    epochs: int
    thresholds: Thresholds
    fitted_on: str


def pooled_final(recipe: Recipe, probabilities: np.ndarray, dataset: Dataset) -> Final:
    """Trained on all of train, for as many epochs as each fold. The thresholds are the best of all, not just of the
    grid, on the out-of-fold probabilities (epochs, N, 6) of the last epoch.
    """
    thresholds = fit_exact(probabilities[-1], dataset.labels).thresholds
    return Final(-1, recipe.epochs, thresholds, f"pooled out-of-fold logits of epoch {recipe.epochs}")


def best_fold_final(test_protocol: str, recipe: Recipe, metrics: Mapping) -> Final:
    """From the best fold of `metrics` (`accounts.figures`), the first if several are equal. Folds without blends count
    only if no fold has any.

    retrain:   trained on all of train, with that fold's thresholds (the published test table)
    best-fold: that fold's own model at its best epoch, with its scaler and its thresholds
    """
    folds = metrics["published"]["folds"]
    with_blends = [fold for fold in folds if fold["score"] is not None]
    if with_blends:
        best = max(with_blends, key=lambda fold: fold["score"])
    else:
        best = max(folds, key=lambda fold: fold["acc_presence"])
    thresholds, source = Thresholds(best["alpha"], best["beta"]), f"fold {best['fold']} at its epoch {best['epoch']}"
    if test_protocol == "retrain":
        return Final(-1, recipe.final_epochs, thresholds, source)
    return Final(best["fold"], best["epoch"], thresholds, source)


def fit_final(
    dataset: Dataset, features: Features, head: str, recipe: Recipe, seed: int, final: Final
) -> tuple[torch.nn.Module, Scaler]:
    """Train the final model. A fold's own model is the same as in cross-validation, up to rounding."""
    models, scaler = fit_finals(dataset, features, head, recipe, [seed], final)
    return models[0], scaler


def fit_finals(
    dataset: Dataset, features: Features, head: str, recipe: Recipe, seeds: Sequence[int], final: Final
) -> tuple[list[torch.nn.Module], Scaler]:
    """Train the final model with each of the seeds."""
    inside = dataset.folds[features.owner] != final.without
    scaler = fit_scaler(features.X[inside])
    epochs = final.epochs * len(seeds)
    with one_thread_each(), tqdm(total=epochs, desc="final model", unit="epoch", disable=None) as progress:
        models = fit_models(
            scaler(features.X[inside]),
            dataset.targets[features.owner[inside]],
            head,
            recipe,
            final.epochs,
            [fold_seed(seed, final.without) for seed in seeds],
            lambda _: progress.update(),
        )
    return models, scaler


def fit_final_decoder(
    dataset: Dataset, logits: np.ndarray, final: Final, decoder: str, options: Mapping[str, float], metrics: dict
) -> dict:
    """The spec of the final model's decoder, fitted on out-of-fold logits (N, 6).

    Adds the decoder's figures and a description of the final model to `metrics`.
    """
    spec = to_spec(final.thresholds)
    if decoder != "thresholds":  # every run has the figures of thresholds
        decoded = decoders.fit(decoder, dataset, models_of(dataset.ids, [Path(RUN_OOF)], [logits]), **options)
        spec, metrics[decoder] = decoded.spec, decoded.figures
    metrics["final"] = {"epochs": final.epochs, **final.thresholds._asdict(), "fitted_on": final.fitted_on}
    return spec
